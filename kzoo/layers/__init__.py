"""The parts every family is built from. Pure `keras.ops`: they run on every Keras backend.

Tensors in attention are (B, T, H, D): batch, length, heads, width of a head.
"""
from kzoo.layers.attention import Attention, dot_product_attention
from kzoo.layers.block_local import BlockLocal
from kzoo.layers.block_sparse import BlockSparse
from kzoo.layers.blocks import Context, TransformerBlock
from kzoo.layers.blockwise import Blockwise
from kzoo.layers.cache import ContextCache, DecoderCache, GrowingCache, StaticCache
from kzoo.layers.embeddings import TokenEmbedding
from kzoo.layers.feed_forward import FeedForward
from kzoo.layers.hierarchical import Hierarchical
from kzoo.layers.looking import AttentionMap, attention_maps, attention_rollout
from kzoo.layers.masks import Causal, Everything, SlidingWindow
from kzoo.layers.normalization import LayerNormalization, RMSNormalization
from kzoo.layers.patterns import Full, Pattern
from kzoo.layers.positions import ALiBi, LearnedPositions, NoPosition, Positions, Rotary, SinusoidalPositions, locate
from kzoo.layers.relative_positions import RelativePositionBias
from kzoo.layers.shaw_positions import ShawRelative
from kzoo.layers.strided import Strided

__all__ = [
    "ALiBi", "Attention", "AttentionMap", "BlockLocal", "BlockSparse", "Blockwise", "Causal", "Context", "ContextCache",
    "DecoderCache", "Everything", "FeedForward", "Full", "GrowingCache", "Hierarchical", "LayerNormalization",
    "LearnedPositions", "NoPosition", "Pattern", "Positions", "RMSNormalization", "RelativePositionBias", "Rotary",
    "ShawRelative", "SinusoidalPositions", "SlidingWindow", "StaticCache", "Strided", "TokenEmbedding",
    "TransformerBlock", "attention_maps", "attention_rollout", "dot_product_attention", "locate",
]
