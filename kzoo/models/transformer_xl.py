"""Transformer-XL: a decoder that reads a text segment by segment and attends to the hidden states of earlier ones.

Source: Dai et al. 2019, "Transformer-XL: Attentive Language Models Beyond a Fixed-Length Context" (arXiv 1901.02860).
"""
import dataclasses

import keras
import numpy as np
from keras import ops

from kzoo.config import Config
from kzoo.errors import unknown
from kzoo.hugging_face import Layout
from kzoo.layers import (
    AdaptiveEmbedding,
    AdaptiveSoftmax,
    Attention,
    Causal,
    Dropout,
    FeedForward,
    LayerNormalization,
    MemoryCache,
    Positions,
    QueryBiases,
    Recent,
    TransformerBlock,
    TransformerXLPositions,
)
from kzoo.layers.blocks import PLACEMENTS
from kzoo.layers.feed_forward import get_activation
from kzoo.models.base import Backbone
from kzoo.registry import Family, Preset, register
from kzoo.weight_table import Ignore, Linear, Norm, SplitLinear, Tensor, Tied

SAME_LENGTH = ("no", "memory", "memory_and_itself")
INITIAL_MEMORY = ("zeros", "empty")


@dataclasses.dataclass(frozen=True)
class TransformerXLConfig(Config):
    """Sizes and switches of a Transformer-XL.

    Attributes:
        vocabulary_size: V.
        num_layers: L.
        num_heads: H.
        head_dim: D; H * D need not equal hidden_dim.
        hidden_dim: E, even.
        intermediate_dim: F.
        embedding_dim: width of the (first cluster's) embedding; None means hidden_dim.
        memory_length: M, how many hidden states each layer remembers.
        max_sequence_length: tokens of a segment, where the caller leaves that open. Any other length will do.
        same_length: "no": a token sees the whole memory and its segment so far; "memory": the last M tokens, itself
            among them, as the PyTorch code has it; "memory_and_itself": M + 1, as the TensorFlow code has it.
        clamp_length: distances above it count as it; None means none do.
        initial_memory: "zeros": M zeros stand before a text and are attended to; "empty": nothing does.
        cutoffs: where clusters of the vocabulary end, ascending; empty for a plain embedding and softmax.
        width_divisor: each cluster's embeddings are so many times narrower than those of the one before.
        tie_embeddings: the softmax reads out with the embedding's rows.
        tie_projections: and with its projections, but for that of the first cluster.
        tie_biases: all layers share u and v.
        norm_placement: "post" (the paper's) or "pre".
        activation: inside the feed-forward.
        dropout: probability of dropping a feature, 0 to 1.
        attention_dropout: of dropping an attention weight.
        layer_norm_epsilon: added to the variance.
        initializer_range: standard deviation of fresh weights.
    """
    vocabulary_size: int = 267735
    num_layers: int = 18
    num_heads: int = 16
    head_dim: int = 64
    hidden_dim: int = 1024
    intermediate_dim: int = 4096
    embedding_dim: int | None = None
    memory_length: int = 1600
    max_sequence_length: int = 128
    same_length: str = "memory"
    clamp_length: int | None = 1000
    initial_memory: str = "zeros"
    cutoffs: tuple[int, ...] = (20000, 40000, 200000)
    width_divisor: int = 4
    tie_embeddings: bool = True
    tie_projections: bool = True
    tie_biases: bool = False
    norm_placement: str = "post"
    activation: str = "relu"
    dropout: float = 0.1
    attention_dropout: float = 0.0
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02

    def check(self):
        for field in ("vocabulary_size", "num_layers", "num_heads", "head_dim", "hidden_dim", "intermediate_dim",
                      "memory_length", "max_sequence_length", "width_divisor"):
            self.require(getattr(self, field) >= 1, field, "must be at least 1")
        self.require(self.hidden_dim % 2 == 0, "hidden_dim", "must be even, for the waves of positions")
        self.require(self.embedding_dim is None or self.embedding_dim >= 1, "embedding_dim",
                     "must be at least 1, or None for `hidden_dim`")
        self.require(self.clamp_length is None or self.clamp_length >= 1, "clamp_length", "must be at least 1, or None")
        ends = (0, *self.cutoffs, self.vocabulary_size)
        self.require(all(begin < end for begin, end in zip(ends, ends[1:], strict=False)), "cutoffs",
                     f"must ascend between 0 and `vocabulary_size` ({self.vocabulary_size})")
        last = (self.embedding_dim or self.hidden_dim) // self.width_divisor ** len(self.cutoffs)
        self.require(last >= 1, "width_divisor", "must leave the rarest cluster's embeddings a width of at least 1")
        for field in ("dropout", "attention_dropout"):
            self.require(0 <= getattr(self, field) < 1, field, "must be at least 0 and below 1")
        self.require(self.layer_norm_epsilon > 0, "layer_norm_epsilon", "must be above 0")
        self.require(self.initializer_range > 0, "initializer_range", "must be above 0")
        get_activation(self.activation)
        for field, known in (("same_length", SAME_LENGTH), ("initial_memory", INITIAL_MEMORY),
                             ("norm_placement", PLACEMENTS)):
            if getattr(self, field) not in known:
                raise ValueError(unknown(field, getattr(self, field), known))

    def stored_axes(self):
        return {"hidden_dim": self.hidden_dim, "intermediate_dim": self.intermediate_dim,
                "embedding_dim": self.embedding_dim or self.hidden_dim}

    def mask(self):
        """Who may see whom."""
        if self.same_length == "no":
            return Causal()
        return Recent(self.memory_length + (self.same_length == "memory_and_itself"))


