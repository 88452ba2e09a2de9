"""The encoder-decoder Transformer of 2017, and Marian's variant of it.

Source: Vaswani et al. 2017, "Attention Is All You Need", section 3 (arXiv 1706.03762); Marian: Junczys-Dowmunt et al.
2018 (arXiv 1804.00344).
"""
import dataclasses
import math

import keras
import numpy as np
from keras import ops

from kzoo.config import Config
from kzoo.errors import unknown
from kzoo.hugging_face import Layout
from kzoo.layers import (
    Attention,
    Causal,
    Dropout,
    Everything,
    FeedForward,
    LayerNormalization,
    LearnedPositions,
    SinusoidalPositions,
    TokenEmbedding,
    TransformerBlock,
)
from kzoo.layers.blocks import PLACEMENTS
from kzoo.layers.feed_forward import get_activation
from kzoo.layers.part_names import check_pair, make_pattern
from kzoo.models.base import refuse_pattern
from kzoo.models.encoder_decoder import EncoderDecoder
from kzoo.registry import Family, Preset, register
from kzoo.weight_table import Ignore, Linear, Norm, Tensor, Tied

POSITIONS = ("sinusoidal", "sinusoidal_halves", "learned")


class StacksConfig(Config):
    """What configs of an encoder and a decoder of these fields have in common; see `TransformerConfig`."""

    def check_stacks(self, *more):
        """The sizes that both stacks have, `more` fields that are sizes, and probabilities."""
        for field in ("vocabulary_size", "num_layers", "num_decoder_layers", "num_heads", "num_decoder_heads",
                      "hidden_dim", "intermediate_dim", "decoder_intermediate_dim", "max_sequence_length", *more):
            value = getattr(self, field)
            self.require(value is None or value >= 1, field, "must be at least 1")
        for heads in (self.num_heads, self.num_decoder_heads or 1):
            self.require(self.hidden_dim % heads == 0, "hidden_dim", f"must be divisible by the number of heads "
                                                                     f"({heads})")
        for field in ("dropout", "attention_dropout", "activation_dropout"):
            self.require(0 <= getattr(self, field) < 1, field, "must be at least 0 and below 1")
        get_activation(self.activation)

    def layer_counts(self):
        return {"i": self.num_layers, "j": self.num_decoder_layers or self.num_layers}

    def key_value_shape(self):
        """(H, D) of a decoder layer's cache."""
        heads = self.num_decoder_heads or self.num_heads
        return heads, self.hidden_dim // heads


