"""The network as a graph, and the network in a page of the built book."""

import json
import os
import re
import shutil
import time
from base64 import b64decode
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import parse_qs, urlsplit

import av
import numpy as np
import pytest
import test_site
from axe_playwright_python.sync_playwright import Axe
from inpage import PACKAGE, VERSION, package, stage
from live import ACT, asked, gestures, loaded
from PIL import Image
from printable import served
from test_site import ROOT, SITE, opened

from lib import miniature
from lib.explain import explain
from lib.live import export
from lib.live import live as page_of
from lib.live.export import GRAPH, RECORD, drawn, runner
from lib.model import load

TIMES = np.arange(16) / 4
site = test_site.site  # the fixture


def built(test):
    here = (SITE / "book" / "live.html").is_file()
    why = "the book is not built: run `make book`"
    return pytest.mark.built(pytest.mark.skipif(not here, reason=why)(test))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("live")
    export(folder)
    return folder


@pytest.fixture(scope="module")
def network():
    return load()


def test_graph_says_what_pytorch_says(folder, network):
    run = runner(folder / GRAPH)
    for clip in drawn(4, network):
        logits, maps, activations, weight = run(clip.frames)
        there = explain(network, clip)
        np.testing.assert_allclose(logits, there.logits, atol=1e-3)
        np.testing.assert_allclose(maps, there.maps, atol=1e-4)
        np.testing.assert_allclose(maps.sum((1, 2, 3)) + there.bias, logits, atol=1e-4)
        made = np.tensordot(weight, activations, 1) / activations[0].size
        np.testing.assert_allclose(made, maps, atol=1e-5)
        assert set(np.argsort(logits)[-2:]) == set(np.argsort(there.logits)[-2:])


def test_record_says_what_a_page_needs(folder, network):
    record = json.loads((folder / RECORD).read_text())
    assert record["viewer"]["classes"] == network.classes
    assert (record["frames"], record["fps"]) == (16, 4) and record["same_two"] == record["clips"]
    assert record["logits"] < 1e-3 and record["maps"] < 1e-4
    assert record["bytes"] == (folder / GRAPH).stat().st_size < 20e6
    assert len(record["viewer"]["cells"][0]) == record["shape"][1]


def test_what_is_there_of_the_same_weights_is_kept(folder):
    before = (folder / GRAPH).stat().st_mtime_ns
    export(folder)
    assert (folder / GRAPH).stat().st_mtime_ns == before


def test_a_damaged_graph_is_written_again(folder, tmp_path, monkeypatch):
    (tmp_path / RECORD).write_bytes((folder / RECORD).read_bytes())
    (tmp_path / GRAPH).write_bytes(b"")
    monkeypatch.setattr("onnx.save", Mock(side_effect=OSError("again")))
    with pytest.raises(OSError, match="again"):
        export(tmp_path)
    assert not (tmp_path / RECORD).exists()


def test_a_graph_in_a_folder_of_any_name_runs(folder, tmp_path):
    place = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff"))
    place.mkdir()
    (place / GRAPH).write_bytes((folder / GRAPH).read_bytes())
    assert len(runner(place / GRAPH)(np.zeros((16, 192, 192, 3), np.uint8))) == 4


