"""GPT-2: a decoder with pre-norm blocks and a tied output embedding.

Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3.
"""
import dataclasses
import math

import keras

from kzoo.config import Config
from kzoo.hugging_face import Layout
from kzoo.layers import (
    Attention,
    Causal,
    Dropout,
    FeedForward,
    LayerNormalization,
    TokenEmbedding,
    TransformerBlock,
    locate,
)
from kzoo.layers.feed_forward import get_activation
from kzoo.layers.part_names import (
    SHARED,
    check_pair,
    make_pattern,
    make_position,
    make_position_embedding,
    part_name,
)
from kzoo.models.base import Backbone, check_length, refuse_pattern
from kzoo.registry import Family, Preset, register
from kzoo.weight_table import Conv1D, Ignore, Norm, Split, Tensor, Tied


@dataclasses.dataclass(frozen=True)
class GPT2Config(Config):
    """Sizes and switches of a GPT-2.

    Attributes:
        vocabulary_size: V.
        num_layers: L.
        num_heads: H, a divisor of hidden_dim.
        hidden_dim: E.
        intermediate_dim: F; None means 4 * E.
        num_key_value_heads: K, a divisor of H; None means H (GPT-2 has no other).
        max_sequence_length: longest input, in tokens.
        dropout: probability of dropping in embeddings, attention weights and both branches, 0 to 1.
        activation: inside the feed-forward.
        layer_norm_epsilon: added to the variance.
        use_bias: False leaves out the offsets of projections and norms, as nanoGPT does.
        position: "learned" (GPT-2's), "sinusoidal", "axial", "none", "rotary", "alibi", "relative", "shaw" or
            "transformer_xl"; with settings a dict, such as {"name": "rotary", "scaling": "ntk", "factor": 4.0}. See
            `kzoo.layers.part_names`.
        pattern: which pairs of tokens attention looks at: "full", "blockwise" (the same in less memory), or with
            settings {"name": "block_local", "block_size": 64}, and so on; see docs/patterns.md.
        scale_scores: divide the scores by sqrt(head_dim).
        scale_scores_by_layer: divide them by the number of the layer, from 1, as well.
        initializer_range: standard deviation of fresh weights.
        gradient_checkpointing: in training, keep only the input of each block, and compute the rest once more.
        feed_forward_chunk_size: tokens that go through a feed-forward network at a time; None for all.
        loss_chunk_size: tokens whose logits the loss looks at at a time; None means all.
    """
    vocabulary_size: int = 50257
    num_layers: int = 12
    num_heads: int = 12
    hidden_dim: int = 768
    intermediate_dim: int | None = None
    num_key_value_heads: int | None = None
    max_sequence_length: int = 1024
    dropout: float = 0.1
    activation: str = "gelu_tanh"
    layer_norm_epsilon: float = 1e-5
    use_bias: bool = True
    position: str | dict = "learned"
    pattern: str | dict = "full"
    scale_scores: bool = True
    scale_scores_by_layer: bool = False
    initializer_range: float = 0.02
    gradient_checkpointing: bool = False
    feed_forward_chunk_size: int | None = None
    loss_chunk_size: int | None = None

    def check(self):
        for field in ("vocabulary_size", "num_layers", "num_heads", "hidden_dim", "max_sequence_length"):
            self.require(getattr(self, field) >= 1, field, "must be at least 1")
        self.require(self.hidden_dim % self.num_heads == 0, "hidden_dim",
                     f"must be divisible by `num_heads` ({self.num_heads})")
        self.require(self.intermediate_dim is None or self.intermediate_dim >= 1, "intermediate_dim",
                     "must be at least 1, or None for 4 * hidden_dim")
        self.require(self.num_key_value_heads is None
                     or self.num_key_value_heads >= 1 and self.num_heads % self.num_key_value_heads == 0,
                     "num_key_value_heads", f"must divide `num_heads` ({self.num_heads})")
        self.require(0 <= self.dropout < 1, "dropout", "must be at least 0 and below 1")
        self.require(self.layer_norm_epsilon > 0, "layer_norm_epsilon", "must be above 0")
        self.require(self.initializer_range > 0, "initializer_range", "must be above 0")
        get_activation(self.activation)
        self.require(self.feed_forward_chunk_size is None or self.feed_forward_chunk_size >= 1,
                     "feed_forward_chunk_size", "must be at least 1, or None for all tokens at once")
        self.require(self.loss_chunk_size is None or self.loss_chunk_size >= 1, "loss_chunk_size",
                     "must be at least 1, or None for all tokens at once")
        check_pair(self.pattern, self.position, Causal(), self.num_heads)
        width, position = self.hidden_dim // self.num_heads, part_name(self.position)
        self.require(position != "rotary" or width % 2 == 0, "position",
                     f"needs an even head_dim, which here is {width}")
        self.require(position not in ("sinusoidal", "transformer_xl") or self.hidden_dim % 2 == 0, "position",
                     f"needs an even `hidden_dim` ({self.hidden_dim})")
        if position == "axial":
            make_position_embedding(self.position, self.max_sequence_length, self.hidden_dim, "zeros")

    def stored_axes(self):
        axes = {"vocabulary_size": self.vocabulary_size, "hidden_dim": self.hidden_dim,
                "intermediate_dim": self.intermediate_dim or 4 * self.hidden_dim}
        learned = part_name(self.position) == "learned"
        return {**axes, "max_sequence_length": self.max_sequence_length} if learned else axes

    def key_value_shape(self):
        """(K, D) of a layer's cache."""
        return self.num_key_value_heads or self.num_heads, self.hidden_dim // self.num_heads