@dataclasses.dataclass(frozen=True)
class TransformerConfig(StacksConfig):
    """Sizes and switches of a Transformer with encoder and decoder.

    Attributes:
        vocabulary_size: V, of source and target.
        target_vocabulary_size: of the target, where it has ids of its own; None means the source's.
        num_layers, num_decoder_layers: of the encoder and the decoder; None for the latter means as many.
        num_heads, num_decoder_heads: H, divisors of hidden_dim; None for the latter means as many.
        hidden_dim: E.
        intermediate_dim, decoder_intermediate_dim: F of encoder and decoder; None for the latter means the same.
        max_sequence_length: longest source, and longest target, in tokens.
        dropout: probability of dropping in embeddings and branches, 0 to 1.
        attention_dropout: of dropping an attention weight.
        activation_dropout: of dropping a feature inside the feed-forward.
        activation: inside the feed-forward.
        norm_placement: "post" (2017) or "pre", which ends each stack with a norm of its own.
        layer_norm_epsilon: added to the variance.
        position: "sinusoidal" (2017), "sinusoidal_halves" (Marian: first all sines, then all cosines) or "learned".
        scale_embedding: multiply embeddings by sqrt(hidden_dim).
        share_embeddings: source and target have one table.
        tie_output: logits are read out with the target's table; False gives them one of their own.
        output_bias: an offset on the logits (Marian).
        initializer_range: standard deviation of fresh weights; None means 1 / sqrt(hidden_dim) for embeddings, and
            Glorot's uniform distribution for kernels, with half its variance for queries, keys and values: so fairseq
            begins, whose runs the published results of this family are.
        pad_id, eos_id, decoder_start_id: fills rows, ends them, and is what the decoder starts from.
        pattern: which pairs of tokens self-attention looks at, in encoder and decoder: "full", "blockwise" (the same in
            less memory), or with settings {"name": "block_local", "block_size": 64}, and so on; see docs/patterns.md.
            Attention to the source looks at all of it.
        gradient_checkpointing: in training, keep only the input of each block, and compute the rest once more.
    """
    vocabulary_size: int = 37000
    target_vocabulary_size: int | None = None
    num_layers: int = 6
    num_decoder_layers: int | None = None
    num_heads: int = 8
    num_decoder_heads: int | None = None
    hidden_dim: int = 512
    intermediate_dim: int = 2048
    decoder_intermediate_dim: int | None = None
    max_sequence_length: int = 1024
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    activation: str = "relu"
    norm_placement: str = "post"
    layer_norm_epsilon: float = 1e-5
    position: str = "sinusoidal"
    scale_embedding: bool = True
    share_embeddings: bool = True
    tie_output: bool = True
    output_bias: bool = False
    initializer_range: float | None = None
    pad_id: int = 0
    eos_id: int = 1
    decoder_start_id: int = 0
    pattern: str | dict = "full"
    gradient_checkpointing: bool = False

    def check(self):
        self.check_stacks("target_vocabulary_size")
        check_pair(self.pattern, "learned", Everything(), self.num_heads)
        check_pair(self.pattern, "learned", Causal(), self.num_decoder_heads or self.num_heads)
        self.require(self.layer_norm_epsilon > 0, "layer_norm_epsilon", "must be above 0")
        self.require(self.initializer_range is None or self.initializer_range > 0, "initializer_range",
                     "must be above 0, or None")
        for field, choices in (("norm_placement", PLACEMENTS), ("position", POSITIONS)):
            if getattr(self, field) not in choices:
                raise ValueError(unknown(field, getattr(self, field), choices))
        self.require(self.position == "learned" or self.hidden_dim % 2 == 0, "position",
                     f"needs an even `hidden_dim` ({self.hidden_dim})")
        self.require(not self.share_embeddings or self.target_vocabulary_size is None, "target_vocabulary_size",
                     "must be None with share_embeddings=True: both sides then have the same ids")
        sizes = {"pad_id": self.vocabulary_size, "eos_id": self.vocabulary_size}
        for field in ("pad_id", "eos_id", "decoder_start_id"):
            limit = min(self.target_size(), sizes.get(field, self.target_size()))
            self.require(0 <= getattr(self, field) < limit, field, f"must be an id below {limit}")

    def target_size(self):
        """V of the logits."""
        return self.target_vocabulary_size or self.vocabulary_size

    def stored_axes(self):
        return {"vocabulary_size": self.vocabulary_size, "hidden_dim": self.hidden_dim,
                "intermediate_dim": self.intermediate_dim}

    def generation_defaults(self):
        """Padding was never a target, so it is no answer; a row that reaches its last place ends there, as Marian's do.
        """
        banned = () if self.pad_id == self.eos_id else (self.pad_id,)
        return {"eos_token_id": self.eos_id, "suppress_tokens": banned, "forced_eos_token_id": self.eos_id}


