"""The built site: nothing from other hosts, nothing broken, alive in a real browser."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import numpy as np
import printable
import pytest
import slides
from axe_playwright_python.sync_playwright import Axe
from pages import READY
from pages import opened as measured
from PIL import Image
from pypdf import PdfReader

ROOT = Path(__file__).parents[1]
SITE = ROOT / "_build" / "html"
PAGES = printable.pages()
WITH_VIEWER = ["book/intro", "book/gradcam"]
LOADING = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}

pytestmark = [
    pytest.mark.built,
    pytest.mark.skipif(
        not (ROOT / "_build" / "built").is_file(), reason="the book is not built: run `make book`"
    ),
]
each_page = pytest.mark.parametrize("name", PAGES)


class Page(HTMLParser):
    """What a page names: its anchors, its links, what it loads, and its pictures' descriptions."""

    def __init__(self, path: Path):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.pictures: list[tuple[str, str]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.anchors.update(found[name] for name in ("id", "name") if found.get(name))
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "img":
            self.pictures.append((found.get("src", "")[:80], found.get("alt", "")))
        if tag in LOADING and LOADING[tag] in found and found.get("rel") != "canonical":
            self.loads.append(found[LOADING[tag]])


def built_page(name: str) -> Page:
    return Page(SITE / f"{name}.html")


@each_page
def test_loads_nothing_from_another_host(name):
    foreign = [url for url in built_page(name).loads if urlsplit(url).netloc]
    assert not foreign


@each_page
def test_links_and_anchors_resolve(name):
    broken = []
    for link in built_page(name).links:
        target = urlsplit(urljoin(f"/{name}.html", link))
        if target.scheme or target.netloc:
            continue
        path = SITE / unquote(target.path).lstrip("/")
        if not path.is_file():
            broken.append(link)
        elif target.fragment and path.suffix == ".html":
            if unquote(target.fragment) not in Page(path).anchors:
                broken.append(link)
    assert not broken


@each_page
def test_pictures_are_described(name):
    silent = [
        source
        for source, description in built_page(name).pictures
        if "_static/" not in source  # decoration
        and (not description or "_images/" in description)  # a file's name is no description
    ]
    assert not silent, "give the cell `mystnb: {image: {alt: ...}}`"


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The built site on a port of this machine."""
    with printable.served(SITE) as address:
        yield address


@contextmanager
def opened(browser, url: str, **options):
    """A page opened in a browser; on the way out, what went wrong on it must be nothing."""
    wrong = []

    def request(sent):
        if urlsplit(sent.url).netloc not in ("", urlsplit(url).netloc):
            wrong.append(f"asks another host: {sent.url[:200]}")

    def message(said):
        if said.type in ("error", "warning"):
            wrong.append(f"console {said.type}: {said.text}")

    page = browser.new_page(**options)
    page.on("request", request)
    page.on("console", message)
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    try:
        page.goto(url, wait_until="load")
        yield page
    finally:
        page.close()
    assert not wrong, "\n".join(wrong)


@each_page
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_opens_quietly_and_fits(name, width, scheme, browser, site):
    viewport = {"width": width, "height": 800}
    with opened(browser, f"{site}/{name}.html", viewport=viewport, color_scheme=scheme) as page:
        page.mouse.wheel(0, 100_000)
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        # a scroll bar is no part of the width that the page may take
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("name", WITH_VIEWER)
def test_viewer_plays(name, browser, site):
    with opened(browser, f"{site}/{name}.html") as page:
        viewer = page.locator("cam-viewer").first
        viewer.scroll_into_view_if_needed()
        canvas = viewer.locator("canvas")
        before = canvas.screenshot()
        viewer.get_by_role("button", name=re.compile("play", re.IGNORECASE)).first.click()
        page.wait_for_timeout(700)
        assert canvas.screenshot() != before


def test_formulas_are_drawn(browser, site):
    with opened(browser, f"{site}/book/gradcam.html") as page:
        boxes = [formula.bounding_box() for formula in page.locator("math:visible").all()]
        assert boxes and all(box["width"] > 0 and box["height"] > 0 for box in boxes)
        page.evaluate("document.fonts.ready")
        assert page.evaluate("document.fonts.check('16px \"STIX Two Math\"')")


def test_search_finds_pages(browser, site):
    with opened(browser, f"{site}/search.html?q=network") as page:
        page.locator("#search-results li a").first.wait_for()


@each_page
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_is_accessible(name, width, scheme, browser, site):
    """No violation of WCAG 2.1 and of best practice that axe-core can find."""
    viewport = {"width": width, "height": 800}
    options = {"color_scheme": scheme, "reduced_motion": "reduce"}
    with opened(browser, f"{site}/{name}.html", viewport=viewport, **options) as page:
        if page.locator("cam-viewer").count():
            page.locator("cam-viewer").first.scroll_into_view_if_needed()
            page.locator("cam-viewer[ready]").first.wait_for()
        # The theme's side bar is no landmark; the book's name stands in it.
        context = {"exclude": [[".logo__title"]]}
        axe = Axe().run(page, context=context, options={"preload": False})  # fetches no styles anew
    assert not [
        f"{rule['id']}: {node['target']} {node['html'][:100]}"
        for rule in axe.response["violations"]
        for node in rule["nodes"]
    ]


def test_front_door_leads_to_the_introduction(browser, site):
    with opened(browser, f"{site}/index.html") as page:
        page.wait_for_url(f"**/{PAGES[0]}.html")


@pytest.mark.parametrize("name", [*WITH_VIEWER, "book/cases"])
def test_is_light(name, browser, site):
    """With every viewer on it ready, compressed as hosts of static pages do."""
    megabytes, _ = measured(browser, f"{site}/{name}.html", READY["viewer"])
    assert megabytes <= 1.3


@pytest.mark.parametrize("name", [name for name in PAGES if (ROOT / f"{name}.ipynb").is_file()])
def test_says_how_to_run_it(name):
    assert f"jupyter lab {name}.ipynb" in (SITE / f"{name}.html").read_text(encoding="utf-8")


def test_figures_are_written_for_slides(browser, tmp_path):
    count = slides.slides(["book/footprint", "book/live"], tmp_path, browser)
    files = sorted(tmp_path.glob("*.png"))
    assert [file.name for file in files] == [f"footprint-{n}.png" for n in range(1, count + 1)]
    told = (tmp_path / "README.md").read_text(encoding="utf-8").splitlines()[2:]
    for file, line in zip(files, told, strict=True):
        picture = np.asarray(Image.open(file).convert("L"))
        dark = np.argwhere(picture < 250)
        assert picture.shape == (1080, 1920) and (picture[[0, -1]] == 255).all()
        assert max(np.ptp(dark, axis=0) / picture.shape) > 0.8  # it fills the slide one way
        assert line.startswith(f"- {file.name}: ") and len(line) > 60


def test_the_book_prints_as_one_file(browser):
    """Two pages of it: what a reader plays is a sheet of all frames, and the outline names both."""
    printed = PdfReader(io.BytesIO(printable.printed(["book/intro", "book/glossary"], browser)))
    titles = [entry.title for entry in printed.outline]
    assert titles == ["How a video network sees", "Glossary"]
    assert "How a video network sees" in printed.pages[0].extract_text()
    pictures = [image for page in printed.pages[:3] for image in page.images]
    assert len(pictures) >= 16  # the frames of the clip, one by one
