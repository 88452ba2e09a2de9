"""How questions about a context become rows: windows over the context, and where in each the answer stands."""
import numpy as np
from keras import ops

from kzoo.tasks.windows import question_windows
from kzoo.training.losses import TokenCrossEntropy, weighted_arguments
from kzoo.training.row_encoders import TextEncoder

OUTPUTS = ("start_logits", "end_logits")


class AnswerSpans(TextEncoder):
    """A question, a context, and the first and last token of the answer.

    A context that is too long becomes several windows that overlap. One without the whole answer points at its first
    token.

    Source: Devlin et al. 2019, section 4.2 (arXiv 1810.04805); windows: its authors' code for SQuAD.
    """

    ragged = ("token_ids", "segment_ids")
    single = ("start", "end")
    measures = ("exact",)
    metric = "exact"

    def __init__(self, tokenizer, options, config, limit, labels=None):
        super().__init__(tokenizer, options, config, limit)
        self._has_segments = getattr(config, "num_segments", 0) > 1

    def encode(self, examples):
        questions = self.tokenizer.encode_batch([example.question for example in examples], add_special_tokens=False)
        text = encoding = None
        for example, question in zip(examples, questions, strict=True):
            if example.context != text:  # several questions are about one context
                text, encoding = example.context, self.tokenizer.encode_with_offsets(example.context)
            first, last = answer_tokens(encoding.offsets, example.start, example.start + len(example.answer))
            if first is None:
                yield example, [], "the answer gives no tokens"
                continue
            try:
                windows = question_windows(self.tokenizer, question, encoding.ids, self.limit)
            except ValueError as error:
                yield example, [], str(error)
                continue
            yield example, [self._row(window, first, last) for window in windows], ""

    def _row(self, window, first, last):
        shift = window.first - window.start
        here = window.start <= first and last < window.stop
        return {"token_ids": window.token_ids, "segment_ids": window.segment_ids,
                "start": first + shift if here else 0, "end": last + shift if here else 0}

    def collate(self, examples, rows, shape):
        inputs = self.token_inputs(examples, rows, *shape)
        if self._has_segments:
            inputs["segment_ids"] = examples["segment_ids"].padded(rows, *shape)
        targets = {name: np.asarray(examples[column][rows]) for name, column in zip(OUTPUTS, self.single, strict=True)}
        return inputs, targets, np.ones(len(rows), "float32")

    def sums(self, outputs, targets, weights):
        losses = sum(TokenCrossEntropy().call(targets[name], outputs[name]) for name in OUTPUTS) / 2
        right = [ops.equal(ops.argmax(outputs[name], axis=-1), ops.cast(targets[name], "int32")) for name in OUTPUTS]
        right = ops.cast(ops.logical_and(*right), "float32")
        return ops.stack([ops.sum(losses * weights), ops.sum(weights), ops.sum(right * weights)])

    def compile_arguments(self, label_smoothing):
        """The mean of both losses."""
        sides = {name: weighted_arguments(label_smoothing) for name in OUTPUTS}
        return {"loss": {name: side["loss"] for name, side in sides.items()},
                "loss_weights": dict.fromkeys(OUTPUTS, 0.5),
                "weighted_metrics": {name: side["weighted_metrics"] for name, side in sides.items()}}

    def reported_loss(self, logs):
        return sum(logs[f"{name}_weighted_loss"] for name in OUTPUTS) / 2


def answer_tokens(offsets, start, stop):
    """The first and last token that hold a character of `start` to `stop` (not included), or (None, None)."""
    touched = [number for number, (begin, end) in enumerate(offsets) if begin < stop and end > start and begin < end]
    return (touched[0], touched[-1]) if touched else (None, None)
