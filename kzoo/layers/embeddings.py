"""Token ids to vectors, and, with the same table, vectors to logits."""
import keras
from keras import ops


@keras.saving.register_keras_serializable("kzoo")
class TokenEmbedding(keras.layers.Layer):
    """One vector a token; the same table can read out logits (a tied output embedding).

    Args:
        vocabulary_size: V.
        hidden_dim: E.

    Source: tying: Press and Wolf 2017 (arXiv 1608.05859).
    """

    def __init__(self, vocabulary_size, hidden_dim, initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.hidden_dim = hidden_dim
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape):
        self.embeddings = self.add_weight(
            name="embeddings", shape=(self.vocabulary_size, self.hidden_dim), initializer=self.initializer)

    def call(self, token_ids):
        """int32 (B, T) -> (B, T, E)."""
        return ops.take(ops.cast(self.embeddings, self.compute_dtype), token_ids, axis=0)

    def logits(self, hidden_states):
        """(B, T, E) -> float32 (B, T, V): hidden states times the table's transpose."""
        rows = ops.reshape(hidden_states, (-1, self.hidden_dim))                                   # (B * T, E)
        table = ops.cast(self.embeddings, self.compute_dtype)
        rows = ops.matmul(rows, ops.transpose(table))                                              # (B * T, V)
        logits = ops.reshape(rows, (-1, ops.shape(hidden_states)[1], self.vocabulary_size))        # (B, T, V)
        return ops.cast(logits, "float32")

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.hidden_dim)

    def get_config(self):
        return {**super().get_config(), "vocabulary_size": self.vocabulary_size, "hidden_dim": self.hidden_dim,
                "initializer": keras.initializers.serialize(self.initializer)}
