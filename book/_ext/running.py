"""A Sphinx extension: every page that is a notebook says how to run it."""

from pathlib import Path

from sphinx.application import Sphinx

TEXT = (
    '<p class="running">To run this page yourself: in a clone of the book, after '
    "<code>make book</code>, <code>.venv/bin/python -m pip install jupyterlab</code> once, then "
    "<code>.venv/bin/jupyter lab {path}</code>.</p>"
)


def say_how(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    source = Path(app.srcdir, f"{page}.ipynb")
    if source.is_file() and "body" in context:
        context["body"] += TEXT.format(path=source.relative_to(app.srcdir).as_posix())


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", say_how)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
