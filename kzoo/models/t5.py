"""T5: an encoder and a decoder with pre-norm blocks, whose only positions are a learned bias by distance.

Versions 1.0, and 1.1 with its gated feed-forward and an output embedding of its own, which Flan-T5 shares.

Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", section
2.1 (arXiv 1910.10683); initialisation: the paper's code, `mesh_tensorflow`; 1.1: its released checkpoints.
"""
import dataclasses

import keras
import numpy as np

from kzoo.config import Config
from kzoo.hugging_face import Layout
from kzoo.layers import (
    Attention,
    Causal,
    Dropout,
    Everything,
    FeedForward,
    RelativePositionBias,
    RMSNormalization,
    TokenEmbedding,
    TransformerBlock,
    locate,
)
from kzoo.layers.feed_forward import get_activation
from kzoo.layers.part_names import EXACT, check_pair, make_pattern, part_name
from kzoo.layers.relative_positions import least_max_distance
from kzoo.models.base import refuse_pattern
from kzoo.models.encoder_decoder import EncoderDecoder
from kzoo.registry import Family, Preset, register
from kzoo.weight_table import Ignore, Linear, Tensor, Tied


@dataclasses.dataclass(frozen=True)
class T5Config(Config):
    """Sizes and switches of a T5; the defaults are those of t5-small.

    Attributes:
        vocabulary_size: V, of source and target.
        num_layers, num_decoder_layers: of the encoder and the decoder; None for the latter means as many.
        num_heads: H.
        head_dim: D; H * D need not equal hidden_dim.
        hidden_dim: E.
        intermediate_dim: F.
        num_buckets: of distances, at least 4; each has a bias on the scores.
        max_distance: from here on all distances share a bucket.
        max_sequence_length: longest source, and longest target, in tokens; None means that there is no limit.
        dropout: probability of dropping in embeddings, attention weights, feed-forwards and branches, 0 to 1.
        activation: inside the feed-forward.
        gated: the feed-forward has a second projection that its activation multiplies (1.1).
        layer_norm_epsilon: added to the mean square.
        tie_embeddings: logits are read out with the table of the embedding (1.0); False gives them one of their own.
        scale_logits: divide hidden states by sqrt(hidden_dim) before that (1.0).
        initializer_factor: factor on the standard deviation of fresh weights.
        pad_id, eos_id, decoder_start_id: fills rows, ends them, and is what the decoder starts from.
        pattern: which pairs of tokens self-attention looks at, in encoder and decoder: "full", "blockwise" (the same in
            less memory), or with settings {"name": "block_local", "block_size": 64}, and so on; see docs/patterns.md.
            Attention to the source looks at all of it.
        gradient_checkpointing: in training, keep only the input of each block, and compute the rest once more.
    """
    vocabulary_size: int = 32128
    num_layers: int = 6
    num_decoder_layers: int | None = None
    num_heads: int = 8
    head_dim: int = 64
    hidden_dim: int = 512
    intermediate_dim: int = 2048
    num_buckets: int = 32
    max_distance: int = 128
    max_sequence_length: int | None = None
    dropout: float = 0.1
    activation: str = "relu"
    gated: bool = False
    layer_norm_epsilon: float = 1e-6
    tie_embeddings: bool = True
    scale_logits: bool = True
    initializer_factor: float = 1.0
    pad_id: int = 0
    eos_id: int = 1
    decoder_start_id: int = 0
    pattern: str | dict = "full"
    gradient_checkpointing: bool = False

    def check(self):
        for field in ("vocabulary_size", "num_layers", "num_heads", "head_dim", "hidden_dim", "intermediate_dim"):
            self.require(getattr(self, field) >= 1, field, "must be at least 1")
        for field in ("num_decoder_layers", "max_sequence_length"):
            value = getattr(self, field)
            self.require(value is None or value >= 1, field, "must be at least 1, or None")
        self.require(self.num_buckets >= 4, "num_buckets", "must be at least 4")
        least = least_max_distance(self.num_buckets, bidirectional=False)
        self.require(self.max_distance >= least, "max_distance",
                     f"must be at least {least} for {self.num_buckets} buckets")
        self.require(0 <= self.dropout < 1, "dropout", "must be at least 0 and below 1")
        for field in ("layer_norm_epsilon", "initializer_factor"):
            self.require(getattr(self, field) > 0, field, "must be above 0")
        get_activation(self.activation)
        for mask in (Everything(), Causal()):
            check_pair(self.pattern, "relative", mask, self.num_heads)
        for field in ("pad_id", "eos_id", "decoder_start_id"):
            self.require(0 <= getattr(self, field) < self.vocabulary_size, field,
                         f"must be an id below {self.vocabulary_size}")

    def stored_axes(self):
        return {"vocabulary_size": self.vocabulary_size, "hidden_dim": self.hidden_dim,
                "intermediate_dim": self.intermediate_dim, "num_buckets": self.num_buckets}

    def layer_counts(self):
        return {"i": self.num_layers, "j": self.num_decoder_layers or self.num_layers}

    def key_value_shape(self):
        """(H, D) of a decoder layer's cache."""
        return self.num_heads, self.head_dim

    def generation_defaults(self):
        """Nothing is banned: the reference does not either."""
        return {"eos_token_id": self.eos_id}


