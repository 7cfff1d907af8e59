"""Marks worked out by hand, and controls whose marks are known."""

import numpy as np
import pytest

from lib import miniature
from lib.data.video import Clip
from lib.evaluation import controls, pointing, relevance_mass, relevance_rank
from lib.evaluation.marks import marks

MASK = np.array([[[True, True], [False, False]]])  # one frame of 2x2


def test_pointing_by_hand():
    assert pointing(np.array([[[1.0, 3.0], [2.0, 0.0]]]), MASK) == 1
    assert pointing(np.array([[[1.0, 3.0], [4.0, 0.0]]]), MASK) == 0
    assert pointing(np.array([[[3.0, 3.0], [3.0, 0.0]]]), MASK) == pytest.approx(2 / 3)


def test_mass_and_rank_by_hand():
    heat = np.array([[[1.0, -5.0], [2.0, 1.0]]])
    assert relevance_mass(heat, MASK) == 0.25  # 1 of 1 + 2 + 1; what is negative has no mass
    # the two greatest: 2 outside, and one of two equal 1s, of which one lies inside
    assert relevance_rank(heat, MASK) == 0.25
    assert relevance_mass(-np.abs(heat), MASK) == 0.5  # nothing positive: spread evenly


@pytest.fixture(scope="module")
def drawn():
    index = miniature.CLASSES.index("Dropping [something]")
    clip = miniature.draw("test", 0, 3, np.arange(16) / 4, 64, class_index=index)
    assert not clip.truth.camera_moves
    return clip


def test_controls_get_the_marks_they_should(drawn):
    maps = controls(drawn)
    found = {name: marks(heat, drawn.truth) for name, heat in maps.items()}
    mask = drawn.truth.mask
    start, end = drawn.truth.action
    acting = ((drawn.times >= start) & (drawn.times <= end)).mean()
    # one value everywhere is right as often as the truth is large
    for measure in ("pointing", "mass", "rank"):
        assert found["constant"][measure] == pytest.approx(mask.mean())
    assert found["constant"]["time"] == acting
    assert found["oracle"]["pointing"] == 1 and found["oracle"]["rank"] > 0.7
    exact = marks(mask.astype(float), drawn.truth)
    assert exact["pointing"] == exact["mass"] == exact["rank"] == 1
    assert all(heat.shape == mask.shape for heat in maps.values())


def test_no_marks_where_everything_is_truth(drawn):
    index = miniature.CLASSES.index("Turning the camera left while filming [something]")
    clip = miniature.draw("test", 0, 3, np.arange(16) / 4, 64, class_index=index)
    found = marks(np.ones(clip.frames.shape[:3]), clip.truth)
    assert not found.keys() & {"pointing", "mass", "rank"}


def test_what_cannot_be_marked_is_refused(drawn):
    heat = np.array([[[1.0, np.nan], [2.0, 1.0]]])
    for mark in (pointing, relevance_mass, relevance_rank):
        with pytest.raises(ValueError, match="finite values"):
            mark(heat, MASK)
        with pytest.raises(ValueError, match="mask .* with 0 pixels"):
            mark(np.ones((1, 2, 2)), MASK & False)
        with pytest.raises(ValueError, match="same shape"):
            mark(np.ones((1, 4, 4)), MASK)
    with pytest.raises(ValueError, match="need a mask"):
        controls(Clip(drawn.frames, drawn.times))
    with pytest.raises(ValueError, match="multiples of 16"):
        controls(Clip(drawn.frames[:, :60], drawn.times, None, drawn.mask[:, :60]))


def test_no_mark_in_time_where_no_frame_shows_the_action(drawn):
    early = drawn.truth.at(drawn.times[:1])
    assert early.action[0] > 0
    assert "time" not in marks(np.ones(early.roles.shape), early)
