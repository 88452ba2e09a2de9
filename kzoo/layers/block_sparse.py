"""Attention to near blocks, to a few blocks that everybody sees, and to a few that are drawn at random."""
import dataclasses

import keras
import numpy as np
from keras import ops

from kzoo.layers.folding import Blocks, FoldingPattern, attend_in_blocks, sees_ahead
from kzoo.layers.patterns import dense_attention
from kzoo.layers.positions import Positions

LONGEST = 1 << 12  # blocks that a rule has draws for where the length is not known


@keras.saving.register_keras_serializable("kzoo")
@dataclasses.dataclass(frozen=True)
class BlockSparse(FoldingPattern):
    """A block looks at those near it, at the first of the text and at some drawn at random; the first ones look at all.

    Time and memory grow with T * block_size * (2 * num_near + 1 + num_global + num_random).

    Attributes:
        block_size: W, tokens in a block.
        num_near: blocks on each side of the own one.
        num_global: blocks at the beginning that all look at, and that look at all.
        num_random: blocks drawn for each one, among those before it that it does not look at anyway. So what a token
            sees does not depend on what comes after it, nor on how long the text is.
        seed: of the draws. They are constants; a model's layers differ (`for_layer`).

    Source: Zaheer et al. 2020, section 2 and appendix D (arXiv 2007.14062). There the last block is global, too, and
    random blocks lie ahead as well.
    """
    block_size: int
    num_near: int = 1
    num_global: int = 1
    num_random: int = 1
    seed: int = 0

    def __post_init__(self):
        for name in ("block_size", "num_near", "num_global", "num_random", "seed"):
            least = int(name == "block_size")
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}. Received: {getattr(self, name)}.")

    def for_layer(self, number):
        return dataclasses.replace(self, seed=self.seed + number)

    def random_blocks(self, count):
        """The random blocks of each of `count` blocks: int32 (N, num_random), -1 where there are none left to draw."""
        drawn = np.full((count, self.num_random), -1, "int32")
        for block in range(count):
            others = np.arange(self.num_global, max(block - self.num_near, self.num_global))
            chosen = np.random.default_rng((self.seed, block)).permutation(others)[:self.num_random]
            drawn[block, :len(chosen)] = chosen
        return drawn

    def visible(self, query_positions, key_positions, num_heads):
        query_block, key_block = query_positions // self.block_size, key_positions // self.block_size
        back = query_block - key_block                                                      # (B or 1, 1, T, S)
        seen = (back <= self.num_near) & (back >= -self.num_near)
        seen = seen | (query_block < self.num_global) | (key_block < self.num_global)
        if self.num_random:
            length = key_positions.shape[-1]
            count = -(-length // self.block_size) if isinstance(length, int) else LONGEST
            table = self.random_blocks(count)
            drawn = ops.take(table, ops.minimum(query_block, count - 1), axis=0)            # (B or 1, 1, T, 1, R)
            for i in range(self.num_random):
                seen = seen | (drawn[..., i] == key_block)
        return seen

    def attend_in_order(self, query, key, value, positions, mask, position, **options):
        blocks = Blocks(query.shape[1], self.block_size)
        table, present = self._table(blocks.rounds, sees_ahead(mask))                       # (N, C)

        def gather(x):
            chosen = ops.take(x, table.ravel(), axis=1)                                     # (B, N * C, W, ...)
            return ops.reshape(chosen, (-1, table.shape[0], table.shape[1] * self.block_size, *x.shape[3:]))

        mixed = attend_in_blocks(query, key, value, positions, mask, position, blocks, gather,
                                 present=np.repeat(present, self.block_size, axis=1)[None], **options)
        everywhere = min(self.num_global * self.block_size, query.shape[1])
        if not everywhere or not sees_ahead(mask):  # what comes after the first blocks is hidden from them anyway
            return mixed
        first = Positions(None, positions.query[:, :everywhere], positions.key, positions.padding_mask)
        full = dense_attention(query[:, :everywhere], key, value, first, mask, position, **options)
        return ops.concatenate([full, mixed[:, everywhere:]], axis=1)

    def _table(self, count, ahead):
        """The blocks that each block looks at, every one once: int32 (N, C), and boolean (N, C), False for filling."""
        drawn, rows = self.random_blocks(count), []
        for block in range(count):
            near = range(block - self.num_near, block + (self.num_near if ahead else 0) + 1)
            wanted = [*range(self.num_global), *near, *drawn[block]]
            rows.append(sorted({int(each) for each in wanted if 0 <= each < count}))
        widest = max(map(len, rows))
        present = np.array([[True] * len(row) + [False] * (widest - len(row)) for row in rows])
        return np.array([row + [0] * (widest - len(row)) for row in rows], "int32"), present
