# make demo   pre-trains on digits, draws, judges          make test       lint and the tests
# make scenes the same on emoji on pale photographs      make test-slow  the long tests
# make bench  what RePre costs, on this machine
# make docs   the site of docs/, in site/; broken links fail; and how many of its commands tests run
# make deviceless  what XLA makes of a step for a GPU and a TPU that are not there
# make hub     exported encoders, opened by Hugging Face transformers
# make minutes  the processor seconds of `make test` (TESTS=test-slow: of those) without a warm compile cache
#
# Each makes a virtual environment in .venv first, with JAX for the accelerator it finds.
#   VENV=none         use the Python on PATH and what is installed there (Docker, Colab, no network)
#   ACCELERATOR=cpu   or cuda, tpu: what to install, instead of looking
#   PYTHON=python3.12 which Python makes the environment
#   LINT=none         `make test` without lint, whose types are those of the newest versions of what we stand on

VENV ?= .venv
# The first Python of at least 3.11 that runs; `python` first where the environment is not ours to make.
ifndef PYTHON
PYTHON := $(shell for p in $(if $(filter none,$(VENV)),python) python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
endif
ifeq ($(PYTHON),)
$(error No Python 3.11 or newer was found. Install one, or name it: make PYTHON=/path/to/python3)
endif
ifndef ACCELERATOR
ACCELERATOR := $(shell if nvidia-smi -L >/dev/null 2>&1; then echo cuda; \
	elif ls /dev/accel0 /dev/vfio/0 2>/dev/null | grep -q .; then echo tpu; else echo cpu; fi)
endif
REQUIREMENTS := $(if $(filter cpu,$(ACCELERATOR)),requirements.txt,requirements-$(ACCELERATOR).txt)
DEMO_DIR ?= runs/demo
SCENES_DIR ?= runs/scenes
# Processes of `make test`: one a core, up to four; an accelerator is not shared.
WORKERS ?= $(if $(REPRE_TEST_PLATFORM),0,auto)

ifeq ($(VENV),none)
PY := $(PYTHON)
READY :=
READY_SCENES :=
READY_DEV :=
else
PY := $(VENV)/bin/python
READY := $(VENV)/.ready-$(ACCELERATOR)
READY_SCENES := $(VENV)/.ready-scenes
READY_DEV := $(VENV)/.ready-dev
endif
# JAX's plugins for chips that are not there, 1.2 GB, have an environment of their own; JAX finds them wherever they are.
DEVICELESS := .venv-deviceless/bin/python
READY_DEVICELESS := .venv-deviceless/.ready
# So has PyTorch, with which Hugging Face transformers opens what we export.
HUB := .venv-hub/bin/python
READY_HUB := .venv-hub/.ready
# So has what builds the site.
READY_DOCS := .venv-docs/.ready

# Two fake devices show nearly all that several do; what only eight show has a folder and a process of its own.
PYTEST := -n $(WORKERS) --maxprocesses 4 --dist worksteal
TWO := tests --ignore=tests/eight_devices $(PYTEST)
EIGHT := tests/eight_devices $(PYTEST)
TESTS ?= test
# Of the long tests only those in these files; else all.
SLOW ?=

.PHONY: demo scenes test test-slow docs deviceless hub minutes lint bench

demo: $(READY)
	$(PY) main.py --config configs/moco_vit_s.py:digits --workdir $(DEMO_DIR)
	$(PY) -m repre_jax.tools.figures all $(DEMO_DIR)
	$(PY) main.py --config configs/linear.py:digits,cached --config.init_from=$(DEMO_DIR) --workdir $(DEMO_DIR)-linear
	@echo "Curves and figures of the pre-training: $(DEMO_DIR)/report.html"

scenes: $(READY_SCENES)
	$(PY) main.py --config configs/moco_vit_s.py:scenes --workdir $(SCENES_DIR)
	$(PY) -m repre_jax.tools.figures all $(SCENES_DIR)
	$(PY) main.py --config configs/knn.py:scenes --config.init_from=$(SCENES_DIR) --workdir $(SCENES_DIR)-knn
	$(PY) main.py --config configs/linear.py:scenes,cached --config.init_from=$(SCENES_DIR) \
		--workdir $(SCENES_DIR)-linear
	$(PY) main.py --config configs/segment.py:scenes --config.init_from=$(SCENES_DIR) --workdir $(SCENES_DIR)-segment
	$(PY) -m repre_jax.tools.figures segmentation $(SCENES_DIR)-segment --records 12
	$(PY) main.py --config configs/detect.py:scenes --config.init_from=$(SCENES_DIR) --workdir $(SCENES_DIR)-detect
	$(PY) -m repre_jax.tools.figures detection $(SCENES_DIR)-detect --records 12 --config.figures.score=0.2
	$(PY) -m repre_jax.tools.results $(SCENES_DIR) $(SCENES_DIR)-knn $(SCENES_DIR)-linear $(SCENES_DIR)-segment \
		$(SCENES_DIR)-detect
	@echo "What these numbers say, and what they do not: docs/scenes.md"
	@echo "Curves and figures of the pre-training: $(SCENES_DIR)/report.html"

test: $(if $(filter none,$(LINT)),$(READY_DEV),lint)
	$(PY) -m pytest -m "not slow" $(TWO)
	REPRE_TEST_DEVICES=8 $(PY) -m pytest -m "not slow" $(EIGHT)

test-slow: $(READY_DEV)
	$(PY) -m pytest -m slow $(if $(SLOW),$(SLOW) $(PYTEST),$(TWO))
	$(if $(SLOW),,REPRE_TEST_DEVICES=8 $(PY) -m pytest -m slow $(EIGHT))

deviceless: $(READY_DEV) $(READY_DEVICELESS)
	REPRE_DEVICELESS_PYTHON=$(DEVICELESS) $(PY) -m pytest -m slow tests/test_deviceless.py

hub: $(READY_DEV) $(READY_HUB)
	REPRE_HUB_PYTHON=$(HUB) $(PY) -m pytest -m slow tests/test_hub_parity.py

docs: $(READY_DOCS)
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict
	.venv-docs/bin/python -m tests.helpers.documented
	@echo "To read: site/index.html"

minutes: $(READY_DEV)
	$(PY) .ci/minutes.py $(MAKE) $(TESTS)

lint: $(READY_DEV)
	$(PY) -m ruff check --no-cache .
	$(PY) -m ruff format --no-cache --check .
	$(PY) -m mypy

bench: $(READY)
	$(PY) -m benchmarks.train_step --config configs/moco_vit_s.py:digits --peer off
	$(PY) -m benchmarks.decoder_cost

$(VENV)/.ready-$(ACCELERATOR): requirements.txt $(REQUIREMENTS)
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r $(REQUIREMENTS)
	@touch $@

# What the data set scenes is made of.
$(VENV)/.ready-scenes: requirements-scenes.txt $(VENV)/.ready-$(ACCELERATOR)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-scenes.txt
	@touch $@

$(VENV)/.ready-dev: requirements-dev.txt requirements-scenes.txt requirements-gcs.txt requirements-hub.txt $(VENV)/.ready-$(ACCELERATOR)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

$(READY_DEVICELESS): requirements.txt requirements-deviceless.txt
	$(PYTHON) -m venv .venv-deviceless
	$(DEVICELESS) -m pip install --quiet --disable-pip-version-check -r requirements-deviceless.txt
	@touch $@

$(READY_HUB): requirements-transformers.txt
	$(PYTHON) -m venv .venv-hub
	$(HUB) -m pip install --quiet --disable-pip-version-check -r requirements-transformers.txt
	@touch $@

$(READY_DOCS): requirements-docs.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	@touch $@
