# `make` lists the targets. Needs python3 (3.11 or 3.12, with venv), git and a package index; nothing else.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help setup demo airflow test test-system lint docs lock clean

WORKERS ?= 2
# With bytecode TensorFlow imports in a third of the time, so no target inherits the switch that turns it off.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1 /p' Makefile | while read -r name text; do printf '  make %-11s %s\n' "$$name" "$$text"; done

setup: ## make .venv from requirements.lock; does nothing while that file, setup.py and the place are the same
	@key=$$({ cat requirements.lock setup.py twinspire_core/version.py; pwd; } | sha256sum)
	if [ "$$(cat .venv/ready 2>/dev/null)" = "$$key" ]; then exit 0; fi
	for candidate in $${PYTHON:-python3 python3.12 python3.11}; do
	  "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null || continue
	  python=$$candidate; break
	done
	if [ -z "$${python:-}" ]; then
	  found=$${PYTHON:-python3}
	  echo "Twinspire needs Python 3.11 or 3.12 with its venv module; $$found is $$($$found --version 2>&1 || true). Install one" \
	    "(Debian, Ubuntu: apt install python3-venv), or name it: make setup PYTHON=/path/to/python3.12" >&2
	  exit 2
	fi
	say() { echo "make setup: $$*" >&2; }
	say "setting up .venv with $$($$python --version)"
	# A .venv does not survive a move: its scripts name the place where it was made.
	if [ -e .venv ] && ! grep -qsF "$$(pwd -P)/.venv" .venv/bin/activate; then rm -rf .venv; fi
	$$python -m venv .venv
	.venv/bin/python -m pip install --quiet "$$(grep -o '^uv==[^ ;]*' requirements.lock)"
	# uv does not read pip's settings: a private index or certificate set there is passed on.
	pip_setting() { .venv/bin/python -m pip config list | sed -n "s/^[^=]*\.$$1='\(.*\)'$$/\1/p" | tail -n 1; }
	index=$$(pip_setting index-url) cert=$$(pip_setting cert)
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$index}"; fi
	if [ -n "$$cert" ]; then export SSL_CERT_FILE="$${SSL_CERT_FILE:-$$cert}"; fi
	say "installing about 300 packages: 1 GB to download the first time, then a minute or two"
	# uv names what it downloads. Without sed, its list of all packages would hide that.
	.venv/bin/uv pip install --python .venv/bin/python --compile-bytecode -r requirements.lock 2>&1 | sed -u '/^ [+~-] /d' >&2
	say "installing the project"
	.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e .
	printf '%s\n' "$$key" > .venv/ready
	say "done"

demo: setup ## run three days of grocery purchases through Airflow, show how good the lists are (ARGS='--days 2')
	@exec .venv/bin/python -m examples.grocery_demo $(ARGS)

airflow: setup ## start Airflow's UI on 127.0.0.1, to stay; Ctrl-C ends it
	@exec .venv/bin/python -m examples.grocery_demo --airflow $(ARGS)

test: lint ## lint, then run the test suite (ARGS='-k partition' narrows it)
	@.venv/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not system" $(ARGS)

test-system: setup ## run what takes minutes, a live Airflow say, and write docs/system-tests.md
	@.venv/bin/python tests/system_tests.py $(ARGS)

lint: setup ## ruff, mypy and import-linter; then the size of the project beside its budget
	@.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo
	.venv/bin/python -m docs.budget

docs: setup ## write the generated pages again and build the site into build/site (ARGS='serve' shows it)
	@.venv/bin/python docs/generate.py
	export NO_MKDOCS_2_WARNING=1
	if [ -n "$(ARGS)" ]; then exec .venv/bin/mkdocs $(ARGS); fi
	.venv/bin/mkdocs build --strict

lock: setup ## resolve requirements.lock again, keeping pins that still fit (ARGS='-P polars' moves one)
	@.venv/bin/uv pip compile setup.py --all-extras --universal --python-version 3.11 --output-file requirements.lock \
	  --no-header --no-emit-index-url --no-emit-find-links --quiet $(ARGS)
	sed -i "s/ ; python_full_version < '3.13' and sys_platform == 'linux'$$//" requirements.lock

clean: ## remove .venv, caches and the demo's working files
	@rm -rf .venv .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info work
