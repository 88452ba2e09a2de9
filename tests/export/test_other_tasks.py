"""Whole bundles of models that do not continue text: what `export` writes opens, answers, and verifies without them."""
import json
import shutil

import pytest

import kzoo
from kzoo.cli import main
from kzoo.export import open_bundle, verify
from kzoo.export.manifest import write_manifest

TEXT = ["the quick brown fox jumps over the lazy dog", "pack my box with five dozen liquor jugs"]
SIZES = {"num_layers": 1, "num_heads": 3, "hidden_dim": 18, "intermediate_dim": 17, "max_sequence_length": 41}


@pytest.fixture(scope="module")
def classifier(redrawn, export_here, tmp_path_factory):
    """(model, folder) of a bundle with labels."""
    tokenizer = kzoo.train_tokenizer("wordpiece", TEXT * 5, vocabulary_size=60)
    model = redrawn(kzoo.create("bert-tiny", task="text-classification", labels=("short", "long", "neither"),
                                tokenizer=tokenizer, vocabulary_size=67, **SIZES))
    folder = tmp_path_factory.mktemp("classifier") / "bundle"
    export_here(model, folder, formats=("onnx",))
    return model, folder


@pytest.fixture(scope="module")
def translator(redrawn, export_here, tmp_path_factory):
    """(model, folder) of a bundle with three graphs."""
    tokenizer = kzoo.train_tokenizer("sentencepiece", TEXT * 5, vocabulary_size=300)
    ids = {name: free if getattr(tokenizer, name) is None else getattr(tokenizer, name)
           for name, free in (("pad_id", 300), ("eos_id", 301))}
    sizes = {"vocabulary_size": 307, "decoder_start_id": 300, **ids, **SIZES}
    model = redrawn(kzoo.create("transformer-tiny", task="translation", tokenizer=tokenizer, **sizes))
    folder = tmp_path_factory.mktemp("translator") / "bundle"
    export_here(model, folder, formats=("onnx",))
    return model, folder


def test_a_classifier_answers_from_its_bundle(classifier):
    model, folder = classifier
    session = open_bundle(folder)
    for text in TEXT:
        expected = model(text)
        assert session(text)["label"] == expected["label"]
        assert session(text)["scores"] == pytest.approx(expected["scores"], abs=1e-5)
    assert verify(folder).passed
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Time for a text; shorter is better" in page and "every artifact verified" in page
    text = (folder / "README.md").read_text(encoding="utf-8")
    for word in ("ORTModelForSequenceClassification", "`token_type_ids` int64", "`logits` float32 (batch_size, 3)"):
        assert word in text
    assert "$" not in text.replace("$PWD", "")


def test_a_translator_writes_from_its_bundle(translator):
    model, folder = translator
    session = open_bundle(folder)
    for options in ({"num_beams": 3}, {"do_sample": True, "seed": 3}):
        assert session(TEXT, max_new_tokens=11, **options) == model.generate(TEXT, max_new_tokens=11, **options)
    assert session(TEXT[0], do_sample=True, seed=1) != session(TEXT[0], do_sample=True, seed=2)
    assert verify(folder).passed
    assert {"encoder_model.onnx", "decoder_model.onnx", "decoder_with_past_model.onnx"} <= {
        path.name for path in (folder / "onnx").iterdir()}
    assert json.loads((folder / "generation_config.json").read_text())["decoder_start_token_id"] == 300
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "ORTModelForSeq2SeqLM" in text and "$" not in text.replace("$PWD", "")


def test_the_command_line_serves_them(classifier, translator, capsys, tmp_path):
    assert main(["run", str(classifier[1]), TEXT[0], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["answer"]["label"] == classifier[0](TEXT[0])["label"]
    (tmp_path / "rows.tsv").write_text(f"text\tlabel\n{TEXT[0]}\tlong\n{TEXT[1]}\tshort\n")
    assert main(["evaluate", str(classifier[1]), "--data", str(tmp_path / "rows.tsv"), "--json"]) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["accuracy"] <= 1
    assert main(["run", str(translator[1]), TEXT[0], "--max-new-tokens", "5"]) == 0
    capsys.readouterr()
    assert main(["bench", str(classifier[1]), str(translator[1]), "--repeats", "1"]) == 0
    printed = capsys.readouterr().out
    assert "ms a text" in printed and "tokens/s" in printed


def test_a_model_of_fixed_length_passes_and_others_are_refused(redrawn, export_here, tmp_path):
    """Hashing, sorting and chunks, in builtin operators and fixed shapes."""
    sizes = dict(SIZES, vocabulary_size=29, head_dim=5, attention_layers=("lsh",), num_hashes=2, num_buckets=4,
                 lsh_chunk_length=6, max_sequence_length=24, axial_shape=(4, 6), axial_dims=(7, 11))
    model = redrawn(kzoo.create("reformer-nano", task="question-answering", fixed_length=True, **sizes))
    export_here(model, tmp_path / "bundle", formats=("tflite",))
    assert verify(tmp_path / "bundle").passed
    for task, changes, words in (("question-answering", {}, "make it with fixed_length=True to export it"),
                                 ("text-generation", {"fixed_length": True}, "that generates cannot be exported")):
        with pytest.raises(ValueError, match=words):
            export_here(kzoo.create("reformer-nano", task=task, **sizes, **changes), tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("labels", [None, ["one"], ["a", "b", 3]])
def test_labels_that_do_not_fit_are_refused(classifier, tmp_path, labels):
    folder = shutil.copytree(classifier[1], tmp_path / "bundle")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["settings"] = {} if labels is None else {"labels": labels}
    write_manifest(folder, manifest)
    with pytest.raises(ValueError, match="`labels`"):
        open_bundle(folder)