@keras.saving.register_keras_serializable("kzoo")
class GPT2Backbone(Backbone):
    """Token ids (B, T) to hidden states (B, T, E).

    h = embedding + position; per block h += attention(norm(h)), h += feed_forward(norm(h)); last a norm.
    """

    config_class = GPT2Config

    def __init__(self, config, name="gpt2", **kwargs):
        super().__init__(config, name=name, **kwargs)
        normal = keras.initializers.RandomNormal(stddev=config.initializer_range)
        # Each residual branch starts small, so that their sum does not grow with depth (section 2.3).
        residual = keras.initializers.RandomNormal(stddev=config.initializer_range / math.sqrt(2 * config.num_layers))
        dtype = self.dtype_policy
        self.token_embedding = TokenEmbedding(
            config.vocabulary_size, config.hidden_dim, normal.clone(), name="token_embedding", dtype=dtype)
        self.position_embedding = make_position_embedding(
            config.position, config.max_sequence_length, config.hidden_dim, normal.clone(), dtype)
        self.dropout = Dropout(config.dropout, name="dropout", dtype=dtype)
        heads, width = config.num_heads, config.hidden_dim // config.num_heads

        def position(layer):
            return make_position(config.position, heads, width, bidirectional=False,
                                 scale=_score_scale(config, layer, width), initializer=normal.clone(), dtype=dtype)

        self.shared_position = position(0) if part_name(config.position) in SHARED else None

        def norm(name):
            return LayerNormalization(config.layer_norm_epsilon, config.use_bias, name=name, dtype=dtype)

        self.blocks = [
            TransformerBlock(
                Attention(heads, width, config.hidden_dim, config.num_key_value_heads, mask=Causal(),
                          position=self.shared_position or position(i), pattern=make_pattern(config.pattern, i),
                          scale=_score_scale(config, i, width), dropout=config.dropout, use_bias=config.use_bias,
                          kernel_initializer=normal.clone(), output_initializer=residual.clone(), name="attention",
                          dtype=dtype),
                FeedForward(config.intermediate_dim or 4 * config.hidden_dim, config.hidden_dim, config.activation,
                            use_bias=config.use_bias, kernel_initializer=normal.clone(),
                            output_initializer=residual.clone(), chunk_size=config.feed_forward_chunk_size,
                            name="feed_forward", dtype=dtype),
                norm("attention_norm"), norm("feed_forward_norm"), placement="pre", dropout=config.dropout,
                name=f"block_{i}", dtype=dtype)
            for i in range(config.num_layers)]
        self.final_norm = norm("final_norm")

    def build(self, input_shape=None):
        shape = (None, None, self.config.hidden_dim)
        self.token_embedding.build(None)
        if self.position_embedding is not None:
            self.position_embedding.build(None)
        if self.shared_position is not None:  # before the blocks, so that its path names none of them
            self.shared_position.build()
        for block in self.blocks:
            block.build(shape)
        self.final_norm.build(shape)
        self.built = True

    def forward(self, inputs, cache=None, training=None):
        token_ids = inputs["token_ids"]
        check_length(token_ids, self.config.max_sequence_length)
        positions = locate(token_ids, inputs.get("padding_mask"), inputs.get("positions"), cache and cache[0])
        x = self.token_embedding(token_ids)                                # (B, T, E)
        if self.position_embedding is not None:
            x = x + self.position_embedding(positions.token)
        x = self.dropout(x, training=training)
        x, cache = self.run_blocks(self.blocks, x, positions, cache, training=training)
        return self.final_norm(x), cache


