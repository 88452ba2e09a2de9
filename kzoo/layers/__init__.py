"""The parts every family is built from. Pure `keras.ops`: they run on every Keras backend.

Tensors in attention are (B, T, H, D): batch, length, heads, width of a head.
"""
from kzoo.layers.adaptive import AdaptiveEmbedding, AdaptiveSoftmax
from kzoo.layers.attention import Attention, dot_product_attention
from kzoo.layers.axial_positions import AxialPositions
from kzoo.layers.block_local import BlockLocal
from kzoo.layers.block_sparse import BlockSparse
from kzoo.layers.blocks import Context, TransformerBlock
from kzoo.layers.blockwise import Blockwise
from kzoo.layers.cache import ContextCache, DecoderCache, GrowingCache, MemoryCache, RingCache, StaticCache
from kzoo.layers.chunks import CircularBlocks
from kzoo.layers.dropout import Dropout
from kzoo.layers.embeddings import TokenEmbedding
from kzoo.layers.feed_forward import FeedForward
from kzoo.layers.hierarchical import Hierarchical
from kzoo.layers.looking import AttentionMap, attention_maps, attention_rollout
from kzoo.layers.lsh_attention import LSHAttention
from kzoo.layers.masks import Causal, Everything, Recent
from kzoo.layers.normalization import LayerNormalization, RMSNormalization
from kzoo.layers.patterns import Full, Pattern
from kzoo.layers.positions import ALiBi, LearnedPositions, NoPosition, Positions, Rotary, SinusoidalPositions, locate
from kzoo.layers.relative_positions import RelativePositionBias
from kzoo.layers.reversible import ReversibleBlock, ReversibleStack
from kzoo.layers.shaw_positions import ShawRelative
from kzoo.layers.sliding_window import SharedKeys, SlidingWindow
from kzoo.layers.strided import Strided
from kzoo.layers.transformer_xl_positions import (
    QueryBiases,
    TransformerXLPositions,
    TransformerXLRelative,
)

__all__ = [
    "ALiBi", "AdaptiveEmbedding", "AdaptiveSoftmax", "Attention", "AttentionMap", "AxialPositions", "BlockLocal",
    "BlockSparse", "Blockwise", "Causal", "CircularBlocks", "Context", "ContextCache", "DecoderCache", "Dropout",
    "Everything", "FeedForward", "Full", "GrowingCache", "Hierarchical", "LSHAttention", "LayerNormalization",
    "LearnedPositions", "MemoryCache", "NoPosition", "Pattern", "Positions", "QueryBiases", "RMSNormalization",
    "Recent", "RelativePositionBias", "ReversibleBlock", "ReversibleStack", "RingCache", "Rotary", "SharedKeys",
    "ShawRelative", "SinusoidalPositions", "SlidingWindow", "StaticCache", "Strided", "TokenEmbedding",
    "TransformerBlock", "TransformerXLPositions", "TransformerXLRelative", "attention_maps",
    "attention_rollout", "dot_product_attention", "locate",
]
