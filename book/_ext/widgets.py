"""A Sphinx extension that keeps the state of widgets off the pages.

Widgets need a kernel; a page shows the HTML beside them, and their state would only weigh it down.
"""

from sphinx.application import Sphinx


def drop_state(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    scripts = getattr(app.env, "nb_metadata", {}).get(page, {}).get("js_files", {})
    scripts.pop("ipywidgets_state", None)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", drop_state, priority=100)  # before MyST-NB writes it
    return {"parallel_read_safe": True, "parallel_write_safe": True}
