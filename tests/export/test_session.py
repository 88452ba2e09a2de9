"""Sessions: what they accept, and that each continues text as the live model does."""
import subprocess
import sys

import numpy as np
import pytest

from kzoo.export import open_bundle
from kzoo.export.session import RUNTIMES, check_threads, first_line, physical_cores
from kzoo.export.session_inputs import check_inputs, complete, token_positions
from kzoo.export.signatures import forward_signature, signatures

SIZES = {"num_layers": 1, "num_key_value_heads": 3, "head_dim": 5, "vocabulary_size": 7, "max_sequence_length": 11,
         "static_length": 11}
FORWARD = forward_signature("text-generation", SIZES)
DECODE = signatures("text-generation", "savedmodel", SIZES)["decode"]
POSITIONS = signatures("text-generation", "onnx", SIZES)["prefill"]
TOKEN = {"token_ids": [[1]]}
ENCODER = forward_signature("fill-mask", {**SIZES, "num_segments": 2})
WINDOWS = forward_signature("question-answering", {**SIZES, "num_segments": 1, "max_global_tokens": 2})
PAIR = forward_signature("translation", {**SIZES, "source_vocabulary_size": 11})
IDS = np.array([[1, 2, 3], [4, 5, 6]], "int32")


def decode_inputs(**changes):
    cache = np.zeros((2, 2, 3, 5), "float32")
    return {"token_ids": IDS, "padding_mask": np.ones((2, 5), bool), "cache_keys_0": cache, "cache_values_0": cache,
            **changes}


def test_arrays_come_out_in_the_dtypes_of_the_rows():
    inputs = decode_inputs(token_ids=IDS.astype("int64"), padding_mask=np.ones((2, 5), int))
    arrays = check_inputs(DECODE, inputs, SIZES)
    assert arrays["token_ids"].dtype == "int32" and arrays["padding_mask"].dtype == bool
    without = check_inputs(FORWARD, {"token_ids": IDS.tolist()}, SIZES)
    assert set(without) == {"token_ids"}  # the mask is optional
    assert complete(FORWARD, without)["padding_mask"].all()
    assert set(complete(DECODE, without)) == {"token_ids"}  # where it covers the past too, nobody can guess it


def test_the_task_chooses_global_tokens_where_the_caller_does_not():
    assert WINDOWS.inputs[-1].name == "global_mask" and "global_mask" not in {row.name for row in ENCODER.inputs}
    arrays = check_inputs(WINDOWS, {"token_ids": IDS, "padding_mask": [[1, 1, 1], [0, 1, 1]]}, SIZES)
    for task, expected in (("text-classification", [[1, 0, 0], [0, 1, 0]]), ("fill-mask", np.zeros((2, 3))),
                           ("question-answering", [[1, 1, 0], [0, 1, 1]])):
        chosen = complete(WINDOWS, arrays, task, {"sep_id": 3})["global_mask"]
        assert chosen.dtype == bool
        np.testing.assert_array_equal(chosen, np.array(expected, bool))
    given = check_inputs(WINDOWS, {"token_ids": IDS, "global_mask": IDS > 4}, {**SIZES, "max_global_tokens": 2})
    np.testing.assert_array_equal(complete(WINDOWS, given, "question-answering", {})["global_mask"], IDS > 4)
    with pytest.raises(ValueError, match="`global_mask` must have at most 2 tokens a row .*Received: 3"):
        check_inputs(WINDOWS, {"token_ids": IDS, "global_mask": IDS > 0}, {**SIZES, "max_global_tokens": 2})


