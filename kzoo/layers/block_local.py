"""Attention within blocks of neighbours."""
import dataclasses

import keras

from kzoo.layers.folding import Blocks, FoldingPattern, attend_in_blocks, neighbours


@keras.saving.register_keras_serializable("kzoo")
@dataclasses.dataclass(frozen=True)
class BlockLocal(FoldingPattern):
    """A token looks at its own block and at those next to it: time and memory grow with T * block_size.

    Attributes:
        block_size: W, tokens in a block.
        look_back, look_ahead: how many blocks before and after its own are looked at, too. A causal mask hides what is
            ahead, which then costs in vain.

    Source: Liu et al. 2018, section 4.2.4, with the block before (arXiv 1801.10198).
    """
    block_size: int
    look_back: int = 1
    look_ahead: int = 0

    def __post_init__(self):
        for name, least in (("block_size", 1), ("look_back", 0), ("look_ahead", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}. Received: {getattr(self, name)}.")

    def visible(self, query_positions, key_positions, num_heads):
        back = query_positions // self.block_size - key_positions // self.block_size
        return (back <= self.look_back) & (back >= -self.look_ahead)

    def attend_in_order(self, query, key, value, positions, mask, position, **options):
        return attend_in_blocks(query, key, value, positions, mask, position,
                                Blocks(query.shape[1], self.block_size),
                                lambda x: neighbours(x, self.look_back, self.look_ahead), **options)
