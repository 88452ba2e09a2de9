"""Training a model with a memory on running text, from files to a run that can be resumed."""
import keras
import numpy as np
import pytest

import kzoo
from kzoo.training import callbacks
from kzoo.training.trainer import train

OPTIONS = {"tokenizer": "byte-bpe", "vocabulary_size": 270, "sequence_length": 9, "batch_size": 3, "steps": 4,
           "interval": 2, "jit": "on" if keras.backend.backend() == "jax" else "off",
           "overrides": {"num_layers": 1, "num_heads": 1, "head_dim": 3, "hidden_dim": 4, "intermediate_dim": 5,
                         "memory_length": 6}}


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.txt"
    path.write_text("one two three four five<|endoftext|>six seven<|endoftext|>" * 9)
    return path


def test_a_run_that_was_interrupted_ends_with_the_same_bits(tmp_path, data, monkeypatch):
    """The memory is saved with the weights. Documents begin with an empty one, in training as in validation."""
    whole = train("transformer-xl-nano", data, tmp_path / "whole", **OPTIONS)
    rows = whole.results["history"]
    assert [row["step"] for row in rows] == [2, 4] and all(np.isfinite(row["valid_loss"]) for row in rows)
    assert 0 < rows[0]["tokens"] < rows[1]["tokens"] < 4 * 3 * 9  # what fills up segments does not count
    end, save = callbacks.EndInterval.on_epoch_end, []

    def stop(self, epoch, logs=None):
        end(self, epoch, logs)
        save.append(epoch)
        raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.EndInterval, "on_epoch_end", stop)
    with pytest.raises(KeyboardInterrupt):
        train("transformer-xl-nano", data, tmp_path / "run", **OPTIONS)
    monkeypatch.undo()
    run = train("transformer-xl-nano", data, tmp_path / "run", resume=True, **OPTIONS)
    assert save == [0] and [row["loss"] for row in run.results["history"]] == [row["loss"] for row in rows]
    assert all(np.array_equal(one, other) for one, other in
               zip(run.model.get_weights(), whole.model.get_weights(), strict=True))
    assert kzoo.evaluate(run.folder, data, tail=0.1)["loss"] == pytest.approx(rows[-1]["valid_loss"], rel=1e-4)


def test_too_little_text_is_refused(tmp_path, data):
    with pytest.raises(ValueError, match="99 streams side by side need as many segments"):
        train("transformer-xl-nano", data, tmp_path / "run", **{**OPTIONS, "batch_size": 99})
    assert not (tmp_path / "run").exists()
