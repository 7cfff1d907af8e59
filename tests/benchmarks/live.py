"""What the network costs in a page of the built book, and whether it says what PyTorch says.

    python tests/benchmarks/live.py [--clips 40] [--record book/results/live.json]

Headless Chromium, its cache empty, one thread. The line is that of pages.py for the time to load,
and none for the rest. A block is the longest task of the page's own thread while the network loads,
and while it looks; the viewer is not counted. Drawn test clips come to the page as numbers; the
stage's stored gestures are replayed, and the record says which guess of the network each is. The
same on WebGPU, with one clip: on a GPU that SwiftShader plays on the CPU, so its time says nothing.
"""

import argparse
import base64
import json
import os
import shlex
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from pages import LATENCY_MS, MEGABITS

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "book" / "_ext")]

from conftest import QUIET, chromium  # noqa: E402
from printable import SITE, served  # noqa: E402

from lib import miniature  # noqa: E402
from lib.explain import explain  # noqa: E402
from lib.files import write_text  # noqa: E402
from lib.model import load  # noqa: E402

SOFTWARE_GPU = (  # and a worker that takes it
    *("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"),
    *("--use-vulkan=swiftshader", "--ignore-gpu-blocklist"),
)
ANY_GPU = "window.Worker = class extends Worker {"
ANY_GPU += " constructor(url, how) { super(new URL('?any', url), how); } }"
SEEDS = 1, 2, 3  # of light and sway, over the stage's gestures

ASK = """async ([text, change]) => {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const pixels = new Uint8ClampedArray(bytes.length / 3 * 4).fill(255);
  bytes.forEach((value, at) => { pixels[4 * Math.floor(at / 3) + at % 3] = value; });
  await new Promise(done => setTimeout(done, 100));
  window.longest = 0;
  const live = document.querySelector("cam-live");
  const { json, top, seconds } = await live.ask({ name: "given", pixels }, change);
  await new Promise(done => setTimeout(done, 50));
  return { data: JSON.parse(json), top, seconds, longest: window.longest };
}"""
ACT = """async ([number, seed]) => {
  const [live, stage] = ["cam-live", "cam-stage"].map(name => document.querySelector(name));
  const answer = new Promise(done => live.addEventListener("cam-live:answer",
    ({ detail }) => done(detail), { once: true }));
  await stage.perform(stage.gestures[number], seed);
  const { says } = stage.gestures[number];
  return [says, (await answer).top.findIndex(({ name }) => name === says) + 1];
}"""
LONGEST = """window.longest = 0;
new PerformanceObserver(list => list.getEntries().forEach(({ duration }) => {
  window.longest = Math.max(window.longest, duration);
})).observe({ type: "longtask" });"""


def asked(page, frames: np.ndarray, change: str | None = None) -> dict:
    """What the page's network says of frames (T, S, S, 3) uint8: data as the viewer takes it, top,
    seconds, and the longest block of the page in milliseconds."""
    return page.evaluate(ASK, [base64.b64encode(frames.tobytes()).decode(), change])


def gestures(page, seed: int) -> dict[str, int]:
    """The stage's stored gestures, replayed: which guess of the network each of them is."""
    page.locator("cam-stage[ready]").wait_for(timeout=60_000)
    count = page.evaluate("document.querySelector('cam-stage').gestures.length")
    return dict(page.evaluate(ACT, [number, seed]) for number in range(count))


def loaded(page, url: str) -> float:
    """Opens the page and loads the network by its button; how many seconds that took."""
    page.goto(url)
    page.wait_for_timeout(500)
    page.evaluate(LONGEST)
    began = time.perf_counter()
    page.get_by_role("button", name="Load the network").click()
    page.locator("cam-live[ready]").wait_for(timeout=300_000)
    return time.perf_counter() - began


def over_a_line(browser, url: str) -> tuple[float, float]:
    """Megabytes that come after the click, the worker's own included, and seconds, at the speed of
    pages.py."""
    context = browser.new_context()
    try:
        page = context.new_page()
        line = context.new_cdp_session(page)
        throttle = {"offline": False, "latency": LATENCY_MS}
        throttle |= {
            name: MEGABITS * 1e6 / 8 for name in ("downloadThroughput", "uploadThroughput")
        }
        line.send("Network.enable")
        line.send("Network.emulateNetworkConditions", throttle)
        seconds = loaded(page, url)
        files = page.evaluate("document.querySelector('cam-live').record.files")
        names = [files[0]["script"], "worker.js", "network.json", "stage.json"]
        folder = SITE / "_static" / "live"
        small = sum((folder / name).stat().st_size for name in names)
        return (small + sum(file["bytes"] for file in files)) / 1e6, seconds
    finally:
        context.close()


def on_webgpu(playwright, url: str, clip) -> dict:
    """What comes of one clip where the worker takes a GPU that the CPU plays."""
    flags = [*QUIET, *SOFTWARE_GPU]
    browser = playwright.chromium.launch(executable_path=chromium(), args=flags)
    page = browser.new_page()
    page.set_default_timeout(600_000)
    page.add_init_script(ANY_GPU)
    loaded(page, url)
    assert page.evaluate("document.querySelector('cam-live').record.on") == "gpu"
    files = page.evaluate("document.querySelector('cam-live').record.files")
    here, there = asked(page, clip.frames), explain(load(), clip)
    browser.close()
    far = float(np.abs(here["data"]["logits"] - there.logits).max())
    megabytes = round(sum(file["bytes"] for file in files) / 1e6, 2)
    return dict(adapter="SwiftShader", megabytes=megabytes, greatest_difference_of_a_logit=far)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--record", type=Path)
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    network, times = load(), np.arange(16) / 4
    size, seconds, blocks, far, same = network.preprocess.size, [], [], 0.0, 0
    with sync_playwright() as playwright, served(SITE) as site:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(QUIET))
        url = f"{site}/book/live.html"
        megabytes, on_a_line = over_a_line(browser, url)
        page = browser.new_page()
        opened = loaded(page, url)
        loading = page.evaluate("window.longest")
        for i in range(args.clips):
            clip = miniature.draw("test", i, 11, times, size)
            here, there = asked(page, clip.frames), explain(network, clip)
            seconds.append(here["seconds"])
            blocks.append(here["longest"])
            far = max(far, float(np.abs(here["data"]["logits"] - there.logits).max()))
            same += {row["name"] for row in here["top"][:2]} == {name for name, _ in there.top(2)}
        acted = [gestures(page, seed) for seed in SEEDS]
        version = browser.version
        browser.close()
        webgpu = on_webgpu(playwright, url, clip)
    record = {
        "command": shlex.join(["python", os.path.relpath(__file__, ROOT), *sys.argv[1:]]),
        "browser": f"Chromium {version}, {os.cpu_count()} cores",
        "line": f"{MEGABITS} Mbit/s, {LATENCY_MS} ms",
        "megabytes": round(megabytes, 2),
        "seconds_to_load_on_this_line": round(on_a_line, 1),
        "seconds_to_load_from_this_machine": round(opened, 1),
        "clips": args.clips,
        "seconds_a_clip": round(statistics.median(seconds), 2),
        "slowest_clip": round(max(seconds), 2),
        "longest_block_ms": {"loading": loading, "asking": max(blocks)},
        "greatest_difference_of_a_logit": far,
        "same_two_most_probable": same,
        "webgpu": webgpu,
        "gestures": {says: [guesses[says] for guesses in acted] for says in acted[0]},
    }
    print(json.dumps(record, indent=1))
    if args.record:
        write_text(args.record, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
