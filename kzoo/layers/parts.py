"""What the replaceable parts of attention have in common."""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Part:
    """A value object without weights, such as a mask rule. Its fields are its Keras config.

    Parts with weights are Keras layers instead; both are handed to `Attention` the same way.
    """

    def get_config(self):
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config):
        return cls(**config)


class PositionPart:
    """What attention asks its position: here of one that tells it nothing. Positions write what differs."""

    def check(self, mask, pattern):
        """Raise ValueError, saying why, for a rule or a pattern that this position cannot work with."""

    def rotate(self, x, positions):
        """Queries or keys (B, T, H, D) at int32 positions (B or 1, T), before they are compared and cached."""
        return x

    def shift_query(self, query):
        """Queries (B, T, H, D) as they are compared with keys: moved by a trained vector, or, as here, as they are."""
        return query

    def score_bias(self, query, query_positions, key_positions):
        """A float tensor that broadcasts to (B, H, T, S), added to the scaled scores; None for no bias.

        Args:
            query: (B, T, H, D), rotated and shifted but not scaled: what a bias that depends on the content is made of.
            query_positions, key_positions: int32 (B or 1, 1, T, 1) and (B or 1, 1, 1, S).
        """
        return None