def _score_scale(config, layer, width):
    scale = 1.0 / math.sqrt(width) if config.scale_scores else 1.0
    return scale / (layer + 1) if config.scale_scores_by_layer else scale


def _rows(*sizes):
    """Presets: (name, layers, heads, hidden_dim, parameters, source)."""
    return {name: Preset(GPT2Config(num_layers=layers, num_heads=heads, hidden_dim=width, **extra), parameters, source)
            for name, layers, heads, width, parameters, source, extra in sizes}


PAPER = "Radford et al. 2019, table 2"
PRESETS = _rows(
    # name          L   H   E     parameters     source
    ("gpt2-nano", 4, 4, 128, 834_304, "nanoGPT, the CPU setting of train_shakespeare_char",
     {"vocabulary_size": 256, "max_sequence_length": 64, "dropout": 0.0}),
    ("gpt2-small", 12, 12, 768, 124_439_808, PAPER, {}),
    ("gpt2-medium", 24, 16, 1024, 354_823_168, PAPER, {}),
    ("gpt2-large", 36, 20, 1280, 774_030_080, PAPER, {}),
    ("gpt2-xl", 48, 25, 1600, 1_557_611_200, PAPER, {}),
)

# Hugging Face's names (left) and ours. Conv1D stores [in, out] as Keras does, and q|k|v side by side.
GPT2_WEIGHTS = (
    Tensor("wte.weight", "token_embedding/embeddings"),
    Tensor("wpe.weight", "position_embedding/embeddings"),
    Norm("h.{i}.ln_1", "block_{i}/attention_norm"),
    Split("h.{i}.attn.c_attn", ("block_{i}/attention/query", "block_{i}/attention/key", "block_{i}/attention/value")),
    Conv1D("h.{i}.attn.c_proj", "block_{i}/attention/output"),
    Norm("h.{i}.ln_2", "block_{i}/feed_forward_norm"),
    Conv1D("h.{i}.mlp.c_fc", "block_{i}/feed_forward/up"),
    Conv1D("h.{i}.mlp.c_proj", "block_{i}/feed_forward/down"),
    Norm("ln_f", "final_norm"),
    Ignore("h.{i}.attn.bias"),         # the causal mask as a buffer
    Ignore("h.{i}.attn.masked_bias"),  # its fill
)

GPT2_FIELDS = (
    # ours, Hugging Face's
    ("vocabulary_size", "vocab_size"),
    ("num_layers", "n_layer"),
    ("num_heads", "n_head"),
    ("hidden_dim", "n_embd"),
    ("intermediate_dim", "n_inner"),
    ("max_sequence_length", "n_positions"),
    ("dropout", "resid_pdrop"),
    ("activation", "activation_function"),
    ("layer_norm_epsilon", "layer_norm_epsilon"),
    ("scale_scores", "scale_attn_weights"),
    ("scale_scores_by_layer", "scale_attn_by_inverse_layer_idx"),
    ("initializer_range", "initializer_range"),
)


def _write_gpt2(theirs, config):
    refuse_pattern("gpt2", config)


register(Family(
    name="gpt2",
    config=GPT2Config,
    backbone=GPT2Backbone,
    presets=PRESETS,
    tasks=("text-generation",),
    layouts=(Layout(
        model_type="gpt2",
        architectures={"text-generation": "GPT2LMHeadModel"},
        prefix="transformer.",
        fields=GPT2_FIELDS,
        rows=GPT2_WEIGHTS,
        heads={"text-generation": (Tied("lm_head.weight", "gpt2/token_embedding/embeddings"),)},
        # Their words for values of ours, and what their class has no room for.
        values={"activation": {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu",
                               "relu": "relu", "silu": "silu", "swish": "silu", "tanh": "tanh"}},
        fixed={"position": "learned", "num_key_value_heads": None},
        extra={"attn_pdrop": "dropout", "embd_pdrop": "dropout", "n_ctx": "max_sequence_length"},
        write=_write_gpt2,
    ),),
))
