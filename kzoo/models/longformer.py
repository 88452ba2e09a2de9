"""Longformer: RoBERTa with attention to a window of neighbours, and to a few tokens that see all and are seen by all.

Source: Beltagy et al. 2020 (arXiv 2004.05150).
"""
import dataclasses

import keras
from keras import ops

from kzoo.global_tokens import RULES, choose_global_tokens
from kzoo.hugging_face import Layout
from kzoo.layers import SlidingWindow
from kzoo.layers.longformer_attention import (
    GlobalPositions,
    LongformerAttention,
    find_global_tokens,
    running_count,
)
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
