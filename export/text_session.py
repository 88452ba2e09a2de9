"""Sessions on files that take strings: no tokenizer outside of the file is used."""
import abc

import numpy as np

from kzoo.errors import unknown
from kzoo.export.session import Session
from kzoo.export.signature_tables import ANSWERS
from kzoo.tasks.answering import read_texts
from kzoo.tasks.answers import label_scores


class TextSession(Session):
    """A session on a file whose graph begins with its tokenizer. A runtime writes `_read`."""

    def __init__(self, *path, **options):
        super().__init__(*path, **options)
        self.signatures = dict(self.file_signatures)
        self.outputs = next(iter(self.signatures.values())).outputs
        self.per_token = {"token_ids", "padding_mask", *(row.name for row in ANSWERS.get(self.task, ())
                                                         if "sequence_length" in row.shape)}

    def read(self, texts):
        """What the file makes of texts.

        Args:
            texts: list of str.

        Returns: dict of arrays by our names: `token_ids` and `padding_mask` (B, T), `num_tokens` (B,), the tokens of
            the whole text where the file's length cuts it, and what the model says of them, if it is in the file.
        """
        texts, _ = read_texts(texts)
        if not texts:
            raise ValueError("`texts` is empty: pass at least one text.")
        return self._read(texts)

    @abc.abstractmethod
    def _read(self, texts):
        """`read`, of at least one text."""

    def _run(self, signature, arrays):
        return self.read(arrays["texts"])

    def run(self, signature, inputs):
        """As `Session.run`; the one input is `texts`, a list of str."""
        if signature not in self.signatures:
            raise ValueError(unknown("signature", signature, self.signatures))
        if set(inputs) != {"texts"}:
            raise ValueError(f"Signature {signature!r} takes `texts` alone. Received: {', '.join(inputs) or None}.")
        return self._run(signature, {"texts": list(inputs["texts"])})

    def __call__(self, inputs):
        """The answer to a text, or to each of a list of texts.

        Returns: of text classification {"label", "score", "scores"}, of feature extraction a vector, of what generates
            the list of ids; else a dict of the model's outputs for the text's own tokens, and these as `token_ids`.
        """
        texts, single = read_texts(inputs)
        outputs = self.read(texts)
        mask = outputs.pop("padding_mask").astype(bool)
        answers = []
        for i, real in enumerate(mask):
            answers.append(self._answer({name: value[i][real] if name in self.per_token else value[i]
                                         for name, value in outputs.items()}))
        return answers[0] if single else answers

    def _answer(self, outputs):
        if self.task == "text-classification":
            return label_scores(outputs["logits"], self.settings["labels"])
        if self.task == "feature-extraction":
            return outputs["features"]
        ids = outputs["token_ids"].tolist()
        return ids if outputs.keys() == {"token_ids", "num_tokens"} else {**outputs, "token_ids": ids}


def strings(texts):
    """An array of objects: NumPy's own strings lose a U+0000 at their end."""
    return np.array(texts, object)
