# make book     the book, from nothing: environment, data, every notebook run afresh, the site
# make test     every check: style, unit tests, the notebooks' outputs, the site in a browser
# make outputs  bring the text outputs of the last build into the committed notebooks
# make pdf      the built book as one file to print, _build/book.pdf; needs a Chromium
# make slides   every figure of the built book, 1920 by 1080, _build/slides; needs a Chromium
# make landing  draw the moving picture at the top of the README
# make lock     write requirements.lock, the tested environment with hashes
# make clean    take the site, the drawn data and what the site fetched away (the environment stays)

VENV   ?= .venv
DATA   ?= data/miniature
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$python && break; done)

RUN   := $(VENV)/bin/python
BUILT := _build/built
# What the site is made of; not the caches that a style check or Jupyter leaves among it.
PAGES := $(shell find book lib -type f ! -path '*/__pycache__/*' ! -path '*/.*') _config.yml _toc.yml

.PHONY: book test outputs data pdf slides landing lock clean
.DELETE_ON_ERROR:

book: $(BUILT)
	@echo
	@echo "The book is built: open _build/html/index.html in a browser,"
	@echo "or serve it: $(RUN) -m http.server --directory _build/html"

$(RUN):
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed-%: pyproject.toml | $(RUN)
	$(RUN) -m pip install --disable-pip-version-check --quiet --editable '.[$*]'
	@touch $@

data: $(VENV)/installed-book
	$(RUN) -m lib.miniature $(DATA)

# A build on top of an older one can pass over a page that fails: always from nothing.
$(BUILT): $(PAGES) $(VENV)/installed-book | data
	@mkdir .building 2>/dev/null || \
	{ echo "Another make book runs here. If none does, remove the folder .building."; exit 1; }
	@trap 'rmdir .building' EXIT INT TERM; rm -rf _build && \
	$(VENV)/bin/jupyter-book build . -W -n --keep-going && touch $@

# The book first: on a bare machine, with what it needs itself and nothing of the tests.
test: $(BUILT)
	$(MAKE) $(VENV)/installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m codespell_lib README.md lib book tests
	$(RUN) -m pytest -m 'not built'
	$(RUN) -m pytest -m built

outputs: $(BUILT)
	$(RUN) book/_ext/light_outputs.py
	@touch $(BUILT)

pdf: $(BUILT) $(VENV)/installed-test
	$(RUN) book/_ext/printable.py _build/book.pdf

slides: $(BUILT) $(VENV)/installed-test
	$(RUN) book/_ext/slides.py _build/slides

landing: $(VENV)/installed-book
	$(RUN) book/_ext/landing.py

lock: $(VENV)/installed-test
	$(RUN) tests/lock.py

clean:
	rm -rf _build $(DATA) data/runtime
