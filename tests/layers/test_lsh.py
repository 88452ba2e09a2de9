"""LSH attention against the formula written out, against full attention, and at its cost."""
import keras
import numpy as np
import pytest
from keras import ops

from kzoo.backend import compile_function, differentiate
from kzoo.layers import Causal, Everything, LSHAttention, Positions
from kzoo.layers.lsh import bucket_order, lsh_attention, lsh_buckets, shared_attention, sort_rows, unsort_rows

not_on_jax = pytest.mark.skipif(keras.backend.backend() == "jax",
                                reason="on JAX this compiles for long, and what it tests is the same there")
B, T, H, D, R, W = 2, 20, 3, 5, 2, 4
MASK = np.arange(T) < np.array([[T], [13]])
rng = np.random.default_rng(0)
query_key, value = rng.normal(size=(2, B, T, H, D)).astype("float32")
rotations = rng.normal(size=(H, D, R, 3)).astype("float32")


def computed(function, *arrays):
    """A function's result; on JAX compiled as a whole, where each operation would else be compiled for itself."""
    tensors = [ops.convert_to_tensor(array) for array in arrays]
    if keras.backend.backend() == "jax":
        function = compile_function(keras.layers.Identity(), function)
    return keras.tree.map_structure(ops.convert_to_numpy, function(*tensors))


def hashed(query_key, value, rotations, num_buckets=6, chunk_length=W, mask=Everything(), padding_mask=None,  # noqa: B008
           **options):
    def attend(query_key, value, rotations):
        buckets = lsh_buckets(query_key, rotations, num_buckets, padding_mask)
        return lsh_attention(query_key, value, buckets, chunk_length, mask=mask, padding_mask=padding_mask, **options)

    return computed(attend, query_key, value, rotations)


def full(mask=Everything(), padding_mask=None):  # noqa: B008
    return computed(lambda query_key, value: shared_attention(query_key, value, mask, padding_mask), query_key, value)


