"""Translation and summarization: a backbone with encoder and decoder, and what it reads its logits out with."""
import keras

from kzoo.models.base import check_inputs
from kzoo.models.encoder_decoder import SOURCE, TARGET
from kzoo.tasks.live_decoder import LiveReader
from kzoo.tasks.seq2seq import BATCH_TOKENS, generate_targets
from kzoo.tasks.task import Task


@keras.saving.register_keras_serializable("kzoo")
class Seq2SeqLM(Task):
    """Logits of the next target token at every position; an ordinary `keras.Model`, with `generate`.

    Inputs: dict with `encoder_token_ids` (B, S) and `decoder_token_ids` (B, T), int32, optionally
    `encoder_padding_mask` (B, S) and `decoder_padding_mask` (B, T), bool. The decoder's ids are the target, moved right
    by one: `config.decoder_start_id` stands before them, and they lack the last.
    Output: logits (B, T, V) float32, V of the target.

    Args:
        tokenizer: its tokens that pad and end a text must be those of the config.

    Raises: ValueError naming the field if they are not.
    """

    tasks = ("translation", "summarization")

    def __init__(self, backbone, tokenizer=None, **kwargs):
        super().__init__(backbone, tokenizer, **kwargs)
        if tokenizer is not None:
            for role in ("eos", "pad"):
                self._check_token(role, tokenizer)

    def _check_token(self, role, tokenizer):
        field = f"{role}_id"
        index, known = getattr(self.config, field), getattr(tokenizer, field)
        if known is not None and known != index:
            raise ValueError(f"The tokenizer's {field} is {known}, the config's {index}. Set `{field}` of the config "
                             "to the former.")
        # Without such a token, an id that the tokenizer does not use serves; what pads may also be what ends.
        free = tokenizer.vocabulary_size
        if known is None and index < free and not (role == "pad" and index == self.config.eos_id):
            raise ValueError(f"The tokenizer has no {role} token, and `{field}`={index} is its token "
                             f"{tokenizer.id_to_token(index)!r}. Set `{field}` of the config to {free} or above, and "
                             "`vocabulary_size` above that.")

    def head(self, hidden_states, inputs, training=None):
        return self.backbone.logits(hidden_states)

    def call(self, inputs, training=None):
        return self.forward(check_inputs(inputs, (SOURCE, TARGET)), training=training)[0]

    def compute_output_shape(self, input_shape):
        return (*input_shape[TARGET], self.backbone.target_vocabulary_size)

    def reader(self):
        """The live model as `kzoo.tasks.seq2seq` sees it."""
        if self._decoder is None:
            self._decoder = LiveReader(self)
        return self._decoder

    def generate(self, inputs, stream=None, truncate=False, batch_tokens=BATCH_TOKENS, **options):
        """What the model makes of each source, as text for text and ids for ids.

        See `kzoo.tasks.seq2seq.generate_targets` for inputs and options. Greedy unless `num_beams` or `do_sample` say
        otherwise: what a checkpoint's generation_config.json recommends is left to the caller.
        """
        return generate_targets(self.reader(), self.tokenizer, inputs, stream, truncate, batch_tokens, **options)

    def answer(self, inputs, **options):
        """`generate`; what `model("text")` gives."""
        return self.generate(inputs, **options)
