"""The tables of names."""
import pytest

from kzoo.export.signature_tables import SIZES as SIZE_NAMES
from kzoo.export.signature_tables import TABLES
from kzoo.export.signatures import forward_lengths, forward_signature, prefill_lengths, signatures
from kzoo.export.text_forms import reads_text

SIZES = {"num_layers": 2, "num_key_value_heads": 3, "head_dim": 5, "vocabulary_size": 7, "max_sequence_length": 33,
         "static_length": 33}
TEXTS = {"vocabulary_size": 11, "max_sequence_length": 45, "num_segments": 2, "num_labels": 3, "hidden_dim": 13,
         "max_global_tokens": 4}


def names(rows):
    return [row.file_name for row in rows]


def test_onnx_has_the_names_that_its_clients_expect():
    decode = signatures("text-generation", "onnx", SIZES)["decode"]
    assert names(decode.inputs) == ["input_ids", "attention_mask", "position_ids",
                                    "past_key_values.0.key", "past_key_values.0.value",
                                    "past_key_values.1.key", "past_key_values.1.value"]
    assert names(decode.outputs) == ["logits", "present.0.key", "present.0.value", "present.1.key", "present.1.value"]
    assert decode.inputs[3].shape == ("batch_size", 3, "past_sequence_length", 5)
    assert {row.dtype for row in decode.inputs[:3]} == {"int64"}


def test_tflite_has_a_bucket_for_each_length_that_fits():
    forms = signatures("text-generation", "tflite", SIZES)
    assert [form.file_name for form in forms.values()] == ["decode", "prefill_8", "prefill_32"]
    assert names(forms["prefill_32"].inputs)[:3] == ["tokens", "input_pos", "mask"]
    assert forms["prefill_32"].inputs[0].shape == (1, 32)
    assert forms["decode"].inputs[3].shape == (1, 33, 3, 5)
    assert "logits" not in names(forms["prefill_8"].outputs) and "logits" in names(forms["decode"].outputs)


def test_saved_model_has_the_default_signature():
    forms = signatures("text-generation", "savedmodel", SIZES)
    assert [form.file_name for form in forms.values()] == ["serving_default", "prefill", "decode"]


@pytest.mark.parametrize(("context", "expected"), [(5, (5,)), (8, (8,)), (100, (8, 32)),
                                                   (4096, (8, 32, 128, 1024))])
def test_prefill_lengths(context, expected):
    assert prefill_lengths(context) == expected


@pytest.mark.parametrize(("context", "expected"), [(5, (5,)), (32, (32,)), (100, (32, 100)), (512, (32, 128, 512)),
                                                   (4096, (32, 128, 512, 2048, 4096))])
def test_every_text_has_a_bucket(context, expected):
    assert forward_lengths(context) == expected


def test_encoders_have_the_names_that_their_clients_expect():
    for runtime, form in (("onnx", "forward"), ("tflite", "forward_45")):
        rows = signatures("question-answering", runtime, TEXTS)[form]
        assert names(rows.inputs) == ["input_ids", "attention_mask", "token_type_ids", "global_attention_mask"]
        assert names(rows.outputs) == ["start_logits", "end_logits"]
    assert {row.shape for row in (*rows.inputs, *rows.outputs)} == {(1, 45)}
    assert {row.dtype for row in rows.inputs} == {"int32"}
    features = signatures("feature-extraction", "onnx", TEXTS)["forward"]
    assert [row.shape[1:] for row in features.outputs] == [("sequence_length", 13), (13,)]


def test_models_without_segments_and_global_tokens_have_no_inputs_for_them():
    for runtime in TABLES["fill-mask"]:
        for form in signatures("fill-mask", runtime, {**TEXTS, "num_segments": 1, "max_global_tokens": 1}).values():
            names = ["texts"] if reads_text(runtime) else ["token_ids", "padding_mask"]
            assert [row.name for row in form.inputs] == names


@pytest.mark.parametrize("task", TABLES)
def test_every_row_is_filled_in(task):
    sizes = {**SIZES, **TEXTS, "source_vocabulary_size": 5, "static_length": 45, "max_target_length": 0}
    assert set(SIZE_NAMES[task]) <= set(sizes)
    symbols = {"batch_size", "sequence_length", "past_sequence_length", "total_sequence_length", "source_length"}
    for runtime in TABLES[task]:
        for form in signatures(task, runtime, sizes).values():
            text = str(form.to_dict())
            assert "{i}" not in text and "{length}" not in text
            for row in (*form.inputs, *form.outputs):
                assert all(type(size) is int or size in symbols for size in row.shape)
            assert len({row.name for row in form.inputs}) == len(form.inputs)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="Did you mean 'onnx'"):
        signatures("text-generation", "onxx", SIZES)
    with pytest.raises(ValueError, match="Unknown task"):
        signatures("singing", "onnx", SIZES)
    with pytest.raises(ValueError, match="Unknown task"):
        forward_signature("singing", SIZES)
