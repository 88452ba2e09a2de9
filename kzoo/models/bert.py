"""BERT: an encoder with post-norm blocks; DistilBERT and RoBERTa are the same backbone with other fields.

Source: Devlin et al. 2019, section 3 (arXiv 1810.04805).
"""
import dataclasses

import keras
import numpy as np
from keras import ops

from kzoo.config import Config
from kzoo.hugging_face import Layout
from kzoo.layers import (
    Attention,
    Dropout,
    Everything,
    FeedForward,
    LayerNormalization,
    LearnedPositions,
    TokenEmbedding,
    TransformerBlock,
    locate,
)
from kzoo.layers.feed_forward import get_activation
from kzoo.layers.part_names import check_pair, make_pattern
from kzoo.layers.pooling import first_token
from kzoo.models.base import Backbone, check_length, refuse_pattern
from kzoo.registry import Family, Preset, register
from kzoo.weight_table import Ignore, Linear, Norm, Tensor, Tied


@dataclasses.dataclass(frozen=True)
class EncoderConfig(Config):
    """Sizes and switches of BERT and the families on its backbone.

    Attributes:
        vocabulary_size: V.
        num_layers: L.
        num_heads: H, a divisor of hidden_dim.
        hidden_dim: E.
        intermediate_dim: F.
        max_sequence_length: longest input, in tokens.
        num_segments: rows of the table of segments; 0 leaves it out (DistilBERT).
        position_offset: number of the first position; rows before it are not used (2 in RoBERTa).
        dropout: probability of dropping in embeddings and both branches, 0 to 1. DistilBERT's own code leaves out the
            one after attention.
        attention_dropout: of attention weights.
        classifier_dropout: before the last layer of a classifier; None means `dropout`. RoBERTa's own code has another
            one before the layer with `classifier_activation`.
        activation: inside the feed-forward, and of the masked-LM head.
        layer_norm_epsilon: added to the variance.
        use_pooler: the pretrained model ends in a dense layer on the first token, which feature extraction keeps.
        classifier_activation: of that layer in text classification.
        initializer_range: standard deviation of fresh weights, before what is beyond twice that is drawn again.
        gradient_checkpointing: in training, keep only the input of each block, and compute the rest once more.
        feed_forward_chunk_size: tokens that go through a feed-forward network at a time; None for all.
        loss_chunk_size: tokens whose logits the loss of a masked LM looks at at a time; None means all.
    """
    vocabulary_size: int = 30522
    num_layers: int = 12
    num_heads: int = 12
    hidden_dim: int = 768
    intermediate_dim: int = 3072
    max_sequence_length: int = 512
    num_segments: int = 2
    position_offset: int = 0
    dropout: float = 0.1
    attention_dropout: float = 0.1
    classifier_dropout: float | None = None
    activation: str = "gelu"
    layer_norm_epsilon: float = 1e-12
    use_pooler: bool = True
    classifier_activation: str = "tanh"
    initializer_range: float = 0.02
    gradient_checkpointing: bool = False
    feed_forward_chunk_size: int | None = None
    loss_chunk_size: int | None = None

    def check(self):
        for field in ("vocabulary_size", "num_layers", "num_heads", "hidden_dim", "intermediate_dim",
                      "max_sequence_length"):
            self.require(getattr(self, field) >= 1, field, "must be at least 1")
        self.require(self.hidden_dim % self.num_heads == 0, "hidden_dim",
                     f"must be divisible by `num_heads` ({self.num_heads})")
        for field in ("num_segments", "position_offset"):
            self.require(getattr(self, field) >= 0, field, "must be at least 0")
        for field in ("dropout", "attention_dropout", "classifier_dropout"):
            self.require(getattr(self, field) is None or 0 <= getattr(self, field) < 1, field,
                         "must be at least 0 and below 1")
        self.require(self.layer_norm_epsilon > 0, "layer_norm_epsilon", "must be above 0")
        self.require(self.initializer_range > 0, "initializer_range", "must be above 0")
        get_activation(self.activation)
        get_activation(self.classifier_activation)
        self.require(self.feed_forward_chunk_size is None or self.feed_forward_chunk_size >= 1,
                     "feed_forward_chunk_size", "must be at least 1, or None for all tokens at once")
        self.require(self.loss_chunk_size is None or self.loss_chunk_size >= 1, "loss_chunk_size",
                     "must be at least 1, or None for all tokens at once")

    def stored_axes(self):
        return {"vocabulary_size": self.vocabulary_size, "hidden_dim": self.hidden_dim,
                "intermediate_dim": self.intermediate_dim,
                "max_sequence_length": self.max_sequence_length + self.position_offset}


