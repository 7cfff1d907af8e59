"""A Sphinx extension: the entries of a bibliography are items of their list.

docutils calls them "doc-biblioentry", a role that is deprecated since DPUB-ARIA 1.1 because it
hides from a screen reader how many entries there are.
"""

from sphinx.application import Sphinx


def name_entries(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", name_entries)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
