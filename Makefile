PYTHON ?= python3
VENV ?= .venv
OUT ?= demo
TORCH_INDEX ?=
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint clean

demo: $(INSTALLED)  ## simulate, pretrain, align, evaluate: demo/report.html
	$(BIN)/appulse demo --out $(OUT)

test: $(INSTALLED)  ## ruff, mypy, pytest
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2

# TORCH_INDEX=https://download.pytorch.org/whl/cu128 takes torch from there instead of the CPU pin.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; assert sys.version_info >= (3, 11), f'appulse needs Python 3.11 or newer, this is {sys.version}'"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
ifeq ($(TORCH_INDEX),)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
else
	$(BIN)/python -m pip install --quiet --index-url $(TORCH_INDEX) torch
endif
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),,--constraint constraints.txt) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(OUT)
