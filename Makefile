PYTHON ?= python3
BIN := .venv/bin
DEMO := demo

.PHONY: setup demo test test-fast check bench wheel clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "atrous needs Python 3.11 or newer: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup
	$(BIN)/atrous predict animals --out $(DEMO)/photo \
		$$($(BIN)/python -c 'import matplotlib as m; print(m.get_data_path())')/sample_data/grace_hopper.jpg
	$(BIN)/atrous data shapes $(DEMO)/data --num-train 600 --num-val 80
	$(BIN)/atrous train $(DEMO)/data --recipe recipes/shapes.toml --out $(DEMO)/run
	$(BIN)/atrous evaluate $(DEMO)/run --json $(DEMO)/scores.json
	$(BIN)/atrous predict $(DEMO)/run $(DEMO)/data/VOCdevkit/VOC2012/JPEGImages/shapes_0060*.jpg \
		--out $(DEMO)/predictions
	$(BIN)/python docs/draw_demo.py $(DEMO)/run $(DEMO)/demo.png
	@echo
	@echo "Look at:  $(DEMO)/photo/             a photograph and the overlay of the ready model \`animals\`"
	@echo "          $(DEMO)/demo.png           unseen images, their ground truth and the predictions"
	@echo "          $(DEMO)/predictions/       masks, and overlays with a legend"
	@echo "          $(DEMO)/run/curves.png     loss and mIoU while training"
	@echo "          $(DEMO)/scores.json        every score"

# Side by side, each process with one thread; neighbours stay together, as they share fixtures.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs -n auto --maxprocesses 4 --dist worksteal

# Tests of training send signals to their own process, so that they get processes of their own.
test: setup
	$(PYTEST) tests/training
	$(PYTEST) --ignore tests/training

test-fast: setup
	$(PYTEST) -m "not slow and not browser"

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python benchmarks/training.py

wheel: setup
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf .venv $(DEMO) dist build
