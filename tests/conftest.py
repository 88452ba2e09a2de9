"""Fixtures every test may use."""
import os
import pathlib

import pytest

if os.environ.get("KERAS_BACKEND") == "jax":  # there most of the time goes into compiling, which this makes faster
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")


@pytest.fixture(scope="session")
def shared():
    """The folder with real data, where a developer has one; tests that need it skip elsewhere."""
    folder = pathlib.Path(os.environ.get("KZOO_SHARED", pathlib.Path(__file__).resolve().parents[2] / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"the optional data folder is not here ({folder.name}; set KZOO_SHARED)")
    return folder