@keras.saving.register_keras_serializable("kzoo")
class TransformerXLBackbone(Backbone):
    """Token ids (B, T) to hidden states (B, T, E), and to the memory of the next segment.

    h = sqrt(E) * embedding; per block h = norm(h + attention(h, memory ++ h)), h = norm(h + feed_forward(h)).
    """

    config_class = TransformerXLConfig
    recurrent = True

    def __init__(self, config, name="transformer_xl", **kwargs):
        super().__init__(config, name=name, **kwargs)
        normal = keras.initializers.RandomNormal(stddev=config.initializer_range)
        dtype = self.dtype_policy
        heads, width = config.num_heads, config.head_dim
        self.token_embedding = AdaptiveEmbedding(
            config.vocabulary_size, config.embedding_dim or config.hidden_dim, config.hidden_dim, config.cutoffs,
            config.width_divisor, normal.clone(), name="token_embedding", dtype=dtype)
        self.softmax = AdaptiveSoftmax(self.token_embedding, config.tie_embeddings, config.tie_projections,
                                       normal.clone(), name="softmax", dtype=dtype)
        self.dropout = Dropout(config.dropout, name="dropout", dtype=dtype)
        self.biases = None
        if config.tie_biases:
            self.biases = QueryBiases(heads, width, normal.clone(), name="biases", dtype=dtype)

        def block(i):
            position = TransformerXLPositions(heads, width, config.hidden_dim, config.clamp_length, self.biases,
                                              config.dropout, normal.clone(), name="position", dtype=dtype)
            return TransformerBlock(
                Attention(heads, width, config.hidden_dim, mask=config.mask(), position=position, use_bias=False,
                          dropout=config.attention_dropout, kernel_initializer=normal.clone(),
                          output_initializer=normal.clone(), name="attention", dtype=dtype),
                FeedForward(config.intermediate_dim, config.hidden_dim, config.activation, dropout=config.dropout,
                            kernel_initializer=normal.clone(), output_initializer=normal.clone(), name="feed_forward",
                            dtype=dtype),
                LayerNormalization(config.layer_norm_epsilon, name="attention_norm", dtype=dtype),
                LayerNormalization(config.layer_norm_epsilon, name="feed_forward_norm", dtype=dtype),
                placement=config.norm_placement, dropout=config.dropout, name=f"block_{i}", dtype=dtype)

        self.blocks = [block(i) for i in range(config.num_layers)]

    def build(self, input_shape=None):
        self.token_embedding.build(None)
        self.softmax.build(None)
        if self.biases is not None:
            self.biases.build(None)
        for block in self.blocks:
            block.build((None, None, self.config.hidden_dim))
        self.built = True

    def forward(self, inputs, cache=None, training=None):
        """See `Backbone.forward`.

        Args:
            inputs: `token_ids` (B, T); `padding_mask` (B, T) of this segment alone, the memory has its own. Padding
                that is not at an edge of a text counts as distance.
            cache: tuple of one `MemoryCache` a layer, of any length; None begins a text.
        """
        token_ids, real = inputs["token_ids"], inputs.get("padding_mask")
        zeros = self.config.initial_memory == "zeros"
        memory = cache
        if cache is None and zeros:
            memory = self.empty_cache(ops.shape(token_ids)[0])
        visible = real
        if memory is not None:
            segment = ops.ones_like(token_ids, dtype="bool") if real is None else real
            visible = self._visible(ops.concatenate([memory[0].padding_mask, segment], axis=1))   # (B, M + T)
        positions = _positions(ops.shape(token_ids)[1], memory, visible)
        x = self.dropout(self.token_embedding(token_ids), training=training)                      # (B, T, E)
        new_memory = []
        for i, block in enumerate(self.blocks):
            if real is not None and zeros:  # a row that begins later has further zeros before it
                x = ops.where(ops.expand_dims(real, 2), x, ops.zeros_like(x))
            if cache is not None:
                new_memory.append(memory[i].append(x, segment))
            x, _ = block(x, positions, memory and memory[i], training=training)
        return self.dropout(x, training=training), cache and tuple(new_memory)

    def _visible(self, real):
        """bool (B, M + T): which slots may be attended to, of those that hold real tokens, or do not."""
        if self.config.initial_memory == "empty":
            return real
        # A text begins with a memory of zeros: as many slots as it is long, before the first real token.
        slots = ops.shape(real)[1]
        first = ops.sum(ops.cast(ops.equal(ops.cumsum(ops.cast(real, "int32"), axis=1), 0), "int32"), axis=1,
                        keepdims=True)                                                             # (B, 1)
        slot = ops.expand_dims(ops.arange(slots, dtype="int32"), 0)                                # (1, M + T)
        return real | ((slot < first) & (slot >= first - self.config.memory_length))

    def export_obstacle(self):
        """See `Backbone`."""
        if self.config.same_length == "no" and self.config.initial_memory == "zeros":
            return ("The model's answers depend on where a text is cut into segments, so that reading it at once and "
                    "token by token differ. Export it with `same_length`='memory', as such models are evaluated, or "
                    "with `initial_memory`='empty'.")
        return None

    def logits(self, hidden_states):
        """(B, T, E) -> float32 (B, T, V): logits; with `cutoffs` log-probabilities, which serve as logits as well."""
        return self.softmax(hidden_states)

    def empty_cache(self, batch_size, capacity=None):
        """The memory at the beginning of a text. It has a length of its own: `capacity` does not matter."""
        config = self.config
        return tuple(MemoryCache.empty(batch_size, config.memory_length, config.hidden_dim, self.compute_dtype)
                     for _ in range(config.num_layers))


