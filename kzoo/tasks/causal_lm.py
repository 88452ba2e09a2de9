"""Text generation: a backbone and its output embedding, tied to that of the input or a layer of its own."""
import keras
from keras import ops

from kzoo.layers.projection import project
from kzoo.tasks.generate import generate
from kzoo.tasks.live_decoder import LiveDecoder, MemoryDecoder
from kzoo.tasks.token_task import TokenTask


@keras.saving.register_keras_serializable("kzoo")
class CausalLM(TokenTask):
    """Logits of the next token at every position; an ordinary `keras.Model`, with `generate`.

    Inputs: dict with `token_ids` (B, T) int32, optionally `padding_mask` (B, T) bool.
    Output: logits (B, T, V) float32; of a model with an adaptive softmax they are log-probabilities.
    """

    tasks = ("text-generation",)

    def __init__(self, backbone, **kwargs):
        super().__init__(backbone, **kwargs)
        self.output_layer = backbone.make_output_layer()

    def build_head(self):
        if self.output_layer is not None:
            self.output_layer.build((None, self.backbone.output_dim))

    def head(self, hidden_states, inputs, training=None):
        if self.output_layer is None:
            return self.backbone.logits(hidden_states)
        return ops.cast(project(self.output_layer, hidden_states), "float32")

    def compute_output_shape(self, input_shape):
        return (*input_shape["token_ids"], self.config.vocabulary_size)

    def decoder(self):
        """The live model as the generate loop sees it."""
        if self._decoder is None:
            self._decoder = (MemoryDecoder if self.backbone.recurrent else LiveDecoder)(self)
        return self._decoder

    def generate(self, inputs, stream=None, **options):
        """Continue text or token ids; see `kzoo.tasks.generate.generate` for inputs and options."""
        return generate(self.decoder(), self.tokenizer, inputs, stream=stream, **options)

    def answer(self, inputs, **options):
        """The same: a text, continued."""
        return self.generate(inputs, **options)
