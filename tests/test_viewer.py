"""The viewer as text, and the viewer in a real browser."""

import base64
import json
import re
from dataclasses import dataclass
from types import SimpleNamespace
from urllib.parse import quote

import av
import numpy as np
import pytest
from PIL import Image
from small import CELLS, FRAMES, SIZE, explanation

from lib.explain.overlay import lines, on_pixels, overlay
from lib.viewer import caption, data, html, module, script
from lib.viewer import page as alone
from lib.viewer.viewer import BOTH, COLOURS, distinct

HOSTILE = "</script><img src=x onerror=alert(1)>"


def payload(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', text)[1])


# --- as text ---


def test_asks_no_host_and_is_small():
    text = html(explanation())
    assert not re.search(r"https?:|ftp:|url\(|@import|\bfetch\(|src=\"(?!data:)|href=", text)
    assert len(text) < 70_000


def test_script_can_stand_inside_a_script_element():
    source = script().removeprefix("<script>").removesuffix("</script>").lower()
    assert "</script" not in source and "<!--" not in source


def test_is_deterministic():
    assert html(explanation()) == html(explanation())


def test_labels_are_text():
    hostile = explanation(classes=[HOSTILE, "a", "b"], label=0)
    text = html(hostile)
    assert "<img src=x" not in text
    assert text.count("</script>") == 2  # its own two
    assert payload(text)["classes"][0] == HOSTILE


def test_maps_and_ledger_survive():
    shown = explanation()
    data = payload(html(shown))
    values = np.frombuffer(base64.b64decode(data["maps"]["values"]), "<i2")
    values = values.reshape(data["maps"]["shape"])
    maps = values * np.array(data["maps"]["scales"])[:, None, None, None]
    np.testing.assert_allclose(maps, shown.maps, atol=1e-4)
    np.testing.assert_allclose(data["ledger"], shown.maps.sum(axis=(2, 3)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.sum(data["ledger"], axis=1) + data["bias"], shown.logits, 1e-5)


def test_data_is_what_the_element_holds_without_its_picture():
    shown = explanation(classes=[HOSTILE, "a", "b"])
    held = payload(html(shown, name="clip 3"))
    assert held.pop("sheet")["frames"] == FRAMES and held.pop("name") == "clip 3"
    assert held == json.loads(data(shown)) and held["classes"][0] == HOSTILE


def test_a_page_takes_nothing_from_elsewhere_and_its_title_is_text():
    text = alone(HOSTILE, "<p>{as it is}</p>")
    assert "default-src 'none'; img-src data: blob:; base-uri 'none'; form-action 'none'" in text
    assert "<img src=x" not in text and "<p>{as it is}</p>" in text


def test_caption_without_scripts():
    shown = explanation(logits=np.log(np.array([0.9, 0.07, 0.03], np.float32)))
    said = "true: Opening [something] · 1st: Closing [something] .90 · 2nd: Opening [something] .07"
    assert re.search(r"<p>(.*?)</p>", html(shown))[1] == caption(shown) == said


def test_caption_says_where_cells_could_not_be_measured():
    note = "where the cells look could not be measured: <compiled>"
    shown = explanation(geometry_note=note)
    assert caption(shown).endswith(f" · {note}") and payload(html(shown))["note"] == note
    assert "measured: &lt;compiled&gt;</p>" in html(shown)
    assert payload(html(explanation()))["note"] == "" and "·  " not in caption(explanation())


def test_names_that_stand_twice_are_told_apart():
    assert distinct(["a", "b", "a"]) == ["a (1)", "b", "a (2)"]
    assert distinct(["a", "a", "a (1)"]) == ["a (1) (1)", "a (2)", "a (1) (2)"]
    twins = explanation(classes=["Opening", "Closing", "Opening"], label=2)
    assert payload(html(twins))["classes"] == ["Opening (1)", "Closing", "Opening (2)"]
    assert caption(twins).startswith("true: Opening (2) · ")
    assert 'class-index="2"' in html(twins, selected="Opening (2)")
    with pytest.raises(ValueError, match=r"these have: Opening \(1\), Closing, Opening \(2\)"):
        html(twins, selected="Opening")


def test_starts_at_the_frame_with_most_evidence_for_the_most_probable_class():
    maps = np.zeros((3, FRAMES, CELLS, CELLS), np.float32)
    maps[2, 4, 1, 1] = 3
    assert '<cam-viewer class-index="2" frame="4" mode="overlay"' in html(explanation(maps=maps))
    assert 'class-index="1"' in html(explanation(maps=maps), selected="Opening [something]")
    only = explanation(maps=maps[[1]], mapped=[1], logits=np.array([1, 2, 3], np.float32))
    assert 'class-index="1"' in html(only)


@pytest.mark.parametrize(
    "argument",
    [{"mode": "jet"}, {"frame": 99}, {"selected": "Nothing"}, {"versus": 3}],
)
def test_names_the_argument_that_is_wrong(argument):
    with pytest.raises(ValueError, match=f"^{next(iter(argument))} is "):
        html(explanation(), **argument)


# --- in a browser ---


class Page:
    """A page with viewers on it, and all that went wrong there."""

    def __init__(self, browser, folder, *texts: str, element="cam-viewer", **context):
        self.requests, self.errors = [], []
        self.page = browser.new_context(**context).new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text))
        file = folder / "page.html"
        file.write_text("<!doctype html><meta charset=utf-8>" + "<hr>".join(texts), "utf-8")
        self.page.goto(file.as_uri())
        self.viewers = self.page.locator(f"{element}[ready]")
        self.viewers.nth(len(texts) - 1).wait_for()
        self.viewer = self.viewers.first

    def pixels(self, viewer=None) -> np.ndarray:
        """The stage as (H, W, 3)."""
        canvas = (viewer or self.viewer).locator("canvas")
        width, height, data = canvas.evaluate(
            """canvas => {
              const { width, height } = canvas;
              const copy = Object.assign(document.createElement("canvas"), { width, height });
              const context = copy.getContext("2d", { willReadFrequently: true });
              context.drawImage(canvas, 0, 0);
              const { data } = context.getImageData(0, 0, width, height);
              return [width, height, btoa(Array.from(data, v => String.fromCharCode(v)).join(""))];
            }"""
        )
        flat = np.frombuffer(base64.b64decode(data), np.uint8)
        return flat.reshape(height, width, 4)[..., :3].astype(int)

    def get(self, name: str):
        return self.viewer.evaluate(f"viewer => viewer.{name}")

    def set(self, **state):
        self.viewer.evaluate("(viewer, state) => Object.assign(viewer, state)", state)


