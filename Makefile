# `make help` lists the targets. A newcomer needs two: `make edit` and `make test`.
PYTHON ?= python3
VENV ?= .venv
RUN_VENV := $(VENV)/run
TEST_VENV := $(VENV)/test
LOW_VENV := $(VENV)/lowest
LOW_RUN_VENV := $(VENV)/lowest-runtime
BIN := $(TEST_VENV)/bin
CHECKPOINT ?= build/demo
MINUTES ?= 240
JOBS ?= 2
CUDA_ORT := 1.31.1
# Folders apart: ONNX Runtime would take CUDA's real libraries, which travel with the headers, where it finds them beside itself.
CUDA_INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target
CUDA_HEADERS := "nvidia-cuda-runtime==13.0.*" "nvidia-cuda-crt==13.0.*"
# Tests that export a checkpoint, build TensorRT engines or compile C++ have a marker each (tests/conftest.py sets it).
LOW_EXTRAS := cpu,serve,heif,sign
LOW_TESTS := tests/hostile tests/images tests/masks tests/runtime tests/project/test_versions.py tests/project/test_wall.py
QUICK := not slow and not gpu and not export and not engines and not cpp

.DEFAULT_GOAL := help
.PHONY: help edit check test test-all test-quick test-lowest test-lowest-runtime test-highest cuda-wheels coverage lint format cpp-check engines-all serve-check bundle int8 demo-checkpoint quality solver-parity serving benchmark-tables gpu clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# For users
edit: $(RUN_VENV)/.ready ## edit the sample photo with the demo bundle (no torch)
	$(RUN_VENV)/bin/alterbute edit

# For contributors
check: $(TEST_VENV)/.ready ## before every commit, under a minute: lint, and the tests that need no export, engine or C++ build
	@$(MAKE) --no-print-directory -j $(JOBS) lint test-quick

test: $(TEST_VENV)/.ready cuda-wheels ## the fast tests: minutes, no network, no GPU
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow and not gpu"

test-all: $(TEST_VENV)/.ready cuda-wheels ## everything, long tests too
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

test-quick: $(TEST_VENV)/.ready ## the tests of `make check`
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "$(QUICK)"