@keras.saving.register_keras_serializable("kzoo")
class TransformerBackbone(EncoderDecoder):
    """Source (B, S) and target (B, T) token ids to the target's hidden states (B, T, E).

    Both stacks begin with h = sqrt(E) * embedding + position; an encoder layer is attention and feed-forward, a decoder
    layer has attention to the encoder's output between the two.
    """

    config_class = TransformerConfig

    def __init__(self, config, name="transformer", **kwargs):
        super().__init__(config, name=name, **kwargs)
        dtype = self.dtype_policy

        def embedding(name, size):
            return TokenEmbedding(size, config.hidden_dim, _embedding_initializer(config), name=name, dtype=dtype)

        if config.share_embeddings:
            self.source_embedding = self.target_embedding = embedding("token_embedding", config.vocabulary_size)
        else:
            self.source_embedding = embedding("source_embedding", config.vocabulary_size)
            self.target_embedding = embedding("target_embedding", config.target_size())
        self.output_embedding = self.target_embedding if config.tie_output else embedding("output_embedding",
                                                                                          config.target_size())
        self.encoder_position = self.make_position("encoder_position", config.max_sequence_length)
        self.decoder_position = self.make_position("decoder_position", config.max_sequence_length)
        self.dropout = Dropout(config.dropout, name="dropout", dtype=dtype)
        self.encoder_blocks = [self.make_encoder_block(i) for i in range(config.num_layers)]
        self.decoder_blocks = [self.make_decoder_block(i) for i in range(config.layer_counts()["j"])]
        self.encoder_norm = self.decoder_norm = None
        if config.norm_placement == "pre":
            self.encoder_norm, self.decoder_norm = (
                LayerNormalization(config.layer_norm_epsilon, name=name, dtype=dtype)
                for name in ("encoder_norm", "decoder_norm"))
        self.output_bias = None

    def make_position(self, name, length):
        """The layer that gives a stack's tokens, at most `length` of them, their positions."""
        config = self.config
        if config.position == "learned":
            return LearnedPositions(length, config.hidden_dim, _embedding_initializer(config), name=name,
                                    dtype=self.dtype_policy)
        return SinusoidalPositions(config.hidden_dim, config.position == "sinusoidal", name=name,
                                   dtype=self.dtype_policy)

    def make_encoder_block(self, i):
        """The encoder's layer i."""
        return make_block(self.config, f"encoder_block_{i}", self.dtype_policy,
                          pattern=make_pattern(self.config.pattern, i))

    def make_decoder_block(self, i):
        """The decoder's layer i."""
        return make_block(self.config, f"decoder_block_{i}", self.dtype_policy, decoder=True,
                          pattern=make_pattern(self.config.pattern, i))

    def build(self, input_shape=None):
        shape = (None, None, self.config.hidden_dim)
        for layer in (self.source_embedding, self.target_embedding, self.output_embedding, self.encoder_position,
                      self.decoder_position, *self.encoder_blocks, *self.decoder_blocks, self.encoder_norm,
                      self.decoder_norm):
            if layer is not None and not layer.built:
                layer.build(shape)
        if self.config.output_bias:
            self.output_bias = self.add_weight(name="output_bias", shape=(self.config.target_size(),),
                                               initializer="zeros")
        self.built = True

    @property
    def target_vocabulary_size(self):
        return self.config.target_size()

    def token_embeddings(self):
        return (self.source_embedding, self.target_embedding)

    def encode(self, token_ids, positions, training=None):
        x = self.embed(self.source_embedding, self.encoder_position, token_ids, positions)              # (B, S, E)
        x = self.dropout(x, training=training)
        x, _ = self.run_blocks(self.encoder_blocks, x, positions, training=training)
        return x if self.encoder_norm is None else self.encoder_norm(x)

    def decode(self, token_ids, positions, context, cache=None, training=None):
        x = self.embed(self.target_embedding, self.decoder_position, token_ids, positions)              # (B, T, E)
        x = self.dropout(x, training=training)
        x, cache = self.run_blocks(self.decoder_blocks, x, positions, cache, context, training)
        return x if self.decoder_norm is None else self.decoder_norm(x), cache

    def logits(self, hidden_states):
        logits = self.output_embedding.logits(hidden_states)                                            # (B, T, V)
        return logits if self.output_bias is None else logits + ops.cast(self.output_bias, "float32")

    def embed(self, embedding, position, token_ids, positions):
        """What a stack begins with: tokens and their positions, by the layers for them."""
        x = embedding(token_ids)
        if self.config.scale_embedding:
            x = x * math.sqrt(self.config.hidden_dim)
        return x + position(positions.token)


