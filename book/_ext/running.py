"""A Sphinx extension: every page that is a notebook says how to run it; how long that took."""

from pathlib import Path

from docutils import nodes
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


def name_the_pages(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Of MyST-NB's table of run times, the page, by its title, and the whole seconds."""
    for table in doctree.findall(nodes.table):
        head, *rows = table.findall(nodes.row)
        if [cell.astext() for cell in head][::3] != ["Document", "Run Time (s)"]:
            continue
        for row in head, *rows:
            row[:] = row[0], row[3]
        head[0][:], head[1][:] = [nodes.paragraph("", "page")], [nodes.paragraph("", "seconds")]
        for row in rows:
            link = next(row[0].findall(nodes.reference))
            title = app.env.titles[link.astext().strip()].astext()
            link[:] = [nodes.Text(title)]
            row[1][:] = [nodes.paragraph("", f"{float(row[1].astext()):.0f}")]
        (group,) = table.findall(nodes.tgroup)
        group["cols"] = 2
        for extra in list(group.findall(nodes.colspec))[2:]:
            group.remove(extra)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", say_how)
    app.connect("doctree-resolved", name_the_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
