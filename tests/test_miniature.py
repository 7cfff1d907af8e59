"""The drawn data: deterministic, whole, true, and with nothing shared between splits."""

import json
import os

import numpy as np
import pytest

from lib import miniature
from lib.data.labels import CLASSES_10, CLASSES_40, REVERSED
from lib.data.something import SPLITS, SomethingSomething
from lib.data.video import read_clip
from lib.miniature import drawing
from lib.miniature.__main__ import _size, main
from lib.miniature.clip import PARTS
from lib.miniature.dataset import read_truth

TIMES = np.arange(16) / 4


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return miniature.write(tmp_path_factory.mktemp("data") / "mini", clips=50, seed=3)


def test_classes_are_the_articles():
    assert miniature.CLASSES == CLASSES_40 and len(set(CLASSES_40)) == 40
    assert set(CLASSES_10) < set(CLASSES_40)
    assert all(REVERSED[REVERSED[name]] == name for name in REVERSED)
    assert len(REVERSED) == 18


def test_captions():
    assert miniature.fill_template("Picking [something] up", ["banana"]) == "picking banana up"
    two = miniature.fill_template("Moving [something] away from [something]", ["kite", "red apple"])
    assert two == "moving kite away from red apple"


def test_the_same_numbers_give_the_same_clip():
    a, b = (miniature.draw("test", 5, seed=1, times=TIMES) for _ in range(2))
    assert np.array_equal(a.frames, b.frames) and np.array_equal(a.truth.roles, b.truth.roles)
    other = miniature.draw("test", 5, seed=2, times=TIMES)
    assert not np.array_equal(a.frames, other.frames)


def test_a_clip_does_not_depend_on_those_drawn_before():
    def draw(index):
        return miniature.draw("test", index, seed=6, times=TIMES[:2]).frames

    first = [draw(index) for index in range(40)]
    again = [draw(index) for index in reversed(range(40))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(first, again))


@pytest.mark.parametrize("name", miniature.CLASSES)
def test_every_class_moves_and_says_where(name):
    index = miniature.CLASSES.index(name)
    drawn = miniature.draw("train", index, seed=4, times=TIMES)
    assert drawn.label == name
    assert drawn.frames.shape == (16, 128, 128, 3) and drawn.truth.roles.shape == (16, 128, 128)
    start, end = drawn.truth.action
    assert 0 <= start < end <= miniature.SECONDS
    mask = drawn.truth.mask
    assert mask.all() if drawn.truth.camera_moves else 0.002 < mask.mean() < 0.8
    if drawn.truth.camera_moves:
        change = np.abs(np.diff(drawn.frames.astype(int), axis=0)).mean((1, 2, 3))
    else:
        change = (np.diff(drawn.truth.roles.astype(int), axis=0) != 0).mean((1, 2))
    inside = (TIMES[1:] > start) & (TIMES[:-1] < end)
    if inside.all():  # holding and showing go on all through the clip
        assert change.mean() > 0.002
    else:
        assert change[inside].mean() > 1.5 * change[~inside].mean()


def test_a_clip_is_the_same_at_any_size():
    small, large = (miniature.draw("test", 26, 4, TIMES, size) for size in (64, (160, 128)))
    assert small.placeholders == large.placeholders and small.truth.action == large.truth.action
    assert large.frames.shape == (16, 128, 160, 3) and large.truth.roles.shape == (16, 128, 160)
    shrunk = large.truth.roles[:, ::2, 16:144:2]  # the wider frame sees more at both sides
    assert (shrunk == small.truth.roles).mean() > 0.97


def test_scenery_can_come_from_another_split():
    own, other = (miniature.draw("test", 7, 4, TIMES[:4], scenery=s) for s in (None, "train"))
    assert (
        np.array_equal(own.truth.roles, other.truth.roles)
        and own.truth.action == other.truth.action
    )
    assert np.abs(own.frames.astype(int) - other.frames).mean() > 5


def test_a_clip_can_be_drawn_without_a_part():
    """What is left out is gone with its shadow; everywhere else no value changes."""
    whole = miniature.draw("test", 8, 1, TIMES)  # a hand moves one object away from another
    roles = whole.truth.roles
    assert {drawing.OBJECT, drawing.HAND, drawing.SECOND} <= set(np.unique(roles))
    for part in ("object", "hand", "second"):
        other = miniature.draw("test", 8, 1, TIMES, without=[part])
        changed = (other.frames != whole.frames).any(3)
        role = PARTS[part]
        assert role not in other.truth.roles and changed[roles == role].mean() > 0.9
        assert 0 < (changed & (roles != role)).mean() < 0.2  # its shadow, and what was behind it
        assert not changed[:, :2, :2].any()
    nothing = miniature.draw("test", 8, 1, TIMES, without=PARTS)
    assert not nothing.truth.roles.any()
    with pytest.raises(ValueError, match="without .'wall'.: choose from object, hand"):
        miniature.draw("test", 0, without=["wall"])


