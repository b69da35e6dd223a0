# `make demo` and `make test` do all set-up themselves. PYTHON chooses the interpreter (3.9 to 3.12).
PYTHON ?= python3
VENV ?= .venv
VENV26 ?= .venv-paddle26
VENV_BENCH ?= .venv-bench
# two processes: most of the time is scripts starting; numpy's threads would take the cores from the other process
PYTEST ?= -n 2 --dist loadfile --no-loadscope-reorder
test test-paddle26: export OPENBLAS_NUM_THREADS ?= 1
PIP = -m pip install --quiet --disable-pip-version-check
.DELETE_ON_ERROR:
.PHONY: demo test lint test-paddle26 bench app clean

demo: $(VENV)/.run-ready
	$(VENV)/bin/python demo.py

test: lint
	$(VENV)/bin/python -m pytest $(PYTEST)

lint: $(VENV)/.dev-ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

test-paddle26: $(VENV26)/.ready
	$(VENV26)/bin/python -m pytest $(PYTEST) -m "not real and not readme and not once"

# BENCH holds options: make bench BENCH="--data_path data/mvtec --weights resnet18.pdparams"
bench: $(VENV_BENCH)/.ready
	$(VENV_BENCH)/bin/python -m benchmarks $(BENCH)

# a page in the browser; APP holds options: make app APP="--data_path parts --save_path output --port 8600"
app: $(VENV)/.app-ready
	$(VENV)/bin/python -m app $(if $(WEIGHTS),--weights $(WEIGHTS)) $(APP)

# the environments that this file made; demo/ and output/ hold results, which are yours to remove
clean:
	@for made in $(VENV)/.run-ready $(VENV26)/.ready $(VENV_BENCH)/.ready; do \
		if [ -f "$$made" ]; then echo "removing $${made%/*}"; rm -rf "$${made%/*}"; fi; done

$(VENV)/.run-ready: requirements.txt
	@echo "making the environment $(VENV) (a minute or two, about 1 GB)"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) -r requirements.txt
	@touch $@

$(VENV)/.dev-ready: $(VENV)/.run-ready requirements-dev.txt requirements-app.txt
	$(VENV)/bin/python $(PIP) -r requirements-dev.txt
	@touch $@

$(VENV)/.app-ready: $(VENV)/.run-ready requirements-app.txt
	$(VENV)/bin/python $(PIP) -r requirements-app.txt
	@touch $@

$(VENV26)/.ready: requirements-paddle26.txt requirements-dev.txt requirements-app.txt requirements.txt
	@echo "making the environment $(VENV26)"
	$(PYTHON) -m venv $(VENV26)
	$(VENV26)/bin/python $(PIP) -r requirements-paddle26.txt -r requirements-dev.txt
	@touch $@

$(VENV_BENCH)/.ready: requirements-bench.txt requirements.txt
	@echo "making the environment $(VENV_BENCH)"
	$(PYTHON) -m venv $(VENV_BENCH)
	$(VENV_BENCH)/bin/python $(PIP) -r requirements-bench.txt
	@touch $@
