"""The contract of every target: configs that differ in every part are written, and pass the gate."""
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.export import TARGETS, compare, get_target, read_bundle
from kzoo.export.artifact import Artifact, Bundle
from kzoo.export.audit import audit
from kzoo.export.golden import record_golden
from kzoo.export.keras_session import live_session
from kzoo.export.session import open_session
from kzoo.export.signatures import settings_of, sizes_of

SIZES = {"vocabulary_size": 29, "num_layers": 2, "num_heads": 6, "hidden_dim": 36, "intermediate_dim": 7,
         "max_sequence_length": 19}
CONFIGS = {
    "grouped heads, rotary": {"num_key_value_heads": 2, "position": "rotary", "activation": "silu"},
    "ALiBi, no bias": {"position": "alibi", "use_bias": False, "activation": "gelu"},
}


ENCODER = {"vocabulary_size": 67, "num_layers": 2, "num_heads": 3, "hidden_dim": 21, "intermediate_dim": 17,
           "max_sequence_length": 45}
ENCODERS = {  # task -> preset, fields, settings; each with other parts
    "text-classification": ("bert-tiny", {}, {"labels": ("a", "b", "c", "d", "e")}),
    "token-classification": ("distilbert-base", {"activation": "silu"}, {"labels": ("O", "B-X")}),
    "fill-mask": ("roberta-base", {}, {}),
    "question-answering": ("longformer-tiny", {"window_size": (3, 5), "max_global_tokens": 7}, {}),
    "feature-extraction": ("bert-tiny", {"use_pooler": True}, {"pooling": "mean", "normalize": True}),
}


REWRITERS = {  # preset -> task, fields
    "transformer-tiny": ("translation", {"norm_placement": "pre", "max_sequence_length": 41}),
    "marian-base": ("summarization", {"max_sequence_length": 37, "pad_id": 60, "eos_id": 1, "decoder_start_id": 60}),
    "t5-v1.1-small": ("translation", {"head_dim": 5}),
    "led-base-16384": ("summarization", {"max_sequence_length": 41, "max_target_length": 23, "window_size": 4}),
}
TEXT = ["the quick brown fox jumps over the lazy dog", "pack my box with five dozen liquor jugs"]
QUESTIONS = {"question-answering": [{"question": "who jumps?", "context": TEXT[0]}],
             "fill-mask": ["the quick [MASK]"]}


@pytest.fixture(scope="module", autouse=True)
def live_models_uncompiled():
    """What live models are asked here takes less time than compiling them for it."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def write(model, name, folder, variant="none"):
    """A session on the model's artifact, which is made of what it may be made of."""
    target = get_target(name)
    files = target.write(model, folder, variant)  # in this process: one small model does not hurt
    artifact = Artifact(name, variant, target.path(variant, model.task), tuple(files))
    manifest = {"task": model.task, "sizes": sizes_of(model), "settings": settings_of(model)}
    if model.tokenizer is not None:
        model.tokenizer.save(folder)
    bundle = Bundle(folder, manifest, {}, (artifact,))
    assert [check for check in audit(bundle, artifact).checks if not check[3]] == []
    return open_session(bundle, artifact)


def failures(session, model):
    return [row for row in compare(record_golden(live_session(model)), session) if not row["passed"]]


def assert_it_is_no_other(session, other):
    """Another model's answers are not these. What compares is the same for all formats, so that one shows it."""
    if session.runtime == "onnx":
        assert len(failures(session, other)) > 5


@pytest.mark.parametrize("name", TARGETS)
def test_the_bundle_of_all_passed(exported, name):
    artifact = read_bundle(exported[0]).find(name)
    assert artifact.verification["passed"] and len(artifact.verification["rows"]) > 8


@pytest.mark.parametrize(("name", "config"), [
    *(("onnx", config) for config in CONFIGS), ("tflite", "ALiBi, no bias"), ("savedmodel", "grouped heads, rotary")])
def test_other_parts_pass_the_gate(name, config, redrawn, tmp_path):
    model = redrawn(kzoo.create("gpt2-nano", **SIZES, **CONFIGS[config]))
    session = write(model, name, tmp_path)
    assert failures(session, model) == []
    other = redrawn(kzoo.create("gpt2-nano", **SIZES, **CONFIGS[config]), seed=1)
    assert_it_is_no_other(session, other)