@pytest.fixture
def open_page(browser, tmp_path):
    pages = []

    def opened(*texts, **context):
        pages.append(Page(browser, tmp_path, *texts, **context))
        return pages[-1]

    yield opened
    for page in pages:
        assert page.errors == []
        assert all(url.startswith(("file:", "data:")) for url in page.requests), page.requests
        page.page.context.close()


def differ(a: np.ndarray, b: np.ndarray) -> bool:
    return np.abs(a - b).mean() > 1


def test_pixels_follow_the_state(open_page):
    page = open_page(html(explanation(), frame=0))
    states = {"frame": 3, "classIndex": 0, "opacity": 1, "mode": "heatmap", "truth": True}
    states["classIndex"] = (page.get("classIndex") + 1) % 3
    for name, value in states.items():
        before = page.pixels()
        page.set(**{name: value})
        assert page.get(name) == value
        assert differ(before, page.pixels()), name
    page.set(mode="original", truth=False)
    original = page.pixels()
    page.set(classIndex=0, opacity=1)
    assert not differ(original, page.pixels())


def test_frames_are_the_clip_in_order(open_page):
    shown = explanation()
    page = open_page(html(shown, mode="original"))
    for frame in range(FRAMES):
        page.set(frame=frame)
        pixels = page.pixels()
        zoom = len(pixels) // SIZE
        centres = slice(8 * zoom, None, 16 * zoom)
        np.testing.assert_allclose(
            pixels[centres, centres], shown.frames[frame, 8::16, 8::16], atol=40
        )


def test_controls(open_page):
    page = open_page(html(explanation(), frame=0))
    viewer = page.viewer
    viewer.get_by_label("Frame", exact=True).fill("4")
    assert page.get("frame") == 4
    viewer.get_by_text("heatmap").click()
    assert page.get("mode") == "heatmap"
    viewer.get_by_text("original").click()
    assert viewer.get_by_label("Opacity").is_disabled()
    viewer.get_by_text("side by side").click()
    assert page.get("mode") == "beside"
    viewer.get_by_text("overlay").click()
    viewer.get_by_text("More").click()
    viewer.get_by_label("Opacity").fill("0.3")
    assert page.get("opacity") == 0.3
    field = viewer.get_by_role("combobox", name="Evidence for", exact=True)
    field.fill("thing tear")
    field.press("Enter")
    assert page.get("classIndex") == 2
    versus = viewer.get_by_role("combobox", name="less the evidence for")
    for name, index in ("closing", 0), ("nothing", None):
        versus.fill(name)
        versus.press("Enter")
        assert page.get("versusIndex") == index
    viewer.get_by_label("Hide below").fill("0.5")
    assert page.get("threshold") == 0.5
    viewer.get_by_label("Speed").select_option("2")
    assert page.get("speed") == 2
    shared = viewer.get_by_label("one scale for all classes")
    assert shared.is_checked() and page.get("scale") == "all"
    shared.uncheck()
    assert page.get("scale") == "class"
    assert (
        viewer.locator(".unit").inner_text() == "evidence in one cell, a scale for this class alone"
    )
    viewer.get_by_label("show evidence against, too").check()
    assert page.get("against") is True
    viewer.get_by_label("outline the truth").check()
    assert page.get("truth") is True
    viewer.locator(".ledger span").nth(1).click()
    assert page.get("frame") == 1


def test_a_tour_of_five_steps_is_offered_once(open_page):
    page = open_page(html(explanation()), html(explanation()))
    first, second = (page.viewers.nth(i) for i in range(2))
    assert not second.locator(".tour").is_visible()
    first.get_by_role("button", name="Take the tour").click()
    for step in range(1, 6):
        assert first.locator(".step").inner_text().startswith(f"{step} of 5: ")
        assert first.locator(".toured").count() == 1
        first.get_by_role("button", name="Next" if step < 5 else "Done").click()
    assert not first.locator(".tour").is_visible() and first.locator(".toured").count() == 0
    page.page.reload()
    page.viewers.nth(1).wait_for()
    assert not first.locator(".tour").is_visible()


def test_the_tour_can_be_declined(open_page):
    page = open_page(html(explanation()))
    page.viewer.get_by_role("button", name="No, thanks").click()
    page.page.reload()
    page.viewer.wait_for()
    assert not page.viewer.locator(".tour").is_visible()


def test_side_by_side(open_page):
    page = open_page(html(explanation(), frame=1, mode="original"))
    original = page.pixels()
    page.set(mode="overlay")
    overlay = page.pixels()
    page.set(mode="beside")
    both, width = page.pixels(), original.shape[1]
    assert not differ(both[:, :width], original)
    assert not differ(both[:, -width:], overlay)
    for x in 0.05, 0.05 + 0.5:  # the same cell of either picture
        point(page, 0.3, x)
        assert page.get("cell") == [1, 0]


