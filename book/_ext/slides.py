"""Every figure of the built book as a picture for a slide, 1920 by 1080 pixels, and what it shows.

    .venv/bin/python book/_ext/slides.py FOLDER      (what `make slides` runs)

Needs a built site and a Chromium.
"""

from collections.abc import Iterable
from html import escape
from pathlib import Path

from printable import SITE, pages, served, written_by_browser

SIZE = {"width": 1920, "height": 1080}
FIGURES = """pictures => pictures.filter(picture => !picture.closest(
  "cam-viewer, cam-live, cam-point, cam-wall, clip-gallery")).map(({ src, alt }) => [src, alt])"""
SLIDE = '<body style="margin: 0; background: white"><img src="{}" '
SLIDE += 'style="width: 100vw; height: 100vh; padding: 40px; box-sizing: border-box; '
SLIDE += 'object-fit: contain">'


def slides(names: Iterable[str], folder: Path, browser) -> int:
    """Write the figures of pages of the site, and a list of them; how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    page, told = browser.new_page(viewport=SIZE), []
    with served(SITE) as address:
        for name in names:
            page.goto(f"{address}/{name}.html", wait_until="networkidle")
            found = page.eval_on_selector_all(".cell_output img", FIGURES)
            for number, (source, shows) in enumerate(found, start=1):
                file = f"{Path(name).name}-{number}.png"
                page.set_content(SLIDE.format(escape(source)))
                page.evaluate("document.querySelector('img').decode()")
                page.screenshot(path=folder / file)
                told.append(f"- {file}: {shows}")
    page.close()
    (folder / "README.md").write_text("\n".join(["# Figures", "", *told, ""]), encoding="utf-8")
    return len(told)


def main() -> None:
    with written_by_browser(__doc__) as (folder, browser):
        count = slides(pages(), folder, browser)
    print(f"{count} figures in {folder}; its README.md says what each shows")


if __name__ == "__main__":
    main()