def test_refuses_frames_it_cannot_fill():
    for size in ((64, 128), (320, 128)):
        with pytest.raises(ValueError, match="1 to 1.6 times"):
            miniature.draw("test", 0, size=size)


def test_splits_share_nothing():
    for drawings in (drawing.OBJECTS, drawing.BOTTLES, drawing.TONES):
        sets = [set(drawings[split]) for split in SPLITS]
        assert sum(map(len, sets)) == len(set().union(*sets))
    photographs = [drawing.PHOTOS[split].split() for split in SPLITS]
    assert sum(map(len, photographs)) == len(set(sum(photographs, [])))


@pytest.mark.parametrize("split", SPLITS)
def test_every_drawing_exists_and_has_a_name(split):
    for emoji in drawing.OBJECTS[split] + drawing.BOTTLES[split]:
        assert drawing.twemoji(emoji).mode == "RGBA" and drawing.name(emoji)
    for hand in drawing.HANDS:
        for tone in drawing.TONES[split]:
            assert drawing.twemoji(hand + tone).width > 30


def test_render_by_hand():
    red = drawing.Image.new("RGBA", (2, 2), (255, 0, 0, 255))
    layer = drawing.Layer(red, drawing.affine(1, 2), drawing.OBJECT)
    picture, roles = drawing.render([layer], drawing.affine(0, 0), (6, 6))
    frame = np.asarray(picture)
    rows, columns = np.nonzero(roles == drawing.OBJECT)
    assert set(rows) == {2, 3} and set(columns) == {1, 2}
    assert frame[2, 1].tolist() == [255, 0, 0] and frame[0, 0].tolist() == [0, 0, 0]


def test_written_in_the_datasets_layout(root):
    sizes = {split: len(SomethingSomething(root, split)) for split in SPLITS}
    assert sizes == {"train": 40, "validation": 5, "test": 5}
    dataset = SomethingSomething(root, "train", size=128)
    assert dataset.classes == miniature.CLASSES
    item = dataset.items[3]
    frames, label = dataset[3]
    drawn = miniature.draw("train", 3, seed=3, times=TIMES)
    assert frames.shape == drawn.frames.shape and dataset.classes[label] == drawn.label
    assert item.placeholders == drawn.placeholders
    error = np.abs(frames.astype(int) - drawn.frames).mean()
    assert error < 6  # what VP9 takes away


def test_truth_stands_beside_the_frames_sampled(root):
    item = SomethingSomething(root, "test").items[1]
    clip = read_clip(item.path)
    truth = miniature.read_truth(root, item.id).at(clip.times)
    drawn = miniature.draw("test", 1, seed=3, times=clip.times)
    assert np.array_equal(truth.roles, drawn.truth.roles)
    assert truth.action == pytest.approx(drawn.truth.action)
    assert np.array_equal(truth.mask, drawn.truth.mask)


def test_goes_on_where_it_stopped(root):
    kept, lost = (root / "truth" / f"{miniature.identity('train', i)}.npz" for i in (0, 1))
    content = lost.read_bytes()
    lost.unlink()
    video = root / "videos" / f"{miniature.identity('train', 2)}.webm"
    frames = video.read_bytes()
    video.unlink()
    os.utime(kept, (1, 1))  # written long ago
    miniature.write(root, clips=50, seed=3)
    assert video.read_bytes() == frames
    assert kept.stat().st_mtime == 1
    assert lost.read_bytes() == content
    assert not list(root.rglob(".*"))  # no part of a file is left


def test_another_dataset_is_not_mixed_in(root):
    with pytest.raises(ValueError, match="remove it or name another folder"):
        miniature.write(root, clips=50, seed=4)
    assert json.loads((root / "miniature.json").read_text())["seed"] == 3


def test_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="python -m lib.miniature"):
        miniature.read_truth(tmp_path, "100000")
    with pytest.raises(ValueError, match="train, validation, test"):
        miniature.draw("tset", 0)


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """The same wide clips in the layouts of both releases."""
    folder = tmp_path_factory.mktemp("twins")
    setting = dict(clips=10, seed=5, size=(96, 64), workers=2)
    return {name: miniature.write(folder / name, layout=name, **setting) for name in ("v1", "v2")}


