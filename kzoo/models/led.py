"""LED, the Longformer encoder-decoder: BART whose encoder attends to windows and global tokens.

Source: Beltagy et al. 2020, section 7 (arXiv 2004.05150); BART: Lewis et al. 2019 (arXiv 1910.13461).
"""
import dataclasses
from typing import ClassVar

import keras
from keras import ops

from kzoo.global_tokens import choose_global_tokens
from kzoo.hugging_face import Layout
from kzoo.layers import LayerNormalization, SlidingWindow
from kzoo.layers.longformer_attention import (
    GlobalPositions,
    LongformerAttention,
    find_global_tokens,
    running_count,
)
from kzoo.models.longformer import check_windows, global_count, read_window, window_sizes, write_window
from kzoo.models.transformer import (
    DECODER_FIELDS,
    MARIAN_LAYERS,
    StacksConfig,
    TransformerBackbone,
    make_block,
    read_decoder_fields,
    write_decoder_fields,
)
from kzoo.registry import Family, Preset, register
from kzoo.weight_table import Ignore, Linear, Norm, Tensor, Tied


@dataclasses.dataclass(frozen=True)
class LedConfig(StacksConfig):
    """Sizes and switches of an LED.

    Attributes:
        vocabulary_size: V.
        num_layers, num_decoder_layers: of the encoder and the decoder; None for the latter means as many.
        num_heads, num_decoder_heads: H, divisors of hidden_dim; None for the latter means as many.
        hidden_dim: E.
        intermediate_dim, decoder_intermediate_dim: F of encoder and decoder; None for the latter means the same.
        max_sequence_length, max_target_length: longest source, and longest target, in tokens.
        window_size, max_global_tokens: of the encoder; see `LongformerConfig`.
        dropout: probability of dropping in embeddings and branches, 0 to 1.
        attention_dropout: of dropping an attention weight.
        activation_dropout: of dropping a feature inside the feed-forward.
        activation: inside the feed-forward.
        initializer_range: standard deviation of fresh weights.
        pad_id, eos_id, decoder_start_id: fills rows, ends them, and is what the decoder starts from.
        gradient_checkpointing: in training, keep only the input of each block, and compute the rest once more.
    """
    vocabulary_size: int = 50265
    num_layers: int = 6
    num_decoder_layers: int | None = None
    num_heads: int = 12
    num_decoder_heads: int | None = None
    hidden_dim: int = 768
    intermediate_dim: int = 3072
    decoder_intermediate_dim: int | None = None
    max_sequence_length: int = 16384
    max_target_length: int = 1024
    window_size: int | tuple[int, ...] = 513
    max_global_tokens: int = 64
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    activation: str = "gelu"
    initializer_range: float = 0.02
    pad_id: int = 1
    eos_id: int = 2
    decoder_start_id: int = 2
    gradient_checkpointing: bool = False

    # What a `TransformerBackbone` may be asked for otherwise.
    norm_placement: ClassVar[str] = "post"
    position: ClassVar[str] = "learned"
    pattern: ClassVar[str] = "full"
    layer_norm_epsilon: ClassVar[float] = 1e-5
    scale_embedding: ClassVar[bool] = False
    share_embeddings: ClassVar[bool] = True
    tie_output: ClassVar[bool] = True
    output_bias: ClassVar[bool] = True

    target_begins_as_source: ClassVar[bool] = True  # with <s>, as BART's, from which published checkpoints come

    def check(self):
        self.check_stacks("max_target_length")
        self.require(self.initializer_range > 0, "initializer_range", "must be above 0")
        check_windows(self)
        for field in ("pad_id", "eos_id", "decoder_start_id"):
            self.require(0 <= getattr(self, field) < self.vocabulary_size, field,
                         f"must be an id below {self.vocabulary_size}")

    def target_size(self):
        """V of the logits."""
        return self.vocabulary_size

    def stored_axes(self):
        return {"vocabulary_size": self.vocabulary_size, "hidden_dim": self.hidden_dim,
                "intermediate_dim": self.intermediate_dim, "max_sequence_length": self.max_sequence_length,
                "max_target_length": self.max_target_length}

    def generation_defaults(self):
        return {"eos_token_id": self.eos_id}


