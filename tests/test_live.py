"""The network as a graph, and the network in a page of the built book."""

import json
import time

import numpy as np
import pytest
import test_site
from axe_playwright_python.sync_playwright import Axe
from inpage import PACKAGE, VERSION, package, stage
from live import asked, gestures, loaded
from test_site import SITE, opened

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
        logits, maps = run(clip.frames)
        there = explain(network, clip)
        np.testing.assert_allclose(logits, there.logits, atol=1e-3)
        np.testing.assert_allclose(maps, there.maps, atol=1e-4)
        np.testing.assert_allclose(maps.sum((1, 2, 3)) + there.bias, logits, atol=1e-4)
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
    page.wait_for_function("!document.querySelector('cam-stage').busy")
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
