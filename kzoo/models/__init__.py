"""The families. Importing this package registers them."""
from kzoo.models import bert, gpt2, led, longformer, reformer, t5, transformer, transformer_xl  # noqa: F401
from kzoo.models.base import Backbone
from kzoo.models.bert import BertBackbone, BertConfig
from kzoo.models.encoder_decoder import EncoderDecoder
from kzoo.models.gpt2 import GPT2Backbone, GPT2Config
from kzoo.models.led import LedBackbone, LedConfig
from kzoo.models.longformer import LongformerBackbone, LongformerConfig
from kzoo.models.reformer import ReformerBackbone, ReformerConfig
from kzoo.models.t5 import T5Backbone, T5Config
from kzoo.models.transformer import TransformerBackbone, TransformerConfig
from kzoo.models.transformer_xl import TransformerXLBackbone, TransformerXLConfig

__all__ = [
    "Backbone", "BertBackbone", "BertConfig", "EncoderDecoder", "GPT2Backbone", "GPT2Config", "LedBackbone",
    "LedConfig", "LongformerBackbone", "LongformerConfig", "ReformerBackbone", "ReformerConfig", "T5Backbone",
    "T5Config", "TransformerBackbone", "TransformerConfig", "TransformerXLBackbone", "TransformerXLConfig",
]

