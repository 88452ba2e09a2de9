"""Reformer: attention among hash buckets and in local blocks, reversible layers, axial positions.

Source: Kitaev et al. 2020, "Reformer: The Efficient Transformer" (arXiv 2001.04451).
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
    AxialPositions,
    Causal,
    CircularBlocks,
    Dropout,
    Everything,
    FeedForward,
    GrowingCache,
    LayerNormalization,
    LearnedPositions,
    LSHAttention,
    Positions,
    ReversibleBlock,
    ReversibleStack,
    StaticCache,
    TokenEmbedding,
)
from kzoo.layers.feed_forward import get_activation
from kzoo.layers.lsh import bucket_sizes, take_rows
from kzoo.models.base import Backbone, check_length
from kzoo.registry import Family, Preset, register
from kzoo.weight_table import Linear, Norm, Tensor, Tied, Unstored

KINDS = ("local", "lsh")


@dataclasses.dataclass(frozen=True)
class ReformerConfig(Config):
    """Sizes and switches of a Reformer.

    Attributes:
        vocabulary_size: V.
        num_layers: L.
        attention_layers: kinds of attention, "local" or "lsh", one layer after another, from the start again where
            there are more layers.
        num_heads: H.
        head_dim: D; H * D need not be hidden_dim.
        hidden_dim: E, of each of the two streams; hidden states are 2 * E wide.
        intermediate_dim: F.
        max_sequence_length: longest input, in tokens.
        causal: a token attends to none that follow. The task decides it.
        num_hashes: R, rounds of hashing; more are more exact and cost as many times more.
        num_buckets: even, or two even numbers whose product is meant; None derives them from the longest input.
        hash_seed: of the rotations.
        lsh_chunk_length: tokens in a chunk of sorted tokens; up to this length attention is full.
        lsh_chunks_before, lsh_chunks_after: neighbours that a chunk attends to.
        count_once: a key that a query meets in several rounds counts once, see `kzoo.layers.lsh.lsh_attention`.
        local_chunk_length, local_chunks_before, local_chunks_after: the same of blocks in local layers.
        axial_shape: (n1, n2), with n1 * n2 at least max_sequence_length; None for one vector a position.
        axial_dims: (d1, d2), which add up to hidden_dim; None where `axial_shape` is.
        axial_range: standard deviation of fresh axial positions.
        fixed_length: rows of every length are filled up to the longest: answers then do not depend on how far a batch
            is padded, files can be exported, and every row takes the time of the longest.
        reversible: training recomputes what lies between layers instead of keeping it; see `ReversibleStack`.
        feed_forward_chunk_size: tokens that go through a feed-forward network at a time; None for all.
        dropout: probability of dropping in embeddings, both branches, and hidden states, 0 to 1.
        lsh_attention_dropout, local_attention_dropout: of attention weights.
        classifier_dropout: before the last layer of a classifier; None means `dropout`. The authors' code has another
            one before the layer with `classifier_activation`.
        activation: inside the feed-forward.
        classifier_activation: of the first layer of a text classifier.
        layer_norm_epsilon: added to the variance.
        initializer_range: standard deviation of fresh weights.
    """
    vocabulary_size: int = 320
    num_layers: int = 6
    attention_layers: tuple[str, ...] = KINDS
    num_heads: int = 12
    head_dim: int = 64
    hidden_dim: int = 256
    intermediate_dim: int = 512
    max_sequence_length: int = 4096
    causal: bool = False
    num_hashes: int = 1
    num_buckets: int | tuple[int, ...] | None = None
    hash_seed: int = 0
    lsh_chunk_length: int = 64
    lsh_chunks_before: int = 1
    lsh_chunks_after: int = 0
    count_once: bool = False
    local_chunk_length: int = 64
    local_chunks_before: int = 1
    local_chunks_after: int = 0
    axial_shape: tuple[int, ...] | None = (64, 64)
    axial_dims: tuple[int, ...] | None = (64, 192)
    axial_range: float = 1.0
    fixed_length: bool = False
    reversible: bool = True
    feed_forward_chunk_size: int | None = None
    dropout: float = 0.05
    lsh_attention_dropout: float = 0.0
    local_attention_dropout: float = 0.05
    classifier_dropout: float | None = None
    activation: str = "relu"
    classifier_activation: str = "tanh"
    layer_norm_epsilon: float = 1e-12
    initializer_range: float = 0.02

    def check(self):
        for field in ("vocabulary_size", "num_layers", "num_heads", "head_dim", "hidden_dim", "intermediate_dim",
                      "max_sequence_length", "num_hashes", "lsh_chunk_length", "local_chunk_length",
                      "feed_forward_chunk_size"):
            value = getattr(self, field)
            self.require(value is None or value >= 1, field, "must be at least 1")
        for field in ("hash_seed", "lsh_chunks_before", "lsh_chunks_after", "local_chunks_before",
                      "local_chunks_after"):
            self.require(getattr(self, field) >= 0, field, "must be at least 0")
        for field in ("lsh_chunks_after", "local_chunks_after"):
            self.require(not self.causal or getattr(self, field) == 0, field, "must be 0 where `causal` is true")
        for field in ("dropout", "lsh_attention_dropout", "local_attention_dropout", "classifier_dropout"):
            self.require(getattr(self, field) is None or 0 <= getattr(self, field) < 1, field,
                         "must be at least 0 and below 1")
        for field in ("axial_range", "layer_norm_epsilon", "initializer_range"):
            self.require(getattr(self, field) > 0, field, "must be above 0")
        self.require(self.attention_layers, "attention_layers", "must name at least one kind")
        for kind in self.attention_layers:
            if kind not in KINDS:
                raise ValueError(unknown("kind of attention", kind, KINDS))
        self._check_axes()
        bucket_sizes(self.buckets())
        get_activation(self.activation)
        get_activation(self.classifier_activation)

    def _check_axes(self):
        shape, dims = self.axial_shape, self.axial_dims
        self.require((shape is None) == (dims is None), "axial_dims", "must be given if and only if `axial_shape` is")
        if shape is None:
            return
        for field in ("axial_shape", "axial_dims"):
            value = getattr(self, field)
            self.require(len(value) == 2 and min(value) >= 1, field, "must be two numbers of at least 1")
        self.require(math.prod(shape) >= self.max_sequence_length, "axial_shape",
                     f"must have a place for `max_sequence_length` ({self.max_sequence_length}) tokens")
        self.require(sum(dims) == self.hidden_dim, "axial_dims", f"must add up to `hidden_dim` ({self.hidden_dim})")

    def kinds(self):
        """The kind of attention of every layer."""
        return tuple(self.attention_layers[i % len(self.attention_layers)] for i in range(self.num_layers))

    def chunk_lengths(self):
        """Those of the kinds that there are."""
        lengths = {"local": self.local_chunk_length, "lsh": self.lsh_chunk_length}
        return tuple(lengths[kind] for kind in KINDS if kind in self.kinds())

    def padded_length(self, length):
        """What a row of `length` tokens is filled up to: a multiple of every chunk, unless it is within one.

        Raises: ValueError where the length is None, not known while tracing, and not always the same.
        """
        if length is None and not self.fixed_length:
            raise ValueError("A Reformer needs `token_ids` of a length that is known when the model is traced: chunks "
                             "are cut from it. Pad rows to one of a few lengths, or set `fixed_length`.")
        if self.fixed_length:
            length = max(length or 0, self.max_sequence_length)
        if length <= min(self.chunk_lengths()):
            return length
        return -(-length // math.lcm(*self.chunk_lengths())) * math.lcm(*self.chunk_lengths())

    def buckets(self):
        """`num_buckets`; where it is None, a power of two near 2 T / chunk for the longest T, in two factors if it is
        large, as the authors' code has it."""
        if self.num_buckets is not None:
            return self.num_buckets
        chunks = self.max_sequence_length // self.lsh_chunk_length
        power = max((2 * chunks).bit_length() - 1, 1)
        if 2 ** power <= 2 * max(math.isqrt(chunks), self.lsh_chunk_length):
            return 2 ** power
        return 2 ** (power // 2), 2 ** (power - power // 2)

    def stored_axes(self):
        axes = {"vocabulary_size": self.vocabulary_size, "hidden_dim": self.hidden_dim,
                "intermediate_dim": self.intermediate_dim}
        if self.axial_shape is None:
            return {**axes, "max_sequence_length": self.max_sequence_length}
        return {**axes, "axial_shape": max(self.axial_shape)}

    def key_value_shape(self):
        """Of what is cached: a token's id."""
        return 1, 1


@keras.saving.register_keras_serializable("kzoo")
class ReformerBackbone(Backbone):
    """Token ids (B, T) to hidden states (B, T, 2 E).

    x1 = x2 = embedding + position; per block x1 += attention(norm(x2)), x2 += feed_forward(norm(x1)); last a norm over
    both.

    Rows are filled up to a multiple of the chunks, and what is added is cut off again. Padding is moved to the end of
    the row while it is computed, so that it makes no difference on which side it stands. To how many tokens a row is
    filled up does: sorted tokens meet other neighbours (`fixed_length` in the config makes it always the same). Nor is
    a causal model quite blind to what follows: no token sees a later one, but the buckets of later ones have a part in
    which earlier ones meet.

    That is why nothing but the ids of earlier tokens is cached: every step reads all of them again.

    Inputs: dict with `token_ids` (B, T) int32, T known when the model is traced, optionally `padding_mask` (B, T) bool
    and `positions`.
    """

    config_class = ReformerConfig

    def __init__(self, config, name="reformer", **kwargs):
        super().__init__(config, name=name, **kwargs)
        dtype = self.dtype_policy
        self.token_embedding = TokenEmbedding(
            config.vocabulary_size, config.hidden_dim, _normal(config), name="token_embedding", dtype=dtype)
        if config.axial_shape is None:
            self.position_embedding = LearnedPositions(
                config.max_sequence_length, config.hidden_dim, _normal(config), name="position_embedding", dtype=dtype)
        else:
            self.position_embedding = AxialPositions(
                config.axial_shape, config.axial_dims, keras.initializers.RandomNormal(stddev=config.axial_range),
                name="position_embedding", dtype=dtype)

        def dropout(name):
            return Dropout(config.dropout, name=name, dtype=dtype)

        def norm(name):
            return LayerNormalization(config.layer_norm_epsilon, name=name, dtype=dtype)

        self.dropout, self.position_dropout = dropout("dropout"), dropout("position_dropout")
        self.stack = ReversibleStack([
            ReversibleBlock(
                _attention(config, i, kind, dtype),
                FeedForward(config.intermediate_dim, config.hidden_dim, config.activation, dropout=config.dropout,
                            kernel_initializer=_normal(config), output_initializer=_normal(config),
                            chunk_size=config.feed_forward_chunk_size, name="feed_forward", dtype=dtype),
                norm("attention_norm"), norm("feed_forward_norm"), dropout=config.dropout, name=f"block_{i}",
                dtype=dtype)
            for i, kind in enumerate(config.kinds())], config.reversible, name="stack", dtype=dtype)
        self.final_norm = norm("final_norm")
        self.final_dropout = dropout("final_dropout")

    @property
    def output_dim(self):
        return 2 * self.config.hidden_dim

    def make_output_layer(self):
        return keras.layers.Dense(self.config.vocabulary_size, kernel_initializer=_normal(self.config),
                                  name="output_layer", dtype=self.dtype_policy)

    def build(self, input_shape=None):
        self.token_embedding.build(None)
        self.position_embedding.build(None)
        self.stack.build((None, None, self.config.hidden_dim))
        self.final_norm.build((None, None, self.output_dim))
        self.built = True

    def forward(self, inputs, cache=None, training=None):
        token_ids, mask, positions = (inputs.get(name) for name in ("token_ids", "padding_mask", "positions"))
        if cache is None:
            check_length(token_ids, self.config.max_sequence_length)
            return self._states(token_ids, mask, positions, training), None
        if positions is not None:
            raise ValueError("`positions` cannot be given with a cache: earlier tokens are read again, in their order.")
        length, start = token_ids.shape[1], cache[0].index
        ids = ops.expand_dims(ops.expand_dims(token_ids, 2), 3)
        ids, _, own = cache[0].append(ids, ids)                                             # (B, S, 1, 1)
        size = ids.shape[1]
        if isinstance(own, StaticCache):  # slots that are free are padding
            taken = ops.expand_dims(np.arange(size, dtype="int32"), 0) < own.index
            mask = taken if mask is None else mask & taken
        states = self._states(ids[:, :, 0, 0], mask, None, training)
        return ops.take(states, start + np.arange(length, dtype="int32"), axis=1), (own,)

    def _states(self, token_ids, mask, positions, training):
        """(B, T, 2 E) of whole rows."""
        size = self.config.padded_length(token_ids.shape[1])
        whole = token_ids.shape[1] == size
        length = ops.shape(token_ids)[1]  # maybe a tensor
        if not whole:
            taken = ops.expand_dims(np.arange(size, dtype="int32") < length, 0)
            token_ids = _filled_up(token_ids, size)
            mask = taken if mask is None else taken & (_filled_up(ops.cast(mask, "int32"), size) > 0)
            positions = None if positions is None else _filled_up(positions, size)
        number = np.arange(size, dtype="int32").reshape(1, -1)
        back = None
        if mask is not None:
            mask = ops.broadcast_to(mask, ops.shape(token_ids))
            # Real tokens first, in their order.
            order = ops.cast(ops.argsort(ops.where(mask, number, number + size), axis=-1), "int32")
            back = ops.cast(ops.argsort(order, axis=-1), "int32")
            token_ids = _arranged(token_ids, order)
            mask = number < ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)
            if positions is not None:
                positions = _arranged(ops.broadcast_to(positions, ops.shape(token_ids)), order)
        # Padding may reach beyond the last position that there is a vector for.
        positions = ops.minimum(number if positions is None else positions, self.config.max_sequence_length - 1)
        x = self.dropout(self.token_embedding(token_ids), training=training)                # (B, N, E)
        x = x + self.position_dropout(self.position_embedding(positions), training=training)
        x = self.stack(x, Positions(number, number, number, mask), training=training)       # (B, N, 2 E)
        x = self.final_norm(x)
        if back is not None:
            x = _arranged(x, back)
        return self.final_dropout(x if whole else x[:, :length], training=training)

    def export_obstacle(self):
        if self.config.causal:
            return ("A Reformer that generates cannot be exported: each token decides anew which earlier ones meet, "
                    "and there are no keys and values for a file to hand on. Generate with the live model.")
        if not self.config.fixed_length:
            return ("A Reformer's answers depend on how far its rows are filled up, and files do that otherwise than "
                    "the model; make it with fixed_length=True to export it.")
        return None

    def num_cached_layers(self):
        return 1

    def empty_cache(self, batch_size, capacity=None):
        """The ids of no token, in the place of keys and of values, which a Reformer has to compute again."""
        if capacity is None:
            return (GrowingCache.empty(batch_size, 1, 1, "int32"),)
        return (StaticCache.empty(batch_size, capacity, 1, 1, "int32"),)


