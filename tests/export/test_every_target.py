"""The contract of every target: configs that differ in every part are written, and pass the gate."""
import pytest

import kzoo
from kzoo.export import TARGETS, compare, get_target, read_bundle
from kzoo.export.artifact import Artifact, Bundle
from kzoo.export.golden import record_golden
from kzoo.export.keras_session import KerasSession
from kzoo.export.session import open_session
from kzoo.export.signatures import sizes_of

SIZES = {"vocabulary_size": 29, "num_layers": 2, "num_heads": 6, "hidden_dim": 36, "intermediate_dim": 7,
         "max_sequence_length": 19}
CONFIGS = {
    "grouped heads, rotary": {"num_key_value_heads": 2, "position": "rotary", "activation": "silu"},
    "ALiBi, no bias": {"position": "alibi", "use_bias": False, "activation": "gelu"},
}


@pytest.mark.parametrize("name", TARGETS)
def test_the_bundle_of_all_passed(exported, name):
    artifact = read_bundle(exported[0]).find(name)
    assert artifact.verification["passed"] and len(artifact.verification["rows"]) > 8


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", [name for name in TARGETS if name != "keras"])
def test_other_parts_pass_the_gate(name, config, redrawn, tmp_path):
    model = redrawn(kzoo.create("gpt2-nano", **SIZES, **CONFIGS[config]))
    target = get_target(name)
    files = target.write(model, tmp_path)  # in this process: one small model does not hurt
    artifact = Artifact(name, "none", target.path(), tuple(files))
    bundle = Bundle(tmp_path, {"task": model.task, "sizes": sizes_of(model.config)}, {}, (artifact,))
    rows = compare(record_golden(KerasSession(model)), open_session(bundle, artifact))
    assert [row for row in rows if not row["passed"]] == []
    other = redrawn(kzoo.create("gpt2-nano", **SIZES, **CONFIGS[config]), seed=1)
    rows = compare(record_golden(KerasSession(other)), open_session(bundle, artifact))
    assert len([row for row in rows if not row["passed"]]) > 5  # another model's answers are not these
