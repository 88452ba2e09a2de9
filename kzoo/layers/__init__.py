"""The parts every family is built from. Pure `keras.ops`: they run on every Keras backend.

Tensors in attention are (B, T, H, D): batch, length, heads, width of a head.
"""
from kzoo.layers.attention import Attention, dot_product_attention
from kzoo.layers.blocks import Context, TransformerBlock
from kzoo.layers.cache import ContextCache, DecoderCache, GrowingCache, RingCache, StaticCache
from kzoo.layers.embeddings import TokenEmbedding
from kzoo.layers.feed_forward import FeedForward
from kzoo.layers.masks import Causal, Everything
from kzoo.layers.normalization import LayerNormalization, RMSNormalization
from kzoo.layers.patterns import Full
from kzoo.layers.positions import ALiBi, LearnedPositions, NoPosition, Positions, Rotary, SinusoidalPositions, locate
from kzoo.layers.relative_positions import RelativePositionBias
from kzoo.layers.sliding_window import SharedKeys, SlidingWindow

__all__ = [
    "ALiBi", "Attention", "Causal", "Context", "ContextCache", "DecoderCache", "Everything", "FeedForward", "Full",
    "GrowingCache", "LayerNormalization", "LearnedPositions", "NoPosition", "Positions", "RMSNormalization",
    "RelativePositionBias", "RingCache", "Rotary", "SharedKeys", "SinusoidalPositions", "SlidingWindow", "StaticCache",
    "TokenEmbedding", "TransformerBlock", "dot_product_attention", "locate",
]
