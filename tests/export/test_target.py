"""What a file format is, to the rest."""
import pytest

from kzoo.export import TARGETS, Target, get_target
from kzoo.export.artifact import PATHS
from kzoo.export.session import RUNTIMES


@pytest.mark.parametrize("name", TARGETS)
def test_names_agree(name):
    target = get_target(name)
    assert target.name == name and name in RUNTIMES and target.path() == PATHS[name].format(suffix="", name="model")
    assert target.quantisations[0] == "none"
    target.check("none")
    with pytest.raises(ValueError, match=f"Format '{name}': Unknown quantisation 'int99'"):
        target.check("int99")


def test_variants_have_paths_of_their_own():
    assert get_target("onnx").path("int8") == "onnx/model_int8.onnx"
    assert get_target("onnx").path("int8", "translation") == "onnx/encoder_model_int8.onnx"


def test_a_target_opens_what_it_wrote(exported):
    assert get_target("onnx").open(exported[0]).runtime == "onnx"


def test_unknown_formats_and_missing_methods():
    with pytest.raises(ValueError, match="Did you mean 'tflite'"):
        get_target("tflight")
    with pytest.raises(NotImplementedError, match="must define `write`"):
        Target().write(None, None)
