"""`kzoo lengthen`."""
import kzoo
from kzoo.cli import main


def test_a_short_run_becomes_a_long_one(tmp_path, capsys):
    model = kzoo.create("roberta-base", vocabulary_size=29, num_layers=1, num_heads=2, hidden_dim=6, intermediate_dim=7,
                        max_sequence_length=5)
    kzoo.save(model, tmp_path / "short")
    arguments = ["lengthen", str(tmp_path / "short"), str(tmp_path / "long"), "--max-sequence-length", "11",
                 "--window-size", "3", "--format", "hugging_face"]
    assert main(arguments) == 0
    assert "longformer" in capsys.readouterr().out
    config = kzoo.load(tmp_path / "long").config
    assert (config.max_sequence_length, config.window_size) == (11, 3)
    assert main([*arguments[:2], str(tmp_path / "other"), "--max-sequence-length", "4"]) == 2
    assert "must be at least the model's, 5" in capsys.readouterr().err