@keras.saving.register_keras_serializable("kzoo")
class T5Backbone(EncoderDecoder):
    """Source (B, S) and target (B, T) token ids to the target's hidden states (B, T, E).

    h = embedding; per block h += attention(norm(h)), in the decoder h += cross_attention(norm(h)), then
    h += feed_forward(norm(h)); last a norm. The attentions of a stack share one bias by distance; cross-attention has
    none. There are no offsets anywhere, and scores are not scaled: the queries' initialisation makes up for it.
    """

    config_class = T5Config

    def __init__(self, config, name="t5", **kwargs):
        super().__init__(config, name=name, **kwargs)
        dtype = self.dtype_policy
        self.token_embedding = TokenEmbedding(config.vocabulary_size, config.hidden_dim, _normal(config, 1.0),
                                              name="token_embedding", dtype=dtype)
        self.output_embedding = self.token_embedding
        if not config.tie_embeddings:
            self.output_embedding = TokenEmbedding(
                config.vocabulary_size, config.hidden_dim, _normal(config, config.hidden_dim ** -0.5),
                name="output_embedding", dtype=dtype)
        self.encoder_position, self.decoder_position = (
            RelativePositionBias(config.num_heads, config.num_buckets, config.max_distance, bidirectional,
                                 _normal(config, config.hidden_dim ** -0.5), name=name, dtype=dtype)
            for name, bidirectional in (("encoder_position", True), ("decoder_position", False)))
        self.encoder_blocks = [_block(config, "encoder", i, dtype, self.encoder_position)
                               for i in range(config.num_layers)]
        self.decoder_blocks = [_block(config, "decoder", i, dtype, self.decoder_position)
                               for i in range(config.layer_counts()["j"])]
        self.encoder_norm, self.decoder_norm = (
            RMSNormalization(config.layer_norm_epsilon, name=name, dtype=dtype)
            for name in ("encoder_norm", "decoder_norm"))
        self.dropout = Dropout(config.dropout, name="dropout", dtype=dtype)

    def build(self, input_shape=None):
        shape = (None, None, self.config.hidden_dim)
        # The shared tables first, so that their paths name the stack and not its first block.
        for layer in (self.token_embedding, self.output_embedding, self.encoder_position, self.decoder_position,
                      *self.encoder_blocks, *self.decoder_blocks, self.encoder_norm, self.decoder_norm):
            if not layer.built:
                layer.build(shape)
        self.built = True

    def locate(self, token_ids, padding_mask=None, positions=None, cache=None):
        """By slots, not by counts of real tokens: distances are the same, and all rows share one bias. But patterns of
        blocks ask for counts.
        """
        if part_name(self.config.pattern) not in EXACT:
            return super().locate(token_ids, padding_mask, positions, cache)
        return locate(token_ids, None, positions, cache)._replace(padding_mask=padding_mask)

    def token_embeddings(self):
        return (self.token_embedding, self.token_embedding)

    def encode(self, token_ids, positions, training=None):
        x = self.dropout(self.token_embedding(token_ids), training=training)                       # (B, S, E)
        x, _ = self.run_blocks(self.encoder_blocks, x, positions, training=training)
        return self.dropout(self.encoder_norm(x), training=training)

    def decode(self, token_ids, positions, context, cache=None, training=None):
        x = self.dropout(self.token_embedding(token_ids), training=training)                       # (B, T, E)
        x, cache = self.run_blocks(self.decoder_blocks, x, positions, cache, context, training)
        return self.dropout(self.decoder_norm(x), training=training), cache

    def logits(self, hidden_states):
        if self.config.scale_logits:
            hidden_states = hidden_states * self.config.hidden_dim ** -0.5
        return self.output_embedding.logits(hidden_states)                                         # (B, T, V)


