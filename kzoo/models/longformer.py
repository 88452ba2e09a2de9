"""Longformer: RoBERTa with attention to a window of neighbours, and to a few tokens that see all and are seen by all.

Source: Beltagy et al. 2020 (arXiv 2004.05150).
"""
import dataclasses
from typing import Any, NamedTuple

import keras
from keras import ops

from kzoo.global_tokens import RULES, choose_global_tokens
from kzoo.hugging_face import Layout
from kzoo.layers import Attention, SharedKeys, SlidingWindow, dot_product_attention
from kzoo.layers.projection import project
from kzoo.models.bert import (
    BERT_FIELDS,
    BERT_WEIGHTS,
    BertBackbone,
    EncoderConfig,
    architectures,
    read_roberta,
    roberta_heads,
    write_roberta,
)
from kzoo.registry import Family, Preset, register
from kzoo.weight_table import Linear


@dataclasses.dataclass(frozen=True)
class LongformerConfig(EncoderConfig):
    """Sizes and switches of a Longformer: those of `EncoderConfig`, and these.

    Attributes:
        window_size: |q - k| < it; a number, or one for each layer. Published "attention windows" count both sides: 512
            of theirs is 257 here.
        max_global_tokens: most global tokens of a row where a caller or a question chooses them; what is beyond is an
            ordinary token. All rows take the time of this many.
        sep_id: the token that ends a question; what stands before it is global in question answering.
    """
    vocabulary_size: int = 50265
    max_sequence_length: int = 4096
    num_segments: int = 1
    position_offset: int = 2
    layer_norm_epsilon: float = 1e-5
    window_size: int | tuple[int, ...] = 257
    max_global_tokens: int = 64
    sep_id: int = 2

    def check(self):
        super().check()
        check_windows(self)
        self.require(0 <= self.sep_id < self.vocabulary_size, "sep_id",
                     f"must be an id below {self.vocabulary_size}")


def check_windows(config):
    """Refuse windows that do not fit the layers, and global tokens without number."""
    config.require(not isinstance(config.window_size, tuple) or len(config.window_size) == config.num_layers,
                   "window_size", f"must be a number, or {config.num_layers} of them, one for each layer")
    config.require(min(window_sizes(config)) >= 1, "window_size", "must be at least 1")
    config.require(config.max_global_tokens >= 1, "max_global_tokens", "must be at least 1")


def window_sizes(config):
    """One window size a layer."""
    size = config.window_size
    return size if isinstance(size, tuple) else (size,) * config.num_layers


class GlobalTokens(NamedTuple):
    """The tokens of a call that see all and are seen by all, G at most.

    Attributes:
        select: float (B, G, T): row g is 1 where the g-th of them stands. A product with it picks their rows, exactly,
            and one with its transpose puts rows back, where gathers and scatters are slow or not to be had.
        visible: bool (B, G), False where a row has fewer.
        mask: bool (B, T).
    """
    select: Any
    visible: Any
    mask: Any


def find_global_tokens(mask, count, dtype):
    """`GlobalTokens` of a bool mask (B, T): of each row the first `count`."""
    rank = running_count(mask) - 1                                                       # (B, T)
    mask = mask & (rank < count)
    places = ops.expand_dims(rank, 1) == ops.reshape(ops.arange(count, dtype="int32"), (1, -1, 1))
    places = places & ops.expand_dims(mask, 1)                                           # (B, G, T)
    return GlobalTokens(ops.cast(places, dtype), ops.any(places, axis=2), mask)


def running_count(mask):
    """`kzoo.global_tokens.running_count` of a tensor."""
    return ops.cumsum(ops.cast(mask, "int32"), axis=1)


class GlobalPositions(NamedTuple):
    """`Positions`, and which tokens are global.

    Attributes:
        token, query, key, padding_mask: see `Positions`.
        chosen: `GlobalTokens`.
    """
    token: Any
    query: Any
    key: Any
    padding_mask: Any
    chosen: Any