@pytest.mark.parametrize(("signature", "inputs", "message"), [
    (FORWARD, [IDS], "a dict of arrays"),
    (FORWARD, {"token_idz": IDS}, "Unknown input 'token_idz'. Did you mean 'token_ids'"),
    (FORWARD, {}, "lacks the input `token_ids`"),
    (FORWARD, {"token_ids": IDS[0]}, r"`token_ids` must have the shape \(batch_size, sequence_length\)"),
    (FORWARD, {"token_ids": IDS.astype("float32")}, "`token_ids` must hold whole numbers"),
    (FORWARD, {"token_ids": IDS + 1}, "`token_ids` must be from 0 to 6. Received: 7"),
    (FORWARD, {"token_ids": IDS - 2}, "`token_ids` must be from 0 to 6. Received: -1"),
    (FORWARD, {"token_ids": IDS[:0]}, "`token_ids` is empty"),
    (FORWARD, {"token_ids": np.zeros((1, 12), int)}, "reaches 12 tokens; .* is 11"),
    (FORWARD, {"token_ids": IDS, "padding_mask": np.ones((2, 4), bool)}, "`padding_mask` must have the shape"),
    (FORWARD, {"token_ids": IDS, "padding_mask": np.ones((2, 3))}, "`padding_mask` must be bool"),
    (FORWARD, {"token_ids": IDS, "padding_mask": np.full((2, 3), 2)}, "`padding_mask` must be bool.*Received: 2"),
    (FORWARD, {"token_ids": IDS, "padding_mask": np.full((2, 3), -1)}, "`padding_mask` must be bool.*Received: -1"),
    (FORWARD, {"token_ids": IDS, "padding_mask": np.full((2, 3), np.nan)}, "`padding_mask` must be bool.*float64"),
    (FORWARD, {"token_ids": IDS, "padding_mask": [["1", "0", "1"]] * 2}, "`padding_mask` must be bool.*Received: <U1"),
    (FORWARD, {"token_ids": [[1, 2], [3]]}, "`token_ids` is no array of numbers"),
    (FORWARD, {"token_ids": [[1, None]]}, "`token_ids` must hold whole numbers.*object"),
    (FORWARD, {"token_ids": [["a", "b"]]}, "`token_ids` must hold whole numbers"),
    (FORWARD, {"token_ids": [[np.nan]]}, "`token_ids` must hold whole numbers"),
    (FORWARD, {"token_ids": [[True]]}, "`token_ids` must hold whole numbers.*bool"),
    (FORWARD, {"token_ids": [[2**64]]}, "`token_ids` must hold whole numbers.*object"),
    (FORWARD, {"token_ids": np.array([[2**63]], "uint64")}, "`token_ids` must be from 0 to 6. Received: 922337"),
    (FORWARD, {"token_ids": 3}, r"`token_ids` must have the shape.*Received: \(\)"),
    (FORWARD, {3: IDS}, "Unknown input 3"),
    (POSITIONS, {**TOKEN, "positions": [[11]]}, "`positions` must be from 0 to 10. Received: 11"),
    (POSITIONS, {**TOKEN, "positions": [[-1]]}, "`positions` must be from 0 to 10. Received: -1"),
    (POSITIONS, {**TOKEN, "positions": [[0.0]]}, "`positions` must hold whole numbers"),
    (ENCODER, {"token_ids": IDS, "segment_ids": IDS}, "`segment_ids` must be from 0 to 1. Received: 6"),
    (PAIR, {"encoder_token_ids": IDS * 2, "decoder_token_ids": IDS}, "`encoder_token_ids` must be from 0 to 10.*12"),
    (PAIR, {"encoder_token_ids": IDS, "decoder_token_ids": IDS + 1}, "`decoder_token_ids` must be from 0 to 6"),
    (PAIR, {"encoder_token_ids": IDS, "decoder_token_ids": IDS[:1]}, "`decoder_token_ids` must have the shape"),
    (DECODE, decode_inputs(padding_mask=np.ones((2, 3), bool)), r"must cover the cache and the new tokens, 2 \+ 3"),
    (DECODE, decode_inputs(cache_keys_0=np.zeros((2, 2, 5, 3), "float32")), "`cache_keys_0` must have the shape"),
    (DECODE, decode_inputs(cache_keys_0=np.zeros((2, 1, 3, 5), "float32")), "`cache_values_0` must have the shape"),
    (DECODE, decode_inputs(cache_values_0=np.full((2, 2, 3, 5), np.nan)), "`cache_values_0` holds values that are not"),
    (DECODE, decode_inputs(cache_values_0=np.full((2, 2, 3, 5), -np.inf)), "`cache_values_0` holds values that are"),
    (DECODE, decode_inputs(cache_values_0=np.full((2, 2, 3, 5), 1e300)), "`cache_values_0` holds values that are not"),
    (DECODE, decode_inputs(cache_values_0=np.zeros((2, 2, 3, 5), int)), "`cache_values_0` must be float32"),
    (DECODE, decode_inputs(cache_values_0=np.zeros((2, 2, 3, 5), complex)), "`cache_values_0` must be float32"),
    (DECODE, decode_inputs(token_ids=np.zeros((2, 10), int), padding_mask=np.ones((2, 12), bool)), "reaches 12 tokens"),
])
def test_inputs_that_do_not_fit_are_named(signature, inputs, message):
    with pytest.raises(ValueError, match=message):
        check_inputs(signature, inputs, {**SIZES, "num_segments": 2, "source_vocabulary_size": 11})