def test_threshold_hides_the_weaker_evidence(open_page):
    maps = np.zeros((3, FRAMES, CELLS, CELLS), np.float32)
    maps[0, :, 0, 0], maps[0, :, 3, 3] = 1, 0.4
    page = open_page(html(explanation(maps=maps), selected=0, mode="overlay", frame=0))
    both, weak = page.pixels(), np.s_[-40:, -40:]
    page.set(threshold=0.5)
    strong = page.pixels()
    page.set(mode="original")
    assert differ(both[weak], strong[weak])
    np.testing.assert_array_equal(strong[weak], page.pixels()[weak])
    assert differ(strong[:40, :40], page.pixels()[:40, :40])
    assert page.viewer.locator(".least").inner_text() in ("", "0.50")


def test_speed(open_page):
    page = open_page(html(explanation(times=np.arange(FRAMES) * 1.0), frame=0))
    page.page.evaluate(
        "window.setInterval = (next, milliseconds) => { window.pace = milliseconds }"
    )
    page.set(playing=True)
    assert page.page.evaluate("pace") == 1000
    page.set(speed=4)
    assert page.page.evaluate("pace") == 250


def options(page, name: str) -> list[str]:
    """What the browser's list below a field offers."""
    values = "options => options.map(option => option.value)"
    return page.viewer.locator(f".{name}-list option").evaluate_all(values)


LIKE = ["Putting [something] into [something]", "Putting [something]", "putting [something]"]


def test_choosing_a_class_by_keyboard(open_page):
    page = open_page(html(explanation(classes=LIKE), selected=0))
    field, keys = page.viewer.get_by_role("combobox").first, page.page.keyboard
    assert field.input_value() == LIKE[0]
    for typed, index in [
        ("Putting [something]", 1),  # the whole name, though that is a part of another
        ("putting [something]", 2),
        ("  PUTTING [something]  ", 1),  # the case counts where it tells names apart
        ("into put", 0),
        ("no such class", 0),
        ("", 0),
    ]:
        field.focus()
        keys.type(typed)
        keys.press("Enter")
        assert page.get("classIndex") == index, typed
        assert field.get_attribute("placeholder") == LIKE[index]
        keys.press("Tab")
        assert field.input_value() == LIKE[index]  # also after what names no class
    field.focus()
    assert field.input_value() == ""  # so that the list is whole
    keys.type("Putting [something]")
    keys.press("Tab")  # leaves without choosing
    assert field.input_value() == LIKE[0] and page.get("classIndex") == 0


def test_choosing_a_class_in_the_list(open_page):
    logits = np.log(np.array([0.03, 0.9, 0.07], np.float32))
    page = open_page(html(explanation(classes=LIKE, logits=logits)))
    listed = [f".90 {LIKE[1]}", f".07 {LIKE[2]}", f".03 {LIKE[0]}"]
    assert options(page, "class") == listed and options(page, "versus") == ["nothing", *listed]
    for name, label in ("class", "Evidence for"), ("versus", "less the evidence for"):
        field = page.viewer.get_by_role("combobox", name=label, exact=True)
        field.focus()
        field.fill(listed[1 if name == "class" else 2])  # as the browser does for an option
        assert field.input_value() == "" and field.evaluate("field => field.matches(':focus')")
    assert page.get("classIndex") == 2 and page.get("versusIndex") == 0
    field.fill("nothing")
    assert page.get("versusIndex") is None
    page.viewer.get_by_text("heatmap").click()
    assert field.input_value() == "nothing"


def test_choosing_among_equal_names(open_page):
    page = open_page(html(explanation(classes=["Opening", "Closing", "Opening"]), selected=1))
    field = page.viewer.get_by_role("combobox").first
    for typed, index in ("Opening (2)", 2), ("Opening (1)", 0):
        field.fill(typed)
        field.press("Enter")
        assert page.get("classIndex") == index
    page.page.evaluate("location.hash = 'class=Opening+(2)'")
    page.page.wait_for_function("document.querySelector('cam-viewer').classIndex == 2")
    link = page.get("link")
    page.set(classIndex=1)
    page.page.evaluate("link => { location.href = link }", link)
    page.page.wait_for_function("document.querySelector('cam-viewer').classIndex == 2")


def test_link_to_a_state(open_page):
    page = open_page(html(explanation(0), frame=0), html(explanation(1), frame=0))
    page.page.evaluate("location.hash = 'frame=4&class=2&versus=0&mode=heatmap&threshold=0.25'")
    page.page.wait_for_function("document.querySelector('cam-viewer').frame == 4")
    state = [page.get(name) for name in ("classIndex", "versusIndex", "mode", "threshold")]
    assert state == [2, 0, "heatmap", 0.25]
    second = "document.querySelectorAll('cam-viewer')[1]"
    assert page.page.evaluate(f"{second}.frame") == 0
    page.page.evaluate("location.hash = 'viewer=2&frame=3&class=Opening+[something]'")
    page.page.wait_for_function(f"{second}.frame == 3 && {second}.classIndex == 1")
    link = page.get("link")
    page.set(frame=0, classIndex=1, versusIndex=None, mode="original", threshold=0)
    page.page.evaluate("link => { location.href = link }", link)
    page.page.wait_for_function("document.querySelector('cam-viewer').frame == 4")
    assert state == [page.get(n) for n in ("classIndex", "versusIndex", "mode", "threshold")]
    page.page.evaluate("location.hash = 'a-heading'")  # means no viewer
    assert page.get("frame") == 4
    page.page.evaluate("location.hash = 'frame=1&class=Nobody&versus=7'")  # names no class
    page.page.wait_for_function("document.querySelector('cam-viewer').frame == 1")
    assert [page.get("classIndex"), page.get("versusIndex")] == state[:2]


def test_a_link_says_all_of_a_state(open_page):
    """What a viewer was printed with gives way to what the link says."""
    page = open_page(html(explanation(), selected=2, versus=0))
    page.set(versusIndex=None, truth=True, against=True, scale="all")
    link = page.get("link")
    page.set(versusIndex=1, truth=False, against=False, scale="class", opacity=0.1)
    page.page.evaluate("link => { location.href = link }", link)
    page.page.wait_for_function("document.querySelector('cam-viewer').opacity == 0.45")
    assert page.get("versusIndex") is None and page.get("truth") and page.get("against")
    assert page.get("scale") == "all"


