"""A Sphinx extension: the list of references, readable by all.

Its labels are those of the citations in the text, "Goyal et al., 2017" and not "GKM+17". And its
entries are items of a list: docutils calls them "doc-biblioentry", a role that is deprecated since
DPUB-ARIA 1.1 because it hides from a screen reader how many entries there are.
"""

from collections.abc import Iterable, Iterator

from pybtex.database import Entry
from pybtex.plugin import register_plugin
from pybtex.style.formatting.plain import Style
from pybtex.style.labels import BaseLabelStyle
from sphinx.application import Sphinx


class AuthorYearLabels(BaseLabelStyle):
    def format_labels(self, entries: Iterable[Entry]) -> Iterator[str]:
        for entry in entries:
            people = entry.persons["author"]
            names = [" ".join(map(str, p.rich_prelast_names + p.rich_last_names)) for p in people]
            if len(names) > 2:
                names = [f"{names[0]} et al."]
            yield f"{' and '.join(names)}, {entry.fields['year']}"


class AuthorYear(Style):
    default_label_style = AuthorYearLabels
    default_sorting_style = "author_year_title"


def name_entries(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def setup(app: Sphinx) -> dict[str, bool]:
    register_plugin("pybtex.style.formatting", "author_year", AuthorYear)
    app.connect("html-page-context", name_entries)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
