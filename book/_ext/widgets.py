"""A Sphinx extension for what cells give: no state of widgets, and graphs that keys can scroll.

Widgets need a kernel; a page shows the HTML beside them, and their state would only weigh it down.
"""

import re

from sphinx.application import Sphinx

GRAPH = re.compile(r'(<div class="cell_output docutils container")(>\s*<img [^>]*\.svg")')


def drop_state(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    scripts = getattr(app.env, "nb_metadata", {}).get(page, {}).get("js_files", {})
    scripts.pop("ipywidgets_state", None)


def reach_graphs(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """On a narrow screen a graph scrolls in its cell (see book.css): by keyboard, too."""
    if "body" in context:
        context["body"] = GRAPH.sub(r'\1 tabindex="0"\2', context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", drop_state, priority=100)  # before MyST-NB writes it
    app.connect("html-page-context", reach_graphs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
