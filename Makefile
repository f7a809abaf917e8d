# Each target does all of its own set-up: Python 3.11 or newer and make are enough.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin

.PHONY: demo test coverage test-real bench schema lint

demo: .venv/.installed  ## The photo wall, with an S3 and a database of its own, on PORT
	@exec scripts/demo $(PORT)

test: .venv/.installed  ## The suite, on SQLite and moto; with upload.js, in Node.js
	$(BIN)/python -m pytest -n auto

coverage: .venv/.installed  ## As test, in half as long again; and which lines nothing tried
	@$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n auto
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=95

test-real: .venv/.installed  ## All of it again, on Ceph, PostgreSQL, Redis and Chromium; installs them on Debian, as root
	scripts/with-servers $(BIN)/python -m pytest

bench: .venv/.installed  ## How fast it is, beside botocore, curl and others; writes benchmarks/RESULTS.md
	scripts/with-servers $(BIN)/python -m benchmarks

schema: .venv/.installed  ## docs/openapi.yaml, as the code has it
	DJANGO_SETTINGS_MODULE=tests.openapi_settings $(BIN)/python manage.py spectacular \
		--file docs/openapi.yaml --validate --fail-on-warn

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python manage.py makemigrations --check --dry-run
	scripts/node npx --yes --package typescript@5.9.3 tsc --project jsconfig.json

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; say which with PYTHON=…" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --constraint constraints.txt pip
	$(BIN)/pip install --quiet --constraint constraints.txt --build-constraint constraints.txt \
		--editable '.[dev,openapi]' --group dev
	@touch $@
