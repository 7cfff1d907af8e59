"""The drawn data: deterministic, whole, true, and with nothing shared between splits."""

import json
import time

import numpy as np
import pytest

from lib import drawing, miniature, scenes
from lib.datasets import SomethingSomething
from lib.labels import CLASSES_40, REVERSED, fill
from lib.video import read_clip

TIMES = np.arange(16) / 4


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return miniature.write(tmp_path_factory.mktemp("data") / "mini", clips=40, seed=3)


def test_classes_are_the_articles_and_in_pairs():
    assert len(CLASSES_40) == len(set(CLASSES_40)) == 40
    assert len(miniature.CLASSES) >= 12
    assert all(REVERSED[REVERSED[name]] == name for name in REVERSED)
    assert all(REVERSED[name] in miniature.CLASSES for name in miniature.CLASSES)


def test_captions():
    assert fill("Picking [something] up", ["banana"]) == "picking banana up"
    two = fill("Moving [something] away from [something]", ["kite", "red apple"])
    assert two == "moving kite away from red apple"


def test_the_same_numbers_give_the_same_clip():
    a, b = (miniature.draw("test", 5, seed=1, times=TIMES) for _ in range(2))
    assert np.array_equal(a.frames, b.frames) and np.array_equal(a.roles, b.roles)
    other = miniature.draw("test", 5, seed=2, times=TIMES)
    assert not np.array_equal(a.frames, other.frames)


def test_a_clip_does_not_depend_on_those_drawn_before():
    def draw(index):
        return miniature.draw("test", index, seed=6, times=TIMES[:2]).frames

    first = [draw(index) for index in range(18)]
    again = [draw(index) for index in reversed(range(18))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again))


@pytest.mark.parametrize("name", miniature.CLASSES)
def test_every_class_moves_and_says_where(name):
    index = miniature.CLASSES.index(name)
    drawn = miniature.draw("train", index, seed=4, times=TIMES)
    assert drawn.template == name
    assert drawn.frames.shape == (16, 128, 128, 3) and drawn.roles.shape == (16, 128, 128)
    start, end = drawn.action
    assert 0 <= start < end <= miniature.SECONDS
    mask = drawn.truth.mask
    assert mask.all() if drawn.camera_moves else 0.002 < mask.mean() < 0.8
    if drawn.camera_moves:
        change = np.abs(np.diff(drawn.frames.astype(int), axis=0)).mean((1, 2, 3))
    else:
        change = (np.diff(drawn.roles.astype(int), axis=0) != 0).mean((1, 2))
    inside = (TIMES[1:] > start) & (TIMES[:-1] < end)
    assert change[inside].mean() > 1.5 * change[~inside].mean()


@pytest.mark.parametrize("name", sorted(scenes._FORWARD))
def test_a_reversal_is_the_same_scene_backwards(name):
    script, backwards = scenes.SCRIPTS[name]
    other, other_backwards = scenes.SCRIPTS[REVERSED[name]]
    assert script is other and not backwards and other_backwards


def test_progress_goes_one_way():
    assert scenes.smooth(0.2, 0.2, 0.8) == 0 and scenes.smooth(0.9, 0.2, 0.8) == 1
    assert scenes.smooth(0.5, 0.2, 0.8) == pytest.approx(0.5)
    assert scenes.smooth(0.0, 0.0, 0.0) == 1


def test_left_is_left_and_up_is_up():
    """The scene goes right when the camera turns left, down when it turns up."""
    rng = np.random.default_rng(0)
    left = scenes.SCRIPTS["Turning the camera left while filming [something]"][0](rng, "train")
    up = scenes.SCRIPTS["Turning the camera upwards while filming [something]"][0](rng, "train")
    assert left.view(1)[0] < left.view(0)[0] - 50
    assert up.view(1)[1] < up.view(0)[1] - 50  # y points down


def test_splits_share_nothing():
    for lots in (drawing.OBJECTS, drawing.TONES):
        sets = [set(lots[split]) for split in miniature.SPLITS]
        assert sum(map(len, sets)) == len(set().union(*sets))
    photographs = [drawing.PHOTOS[split].split() for split in miniature.SPLITS]
    assert sum(map(len, photographs)) == len(set(sum(photographs, [])))


@pytest.mark.parametrize("split", miniature.SPLITS)
def test_every_drawing_exists_and_has_a_name(split):
    for emoji in drawing.OBJECTS[split]:
        assert drawing.drawing(emoji).mode == "RGBA" and drawing.name(emoji)
    for hand in drawing.HANDS:
        for tone in drawing.TONES[split]:
            assert drawing.drawing(hand + tone).width > 30


def test_render_by_hand():
    red = drawing.Image.new("RGBA", (2, 2), (255, 0, 0, 255))
    layer = drawing.Layer(red, drawing.affine(1, 2), drawing.OBJECT)
    frame, roles = drawing.render([layer], drawing.affine(0, 0), 6)
    rows, columns = np.nonzero(roles == drawing.OBJECT)
    assert set(rows) == {2, 3} and set(columns) == {1, 2}
    assert frame[2, 1].tolist() == [255, 0, 0] and frame[0, 0].tolist() == [0, 0, 0]


def test_written_in_the_datasets_layout(root):
    sizes = {split: len(SomethingSomething(root, split)) for split in miniature.SPLITS}
    assert sizes == {"train": 32, "validation": 4, "test": 4}
    dataset = SomethingSomething(root, "train", size=128)
    assert dataset.classes == miniature.CLASSES
    item = dataset.items[3]
    frames, label = dataset[3]
    drawn = miniature.draw("train", 3, seed=3, times=TIMES)
    assert frames.shape == drawn.frames.shape and label == drawn.class_index
    assert item.placeholders == drawn.placeholders
    error = np.abs(frames.astype(int) - drawn.frames).mean()
    assert error < 6  # what VP9 takes away


def test_truth_stands_beside_the_frames_sampled(root):
    item = SomethingSomething(root, "test").items[1]
    clip = read_clip(item.path)
    truth = miniature.read_truth(root, item.id).at(clip.times)
    drawn = miniature.draw("test", 1, seed=3, times=clip.times)
    assert np.array_equal(truth.roles, drawn.roles)
    assert truth.action == pytest.approx(drawn.action)
    assert np.array_equal(truth.mask, drawn.truth.mask)


def test_goes_on_where_it_stopped(root):
    kept, lost = (root / "truth" / f"{miniature.identity('train', i)}.npz" for i in (0, 1))
    stamp, content = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    time.sleep(0.01)
    miniature.write(root, clips=40, seed=3)
    assert kept.stat().st_mtime_ns == stamp
    assert lost.read_bytes() == content
    assert not list(root.rglob("*.part*"))


def test_another_dataset_is_not_mixed_in(root):
    with pytest.raises(ValueError, match="remove it or name another folder"):
        miniature.write(root, clips=40, seed=4)
    assert json.loads((root / "miniature.json").read_text())["seed"] == 3


def test_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m lib.miniature"):
        miniature.read_truth(tmp_path, "100000")
    with pytest.raises(ValueError, match="train, validation, test"):
        miniature.draw("tset", 0)
