# Two commands set everything up on a fresh machine with Python 3.11 or newer:
#   make demo   an environment of its own, then the main job: a binary two-layer network learns
#               its teacher, then a binary network learns handwritten digits
#   make test   an environment of its own, then linter, type checker, tests, wheel and sdist
#   make studies-small   every study of the theory in its small version, under outputs/study-small, or OUT=FOLDER
PYTHON ?= python3
DEMO := .venv-demo/bin/python
TEST := .venv-test/bin/python
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check -c constraints.txt
# what the oldest releases run: not what compares with newer peers, nor documentation and pages
OLDEST_TESTS := $(addprefix tests/,kernels functional quantizers layers convert deploy callbacks models \
  metrics optim data io theory command_line figures)
# compiled anew at every run of the tests, which then see the code that makes it at work
test coverage: export NUMBA_CACHE_DIR := $(CURDIR)/.numba_cache

.PHONY: release-check version tags peers demo test coverage test-slow compatibility test-oldest test-newest fuzz mutants studies-small docs lint types build release lock clean

demo: .venv-demo/ready
	$(DEMO) -m ste_lightning.train +recipe=teacher_student
	$(DEMO) -m ste_lightning.train +recipe=digits_mlp

test: .venv-test/ready lint types
	rm -rf $(NUMBA_CACHE_DIR)
	OMP_NUM_THREADS=1 $(TEST) -m pytest -n auto
	$(MAKE) build

# the same tests, and that they run 97 % of the package's lines; counting them takes a third more time
coverage: .venv-test/ready
	rm -rf $(NUMBA_CACHE_DIR)
	OMP_NUM_THREADS=1 $(TEST) -m pytest -n auto --cov --cov-report=term --cov-fail-under=97

test-slow: .venv-test/ready
	$(TEST) -m pytest -m slow

# all tests of what works together, and docs/compatibility.md from their outcomes
compatibility: .venv-test/ready
	OMP_NUM_THREADS=1 $(TEST) tests/compatibility/table.py

# what docs/migrate.md shows of older libraries: pytest -m slow tests/peers runs it there
peers: .venv-lightning1/ready .venv-keras/ready

# the lower bounds of pyproject.toml; the type checker and the exporters' peers stay out
test-oldest:
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet -c constraints-oldest.txt \
	  --editable '.[study]' pytest hypothesis
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest $(OLDEST_TESTS) -W default

# the newest releases of everything, without constraints
test-newest:
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade --editable '.[dev]'
	OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest -n auto -W default

# 100,000 damaged files for each reader; the figures go to benchmarks/results/fuzz_readers.json
fuzz: .venv-test/ready
	$(TEST) benchmarks/fuzz_readers.py

# 150 random changes of the package: do the tests notice? benchmarks/results/mutants.json
mutants: .venv-test/ready
	$(TEST) $(PIP_INSTALL) 'cosmic-ray>=8.7'
	$(TEST) benchmarks/mutants.py

# the documentation, strictly: any broken link or missing reference is an error; site/index.html
docs: .venv-docs/ready
	NO_MKDOCS_2_WARNING=1 OMP_NUM_THREADS=1 .venv-docs/bin/python -m mkdocs build --strict --clean

# two processes with four studies each at a time: threads of one wait for the interpreter
studies-small: .venv-test/ready
	began=$$(date +%s); ls recipes/study | sed 's/[.]yaml$$//' | xargs -n 4 | tr ' ' ',' | \
	  OMP_NUM_THREADS=1 xargs -P 2 -I{} $(TEST) -m ste_lightning.study --multirun '+recipe={}' small=true \
	  workers=1 hydra.sweep.dir=$(or $(OUT),outputs/study-small) && \
	  echo "all studies: $$(($$(date +%s) - began)) s"

lint: .venv-test/ready
	$(TEST) -m ruff check .
	$(TEST) -m ruff format --check .
	.venv-test/bin/lint-imports

types: .venv-test/ready
	$(TEST) -m mypy

build: .venv-test/ready
	rm -rf dist
	$(TEST) -m build --no-isolation --outdir dist .
	$(TEST) -m twine check --strict dist/*

# wheel, sdist and their bill of materials: what `pip install 'ste-lightning[report]'` brings, as in
# the demo's environment; by tools whose hashes are in release.lock
release: .venv-release/ready .venv-demo/ready
	rm -rf dist
	.venv-release/bin/python -m build --no-isolation --outdir dist .
	.venv-release/bin/python -m twine check --strict dist/*
	sed "s/^dynamic = .*/version = \"$$(.venv-release/bin/python -m hatchling version)\"/" \
	  pyproject.toml > .venv-release/pyproject.toml
	.venv-release/bin/cyclonedx-py environment .venv-demo --output-reproducible \
	  --pyproject .venv-release/pyproject.toml --of JSON -o dist/sbom.cdx.json

# everything that must hold before a version is tagged; prints the steps that are left to people.
# Half an hour on two idle cores, most of it `coverage`: all that `make test` runs, and counted lines.
# In pieces: make lint types, make docs, make release, make coverage, then the last line by hand.
release-check: lint types docs release coverage
	$(TEST) .ci/release_checklist.py

# gives a version to what CHANGELOG.md calls unreleased: make version NEW=X.Y.Z
version:
	$(PYTHON) .ci/versions.py set $(NEW)

# tags the versions of CHANGELOG.md that have no tag, each at the commit that brought it
tags:
	$(PYTHON) .ci/versions.py tags

.venv-release/ready: release.lock
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/python -m pip install --quiet --require-hashes --only-binary :all: \
	  -r release.lock
	touch $@

# writes release.lock anew; needs uv
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --custom-compile-command "make lock" -c constraints.txt \
	  release.in -o release.lock

.venv-lightning1/ready: constraints.txt
	$(PYTHON) -m venv .venv-lightning1
	.venv-lightning1/bin/python -m pip install --quiet pytorch-lightning==1.9.5 'setuptools<81' \
	  "$$(grep ^torch== constraints.txt)"
	touch $@

.venv-keras/ready:
	$(PYTHON) -m venv .venv-keras
	.venv-keras/bin/python -m pip install --quiet larq==0.14.0 qkeras==0.9.0 \
	  'pyparsing<3.2' tensorflow-cpu tf-keras
	touch $@

.venv-demo/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-demo
	$(DEMO) $(PIP_INSTALL) --editable '.[report]'
	touch $@

.venv-docs/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python $(PIP_INSTALL) --editable '.[docs]'
	touch $@

.venv-test/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-test
	$(TEST) $(PIP_INSTALL) --editable '.[dev]'
	touch $@

clean:
	rm -rf site .venv-demo .venv-docs .venv-test .venv-oldest .venv-newest .venv-release .venv-lightning1 .venv-keras .numba_cache dist .coverage .pytest_cache .mypy_cache .ruff_cache .mutants
