# Each target installs what it needs. You need Python 3.11 or newer, and make.
PYTHON ?= python3
PORT ?= 8000
BIN := .venv/bin

# Else each worker, and each process that a test starts, compiles everything again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test coverage matrix release test-real pictures bench bench-quick docs schema format lint

help:  ## Print this list
	@sed -n 's/^\([a-z-]*\):.*  ## /\1:/p' $(MAKEFILE_LIST) | while IFS=: read -r target text; do \
		printf '%-12s%s\n' "$$target" "$$text"; done

demo: .venv/.installed  ## The photo wall, with its own S3 and database, on PORT
	@exec scripts/demo $(PORT)

test: .venv/.installed  ## The suite on SQLite and moto, and upload.js in Node.js
	$(BIN)/python -m pytest -n auto

coverage: .venv/.installed  ## As test, and print the lines that no test runs; takes half as long again
	@$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n auto
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=95

matrix: .venv/.installed  ## The suite on other versions of Python and Django; PAIRS="3.13-6.0 3.11-lowest" runs these
	scripts/matrix $(PAIRS)

release: .venv/.installed  ## Make the packages of a release in dist/, and try them on a clean Debian, as root; publishes nothing
	scripts/release

test-real: .venv/.installed  ## The whole suite on Ceph, PostgreSQL, Redis, Chromium, Firefox, WebKit, ClamAV and Java; installs them on Debian, as root
	scripts/with-servers $(BIN)/python -m pytest -n auto --dist loadscope --no-loadscope-reorder

bench: .venv/.installed  ## Measure the speed beside other ways to upload; prints one table, writes benchmarks/RESULTS.md
	scripts/with-servers $(BIN)/python -m benchmarks

pictures: .venv/.installed  ## Take the pictures of the documents from the running example
	scripts/with-servers $(BIN)/python scripts/pictures

bench-quick: .venv/.installed  ## The first rows of that table, in two minutes: begin, confirm, batches, through Django
	scripts/with-servers $(BIN)/python -m benchmarks quick

docs: .venv/.docs  ## The documentation's site, in docs/_build: open docs/_build/index.html
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build

schema: .venv/.installed  ## Write docs/openapi.yaml from the code
	DJANGO_SETTINGS_MODULE=tests.openapi_settings $(BIN)/python manage.py spectacular \
		--file docs/openapi.yaml --validate --fail-on-warn

format: .venv/.installed  ## Format the Python code, and sort its imports
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

lint: .venv/.installed  ## ruff, mypy, migrations, and the types of the JavaScript
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

.venv/.docs: .venv/.installed pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --group docs
	@touch $@