def _normal(config, stddev):
    return keras.initializers.RandomNormal(stddev=config.initializer_factor * stddev)


def _block(config, stack, i, dtype, position):
    heads, head_dim, width, decoder = config.num_heads, config.head_dim, config.hidden_dim, stack == "decoder"

    def attention(name, mask, **parts):
        return Attention(heads, head_dim, width, mask=mask, scale=1.0, dropout=config.dropout, use_bias=False,
                         query_initializer=_normal(config, (width * head_dim) ** -0.5),
                         kernel_initializer=_normal(config, width ** -0.5),
                         output_initializer=_normal(config, (heads * head_dim) ** -0.5), name=name, dtype=dtype,
                         **parts)

    def norm(name):
        return RMSNormalization(config.layer_norm_epsilon, name=name, dtype=dtype)

    return TransformerBlock(
        attention("attention", Causal() if decoder else Everything(), position=position,
                  pattern=make_pattern(config.pattern, i)),
        FeedForward(config.intermediate_dim, width, config.activation, config.gated, use_bias=False,
                    dropout=config.dropout, kernel_initializer=_normal(config, width ** -0.5),
                    output_initializer=_normal(config, config.intermediate_dim ** -0.5), name="feed_forward",
                    dtype=dtype),
        norm("attention_norm"), norm("feed_forward_norm"), placement="pre", dropout=config.dropout,
        cross_attention=attention("cross_attention", Everything()) if decoder else None,
        cross_attention_norm=norm("cross_attention_norm") if decoder else None, name=f"{stack}_block_{i}", dtype=dtype)


def _rows(version, *sizes, **extra):
    """Presets: (name, layers, heads, hidden_dim, intermediate_dim, parameters), and what a version has in common."""
    return {f"{version}-{name}": Preset(
        T5Config(num_layers=layers, num_heads=heads, hidden_dim=width, intermediate_dim=inner, **extra), parameters,
        source) for name, layers, heads, width, inner, parameters, source in sizes}


PAPER = "Raffel et al. 2020, section 3.7"
RELEASE = "google/t5-v1_1-{}, config.json"
PRESETS = {
    **_rows(
        "t5",
        # name, L, H, E, F, parameters, source
        ("small", 6, 8, 512, 2048, 60_506_624, PAPER),
        ("base", 12, 12, 768, 3072, 222_903_552, PAPER),
        ("large", 24, 16, 1024, 4096, 737_668_096, PAPER)),
    **_rows(
        "t5-v1.1",
        ("small", 8, 6, 512, 1024, 76_961_152, RELEASE.format("small")),
        ("base", 12, 12, 768, 2048, 247_577_856, RELEASE.format("base")),
        ("large", 24, 16, 1024, 2816, 783_150_080, RELEASE.format("large")),
        activation="gelu_tanh", gated=True, tie_embeddings=False, scale_logits=False),
}

