# make demo | make test | make test-jax | make lint | make bench | make clean.  PYTHON=python3.12 chooses the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
PEERS = benchmarks/.venv-peers
KERAS_HUB = benchmarks/.venv-keras-hub
# Each process takes a row of files, which share what is dear to make, and in the end some of another's tests. It holds
# about 2 GB.
PYTEST = -q --numprocesses auto --maxprocesses 6 --dist worksteal
# What keras.ops code must do alike on every backend; `make test-jax` runs all that can.
ON_JAX = tests/layers tests/models tests/tasks/test_live_decoder.py
# What needs operators that slow TensorFlow down as soon as they are loaded; see tests/onnx_operators.py.
ON_ONNX_TEXT = tests/test_tokenizers_in_onnx.py tests/export/test_onnx_text.py tests/export/test_text_session.py \
	tests/export/test_text_verify.py

unexport PYTHONDONTWRITEBYTECODE

.PHONY: test test-jax lint demo bench clean

test: lint
	$(BIN)/python -m pytest $(PYTEST)
	KZOO_TEST_ONNX_TEXT=1 $(BIN)/python -m pytest $(PYTEST) $(ON_ONNX_TEXT)
	KERAS_BACKEND=jax $(BIN)/python -m pytest $(PYTEST) $(ON_JAX)

test-jax: $(INSTALLED)
	KERAS_BACKEND=jax $(BIN)/python -m pytest $(PYTEST) tests/layers tests/models tests/tasks tests/training

lint: $(INSTALLED)
	$(BIN)/ruff check .

demo: $(INSTALLED)
	$(BIN)/kzoo demo --out demo

# ARGS="--only startup" measures one thing; ARGS="--data FOLDER" says where the data sets are.
bench: $(INSTALLED) $(PEERS)/.installed $(KERAS_HUB)/.installed
	$(BIN)/python benchmarks/run.py --peers $(PEERS)/bin/python --keras-hub $(KERAS_HUB)/bin/python $(ARGS)

# Made anew only when the requirements change; a half-made one is not taken for a whole one.
# Python compiles what is imported and keeps it; compiling all that is installed takes as long as installing it.
$(INSTALLED): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --editable ".[all]"
	touch $@

# The peers need torch and libraries that disagree with ours: they never share our environment.
benchmarks/.venv-%/.installed: benchmarks/requirements-%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade pip
	$(@D)/bin/python -m pip install --quiet --requirement $<
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) $(KERAS_HUB) build dist demo *.egg-info .pytest_cache .ruff_cache
	find kzoo export tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