@keras.saving.register_keras_serializable("kzoo")
class LedBackbone(TransformerBackbone):
    """Source (B, S) and target (B, T) token ids to the target's hidden states (B, T, E).

    Both stacks begin with h = norm(embedding + position). Inputs: those of `EncoderDecoder`, and optionally
    `encoder_global_mask` (B, S) bool, True = a global token of the source; without it the first token is one.
    """

    config_class = LedConfig

    def __init__(self, config, name="led", **kwargs):
        super().__init__(config, name=name, **kwargs)
        self.encoder_embedding_norm, self.decoder_embedding_norm = (
            LayerNormalization(config.layer_norm_epsilon, name=f"{side}_embedding_norm", dtype=self.dtype_policy)
            for side in ("encoder", "decoder"))

    @property
    def max_target_length(self):
        return self.config.max_target_length

    def make_position(self, name, length):
        return super().make_position(name, self.max_target_length if name == "decoder_position" else length)

    def make_encoder_block(self, i):
        return make_block(self.config, f"encoder_block_{i}", self.dtype_policy, kind=LongformerAttention,
                          pattern=SlidingWindow(window_sizes(self.config)[i]))

    def build(self, input_shape=None):
        for norm in (self.encoder_embedding_norm, self.decoder_embedding_norm):
            norm.build((None, None, self.config.hidden_dim))
        super().build(input_shape)

    def embed(self, embedding, position, token_ids, positions):
        norm = self.encoder_embedding_norm if position is self.encoder_position else self.decoder_embedding_norm
        return norm(super().embed(embedding, position, token_ids, positions))

    def locate_source(self, inputs):
        positions, mask, count = super().locate_source(inputs), inputs.get("encoder_global_mask"), None
        token_ids, real = inputs["encoder_token_ids"], positions.padding_mask
        real = ops.ones_like(token_ids, "bool") if real is None else real
        if mask is None:
            mask, count = choose_global_tokens("first", token_ids, real, None, running_count), 1
        count = global_count(mask, self.config, count)
        return GlobalPositions(*positions, find_global_tokens(mask & real, count, self.compute_dtype))


PRESETS = {
    "led-tiny": Preset(
        LedConfig(num_layers=2, num_heads=2, hidden_dim=128, intermediate_dim=512, max_sequence_length=1024,
                  max_target_length=256, window_size=33),
        7_673_305, "BERT-tiny's sizes, of Turc et al. 2019, for tests"),
    "led-base-16384": Preset(LedConfig(), 161_894_745, "Beltagy et al. 2020, section 7; BART-base's sizes"),
    "led-large-16384": Preset(
        LedConfig(num_layers=12, num_heads=16, hidden_dim=1024, intermediate_dim=4096),
        459_851_865, "Beltagy et al. 2020, section 7; BART-large's sizes"),
}

# Hugging Face's names (left) and ours: BART's, with Longformer's attention in the encoder.
ATTENTION = "encoder.layers.{i}.self_attn"
LED_WEIGHTS = (
    Tensor("shared.weight", "token_embedding/embeddings"),
    Tied("encoder.embed_tokens.weight", "token_embedding/embeddings"),
    Tied("decoder.embed_tokens.weight", "token_embedding/embeddings"),
    Tensor("encoder.embed_positions.weight", "encoder_position/embeddings"),
    Tensor("decoder.embed_positions.weight", "decoder_position/embeddings"),
    Norm("encoder.layernorm_embedding", "encoder_embedding_norm"),
    Norm("decoder.layernorm_embedding", "decoder_embedding_norm"),
    *(Linear(f"{ATTENTION}.longformer_self_attn.{name}", f"encoder_block_{{i}}/attention/{name}")
      for name in ("query", "key", "value", "query_global", "key_global", "value_global")),
    Linear(f"{ATTENTION}.output", "encoder_block_{i}/attention/output"),
    *(row for row in MARIAN_LAYERS if not isinstance(row, Ignore) and not row.stored.startswith(f"{ATTENTION}.")),
)
LED_HEAD = (Tied("lm_head.weight", "led/token_embedding/embeddings"),
            Tensor("final_logits_bias", "led/output_bias", extra_axes=1))

LED_FIELDS = (
    # ours, Hugging Face's
    ("vocabulary_size", "vocab_size"),
    ("num_layers", "encoder_layers"),
    ("num_heads", "encoder_attention_heads"),
    ("hidden_dim", "d_model"),
    ("intermediate_dim", "encoder_ffn_dim"),
    ("max_sequence_length", "max_encoder_position_embeddings"),
    ("max_target_length", "max_decoder_position_embeddings"),
    ("max_global_tokens", "max_global_tokens"),  # theirs has no such field, and keeps it
    ("dropout", "dropout"),
    ("attention_dropout", "attention_dropout"),
    ("activation_dropout", "activation_dropout"),
    ("activation", "activation_function"),
    ("initializer_range", "init_std"),
    ("pad_id", "pad_token_id"),
    ("eos_id", "eos_token_id"),
    ("decoder_start_id", "decoder_start_token_id"),
)


def _read(ours, theirs, tensors):
    read_decoder_fields(ours, theirs, DECODER_FIELDS)
    read_window(ours, theirs)


def _write(theirs, config):
    write_decoder_fields(theirs, config, DECODER_FIELDS)
    write_window(theirs, config)


TASKS = ("summarization", "translation")

register(Family(
    name="led",
    config=LedConfig,
    backbone=LedBackbone,
    presets=PRESETS,
    tasks=TASKS,
    layouts=(Layout(
        model_type="led",
        architectures=dict.fromkeys(TASKS, "LEDForConditionalGeneration"),
        prefix="led.",
        fields=LED_FIELDS,
        rows=LED_WEIGHTS,
        heads=dict.fromkeys(TASKS, LED_HEAD),
        values={"activation": {"gelu": "gelu", "gelu_new": "gelu_tanh", "relu": "relu", "silu": "silu", "swish": "silu",
                               "tanh": "tanh"}},
        constants={"is_encoder_decoder": True, "tie_word_embeddings": True},
        read=_read,
        write=_write,
    ),),
))