@dataclasses.dataclass(frozen=True)
class BertConfig(EncoderConfig):
    """Sizes and switches of a BERT: those of `EncoderConfig`, and this.

    Attributes:
        pattern: which pairs of tokens attention looks at: "full", "blockwise" (the same in less memory), or with
            settings {"name": "block_sparse", "block_size": 64}, and so on; see docs/patterns.md.
    """
    pattern: str | dict = "full"

    def check(self):
        super().check()
        check_pair(self.pattern, "learned", Everything(), self.num_heads)


@keras.saving.register_keras_serializable("kzoo")
class BertBackbone(Backbone):
    """Token ids (B, T) to hidden states (B, T, E).

    h = norm(token + position + segment); per block h = norm(h + attention(h)), h = norm(h + feed_forward(h)).

    Inputs: dict with `token_ids` (B, T) int32, optionally `padding_mask` (B, T) bool and `segment_ids` (B, T) int32,
    which are 0 where they are not given.
    """

    config_class = BertConfig

    def __init__(self, config, name="bert", **kwargs):
        super().__init__(config, name=name, **kwargs)
        normal = self._normal()
        dtype = self.dtype_policy
        self.token_embedding = TokenEmbedding(
            config.vocabulary_size, config.hidden_dim, normal.clone(), name="token_embedding", dtype=dtype)
        self.position_embedding = LearnedPositions(
            config.max_sequence_length + config.position_offset, config.hidden_dim, normal.clone(),
            name="position_embedding", dtype=dtype)
        self.segment_embedding = None
        if config.num_segments:
            self.segment_embedding = TokenEmbedding(
                config.num_segments, config.hidden_dim, normal.clone(), name="segment_embedding", dtype=dtype)
        self.dropout = Dropout(config.dropout, name="dropout", dtype=dtype)

        def norm(name):
            return LayerNormalization(config.layer_norm_epsilon, name=name, dtype=dtype)

        self.embedding_norm = norm("embedding_norm")
        self.blocks = [
            TransformerBlock(
                self.make_attention(i),
                FeedForward(config.intermediate_dim, config.hidden_dim, config.activation,
                            kernel_initializer=normal.clone(), output_initializer=normal.clone(),
                            chunk_size=config.feed_forward_chunk_size, name="feed_forward", dtype=dtype),
                norm("attention_norm"), norm("feed_forward_norm"), placement="post", dropout=config.dropout,
                name=f"block_{i}", dtype=dtype)
            for i in range(config.num_layers)]

    def _normal(self):
        return keras.initializers.TruncatedNormal(stddev=self.config.initializer_range)

    def make_attention(self, i, kind=Attention, **parts):
        """The attention layer of block i; a family on this backbone may have another kind, or other parts."""
        config = self.config
        if "pattern" not in parts:
            parts["pattern"] = make_pattern(config.pattern, i)
        return kind(config.num_heads, config.hidden_dim // config.num_heads, config.hidden_dim,
                    dropout=config.attention_dropout, kernel_initializer=self._normal(),
                    output_initializer=self._normal(), name="attention", dtype=self.dtype_policy, **parts)

    def locate(self, inputs):
        """`Positions` of a call's tokens."""
        return locate(inputs["token_ids"], inputs.get("padding_mask"), inputs.get("positions"))

    def build(self, input_shape=None):
        shape = (None, None, self.config.hidden_dim)
        self.token_embedding.build(None)
        self.position_embedding.build(None)
        if self.segment_embedding is not None:
            self.segment_embedding.build(None)
        self.embedding_norm.build(shape)
        for block in self.blocks:
            block.build(shape)
        self.built = True

    def forward(self, inputs, cache=None, training=None):
        """(hidden_states, None); an encoder has no cache."""
        positions = self.locate(inputs)
        return self.run_blocks(self.blocks, self._embed(inputs, positions, training), positions, training=training)

    def first_states(self, inputs, training=None):
        """(B, E); the last layer computes no token but the first, which attends to all.

        Of that layer, keys and values of all tokens remain, a sixth of its products.
        """
        if self.blocks[-1].attention.whole_rows:
            return super().first_states(inputs, training)
        positions = self.locate(inputs)
        x = self._embed(inputs, positions, training)
        x, _ = self.run_blocks(self.blocks[:-1], x, positions, training=training)
        first = ops.expand_dims(first_token(x, inputs.get("padding_mask")), 1)                # (B, 1, E)
        start = np.zeros((1, 1), "int32")  # real tokens are counted from 0
        x, _ = self.blocks[-1](first, positions._replace(token=start, query=start), among=x, training=training)
        return x[:, 0]

    def _embed(self, inputs, positions, training):
        """(B, T, E), what the first layer reads."""
        token_ids = inputs["token_ids"]
        check_length(token_ids, self.config.max_sequence_length)
        x = self.token_embedding(token_ids)                                                   # (B, T, E)
        x = x + self.position_embedding(positions.token + self.config.position_offset)
        if self.segment_embedding is not None:
            segment_ids = inputs.get("segment_ids")
            x = x + self.segment_embedding(np.zeros((1, 1), "int32") if segment_ids is None else segment_ids)
        return self.dropout(self.embedding_norm(x), training=training)