def test_a_graph_that_was_not_written_whole_is_not_kept(folder, tmp_path, monkeypatch):
    record = json.loads((folder / RECORD).read_text())

    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("onnx.save", full)
    for content in json.dumps(record | {"made_of": "others"}), "[1]":
        (tmp_path / RECORD).write_text(content)
        (tmp_path / GRAPH).write_bytes(b"another graph")
        with pytest.raises(OSError, match="network.onnx: cannot be written .No space left"):
            export(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [GRAPH]  # and no record of it
        assert (tmp_path / GRAPH).read_bytes() == b"another graph"


def test_another_package_than_the_tested_one_is_refused(tmp_path):
    path = tmp_path / f"{PACKAGE}-{VERSION}.tgz"
    path.write_bytes(b"another")
    with pytest.raises(RuntimeError, match="its hash differs"):
        package(tmp_path)
    assert not path.exists()


def test_stage_is_set_with_six_hands():
    props = stage()
    assert len(props["hands"]) == 6 and len({hand["image"] for hand in props["hands"]}) == 6
    for prop in props["things"] + props["hands"] + props["places"]:
        assert prop["name"] and prop["image"].startswith("data:image/")
    assert len(json.dumps(props)) < 500_000


def test_page_names_clips_as_text():
    shown = page_of({'<img src="x">': miniature.draw("test", 0, times=TIMES, size=64)})
    assert '<img src="x">' not in shown._repr_html_() and repr(shown) == "Gallery(1 clips)"


# --- a page of its own, without the network: what is beside it ---

STAGE = "<cam-stage></cam-stage>"
FINE = [50, 50, 5e3, 5e3, 1e4, 50, 50, 5e3]  # steps of a state in a link
KEEP = """document.querySelector("cam-live").addEventListener("cam-live:answer",
  ({ detail }) => { window.answer = detail; })"""
RUNTIME = """export const env = { wasm: {} };
export class Tensor { constructor(type, data) { this.data = data; } }
const [K, C, N] = [%d, 6, %d];
const made = (length, value) => Float32Array.from({ length }, (_, at) => value(at));
const weight = made(K * C, at => ((7 * at) %% 11 - 5) / 4);
export const InferenceSession = { create: async () => ({ run: async () => {
  const activations = made(C * N, at => (at * at) %% 17 / 4);
  const maps = made(K * N, at => [...Array(C).keys()].reduce((sum, c) =>
    sum + weight[Math.floor(at / N) * C + c] * activations[c * N + at %% N], 0) / N);
  const logits = made(K, k => k / 9);
  const data = { logits, maps, activations, weight };
  return Object.fromEntries(Object.entries(data).map(([name, data]) => [name, { data }]));
} }) };"""


@pytest.fixture(scope="module")
def small_site(folder, tmp_path_factory):
    """A page with a stage whose runtime is a few lines that give any logits, and maps that are
    made of their activations and weights."""
    site = tmp_path_factory.mktemp("site")
    record = json.loads((folder / RECORD).read_text())
    shape = record["viewer"]["classes"], int(np.prod(record["shape"]))
    record["files"] = [
        {"name": f"{name}.bin", "version": "1", "bytes": 1, "on": on, "script": f"{name}.mjs"}
        for on, name in (("cpu", "cpu"), ("gpu", "gpu"), ("both", "network"))
    ]
    record["test"] = [k / 9 for k in range(len(shape[0]))]
    for file in record["files"]:
        (site / file["name"]).write_bytes(b"x")
        (site / file["script"]).write_text(RUNTIME % (len(shape[0]), shape[1]))
    for path in (ROOT / "lib" / "live").glob("*.js"):
        shutil.copy(path, site)
    props = stage()
    props["things"][1]["name"] = "alarm clock"  # so that the name of another is a part of it
    (site / "stage.json").write_text(json.dumps(props))
    (site / RECORD).write_text(json.dumps(record))
    shown = page_of({"a clip": miniature.draw("test", 0, times=TIMES, size=192)}, STAGE, "./")
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" '
    icon = 'content="width=device-width"><link rel="icon" href="data:,"><title>Stage</title><main>'
    (site / "index.html").write_text(head + icon + shown._repr_html_() + "</main>")
    with served(site) as address:
        yield f"{address}/index.html"


@pytest.fixture
def small(browser, small_site):
    """Opens that page with its stage set; at the end nothing must have gone wrong on it."""
    with ExitStack() as stack:

        def open_small(address="", before="", **options):
            page = stack.enter_context(opened(browser, small_site, **options))
            page.add_init_script(before or "0")
            page.goto("about:blank")
            page.goto(address or small_site)
            page.get_by_role("button", name="Load the network").click()
            page.locator("cam-stage[ready]").wait_for()
            return page

        yield open_small


GPUS = {  # what a browser has, and what its runtime does: where the network runs then
    "a GPU": ("{}", "", "gpu"),
    "one that a CPU plays": ("{ info: { isFallbackAdapter: true } }", "", "cpu"),
    "none": ("null", "", "cpu"),
    "one with other numbers": ("{}", "logits[7] += 0.5;", "cpu"),
    "one without numbers": ("{}", "logits.fill(NaN);", "cpu"),
    "one that refuses the graph": ("{}", "throw new Error();", "cpu"),
    "one that is lost later": ("{}", "if (globalThis.runs++) throw new Error();", "gpu"),
}


@pytest.mark.parametrize("kind", GPUS)
def test_a_gpu_is_used_where_it_gives_what_it_should(kind, browser, small_site):
    """The runtime is a few lines, which do something else where they are asked for WebGPU."""
    adapter, does, on = GPUS[kind]
    gpu = f"{{ value: {{ requestAdapter: async () => ({adapter}) }} }}"
    found = f"Object.defineProperty(navigator, 'gpu', {gpu});"

    def with_gpu(route):
        answer = route.fetch()
        route.fulfill(response=answer, body=f"{found} globalThis.runs = 0; {answer.text()}")

    def otherwise(route):
        answer = route.fetch()
        code = answer.text().replace("create: async () =>", "create: async (_, how) =>")
        gpu = f"if (how.executionProviders[0] === 'webgpu') {{ {does} }} const data ="
        route.fulfill(response=answer, body=code.replace("const data =", gpu))

    with opened(browser, small_site) as page:
        asked_for = []
        page.on("request", lambda sent: asked_for.append(sent.url.split("/")[-1]))
        page.route("**/worker.js", with_gpu)
        page.route("**/gpu.mjs*", otherwise)
        page.goto(small_site)
        page.get_by_role("button", name="Load the network").click()
        page.locator("cam-live[ready]").wait_for()
        page.get_by_role("button", name="a clip", exact=True).click()
        page.locator("cam-live > .status", has_text="seconds.").wait_for()
        assert page.evaluate("document.querySelector('cam-live').record.on") == on
        took = {"gpu.bin?1", "cpu.bin?1"} & {*asked_for}
        assert took == {"cpu.bin?1" if kind in ("none", "one that a CPU plays") else "gpu.bin?1"}


def test_evidence_before_and_after_stands_side_by_side(small):
    page = small()
    page.evaluate(KEEP)
    page.get_by_role("button", name="a clip", exact=True).click()
    page.get_by_role("button", name="backwards", exact=True).click()
    page.locator(".answers > button").nth(1).wait_for()
    cards = page.locator(".answers > button")
    names = [cards.nth(i).locator("small").inner_text() for i in range(2)]
    assert names[0] == names[1] and names[0].startswith("Each frame's evidence for ")
    bars = page.evaluate("""[...document.querySelectorAll(".sums")].map(sums =>
      [...sums.children].map(bar => bar.getBoundingClientRect().height))""")
    sums = page.evaluate("window.answer.ledger[window.answer.top[0].index]")
    assert len(bars) == 2 and len(bars[0]) == len(bars[1]) == len(sums)
    np.testing.assert_allclose(
        np.array(bars[1]) / max(bars[1]), np.abs(sums) / np.abs(sums).max(), atol=0.02
    )


def pixels_of(url: str) -> np.ndarray:
    """Of a picture that is a data URL, RGB."""
    return np.asarray(Image.open(BytesIO(b64decode(url.split(",")[1]))).convert("RGB")).astype(int)


def stage_of(page) -> np.ndarray:
    return pixels_of(page.evaluate("document.querySelector('cam-stage canvas').toDataURL()"))


def path_in(link: str) -> np.ndarray:
    """The states (16, 8) in a link: x, y, grown, turn, away, and the camera's."""
    text = parse_qs(urlsplit(link).fragment)["act"][0]
    return np.frombuffer(b64decode(text), "<i2").reshape(16, 8) / [
        50,
        50,
        5e3,
        5e3,
        1e4,
        50,
        50,
        5e3,
    ]


def acted(page, act=lambda: None) -> np.ndarray:
    """Records what `act` does, and gives the states that the link holds."""
    recorded(page, act)
    return path_in(page.evaluate("document.querySelector('cam-stage').link"))


def test_a_thing_is_found_by_its_name(small):
    page = small()
    field = page.get_by_label("Find a thing")
    names = {thing["name"] for thing in stage()["things"]} - {"automobile"} | {"alarm clock"}
    offered = page.locator("cam-stage datalist option")
    assert len(names) > 30
    assert {row.get_attribute("value") for row in offered.all()} == names
    banana = stage_of(page)
    assert field.input_value() == "banana"
    field.focus()
    for typed, found in ("lock", "lock"), ("TEDDY", "teddy bear"), ("milk glass", "glass of milk"):
        before = stage_of(page)
        page.keyboard.type(typed)
        page.keyboard.press("Enter")
        assert field.get_attribute("placeholder") == found
        assert np.abs(stage_of(page) - before).mean() > 0.1
    page.keyboard.type("no such thing")
    page.keyboard.press("Enter")
    assert field.evaluate("field => field.validationMessage") == "There is none of that name."
    page.keyboard.press("Tab")
    assert field.input_value() == "glass of milk"
    field.fill("banana")  # as the browser's list does it: one event, the whole name
    np.testing.assert_array_equal(stage_of(page), banana)


def test_a_clip_is_saved_as_a_video(small):
    page = small()
    save = page.get_by_role("button", name="Save clip", exact=True).first
    assert not save.is_visible()
    page.evaluate(KEEP)
    page.evaluate(ACT, [0, 2])
    sheet = pixels_of(page.evaluate("window.answer.sheet")).reshape(4, 192, 4, 192, 3)
    clip = sheet.swapaxes(1, 2).reshape(16, 192, 192, 3)
    with page.expect_download() as download:
        save.click()
    assert download.value.suggested_filename == "Shown-push-it-from-left-to-right.webm"
    with av.open(download.value.path()) as video:
        assert "webm" in video.format.name
        shown = [(f.time, f.to_ndarray(format="rgb24")) for f in video.decode(video=0)]
    length = shown[-1][0] - shown[0][0]
    assert 3.5 < length < 6  # the last frame, too, is held; a slow machine takes more
    for frame, (_, picture) in (0, shown[0]), (15, shown[-1]):
        far = np.abs(clip - picture).mean((1, 2, 3))
        assert far.argmin() == frame or far[frame] - far.min() < 0.5, far
        assert far[frame] < 12
    page.get_by_text("Saved: “Shown: push it from left to right”.").wait_for()
    assert save.is_enabled()


def test_no_video_is_offered_where_the_browser_makes_none(small):
    page = small(before="delete window.MediaRecorder")
    page.evaluate(ACT, [0, 2])
    assert page.get_by_role("button", name="Copy link", exact=True).first.is_visible()
    assert not page.get_by_role("button", name="Save clip", exact=True).first.is_visible()


def test_a_link_holds_the_path(small):
    page = small()

    def turn():  # further than once around
        page.keyboard.down("]")
        page.wait_for_timeout(3000)
        page.keyboard.up("]")

    acted(page, turn)
    page.get_by_role("button", name="Record").click()
    page.get_by_text("Now: four seconds").wait_for()
    turn()
    page.wait_for_function("!document.querySelector('cam-live').ariaBusy")
    link = page.evaluate("document.querySelector('cam-stage').link")
    turned = np.unwrap(path_in(link)[:, 3])
    assert 1 < turned[-1] - turned[0] < 5 and np.all(np.diff(turned) > -1e-3)
    other = small(link)
    other.locator(".answers > button", has_text="A gesture from a link").wait_for()
    assert other.evaluate("document.querySelector('cam-stage').link") == link


def fingers(page, seconds: float, *paths) -> None:
    """Fingers on the stage, each along a function of 0 to 1 to (x, y) in shares of its side."""
    box = page.locator("cam-stage canvas").bounding_box()
    line = page.context.new_cdp_session(page)

    def send(kind: str, done: float) -> None:
        places = [path(done) for path in paths] if kind != "touchEnd" else []
        points = [
            {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["width"], "id": finger}
            for finger, (x, y) in enumerate(places)
        ]
        line.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    began = time.perf_counter()
    send("touchStart", 0)
    while (done := (time.perf_counter() - began) / seconds) < 1:
        send("touchMove", done)
        page.wait_for_timeout(20)
    send("touchMove", 1)
    page.wait_for_timeout(50)
    send("touchEnd", 1)


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def test_a_finger_drags_the_thing_and_not_the_page(small):
    page = small(**PHONE)
    page.locator("cam-stage canvas").scroll_into_view_if_needed()
    before = page.evaluate("scrollY")
    path = acted(page, lambda: fingers(page, 2, lambda u: (0.2 + 0.5 * u, 0.6 - 0.25 * u)))
    assert page.evaluate("scrollY") == before
    np.testing.assert_allclose(path[-1, :2] - path[0, :2], [0.5 * 128, -0.25 * 128], atol=3)
    assert np.all(np.diff(path[:, 0]) >= 0)
    np.testing.assert_allclose(path[:, [2, 3, 5, 6, 7]], [[1, 0, 0, 0, 1]] * 16, atol=1e-3)
    assert path[:, 4].min() == 0 and path[-1, 4] == 1  # the hand came, and went


def test_two_fingers_turn_the_thing_and_bring_it_closer(small):
    def around(start: float):
        def at(u: float):
            angle, reach = start + 1.2 * u, 0.15 * 1.6**u
            return 0.5 + reach * np.cos(angle), 0.5 + reach * np.sin(angle)

        return at

    page = small(**PHONE)
    page.locator("cam-stage canvas").scroll_into_view_if_needed()
    path = acted(page, lambda: fingers(page, 2, around(0.3), around(0.3 + np.pi)))
    assert path[-1, 3] - path[0, 3] == pytest.approx(1.2, abs=0.06)
    assert path[-1, 2] / path[0, 2] == pytest.approx(1.6, rel=0.06)
    np.testing.assert_allclose(path[:, :2], path[[0] * 16, :2], atol=0.1)


def made_of(page) -> tuple[str, list[list[str]]]:
    """The caption of the table below the viewer, and its rows."""
    table = page.locator("cam-live .made")
    rows = [row.locator("th, td").all_inner_texts() for row in table.locator("tr").all()]
    return table.locator("caption").inner_text(), rows


@pytest.mark.parametrize("how", ["keys", "mouse", "finger"])
def test_a_cell_is_taken_apart(how, small):
    page = small(has_touch=how == "finger")
    page.evaluate(KEEP)
    page.evaluate(ACT, [0, 2])
    viewer = page.locator("cam-viewer[ready]")
    viewer.wait_for()
    data = json.loads(page.evaluate("window.answer.json"))
    shape = data["maps"]["shape"]
    maps = np.frombuffer(b64decode(data["maps"]["values"]), "<i2").reshape(shape)
    at_first = maps[*viewer.evaluate("viewer => [viewer.classIndex, viewer.frame]")]  # (h, w)
    row, column = map(int, re.search(r"cell \((\d+), (\d+)\)", made_of(page)[0]).groups())
    assert at_first[row - 1, column - 1] == at_first.max() > at_first[0, 0]
    viewer.evaluate("viewer => { viewer.frame = 3; viewer.classIndex = 5; }")
    clip = viewer.locator(".stage")
    clip.scroll_into_view_if_needed()
    if how == "keys":
        clip.focus()
        for key in ["ArrowUp"] * 4 + ["ArrowRight"] * 9:  # the last is the last however often
            page.keyboard.press(f"Shift+{key}")
        cell = 2, 11
    else:
        box = clip.bounding_box()
        at = box["x"] + 0.3 * box["width"], box["y"] + 0.7 * box["height"]
        (page.touchscreen.tap if how == "finger" else page.mouse.move)(*at)
        cell = tuple(map(int, viewer.get_attribute("cell").split(",")))
        assert cell[0] > cell[1]
    page.locator(".made caption", has_text=f"({cell[0] + 1}, {cell[1] + 1})").wait_for()
    assert viewer.evaluate("viewer => viewer.frame") == 3
    caption, (head, *rows) = made_of(page)
    assert f"in frame 4 of {page.evaluate('window.answer.title')}: evidence for " in caption
    assert f"for {data['classes'][5]}. " in caption
    evidence = maps[5, 3][cell] * data["maps"]["scales"][5]
    assert head == ["channel", "weight w", "activation A", f"w · A ÷ {np.prod(shape[1:])}"]
    numbers = np.array([[float(text.replace("−", "-")) for text in row] for row in rows[:5]])
    channel, w, a, term = numbers.T
    places = np.arange(6)[:, None] * np.prod(shape[1:]) + (3 * 12 + cell[0]) * 12 + cell[1]
    there = ((5 * 6 + np.arange(6)) * 7 % 11 - 5) / 4, (places[:, 0] ** 2 % 17) / 4
    terms = there[0] * there[1] / np.prod(shape[1:])
    strongest = np.abs(terms)[channel.astype(int) - 1]
    assert len({*channel}) == 5 and np.all(np.diff(strongest) <= 0)
    assert strongest.min() >= np.delete(np.abs(terms), channel.astype(int) - 1).max()
    for seen, real in (w, there[0]), (a, there[1]), (term, terms):
        np.testing.assert_allclose(seen, real[channel.astype(int) - 1], atol=1e-4)
    (five, *_, sum_of_five), (everything, *_, whole) = rows[5:]
    assert (five, everything) == ("these five", "all 6")
    assert float(sum_of_five.replace("−", "-")) == pytest.approx(sum(term), abs=3e-4)
    assert float(whole.replace("−", "-")) == pytest.approx(evidence, abs=2e-4)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_what_is_new_fits_and_is_accessible(width, scheme, small):
    page = small(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.evaluate(ACT, [0, 2])
    page.locator("cam-viewer").scroll_into_view_if_needed()
    page.locator("cam-live .made").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    axe = Axe().run(page, context={"include": [["cam-live"]]}, options={"preload": False})
    assert [rule["id"] for rule in axe.response["violations"]] == []


# --- in the built book ---


@pytest.fixture(scope="module")
def page(browser, site):
    """The page with the network loaded; at the end nothing must have gone wrong on it."""
    with opened(browser, f"{site}/book/live.html") as page:
        asked_for = []
        page.on("request", lambda sent: asked_for.append(sent.url))
        page.wait_for_timeout(500)
        assert not [url for url in asked_for if "worker" in url or ".bin" in url]
        loaded(page, page.url)
        yield page


@built
def test_page_is_never_blocked(page):
    """While the network loads, and while it looks; the viewer is not counted."""
    assert page.evaluate("window.longest") <= 100
    assert asked(page, np.zeros((16, 192, 192, 3), np.uint8))["longest"] <= 100


@built
def test_page_says_what_python_says(page, network):
    for clip in drawn(3, network):
        said = asked(page, clip.frames)
        data, top = said["data"], said["top"]
        there = explain(network, clip)
        np.testing.assert_allclose(data["logits"], there.logits, atol=1e-3)
        sums = there.maps.sum((2, 3))
        np.testing.assert_allclose(data["ledger"], sums, atol=1e-3)
        assert {row["name"] for row in top[:2]} == {name for name, _ in there.top(2)}


@built
@pytest.mark.parametrize(
    ("change", "how"),
    [
        ("backwards", lambda frames: frames[::-1]),
        ("mirrored", lambda frames: frames[:, :, ::-1]),
        ("still", lambda frames: frames[[8] * 16]),
    ],
)
def test_a_changed_clip_is_that_clip(change, how, page, network):
    clip = drawn(2, network)[1]
    changed = np.ascontiguousarray(how(clip.frames))
    np.testing.assert_allclose(
        asked(page, clip.frames, change)["data"]["logits"],
        explain(network, changed).logits,
        atol=1e-3,
    )


@built
def test_answer_is_shown_beside_its_change(page):
    page.locator(".sources button").first.click()
    page.locator("cam-live > .status", has_text="seconds").wait_for(timeout=60_000)
    page.locator("cam-viewer[ready]").wait_for()
    page.get_by_role("button", name="backwards", exact=True).click()
    page.locator(".answers > button", has_text="backwards").wait_for(timeout=60_000)
    assert page.locator(".answers > button").count() == 2
    assert page.locator(".answers > [aria-pressed=true]").inner_text().count("backwards") == 1


@built
def test_a_video_file_can_be_chosen_twice(page, tmp_path):
    from lib.data.write import write_video

    path = tmp_path / "own.webm"
    write_video(path, miniature.draw("test", 3, 5, np.arange(48) / 12, 192).frames, 12)
    for _ in range(2):
        page.evaluate("document.querySelector('cam-live > .status').textContent = ''")
        page.set_input_files("cam-live input[type=file]", path)
        page.locator("cam-live > .status", has_text="own.webm: ").wait_for(timeout=60_000)


@built
def test_a_file_that_is_no_video_is_named_as_such(page, tmp_path):
    path = tmp_path / "no.mp4"
    path.write_bytes(b"no video")
    page.set_input_files("cam-live input[type=file]", path)
    page.get_by_text("That did not work: this browser cannot read the file.").wait_for()


@built
def test_loading_can_be_cancelled_and_tried_again(browser, site):
    with opened(browser, f"{site}/book/live.html") as page:
        page.get_by_role("button", name="Load the network").click()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_text("Loading was cancelled.").wait_for()
        page.get_by_role("button", name="Try again").click()
        page.locator("cam-live[ready]").wait_for(timeout=120_000)


# --- the stage ---


def recorded(page, act) -> list[str]:
    """The network's two guesses at what `act` does on the stage within four seconds."""
    page.locator("cam-stage[ready]").wait_for(timeout=60_000)
    page.get_by_role("button", name="Start again").click()
    said = page.locator(".answers > [aria-pressed=true] .bar > span:first-of-type")
    page.evaluate("document.querySelector('cam-live > .status').textContent = ''")
    page.get_by_role("button", name="Record").click()
    page.get_by_text("Now: four seconds").wait_for()
    act()
    page.locator("cam-live > .status", has_text="seconds.").wait_for(timeout=60_000)
    page.wait_for_function("!document.querySelector('cam-live').ariaBusy")
    return said.all_inner_texts()[:2]


@built
def test_stored_gestures_are_believed(page):
    guesses = gestures(page, seed=1)
    assert len(guesses) == 8
    assert sum(1 <= guess <= 2 for guess in guesses.values()) >= 7, guesses


@built
def test_a_thing_is_pushed_with_the_mouse(page):
    page.get_by_label("Make it say").select_option(index=0)

    def push():
        box = page.locator("cam-stage canvas").bounding_box()
        y = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + 0.2 * box["width"], y)
        page.mouse.down()
        began = time.perf_counter()
        while (done := (time.perf_counter() - began - 0.5) / 1.8) < 1:  # however slow the machine
            across = 0.2 + 0.6 * max(done, 0)
            page.mouse.move(box["x"] + across * box["width"], y)
            page.wait_for_timeout(20)
        page.mouse.up()

    assert "Moving [something] from left to right" in recorded(page, push)


@built
def test_a_thing_is_pushed_with_the_keyboard(page):
    page.get_by_label("Make it say").select_option(index=1)

    def push():
        page.wait_for_timeout(400)
        page.keyboard.down("ArrowLeft")
        page.wait_for_timeout(2300)
        page.keyboard.up("ArrowLeft")

    assert "Moving [something] from right to left" in recorded(page, push)
    assert "Believed: " in page.locator("cam-stage").inner_text()


@built
def test_a_movement_is_drawn_otherwise_and_put_into_a_link(page, browser):
    gestures(page, seed=2)
    page.get_by_role("button", name="another place").click()
    page.locator(".answers > [aria-pressed=true]", has_text="another place").wait_for()
    assert page.locator(".answers > button").count() == 2
    with opened(browser, page.evaluate("document.querySelector('cam-stage').link")) as other:
        other.get_by_role("button", name="Load the network").click()
        card = other.locator(".answers > button", has_text="A gesture from a link")
        card.wait_for(timeout=120_000)
        assert "Approaching [something] with your camera" in card.inner_text()


@built
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_all_of_it_fits_and_is_accessible(width, scheme, browser, site):
    viewport = {"width": width, "height": 844}
    options = {"color_scheme": scheme, "reduced_motion": "reduce"}
    with opened(browser, f"{site}/book/live.html", viewport=viewport, **options) as page:
        page.get_by_role("button", name="Load the network").click()
        page.locator("cam-stage[ready]").wait_for(timeout=120_000)
        page.get_by_role("button", name="Show me").click()
        page.locator(".answers > button").wait_for(timeout=60_000)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        axe = Axe().run(page, context={"include": [["cam-live"]]}, options={"preload": False})
    assert not [
        f"{rule['id']}: {node['target']}"
        for rule in axe.response["violations"]
        for node in rule["nodes"]
    ]
