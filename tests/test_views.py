"""What an epoch shows: always the same for a seed, and always under the right class."""

import numpy as np
import pytest
from torch.utils.data import DataLoader

from lib.data.cache import build_cache
from lib.data.something import Item, SomethingSomething
from lib.data.video import Crop, read_clip, square
from lib.data.views import Views, Windows
from lib.data.write import write_video
from lib.miniature.dataset import write_annotations, write_frames

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
    write_annotations(tmp_path, {"train": items, "validation": []}, [RIGHT, LEFT, FOLD])
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


def pack_as(form, data):
    """The same dataset as videos, folders of JPEGs or zips of them."""
    if form == "videos":
        return data.root
    if form == "zips":
        build_cache(data.root, data.root / "small", 32)
        return data.root / "small"
    for item in data.items:
        write_frames(data.root / "first/videos" / item.id, read_clip(item.path, 60, 12).frames)
    splits = {"train": data.items, "validation": []}
    write_annotations(data.root / "first", splits, data.classes, "v1")
    return data.root / "first"


@pytest.mark.parametrize("form", ["videos", "folders", "zips"])
def test_without_a_size_frames_and_label_are_mirrored_together(data, form):
    (data.root / "first/videos").mkdir(parents=True)
    whole = SomethingSomething(pack_as(form, data), "train", frames=8)
    assert whole.items[0].path.suffix == {"videos": ".webm", "folders": "", "zips": ".zip"}[form]
    seen = set()
    for epoch in range(8):
        views = Views(whole).epoch(epoch)
        for i, label in enumerate((0, 1, 2)):
            (frames, shown), view = views[i], views.view(i)
            flipped = frames[-1, :, :4].mean() > frames[-1, :, -4:].mean()
            assert flipped == view.crop.mirrored
            assert shown == view.class_index == ({0: 1, 1: 0, 2: 2}[label] if flipped else label)
            side = int(view.crop.side * 32)
            assert frames.shape == (8, side, side, 3)
            seen.add(flipped)
    assert seen == {True, False}
    assert Windows(whole, 2)[0][0].shape == (8, 32, 36, 3)


def test_the_mirror_image_is_found_by_template_not_by_name_of_the_class(data):
    gathered = {"One way": [RIGHT], "The other way": [LEFT], "Neither": [FOLD]}
    views = [Views(SomethingSomething(data.root, "train", gathered)).epoch(e) for e in range(20)]
    found = {i: {(v.view(i).crop.mirrored, v.view(i).class_index) for v in views} for i in range(3)}
    assert found == {
        0: {(False, 0), (True, 1)}, 1: {(False, 1), (True, 0)}, 2: {(False, 2), (True, 2)},
    }  # fmt: skip
    both = {"Sideways": [RIGHT, LEFT], "Neither": [FOLD]}
    views = [Views(SomethingSomething(data.root, "train", both)).epoch(e) for e in range(20)]
    assert {(v.view(0).crop.mirrored, v.view(0).class_index) for v in views} == {
        (False, 0), (True, 0),
    }  # fmt: skip


def test_windows_go_from_the_beginning_to_the_end(data):
    windows = Windows(data, 3)
    assert len(windows) == 36
    first = [windows[j][0][0].max() for j in range(3)]
    assert first[0] < first[1] < first[2]
    assert np.array_equal(Windows(data)[4][0], data[4][0]) and windows[7][1] == 2
    assert np.array_equal(windows[1][0], data[0][0])
    with pytest.raises(ValueError, match="windows=0: must be at least 1"):
        Windows(data, 0)


def test_a_crop_is_the_part_asked_for():
    frames = np.arange(40 * 60, dtype=np.float64).reshape(1, 40, 60, 1).repeat(3, 3)
    assert Crop().of(frames).shape == (1, 40, 40, 3) and Crop().of(frames)[0, 0, 0, 0] == 10
    corner = Crop(0.5, 1, 1).of(frames)[0, :, :, 0]
    assert corner.shape == (20, 20) and corner[-1, -1] == frames.max()
    assert Crop(0.5, 1, 1, mirrored=True).of(frames)[0, -1, 0, 0] == frames.max()
    grey = np.full((2, 40, 60, 3), 7, np.uint8)
    assert (square(grey, 8, Crop(0.7, 0.2, 0.9)) == 7).all()
