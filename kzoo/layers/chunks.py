"""Sequences cut into chunks that look at their neighbours, the first chunk at the last: local attention in blocks."""
import dataclasses

import keras
from keras import ops

from kzoo.layers.folding import Blocks, attend_in_blocks
from kzoo.layers.patterns import Full, Pattern


def to_chunks(x, size):
    """(B, T, ...) -> (B, T / size, size, ...)."""
    return ops.reshape(x, (-1, x.shape[1] // size, size, *x.shape[2:]))


def look_around(chunks, before, after):
    """Each chunk with its neighbours, in a circle: the first follows the last.

    Args:
        chunks: (B, N, W, ...), N known.
        before, after: how many chunks on either side.

    Returns: (B, N, (before + 1 + after) * W, ...).
    """
    if before == after == 0:
        return chunks
    count = chunks.shape[1]
    turned = []
    for offset in range(-before, after + 1):
        start = offset % count
        # Slices rather than a roll, which TFLite's builtins do not have.
        turned.append(ops.concatenate([chunks[:, start:], chunks[:, :start]], axis=1) if start else chunks)
    return ops.concatenate(turned, axis=2)


@keras.saving.register_keras_serializable("kzoo")
@dataclasses.dataclass(frozen=True)
class CircularBlocks(Pattern):
    """A query is compared with the keys of its own block and of the blocks around it, the first block after the last.

    The blocks stand still: this is no window that moves with the query. A causal mask hides what the circle would show
    of the end. A sequence of one block is full attention.

    Args:
        block_size: W; a length beyond it must be a multiple of it.
        blocks_before, blocks_after: how many neighbours are seen.

    Source: the local layers of Kitaev et al. 2020 (arXiv 2001.04451), which stand in the authors' code.
    """
    block_size: int
    blocks_before: int = 1
    blocks_after: int = 0

    def __post_init__(self):
        if self.block_size < 1 or self.blocks_before < 0 or self.blocks_after < 0:
            raise ValueError("`block_size` must be at least 1, `blocks_before` and `blocks_after` at least 0. "
                             f"Received: {self.block_size}, {self.blocks_before} and {self.blocks_after}.")

    def visible(self, query_positions, key_positions, num_heads):
        length = key_positions.shape[3]
        if length <= self.block_size:
            return None
        count = length // self.block_size
        back = (query_positions // self.block_size - key_positions // self.block_size) % count
        return (back <= self.blocks_before) | (back >= count - self.blocks_after)

    def attend(self, query, key, value, positions, mask, position, **options):
        """As `Full.attend`, for queries and keys of the same tokens."""
        length = static_length(query, self.block_size, "block_size")
        if length <= self.block_size:
            return Full().attend(query, key, value, positions, mask, position, **options)
        if key.shape[1] != length:
            raise ValueError("`query` and `key` must be of the same tokens. "
                             f"Received: {length} queries and {key.shape[1]} keys.")
        return attend_in_blocks(
            query, key, value, positions, mask, position, Blocks(length, self.block_size),
            lambda blocks: look_around(blocks, self.blocks_before, self.blocks_after), **options)


def static_length(x, size, name):
    """T of (B, T, ...), which is cut into chunks of `size`.

    Raises: ValueError where it is not known while tracing, or neither within one chunk nor a multiple of it.
    """
    length = x.shape[1]
    if not isinstance(length, int):
        raise ValueError("Attention in chunks needs a length that is known when the model is traced. Received: None.")
    if length > size and length % size:
        raise ValueError(f"The length must be a multiple of `{name}` ({size}), or at most that. Received: {length}.")
    return length