def test_a_class_named_like_a_number(open_page):
    page = open_page(html(explanation(classes=["2", "0", "1"]), selected=0))
    page.page.evaluate("location.hash = 'class=2'")  # an index, as links have it
    page.page.wait_for_function("document.querySelector('cam-viewer').classIndex == 2")


def test_link_to_a_viewer_out_of_sight(open_page, tmp_path):
    page = open_page(html(explanation()))
    file = tmp_path / "far.html"
    file.write_text("<div style='height: 9000px'></div>" + html(explanation(), frame=0), "utf-8")
    page.page.goto(file.as_uri() + "#frame=3")
    page.viewer.wait_for()
    assert page.get("frame") == 3
    assert page.page.evaluate("scrollY") > 5000


def test_saving(open_page):
    page = open_page(html(explanation(), frame=2), accept_downloads=True)
    page.viewer.get_by_text("More").click()
    with page.page.expect_download() as download:
        page.viewer.get_by_role("button", name="Save frame").click()
    picture = np.asarray(Image.open(download.value.path()).convert("RGB"))
    np.testing.assert_array_equal(picture, page.pixels())
    assert re.fullmatch(r"[\w-]+-frame-3\.png", download.value.suggested_filename)
    page.set(speed=0.5)
    with page.page.expect_download() as download:
        page.viewer.get_by_role("button", name="Save clip").click()
    with av.open(download.value.path()) as video:
        shown = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    distinct = 1 + sum(differ(a.astype(int), b) for a, b in zip(shown, shown[1:]))
    assert distinct >= FRAMES - 1  # a slow machine may pass over one
    assert shown[0].shape == picture.shape and page.get("frame") == 2


def test_paper_shows_every_frame_with_its_evidence(open_page):
    page = open_page(html(explanation(), selected=1))
    page.page.emulate_media(media="print")
    sheet = page.viewer.locator(".print canvas")
    sheet.wait_for()
    assert not page.viewer.locator(".card").is_visible()
    assert "Evidence for Opening [something]" in page.viewer.locator(".print p").inner_text()
    size = sheet.evaluate("canvas => [canvas.width, canvas.height]")
    assert size[0] > 3 * 384 and size[1] > 2 * 384


def test_nothing_is_unpacked_before_it_is_near(open_page):
    far = "<div style='height: 9000px'></div>"
    page = open_page(
        html(explanation(), frame=0).replace("<cam-viewer ", "<cam-viewer playing ", 1)
    )
    page.page.evaluate(
        "far => { document.body.insertAdjacentHTML('beforeend', far);"
        "  const copy = document.querySelector('cam-viewer').cloneNode(true);"
        "  copy.removeAttribute('ready'); document.body.append(copy); }",
        far,
    )
    page.page.wait_for_timeout(300)
    last = page.page.locator("cam-viewer").nth(1)
    assert last.evaluate("viewer => [viewer.hasAttribute('ready'), viewer.frame]") == [False, 0]
    last.scroll_into_view_if_needed()
    page.viewers.nth(1).wait_for()
    first = page.get("frame")
    page.page.wait_for_timeout(200)  # four frames' time
    assert page.get("frame") == first  # out of sight it rests
    assert page.get("playing") is True


def test_a_tile_opens_and_closes(open_page):
    page = open_page(html(explanation(), tile=True), reduced_motion="reduce")
    stage = page.viewer.get_by_role("button", name="Open in the viewer: true: Opening")
    assert not page.viewer.locator(".ledger").is_visible()
    stage.focus()
    page.page.keyboard.press("Enter")
    assert page.get("open") is True
    assert page.viewer.locator(".ledger").is_visible()
    page.viewer.get_by_role("button", name="Close").click()
    assert page.get("open") is False
    stage.click()
    page.page.keyboard.press("Escape")
    assert page.get("open") is False


def test_caption_marks_and_selects(open_page):
    page = open_page(html(explanation(logits=np.log(np.array([0.9, 0.07, 0.03], np.float32)))))
    rows = page.viewer.locator(".caption div").all_inner_texts()
    assert [" ".join(row.split()) for row in rows] == [
        "true Opening [something]",
        "1st Closing [something] .90 ✗ wrong",
        "2nd Opening [something] .07 ✓ right",
    ]
    page.viewer.get_by_role("button", name="Opening [something]").last.click()
    assert page.get("classIndex") == 1
    assert [option.split()[0] for option in options(page, "class")] == [".90", ".07", ".03"]


def test_why_one_class_and_not_another(open_page):
    shown = explanation()
    page = open_page(html(shown, selected=2, versus=0, frame=0, mode="heatmap"))
    text = page.viewer.locator(".sum").text_content().replace("−", "-")
    assert "lead in logits" in text
    bars, bias, lead = map(float, re.findall(r"-?\d+\.\d+", text))
    difference = shown.maps[2] - shown.maps[0]
    assert [bars, bias, lead] == pytest.approx(
        [difference.sum(), shown.bias[2] - shown.bias[0], shown.logits[2] - shown.logits[0]],
        abs=1e-3,
    )
    assert "and not Closing" in page.viewer.locator("canvas").get_attribute("aria-label")
    # The same pixels as of a class whose map is that difference.
    alone = explanation(maps=np.stack([difference] * 3), bias=None)
    assert page.viewer.locator(".told").inner_text() == (
        "A bar up speaks for Tearing [something] and not Closing [something], a bar down against "
        f"it. Together they speak {'for' if difference.sum() > 0 else 'against'} it."
    )
    apart = page.pixels()
    other = open_page(html(alone, selected=2, frame=0, mode="heatmap"))
    assert np.abs(apart.astype(int) - other.pixels()).max() <= 8
    page.set(versusIndex=2)  # a class less itself is no comparison
    assert page.get("versusIndex") is None