def _embedding_initializer(config):
    return keras.initializers.RandomNormal(stddev=config.initializer_range or config.hidden_dim ** -0.5)


def make_block(config, name, dtype, decoder=False, kind=Attention, **parts):
    """A layer of a stack; a family may give it self-attention of another kind, or with other parts."""
    heads, inner = config.num_heads, config.intermediate_dim
    if decoder:
        heads, inner = config.num_decoder_heads or heads, config.decoder_intermediate_dim or inner
    kernel = "glorot_uniform"
    projection = keras.initializers.VarianceScaling(0.5, "fan_avg", "uniform")  # of queries, keys and values
    if config.initializer_range is not None:
        kernel = projection = keras.initializers.RandomNormal(stddev=config.initializer_range)

    def attention(name, mask, kind=Attention, **parts):
        return kind(heads, config.hidden_dim // heads, mask=mask, dropout=config.attention_dropout,
                    kernel_initializer=projection, output_initializer=kernel, name=name, dtype=dtype, **parts)

    def norm(name):
        return LayerNormalization(config.layer_norm_epsilon, name=name, dtype=dtype)

    return TransformerBlock(
        attention("attention", Causal() if decoder else Everything(), kind, **parts),
        FeedForward(inner, config.hidden_dim, config.activation, dropout=config.activation_dropout,
                    kernel_initializer=kernel, output_initializer=kernel, name="feed_forward", dtype=dtype),
        norm("attention_norm"), norm("feed_forward_norm"), placement=config.norm_placement, dropout=config.dropout,
        cross_attention=attention("cross_attention", Everything()) if decoder else None,
        cross_attention_norm=norm("cross_attention_norm") if decoder else None, name=name, dtype=dtype)


PAPER = "Vaswani et al. 2017, table 3"
PRESETS = {
    "transformer-tiny": Preset(
        TransformerConfig(vocabulary_size=9712, num_layers=4, num_heads=4, hidden_dim=128, intermediate_dim=256,
                          dropout=0.3),
        2_568_192, "Wu et al. 2021 (arXiv 2105.14462), the Multi30k setting"),
    "transformer-base": Preset(TransformerConfig(), 63_082_496, PAPER),
    "transformer-big": Preset(
        TransformerConfig(num_heads=16, hidden_dim=1024, intermediate_dim=4096, dropout=0.3), 214_245_376, PAPER),
    "marian-base": Preset(
        TransformerConfig(vocabulary_size=58101, max_sequence_length=512, activation="silu",
                          position="sinusoidal_halves", output_bias=True, initializer_range=0.02, pad_id=58100,
                          eos_id=0, decoder_start_id=58100),
        73_944_309, "Helsinki-NLP/opus-mt-en-de, config.json"),
}

