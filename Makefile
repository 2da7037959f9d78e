# Every target sets up what is missing. `make` alone lists the targets.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out
SEEDS ?= 300
# Pass e.g. PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu" for a CPU-only torch.
PIP_FLAGS ?=
TORCH ?= torch==2.13.0
# One thread per test process: two workers share two cores.
export OMP_NUM_THREADS ?= 1
STAMP := $(VENV)/.ready
WEIGHTS := $(VENV)/.weights

.DEFAULT_GOAL := help
.PHONY: help setup drive test lint format train-tiny evaluate bench check-lerobot tables pictures clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(WEIGHTS) ## make .venv, install everything, fetch the language model (SHA-256 checked)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: needs Python 3.11 or newer, $(PYTHON) is older; try make PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setup: installing into $(VENV) (minutes the first time)"
	@$(BIN)/python -m pip install -qq $(PIP_FLAGS) $(TORCH)
	@$(BIN)/python -m pip install -qq $(PIP_FLAGS) -e '.[dev]'
	@touch $@

$(WEIGHTS): $(STAMP)
	@$(BIN)/python -m drivebyword.model.pretrained fetch
	@touch $@

drive: setup ## type a sentence, watch the car drive it: writes out/drive/replay.html
	@OMP_NUM_THREADS=2 $(BIN)/drivebyword drive "turn left at the next intersection" --out $(OUT)/drive

test: setup ## run the whole suite on two processes
	@$(BIN)/python -m pytest -n 2 --dist loadfile tests && echo "make test: every test passed"

lint: setup ## ruff, mypy and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup ## rewrite files as `make lint` wants them
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format .

train-tiny: setup ## train the tiny policy from nothing (two hours on 2 cores, resumable)
	@OMP_NUM_THREADS=2 $(BIN)/drivebyword train tiny --out $(OUT)/train/tiny

evaluate: setup ## judge the shipped policy and its control rows (an hour or more; SEEDS=20 for a first look)
	@$(BIN)/drivebyword evaluate --suite town --seeds $(SEEDS) --out $(OUT)/evaluate

bench: setup ## frames per second of the world, decisions per second of the policy
	@$(BIN)/drivebyword bench world --out $(OUT)/bench
	@$(BIN)/drivebyword bench latency --out $(OUT)/bench

check-lerobot: setup ## open one of our datasets with LeRobot's own loader, in its own environment
	@$(BIN)/python tools/check_lerobot.py

tables: setup ## write the tables of README and docs/RESULTS.md from docs/results/*.json
	@$(BIN)/python tools/write_tables.py

pictures: setup ## draw the picture of the README again, from a drive (needs chromium)
	@$(BIN)/python tools/take_picture.py $(OUT)/drive/replay.html docs/pictures/drive.webp

clean: ## remove what was built (keeps .venv; datasets and checkpoints in out/ go)
	rm -rf $(OUT) build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
