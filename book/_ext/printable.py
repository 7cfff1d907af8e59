"""The built book as one PDF, page after page, on which each viewer is a sheet of all its frames.

    .venv/bin/python book/_ext/printable.py book.pdf      (what `make pdf` runs)

Needs a built site and a Chromium.
"""

import io
import shutil
import sys
import threading
from collections.abc import Iterable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass


def pages() -> list[str]:
    """The pages of the book in their order, as paths without an ending."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    return [toc["root"], *(chapter["file"] for chapter in toc["chapters"])]


def printed(names: Iterable[str], browser) -> bytes:
    """The pages of the site as one PDF, A4, printed by a browser of playwright."""
    from pypdf import PdfWriter

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=SITE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    book, page = PdfWriter(), browser.new_page()
    try:
        for name in names:
            address = f"http://127.0.0.1:{server.server_port}/{name}.html"
            page.goto(address, wait_until="networkidle")
            title = page.title().split(" — ")[0]
            book.append(io.BytesIO(page.pdf(format="A4", print_background=True)), title)
    finally:
        page.close()
        server.shutdown()
    whole = io.BytesIO()
    book.write(whole)
    return whole.getvalue()


def main() -> None:
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if len(sys.argv) != 2 or not SITE.is_dir() or path is None:
        sys.exit(__doc__)
    with sync_playwright() as playwright:
        content = printed(pages(), playwright.chromium.launch(executable_path=path))
    Path(sys.argv[1]).write_bytes(content)


if __name__ == "__main__":
    main()
