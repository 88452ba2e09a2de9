"""The tables of names."""
import pytest

from kzoo.export.signatures import TABLES, forward_signature, prefill_lengths, signatures

SIZES = {"num_layers": 2, "num_key_value_heads": 3, "head_dim": 5, "vocabulary_size": 7, "max_sequence_length": 33}


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


@pytest.mark.parametrize("task", TABLES)
def test_every_row_is_filled_in(task):
    for runtime in TABLES[task]:
        for form in signatures(task, runtime, SIZES).values():
            text = str(form.to_dict())
            assert "{" not in text.replace("{'", "") or "{i}" not in text and "{length}" not in text
            assert len({row.name for row in form.inputs}) == len(form.inputs)
    assert forward_signature(task, SIZES).outputs[0].shape[-1] == 7


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="Did you mean 'onnx'"):
        signatures("text-generation", "onxx", SIZES)
    with pytest.raises(ValueError, match="Unknown task"):
        signatures("singing", "onnx", SIZES)
    with pytest.raises(ValueError, match="Unknown task"):
        forward_signature("singing", SIZES)