def _arranged(x, order):
    """(B, T) or (B, T, E), each row by its row of the order (B, T)."""
    rows = ops.reshape(x, (-1, 1, order.shape[1], x.shape[2] if len(x.shape) == 3 else 1))
    taken = take_rows(rows, ops.expand_dims(ops.expand_dims(order, 1), 1))                  # (B, 1, 1, T, E)
    return ops.reshape(taken, (-1, *x.shape[1:]))


def _filled_up(x, size):
    """int32 (B, T) -> (B, size), with zeros on the right; T may be known only when the model runs."""
    if isinstance(x.shape[1], int):
        return ops.pad(x, ((0, 0), (0, size - x.shape[1])))
    zeros = ops.repeat(ops.zeros_like(x[:, :1]), size, axis=1)
    return ops.reshape(ops.concatenate([x, zeros], axis=1)[:, :size], (-1, size))


def _normal(config):
    return keras.initializers.RandomNormal(stddev=config.initializer_range)


def _attention(config, layer, kind, dtype):
    mask = Causal() if config.causal else Everything()
    if kind == "lsh":
        return LSHAttention(
            config.num_heads, config.head_dim, config.hidden_dim, config.buckets(), config.num_hashes,
            config.lsh_chunk_length, config.lsh_chunks_before, config.lsh_chunks_after, mask, config.count_once,
            config.lsh_attention_dropout, seed=(config.hash_seed, layer), kernel_initializer=_normal(config),
            name="attention", dtype=dtype)
    pattern = CircularBlocks(config.local_chunk_length, config.local_chunks_before, config.local_chunks_after)
    return Attention(config.num_heads, config.head_dim, config.hidden_dim, mask=mask, pattern=pattern,
                     dropout=config.local_attention_dropout, use_bias=False, kernel_initializer=_normal(config),
                     output_initializer=_normal(config), name="attention", dtype=dtype)