def _positions(length, memory, visible):
    """`Positions` of a segment after its memory, counted by slots, padding or not."""
    before = 0 if memory is None else memory[0].hidden_states.shape[1]
    count = np.arange if isinstance(length, int) else ops.arange
    key = ops.expand_dims(count(before + length, dtype="int32"), 0)                                # (1, M + T)
    return Positions(key[:, before:], key[:, before:], key, visible)


def _rows(*sizes):
    return {name: Preset(TransformerXLConfig(**fields), parameters, source)
            for name, parameters, source, fields in sizes}


PLAIN = {"cutoffs": (), "width_divisor": 1, "clamp_length": None, "same_length": "no"}
PRESETS = _rows(
    ("transformer-xl-nano", 890_624, "gpt2-nano's sizes", {
        **PLAIN, "vocabulary_size": 256, "num_layers": 4, "num_heads": 4, "head_dim": 32, "hidden_dim": 128,
        "intermediate_dim": 512, "memory_length": 64, "max_sequence_length": 64, "dropout": 0.0,
        "initial_memory": "empty"}),
    # As their authors evaluate them; trained with segments and memories of 384 and 768, and without `same_length` and
    # `clamp_length`. The paper counts 257 million for the first, whose published checkpoint has these.
    ("transformer-xl-wt103", 285_205_322, "Dai et al. 2019, table 1, large; kimiyoung/transformer-xl", {}),
    ("transformer-xl-enwik8", 277_278_924, "Dai et al. 2019, table 2, 24 layers; kimiyoung/transformer-xl", {
        **PLAIN, "vocabulary_size": 204, "num_layers": 24, "num_heads": 8, "head_dim": 128, "hidden_dim": 1024,
        "intermediate_dim": 3072, "memory_length": 3800, "max_sequence_length": 128, "same_length": "memory",
        "clamp_length": 820, "dropout": 0.15, "attention_dropout": 0.15}),
)