def test_positions_count_real_tokens():
    mask = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0]])
    np.testing.assert_array_equal(token_positions(mask), [[0, 0, 0, 1, 2], [0, 1, 2, 2, 2]])


def test_threads():
    assert check_threads(None) == physical_cores() >= 1
    assert check_threads(3) == 3
    for wrong in (0, -1, 1.5, True, "2"):
        with pytest.raises(ValueError, match="`threads` must be a whole number"):
            check_threads(wrong)


def test_first_line():
    assert first_line(ValueError("\n\n  here \n there")) == "here"
    assert first_line(ValueError()) == "ValueError"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_continues_text_as_the_live_model_does(exported, model, runtime):
    session = open_bundle(exported[0], runtime)
    prompts = ["the quick", "pack my box with", "l"]
    assert session.runtime == runtime and session.variant == "none" and session.manifest["family"]
    assert session.generate(prompts, max_new_tokens=7) == model.generate(prompts, max_new_tokens=7)
    assert session("the quick", max_new_tokens=5) == model.generate("the quick", max_new_tokens=5)
    beams = {"max_new_tokens": 6, "num_beams": 3}
    assert session.generate([[5, 3, 2], [7]], **beams) == model.generate([[5, 3, 2], [7]], **beams)
    different = [session.generate(prompts, max_new_tokens=7, do_sample=True, temperature=3.0, seed=seed)
                 for seed in (1, 2)]
    assert different[0] != different[1]  # so that the equalities above could fail


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_session_refuses_what_does_not_fit(exported, runtime):
    session = open_bundle(exported[0], runtime)
    with pytest.raises(ValueError, match="Unknown signature 'foward'. Did you mean 'forward'"):
        session.run("foward", {})
    for wrong in (["forward"], None, 3):
        with pytest.raises(ValueError, match="Unknown signature"):
            session.run(wrong, {})
    with pytest.raises(ValueError, match="`token_ids` must be from 0 to 310"):
        session.run("forward", {"token_ids": [[311]]})
    with pytest.raises(ValueError, match="53"):
        session.run("forward", {"token_ids": np.zeros((1, 54), "int32")})


WITHOUT_TENSORFLOW = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "keras", "jax", "torch"):
            raise ImportError(f"{name} is blocked here")

sys.meta_path.insert(0, Block())
from kzoo.export import open_bundle
session = open_bundle(sys.argv[1], sys.argv[2])
print(session.generate([[5, 3, 2], [7]], max_new_tokens=6))
assert session("the quick", max_new_tokens=3).startswith("the quick")
"""


def without_tensorflow(folder, runtime):
    return subprocess.run([sys.executable, "-c", WITHOUT_TENSORFLOW, str(folder), runtime], capture_output=True,
                          text=True, check=False)


@pytest.mark.parametrize("runtime", ["onnx", "tflite"])
def test_a_bundle_runs_where_tensorflow_and_keras_are_not(exported, model, runtime):
    finished = without_tensorflow(exported[0], runtime)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == str(model.generate([[5, 3, 2], [7]], max_new_tokens=6))


def test_the_block_blocks(exported):
    finished = without_tensorflow(exported[0], "savedmodel")
    assert finished.returncode != 0
    assert "pip install 'kzoo[train]'" in finished.stderr
