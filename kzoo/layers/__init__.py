"""The parts every family is built from. Pure `keras.ops`: they run on every Keras backend.

Tensors in attention are (B, T, H, D): batch, length, heads, width of a head.
"""
from kzoo.layers.adaptive import AdaptiveEmbedding, AdaptiveSoftmax
from kzoo.layers.attention import Attention, dot_product_attention
from kzoo.layers.axial_positions import AxialPositions
from kzoo.layers.blocks import Context, TransformerBlock
from kzoo.layers.cache import ContextCache, DecoderCache, GrowingCache, MemoryCache, RingCache, StaticCache
from kzoo.layers.chunks import CircularBlocks
from kzoo.layers.embeddings import TokenEmbedding
from kzoo.layers.feed_forward import FeedForward
from kzoo.layers.lsh import LSHAttention
from kzoo.layers.masks import Causal, Everything, Recent
from kzoo.layers.normalization import LayerNormalization, RMSNormalization
from kzoo.layers.patterns import Full
from kzoo.layers.positions import ALiBi, LearnedPositions, NoPosition, Positions, Rotary, SinusoidalPositions, locate
from kzoo.layers.relative_positions import RelativePositionBias
from kzoo.layers.reversible import ReversibleBlock, ReversibleStack
from kzoo.layers.sliding_window import SharedKeys, SlidingWindow
from kzoo.layers.transformer_xl_positions import QueryBiases, TransformerXLPositions

__all__ = [
    "ALiBi", "AdaptiveEmbedding", "AdaptiveSoftmax", "Attention", "AxialPositions", "Causal", "CircularBlocks",
    "Context", "ContextCache", "DecoderCache", "Everything", "FeedForward", "Full", "GrowingCache", "LSHAttention",
    "LayerNormalization", "LearnedPositions", "MemoryCache", "NoPosition", "Positions", "QueryBiases",
    "RMSNormalization", "Recent", "RelativePositionBias", "ReversibleBlock", "ReversibleStack", "RingCache", "Rotary",
    "SharedKeys", "SinusoidalPositions", "SlidingWindow", "StaticCache", "TokenEmbedding", "TransformerBlock",
    "TransformerXLPositions", "dot_product_attention", "locate",
]
