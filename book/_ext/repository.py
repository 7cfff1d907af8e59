"""A Sphinx extension: buttons and links that need the address where the book's source is kept.

The address is one setting, `repository` in `_config.yml`. While it is empty there is none of them:
repository, issues, Binder, Colab, and the link for what is unclear on a page.
"""

import re
from urllib.parse import quote

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError

BRANCH = "main"
UNCLEAR = '<p class="running">Is something on this page unclear? <a href="{}">Tell us</a>.</p>'
COLAB = (
    '<p class="running">In Colab, run this in a cell of its own first: '
    "<code>!git clone {url} source &amp;&amp; pip install -e ./source[book]</code>, then "
    "<code>%cd source/book</code>.</p>"
)


def set_buttons(app: Sphinx, config: Config) -> None:
    url = config.repository = config.repository.rstrip("/")
    if not url:
        return
    if not re.fullmatch(r"https://(github|gitlab)\.com/[\w.-]+/[\w.-]+", url):
        raise ConfigError(f"repository: {url!r}: https://github.com/OWNER/NAME is needed, or ''")
    config.html_theme_options |= {
        "repository_url": url,
        "repository_branch": BRANCH,
        "use_repository_button": True,
        "use_issues_button": True,
        "launch_buttons": {
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
            "notebook_interface": "jupyterlab",
        },
    }


def add_links(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    url = app.config.repository
    if url and doctree and "body" in context:
        issue = f"{url}/{'-/' * ('gitlab.com' in url)}issues/new?title={quote(f'Unclear: {page}')}"
        if app.env.doc2path(page, False).endswith(".ipynb"):
            context["body"] += COLAB.format(url=url)
        context["body"] += UNCLEAR.format(issue)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("repository", "", "html", str)
    app.connect("config-inited", set_buttons)
    app.connect("html-page-context", add_links, priority=600)  # after how to run the page
    return {"parallel_read_safe": True, "parallel_write_safe": True}