# Hugging Face's names (left) and ours. No dense layer has an offset.
T5_WEIGHTS = (
    Tensor("shared.weight", "token_embedding/embeddings"),
    Tied("encoder.embed_tokens.weight", "token_embedding/embeddings"),
    Tied("decoder.embed_tokens.weight", "token_embedding/embeddings"),
    Tensor("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "encoder_position/embeddings"),
    Linear("encoder.block.{i}.layer.0.SelfAttention.q", "encoder_block_{i}/attention/query", use_bias=False),
    Linear("encoder.block.{i}.layer.0.SelfAttention.k", "encoder_block_{i}/attention/key", use_bias=False),
    Linear("encoder.block.{i}.layer.0.SelfAttention.v", "encoder_block_{i}/attention/value", use_bias=False),
    Linear("encoder.block.{i}.layer.0.SelfAttention.o", "encoder_block_{i}/attention/output", use_bias=False),
    Tensor("encoder.block.{i}.layer.0.layer_norm.weight", "encoder_block_{i}/attention_norm/scale"),
    Linear("encoder.block.{i}.layer.1.DenseReluDense.wo", "encoder_block_{i}/feed_forward/down", use_bias=False),
    Tensor("encoder.block.{i}.layer.1.layer_norm.weight", "encoder_block_{i}/feed_forward_norm/scale"),
    Tensor("encoder.final_layer_norm.weight", "encoder_norm/scale"),
    Tensor("decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "decoder_position/embeddings"),
    Linear("decoder.block.{j}.layer.0.SelfAttention.q", "decoder_block_{j}/attention/query", use_bias=False),
    Linear("decoder.block.{j}.layer.0.SelfAttention.k", "decoder_block_{j}/attention/key", use_bias=False),
    Linear("decoder.block.{j}.layer.0.SelfAttention.v", "decoder_block_{j}/attention/value", use_bias=False),
    Linear("decoder.block.{j}.layer.0.SelfAttention.o", "decoder_block_{j}/attention/output", use_bias=False),
    Tensor("decoder.block.{j}.layer.0.layer_norm.weight", "decoder_block_{j}/attention_norm/scale"),
    Linear("decoder.block.{j}.layer.1.EncDecAttention.q", "decoder_block_{j}/cross_attention/query", use_bias=False),
    Linear("decoder.block.{j}.layer.1.EncDecAttention.k", "decoder_block_{j}/cross_attention/key", use_bias=False),
    Linear("decoder.block.{j}.layer.1.EncDecAttention.v", "decoder_block_{j}/cross_attention/value", use_bias=False),
    Linear("decoder.block.{j}.layer.1.EncDecAttention.o", "decoder_block_{j}/cross_attention/output", use_bias=False),
    Tensor("decoder.block.{j}.layer.1.layer_norm.weight", "decoder_block_{j}/cross_attention_norm/scale"),
    Linear("decoder.block.{j}.layer.2.DenseReluDense.wo", "decoder_block_{j}/feed_forward/down", use_bias=False),
    Tensor("decoder.block.{j}.layer.2.layer_norm.weight", "decoder_block_{j}/feed_forward_norm/scale"),
    Tensor("decoder.final_layer_norm.weight", "decoder_norm/scale"),
    Ignore("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"),  # of old files; never used
)
T5_FEED_FORWARD = {  # by gated
    False: (Linear("encoder.block.{i}.layer.1.DenseReluDense.wi", "encoder_block_{i}/feed_forward/up", use_bias=False),
            Linear("decoder.block.{j}.layer.2.DenseReluDense.wi", "decoder_block_{j}/feed_forward/up", use_bias=False)),
    True: (
        Linear("encoder.block.{i}.layer.1.DenseReluDense.wi_0", "encoder_block_{i}/feed_forward/gate", use_bias=False),
        Linear("encoder.block.{i}.layer.1.DenseReluDense.wi_1", "encoder_block_{i}/feed_forward/up", use_bias=False),
        Linear("decoder.block.{j}.layer.2.DenseReluDense.wi_0", "decoder_block_{j}/feed_forward/gate", use_bias=False),
        Linear("decoder.block.{j}.layer.2.DenseReluDense.wi_1", "decoder_block_{j}/feed_forward/up", use_bias=False)),
}
T5_OUTPUT = {  # by tie_embeddings
    True: (Tied("lm_head.weight", "t5/token_embedding/embeddings"),),
    False: (Tensor("lm_head.weight", "t5/output_embedding/embeddings"),),
}

TASKS = ("translation", "summarization")
# model_type -> class of what computes and is stored as a T5; written as the first of them.
ARCHITECTURES = {"t5": "T5ForConditionalGeneration", "mt5": "MT5ForConditionalGeneration"}

T5_FIELDS = (
    # ours, Hugging Face's
    ("vocabulary_size", "vocab_size"),
    ("num_layers", "num_layers"),
    ("num_decoder_layers", "num_decoder_layers"),
    ("num_heads", "num_heads"),
    ("head_dim", "d_kv"),
    ("hidden_dim", "d_model"),
    ("intermediate_dim", "d_ff"),
    ("num_buckets", "relative_attention_num_buckets"),
    ("max_distance", "relative_attention_max_distance"),
    ("dropout", "dropout_rate"),
    ("layer_norm_epsilon", "layer_norm_epsilon"),
    ("initializer_factor", "initializer_factor"),
    ("pad_id", "pad_token_id"),
    ("eos_id", "eos_token_id"),
    ("decoder_start_id", "decoder_start_token_id"),
)
# feed_forward_proj -> activation and gated. "gated-gelu" means the tanh form; "gelu" alone is the exact one.
T5_PROJECTIONS = {
    "relu": ("relu", False), "gelu": ("gelu", False), "gelu_new": ("gelu_tanh", False), "silu": ("silu", False),
    "tanh": ("tanh", False), "gated-relu": ("relu", True), "gated-gelu": ("gelu_tanh", True),
    "gated-gelu_new": ("gelu_tanh", True), "gated-silu": ("silu", True), "gated-tanh": ("tanh", True),
}


def _t5_rows(config):
    return T5_WEIGHTS + T5_FEED_FORWARD[config.gated]


def _t5_head(config):
    return T5_OUTPUT[config.tie_embeddings]


def _read_t5(ours, theirs, tensors):
    kind = theirs.get("feed_forward_proj", "relu")
    if kind not in T5_PROJECTIONS:
        raise ValueError(f"`feed_forward_proj` in config.json is {kind!r}; supported are: {', '.join(T5_PROJECTIONS)}.")
    ours["activation"], ours["gated"] = T5_PROJECTIONS[kind]
    if ours.get("num_decoder_layers") == ours.get("num_layers"):
        ours["num_decoder_layers"] = None
    # transformers 5 writes true whatever the weights are, so where there are weights they decide.
    tied = theirs.get("tie_word_embeddings", True)
    own_output = not tied if tensors is None else _has_own_output(theirs, tied, tensors)
    ours["tie_embeddings"] = not own_output
    ours["scale_logits"] = theirs.get("scale_decoder_outputs", tied) and not own_output


def _read_mt5(ours, theirs, tensors):
    _read_t5(ours, theirs, tensors)
    ours["scale_logits"] = False  # as in T5 1.1; transformers 5 writes `tie_word_embeddings` as true all the same


def _has_own_output(theirs, tied, tensors):
    """Whether logits have a table of their own, or, of a file without any head, had one."""
    names = tensors.names()
    if "lm_head.weight" in names:
        return "shared.weight" not in names or not np.array_equal(tensors.read("lm_head.weight"),
                                                                  tensors.read("shared.weight"))
    return not tied and set(ARCHITECTURES.values()).isdisjoint(theirs.get("architectures") or ())


def _write_t5(theirs, config):
    refuse_pattern("t5", config)
    wanted = config.activation, config.gated
    kind = next((word for word, meaning in T5_PROJECTIONS.items() if meaning == wanted), None)
    if kind is None:
        raise ValueError(f"Hugging Face's 't5' has no word for `activation`={config.activation!r} with `gated`="
                         f"{config.gated}; keep it in the kzoo format.")
    if config.scale_logits and not config.tie_embeddings:
        raise ValueError("Hugging Face's 't5' has no room for `scale_logits`=True with `tie_embeddings`=False; keep it "
                         "in the kzoo format.")
    theirs.update(feed_forward_proj=kind, tie_word_embeddings=config.scale_logits,
                  num_decoder_layers=config.layer_counts()["j"])


register(Family(
    name="t5",
    config=T5Config,
    backbone=T5Backbone,
    presets=PRESETS,
    tasks=TASKS,
    layouts=tuple(Layout(
        model_type=kind,
        architectures=dict.fromkeys(TASKS, name),
        other_architectures={"T5WithLMHeadModel": TASKS[0]},
        prefix="",
        fields=T5_FIELDS,
        rows=_t5_rows,
        heads=dict.fromkeys(TASKS, _t5_head),
        constants={"is_encoder_decoder": True},
        read=_read_mt5 if kind == "mt5" else _read_t5,
        write=_write_t5,
    ) for kind, name in ARCHITECTURES.items()),
))