PRESETS = {
    "reformer-nano": Preset(ReformerConfig(
        vocabulary_size=256, num_layers=4, num_heads=2, head_dim=32, hidden_dim=128, intermediate_dim=256,
        max_sequence_length=1024, num_hashes=2, num_buckets=32, lsh_chunk_length=32, local_chunk_length=32,
        axial_shape=(32, 32), axial_dims=(64, 64), dropout=0.0, local_attention_dropout=0.0), 483_584,
        "a small form of the defaults, for CPUs"),
    "reformer-enwik8": Preset(ReformerConfig(
        vocabulary_size=258, num_layers=12, attention_layers=("local", "local", "lsh", "local"), num_heads=8,
        head_dim=128, hidden_dim=1024, intermediate_dim=4096, max_sequence_length=65536, num_hashes=4, num_buckets=512,
        lsh_chunk_length=256, local_chunk_length=128, axial_shape=(128, 512), axial_dims=(256, 768), dropout=0.2,
        lsh_attention_dropout=0.1, local_attention_dropout=0.2), 149_182_722,
        "Kitaev et al. 2020, section 5; google/reformer-enwik8"),
}

# Hugging Face's names (left) and ours; a Linear stores [out, in].
BLOCK, STORED = "stack/block_{i}", "encoder.layers.{i}"
REFORMER_WEIGHTS = (
    Tensor("embeddings.word_embeddings.weight", "token_embedding/embeddings"),
    Tensor("embeddings.position_embeddings.weights.0", "position_embedding/first"),
    Tensor("embeddings.position_embeddings.weights.1", "position_embedding/second"),
    Tensor("embeddings.position_embeddings.embedding.weight", "position_embedding/embeddings"),
    Norm(f"{STORED}.attention.layer_norm", f"{BLOCK}/attention_norm"),
    *(Linear(f"{STORED}.attention.self_attention.{name}", f"{BLOCK}/attention/{name}", use_bias=False)
      for name in ("query_key", "query", "key", "value")),
    Linear(f"{STORED}.attention.output.dense", f"{BLOCK}/attention/output", use_bias=False),
    Norm(f"{STORED}.feed_forward.layer_norm", f"{BLOCK}/feed_forward_norm"),
    Linear(f"{STORED}.feed_forward.dense.dense", f"{BLOCK}/feed_forward/up"),
    Linear(f"{STORED}.feed_forward.output.dense", f"{BLOCK}/feed_forward/down"),
    Norm("encoder.layer_norm", "final_norm"),
    Unstored(f"{BLOCK}/attention/rotations"),  # drawn there at each call, here from the seed
)
LANGUAGE_MODEL = (Linear("lm_head.decoder", "output_layer", use_bias=False),
                  Tensor("lm_head.bias", "output_layer/bias"), Tied("lm_head.decoder.bias", "output_layer/bias"))
