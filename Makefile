# Everything happens in .venv; nothing outside this folder is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := adroit,robosuite,metaworld,dmc,formats,ruckig,dev
export OMP_NUM_THREADS ?= 1
export PYTHONWARNINGS ?= ignore::SyntaxWarning

.PHONY: help setup test slow check format demo cpp-example franka-sim constraints clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(STAMP)  ## make .venv with every dependency, pinned

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 13) else f"Python 3.11 or 3.12 is needed, {sys.executable} is {v[0]}.{v[1]}. Try make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install -qq --constraint constraints.txt --editable '.[$(EXTRAS)]'
# robosuite asks for opencv-python, whose cv2 loads libGL and so fails on servers; the headless cv2 needs none.
	$(BIN)/python -m pip uninstall -qq --yes opencv-python
	$(BIN)/python -m pip install -qq --no-deps --force-reinstall \
	    opencv-python-headless==$$(sed -n 's/^opencv-python==//p' constraints.txt)
	touch $@

test: setup  ## the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

slow: setup  ## the tests that simulate or learn for long
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

check: setup  ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

format: setup  ## rewrite the files as `make check` wants them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

demo: setup  ## logs -> dataset -> policy -> ONNX -> arm, in some minutes; leaves outputs/demo/report.md
	$(BIN)/robot-rl demo --out outputs/demo

cpp-example: setup  ## the C++ client of the policy server, examples/cpp/build/ask
	$(MAKE) -C examples/cpp PYTHON=$(abspath $(BIN)/python)

# The simulator wants numpy 2, everything else here numpy 1: it gets an environment of its own.
FRANKA_SIM := .venv-franka-sim
FRANKA_HOST ?= 127.0.0.1

$(FRANKA_SIM)/bin/franky-sim:
	$(PYTHON) -m venv $(FRANKA_SIM)
	$(FRANKA_SIM)/bin/python -m pip install -qq franky-sim==1.0.4 'numpy>=2.2'

franka-sim: setup $(FRANKA_SIM)/bin/franky-sim  ## a simulated Franka that speaks the real protocol, on loopback
	$(BIN)/python -m pip install -qq --constraint constraints.txt --editable '.[franka]'
	$(FRANKA_SIM)/bin/franky-sim -s mujoco --hostname $(FRANKA_HOST)

# pip-compile writes torch with the local version of the wheel it found (+cpu); other machines lack that label.
constraints: setup  ## resolve the pins anew
	$(BIN)/pip-compile --quiet --upgrade --all-extras --strip-extras --no-annotate --no-emit-index-url \
	    --no-emit-find-links --no-emit-trusted-host --no-emit-options --allow-unsafe \
	    --output-file constraints.tmp pyproject.toml
	(echo '# Made by `make constraints` (pip-compile); not edited by hand. sed takes the local label (+cpu) off torch.'; \
	    grep -v '^#' constraints.tmp | sed -E 's/^(torch==[0-9.]+)\+.*/\1/') > constraints.txt
	rm constraints.tmp

clean:  ## remove .venv and caches; outputs stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build examples/cpp/build *.egg-info
