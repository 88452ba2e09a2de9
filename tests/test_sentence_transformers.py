"""How features are pooled, in the files of sentence-transformers."""
import json

import numpy as np
import pytest

import kzoo
from kzoo.sentence_transformers import read_pooling

SIZES = dict(vocabulary_size=29, num_layers=1, num_heads=2, hidden_dim=6, intermediate_dim=9, max_sequence_length=11)
TOKEN_IDS = {"token_ids": np.arange(8, dtype="int32").reshape(2, 4)}


def extractor(**settings):
    return kzoo.create("bert-tiny", task="feature-extraction", **SIZES, **settings)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("normalize", [False, True])
def test_settings_go_in_and_out(tmp_path, pooling, normalize):
    model = extractor(pooling=pooling, normalize=normalize)
    kzoo.save(model, tmp_path / "hf", format="hugging_face")
    kinds = [row["type"].rsplit(".", 1)[-1] for row in json.loads((tmp_path / "hf" / "modules.json").read_text())]
    assert kinds == ["Transformer", "Pooling"] + ["Normalize"] * normalize
    again = kzoo.load(tmp_path / "hf")
    assert again.settings() == model.settings() == read_pooling(tmp_path / "hf")
    np.testing.assert_array_equal(again(TOKEN_IDS), model(TOKEN_IDS))
    other = kzoo.load(tmp_path / "hf", normalize=not normalize)
    assert (other.pooling, other.normalize) == (pooling, not normalize)


def test_a_folder_without_them_says_nothing(tmp_path):
    assert read_pooling(tmp_path) == {}
    kzoo.save(kzoo.create("bert-tiny", **SIZES), tmp_path / "masked", format="hugging_face")
    assert not (tmp_path / "masked" / "modules.json").exists()
    model = kzoo.load(tmp_path / "masked", task="feature-extraction")
    assert model.settings() == {"pooling": "mean", "normalize": False}


def test_published_files_are_understood(tmp_path):
    """As all-MiniLM-L6-v2 has them; its class may be that of another task, as in all-distilroberta-v1."""
    kzoo.save(kzoo.create("bert-tiny", **SIZES), tmp_path / "hf", format="hugging_face")
    rows = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]
    (tmp_path / "hf" / "modules.json").write_text(json.dumps(rows))
    (tmp_path / "hf" / "1_Pooling").mkdir()
    (tmp_path / "hf" / "1_Pooling" / "config.json").write_text(json.dumps({
        "word_embedding_dimension": 6, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False,
        "pooling_mode_max_tokens": False, "pooling_mode_mean_sqrt_len_tokens": False}))
    assert kzoo.load(tmp_path / "hf", task="feature-extraction").settings() == {"pooling": "cls", "normalize": True}
    assert kzoo.load(tmp_path / "hf").task == "fill-mask"


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_files_of_version_6_are_understood(tmp_path, pooling):
    kzoo.save(extractor(), tmp_path / "hf", format="hugging_face")
    rows = [{"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
            {"path": "1_Pooling", "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling"}]
    (tmp_path / "hf" / "modules.json").write_text(json.dumps(rows))
    (tmp_path / "hf" / "1_Pooling" / "config.json").write_text(json.dumps({
        "embedding_dimension": 6, "pooling_mode": pooling, "include_prompt": True}))
    assert kzoo.load(tmp_path / "hf").settings() == {"pooling": pooling, "normalize": False}


@pytest.mark.parametrize("file, change, words", [
    ("modules.json", lambda rows: {}, "modules.json must hold a JSON list. Received: dict"),
    ("modules.json", lambda rows: [3], "modules.json must list modules with a `type`"),
    ("modules.json", lambda rows: rows + [{"type": "sentence_transformers.models.Dense"}],
     "joins the modules Transformer, Pooling, Dense; supported are: Transformer, Pooling and Normalize"),
    ("1_Pooling/config.json", lambda values: {**values, "pooling_mode_max_tokens": True},
     "pools by pooling_mode_mean_tokens, pooling_mode_max_tokens; supported is one of: pooling_mode_mean_tokens"),
    ("1_Pooling/config.json", lambda values: {"pooling_mode": ["mean", "max"]}, "pools by .'mean', 'max'.; supported"),
    ("1_Pooling/config.json", lambda values: {}, "pools by nothing; supported is one of"),
])
def test_what_is_not_supported_is_named(tmp_path, file, change, words):
    kzoo.save(extractor(), tmp_path / "hf", format="hugging_face")
    path = tmp_path / "hf" / file
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match=words):
        kzoo.load(tmp_path / "hf")


def test_what_the_files_have_no_room_for_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="no room for `pooling`='pooler'; keep it in the kzoo format"):
        kzoo.save(extractor(pooling="pooler"), tmp_path / "hf", format="hugging_face")
    assert not list(tmp_path.iterdir())
