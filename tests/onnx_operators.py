"""Tests that need onnxruntime_extensions in a process that also loads TensorFlow."""
import os
import sys

import pytest

# It crashes where TensorFlow was loaded before it; loaded first, it makes TensorFlow trace a quarter slower. So these
# tests have a run of their own, see the Makefile.
WANTED = os.environ.get("KZOO_TEST_ONNX_TEXT") == "1"


def need():
    """Skip the module, or test, that calls this unless the operators were loaded first."""
    if "onnxruntime_extensions" not in sys.modules:
        pytest.skip("needs the operators of kzoo[text], and KZOO_TEST_ONNX_TEXT=1 to load them before TensorFlow",
                    allow_module_level=True)