def _rows(*sizes):
    """Presets: (name, layers, heads, hidden_dim, parameters, source, fields that differ)."""
    return {name: Preset(BertConfig(num_layers=layers, num_heads=heads, hidden_dim=width, intermediate_dim=4 * width,
                                    **extra), parameters, source)
            for name, layers, heads, width, parameters, source, extra in sizes}


PAPER, SMALL = "Devlin et al. 2019, section 3", "Turc et al. 2019 (arXiv 1908.08962), table 1"
DISTILBERT = dict(num_segments=0, classifier_dropout=0.2, use_pooler=False, classifier_activation="relu")
ROBERTA = dict(vocabulary_size=50265, num_segments=1, position_offset=2, layer_norm_epsilon=1e-5)
PRESETS = _rows(
    # name          L   H   E     parameters
    ("bert-tiny", 2, 2, 128, 4_385_920, SMALL, {}),
    ("bert-mini", 4, 4, 256, 11_170_560, SMALL, {}),
    ("bert-small", 4, 8, 512, 28_763_648, SMALL, {}),
    ("bert-medium", 8, 8, 512, 41_373_184, SMALL, {}),
    ("bert-base", 12, 12, 768, 109_482_240, PAPER, {}),
    ("bert-large", 24, 16, 1024, 335_141_888, PAPER, {}),
    ("distilbert-base", 6, 12, 768, 66_362_880, "Sanh et al. 2019 (arXiv 1910.01108), section 3", DISTILBERT),
    ("roberta-base", 12, 12, 768, 124_645_632, "Liu et al. 2019 (arXiv 1907.11692), section 5", ROBERTA),
)

