# Two commands set everything up on a fresh machine with Python 3.11 or newer:
#   make demo   an environment of its own, then the main job: a binary two-layer network learns
#               its teacher, then a binary network learns handwritten digits
#   make test   an environment of its own, then linter, type checker, tests, wheel and sdist
#   make studies-small   every study of the theory in its small version, under outputs/study-small
PYTHON ?= python3
DEMO := .venv-demo/bin/python
TEST := .venv-test/bin/python
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check -c constraints.txt
# compiled anew at every run of the tests, which then see the code that makes it at work
test: export NUMBA_CACHE_DIR := $(CURDIR)/.numba_cache

.PHONY: demo test test-slow compatibility studies-small lint types build clean

demo: .venv-demo/ready
	$(DEMO) -m ste_lightning.train +recipe=teacher_student
	$(DEMO) -m ste_lightning.train +recipe=digits_mlp

test: .venv-test/ready lint types
	rm -rf $(NUMBA_CACHE_DIR)
	OMP_NUM_THREADS=1 $(TEST) -m pytest -n auto --cov --cov-report=term --cov-fail-under=97
	$(MAKE) build

test-slow: .venv-test/ready
	$(TEST) -m pytest -m slow

# all tests of what works together, and docs/compatibility.md from their outcomes
compatibility: .venv-test/ready
	OMP_NUM_THREADS=1 $(TEST) tests/compatibility/table.py

studies-small: .venv-test/ready
	$(TEST) -m ste_lightning.study --multirun '+recipe=glob(*)' small=true \
	  hydra.sweep.dir=outputs/study-small

lint: .venv-test/ready
	$(TEST) -m ruff check .
	$(TEST) -m ruff format --check .

types: .venv-test/ready
	$(TEST) -m mypy

build: .venv-test/ready
	rm -rf dist
	$(TEST) -m build --no-isolation --outdir dist .
	$(TEST) -m twine check --strict dist/*

.venv-demo/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-demo
	$(DEMO) $(PIP_INSTALL) --editable .
	touch $@

.venv-test/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-test
	$(TEST) $(PIP_INSTALL) --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv-demo .venv-test .numba_cache dist .coverage .pytest_cache .mypy_cache .ruff_cache
