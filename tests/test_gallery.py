"""The wall of clips: plays what is on screen, obeys, and stays usable without scripts."""

import numpy as np
import pytest
from small import explanation

from lib.viewer.gallery import cases, gallery
from lib.viewer.viewer import script


@pytest.fixture(scope="module")
def wall():
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8) for _ in range(3)]
    return gallery(clips, ["one", "two <b>", "three"], fps=8)


def paused(page):
    return page.eval_on_selector_all("video", "videos => videos.map(video => video.paused)")


def test_a_caption_for_each_clip():
    with pytest.raises(ValueError, match="1 clips and 2 captions"):
        gallery([np.zeros((1, 8, 8, 3), np.uint8)], ["a", "b"], 8)


def test_captions_are_text(wall):
    assert "two &lt;b&gt;" in wall.html and "<b>" not in wall.html
    assert repr(wall) == "Gallery(3 clips)" and wall._repr_html_() == wall.html


def test_without_scripts_each_clip_has_controls(wall):
    still, _, _ = wall.html.partition("<script>")
    assert still.count(" muted loop playsinline controls>") == 3


def test_plays_and_obeys(wall, browser):
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_content(wall.html)
    page.wait_for_function("[...document.querySelectorAll('video')].every(v => !v.paused)")
    page.get_by_role("button", name="Pause all").click()
    assert paused(page) == [True] * 3
    second = page.get_by_role("button", name="two <b>")
    second.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("!document.querySelectorAll('video')[1].paused")
    assert paused(page) == [True, False, True] and not errors
    page.close()


def test_nothing_moves_for_those_who_asked(wall, browser):
    page = browser.new_page(reduced_motion="reduce")
    page.set_content(wall.html)
    page.get_by_role("button", name="Play all").wait_for()
    page.wait_for_timeout(300)
    assert paused(page) == [True] * 3
    page.close()


def test_clips_off_the_screen_rest(wall, browser):
    page = browser.new_page(viewport={"width": 400, "height": 400})
    page.set_content(f'<div style="height:3000px"></div>{wall.html}')
    page.get_by_role("button", name="Pause all").wait_for()
    page.wait_for_timeout(300)
    assert paused(page) == [True] * 3
    page.close()


# --- cases ---


@pytest.fixture(scope="module")
def tiles():
    return cases({"Right <i>": [explanation(0), explanation(1)], "Wrong": [explanation(2)]})


def test_cases_stand_under_the_names_of_their_groups(tiles, browser):
    page = browser.new_page()
    page.set_content(tiles.html)
    page.locator("cam-viewer[ready]").nth(2).wait_for()
    order = page.locator("cam-wall").evaluate(
        "wall => [...wall.children].map(child => child.matches('p') ? child.innerText : "
        "child.localName)"
    )
    assert order == ["button", "Right <i>", "cam-viewer", "cam-viewer", "Wrong", "cam-viewer"]
    assert repr(tiles) == "Gallery(3 clips)"
    assert tiles.html.count("customElements.define") == script().count("customElements.define")
    page.close()


def test_cases_move_until_told_not_to(tiles, browser):
    page = browser.new_page()
    page.set_content(tiles.html)
    page.locator("cam-viewer[ready]").nth(2).wait_for()
    frames = "[...document.querySelectorAll('cam-viewer')].map(viewer => viewer.frame)"
    before = page.evaluate(frames)
    page.wait_for_function(f"{frames}.every((frame, i) => frame !== {before}[i])")
    page.get_by_role("button", name="Pause all").click()
    before = page.evaluate(frames)
    page.wait_for_timeout(200)  # four frames' time
    assert page.evaluate(frames) == before
    page.close()


def test_cases_keep_still_for_those_who_asked(tiles, browser):
    page = browser.new_page(reduced_motion="reduce")
    page.set_content(tiles.html)
    page.locator("cam-viewer[ready]").nth(2).wait_for()
    assert page.evaluate("document.querySelectorAll('cam-viewer[playing]').length") == 0
    assert page.get_by_role("button", name="Play all").is_visible()
    page.close()
