# `make demo` and `make test` need nothing before them; `make setup` makes .venv with limbnet installed editable.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
export OMP_NUM_THREADS ?= 1
# The measurements of minutes; benchmarks/README.md names the longer ones.
BENCHMARKS := $(wildcard $(addprefix benchmarks/,labels.py loader.py decode.py pipeline.py limits.py training.py convert.py))

.PHONY: setup demo test test-long lint bench clean
.DEFAULT_GOAL := setup

setup: .venv/.complete

# Remade when the requirements or the C sources change; pip then only installs what differs.
.venv/.complete: pyproject.toml setup.py constraints.txt $(wildcard src/limbnet/decode/native/*)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

lint: setup
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

# -ra in pyproject.toml lists skipped tests with their reasons.
test: lint
	$(BIN)/python -m pytest -n $(WORKERS) -m "not long"

test-long: setup
	$(BIN)/python -m pytest -m long

demo: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" bash scripts/demo.sh

bench: setup
	for script in $(BENCHMARKS); do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf demo results build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
