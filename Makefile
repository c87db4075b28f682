# make demo   start everything on this machine, classify some hundred alerts, show what came out
# make test   ruff and pytest, two tests at a time (ARGS='tests/packets -k lsst' picks some)
# make lint   ruff's lint and format, and mypy
# make lock   renew constraints.txt
#
# Each sets up .venv first when it is missing or older than what it installs. Needs Python 3.11 or newer.
# Without a GPU, a pip that is configured for PyTorch's CPU builds saves gigabytes.

PYTHON ?= python3
READY := .venv/.ready

.PHONY: demo test lint lock
demo: $(READY)
	.venv/bin/rayfinch demo $(ARGS)

test: $(READY)
	.venv/bin/ruff check .
	.venv/bin/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy broker models serve training rayfinch

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Rayfinch needs Python 3.11 or newer: make PYTHON=python3.11")'
	test -x .venv/bin/python || $(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

lock:
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/python -m pip install --quiet --editable '.[dev]'
	{ grep '^#' constraints.txt; \
	  build/lock/bin/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//'; } > build/constraints.txt
	mv build/constraints.txt constraints.txt