# Hugging Face's names (left) and ours; a Linear stores [out, in].
BERT_WEIGHTS = (
    Tensor("embeddings.word_embeddings.weight", "token_embedding/embeddings"),
    Tensor("embeddings.position_embeddings.weight", "position_embedding/embeddings"),
    Tensor("embeddings.token_type_embeddings.weight", "segment_embedding/embeddings"),
    Norm("embeddings.LayerNorm", "embedding_norm"),
    Linear("encoder.layer.{i}.attention.self.query", "block_{i}/attention/query"),
    Linear("encoder.layer.{i}.attention.self.key", "block_{i}/attention/key"),
    Linear("encoder.layer.{i}.attention.self.value", "block_{i}/attention/value"),
    Linear("encoder.layer.{i}.attention.output.dense", "block_{i}/attention/output"),
    Norm("encoder.layer.{i}.attention.output.LayerNorm", "block_{i}/attention_norm"),
    Linear("encoder.layer.{i}.intermediate.dense", "block_{i}/feed_forward/up"),
    Linear("encoder.layer.{i}.output.dense", "block_{i}/feed_forward/down"),
    Norm("encoder.layer.{i}.output.LayerNorm", "block_{i}/feed_forward_norm"),
    Ignore("embeddings.position_ids"),    # 0, 1, 2, ... as a buffer
    Ignore("embeddings.token_type_ids"),  # zeros as a buffer
)
DISTILBERT_WEIGHTS = (
    Tensor("embeddings.word_embeddings.weight", "token_embedding/embeddings"),
    Tensor("embeddings.position_embeddings.weight", "position_embedding/embeddings"),
    Norm("embeddings.LayerNorm", "embedding_norm"),
    Linear("transformer.layer.{i}.attention.q_lin", "block_{i}/attention/query"),
    Linear("transformer.layer.{i}.attention.k_lin", "block_{i}/attention/key"),
    Linear("transformer.layer.{i}.attention.v_lin", "block_{i}/attention/value"),
    Linear("transformer.layer.{i}.attention.out_lin", "block_{i}/attention/output"),
    Norm("transformer.layer.{i}.sa_layer_norm", "block_{i}/attention_norm"),
    Linear("transformer.layer.{i}.ffn.lin1", "block_{i}/feed_forward/up"),
    Linear("transformer.layer.{i}.ffn.lin2", "block_{i}/feed_forward/down"),
    Norm("transformer.layer.{i}.output_layer_norm", "block_{i}/feed_forward_norm"),
)
TABLE = "bert/token_embedding/embeddings"
BERT_HEADS = {
    "fill-mask": (Linear("cls.predictions.transform.dense", "mask_transform"),
                  Norm("cls.predictions.transform.LayerNorm", "mask_norm"),
                  Tensor("cls.predictions.bias", "mask_bias"),
                  Tied("cls.predictions.decoder.weight", TABLE),
                  Tied("cls.predictions.decoder.bias", "mask_bias"),
                  Ignore("cls.seq_relationship.weight"),  # of next-sentence prediction, which no task here does
                  Ignore("cls.seq_relationship.bias")),
    "text-classification": (Linear("bert.pooler.dense", "pooler"), Linear("classifier", "classifier")),
    "token-classification": (Linear("classifier", "tag_classifier"),),
    "question-answering": (Linear("qa_outputs", "span_classifier"),),
    "feature-extraction": (Linear("bert.pooler.dense", "pooler"),),
}
DISTILBERT_HEADS = {
    "fill-mask": (Linear("vocab_transform", "mask_transform"), Norm("vocab_layer_norm", "mask_norm"),
                  Tensor("vocab_projector.bias", "mask_bias"), Tied("vocab_projector.weight", TABLE)),
    "text-classification": (Linear("pre_classifier", "pooler"), Linear("classifier", "classifier")),
    "token-classification": (Linear("classifier", "tag_classifier"),),
    "question-answering": (Linear("qa_outputs", "span_classifier"),),
    "feature-extraction": (),
}


def roberta_heads(prefix, family):
    """Rows of what tasks add to a RoBERTa, whose names begin with `prefix` there and `family` here."""
    return {
        "fill-mask": (Linear("lm_head.dense", "mask_transform"), Norm("lm_head.layer_norm", "mask_norm"),
                      Tensor("lm_head.bias", "mask_bias"),
                      Tied("lm_head.decoder.weight", f"{family}/token_embedding/embeddings"),
                      Tied("lm_head.decoder.bias", "mask_bias")),
        # The classifier's first layer is its own, not the pooler.
        "text-classification": (Linear("classifier.dense", "pooler"), Linear("classifier.out_proj", "classifier")),
        "token-classification": (Linear("classifier", "tag_classifier"),),
        "question-answering": (Linear("qa_outputs", "span_classifier"),),
        "feature-extraction": (Linear(f"{prefix}pooler.dense", "pooler"),),
    }


BERT_FIELDS = (
    # ours, Hugging Face's
    ("vocabulary_size", "vocab_size"),
    ("num_layers", "num_hidden_layers"),
    ("num_heads", "num_attention_heads"),
    ("hidden_dim", "hidden_size"),
    ("intermediate_dim", "intermediate_size"),
    ("max_sequence_length", "max_position_embeddings"),
    ("num_segments", "type_vocab_size"),
    ("dropout", "hidden_dropout_prob"),
    ("attention_dropout", "attention_probs_dropout_prob"),
    ("classifier_dropout", "classifier_dropout"),
    ("activation", "hidden_act"),
    ("layer_norm_epsilon", "layer_norm_eps"),
    ("initializer_range", "initializer_range"),
)
DISTILBERT_FIELDS = (
    ("vocabulary_size", "vocab_size"),
    ("num_layers", "n_layers"),
    ("num_heads", "n_heads"),
    ("hidden_dim", "dim"),
    ("intermediate_dim", "hidden_dim"),
    ("max_sequence_length", "max_position_embeddings"),
    ("dropout", "dropout"),
    ("attention_dropout", "attention_dropout"),
    ("classifier_dropout", "seq_classif_dropout"),
    ("activation", "activation"),
    ("initializer_range", "initializer_range"),
)
# Hugging Face's words for values of ours.
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu",
               "silu": "silu", "swish": "silu", "tanh": "tanh"}