def test_ledger_balances_in_sight(open_page):
    shown = explanation()
    page = open_page(html(shown, selected=2))
    text = page.viewer.locator(".sum").text_content().replace("−", "-")
    bars, bias, logit = map(float, re.findall(r"-?\d+\.\d+", text))
    assert [bars, bias, logit] == pytest.approx(
        [shown.maps[2].sum(), shown.bias[2], shown.logits[2]], abs=1e-3
    )
    heights = page.viewer.locator(".ledger i").evaluate_all(
        "bars => bars.map(b => parseFloat(b.style.height) * (b.matches('.against i') ? -1 : 1))"
    )
    sums = shown.maps[2].sum(axis=(1, 2))
    np.testing.assert_allclose(heights, 100 * sums / np.ptp([0, *sums]), atol=0.1)


def test_motion_is_what_the_frames_alone_do_not_give(open_page):
    shown = explanation()
    page = open_page(html(shown, selected=2))
    assert not page.viewer.get_by_label("less what each frame shows alone").is_visible()
    page.set(motion=True)  # nothing to take away
    assert page.get("motion") is False

    alone = shown.maps[::-1] / 2
    page = open_page(html(explanation(alone=alone), selected=2, frame=0, mode="heatmap"))
    before = page.pixels()
    page.viewer.get_by_label("less what each frame shows alone").check()
    assert page.get("motion") is True and differ(before, page.pixels())
    text = page.viewer.locator(".sum").text_content().replace("−", "-")
    assert "bias and frames alone" in text
    rest = shown.maps - alone
    bars, others, logit = map(float, re.findall(r"-?\d+\.\d+", text))
    assert [bars, others, logit] == pytest.approx(
        [rest[2].sum(), shown.bias[2] + alone[2].sum(), shown.logits[2]], abs=1e-3
    )
    moving = page.pixels()
    other = open_page(html(explanation(maps=rest, bias=None), selected=2, frame=0, mode="heatmap"))
    assert np.abs(moving.astype(int) - other.pixels()).max() <= 8
    page.set(versusIndex=0)
    text = page.viewer.locator(".sum").text_content().replace("−", "-")
    bars = float(re.search(r"-?\d+\.\d+", text)[0])
    assert bars == pytest.approx((rest[2] - rest[0]).sum(), abs=1e-3)
    assert "&motion=true" in page.get("link")


def test_ledger_does_not_claim_what_is_not_so(open_page):
    page = open_page(html(explanation(bias=None, logits=np.array([1, 2, 3], np.float32))))
    assert "=" not in page.viewer.locator(".sum").text_content()


def test_keyboard(open_page):
    page = open_page(html(explanation(), frame=2))
    page.page.evaluate("addEventListener('keydown', event => { window.leaked = event.key })")
    page.page.keyboard.press("Tab")
    for key, frame in ("ArrowRight", 3), ("ArrowLeft", 2), ("End", 5), ("Home", 0):
        page.page.keyboard.press(key)
        assert page.get("frame") == frame
    page.page.keyboard.press("Space")
    assert page.get("playing") is True
    page.page.keyboard.press("Space")
    assert page.get("playing") is False
    assert page.page.evaluate("window.leaked") in (None, "Tab")


def test_play_and_pause(open_page):
    page = open_page(html(explanation(), frame=0))
    page.viewer.get_by_role("button", name="Play").click()
    page.page.wait_for_function("document.querySelector('cam-viewer').frame == 3")
    page.viewer.get_by_role("button", name="Pause").click()
    frame = page.get("frame")
    page.page.wait_for_timeout(200)  # four frames' time
    assert page.get("frame") == frame


def test_moving_a_playing_viewer_keeps_it_playing(open_page):
    page = open_page(html(explanation(), frame=0))
    page.set(playing=True)
    page.viewer.evaluate("viewer => document.body.prepend(viewer)")
    page.page.wait_for_function("document.querySelector('cam-viewer').frame == 2")


def test_two_viewers_do_not_disturb_each_other(open_page):
    page = open_page(html(explanation(0), frame=0), html(explanation(1), frame=0))
    before = page.pixels(page.viewers.nth(1))
    page.set(frame=3, mode="heatmap", playing=True)
    page.page.wait_for_timeout(150)
    assert not differ(before, page.pixels(page.viewers.nth(1)))
    assert page.viewers.nth(1).evaluate("viewer => [viewer.frame, viewer.mode]") == [0, "overlay"]


@pytest.mark.parametrize("row, column", [(0, 0), (1, 2), (3, 3)])
def test_a_hot_cell_peaks_at_its_measured_centre(open_page, row, column):
    """Centres that are neither even nor symmetric, as a receptive field gives them."""
    y, x = np.array([0, 0.3, 0.55, 0.8]), np.array([0.05, 0.25, 0.5, 0.7])
    maps = np.zeros((3, FRAMES, CELLS, CELLS), np.float32)
    maps[0, :, row, column] = 1
    shown = explanation(maps=maps, cells=(y, x))
    page = open_page(html(shown, selected=0, mode="heatmap", frame=0))
    light = page.pixels().sum(axis=2)
    rows, columns = np.nonzero(light >= light.max() - 2)
    # Beyond the outermost centres the value is held: measure on the inner side of the plateau.
    found_y = (rows.max() if row == 0 else rows.min() if row == 3 else rows.mean()) + 0.5
    found_x = (columns.max() if column == 0 else columns.min() if column == 3
               else columns.mean()) + 0.5  # fmt: skip
    assert found_y / len(light) == pytest.approx(y[row], abs=0.008)
    assert found_x / len(light) == pytest.approx(x[column], abs=0.008)