@pytest.mark.parametrize("split", SPLITS)
def test_both_layouts_hold_the_same_clips(twins, split):
    first, second = (SomethingSomething(twins[name], split) for name in ("v1", "v2"))
    assert (first.release, second.release) == ("v1", "v2")
    assert first.classes == [name.replace("[", "").replace("]", "") for name in second.classes]
    for a, b in zip(first.items, second.items, strict=True):
        assert (a.id, a.class_index) == (b.id, b.class_index)
        assert a.caption == a.template == first.classes[b.class_index] and a.placeholders == []
        truth = miniature.read_truth(twins["v1"], a.id)
        assert np.array_equal(truth.roles, miniature.read_truth(twins["v2"], b.id).roles)
        assert truth.roles.shape == (48, 64, 96)
        a, b = read_clip(a.path), read_clip(b.path)
        assert a.frames.shape == b.frames.shape == (16, 64, 96, 3)
        assert np.allclose(a.times, b.times, atol=0.001)
        assert np.abs(a.frames.astype(int) - b.frames).mean() < 8  # what JPEG and VP9 take away


def test_first_layout_is_to_the_letter_and_goes_on(twins):
    root, clip_id = twins["v1"], miniature.identity("test", 0)
    folder = root / "20bn-something-something-v1"
    names = [f"{number:05}.jpg" for number in range(1, 49)]
    assert sorted(path.name for path in (folder / clip_id).iterdir()) == names
    assert len(list(folder.iterdir())) == 10 and not (root / "videos").exists()
    picture = (folder / clip_id / names[0]).read_bytes()
    (root / "truth" / f"{clip_id}.npz").unlink()
    (folder / clip_id / names[0]).unlink()
    labels = root / "labels" / "something-something-v1-labels.csv"
    labels.unlink()
    miniature.write(root, clips=10, seed=5, size=(96, 64), layout="v1")
    assert (folder / clip_id / names[0]).read_bytes() == picture
    assert labels.is_file() and not list(root.rglob(".*"))
    with pytest.raises(ValueError, match="remove it or name another folder"):
        miniature.write(root, clips=10, seed=5, size=(96, 64), layout="v2")
    assert json.loads((root / "miniature.json").read_text())["size"] == [96, 64]


def test_sizes_and_layouts_that_cannot_be(tmp_path, monkeypatch, capsys):
    for size in (31, 241, (64, 96), (160, 64), (400, 240)):
        with pytest.raises(ValueError, match=r"32x32 to 320x240 pixels"):
            miniature.write(tmp_path / "mini", size=size)
    with pytest.raises(ValueError, match="'v3': choose one of v1, v2"):
        miniature.write(tmp_path / "mini", layout="v3")
    for clips in (0, -5, 125_001):  # that many would give a video of validation the id of another
        with pytest.raises(ValueError, match=f"{clips} clips: must be from 1 to 125000"):
            miniature.write(tmp_path / "mini", clips)
    assert not (tmp_path / "mini").exists()
    assert _size("128") == (128, 128) and _size("320x240") == (320, 240)
    monkeypatch.setattr("sys.argv", ["miniature", str(tmp_path / "mini"), "--size", "12 by 9"])
    with pytest.raises(SystemExit):
        main()
    assert "'12 by 9': write a side or both, as 128 or 320x240" in capsys.readouterr().err


def test_small_pictures_do_not_alias():
    """A fine chequered picture shown at a fifth of its size is grey, not a pattern."""
    squares = np.indices((100, 100)).sum(0) % 2 * 255
    picture = drawing.Image.fromarray(squares.astype(np.uint8)).convert("RGB")
    shown, _ = drawing.place(picture, drawing.affine(0, 0, 0.2), (20, 20))
    assert 120 < np.asarray(shown).min() and np.asarray(shown).max() < 135


@pytest.mark.parametrize("content", ["", "{", "[" * 9])
def test_a_card_that_is_not_whole_is_named(tmp_path, content):
    (tmp_path / "miniature.json").write_text(content)
    with pytest.raises(ValueError, match="miniature.json: not whole .* remove it to draw again"):
        miniature.write(tmp_path, 10)


def test_a_truth_that_is_cut_is_named(tmp_path):
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "7.npz").write_bytes(b"PK no")
    with pytest.raises(ValueError, match="7.npz: not a whole truth .*; remove it, draw again"):
        read_truth(tmp_path, "7")
