"""Patterns and positions as configs name them."""
import pytest

from kzoo.layers import (
    ALiBi,
    AxialPositions,
    BlockLocal,
    BlockSparse,
    Causal,
    Full,
    LearnedPositions,
    NoPosition,
    RelativePositionBias,
    Rotary,
    ShawRelative,
    SinusoidalPositions,
    TransformerXLRelative,
)
from kzoo.layers.part_names import (
    PATTERNS,
    POSITIONS,
    check_pair,
    make_pattern,
    make_position,
    make_position_embedding,
    part_name,
)
from kzoo.layers.patterns import Pattern


def test_patterns_are_made_by_name():
    assert make_pattern("full") == Full()
    assert make_pattern({"name": "block_local", "block_size": 64, "look_back": 2}) == BlockLocal(64, 2)
    assert make_pattern({"name": "block_sparse", "block_size": 8, "seed": 5}, layer=3) == BlockSparse(8, seed=8)
    assert all(issubclass(each, Pattern) for each in PATTERNS.values())
    assert part_name({"name": "strided", "stride": 5}) == "strided" and part_name("full") == "full"


@pytest.mark.parametrize("value, words", [
    ("ful", "Unknown pattern 'ful'. Did you mean 'full'"),
    ({"size": 3}, "Unknown pattern 'None'"),
    ("block_local", "The pattern 'block_local' needs `block_size`"),
    ({"name": "block_local", "block_sise": 4}, "Unknown setting of the pattern 'block_local' 'block_sise'"),
    ({"name": "block_local", "block_size": "4"}, "`block_size` of the pattern 'block_local' must be a whole number"),
    ({"name": "strided", "stride": 0}, "`stride` must be at least 1. Received: 0"),
])
def test_patterns_that_do_not_fit_are_refused(value, words):
    with pytest.raises(ValueError, match=words):
        make_pattern(value)


def test_positions_are_made_by_name():
    def make(value):
        return make_position(value, 3, 4, bidirectional=False, scale=0.5)

    assert make("learned") == make("sinusoidal") == make("none") == NoPosition()
    assert make({"name": "axial", "shape": [2, 3], "dims": [1, 2]}) == NoPosition()
    assert make({"name": "rotary", "scaling": "ntk", "factor": 4.0}) == Rotary(scaling="ntk", factor=4.0)
    assert make("alibi") == ALiBi()
    bias, shaw = make({"name": "relative", "num_buckets": 8}), make({"name": "shaw", "max_distance": 2})
    assert isinstance(bias, RelativePositionBias) and (bias.num_buckets, bias.bidirectional) == (8, False)
    assert isinstance(shaw, ShawRelative) and (shaw.max_distance, shaw.head_dim, shaw.scale) == (2, 4, 0.5)
    waves = make("transformer_xl")
    assert isinstance(waves, TransformerXLRelative) and (waves.hidden_dim, waves.scale) == (12, 0.5)
    assert set(POSITIONS) == {"learned", "sinusoidal", "axial", "none", "rotary", "alibi", "relative", "shaw",
                              "transformer_xl"}


def test_what_is_added_to_embeddings_is_made_by_name():
    def make(value):
        return make_position_embedding(value, 12, 6, "zeros")

    assert isinstance(make("learned"), LearnedPositions) and isinstance(make("sinusoidal"), SinusoidalPositions)
    axial = make({"name": "axial", "shape": [3, 4], "dims": [2, 4]})
    assert isinstance(axial, AxialPositions) and (axial.shape, axial.dims) == ((3, 4), (2, 4))
    assert all(make(name) is None for name in ("none", "rotary", "alibi", "relative", "shaw", "transformer_xl"))


@pytest.mark.parametrize("settings, words", [
    ({}, "needs two whole numbers each"), ({"shape": [3, 4], "dims": 6}, "needs two whole numbers each"),
    ({"shape": [3, 3], "dims": [2, 4]}, r"place for each of the 12 tokens.*Received: shape=\[3, 3\]"),
    ({"shape": [3, 4], "dims": [2, 2]}, r"sum to `hidden_dim` \(6\).*dims=\[2, 2\]")])
def test_axial_positions_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        make_position_embedding({"name": "axial", **settings}, 12, 6, "zeros")


@pytest.mark.parametrize("value, words", [
    ("rotery", "Unknown position 'rotery'. Did you mean 'rotary'"),
    ({"name": "alibi", "base": 2.0}, "Unknown setting of the position 'alibi' 'base'"),
    ({"name": "rotary", "scaling": "ntc", "factor": 2.0}, "Unknown scaling"),
])
def test_positions_that_do_not_fit_are_refused(value, words):
    with pytest.raises(ValueError, match=words):
        make_position(value, 3, 4, bidirectional=True)


def test_pairs_that_cannot_work_together_are_refused():
    hierarchical = {"name": "hierarchical", "segment_size": 4}
    for position in POSITIONS:
        for pattern in ("full", "blockwise", {"name": "strided", "stride": 4}, hierarchical):
            if (position, pattern) != ("shaw", hierarchical):
                check_pair(pattern, position, Causal(), 3)
    with pytest.raises(ValueError, match="cannot work with ShawRelative: a summary of a segment"):
        check_pair(hierarchical, "shaw", Causal(), 3)
    with pytest.raises(ValueError, match="needs at least 2 heads"):
        check_pair({"name": "strided", "stride": 4}, "none", Causal(), 1)