# Hugging Face's names (left) and ours.
MARIAN_LAYERS = (
    Linear("encoder.layers.{i}.self_attn.q_proj", "encoder_block_{i}/attention/query"),
    Linear("encoder.layers.{i}.self_attn.k_proj", "encoder_block_{i}/attention/key"),
    Linear("encoder.layers.{i}.self_attn.v_proj", "encoder_block_{i}/attention/value"),
    Linear("encoder.layers.{i}.self_attn.out_proj", "encoder_block_{i}/attention/output"),
    Norm("encoder.layers.{i}.self_attn_layer_norm", "encoder_block_{i}/attention_norm"),
    Linear("encoder.layers.{i}.fc1", "encoder_block_{i}/feed_forward/up"),
    Linear("encoder.layers.{i}.fc2", "encoder_block_{i}/feed_forward/down"),
    Norm("encoder.layers.{i}.final_layer_norm", "encoder_block_{i}/feed_forward_norm"),
    Linear("decoder.layers.{j}.self_attn.q_proj", "decoder_block_{j}/attention/query"),
    Linear("decoder.layers.{j}.self_attn.k_proj", "decoder_block_{j}/attention/key"),
    Linear("decoder.layers.{j}.self_attn.v_proj", "decoder_block_{j}/attention/value"),
    Linear("decoder.layers.{j}.self_attn.out_proj", "decoder_block_{j}/attention/output"),
    Norm("decoder.layers.{j}.self_attn_layer_norm", "decoder_block_{j}/attention_norm"),
    Linear("decoder.layers.{j}.encoder_attn.q_proj", "decoder_block_{j}/cross_attention/query"),
    Linear("decoder.layers.{j}.encoder_attn.k_proj", "decoder_block_{j}/cross_attention/key"),
    Linear("decoder.layers.{j}.encoder_attn.v_proj", "decoder_block_{j}/cross_attention/value"),
    Linear("decoder.layers.{j}.encoder_attn.out_proj", "decoder_block_{j}/cross_attention/output"),
    Norm("decoder.layers.{j}.encoder_attn_layer_norm", "decoder_block_{j}/cross_attention_norm"),
    Linear("decoder.layers.{j}.fc1", "decoder_block_{j}/feed_forward/up"),
    Linear("decoder.layers.{j}.fc2", "decoder_block_{j}/feed_forward/down"),
    Norm("decoder.layers.{j}.final_layer_norm", "decoder_block_{j}/feed_forward_norm"),
    Ignore("encoder.embed_positions.weight"),  # sinusoids, which `_read_marian` checks
    Ignore("decoder.embed_positions.weight"),
)
MARIAN_EMBEDDINGS = (  # Hugging Face's names and ours, of two tables
    ("encoder.embed_tokens.weight", "source_embedding/embeddings"),
    ("decoder.embed_tokens.weight", "target_embedding/embeddings"),
)

MARIAN_FIELDS = (
    # ours, Hugging Face's
    ("vocabulary_size", "vocab_size"),
    ("num_layers", "encoder_layers"),
    ("num_heads", "encoder_attention_heads"),
    ("hidden_dim", "d_model"),
    ("intermediate_dim", "encoder_ffn_dim"),
    ("max_sequence_length", "max_position_embeddings"),
    ("dropout", "dropout"),
    ("attention_dropout", "attention_dropout"),
    ("activation_dropout", "activation_dropout"),
    ("activation", "activation_function"),
    ("scale_embedding", "scale_embedding"),
    ("share_embeddings", "share_encoder_decoder_embeddings"),
    ("tie_output", "tie_word_embeddings"),
    ("pad_id", "pad_token_id"),
    ("eos_id", "eos_token_id"),
)
DECODER_FIELDS = (
    # ours, the encoder's that it repeats when None, Hugging Face's
    ("num_decoder_layers", "num_layers", "decoder_layers"),
    ("num_decoder_heads", "num_heads", "decoder_attention_heads"),
    ("decoder_intermediate_dim", "intermediate_dim", "decoder_ffn_dim"),
)
TARGET_FIELD = ("target_vocabulary_size", "vocabulary_size", "decoder_vocab_size")
MARIAN_ONLY = {"norm_placement": "post", "position": "sinusoidal_halves", "layer_norm_epsilon": 1e-5}
MARIAN_BIAS = "final_logits_bias"
MARIAN_REFUSED = ("normalize_before", "normalize_embedding", "add_final_layer_norm")


def _marian_rows(config):
    if not config.share_embeddings:
        return (*(Tensor(stored, variable) for stored, variable in MARIAN_EMBEDDINGS), *MARIAN_LAYERS)
    shared = "token_embedding/embeddings"
    # transformers 5 ties no tables at all where the logits have one of their own: it must find each in the file.
    return (Tensor("shared.weight", shared),
            *(Tied(stored, shared, written=not config.tie_output) for stored, _ in MARIAN_EMBEDDINGS), *MARIAN_LAYERS)