# Hugging Face's names (left) and ours.
ATTENTION = "layers.{i}.dec_attn"
BLOCK_WEIGHTS = (
    SplitLinear(f"{ATTENTION}.qkv_net", tuple(f"block_{{i}}/attention/{name}" for name in ("query", "key", "value"))),
    Linear(f"{ATTENTION}.o_net", "block_{i}/attention/output", use_bias=False),
    Linear(f"{ATTENTION}.r_net", "block_{i}/attention/position/projection", use_bias=False),
    Norm(f"{ATTENTION}.layer_norm", "block_{i}/attention_norm"),
    Linear("layers.{i}.pos_ff.CoreNet.0", "block_{i}/feed_forward/up"),
    Linear("layers.{i}.pos_ff.CoreNet.3", "block_{i}/feed_forward/down"),
    Norm("layers.{i}.pos_ff.layer_norm", "block_{i}/feed_forward_norm"),
    Ignore("pos_emb.inv_freq"),  # the frequencies of the waves, as a buffer
)
BIASES = (("r_w_bias", "content"), ("r_r_bias", "position"))


def _clusters(config):
    """(tables, projections): how many of each an embedding has."""
    tables = 1 if config.width_divisor == 1 else len(config.cutoffs) + 1
    projected = config.width_divisor > 1 or (config.embedding_dim or config.hidden_dim) != config.hidden_dim
    return tables, tables if projected else 0


def backbone_rows(config):
    """The weight table of the backbone."""
    stored, ours = ("", "biases") if config.tie_biases else (f"{ATTENTION}.", "block_{i}/attention/position/biases")
    tables, projections = _clusters(config)
    # A file may repeat shared biases in every layer.
    repeated = tuple(Tied(f"{ATTENTION}.{name}", f"{ours}/{role}") for name, role in BIASES) * config.tie_biases
    return (*BLOCK_WEIGHTS, *repeated,
            *(Tensor(stored + name, f"{ours}/{role}") for name, role in BIASES),
            *(Tensor(f"word_emb.emb_layers.{c}.weight", f"token_embedding/embeddings_{c}") for c in range(tables)),
            *(Tensor(f"word_emb.emb_projs.{c}", f"token_embedding/projection_{c}") for c in range(projections)))