def test_colours_are_scaled_over_the_clip(open_page):
    maps = np.zeros((3, FRAMES, CELLS, CELLS), np.float32)
    maps[0, 0, 1, 1], maps[0, 1, 1, 1], maps[1, 0, 2, 2] = 1, 0.25, 4
    page = open_page(html(explanation(maps=maps), selected=0, mode="heatmap", frame=0))
    peaks = {}
    for scale in "class", "all":
        for frame in 0, 1:
            page.set(frame=frame, scale=scale)
            peaks[scale, frame] = page.pixels().sum(axis=2).max()
    assert peaks["class", 0] > peaks["class", 1] == peaks["all", 0] > peaks["all", 1]


def test_evidence_for_is_orange_and_against_is_blue(open_page):
    maps = np.zeros((3, FRAMES, CELLS, CELLS), np.float32)
    maps[0, :, 0, 0], maps[0, :, 3, 3], maps[1, :, 0, 3] = 1, -2, -4
    page = open_page(html(explanation(maps=maps), selected=0, mode="heatmap", frame=0))
    corners = np.s_[[2, -3, -3], [2, -3, 2]]  # for, against, neither
    black = COLOURS(0, bytes=True)[:3]
    np.testing.assert_array_equal(page.pixels()[corners][1:], [black, black])
    page.set(against=True)
    for scale, most in ("all", 4), ("class", 2):  # the largest of all cells, for or against
        page.set(scale=scale)
        expected = BOTH([round(255 * (1 + value / most) / 2) for value in (1, -2, 0)], bytes=True)
        np.testing.assert_array_equal(page.pixels()[corners], expected[:, :3])
        legend = page.viewer.locator(".legend").inner_text().split("\n")
        assert legend[0] == f"against −{most}.0" and legend[1] == f"+{most}.0 for"
    page.set(mode="overlay", opacity=1)
    weaker = page.pixels()[corners]
    page.set(mode="original")
    assert not differ(weaker[2], page.pixels()[corners][2])  # nothing leaves the frame as it is


def test_for_and_against_are_told_apart_by_the_colour_blind():
    """Seen without one kind of cones (Machado and others, 2009), in linear RGB."""
    ends = BOTH([0.0, 0.25, 0.75, 1.0])[:, :3]
    linear = np.where(ends <= 0.04045, ends / 12.92, ((ends + 0.055) / 1.055) ** 2.4)
    for seen in (
        [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],  # no L
        [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],  # no M
        [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],  # no S
    ):
        strong, weak, weak_for, strong_for = linear @ np.transpose(seen)
        assert np.linalg.norm(strong - strong_for) > 0.4
        assert np.linalg.norm(weak - weak_for) > 0.3


def test_the_overlay_of_python_is_the_picture_of_the_viewer(open_page):
    frames = np.full((FRAMES, 384, 384, 3), 90, np.uint8)
    maps = explanation().maps * np.array([1, 0.6, 0.3], np.float32)[:, None, None, None]
    shown = explanation(maps=maps, frames=frames, mask=None)
    page = open_page(html(Drawn(**vars(shown)), selected=1, frame=2, size=384))
    difference = np.abs(page.pixels() - overlay(Drawn(**vars(shown)), 1)[2])
    assert difference.mean() < 1 and np.quantile(difference, 0.999) < 12


def test_the_signed_view_is_orange_for_and_blue_against(open_page):
    """Worked out in Python, as `overlay` does for what speaks for a class."""
    frames = np.full((FRAMES, 384, 384, 3), 90, np.uint8)
    maps = explanation().maps * np.array([1, 0.6, 0.3], np.float32)[:, None, None, None]
    shown = explanation(maps=maps, frames=frames, mask=None)
    page = open_page(html(shown, selected=1, frame=2, size=384))
    page.set(against=True)
    evidence = maps[1] / abs(maps[shown.logits.argmax()]).max()
    heat = on_pixels(evidence.clip(-1, 1), shown.cells, (384, 384))
    strength, line = abs(heat), lines(abs(heat))
    bright = np.sign(heat) * np.minimum(1, strength + line / 4)
    covered = np.minimum(1, 0.45 * np.maximum(strength, 2 * line))[..., None]
    expected = frames + covered * (255 * BOTH((1 + bright) / 2)[..., :3] - frames)
    difference = np.abs(page.pixels() - expected[2])
    assert difference.mean() < 1 and np.quantile(difference, 0.999) < 12


class Drawn(SimpleNamespace):
    """With the methods that `overlay` asks for."""

    def map(self, cls, versus=None):
        return self.maps[cls]


def test_a_line_at_each_quarter_of_the_scale(open_page):
    maps = np.zeros((3, FRAMES, 1, 2), np.float32)
    maps[0, :, 0, 1] = 1  # climbs from 0 at a quarter of the width to 1 at three quarters
    cells = np.array([0.5]), np.array([0.25, 0.75])
    black = np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8)
    page = open_page(html(explanation(maps=maps, cells=cells, frames=black), selected=0, frame=0))
    row = page.pixels()[100].sum(axis=1)
    lit = row[4:-4] - np.minimum(row[:-8], row[8:]) > 40  # brighter than on one side
    assert [round(x) for x in groups(np.nonzero(lit)[0] + 4)] == [144, 192, 240]


def groups(places: np.ndarray) -> list[float]:
    """Middle of each run of neighbouring numbers."""
    runs = np.split(places, np.nonzero(np.diff(places) > 1)[0] + 1)
    return [(run[0] + run[-1] + 1) / 2 for run in runs]


