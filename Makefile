# Two commands for a newcomer: `make edit` and `make test`. Everything else is for those who change the project.
PYTHON ?= python3
VENV ?= .venv
RUN_VENV := $(VENV)/run
TEST_VENV := $(VENV)/test
CHECKPOINT ?= build/demo
MINUTES ?= 240
JOBS ?= 2

.PHONY: edit test test-all cpp-check engines-all serve-check lint bundle demo-checkpoint quality int8 solver-parity serving benchmark-tables gpu clean

edit: $(RUN_VENV)/.ready ## edit the sample photo with the demo bundle (no torch)
	$(RUN_VENV)/bin/alterbute edit

test: $(TEST_VENV)/.ready ## the fast tests: minutes, no network, no GPU
	$(TEST_VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile -m "not slow and not gpu"

test-all: $(TEST_VENV)/.ready ## everything, long tests too
	$(TEST_VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile

cpp-check: $(TEST_VENV)/.ready ## the C++ library under ASan, UBSan, TSan and libFuzzer (ten minutes of it, needs clang)
	ALTERBUTE_FUZZ_S=200 $(TEST_VENV)/bin/python -m pytest -m slow tests/cpp

serve-check: $(TEST_VENV)/.ready ## the server under overload, 20,000 bent requests, hostile files and SIGTERMs (half an hour, quiet machine)
	$(TEST_VENV)/bin/python -m pytest -s -m slow tests/serve

engines-all: $(TEST_VENV)/.ready ## TensorRT-RTX engines of every family and precision, and of SD 1.5 at its size (20 GB of disk)
	$(TEST_VENV)/bin/python -m pytest -m slow tests/engines

lint: $(TEST_VENV)/.ready
	$(TEST_VENV)/bin/ruff check .
	$(TEST_VENV)/bin/mypy

bundle: $(TEST_VENV)/.ready ## export the committed demo checkpoint into engines/demo
	$(TEST_VENV)/bin/alterbute-export bundle demo/checkpoint -o engines/demo

int8: $(TEST_VENV)/.ready ## the demo in int8, calibrated on rendered edits, and its quality beside fp32's (minutes)
	PYTHONPATH=. $(TEST_VENV)/bin/python -m demo.calibration build/demo-edits
	$(TEST_VENV)/bin/alterbute-export quantize engines/demo -o build/demo-int8 --edits build/demo-edits/edits.toml
	PYTHONPATH=. $(TEST_VENV)/bin/python -m benchmarks.fidelity engines/demo build/demo-int8 --quality 40 --out benchmarks/results/fidelity.json

demo-checkpoint: $(TEST_VENV)/.ready ## render, train and write the demo checkpoint; resumable; MINUTES of training
	PYTHONPATH=. $(TEST_VENV)/bin/python -m demo.make $(CHECKPOINT) --minutes $(MINUTES)

quality: $(TEST_VENV)/.ready ## measure the demo bundle on held-out edits with exact ground truth
	PYTHONPATH=. $(TEST_VENV)/bin/python -m benchmarks.demo_quality --out benchmarks/results/demo_quality.json

solver-parity: $(TEST_VENV)/.ready ## walk every solver's trajectories beside diffusers (90 s of one core)
	PYTHONPATH=. $(TEST_VENV)/bin/python -m benchmarks.solvers.solver_parity --out benchmarks/results/solver_parity.json

serving: $(TEST_VENV)/.ready ## step-level batching against request-level and one at a time, at 80 % load
	PYTHONPATH=. $(TEST_VENV)/bin/python -m benchmarks.serving.serving

benchmark-tables: $(TEST_VENV)/.ready ## tables and plots of benchmarks/README.md from the results
	PYTHONPATH=. $(TEST_VENV)/bin/python -m benchmarks.common.tables

gpu: ## parity, then times, of everything that an NVIDIA machine without network has; PYTHON names its environment
	PYTHONPATH=. $(PYTHON) benchmarks/gpu/main.py --out benchmarks/results/gpu

$(RUN_VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(RUN_VENV)
	$(RUN_VENV)/bin/pip install --quiet --editable ".[cpu]"
	touch $@

$(TEST_VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(TEST_VENV)
	$(TEST_VENV)/bin/pip install --quiet torch==2.13.0
	$(TEST_VENV)/bin/pip install --quiet --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV) build dist
