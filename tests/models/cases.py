"""What the contract in test_every_model.py is tried on: rows a family and a task, and inputs of every kind.

A family takes part by a row in `VARIANTS`; a task by its rows in `SETTINGS`, `OUTPUTS` and `LESSONS`.
"""
import keras
import numpy as np

from kzoo.models.encoder_decoder import EncoderDecoder
from kzoo.registry import families
from kzoo.tasks.task import build_task

B, S, T = 3, 9, 11
# Tokens of each row, where they are padded; few lengths, because each is compiled anew on JAX.
LENGTHS = {"encoder_": (6, 6, 9), "decoder_": (8, 11, 8), "": (8, 11, 8)}
SIZES = dict(vocabulary_size=29, num_layers=2, num_heads=4, hidden_dim=24, intermediate_dim=37, max_sequence_length=19)
VARIANTS = {  # family -> name -> (task, fields that differ from SIZES); each field and task is varied somewhere
    # New ones go to the end: weights are drawn by the number of a case, and rounding differs from draw to draw.
    "bert": {
        "plain": ("fill-mask", {}),
        "three-segments": ("text-classification", {"num_segments": 3, "activation": "relu",
                                                   "classifier_activation": "relu"}),
        "offset": ("token-classification", {"num_segments": 1, "position_offset": 3, "layer_norm_epsilon": 0.03,
                                            "pattern": {"name": "block_sparse", "block_size": 3}}),
        "no-segments": ("question-answering", {"num_segments": 0, "use_pooler": False, "loss_chunk_size": 5,
                                               "pattern": {"name": "hierarchical", "segment_size": 4}}),
        "pooled": ("feature-extraction", {"activation": "gelu_tanh", "gradient_checkpointing": True,
                                          "feed_forward_chunk_size": 4}),
    },
    "gpt2": {
        "learned": ("text-generation", {}),
        "sinusoidal": ("text-generation", {
            "position": "sinusoidal", "num_key_value_heads": 2, "activation": "relu", "scale_scores_by_layer": True,
            "layer_norm_epsilon": 0.03, "pattern": {"name": "strided", "stride": 4}, "loss_chunk_size": 5}),
        "rotary": ("text-generation", {
            "position": "rotary", "num_key_value_heads": 1, "activation": "silu", "use_bias": False,
            "scale_scores": False, "pattern": {"name": "blockwise", "block_size": 4}}),
        "alibi": ("text-generation", {
            "position": "alibi", "num_key_value_heads": 4, "activation": "gelu", "intermediate_dim": None,
            "pattern": {"name": "block_local", "block_size": 4}, "gradient_checkpointing": True,
            "feed_forward_chunk_size": 4}),
    },
    "t5": {
        # Not ReLU: a finite difference across its kink is no derivative. The reference's fixture has it.
        "v1.0": ("translation", {"num_layers": 1, "head_dim": 5, "num_buckets": 8, "max_distance": 9,
                                 "activation": "gelu"}),
        "v1.1": ("summarization", {
            "num_layers": 1, "num_decoder_layers": 2, "num_heads": 3, "head_dim": 7, "gated": True,
            "activation": "gelu_tanh", "tie_embeddings": False, "scale_logits": False, "layer_norm_epsilon": 0.03,
            "initializer_factor": 0.7, "pad_id": 28, "eos_id": 27, "decoder_start_id": 26,
            "pattern": {"name": "block_local", "block_size": 4}, "gradient_checkpointing": True}),
    },
    "transformer": {
        "post": ("translation", {
            "num_layers": 1, "num_decoder_heads": 2, "decoder_intermediate_dim": 31, "activation": "gelu",
            "pad_id": 28, "eos_id": 27, "decoder_start_id": 26}),
        "pre": ("summarization", {
            "num_layers": 1, "num_decoder_layers": 2, "norm_placement": "pre", "position": "learned",
            "activation": "silu", "layer_norm_epsilon": 0.03, "scale_embedding": False, "vocabulary_size": 31,
            "target_vocabulary_size": 29, "share_embeddings": False, "tie_output": False, "output_bias": True,
            "pattern": {"name": "blockwise", "block_size": 4}, "gradient_checkpointing": True}),
    },
    "led": {  # fixtures/led has other numbers of layers, and windows of several sizes
        "windows": ("summarization", {
            "num_layers": 1, "num_decoder_layers": 1, "num_heads": 3, "num_decoder_heads": 2,
            "decoder_intermediate_dim": 31,
            "window_size": 2, "max_target_length": 17, "max_global_tokens": 3, "activation": "silu", "pad_id": 28,
            "eos_id": 27, "decoder_start_id": 26, "gradient_checkpointing": True}),
    },
    "longformer": {  # its other heads are BERT's; fixtures/longformer has them all
        "chosen": ("fill-mask", {
            "window_size": 3, "max_global_tokens": 4, "position_offset": 3, "num_segments": 3, "loss_chunk_size": 5,
            "feed_forward_chunk_size": 4}),
        "first": ("text-classification", {
            "window_size": 2, "sep_id": 5, "num_segments": 0, "activation": "gelu_tanh", "layer_norm_epsilon": 0.03,
            "use_pooler": False, "classifier_activation": "relu", "gradient_checkpointing": True}),
    },
    "reformer": {
        # Chunks hold all tokens, or each sees all others: what does not see all changes with the length, and in steps.
        "causal": ("text-generation", {
            "causal": True, "head_dim": 5, "num_buckets": (2, 4), "hash_seed": 3, "lsh_chunk_length": 24,
            "local_chunk_length": 6, "axial_shape": (4, 5), "axial_dims": (7, 17), "axial_range": 0.5,
            "activation": "gelu"}),
        "hashed": ("fill-mask", {
            "num_layers": 1, "attention_layers": ("lsh",), "head_dim": 7, "num_hashes": 2, "num_buckets": 4,
            "count_once": True, "lsh_chunk_length": 6, "lsh_chunks_before": 1, "lsh_chunks_after": 1,
            "axial_shape": (4, 5), "axial_dims": (13, 11), "activation": "silu", "feed_forward_chunk_size": 5}),
        "local": ("text-classification", {
            "num_layers": 1, "attention_layers": ("local",), "local_chunk_length": 6, "local_chunks_before": 0,
            "local_chunks_after": 1, "axial_shape": None, "axial_dims": None, "activation": "gelu_tanh",
            "layer_norm_epsilon": 0.03, "classifier_activation": "silu"}),
        "plain": ("question-answering", {
            "num_layers": 1, "attention_layers": ("local",), "axial_shape": (4, 5), "axial_dims": (13, 11),
            "reversible": False, "fixed_length": True, "activation": "gelu"}),
    },
    "transformer-xl": {
        # Of one length at every token, so that it does not matter how a text is cut.
        "same-length": ("text-generation", {
            "head_dim": 5, "memory_length": 4, "same_length": "memory_and_itself", "clamp_length": 3,
            "initial_memory": "zeros", "cutoffs": (7, 16), "width_divisor": 2, "embedding_dim": 9,
            "tie_embeddings": False, "tie_projections": False, "tie_biases": True, "activation": "silu",
            "layer_norm_epsilon": 0.03, "norm_placement": "post"}),  # "pre" is the reference's, twice
    },
}
# Family -> mean of the scales of norms, where they follow one another.
NORM_SCALES = {"bert": 1.0, "led": 0.5, "longformer": 0.5, "t5": 0.5, "transformer": 0.5, "transformer-xl": 0.5}
TRIED_ELSEWHERE = {"longformer": ("token-classification", "question-answering", "feature-extraction")}
# These run on JAX too, where compiling makes a case dear; the parts of the others are all tested there.
ON_JAX = (("bert", "three-segments"), ("gpt2", "learned"), ("gpt2", "rotary"), ("t5", "v1.1"), ("transformer", "pre"))
CASES = [(family, variant) for family, variants in VARIANTS.items() for variant in variants
         if keras.backend.backend() != "jax" or (family, variant) in ON_JAX]
