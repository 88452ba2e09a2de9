"""The live Keras model as a session: the reference that artifacts are compared with."""
import numpy as np
from keras import ops

from kzoo.export.session import TextGenerationSession
from kzoo.export.signatures import sizes_of


class KerasSession(TextGenerationSession):
    """A live model, or one loaded from a run folder.

    Args:
        path: a run folder, or a task model.
        threads: not used; the backend decides.
        options: see `Session`; for a live model they come from it.
    """

    runtime = "keras"

    def __init__(self, path, threads=None, **options):
        if not hasattr(path, "backbone"):
            from kzoo.saving import load

            self.model = load(path)
        else:
            self.model = path
        options = {"task": self.model.task, "sizes": sizes_of(self.model.config), "tokenizer": self.model.tokenizer,
                   **{name: value for name, value in options.items() if value is not None}}
        super().__init__(**options)
        self._decoder = self.model.decoder()

    def described(self):
        return None

    def _forward(self, arrays):
        logits = self.model(arrays, training=False)
        return {"logits": np.asarray(ops.convert_to_numpy(ops.cast(logits, "float32")))}

    def _run(self, signature, arrays):
        return self._forward(arrays)

    def prefill(self, token_ids, padding_mask, max_new_tokens):
        return self._decoder.prefill(token_ids, padding_mask, max_new_tokens)

    def decode(self, token_ids, state):
        return self._decoder.decode(token_ids, state)

    def reorder(self, state, rows):
        return self._decoder.reorder(state, rows)
