"""What differs between backends."""
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from kzoo.backend import compile_function, differentiate, gpu_available


@pytest.mark.parametrize("jit", [None, True, False])
def test_compiled_functions_see_the_weights_of_now(jit):
    dense = keras.layers.Dense(3)
    dense.build((None, 5))
    compiled = compile_function(dense, lambda x: (dense(x), {"double": 2 * x}), jit)
    for rows in (2, 7, 2):
        x = np.random.default_rng(rows).normal(size=(rows, 5)).astype("float32")
        dense.set_weights([np.random.default_rng(rows).normal(size=(5, 3)), np.ones(3) * rows])
        kernel, bias = dense.get_weights()
        y, rest = compiled(ops.convert_to_tensor(x))
        np.testing.assert_allclose(ops.convert_to_numpy(y), x @ kernel + bias, atol=1e-5)
        np.testing.assert_array_equal(ops.convert_to_numpy(rest["double"]), 2 * x)


def test_gradients_of_a_product():
    draw = np.random.default_rng(0)
    one, other, upstream = (draw.normal(size=shape).astype("float32") for shape in ((2, 3), (3, 5), (2, 5)))
    output, pull = differentiate(ops.matmul, *map(ops.convert_to_tensor, (one, other)))
    np.testing.assert_allclose(ops.convert_to_numpy(output), one @ other, atol=1e-6)
    of_one, of_other = pull(ops.convert_to_tensor(upstream))
    np.testing.assert_allclose(ops.convert_to_numpy(of_one), upstream @ other.T, atol=1e-6)
    np.testing.assert_allclose(ops.convert_to_numpy(of_other), one.T @ upstream, atol=1e-6)


def test_what_has_no_part_in_it_has_a_gradient_of_zero():
    one, other = ops.ones((2,)), ops.ones((3,))
    _, pull = differentiate(lambda one, other: one * 2, one, other)
    assert [ops.convert_to_numpy(each).tolist() for each in pull(ops.ones((2,)))] == [[2, 2], [0, 0, 0]]


def test_gpu_available_says_what_the_backend_has():
    assert gpu_available() == any("cpu" not in device.lower() for device in keras.distribution.list_devices())


WITHOUT_TENSORFLOW = """
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tensorflow_text", "tf2onnx", "ai_edge_litert", "torch"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
import keras, numpy as np
import kzoo, kzoo.layers, kzoo.models, kzoo.tasks, kzoo.tokenizers

tokenizer = kzoo.train_tokenizer("character", ["abcdefg"])
model = kzoo.create("gpt2-nano", num_layers=1, num_heads=2, hidden_dim=8, vocabulary_size=tokenizer.vocabulary_size,
                    tokenizer=tokenizer)
token_ids = np.arange(10, dtype="int32").reshape(2, 5) % tokenizer.vocabulary_size
assert model({"token_ids": token_ids}).shape == (2, 5, tokenizer.vocabulary_size)
model.compile(optimizer="adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit({"token_ids": token_ids}, token_ids, verbose=0)
text = model.generate("abc", max_new_tokens=4, num_beams=2)
kzoo.save(model, sys.argv[1] + "/run")
kzoo.save(model, sys.argv[1] + "/hf", format="hugging_face")
assert kzoo.load(sys.argv[1] + "/run").generate("abc", max_new_tokens=4, num_beams=2) == text
assert kzoo.load(sys.argv[1] + "/hf").generate("abc", max_new_tokens=4, num_beams=2) == text
assert "tensorflow" not in sys.modules
print(keras.backend.backend(), "is enough")
"""


def test_the_jax_backend_needs_no_tensorflow(tmp_path):
    pytest.importorskip("jax", reason="the jax backend is not installed")
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", WITHOUT_TENSORFLOW, str(tmp_path)], env=environment, text=True,
                          capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "jax is enough\n"
