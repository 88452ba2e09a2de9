"""What patterns cost when the length doubles, as JAX's compiler counts it: the same on every machine."""
import keras
import numpy as np
import pytest

from kzoo.layers import BlockLocal, BlockSparse, Blockwise, Causal, Full, NoPosition, locate

LENGTH, H, D = 512, 2, 8

if keras.backend.backend() != "jax":
    pytest.skip("asks JAX's compiler", allow_module_level=True)


def cost(pattern, length, backwards=False):
    """(floating-point operations, temporary bytes) of attention, or of its gradient."""
    import jax

    def attend(*inputs):
        return pattern.attend(*inputs, locate(np.zeros((1, length), "int32")), Causal(), NoPosition())

    def gradient(*inputs):
        return jax.grad(lambda *inputs: attend(*inputs).sum(), argnums=(0, 1, 2))(*inputs)

    shape = jax.ShapeDtypeStruct((1, length, H, D), "float32")
    compiled = jax.jit(gradient if backwards else attend).lower(shape, shape, shape).compile()
    return compiled.cost_analysis()["flops"], compiled.memory_analysis().temp_size_in_bytes


def growth(pattern, **options):
    once, twice = (cost(pattern, length, **options) for length in (LENGTH, 2 * LENGTH))
    return twice[0] / once[0], twice[1] / once[1]


def test_blocks_cost_twice_as_much_where_all_pairs_cost_four_times():
    assert growth(Full())[0] == pytest.approx(4, rel=0.05)
    for pattern in (BlockLocal(32), BlockSparse(32)):
        assert growth(pattern)[0] <= 2.1


def test_memory_of_blockwise_attention_and_its_gradient_grows_with_the_length():
    assert growth(Full(), backwards=True)[1] > 2.5
    assert growth(Blockwise(32), backwards=True)[1] <= 2.1
    assert cost(Blockwise(32), LENGTH, backwards=True)[1] < cost(Full(), LENGTH, backwards=True)[1] / 4