@keras.saving.register_keras_serializable("kzoo")
class LongformerAttention(Attention):
    """Attention within the windows of its pattern, a `SlidingWindow`, and of global tokens to all and of all to them.

    A token's one softmax is over its window and the global tokens; one that is both counts once. Global tokens attend
    to all, with projections of their own; the projection of the output is shared. With positions that tell of no global
    tokens it is `Attention`.

    Source: Beltagy et al. 2020, section 3.1 (arXiv 2004.05150).
    """

    has_map = False  # the pattern does not know of global tokens

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.query_global = self._dense(self.num_heads * self.head_dim, "query_global")
        self.key_global = self._dense(self.num_heads * self.head_dim, "key_global")
        self.value_global = self._dense(self.num_heads * self.head_dim, "value_global")

    def build(self, x_shape, *args, **kwargs):
        super().build(x_shape, *args, **kwargs)
        for layer in (self.query_global, self.key_global, self.value_global):
            layer.build((None, x_shape[-1]))

    def call(self, x, positions, cache=None, context=None, training=None):
        """See `Attention.call`; `positions` may be `GlobalPositions`. There is no cache: an encoder has no use for it.
        """
        chosen = getattr(positions, "chosen", None)
        if chosen is None:
            return super().call(x, positions, cache, context, training)

        def dropout(weights):
            return self.dropout(weights, training=training)

        mask = chosen.mask
        others = ~mask if positions.padding_mask is None else positions.padding_mask & ~mask
        x_global = ops.matmul(ops.cast(chosen.select, x.dtype), x)                        # (B, G, E)
        shared = SharedKeys(*self._keys_and_values(x_global, positions.token), chosen.visible)
        query = project(self.query, x, (self.num_heads, self.head_dim))                   # (B, T, H, D)
        key, value = self._keys_and_values(x, positions.token)
        near = self.pattern.attend(
            query, key, value, positions._replace(query=positions.key, padding_mask=others), self.mask, self.position,
            shared=shared, scale=self.scale, dropout=dropout)                             # (B, T, H, D)
        far = self._attend_to_all(x_global, x, positions.padding_mask, dropout)           # (B, G, H * D)
        near = ops.reshape(near, (-1, ops.shape(x)[1], far.shape[-1]))                    # (B, T, H * D)
        far = ops.matmul(ops.transpose(ops.cast(chosen.select, far.dtype), (0, 2, 1)), far)
        return project(self.output_dense, ops.where(ops.expand_dims(mask, -1), far, near)), None

    def _attend_to_all(self, x_global, x, padding_mask, dropout):
        """What global tokens (B, G, E) make of all (B, T, E): (B, G, H * D)."""
        heads, width = self.num_heads, self.head_dim
        query = project(self.query_global, x_global, (heads, width))                      # (B, G, H, D)
        visible = None if padding_mask is None else ops.expand_dims(ops.expand_dims(padding_mask, 1), 1)
        if x_global.shape[1] >= width:
            key, value = (project(layer, x, (heads, width)) for layer in (self.key_global, self.value_global))
            mixed = dot_product_attention(query, key, value, visible, scale=self.scale, dropout=dropout)
            return ops.reshape(mixed, (-1, x_global.shape[1], heads * width))
        # A few queries, projected back, are cheaper to compare with the tokens than the tokens are to project:
        # q . (W x + b) = (W^T q) . x + q . b, and sum of p (W x + b) = W (sum of p x) + b.
        scale = width ** -0.5 if self.scale is None else self.scale
        key_kernel, value_kernel = (
            ops.reshape(ops.cast(layer.kernel, x.dtype), (-1, heads, width))              # (E, H, D)
            for layer in (self.key_global, self.value_global))
        query = ops.transpose(query, (0, 2, 1, 3))                                        # (B, H, G, D)
        folded = ops.transpose(ops.matmul(query, ops.transpose(key_kernel, (1, 2, 0))), (0, 2, 1, 3))  # (B, G, H, E)
        bias = None
        if self.use_bias:
            key_bias = ops.reshape(ops.cast(self.key_global.bias, x.dtype), (heads, width, 1))
            bias = ops.matmul(query, key_bias) * scale                                    # (B, H, G, 1)
        tokens = ops.expand_dims(x, 2)                                                    # (B, T, 1, E)
        mixed = dot_product_attention(folded, tokens, tokens, visible, bias, scale, dropout)
        mixed = ops.matmul(ops.transpose(mixed, (0, 2, 1, 3)), ops.transpose(value_kernel, (1, 0, 2)))  # (B, H, G, D)
        mixed = ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, x_global.shape[1], heads * width))
        return mixed + ops.cast(self.value_global.bias, x.dtype) if self.use_bias else mixed


