"""Text generation: a backbone and its tied output embedding."""
import keras

from kzoo.tasks.generate import generate
from kzoo.tasks.live_decoder import LiveDecoder
from kzoo.tasks.token_task import TokenTask


@keras.saving.register_keras_serializable("kzoo")
class CausalLM(TokenTask):
    """Logits of the next token at every position; an ordinary `keras.Model`, with `generate`.

    Inputs: dict with `token_ids` (B, T) int32, optionally `padding_mask` (B, T) bool.
    Output: logits (B, T, V) float32.
    """

    tasks = ("text-generation",)

    def head(self, hidden_states, inputs, training=None):
        return self.backbone.token_embedding.logits(hidden_states)

    def compute_output_shape(self, input_shape):
        return (*input_shape["token_ids"], self.config.vocabulary_size)

    def decoder(self):
        """The live model as the generate loop sees it."""
        if self._decoder is None:
            self._decoder = LiveDecoder(self)
        return self._decoder

    def generate(self, inputs, stream=None, **options):
        """Continue text or token ids; see `kzoo.tasks.generate.generate` for inputs and options."""
        return generate(self.decoder(), self.tokenizer, inputs, stream=stream, **options)

    def answer(self, inputs, **options):
        """The same: a text, continued."""
        return self.generate(inputs, **options)
