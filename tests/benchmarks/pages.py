"""How many bytes a page with viewers loads, and how soon it can be used, on a slow line.

    python tests/benchmarks/pages.py [--record book/results/pages.json] [--widgets FOLDER]

Pages come from a server on this machine that compresses text as any host of static pages does;
Chromium is limited to 10 Mbit/s and 40 ms, its cache empty. The book's pages are opened in a window
as tall as they are, so that every viewer on them has to be ready. The same explanation is then
shown three ways, each on a page of its own: by the viewer, by nested ipywidgets (a tab for each
class, in it one for each frame), and by matplotlib's `to_jshtml`, which animates one class.

The widgets need their scripts: `npm install --prefix FOLDER @jupyter-widgets/html-manager
requirejs`. Without FOLDER they are left out.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shlex
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "book" / "_ext")]

from printable import SITE, served  # noqa: E402

from lib import miniature  # noqa: E402
from lib.explain import Explanation, explain, overlay  # noqa: E402
from lib.files import write_text  # noqa: E402
from lib.model import load  # noqa: E402
from lib.viewer import html  # noqa: E402

MEGABITS, LATENCY_MS = 10, 40
READY = {  # when a page can be used
    "viewer": "document.querySelector('cam-viewer') && "
    "[...document.querySelectorAll('cam-viewer')].every(viewer => viewer.hasAttribute('ready'))",
    "widgets": "document.querySelector('img.widget-image')?.naturalWidth > 0",
    "jshtml": "document.querySelector('.animation img')?.naturalWidth > 0",
}
SCRIPTS = {  # of ipywidgets, as its pages name them, and where npm puts them
    "require.js": "requirejs/require.js",
    "embed-amd.js": "@jupyter-widgets/html-manager/dist/embed-amd.js",
}
CLASSES = 5  # shown in the comparison
SIZE = 256  # pixels of a frame


def opened(browser, url: str, ready: str) -> tuple[float, float]:
    """Megabytes that came over the line, and seconds until `ready` (JavaScript) was true."""
    context = browser.new_context(viewport={"width": 1280, "height": 20_000})
    try:
        page = context.new_page()
        line = context.new_cdp_session(page)
        moved = []
        line.on("Network.loadingFinished", lambda sent: moved.append(sent["encodedDataLength"]))
        line.send("Network.enable")
        line.send("Network.setCacheDisabled", {"cacheDisabled": True})
        speed = MEGABITS * 1e6 / 8
        throttle = {"offline": False, "latency": LATENCY_MS}
        throttle |= {"downloadThroughput": speed, "uploadThroughput": speed}
        line.send("Network.emulateNetworkConditions", throttle)
        page.add_init_script(
            f"const look = () => {{ if ({ready}) window.readyAt = performance.now();"
            " else requestAnimationFrame(look); }; requestAnimationFrame(look);"
        )
        page.goto(url, wait_until="load")
        seconds = page.wait_for_function("window.readyAt", timeout=120_000).json_value() / 1e3
        page.wait_for_load_state("networkidle")
        return sum(moved) / 1e6, seconds
    finally:
        context.close()


def measure(browser, pages: dict[str, tuple[str, str]], rounds: int) -> dict[str, dict]:
    """Medians over some rounds, the pages in turns. `pages`: name to (address, kind)."""
    taken: dict[str, list] = {name: [] for name in pages}
    for _ in tqdm(range(rounds), desc="rounds"):
        for name, (url, kind) in pages.items():
            taken[name].append(opened(browser, url, READY[kind]))
    medians = {name: [statistics.median(v) for v in zip(*rows)] for name, rows in taken.items()}
    return {
        name: {"megabytes": round(size, 3), "seconds": round(seconds, 2)}
        for name, (size, seconds) in medians.items()
    }


# --- the same explanation, three ways ---


def example() -> Explanation:
    """A drawn clip with the maps of all classes."""
    return explain(load(), miniature.draw("test", 1, seed=5, times=np.arange(16) / 4, size=SIZE))


def only(explanation: Explanation, count: int) -> Explanation:
    """With the maps of the most probable classes alone."""
    kept = [explanation.classes.index(name) for name, _ in explanation.top(count)]
    return replace(explanation, maps=explanation.maps[kept], mapped=kept)


def jpeg(frame: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=85)
    return file.getvalue()


def widgets_page(explanation: Explanation, npm: Path, folder: Path) -> str:
    """A tab for each class, in it a tab for each frame: what needs no kernel once it is saved."""
    import ipywidgets as widgets
    from ipywidgets.embed import embed_snippet

    tabs = []
    for index in explanation.mapped:
        frames = overlay(explanation, index)
        images = [widgets.Image(value=jpeg(frame), format="jpg") for frame in frames]
        tabs.append(widgets.Tab(images, titles=[str(t) for t in range(len(images))]))
    names = [explanation.classes[index] for index in explanation.mapped]
    text = embed_snippet([widgets.Tab(tabs, titles=names)], drop_defaults=True)
    for name, found in SCRIPTS.items():
        (folder / name).write_bytes((npm / "node_modules" / found).read_bytes())
    start, end = text.index("<script"), text.index('<script type="application/vnd')
    local = '<script src="require.js"></script><script src="embed-amd.js"></script>'
    return text[:start] + local + text[end:]


def jshtml_page(explanation: Explanation) -> str:
    """One class, by matplotlib; without its icons, which come from another host."""
    from matplotlib import pyplot as plt
    from matplotlib.animation import FuncAnimation

    frames = overlay(explanation, explanation.mapped[0])
    figure, axis = plt.subplots(figsize=(3.2, 3.2), dpi=80)
    axis.axis("off")
    picture = axis.imshow(frames[0])
    text = FuncAnimation(figure, lambda t: picture.set_data(frames[t]), len(frames)).to_jshtml()
    plt.close(figure)
    return re.sub(r'<link rel="stylesheet"\s+href="https:[^>]*>', "", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--widgets", type=Path, help="folder of the scripts of ipywidgets")
    parser.add_argument("--record", type=Path)
    args = parser.parse_args()
    if not (ROOT / "_build" / "built").is_file():
        raise SystemExit("the book is not built: run `make book`")
    from playwright.sync_api import sync_playwright

    sys.path.insert(0, str(ROOT / "tests"))
    from conftest import QUIET, chromium

    every = example()
    few = only(every, CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        pages = {
            f"viewer, all {len(every.mapped)} classes": ("viewer", html(every, size=SIZE)),
            f"viewer, {CLASSES} classes": ("viewer", html(few, size=SIZE)),
            "to_jshtml, 1 class": ("jshtml", jshtml_page(few)),
        }
        if args.widgets:
            text = widgets_page(few, args.widgets, Path(folder))
            pages[f"ipywidgets, {CLASSES} classes"] = "widgets", text
        for number, (_, text) in enumerate(pages.values()):
            text = f"<!doctype html><meta charset=utf-8><title>{number}</title><body>{text}"
            (Path(folder) / f"{number}.html").write_text(text, "utf-8")
        with sync_playwright() as playwright, served(SITE) as site, served(Path(folder)) as alone:
            browser = playwright.chromium.launch(executable_path=chromium(), args=list(QUIET))
            found = measure(
                browser,
                {
                    name: (f"{site}/book/{name}.html", "viewer")
                    for name in ("intro", "gradcam", "cases")
                }
                | {
                    name: (f"{alone}/{number}.html", kind)
                    for number, (name, (kind, _)) in enumerate(pages.items())
                },
                args.rounds,
            )
            version = browser.version
            browser.close()
    for name, row in found.items():
        print(f"{name:28}{row['megabytes']:7.2f} MB{row['seconds']:7.2f} s")
    if args.record:
        # the record does not say where the scripts are on this machine
        given = ["FOLDER" if word == str(args.widgets) else word for word in sys.argv[1:]]
        record = {
            "command": shlex.join(["python", os.path.relpath(__file__, ROOT), *given]),
            "line": f"{MEGABITS} Mbit/s, {LATENCY_MS} ms",
            "browser": f"Chromium {version}",
            "pages": found,
        }
        write_text(args.record, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