def test_the_page_is_told_of_frame_class_and_mode(open_page):
    page = open_page(html(explanation(), selected=0, frame=0))
    page.page.evaluate(
        "told = []; document.body.addEventListener('cam-viewer:change', "
        "({ target, detail }) => told.push([target.localName, detail]))"
    )
    for change in ({"frame": 3}, {"frame": 3}, {"opacity": 0.2}, {"classIndex": 2}):
        page.set(**change)
    page.viewer.get_by_text("heatmap").click()
    state = {"frame": 3, "classIndex": 0, "mode": "overlay"}
    assert page.page.evaluate("told") == [
        ["cam-viewer", state],
        ["cam-viewer", state | {"classIndex": 2}],
        ["cam-viewer", state | {"classIndex": 2, "mode": "heatmap"}],
    ]


def test_a_widget_shows_it_and_is_told_what_is_shown(browser):
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto("about:blank")
    shown = page.evaluate(
        """async ([source, html, other]) => {
          const state = { html }, listeners = {};
          const model = { get: name => state[name], set: (name, value) => { state[name] = value; },
            save_changes() { state.saved = { ...state.shown }; },
            on: (name, act) => { listeners[name] = act; }, off: name => delete listeners[name] };
          const { default: widget } = await import(`data:text/javascript,${source}`);
          const end = widget.render({ model, el: document.body });
          const ready = async () => {
            while (!document.querySelector("cam-viewer[ready]")) await new Promise(setTimeout);
            return document.querySelector("cam-viewer");
          };
          Object.assign(await ready(), { frame: 4 });
          state.html = other;
          listeners["change:html"]();
          const [classIndex, saved] = [(await ready()).classIndex, state.saved];
          end();
          return { classIndex, saved, listeners: Object.keys(listeners).length };
        }""",
        [
            quote(module()),
            html(explanation(), selected=1, frame=0),
            html(explanation(), selected=2),
        ],
    )
    saved = dict(frame=4, classIndex=1, mode="overlay")
    assert shown == dict(classIndex=2, saved=saved, listeners=0) and errors == []
    page.close()


def test_maps_with_fewer_steps_than_frames(open_page):
    page = open_page(html(explanation(steps=2), mode="heatmap", frame=0))
    stages = []
    for frame in range(FRAMES):
        page.set(frame=frame)
        stages.append(page.pixels())
    assert not differ(stages[0], stages[2]) and not differ(stages[3], stages[5])
    assert differ(stages[2], stages[3])


def test_the_note_is_shown(open_page):
    page = open_page(html(explanation(geometry_note="where the cells look is not known")))
    assert "where the cells look is not known" in page.viewer.locator(".source").text_content()


def test_hostile_label_is_shown(open_page):
    page = open_page(html(explanation(classes=[HOSTILE, "a", "b"], label=0)))
    assert HOSTILE in page.viewer.locator(".caption").inner_text()


def test_contact_sheet_without_scripts(browser, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(html(explanation()), "utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.get_by_alt_text("The 6 frames of the clip").is_visible()
    assert page.get_by_text("true: Opening [something]").is_visible()
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_lives_as_an_output_in_vs_code(browser, theme):
    """VS Code puts an output into its page as HTML, then runs the scripts in it again, under a
    policy that allows no source but the page itself."""
    page, errors = browser.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text))
    page.set_content(
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:\">"
        f'<body class="vscode-{theme}"><div id="output"></div>'
    )
    page.evaluate(
        """text => {
          const output = document.querySelector("#output");
          output.innerHTML = text;
          for (const { innerText, type } of [...output.querySelectorAll("script")]) {
            const script = document.createElement("script");
            script.text = innerText;
            if (type) script.type = type;
            output.append(script);
            script.remove();
          }
        }""",
        html(explanation(), frame=1),
    )
    viewer = page.locator("cam-viewer[ready]")
    viewer.wait_for()
    viewer.evaluate("viewer => viewer.focus()")
    page.keyboard.press("ArrowRight")
    assert viewer.evaluate("viewer => viewer.frame") == 2
    card = viewer.evaluate(
        "viewer => getComputedStyle(viewer.shadowRoot.querySelector('.card')).backgroundColor"
    )
    red = int(re.search(r"\d+", card)[0])
    assert (red > 128) == (theme == "light") and not errors
    page.close()


@dataclass
class Footprint:
    """As far before as after the centre: t, y, x, of the clip's frames and pixels."""

    half: tuple
    core: tuple
    field: tuple = (np.inf,) * 3
    shape: tuple = (FRAMES, SIZE, SIZE)

    def __post_init__(self):
        for name in "half", "core", "field":
            setattr(self, name, tuple((reach, reach) for reach in getattr(self, name)))


def point(page, y: float, x: float) -> None:
    """The mouse to a point of the stage, in fractions of it."""
    box = page.viewer.locator("canvas").bounding_box()
    page.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])


def cyan(pixels: np.ndarray) -> list[float]:
    """First and last row and column, as fractions, where a footprint is outlined."""
    places = np.nonzero((pixels[..., 0] < 160) & (pixels[..., 1:] > 200).all(2))
    return [
        edge / n
        for found, n in zip(places, pixels.shape, strict=False)
        for edge in (found.min(), found.max() + 1)
    ]