REFORMER_HEADS = {
    "text-generation": LANGUAGE_MODEL,
    "fill-mask": LANGUAGE_MODEL,
    "text-classification": (Linear("classifier.dense", "pooler"), Linear("classifier.out_proj", "classifier")),
    "question-answering": (Linear("qa_outputs", "span_classifier"),),
}
REFORMER_FIELDS = (
    # ours, Hugging Face's
    ("vocabulary_size", "vocab_size"),
    ("num_heads", "num_attention_heads"),
    ("head_dim", "attention_head_size"),
    ("hidden_dim", "hidden_size"),
    ("intermediate_dim", "feed_forward_size"),
    ("max_sequence_length", "max_position_embeddings"),
    ("causal", "is_decoder"),
    ("num_hashes", "num_hashes"),
    ("num_buckets", "num_buckets"),
    ("hash_seed", "hash_seed"),
    ("lsh_chunk_length", "lsh_attn_chunk_length"),
    ("lsh_chunks_before", "lsh_num_chunks_before"),
    ("lsh_chunks_after", "lsh_num_chunks_after"),
    ("local_chunk_length", "local_attn_chunk_length"),
    ("local_chunks_before", "local_num_chunks_before"),
    ("local_chunks_after", "local_num_chunks_after"),
    ("axial_shape", "axial_pos_shape"),
    ("axial_dims", "axial_pos_embds_dim"),
    ("axial_range", "axial_norm_std"),
    ("feed_forward_chunk_size", "chunk_size_feed_forward"),
    ("dropout", "hidden_dropout_prob"),
    ("lsh_attention_dropout", "lsh_attention_probs_dropout_prob"),
    ("local_attention_dropout", "local_attention_probs_dropout_prob"),
    ("classifier_dropout", "classifier_dropout"),
    ("activation", "hidden_act"),
    ("layer_norm_epsilon", "layer_norm_eps"),
    ("initializer_range", "initializer_range"),
)