GENERATING = ("text-generation", "translation", "summarization")  # causal, and with a cache
DECODING = [case for case in CASES if VARIANTS[case[0]][case[1]][0] in GENERATING]
SETTINGS = {  # task -> what its class is made with
    "text-classification": {"labels": ("first", "second", "third")},
    "token-classification": {"labels": ("O", "B-one", "I-one", "B-two", "I-two")},
}
OUTPUTS = {  # task -> shapes of what it answers to B rows of T tokens
    "text-generation": [(B, T, 29)],
    "translation": [(B, T, 29)],
    "summarization": [(B, T, 29)],
    "fill-mask": [(B, T, 29)],
    "token-classification": [(B, T, 5)],
    "question-answering": [(B, T), (B, T)],
    "text-classification": [(B, 3)],
    "feature-extraction": [(B, 24)],
}
POOLED = ("text-classification", "feature-extraction")  # one answer a row; the others have one a token

rng = np.random.default_rng(0)
IDS = {  # name -> ids of the rows without padding
    "token_ids": rng.integers(0, SIZES["vocabulary_size"], (B, T)).astype("int32"),
    "segment_ids": np.repeat([[0, 1]], (4, T - 4), axis=1).repeat(B, axis=0).astype("int32"),
    "encoder_token_ids": rng.integers(0, SIZES["vocabulary_size"], (B, S)).astype("int32"),
    "decoder_token_ids": rng.integers(0, SIZES["vocabulary_size"], (B, T)).astype("int32"),
    "global_mask": rng.integers(0, 2, (B, T)).astype("int32"),
}


