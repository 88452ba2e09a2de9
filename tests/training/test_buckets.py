"""Batches by length: every row once an epoch, few shapes, a function of the batch's number."""
import itertools

import numpy as np
import pytest

from kzoo.training.buckets import Buckets, choose_shapes, in_order

N, B = 211, 7


def lengths(axes=1, seed=3, longest=83):
    return np.random.default_rng(seed).integers(1, longest, size=(N, axes))


def buckets(axes=1, batch_size=B, batch_tokens=None, seed=11, most=4, sort=False):
    found = lengths(axes)
    return Buckets(found, choose_shapes(found, most), batch_size, batch_tokens, seed, sort)


def epoch(source, number=0):
    """[(shape, rows that count)] of the batches of an epoch."""
    first = number * source.batches_per_epoch
    plan = [source.batch(first + place) for place in range(source.batches_per_epoch)]
    return [(shape, tuple(rows[:count].tolist())) for shape, rows, count in plan]


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("by", [{}, {"batch_size": None, "batch_tokens": 331}, {"sort": True}])
def test_an_epoch_sees_every_row_once_in_shapes_that_hold_it(axes, by):
    source, found = buckets(axes, **by), lengths(axes)
    for passes in range(3):
        seen, incomplete = [], 0
        for number in range(passes * source.batches_per_epoch, (passes + 1) * source.batches_per_epoch):
            shape, rows, count = source.batch(number)
            assert list(shape) in source.shapes.tolist() and (found[rows] <= shape).all()
            if "batch_tokens" in by:
                assert len(rows) == 331 // max(shape)
            else:
                assert len(rows) == B
            seen += rows[:count].tolist()
            incomplete += count < len(rows)
        assert sorted(seen) == list(range(N))
        assert incomplete <= 1


def test_a_batch_does_not_depend_on_what_was_read_before():
    source, other = buckets(), buckets()
    whole = [source.batch(number) for number in range(4 * source.batches_per_epoch)]
    for number in (97, 3, 54, 0, 98):
        shape, rows, count = other.batch(number)
        assert (shape, count) == (whole[number][0], whole[number][2])
        np.testing.assert_array_equal(rows, whole[number][1])
    different = buckets(seed=12)
    assert any(not np.array_equal(different.batch(number)[1], whole[number][1]) for number in range(5))


def test_neither_rows_nor_batches_keep_their_order():
    source = buckets()
    first, second = ([shape for shape, _ in epoch(source, number)] for number in (0, 1))
    assert first != second and first != sorted(first)


def test_sorted_rows_meet_those_of_their_lengths():
    source, mixed, found = buckets(axes=2, sort=True), buckets(axes=2), lengths(axes=2)

    def sorts(batches):
        """How many batches are in the order of their lengths, source before target."""
        return sum(found[list(rows)].tolist() == sorted(found[list(rows)].tolist()) for _, rows in batches)

    # All but those that begin with what an earlier bucket has left over.
    assert sorts(epoch(source)) >= source.batches_per_epoch - (len(source.shapes) - 1) > sorts(epoch(mixed))

    def spread(batches):
        return np.mean([found[list(rows), 0].var() for _, rows in batches])

    assert spread(epoch(source)) < 0.2 * spread(epoch(mixed))
    assert epoch(source) == epoch(buckets(axes=2, sort=True))
    first, second = epoch(source), epoch(source, 1)
    assert [shape for shape, _ in first] != [shape for shape, _ in second]


def test_sorting_still_mixes_rows_of_the_same_length():
    found = np.full((N, 1), 5)
    source = Buckets(found, choose_shapes(found, 1), B, None, 11, sort=True)
    first, second = ([list(rows) for _, rows in epoch(source, number)] for number in (0, 1))
    assert first != [sorted(rows) for rows in first] and sorted(map(sorted, first)) != sorted(map(sorted, second))


def test_tokens_are_those_of_real_rows():
    source, found = buckets(axes=2), lengths(axes=2)
    total = 0
    for number in range(2 * source.batches_per_epoch + 3):
        assert source.tokens(number) == total
        _, rows, count = source.batch(number)
        total += found[rows[:count]].sum()


def test_rows_in_order_are_all_there_once():
    found = lengths(2)
    shapes = choose_shapes(found, 3)
    rows = np.arange(5, N, 2)
    batches = in_order(found, shapes, [4, 5, 6], rows)
    assert sorted(np.concatenate([here for _, here in batches])) == rows.tolist()
    assert [shape for shape, _ in batches] == sorted(shape for shape, _ in batches)
    assert all((found[here] <= shape).all() for shape, here in batches)


@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_the_shapes_are_the_cheapest_of_all(most, monkeypatch):
    monkeypatch.setattr("kzoo.training.buckets.TOLERANCE", 1.0)
    found = lengths(longest=51)
    rounded = -(-found[:, 0] // 4) * 4

    def cost(bounds):
        return sum(min(bound for bound in bounds if bound >= length) for length in rounded)

    cheapest = min(cost((*bounds, 52)) for bounds in itertools.combinations(range(4, 52, 4), most - 1))
    chosen = choose_shapes(found, most)[:, 0]
    assert cost(chosen) == cheapest and len(chosen) <= most
    assert cost([*chosen[:-1] - 4, 52]) > cheapest or most == 1


def test_fewer_shapes_are_taken_where_more_gain_little():
    found = np.array([[64]] * 99 + [[8]])
    assert choose_shapes(found, 6).tolist() == [[64]]
    assert choose_shapes(np.array([[64]] * 50 + [[8]] * 50), 6).tolist() == [[8], [64]]


def test_lengths_are_multiples_of_few():
    assert choose_shapes(np.array([[17]] * 9 + [[63]] * 9 + [[65]] * 9), 6).tolist() == [[20], [64], [72]]


def test_shapes_end_at_the_limit():
    assert choose_shapes(np.array([[3, 9], [13, 12]]), 1, limits=(13, 12)).tolist() == [[13, 12]]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"`batch_tokens` \(50\) must be at least the length of the longest row.*88"):
        buckets(batch_tokens=50)
    with pytest.raises(ValueError, match=r"A row of \[9\] tokens fits into none of the shapes \[\[8\]\]"):
        Buckets(np.array([[9]]), np.array([[8]]), 1, None, 0)
