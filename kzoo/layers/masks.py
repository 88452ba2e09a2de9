"""Who may see whom, as a rule on absolute positions.

A rule takes the positions of queries and keys, already shaped to broadcast, and answers True where the query may
attend to the key. Dense, blocked and cached attention all ask the same rule; padding is not its business.
"""
import dataclasses

import keras

from kzoo.layers.parts import Part


@keras.saving.register_keras_serializable("kzoo")
@dataclasses.dataclass(frozen=True)
class Everything(Part):
    """Every query may attend to every key (encoders, cross-attention)."""

    def __call__(self, query_positions, key_positions):
        """None: no pair is hidden, and nobody pays for a mask that is all True."""
        return None


@keras.saving.register_keras_serializable("kzoo")
@dataclasses.dataclass(frozen=True)
class Causal(Part):
    """A token attends to itself and to what came before it."""

    def __call__(self, query_positions, key_positions):
        return key_positions <= query_positions


@keras.saving.register_keras_serializable("kzoo")
@dataclasses.dataclass(frozen=True)
class Recent(Part):
    """A token attends to the last `length` tokens, itself among them: 0 <= q - k < length.

    A rule alone: every pair is still compared. The pattern `SlidingWindow` saves what such a rule hides.
    """
    length: int

    def __post_init__(self):
        if self.length < 1:
            raise ValueError(f"`length` must be at least 1. Received: {self.length}.")

    def __call__(self, query_positions, key_positions):
        distance = query_positions - key_positions
        return (distance >= 0) & (distance < self.length)
