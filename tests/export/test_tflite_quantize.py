"""Variants of a TFLite file: near the float answer, tables stored once, and all in 8 bits where asked for."""
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils

from kzoo.export import tflite_quantize
from kzoo.export.tflite_file import read_tflite
from kzoo.export.tflite_quantize import BLOCKS, look_up_tables, quantize, row_lengths

V, T, E, F = 300, 7, 64, 96  # a table of V * E is large enough to be packed
NUM_WEIGHTS = V * E + 2 * E * F
random = np.random.default_rng(0)
TABLE = random.normal(0, 0.5, (V, E)).astype("float32")
UP, DOWN = random.normal(0, 0.2, (E, F)).astype("float32"), random.normal(0, 0.2, (F, E)).astype("float32")
IDS = random.integers(0, V, (40, 1, T)).astype("int32")
MASK = np.array([[1] * (T - 2) + [0] * 2], "int32")
# Largest error of logits, by the spread of the float ones.
NEAR = {"fp16": 1e-3, "int8": 0.02, "int4": 0.2, "int8_full": 0.1}


def attend(ids, mask):
    """Attention over what a table says of ids, two layers, and the same table again for logits."""
    x = tf.gather(TABLE, ids)                                                       # (1, T, E)
    scores = tf.matmul(x, x, transpose_b=True) / 8.0                                # (1, T, T)
    scores = tf.where(tf.cast(mask, tf.bool)[:, None], scores, -1e9)
    x = tf.matmul(tf.nn.softmax(scores), x)
    x = tf.matmul(tf.nn.relu(tf.matmul(x, UP)), DOWN)
    return {"logits": tf.matmul(tf.reshape(x, (-1, E)), TABLE, transpose_b=True)}  # (T, V)


@pytest.fixture(scope="module")
def content():
    specs = [tf.TensorSpec((1, T), tf.int32, name="ids"), tf.TensorSpec((1, T), tf.int32, name="mask")]
    function = tf.function(attend, input_signature=specs)
    module = tf.Module()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], module)
    return converter.convert()


@pytest.fixture(scope="module")
def files(content):
    """Variant -> bytes."""
    samples = {"serving_default": [{"ids": ids, "mask": MASK} for ids in IDS[1:]]}
    return {"none": content, **{variant: quantize(content, variant, samples) for variant in NEAR}}


def run(content, ids=IDS[0]):
    return Interpreter(model_content=content).get_signature_runner("serving_default")(ids=ids, mask=MASK)["logits"]


def error(content, expected):
    return np.abs(run(content) - expected).max() / np.ptp(expected)


def graph_of(content, folder):
    (folder / "model.tflite").write_bytes(content)
    return read_tflite(folder / "model.tflite")[0]


@pytest.mark.parametrize("variant", NEAR)
def test_answers_stay_near_and_are_not_the_same(files, variant):
    expected = run(files["none"])
    assert 0 < error(files[variant], expected) < NEAR[variant]
    assert error(files[variant], run(files["none"], IDS[1])) > 0.5


@pytest.mark.parametrize("variant, bytes_of_a_weight", [("fp16", 2), ("int8", 1), ("int8_full", 1), ("int4", 0.6)])
def test_each_weight_is_stored_once(files, content, variant, bytes_of_a_weight, monkeypatch):
    most = NUM_WEIGHTS * bytes_of_a_weight + 12_000
    assert len(files[variant]) < most < len(content)
    if variant == "int8":  # a table that is read by a GATHER keeps its float numbers beside the packed ones
        monkeypatch.setattr(tflite_quantize, "look_up_tables", lambda model: None)
        assert len(quantize(content, variant)) > most


def test_tables_are_looked_up_with_the_same_answer(content):
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    look_up_tables(model)
    assert row_lengths(model) == {E, F}
    changed = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    np.testing.assert_array_equal(run(changed), run(content))


def test_blocks_must_cut_every_row_evenly(files, tmp_path):
    """Of rows of 64 and 96 only blocks of 32 do."""
    assert BLOCKS == (64, 32) and E % 64 == 0 and F % 64
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(files["int4"]))
    blocks = {tensor.quantization.details.blockSize for tensor in model.subgraphs[0].tensors
              if tensor.quantization is not None and tensor.quantization.detailsType == 2}
    assert blocks == {32}


def test_full_is_all_in_integers(files, tmp_path):
    def floats(variant):
        graph = graph_of(files[variant], tmp_path)
        return {operator.kind for operator in graph.operators
                if any(graph.tensors[number].dtype == "FLOAT32" for number in operator.outputs)}
    # What is looked up is packed by row, and callers get logits as from every variant.
    assert floats("int8_full") <= {"EMBEDDING_LOOKUP", "RESHAPE", "DEQUANTIZE"}
    assert {"SOFTMAX", "FULLY_CONNECTED", "BATCH_MATMUL"} <= floats("int8")


def test_hidden_tokens_stay_hidden_in_8_bits(files, content, monkeypatch):
    changed = IDS[0].copy()
    changed[0, -2:] = 7, 9
    seen = slice(0, T - 2)
    before, after = run(files["int8_full"]), run(files["int8_full"], changed)
    assert np.abs(after - before)[seen].max() < 0.02 * np.ptp(before)
    assert np.abs(run(files["none"], changed) - run(files["none"]))[T - 2:].max() > 0.1  # their own rows do change
    # A scale that also holds -1e9 has one step for all scores.
    monkeypatch.setattr(tflite_quantize, "hide_within_range", lambda model, ranges: None)
    samples = {"serving_default": [{"ids": ids, "mask": MASK} for ids in IDS[1:]]}
    blind = quantize(content, "int8_full", samples)
    assert error(blind, run(files["none"])) > NEAR["int8_full"]
