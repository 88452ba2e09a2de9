"""The model itself in a bundle."""
import kzoo
from kzoo.export import read_bundle


def test_it_is_a_run_folder(exported, model):
    artifact = read_bundle(exported[0]).find("keras")
    assert set(artifact.files) >= {"keras/config.json", "keras/model.safetensors"}
    assert kzoo.load(exported[0] / "keras").config == model.config