test-lowest: $(LOW_VENV)/.ready ## the fast tests with exactly the lowest versions that pyproject.toml allows (a second torch: 1.5 GB of disk)
	ALTERBUTE_VERSIONS=test $(LOW_VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile -o cache_dir=$(LOW_VENV)/cache -m "not slow and not gpu"

test-lowest-runtime: $(LOW_RUN_VENV)/.ready ## the runtime's tests with its lowest versions, without torch and the exporter
	ALTERBUTE_VERSIONS=$(LOW_EXTRAS) $(LOW_RUN_VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile -p no:cacheprovider -m "$(QUICK)" --ignore tests/runtime/test_doctor.py $(LOW_TESTS)

test-highest: $(TEST_VENV)/.ready cuda-wheels ## the fast tests with the newest versions: what `make test` installs in a new checkout
	$(BIN)/pip install --quiet --upgrade --upgrade-strategy eager --editable ".[test]"
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow and not gpu"

cuda-wheels: $(TEST_VENV)/.ready ## ONNX Runtime's CUDA build and CUDA's headers, for tests/cuda (256 MB; those tests skip without it)
	@if [ "$$(uname -sm)" = "Linux x86_64" ] && [ ! -e $(VENV)/cuda/.ready-$(CUDA_ORT) ]; then \
	  rm -rf $(VENV)/cuda; \
	  if $(CUDA_INSTALL) $(VENV)/cuda/headers $(CUDA_HEADERS) && $(CUDA_INSTALL) $(VENV)/cuda/onnxruntime onnxruntime-gpu==$(CUDA_ORT); \
	  then touch $(VENV)/cuda/.ready-$(CUDA_ORT); \
	  else rm -rf $(VENV)/cuda; echo "cuda-wheels: onnxruntime-gpu $(CUDA_ORT) cannot be installed here; the tests over the stand-in of CUDA skip"; fi; fi

coverage: $(TEST_VENV)/.ready ## the fast tests with line coverage of both packages; a report in build/coverage
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow and not gpu" --cov --cov-report=html:build/coverage --cov-report=term:skip-covered

lint: $(TEST_VENV)/.ready ## ruff, the formatter's check, strict mypy over everything, codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

format: $(TEST_VENV)/.ready ## let ruff sort imports and format
	$(BIN)/ruff check --fix-only --select I .
	$(BIN)/ruff format .

cpp-check: $(TEST_VENV)/.ready ## the C++ library under ASan, UBSan, TSan and libFuzzer (ten minutes of it, needs clang)
	ALTERBUTE_FUZZ_S=200 $(BIN)/python -m pytest -m slow tests/cpp

serve-check: $(TEST_VENV)/.ready ## the server under overload, 20,000 malformed requests, hostile files and SIGTERMs (half an hour, quiet machine)
	$(BIN)/python -m pytest -s -m slow tests/serve

engines-all: $(TEST_VENV)/.ready ## TensorRT-RTX engines of every family and precision, and of SD 1.5 at its size (20 GB of disk)
	$(BIN)/python -m pytest -m slow tests/engines

# The demo bundle
bundle: $(TEST_VENV)/.ready ## export the committed demo checkpoint into engines/demo
	$(BIN)/alterbute-export bundle demo/checkpoint -o engines/demo

int8: $(TEST_VENV)/.ready ## the demo in int8, calibrated on rendered edits, and its quality beside fp32's (minutes)
	PYTHONPATH=. $(BIN)/python -m demo.calibration build/demo-edits
	$(BIN)/alterbute-export quantize engines/demo -o build/demo-int8 --edits build/demo-edits/edits.toml
	PYTHONPATH=. $(BIN)/python -m benchmarks.fidelity engines/demo build/demo-int8 --quality 40 --out benchmarks/results/fidelity.json

demo-checkpoint: $(TEST_VENV)/.ready ## render, train and write the demo checkpoint; resumable; MINUTES of training
	PYTHONPATH=. $(BIN)/python -m demo.make $(CHECKPOINT) --minutes $(MINUTES)

quality: $(TEST_VENV)/.ready ## measure the demo bundle on held-out edits with exact ground truth
	PYTHONPATH=. $(BIN)/python -m benchmarks.demo_quality --out benchmarks/results/demo_quality.json

# Benchmarks
solver-parity: $(TEST_VENV)/.ready ## every solver's trajectories beside diffusers' (90 s of one core)
	PYTHONPATH=. $(BIN)/python -m benchmarks.solvers.solver_parity --out benchmarks/results/solver_parity.json

serving: $(TEST_VENV)/.ready ## step-level batching against request-level and one at a time, at 80 % load
	PYTHONPATH=. $(BIN)/python -m benchmarks.serving.serving

benchmark-tables: $(TEST_VENV)/.ready ## tables and plots of benchmarks/README.md from the results
	PYTHONPATH=. $(BIN)/python -m benchmarks.common.tables

gpu: ## speed and parity on this NVIDIA GPU within MINUTES, of BUNDLE if given; PYTHON names its environment; needs no network
	PYTHONPATH=runtime:export:.:$$PYTHONPATH $(PYTHON) -m benchmarks.gpu.main --minutes $(or $(MINUTES),10) --out benchmarks/results/gpu $(if $(BUNDLE),--bundle $(BUNDLE))

clean: ## remove environments and builds
	rm -rf $(VENV) build dist

$(RUN_VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(RUN_VENV)
	$(RUN_VENV)/bin/pip install --quiet --editable ".[cpu]"
	touch $@

$(TEST_VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(TEST_VENV)
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable ".[test]"
	touch $@

# The program that reads the bounds needs `packaging`, which has no bound itself.
$(LOW_VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(LOW_VENV)
	$(LOW_VENV)/bin/pip install --quiet packaging
	$(LOW_VENV)/bin/python tests/project/lowest_versions.py test > $(LOW_VENV)/constraints.txt
	$(LOW_VENV)/bin/pip install --quiet --constraint $(LOW_VENV)/constraints.txt torch
	$(LOW_VENV)/bin/pip install --quiet --constraint $(LOW_VENV)/constraints.txt --editable ".[test]"
	touch $@

$(LOW_RUN_VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(LOW_RUN_VENV)
	$(LOW_RUN_VENV)/bin/pip install --quiet packaging
	$(LOW_RUN_VENV)/bin/python tests/project/lowest_versions.py $(LOW_EXTRAS) > $(LOW_RUN_VENV)/constraints.txt
	$(LOW_RUN_VENV)/bin/pip install --quiet --constraint $(LOW_RUN_VENV)/constraints.txt --editable ".[$(LOW_EXTRAS)]" pytest pytest-xdist filelock hypothesis fonttools httpx
	touch $@
