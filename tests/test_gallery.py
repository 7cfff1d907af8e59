"""The wall of clips: plays what is on screen, obeys, and stays usable without scripts."""

import numpy as np
import pytest

from lib.gallery import gallery


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