def _marian_head(config):
    target = "token_embedding" if config.share_embeddings else "target_embedding"
    output = (Tied("lm_head.weight", f"transformer/{target}/embeddings") if config.tie_output
              else Tensor("lm_head.weight", "transformer/output_embedding/embeddings"))
    bias = (Tensor(MARIAN_BIAS, "transformer/output_bias", extra_axes=1),)
    return (output, *bias) if config.output_bias else (output,)


def read_decoder_fields(ours, theirs, rows):
    """What their decoder's fields say, None where that is what the encoder's say."""
    for name, repeats, their_name in rows:
        value = theirs.get(their_name)
        ours[name] = None if value == ours.get(repeats) else value


def write_decoder_fields(theirs, config, rows):
    """The inverse of `read_decoder_fields`."""
    for name, repeats, their_name in rows:
        value = getattr(config, name)
        theirs[their_name] = getattr(config, repeats) if value is None else value


def _read_marian(ours, theirs, tensors):
    for name in MARIAN_REFUSED:
        if theirs.get(name):
            raise ValueError(f"`{name}` in config.json is {theirs[name]!r}; supported is only false.")
    # Their class always has the bias; `output_bias` is what `_write_marian` says of a model without.
    biased = theirs.get("output_bias") is not False or (tensors is not None and MARIAN_BIAS in tensors.names())
    ours.update(MARIAN_ONLY, initializer_range=theirs.get("init_std", 0.02), output_bias=biased)
    ours.setdefault("scale_embedding", False)
    read_decoder_fields(ours, theirs, (*DECODER_FIELDS, TARGET_FIELD))
    start = theirs.get("decoder_start_token_id")
    start = ours.get("pad_id") if start is None else start
    ours.update({} if start is None else {"decoder_start_id": start})
    for name in () if tensors is None else tensors.names():
        if name.endswith("embed_positions.weight"):
            _check_sinusoids(name, tensors)


def _check_sinusoids(name, tensors):
    """Positions are computed; a file that stores them must store the same."""
    count, width = tensors.shape(name)
    expected = SinusoidalPositions(width, interleaved=False)(np.arange(count, dtype="int32")[None])
    if np.abs(np.asarray(expected)[0] - tensors.read(name)).max() > 2e-3:  # the file may be float16
        raise ValueError(f"{tensors.where(name)}: tensor {name!r} differs from the sinusoids that Marian computes; "
                         "trained positions are not supported here.")


def _write_marian(theirs, config):
    refuse_pattern("marian", config)
    for name, value in MARIAN_ONLY.items():
        if getattr(config, name) != value:
            raise ValueError(f"Hugging Face's 'marian' has no room for `{name}`={getattr(config, name)!r}; keep it in "
                             "the kzoo format.")
    write_decoder_fields(theirs, config, (*DECODER_FIELDS, TARGET_FIELD))
    theirs["decoder_start_token_id"] = config.decoder_start_id
    options = config.generation_defaults()
    theirs.update(init_std=config.initializer_range or 0.02, num_hidden_layers=config.num_layers,
                  bad_words_ids=[[token_id] for token_id in options["suppress_tokens"]] or None,
                  forced_eos_token_id=options["forced_eos_token_id"],
                  **({} if config.output_bias else {"output_bias": False}))


TASKS = ("translation", "summarization")

register(Family(
    name="transformer",
    config=TransformerConfig,
    backbone=TransformerBackbone,
    presets=PRESETS,
    tasks=TASKS,
    layouts=(Layout(
        model_type="marian",
        architectures=dict.fromkeys(TASKS, "MarianMTModel"),
        prefix="model.",
        fields=MARIAN_FIELDS,
        rows=_marian_rows,
        heads=dict.fromkeys(TASKS, _marian_head),
        values={"activation": {"swish": "silu", "silu": "silu", "relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh",
                               "tanh": "tanh"}},
        constants={"is_encoder_decoder": True, "static_position_embeddings": True},
        read=_read_marian,
        write=_write_marian,
    ),),
))