def softmax_rows(config):
    """The weight table of what it is read out with."""
    softmax, embedding = "transformer-xl/softmax", "transformer-xl/token_embedding"
    tables, projections = _clusters(config)
    rows = [Tensor(f"crit.out_layers.{c}.bias", f"{softmax}/bias_{c}") for c in range(tables)]
    for c in range(tables):
        stored = f"crit.out_layers.{c}.weight"
        rows.append(Tied(stored, f"{embedding}/embeddings_{c}") if config.tie_embeddings
                    else Tensor(stored, f"{softmax}/embeddings_{c}"))
    for c in range(len(config.cutoffs) + 1 if projections else 0):
        tied = config.tie_projections and c > 0
        rows.append(Tied(f"crit.out_projs.{c}", f"{embedding}/projection_{min(c, projections - 1)}") if tied
                    else Tensor(f"crit.out_projs.{c}", f"{softmax}/projection_{c}"))
    if config.cutoffs:
        rows += [Tensor("crit.cluster_weight", f"{softmax}/cluster_embeddings"),
                 Tensor("crit.cluster_bias", f"{softmax}/cluster_bias")]
    return tuple(rows)


FIELDS = (
    # ours, Hugging Face's
    ("vocabulary_size", "vocab_size"),
    ("num_layers", "n_layer"),
    ("num_heads", "n_head"),
    ("head_dim", "d_head"),
    ("hidden_dim", "d_model"),
    ("intermediate_dim", "d_inner"),
    ("memory_length", "mem_len"),
    ("max_sequence_length", "tgt_len"),  # only in older files
    ("cutoffs", "cutoffs"),
    ("width_divisor", "div_val"),
    ("tie_embeddings", "tie_word_embeddings"),
    ("dropout", "dropout"),
    ("attention_dropout", "dropatt"),
    ("layer_norm_epsilon", "layer_norm_epsilon"),
    ("initializer_range", "init_std"),
)


def _read(ours, theirs, tensors):
    if theirs.get("attn_type", 0) != 0:
        raise ValueError(f"`attn_type` in config.json is {theirs['attn_type']!r}; only 0, relative positions with "
                         "learned biases, is supported.")
    tied = theirs.get("tie_projs") or [False, *[theirs.get("proj_share_all_but_first", True)] * len(
        ours.get("cutoffs", TransformerXLConfig.cutoffs))]
    if tied[0] or len(set(tied[1:])) > 1:
        raise ValueError("`tie_projs` in config.json must be false, and then the same for all further clusters. "
                         f"Received: {tied!r}.")
    clamp = theirs.get("clamp_len", 1000)
    embedding, hidden = theirs.get("d_embed", 1024), theirs.get("d_model", 1024)
    ours.update(
        tie_projections=bool(tied[1]) if len(tied) > 1 else True,
        embedding_dim=None if embedding == hidden else embedding,
        clamp_length=clamp if clamp > 0 else None,
        same_length="memory" if theirs.get("same_length", True) else "no",
        norm_placement="pre" if theirs.get("pre_lnorm", False) else "post",
        tie_biases=not theirs.get("untie_r", True))


def _write(theirs, config):
    if config.same_length == "memory_and_itself":
        raise ValueError("Hugging Face's 'transfo-xl' has no room for `same_length`='memory_and_itself'; keep it in "
                         "the kzoo format.")
    theirs.update(
        tie_projs=[False, *[config.tie_projections] * len(config.cutoffs)],
        proj_share_all_but_first=config.tie_projections,
        cutoffs=list(config.cutoffs),
        d_embed=config.embedding_dim or config.hidden_dim,
        clamp_len=config.clamp_length or -1,
        same_length=config.same_length == "memory",
        pre_lnorm=config.norm_placement == "pre",
        untie_r=not config.tie_biases)


register(Family(
    name="transformer-xl",
    config=TransformerXLConfig,
    backbone=TransformerXLBackbone,
    presets=PRESETS,
    tasks=("text-generation",),
    layouts=(Layout(
        model_type="transfo-xl",
        architectures={"text-generation": "TransfoXLLMHeadModel"},
        prefix="transformer.",
        fields=FIELDS,
        rows=backbone_rows,
        heads={"text-generation": softmax_rows},
        fixed={"activation": "relu", "initial_memory": "zeros"},
        constants={"attn_type": 0, "adaptive": True, "sample_softmax": -1},
        read=_read,
        write=_write,
    ),),
))
