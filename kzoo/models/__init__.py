"""The families. Importing this package registers them."""
from kzoo.models import bert, gpt2, led, longformer, t5, transformer  # noqa: F401
from kzoo.models.base import Backbone
from kzoo.models.bert import BertBackbone, BertConfig
from kzoo.models.encoder_decoder import EncoderDecoder
from kzoo.models.gpt2 import GPT2Backbone, GPT2Config
from kzoo.models.led import LedBackbone, LedConfig
from kzoo.models.longformer import LongformerBackbone, LongformerConfig
from kzoo.models.t5 import T5Backbone, T5Config
from kzoo.models.transformer import TransformerBackbone, TransformerConfig

__all__ = [
    "Backbone", "BertBackbone", "BertConfig", "EncoderDecoder", "GPT2Backbone", "GPT2Config",
    "LedBackbone", "LedConfig", "LongformerBackbone", "LongformerConfig", "T5Backbone", "T5Config",
    "TransformerBackbone", "TransformerConfig",
]

