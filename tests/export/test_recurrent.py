"""Bundles of models with a memory: every format reads segments, passes the gate and goes on without a limit."""
import numpy as np
import pytest

import kzoo
from kzoo.export import open_bundle, read_bundle
from kzoo.export.recurrent import RecurrentSession

SIZES = {"vocabulary_size": 311, "num_layers": 1, "num_heads": 3, "head_dim": 5, "hidden_dim": 14,
         "intermediate_dim": 17, "memory_length": 12, "max_sequence_length": 8, "same_length": "memory",
         "initial_memory": "zeros", "cutoffs": (100, 200), "width_divisor": 2, "clamp_length": 6}
FORMATS = ("savedmodel", "onnx", "tflite")
TEXT = "the quick brown fox jumps over the lazy dog\n" * 3


@pytest.fixture(scope="module")
def bundle(redrawn, export_here, tmp_path_factory):
    """(model, folder) of a bundle in all formats."""
    tokenizer = kzoo.train_tokenizer("byte-bpe", [TEXT], vocabulary_size=307)
    model = redrawn(kzoo.create("transformer-xl-nano", tokenizer=tokenizer, **SIZES))
    folder = tmp_path_factory.mktemp("recurrent") / "bundle"
    export_here(model, folder, formats=FORMATS)
    return model, folder


def test_every_format_passes_the_gate(bundle):
    """Which reads texts longer than a segment, and from several cuts on."""
    found = read_bundle(bundle[1])
    assert [artifact.runtime for artifact in found.artifacts] == list(FORMATS)
    for artifact in found.artifacts:
        checks = {row["check"]: row["passed"] for row in artifact.verification["rows"]}
        assert artifact.verification["passed"] and all(checks.values())
        assert {"logits: batch 2, length 11, padded left", "cached = uncached: batch 2, length 11, padded left",
                "cached, rows selected and repeated", "greedy to the end of the context"} <= set(checks)
    assert found.sizes == {"num_layers": 1, "memory_length": 12, "hidden_dim": 14, "vocabulary_size": 311,
                           "max_sequence_length": 0, "static_length": 8}
    readme = (bundle[1] / "README.md").read_text()
    assert "past_memory_i" in readme and "(B, 12, 14)" in readme and "reads a segment of 8 tokens" in readme


@pytest.mark.parametrize("runtime", FORMATS)
def test_text_goes_on_beyond_a_segment_as_in_the_model(bundle, runtime, tmp_path):
    model, folder = bundle
    session = open_bundle(folder, runtime=runtime)
    prompts = [list(range(3, 22)), [7, 5]]
    assert session.generate(prompts, max_new_tokens=6) == model.generate(prompts, max_new_tokens=6)
    (tmp_path / "data.txt").write_text(TEXT)
    expected = kzoo.evaluate(model, tmp_path / "data.txt", batch_size=1)
    assert kzoo.evaluate(session, tmp_path / "data.txt") == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="`sequence_length` must be 8 for a file of a bundle. Received: 5"):
        kzoo.evaluate(session, tmp_path / "data.txt", sequence_length=5)
    with pytest.raises(ValueError, match="`memory_length` is for a live model"):
        kzoo.evaluate(session, tmp_path / "data.txt", memory_length=5)


class Counting(RecurrentSession):
    """Its logits say how many real tokens there were, this one included; a step notes what it was given."""

    sizes = {"static_length": 4}

    def __init__(self, fixed=False):
        self.fixed, self.steps = fixed, []

    def _run(self, signature, arrays):
        raise NotImplementedError

    described = _reorder = _run

    def begin(self, rows):
        return np.zeros(rows)

    def width(self, length):
        return 4 if self.fixed else length

    def step(self, token_ids, padding_mask, state):
        self.steps.append(token_ids.shape[1])
        counts = state[:, None] + np.cumsum(padding_mask, axis=1)
        return counts[..., None].astype("float32"), counts[:, -1]


Counting.__abstractmethods__ = frozenset()


@pytest.mark.parametrize("fixed, length, steps", [(False, 3, [3]), (True, 3, [4]), (False, 9, [4, 4, 4])])
def test_segments_end_where_texts_end(fixed, length, steps):
    session = Counting(fixed)
    ids, mask = np.zeros((2, length), "int32"), np.ones((2, length), bool)
    mask[0, 0], mask[1, -1] = False, False  # padding on either side
    found = session._forward({"token_ids": ids, "padding_mask": mask})["logits"][..., 0]
    assert session.steps == steps
    np.testing.assert_array_equal(found[mask], np.cumsum(mask, axis=1)[mask])
    logits, state = session._prefill(ids, np.ones_like(mask), 3)
    np.testing.assert_array_equal(logits[:, 0], length)
    np.testing.assert_array_equal(session._decode(np.zeros(2), state)[0][:, 0], length + 1)


def test_a_model_that_hears_where_it_is_cut_is_refused(export_here, tmp_path):
    model = kzoo.create("transformer-xl-nano", **{**SIZES, "same_length": "no"})
    with pytest.raises(ValueError, match="depend on where a text is cut.*`same_length`='memory'"):
        export_here(model, tmp_path / "bundle", formats=("onnx",))
    assert not any(tmp_path.iterdir())
