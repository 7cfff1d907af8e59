"""Point first: what is printed, and an answer by mouse, finger and keys in a real browser."""

import base64
import json
import re

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from small import FRAMES, SIZE, explanation
from test_viewer import HOSTILE, differ
from test_viewer import open_page as open_page  # the fixture

from lib.viewer import point
from lib.viewer.point import peak

ACTION = (0.05, 0.15)  # of frames at 0, 0.05, ... 0.25 s: the second to the fourth
SQUARE = (0.25, 0.75)  # what moves, in every frame, along both sides


def heat(frame: int, row: int, column: int) -> np.ndarray:
    """A map with its greatest value in one pixel."""
    made = np.zeros((FRAMES, SIZE, SIZE))
    made[frame, row, column] = 1
    return made


def asked(clips: int = 1, **changes) -> str:
    """The network is right in both, frame differences in place only."""
    maps = {"the network": heat(2, 20, 40), "frame differences": heat(5, 30, 30)}
    return point(
        [explanation(seed, **changes) for seed in range(clips)],
        [ACTION] * clips,
        {name: [found] * clips for name, found in maps.items()},
    ).html


def printed(text: str, element: str) -> dict:
    pattern = rf'<{element}.*?<script type="application/json">(.*?)</script>'
    return json.loads(re.search(pattern, text, re.DOTALL)[1])


# --- as text ---


def test_peaks_and_the_frames_of_the_action_are_printed():
    text = asked(2)
    clip = {"acting": [1, 3], "peaks": [[2, 20.5 / 64, 40.5 / 64], [5, 30.5 / 64, 30.5 / 64]]}
    data = printed(text, "cam-point")
    assert data["rivals"] == ["the network", "frame differences"] and len(data["clips"]) == 2
    for found in data["clips"]:
        assert found["acting"] == clip["acting"]
        np.testing.assert_allclose(found["peaks"], clip["peaks"], atol=1e-4)
    mask = printed(text, "cam-viewer")["mask"]
    bits = np.unpackbits(np.frombuffer(base64.b64decode(mask["bits"]), np.uint8))
    on = bits.reshape(mask["shape"])
    assert on[2, 20, 40] and on[5, 30, 30] and not on[2, 10, 40]  # the marks, by hand
    assert text.count("<cam-viewer class-index=") == text.count("<img src=") == 2


def test_of_equal_values_the_middle_one_is_the_peak():
    level = heat(1, 8, 4) + heat(1, 8, 5) + heat(1, 8, 6)
    assert peak(level) == (1, round(8.5 / 64, 4), round(5.5 / 64, 4))


def test_asks_no_host_and_names_are_text():
    text = point([explanation()], [ACTION], {HOSTILE: [heat(0, 0, 0)]}).html
    assert not re.search(r"https?:|ftp:|url\(|@import|\bfetch\(|src=\"(?!data:)|href=", text)
    assert "<img src=x" not in text and printed(text, "cam-point")["rivals"] == [HOSTILE]


@pytest.mark.parametrize(
    ("clip", "action", "found", "named"),
    [
        ({}, [], [heat(0, 0, 0)], "actions: 0 for 1 clips"),
        ({}, [ACTION], [], "a: 0 for 1 clips"),
        ({"mask": None}, [ACTION], [heat(0, 0, 0)], "clip 0: a mask"),
        ({}, [(7.0, 9.0)], [heat(0, 0, 0)], "an action that is seen"),
        ({}, [ACTION], [np.ones((2, 4, 4))], "a, clip 0: (2, 4, 4)"),
        ({}, [ACTION], [np.full((FRAMES, SIZE, SIZE), np.nan)], "not finite"),
    ],
)
def test_names_what_does_not_fit(clip, action, found, named):
    with pytest.raises(ValueError, match=re.escape(named)):
        point([explanation(**clip)], action, {"a": found})


# --- in a browser ---


@pytest.fixture
def ask(open_page):
    """A page with clips that keep still, unless they are to play."""
    still = {"element": "cam-point", "reduced_motion": "reduce"}
    return lambda text, **context: open_page(text, **still | context)


def go(page, frame: int) -> None:
    page.viewer.get_by_label("Frame", exact=True).fill(str(frame))


def press(page, y: float, x: float, touch: bool = False) -> None:
    box = page.viewer.locator(".stage").bounding_box()
    at = box["x"] + x * box["width"], box["y"] + y * box["height"]
    (page.page.touchscreen.tap if touch else page.page.mouse.click)(*at)


def said(page) -> str:
    return page.viewer.locator(".said").inner_text()


def test_no_heat_before_the_answer(ask):
    page = ask(asked(2))
    assert page.page.locator("cam-viewer").count() == 0
    assert page.viewer.locator(".question").inner_text() == (
        "Clip 1 of 2: Opening [something]. Where does it happen, and when?"
    )
    press(page, 0.5, 0.5)
    page.page.locator("cam-viewer[ready]").wait_for()
    assert page.page.locator("cam-viewer").count() == 1
    page.viewer.get_by_role("button", name="Next clip").click()
    assert page.page.locator("cam-viewer").count() == 0 and said(page) == ""