@pytest.mark.parametrize("mode", ["overlay", "heatmap"])
def test_hovering_shows_the_footprint_of_a_cell(open_page, mode):
    seen = Footprint(half=(0.5, 12, 8), core=(1.5, np.inf, np.inf), field=(2.5, np.inf, np.inf))
    shown = explanation(footprint=seen, frames=np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8))
    page = open_page(html(shown, selected=0, mode=mode, frame=1))
    page.set(opacity=0)
    viewer, pixels = page.viewer, page.pixels()
    assert repr(seen) in viewer.locator(".source").text_content()
    status, height = viewer.locator(".status").inner_text(), viewer.bounding_box()["height"]
    point(page, 0.3, 0.7)  # row 2 of 4, whose centre is at 3/8; column 3, at 5/8
    assert page.get("cell") == [1, 2]
    assert differ(pixels, page.pixels()) and viewer.bounding_box()["height"] == height
    # 12 and 8 of 64 pixels around it
    edges = [3 / 8 - 12 / 64, 3 / 8 + 12 / 64, 5 / 8 - 8 / 64, 5 / 8 + 8 / 64]
    if mode == "overlay":  # on black; a heat map has colours of its own
        np.testing.assert_allclose(cyan(page.pixels()), edges, atol=0.008)
    value, reach = viewer.locator(".status").inner_text().replace("−", "-").splitlines()
    assert value.startswith("cell (2, 3): ") and value.endswith(" of the logit")
    number = float(value.split()[3])
    assert number == pytest.approx(shown.maps[0, 1, 1, 2], rel=0.06)
    assert "frames 1–3" in reach
    marks = "bars => bars.map(bar => bar.dataset.seen ?? '')"
    bars = viewer.locator(".ledger span")
    assert bars.evaluate_all(marks) == ["core", "half", "core", "field", "", ""]
    page.page.mouse.move(2, 2)
    assert page.get("cell") is None
    np.testing.assert_array_equal(page.pixels(), pixels)
    assert viewer.locator(".status").inner_text() == status
    assert bars.evaluate_all(marks) == [""] * FRAMES
    page.set(mode="original")
    point(page, 0.3, 0.7)
    assert not differ(pixels * (mode == "overlay"), page.pixels() * (mode == "overlay"))
    assert page.get("cell") is None


def test_a_footprint_ends_at_the_frame(open_page):
    dark = explanation(
        footprint=Footprint(half=(9, 20, 16), core=(9, 30, 16)),
        frames=np.zeros((FRAMES, SIZE, SIZE, 3), np.uint8),
    )
    page = open_page(html(dark))
    page.set(opacity=0)
    point(page, 0.05, 0.95)  # the corner cell, centred on 8 and 56 of 64 pixels
    np.testing.assert_allclose(cyan(page.pixels()), [0, 38 / 64, 40 / 64, 1], atol=0.015)


def test_without_a_footprint_the_value_of_the_cell_is_shown(open_page):
    shown = explanation(bias=None, logits=np.zeros(3, np.float32))
    page = open_page(html(shown, selected=1, versus=2, frame=4))
    point(page, 0.9, 0.1)
    text = page.viewer.locator(".status").inner_text().replace("−", "-")
    value = shown.maps[1, 4, 3, 0] - shown.maps[2, 4, 3, 0]
    assert float(text.removeprefix("cell (4, 1): ")) == pytest.approx(value, rel=0.06)
    page.viewer.get_by_role("group", name="Clip: ").focus()
    page.page.keyboard.press("Home")  # the keys go on working below the pointer
    text = page.viewer.locator(".status").inner_text().replace("−", "-")
    value = shown.maps[1, 0, 3, 0] - shown.maps[2, 0, 3, 0]
    assert float(text.removeprefix("cell (4, 1): ")) == pytest.approx(value, rel=0.06)


def test_a_tap_shows_a_cell_and_another_hides_it(open_page):
    page = open_page(
        html(explanation(footprint=Footprint((1, 8, 8), (2, 16, 16)))),
        has_touch=True,
        viewport={"width": 360, "height": 800},
    )
    before = page.pixels()
    box = page.viewer.locator("canvas").bounding_box()
    for cell in [0, 3], None:
        page.page.touchscreen.tap(box["x"] + 0.9 * box["width"], box["y"] + 0.1 * box["height"])
        assert page.get("cell") == cell
        assert differ(before, page.pixels()) == (cell is not None)


@pytest.mark.parametrize("width", [320, 360, 800])
def test_hovering_moves_nothing(open_page, width):
    page = open_page(
        html(explanation(footprint=Footprint((1, 8, 8), (2, 16, 16)), times=np.arange(6) * 9999.0)),
        viewport={"width": width, "height": 900},
    )
    boxes = """viewer => [...viewer.shadowRoot.querySelectorAll("[class]")].map(part => {
        const { x, y, width, height } = part.getBoundingClientRect();
        return [x, y, width, height];
    })"""
    before = page.viewer.evaluate(boxes)
    for at in (0.1, 0.1), (0.6, 0.9):
        point(page, *at)
        assert "cell" in page.viewer.locator(".status").inner_text()
        assert page.viewer.evaluate(boxes) == before


@pytest.mark.parametrize("width", [360, 800])
def test_fits_the_width(open_page, width):
    page = open_page(html(explanation()), viewport={"width": width, "height": 800})
    assert page.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out(open_page, theme):
    """The page's theme wins over the system's, with contrast of at least 4.5 (WCAG 2.1, AA)."""
    system = "light" if theme == "dark" else "dark"
    page = open_page(html(explanation()), color_scheme=system)
    page.page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
    colours = page.viewer.evaluate(
        """viewer => {
          const colour = (selector, property) => getComputedStyle(
            viewer.shadowRoot.querySelector(selector))[property].match(/[\\d.]+/g).map(Number);
          return [colour(".card", "backgroundColor"),
            ...[".sum", ".source", ".caption dt", ".right, .wrong", "output",
                ".caption [aria-pressed=true]"].map(text => colour(text, "color"))];
        }"""
    )
    card, *texts = (luminance(np.array(colour[:3]) / 255) for colour in colours)
    assert (card < 0.1) == (theme == "dark")
    for text in texts:
        assert (max(card, text) + 0.05) / (min(card, text) + 0.05) >= 4.5


def luminance(rgb: np.ndarray) -> float:
    """Relative luminance of sRGB (WCAG 2.1)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_reduced_motion_does_not_start_by_itself(open_page):
    text = html(explanation(), frame=0).replace("<cam-viewer ", "<cam-viewer playing ", 1)
    assert open_page(text, reduced_motion="reduce").get("playing") is False
    assert open_page(text).get("playing") is True