# Conversions take seconds: the format whose graphs we write ourselves sees everything, the others what differs most.
@pytest.mark.parametrize(("name", "task"), [
    *(("onnx", task) for task in ENCODERS), ("tflite", "question-answering"), ("tflite", "feature-extraction"),
    ("savedmodel", "token-classification"), ("savedmodel", "fill-mask")])
def test_encoders_pass_the_gate_and_answer_text(name, task, redrawn, tmp_path):
    preset, fields, settings = ENCODERS[task]
    tokenizer = kzoo.train_tokenizer("wordpiece", TEXT * 5, vocabulary_size=60)
    model, other = (redrawn(kzoo.create(preset, task=task, tokenizer=tokenizer, **ENCODER, **fields, **settings), seed)
                    for seed in (0, 1))
    session = write(model, name, tmp_path)
    assert failures(session, model) == []
    assert_it_is_no_other(session, other)
    for question in QUESTIONS.get(task, TEXT):
        assert flat(session(question)) == pytest.approx(flat(model(question)), abs=1e-4)
        assert flat(session(question)) != pytest.approx(flat(other(question)), abs=1e-4)


@pytest.mark.parametrize(("name", "preset"), [
    *(("onnx", preset) for preset in REWRITERS), ("tflite", "transformer-tiny"), ("tflite", "t5-v1.1-small"),
    ("tflite", "led-base-16384"), ("savedmodel", "marian-base")])
def test_encoder_decoders_pass_the_gate_and_write_the_same(name, preset, redrawn, tmp_path):
    task, fields = REWRITERS[preset]
    sizes = {"vocabulary_size": 61, "num_layers": 1, "num_decoder_layers": 2, "num_heads": 3, "hidden_dim": 24,
             "intermediate_dim": 17, **fields}
    model, other = (redrawn(kzoo.create(preset, task=task, **sizes), seed) for seed in (0, 1))
    session = write(model, name, tmp_path)
    assert failures(session, model) == []
    assert_it_is_no_other(session, other)
    if name == "tflite":  # its length is fixed, also where the model has no limit
        static = session.sizes["static_length"]
        with pytest.raises(ValueError, match=f"`decoder_token_ids` reaches {static + 1} tokens"):
            session.run("forward", {"encoder_token_ids": [[1]], "decoder_token_ids": [[1] * (static + 1)]})
    sources = [[5, 3, 7, 1], [9, 8, 2, 4, 6, 11, 1], [1]]
    for options in ({}, {"num_beams": 3}):
        expected = model.generate(sources, max_new_tokens=9, **options)
        assert session.generate(sources, max_new_tokens=9, **options) == expected
        assert other.generate(sources, max_new_tokens=9, **options) != expected


@pytest.mark.parametrize("name", ["onnx", "tflite"])
def test_quantised_variants_pass_the_gate_and_are_smaller(name, redrawn, tmp_path):
    sizes = {**SIZES, "vocabulary_size": 499, "hidden_dim": 128, "intermediate_dim": 256, "num_heads": 4}
    model, other = (redrawn(kzoo.create("gpt2-nano", **sizes), seed) for seed in (0, 1))
    target = get_target(name)
    for variant in target.quantisations:  # in one folder, where those that are made of the float file find it
        if variant in target.calibrated:
            continue
        before = set(tmp_path.rglob("model*"))
        session = write(model, name, tmp_path, variant)
        assert failures(session, model) == []
        if variant != "none":
            assert_it_is_no_other(session, other)
        share = sum(path.stat().st_size for path in {*tmp_path.rglob("model*")} - before) / (4 * model.count_params())
        graphs = 150_000 / (4 * model.count_params())  # what does not shrink
        assert share - graphs < {"none": 1.01, "fp16": 0.51, "int8": 0.28, "int4": 0.16}[variant]


def flat(answer):
    """The numbers of an answer, each named by its place and by the words beside it."""
    if isinstance(answer, dict):
        words = tuple(value for value in answer.values() if isinstance(value, str))
        return {(name, *words, *place): value for name, each in answer.items() if not isinstance(each, str)
                for place, value in flat(each).items()}
    if isinstance(answer, (list, tuple, np.ndarray)):
        return {(i, *place): value for i, each in enumerate(answer) for place, value in flat(each).items()}
    return {(): float(answer)}
