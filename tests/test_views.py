"""What an epoch shows: always the same for a seed, and always under the right class."""

import numpy as np
import pytest
from torch.utils.data import DataLoader

from lib.data.something import Item, SomethingSomething, write_annotations
from lib.data.video import Crop, square
from lib.data.views import Views, Windows
from lib.data.write import write_video

RIGHT, LEFT = "Moving [something] from left to right", "Moving [something] from right to left"
OPEN, FOLD = "Opening [something]", "Folding [something]"


@pytest.fixture
def data(tmp_path):
    """Five seconds each: the left half is dark, the right half brightens from frame to frame."""
    (tmp_path / "videos").mkdir()
    items = []
    for i, name in enumerate([RIGHT, LEFT, FOLD] * 4):
        frames = np.zeros((60, 32, 36, 3), np.uint8)
        frames[:, :, 18:] = (60 + 3 * np.arange(60))[:, None, None, None]
        path = tmp_path / "videos" / f"{i}.webm"
        write_video(path, frames, 12)
        items.append(Item(str(i), path, name, "", ["box"], 0))
    write_annotations(tmp_path, {"train": items, "validation": items[:1]}, [RIGHT, LEFT, FOLD])
    return SomethingSomething(tmp_path, "train", size=16, frames=8)


def test_a_view_follows_from_seed_epoch_and_place(data):
    one, again = Views(data, seed=1).epoch(3), Views(data, seed=1).epoch(3)
    assert [one.view(i) for i in range(12)] == [again.view(i) for i in range(12)]
    assert np.array_equal(one[2][0], again[2][0])
    others = [Views(data, seed=2).epoch(3), Views(data, seed=1).epoch(4)]
    assert all(other.view(2) != one.view(2) for other in others)
    assert len({one.view(i).at for i in range(12)}) == 12
    frames, labels = next(iter(DataLoader(one, 4, num_workers=1)))
    assert frames.shape == (4, 8, 16, 16, 3) and labels[0] == one.view(0).class_index


def test_left_and_right_change_places_in_the_mirror(data):
    views = [(Views(data).epoch(e), i) for i in (0, 1, 2) for e in range(9)]
    for epoch, i in views:
        (frames, shown), label = epoch[i], data.items[i].class_index
        flipped = frames[-1, :, :4].mean() > frames[-1, :, -4:].mean()
        assert flipped == epoch.view(i).crop.mirrored
        assert shown == ({0: 1, 1: 0, 2: 2}[label] if flipped else label)
    assert {epoch.view(i).crop.mirrored for epoch, i in views} == {True, False}
    off = Views(data, mirror=False)
    assert not any(off.epoch(e).view(0).crop.mirrored for e in range(20))


def test_a_class_whose_mirror_image_is_missing_is_not_mirrored(data):
    only = SomethingSomething(data.root, "train", [RIGHT, FOLD], size=16)
    views = Views(only)
    sides = {i: {views.epoch(e).view(i).crop.mirrored for e in range(20)} for i in range(2)}
    assert [item.class_index for item in only.items[:2]] == [0, 1]
    assert sides == {0: {False}, 1: {True, False}}


def test_windows_go_from_the_beginning_to_the_end(data):
    windows = Windows(data, 3)
    assert len(windows) == 36
    first = [windows[j][0][0].max() for j in range(3)]
    assert first[0] < first[1] < first[2]
    assert np.array_equal(Windows(data)[4][0], data[4][0]) and windows[7][1] == 2
    assert np.array_equal(windows[1][0], data[0][0])


def test_a_crop_is_the_part_asked_for():
    frames = np.arange(40 * 60, dtype=np.float64).reshape(1, 40, 60, 1).repeat(3, 3)
    assert Crop().of(frames).shape == (1, 40, 40, 3) and Crop().of(frames)[0, 0, 0, 0] == 10
    corner = Crop(0.5, 1, 1).of(frames)[0, :, :, 0]
    assert corner.shape == (20, 20) and corner[-1, -1] == frames.max()
    assert Crop(0.5, 1, 1, mirrored=True).of(frames)[0, -1, 0, 0] == frames.max()
    grey = np.full((2, 40, 60, 3), 7, np.uint8)
    assert (square(grey, 8, Crop(0.7, 0.2, 0.9)) == 7).all()