def fresh(case, dtype=None, dropout=0.0, **changes):
    """A model with random weights; `dropout` goes to every field of that name's kind."""
    name, variant = case
    family, (task, fields) = families()[name], VARIANTS[name][variant]
    known = family.config.field_names()
    rates = {field: dropout for field in known if field.endswith("dropout")}
    changes = {field: value for field, value in changes.items() if field in known}  # T5 has no `initializer_range`
    return build_task(family, family.config(**{**SIZES, **rates, **fields, **changes}), task, dtype=dtype,
                      **SETTINGS.get(task, {}))


def streams(model):
    """What the names of its inputs begin with, and the names of its ids; the last stream has the output's length."""
    if isinstance(model.backbone, EncoderDecoder):
        return {"encoder_": ["encoder_token_ids"], "decoder_": ["decoder_token_ids"]}
    chosen = ["global_mask"] * (model.task == "fill-mask" and hasattr(model.config, "max_global_tokens"))
    return {"": ["token_ids"] + ["segment_ids"] * (getattr(model.config, "num_segments", 0) > 1) + chosen}


def output_ids(model):
    """The name of the ids whose positions the output has."""
    return f"{list(streams(model))[-1]}token_ids"


def whole(model, **changes):
    """Inputs without padding."""
    return {name: IDS[name] for names in streams(model).values() for name in names} | changes


def alone(model, row):
    """Inputs of one row, unpadded."""
    return {name: IDS[name][row:row + 1, :LENGTHS[stream][row]]
            for stream, names in streams(model).items() for name in names}


def padded(model, side):
    """(inputs, rows): `IDS` cut to `LENGTHS` and filled up with noise on one side; where each row of output is."""
    inputs, noise = {}, np.random.default_rng(1)
    for stream, names in streams(model).items():
        size = IDS[names[0]].shape[1]
        rows = [slice(size - length, size) if side == "left" else slice(0, length) for length in LENGTHS[stream]]
        mask = np.zeros((B, size), bool)
        for name in names:
            inputs[name] = noise.integers(0, IDS[name].max() + 1, (B, size)).astype("int32")
            for row, real in enumerate(rows):
                inputs[name][row, real] = IDS[name][row, :LENGTHS[stream][row]]
                mask[row, real] = True
        inputs[f"{stream}padding_mask"] = mask
    return inputs, rows


def real_outputs(model, inputs):
    """Index of what is an answer to real tokens."""
    mask = inputs[f"{list(streams(model))[-1]}padding_mask"]
    return mask.any(axis=1) if model.task in POOLED else mask


ROWS, MARK = 16, 28  # of a lesson; a token that stands out


def few_ids(length):
    """int32 (ROWS, length) of few values, the same at every call."""
    return np.random.default_rng(0).integers(0, 7, (ROWS, length)).astype("int32")


def learn_to_go_on(model):
    """a, b, a, b, ...: the token two steps back tells the next one, the last token alone does not."""
    token_ids = np.tile(few_ids(2), (1, 4))  # (16, 8)
    return {"token_ids": token_ids[:, :-1]}, token_ids[:, 1:]


def learn_to_fill(model):
    """a, b, a, b, ... with gaps."""
    token_ids = np.tile(few_ids(2), (1, 4))
    gaps = np.random.default_rng(1).random(token_ids.shape) < 0.3
    return {"token_ids": np.where(gaps, MARK, token_ids).astype("int32")}, token_ids


def learn_classes(model):
    """The third token tells the class."""
    token_ids = few_ids(6)
    return {"token_ids": token_ids}, token_ids[:, 2] % 3


def learn_tags(model):
    """A token's neighbour tells its tag."""
    token_ids = few_ids(6)
    return {"token_ids": token_ids}, np.roll(token_ids, 1, axis=1) % 5


def learn_spans(model):
    """The answer is a token that stands out, and the one after it."""
    token_ids = few_ids(6)
    starts = np.arange(ROWS) % 5
    token_ids[np.arange(ROWS), starts] = MARK
    return {"token_ids": token_ids}, {"start_logits": starts, "end_logits": starts + 1}


def learn_directions(model):
    """Texts of a class have the same features."""
    inputs, classes = learn_classes(model)
    return inputs, np.eye(SIZES["hidden_dim"], dtype="float32")[classes]


def learn_from_the_source(model):
    """The source says one token over and over, and so must the target, which is not shown to the decoder."""
    token_ids = few_ids(1)
    return {"encoder_token_ids": np.tile(token_ids, (1, 5)), "decoder_token_ids": np.full((ROWS, 4), MARK, "int32")}, (
        np.tile(token_ids, (1, 4)))


LESSONS = {  # task -> function of a model to (inputs, targets) that it can learn in a moment
    "text-generation": learn_to_go_on,
    "translation": learn_from_the_source,
    "summarization": learn_from_the_source,
    "fill-mask": learn_to_fill,
    "text-classification": learn_classes,
    "token-classification": learn_tags,
    "question-answering": learn_spans,
    "feature-extraction": learn_directions,
}
