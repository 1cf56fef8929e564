# Octavo's two commands: `make serve` and `make test`. The steps of the checks are listed once, in .ci/run.

VENV ?= .venv
PORT ?= 8000
ARGS ?=
export VENV

.PHONY: help serve test coverage lint types format native sanitize clean

help:
	@echo "make serve    serve the model in the box on http://127.0.0.1:$(PORT) (PORT=…, ARGS='--max-model-len 1k …')"
	@echo "make test     everything that CI runs"
	@echo "make coverage the tests, and which lines they do not run (at least 90 % of all must be)"
	@echo "make lint     formatting, lint and the import contract of the floors"
	@echo "make types    mypy --strict on src/octavo"
	@echo "make format   rewrite the sources in the project's format"
	@echo "make native   compile the CPU kernels again after a change of their C++ sources; shows the compiler's messages"
	@echo "make sanitize run the tests of the CPU kernels under the address and undefined-behaviour sanitizers (minutes)"
	@echo "make clean    remove the virtual environment and what the tools left behind"

serve:
	@.ci/make_venv serve
	@exec $(VENV)/bin/octavo serve --host 127.0.0.1 --port $(PORT) $(ARGS)

test:
	@.ci/run

coverage:
	@.ci/run coverage

lint:
	@.ci/run format lint floors

types:
	@.ci/run types

format:
	@.ci/make_venv dev
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

# In the build directory of the last time, so that only what changed is compiled.
native:
	@[ -x $(VENV)/bin/python ] || .ci/make_venv dev
	OCTAVO_REQUIRE_NATIVE=1 $(VENV)/bin/python -m pip install --no-build-isolation --no-deps -v -e .

sanitize:
	@.ci/sanitize_native

clean:
	rm -rf $(VENV) build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