def written_buckets(rotations, sizes, padding_mask):
    result = np.zeros((B, H, R, T), int)
    for b, h, r, t in np.ndindex(B, H, R, T):
        turned, start, product = query_key[b, t, h] @ rotations[h, :, r], 0, 1
        for size in sizes:
            half = turned[start:start + size // 2]
            result[b, h, r, t] += product * np.argmax(np.concatenate([half, -half]))
            start, product = start + size // 2, product * size
        if not padding_mask[b, t]:
            result[b, h, r, t] = product
    return result


def written_out(buckets, causal, padding_mask, before, after, count_once=False):
    """Loops over rounds, chunks and tokens."""
    result = np.zeros((B, T, H, D))
    for b, h in np.ndindex(B, H):
        order = np.concatenate([sorted(range(T), key=lambda t: (buckets[b, h, r, t], t)) for r in range(R)])
        chunks = order.reshape(-1, W)
        seen = [np.concatenate([chunks[(i + offset) % len(chunks)] for offset in range(-before, after + 1)])
                for i in range(len(chunks))]
        for t in range(T):
            rounds = []
            met = np.concatenate([seen[i] for i in range(len(chunks)) if t in chunks[i]])
            for i in np.flatnonzero((chunks == t).any(axis=1)):
                keys = query_key[b, seen[i], h]
                keys = keys / np.sqrt((keys ** 2).mean(axis=1, keepdims=True) + 1e-6) / np.sqrt(D)
                scores = keys @ query_key[b, t, h].astype("float64")
                if count_once:
                    scores -= np.log([(met == key).sum() for key in seen[i]])
                hidden = ~padding_mask[b, seen[i]] | (causal & (seen[i] > t))
                scores[hidden] = -1e9
                scores[seen[i] == t] = -1e5
                weights = np.exp(scores - scores.max())
                rounds.append((scores.max() + np.log(weights.sum()), weights @ value[b, seen[i], h] / weights.sum()))
            totals = np.array([total for total, _ in rounds])
            share = np.exp(totals - totals.max())
            result[b, t, h] = share @ np.array([mixed for _, mixed in rounds]) / share.sum()
    return result


@pytest.mark.parametrize("sizes, causal, before, after, count_once", [
    ((6,), True, 1, 0, False), ((4, 2), False, 0, 1, False), ((6,), False, 1, 1, True)])
def test_agrees_with_the_formula_written_out(sizes, causal, before, after, count_once):
    buckets = written_buckets(rotations, sizes, MASK)
    np.testing.assert_array_equal(computed(lambda x, turns: lsh_buckets(x, turns, sizes, MASK), query_key, rotations),
                                  buckets)
    result = hashed(query_key, value, rotations, sizes, mask=Causal() if causal else Everything(), padding_mask=MASK,
                    chunks_before=before, chunks_after=after, count_once=count_once)
    expected = written_out(buckets, causal, MASK, before, after, count_once)
    np.testing.assert_allclose(result[MASK], expected[MASK], atol=1e-5)
    wrong = written_out(buckets, causal, MASK, before + 1, after, count_once)
    assert np.abs(result[MASK] - wrong[MASK]).max() > 0.01


@not_on_jax
@pytest.mark.parametrize("mask, padding_mask", [(Everything(), None), (Causal(), MASK)], ids=["all", "causal-padded"])
def test_two_chunks_that_see_each_other_are_full_attention(mask, padding_mask):
    """So is one chunk with two buckets, which needs no hashing."""
    one_round = rotations[:, :, :1, :1]
    result = hashed(query_key, value, one_round, 2, T // 2, mask, padding_mask)
    real = MASK if padding_mask is not None else slice(None)
    np.testing.assert_allclose(result[real], full(mask, padding_mask)[real], atol=2e-6)
    lonely = hashed(query_key, value, one_round, 2, T // 2, mask, padding_mask, chunks_before=0)
    assert np.abs(lonely[real] - full(mask, padding_mask)[real]).max() > 0.1


@not_on_jax
def test_more_rounds_converge_only_where_a_key_counts_once():
    turns = np.random.default_rng(1).normal(size=(H, D, 8, 3)).astype("float32")
    expected, errors = full(), {}
    for once in (True, False):
        errors[once] = [np.linalg.norm(hashed(query_key, value, turns[:, :, :rounds], count_once=once) - expected)
                        / np.linalg.norm(expected) for rounds in (1, 3, 8)]
    assert errors[True][0] > 0.9 and errors[True][1] < 0.5 and errors[True][2] < 0.15
    assert errors[False][2] > 0.4  # where it stays


@not_on_jax
def test_a_token_attends_to_itself_only_if_to_nothing_else():
    alone = full(Causal())
    np.testing.assert_allclose(alone[:, 0], value[:, 0], atol=1e-6)
    rounds = hashed(query_key, value, rotations, mask=Causal())
    np.testing.assert_allclose(rounds[:, 0], value[:, 0], atol=1e-6)
    changed = value.copy()
    changed[:, 7] += 100.0
    for before, after in ((rounds, hashed(query_key, changed, rotations, mask=Causal())),
                          (full(), computed(lambda *x: shared_attention(*x, Everything()), query_key, changed))):
        sees_others = np.abs(before[:, 7] - value[:, 7]).max(axis=-1) > 1e-3
        np.testing.assert_allclose(after[:, 7][sees_others], before[:, 7][sees_others], atol=1e-4)
        assert sees_others.any() and np.abs(after[:, 8:] - before[:, 8:]).max() > 1


def test_rows_are_sorted_and_fetched_back_with_their_gradients():
    x = rng.normal(size=(B, H, T, D)).astype("float32")
    upstream = rng.normal(size=(B, H, R, T, D)).astype("float32")
    order = np.argsort(rng.random((B, H, R, T)), axis=-1).astype("int32")

    def there_and_back(x, upstream, order):
        inverse = ops.cast(ops.argsort(order, axis=-1), "int32")
        rows, pull_rows = differentiate(lambda x: sort_rows(x, order, inverse), x)
        again, pull_again = differentiate(lambda rows: unsort_rows(rows, order, inverse), rows)
        return rows, *pull_rows(upstream), again, *pull_again(upstream)

    rows, by_rows, again, by_again = computed(there_and_back, x, upstream, order)
    expected, summed = np.zeros_like(upstream), np.zeros_like(x)
    for b, h, r, t in np.ndindex(B, H, R, T):
        expected[b, h, r, t] = x[b, h, order[b, h, r, t]]
        summed[b, h, order[b, h, r, t]] += upstream[b, h, r, t]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(by_rows, summed, atol=1e-6)
    np.testing.assert_array_equal(again, np.repeat(x[:, :, None], R, axis=2))
    np.testing.assert_array_equal(by_again, np.take_along_axis(upstream, order[..., None], axis=3))


def test_ties_stay_in_the_order_of_the_text():
    order, inverse = computed(bucket_order, np.array([[[[2, 0, 1, 0, 2, 1]]]], "int32"))
    assert order.ravel().tolist() == [1, 3, 2, 5, 0, 4] and inverse.ravel().tolist() == [4, 0, 2, 1, 5, 3]


# The layer.

AT = np.arange(T, dtype="int32")[None]
POSITIONS = Positions(AT, AT, AT, None)


def layer(**options):
    made = LSHAttention(**{**dict(num_heads=H, head_dim=D, hidden_dim=7, num_buckets=6, num_hashes=R, chunk_length=W,
                                  mask=Causal(), seed=3, name="attention"), **options})
    made.build((B, T, 11))
    return made


@not_on_jax
def test_the_layer_projects_and_takes_buckets_and_rotations():
    made, x = layer(), rng.normal(size=(B, T, 11)).astype("float32")
    query_kernel, value_kernel, output_kernel = (ops.convert_to_numpy(dense.kernel) for dense in (
        made.query_key, made.value, made.output_dense))

    def attend(x, rotations):
        y, buckets = made(x, POSITIONS)
        return y, buckets, made(x, POSITIONS, buckets)[0], made(x, POSITIONS, rotations=rotations)[0]

    y, buckets, again, turned = computed(attend, x, rotations)
    mixed = hashed((x @ query_kernel).reshape(B, T, H, D), (x @ value_kernel).reshape(B, T, H, D),
                   ops.convert_to_numpy(made.rotations), mask=Causal())
    np.testing.assert_allclose(y, mixed.reshape(B, T, -1) @ output_kernel, atol=1e-5)
    assert buckets.shape == (B, H, R, T) and not made.rotations.trainable
    np.testing.assert_array_equal(again, y)
    assert np.abs(turned - y).max() > 0.01


@not_on_jax
def test_a_row_within_a_chunk_is_not_hashed():
    made, x = layer(), rng.normal(size=(B, W, 11)).astype("float32")
    y, buckets = made(x, Positions(AT[:, :W], AT[:, :W], AT[:, :W], None))
    assert buckets is None and tuple(y.shape) == (B, W, 7)


@not_on_jax
def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="`num_buckets` must be an even number of at least 2.*Received: 3"):
        layer(num_buckets=3)
    with pytest.raises(ValueError, match="multiple of `chunk_length` .6., or at most that. Received: 20"):
        layer(chunk_length=6)(np.zeros((B, T, 11), "float32"), POSITIONS)
    with pytest.raises(ValueError, match="buckets times the length must stay below 2.31. Received: .65536, 2048. and"):
        layer(num_buckets=(65536, 2048), num_heads=1, head_dim=1, num_hashes=1)(
            np.zeros((B, T, 11), "float32"), POSITIONS)


@not_on_jax
def test_round_trip():
    made = layer(num_buckets=(2, 4), dropout=0.2, count_once=True)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert again.get_config() == made.get_config() and again.num_buckets == (2, 4)
    np.testing.assert_array_equal(ops.convert_to_numpy(again.rotations), ops.convert_to_numpy(made.rotations))
    assert made.compute_output_shape((B, T, 11))[0] == (B, T, 7)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX tells the cost of what it compiles")
def test_cost_grows_with_the_length_and_not_with_its_square():
    import jax

    def cost(function, length):
        x = jax.ShapeDtypeStruct((1, length, 1, 8), "float32")
        compiled = jax.jit(function).lower(x, x).compile()
        return np.array([compiled.cost_analysis()["flops"], compiled.memory_analysis().temp_size_in_bytes])

    def attend(query_key, value):
        table = rotations[:1, :1, :, :1] * np.ones((1, 8, 1, 4), "float32")
        return lsh_attention(query_key, value, lsh_buckets(query_key, table, 8), 64)

    assert (cost(attend, 2048) < 2.3 * cost(attend, 1024)).all()
    assert (cost(lambda *x: shared_attention(*x, Everything()), 2048)
            > 3.8 * cost(lambda *x: shared_attention(*x, Everything()), 1024)).all()
