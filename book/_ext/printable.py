"""The built book as one PDF, page after page, on which each viewer is a sheet of all its frames.

    .venv/bin/python book/_ext/printable.py book.pdf      (what `make pdf` runs)

Needs a built site and a Chromium.
"""

import gzip
import io
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"
TEXT = {".html", ".js", ".css", ".svg", ".json"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@lru_cache
def compressed(path: Path) -> bytes:
    return gzip.compress(path.read_bytes())


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder on a port of this machine, text compressed."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self) -> None:
            path = Path(self.translate_path(self.path))
            if path.suffix not in TEXT or not path.is_file():
                return super().do_GET()
            body = compressed(path)
            self.send_response(200)
            self.send_header("Content-Type", self.guess_type(path))
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def pages() -> list[str]:
    """The pages of the book in their order, as paths without an ending."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    return [toc["root"], *(chapter["file"] for chapter in toc["chapters"])]


def printed(names: Iterable[str], browser) -> bytes:
    """The pages of the site as one PDF, A4, printed by a browser of playwright."""
    from pypdf import PdfWriter

    book, page = PdfWriter(), browser.new_page()
    with served(SITE) as address:
        for name in names:
            page.goto(f"{address}/{name}.html", wait_until="networkidle")
            title = page.title().split(" — ")[0]
            book.append(io.BytesIO(page.pdf(format="A4", print_background=True)), title)
    page.close()
    whole = io.BytesIO()
    book.write(whole)
    return whole.getvalue()


@contextmanager
def written_by_browser(usage: str) -> Iterator[tuple]:
    """What the one argument of a command names, and a browser; else the command ends with its
    `usage`."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if len(sys.argv) != 2 or not SITE.is_dir() or path is None:
        sys.exit(usage)
    with sync_playwright() as playwright:
        yield Path(sys.argv[1]), playwright.chromium.launch(executable_path=path)


def main() -> None:
    with written_by_browser(__doc__) as (path, browser):
        path.write_bytes(printed(pages(), browser))


if __name__ == "__main__":
    main()
