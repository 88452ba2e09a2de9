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