@keras.saving.register_keras_serializable("kzoo")
class LongformerBackbone(BertBackbone):
    """Token ids (B, T) to hidden states (B, T, E): BERT's layers with `LongformerAttention`.

    Inputs: those of `BertBackbone`, and optionally `global_mask` (B, T) bool, True = a global token. Without it the
    task chooses: the first token in classification, the question in question answering, none elsewhere.
    """

    config_class = LongformerConfig

    def __init__(self, config, name="longformer", **kwargs):
        super().__init__(config, name=name, **kwargs)

    def make_attention(self, i):
        return super().make_attention(i, LongformerAttention, pattern=SlidingWindow(window_sizes(self.config)[i]))

    def complete_inputs(self, inputs, task):
        if inputs.get("global_mask") is not None or task not in RULES:
            return inputs
        token_ids, padding_mask = inputs["token_ids"], inputs.get("padding_mask")
        padding_mask = ops.ones_like(token_ids, "bool") if padding_mask is None else padding_mask
        mask = choose_global_tokens(RULES[task], token_ids, padding_mask, self.config.sep_id, running_count)
        return {**inputs, "global_tokens": self._find(mask, 1 if RULES[task] == "first" else None)}

    def locate(self, inputs):
        positions, mask, chosen = super().locate(inputs), inputs.get("global_mask"), inputs.get("global_tokens")
        if mask is not None:
            chosen = self._find(mask if positions.padding_mask is None else mask & positions.padding_mask)
        return positions if chosen is None else GlobalPositions(*positions, chosen)

    def _find(self, mask, count=None):
        return find_global_tokens(mask, global_count(mask, self.config, count), self.compute_dtype)


def global_count(mask, config, count=None):
    """G: `count`, or as many as the config allows and a row of the mask (B, T) has places for."""
    count = config.max_global_tokens if count is None else count
    return min(count, mask.shape[1]) if isinstance(mask.shape[1], int) else count


def _preset(name, layers, heads, width, length, window, parameters, source):
    config = LongformerConfig(num_layers=layers, num_heads=heads, hidden_dim=width, intermediate_dim=4 * width,
                              max_sequence_length=length, window_size=window)
    return name, Preset(config, parameters, source)


PRESETS = dict(_preset(*row) for row in (
    # name                    L   H    E    length window parameters
    ("longformer-tiny", 2, 2, 128, 1024, 33, 7_077_760, "BERT-tiny's sizes, of Turc et al. 2019, for tests"),
    ("longformer-base-4096", 12, 12, 768, 4096, 257, 148_659_456, "Beltagy et al. 2020, section 5"),
    ("longformer-large-4096", 24, 16, 1024, 4096, 257, 434_600_960, "Beltagy et al. 2020, section 5"),
))

# Hugging Face's names (left) and ours: BERT's, and the projections of global tokens.
LONGFORMER_WEIGHTS = BERT_WEIGHTS + tuple(
    Linear(f"encoder.layer.{{i}}.attention.self.{name}_global", f"block_{{i}}/attention/{name}_global")
    for name in ("query", "key", "value"))
LONGFORMER_FIELDS = (
    *BERT_FIELDS,
    ("sep_id", "sep_token_id"),
    ("max_global_tokens", "max_global_tokens"),  # theirs has no such field, and keeps it
)


def read_window(ours, theirs):
    """Their `attention_window` counts both sides, without the token itself."""
    window = theirs.get("attention_window", 512)
    windows = window if isinstance(window, list) else [window]
    for each in windows:
        if type(each) is not int or each < 2 or each % 2:
            raise ValueError(f"`attention_window` in config.json must be even and at least 2. Received: {window!r}.")
    ours["window_size"] = tuple(each // 2 + 1 for each in windows) if isinstance(window, list) else window // 2 + 1


def write_window(theirs, config):
    if min(window_sizes(config)) < 2:
        raise ValueError("Hugging Face's windows have at least one token on each side: `window_size` 2. Received: "
                         f"{config.window_size}; keep it in the kzoo format.")
    sizes = [2 * (size - 1) for size in window_sizes(config)]
    theirs["attention_window"] = sizes if isinstance(config.window_size, tuple) else sizes[0]


def _read(ours, theirs, tensors):
    read_roberta(ours, theirs, tensors)
    read_window(ours, theirs)


def _write(theirs, config):
    write_roberta(theirs, config)
    write_window(theirs, config)


register(Family(
    name="longformer",
    config=LongformerConfig,
    backbone=LongformerBackbone,
    presets=PRESETS,
    tasks=("fill-mask", "text-classification", "token-classification", "question-answering", "feature-extraction"),
    layouts=(Layout(
        model_type="longformer",
        architectures=architectures("Longformer"),
        prefix="longformer.",
        fields=LONGFORMER_FIELDS,
        rows=LONGFORMER_WEIGHTS,
        heads=roberta_heads("longformer.", "longformer"),
        values={"activation": {"gelu": "gelu"}},
        fixed={"use_pooler": True, "classifier_activation": "tanh"},
        read=_read,
        write=_write,
    ),),
))
