# `make quickstart` and `make test` need nothing but Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: install quickstart difficulty test check clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dropquery needs Python 3.11 or newer, got " + sys.version.split()[0] + "; call make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

quickstart: install
	$(BIN)/python cli.py study --config configs/quickstart.yaml --wandb.mode disabled

difficulty: install
	$(BIN)/python cli.py ensemble --config configs/bubil_deeplabv3plus_small.yaml
	$(BIN)/python cli.py difficulty --config configs/bubil_deeplabv3plus_small.yaml

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# a worker for each core, and in each worker one thread
test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto

clean:
	rm -rf $(VENV) runs