# model_type -> class of what computes and is stored as a RoBERTa; written as the first of them.
ROBERTAS = {"roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert"}


def architectures(name):
    """task -> class."""
    return {"fill-mask": f"{name}ForMaskedLM", "text-classification": f"{name}ForSequenceClassification",
            "token-classification": f"{name}ForTokenClassification",
            "question-answering": f"{name}ForQuestionAnswering", "feature-extraction": f"{name}Model"}


def _read_bert(ours, theirs, tensors):
    if theirs.get("is_decoder") or theirs.get("add_cross_attention"):
        raise ValueError("`is_decoder` in config.json is true: a decoder of this kind is not supported.")
    if theirs.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError(f"`position_embedding_type` in config.json is {theirs['position_embedding_type']!r}; "
                         "supported is: absolute.")


def read_roberta(ours, theirs, tensors):
    _read_bert(ours, theirs, tensors)
    # Positions are numbered from the id of padding on, which is why the table has rows that are not used.
    padding = theirs.get("pad_token_id", 1)
    if type(padding) is not int or padding < 0:
        raise ValueError(f"`pad_token_id` in config.json must be a token id. Received: {padding!r}.")
    ours["position_offset"] = padding + 1
    if type(ours.get("max_sequence_length")) is int:
        ours["max_sequence_length"] -= ours["position_offset"]


def _write_bert(theirs, config):
    refuse_pattern("bert", config)
    _refuse_no_segments(config)


def _refuse_no_segments(config):
    if not config.num_segments:
        raise ValueError("Hugging Face's 'bert' and 'roberta' have no room for `num_segments`=0; keep it in the kzoo "
                         "format.")


def _write_roberta(theirs, config):
    refuse_pattern("roberta", config)
    write_roberta(theirs, config)


def write_roberta(theirs, config):
    _refuse_no_segments(config)
    theirs["max_position_embeddings"] += config.position_offset
    theirs["pad_token_id"] = config.position_offset - 1


def _write_distilbert(theirs, config):
    refuse_pattern("distilbert", config)
    if config.classifier_dropout is None:
        theirs["seq_classif_dropout"] = config.dropout


register(Family(
    name="bert",
    config=BertConfig,
    backbone=BertBackbone,
    presets=PRESETS,
    tasks=("fill-mask", "text-classification", "token-classification", "question-answering", "feature-extraction"),
    layouts=(
        Layout(
            model_type="bert",
            architectures=architectures("Bert"),
            other_architectures={"BertForPreTraining": "fill-mask"},
            prefix="bert.",
            fields=BERT_FIELDS,
            rows=BERT_WEIGHTS,
            heads=BERT_HEADS,
            values={"activation": ACTIVATIONS},
            fixed={"position_offset": 0, "use_pooler": True, "classifier_activation": "tanh"},
            renames=(("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")),
            read=_read_bert,
            write=_write_bert,
        ),
        Layout(
            model_type="distilbert",
            architectures=architectures("DistilBert"),
            prefix="distilbert.",
            fields=DISTILBERT_FIELDS,
            rows=DISTILBERT_WEIGHTS,
            heads=DISTILBERT_HEADS,
            values={"activation": ACTIVATIONS},
            fixed={"num_segments": 0, "position_offset": 0, "layer_norm_epsilon": 1e-12, "use_pooler": False,
                   "classifier_activation": "relu"},
            write=_write_distilbert,
        ),
        *(Layout(
            model_type=kind,
            architectures=architectures(name),
            prefix="roberta.",
            fields=BERT_FIELDS,
            rows=BERT_WEIGHTS,
            heads=roberta_heads("roberta.", "bert"),
            values={"activation": {"gelu": "gelu"}},  # that of its masked-LM head, whatever the config says
            fixed={"use_pooler": True, "classifier_activation": "tanh"},
            read=read_roberta,
            write=_write_roberta,
        ) for kind, name in ROBERTAS.items()),
    ),
))