def _read(ours, theirs, tensors):
    layers = theirs.get("attn_layers", list(KINDS) * 3)
    if not isinstance(layers, list) or not layers:
        raise ValueError(f"`attn_layers` in config.json must be a list of kinds. Received: {layers!r}.")
    ours["num_layers"] = len(layers)
    # As few as say the same.
    ours["attention_layers"] = next(tuple(layers[:n]) for n in range(1, len(layers) + 1)
                                    if all(kind == layers[i % n] for i, kind in enumerate(layers)))
    if ours.get("hash_seed") is None:
        ours.pop("hash_seed", None)
    ours["feed_forward_chunk_size"] = ours.get("feed_forward_chunk_size") or None
    if theirs.get("axial_pos_embds") is False:
        ours["axial_shape"] = ours["axial_dims"] = None


def _write(theirs, config):
    theirs["attn_layers"] = list(config.kinds())
    theirs["chunk_size_feed_forward"] = config.feed_forward_chunk_size or 0
    theirs["axial_pos_embds"] = config.axial_shape is not None
    theirs["pad_token_id"] = 0  # their class fills rows up with it, and does not go without
    if config.axial_shape is None:
        del theirs["axial_pos_shape"], theirs["axial_pos_embds_dim"]


register(Family(
    name="reformer",
    config=ReformerConfig,
    backbone=ReformerBackbone,
    presets=PRESETS,
    tasks=("text-generation", "fill-mask", "text-classification", "question-answering"),
    layouts=(Layout(
        model_type="reformer",
        architectures={"text-generation": "ReformerModelWithLMHead", "fill-mask": "ReformerForMaskedLM",
                       "text-classification": "ReformerForSequenceClassification",
                       "question-answering": "ReformerForQuestionAnswering"},
        prefix="reformer.",
        fields=REFORMER_FIELDS,
        rows=REFORMER_WEIGHTS,
        heads=REFORMER_HEADS,
        values={"activation": {"relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh", "silu": "silu",
                               "swish": "silu", "tanh": "tanh"}},
        fixed={"count_once": False, "fixed_length": False, "classifier_activation": "tanh"},
        constants={"tie_word_embeddings": False},
        read=_read,
        write=_write,
    ),),
    task_fields={task: {"causal": task == "text-generation"}
                 for task in ("text-generation", "fill-mask", "text-classification", "question-answering")},
))
