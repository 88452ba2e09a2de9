"""Fixtures every test may use; and what makes compiling cheap, which takes most of the time of tests."""
import contextlib
import gc
import os
import pathlib
import sys

import numpy as np
import pytest

from tests import onnx_operators

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
HELPERS = ("tests.models.cases", "tests.tasks.encoders")  # what test modules import and what draws numbers too

# Tests run a compiled function once or twice, so that what a compiler spends on speed is lost. Processes that tests
# start (training that is killed, exports) compile as users do.
if os.environ.get("KERAS_BACKEND") == "jax":
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    # The processes of a run use what the others have compiled, and the next run what this one has.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CHECKOUT / ".pytest_cache" / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


# Compilers leave millions of objects that stay; to look them all over every few hundred new ones takes a sixth of the
# time of a run.
gc.set_threshold(100_000, 20, 50)

if onnx_operators.WANTED:
    with contextlib.suppress(ImportError):
        import onnxruntime_extensions  # noqa: F401


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Each test draws the same numbers from the `rng` of its module, whichever tests ran before it in the process."""
    for name in {item.module.__name__, *(set(HELPERS) & set(sys.modules))}:
        generator = getattr(sys.modules.get(name), "rng", None)
        if isinstance(generator, np.random.Generator):
            generator.bit_generator.state = np.random.default_rng(0).bit_generator.state


@pytest.fixture(scope="session", autouse=True)
def graphs_as_traced():
    """TensorFlow runs graphs as they were traced; rewriting them takes longer than running them a few times."""
    if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture(scope="session")
def shared():
    """The folder with real data, where a developer has one; tests that need it skip elsewhere."""
    folder = pathlib.Path(os.environ.get("KZOO_SHARED", CHECKOUT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"the optional data folder is not here ({folder.name}; set KZOO_SHARED)")
    return folder


@pytest.fixture(scope="session")
def run_here():
    """`kzoo.export.process.run_worker` without a process, each of which costs seconds to start."""
    from kzoo.export import worker

    def run_here(what, work, timeout=None, **spec):
        return {**worker.COMMANDS[spec["command"]](spec), "seconds": 0.5, "peak_memory": 7}
    return run_here