@pytest.mark.parametrize("touch", [False, True])
@pytest.mark.parametrize(
    ("frame", "y", "x", "verdict"),
    [
        (1, 0.3, 0.7, "right in place and in time"),
        (3, 0.2, 0.5, "right in time, not in place"),
        (4, 0.5, 0.5, "right in place, not in time"),
        (0, 0.5, 0.8, "wrong in both"),
    ],
)
def test_all_three_get_the_same_marks(ask, touch, frame, y, x, verdict):
    page = ask(asked(2), has_touch=touch)
    go(page, frame)
    press(page, y, x, touch)
    assert said(page) == (
        f"You: {verdict}; the network: right in place and in time; frame differences: "
        "right in place, not in time. The action lasts from frame 2 to 4."
    )
    shown = page.viewer.locator("figcaption").all_inner_texts()
    you, network, differences = (" ".join(text.split()) for text in shown)
    assert you.startswith(f"you, frame {frame + 1} ")
    assert network == "the network, frame 3 ✓ place ✓ time"
    assert differences == "frame differences, frame 6 ✓ place ✗ time"


def test_by_keys_alone(ask):
    page = ask(asked(1))
    keys = page.page.keyboard
    keys.press("Tab")
    for key in ["ArrowLeft", *["ArrowUp"] * 10, "PageDown", "PageDown", "PageUp"]:
        keys.press(key)
    assert said(page) == "Frame 2, 47% from the left, 19% from the top. Enter answers."
    for _ in range(3):
        keys.press("ArrowDown")
    keys.press("Enter")
    assert said(page).startswith("You: right in place and in time; ")
    keys.press("Enter")  # "Start again" has the focus
    assert (
        said(page) == ""
        and page.page.evaluate(
            "document.querySelector('cam-point').shadowRoot.activeElement.className"
        )
        == "stage"
    )


def test_the_score_comes_after_the_last_clip(ask):
    page = ask(asked(3))
    for clip, (frame, y) in enumerate([(1, 0.5), (1, 0.1), (5, 0.1)]):
        assert page.viewer.locator("table").count() == 0
        if clip:
            page.viewer.get_by_role("button", name="Next clip").click()
        go(page, frame)
        press(page, y, 0.5)
    rows = [" ".join(row.split()) for row in page.viewer.locator("tr").all_inner_texts()]
    assert rows == [
        "right, of 3 clips place time both",
        "you 1 2 1",
        "the network 3 3 3",
        "frame differences 3 0 0",
    ]
    assert said(page).endswith(
        "Right in both: you 1; the network 3; frame differences 0, of 3 clips."
    )
    page.viewer.get_by_role("button", name="Start again").click()
    assert page.viewer.locator(".question").inner_text().startswith("Clip 1 of 3")


def test_plays_unless_less_motion_is_asked_for(ask):
    page = ask(asked(), reduced_motion="no-preference")
    place = page.viewer.locator(".place")
    page.page.wait_for_function(
        "document.querySelector('cam-point').shadowRoot.querySelector('.place').innerText[0] > 2"
    )
    page.viewer.get_by_role("button", name="Pause").click()
    stopped = place.inner_text()
    page.page.wait_for_timeout(250)
    assert place.inner_text() == stopped
    still = ask(asked())
    still.page.wait_for_timeout(250)
    assert still.viewer.locator(".place").inner_text() == "1 of 6"
    assert still.viewer.get_by_role("button", name="Play").is_visible()


def test_the_frame_is_drawn_and_what_does_not_move_is_dark(ask):
    page = ask(asked(frames=np.full((FRAMES, SIZE, SIZE, 3), 200, np.uint8)))
    white = page.pixels(page.viewer.locator(".stage"))
    press(page, 0.5, 0.5)
    marked = page.pixels(page.viewer.locator("figure").first)
    assert differ(white, marked) and abs(white.mean() - 200) < 4
    side = len(marked)
    inside = marked[int(0.3 * side), int(0.3 * side)].mean()
    assert inside == pytest.approx(200, abs=4) and marked[5, 5].mean() < 100


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_fits_a_phone_in_both_themes(ask, theme):
    page = ask(asked(), viewport={"width": 390, "height": 800})
    page.page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
    press(page, 0.5, 0.5)
    page.page.locator("cam-viewer[ready]").wait_for()
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 390
    card = page.viewer.evaluate(
        "it => getComputedStyle(it.shadowRoot.querySelector('.card')).backgroundColor"
    )
    assert (int(re.search(r"\d+", card)[0]) < 128) == (theme == "dark")
    found = Axe().run(page.page, context="cam-point", options={"preload": False})
    assert [rule["id"] for rule in found.response["violations"]] == []


def test_contact_sheets_without_scripts(browser, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(asked(2), "utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    sheets = page.get_by_alt_text("The 6 frames of the clip")
    assert sheets.count() == 2 and sheets.first.is_visible()
    context.close()
