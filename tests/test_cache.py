"""A cached dataset is the dataset, quicker to read."""

import shutil
import sys
from functools import partial

import numpy as np
import pytest
from test_something import root  # noqa: F401  six grey clips of 48x32

from lib.data import cache
from lib.data.check import check
from lib.data.something import SomethingSomething
from lib.data.video import VideoError, read_clip
from lib.data.write import write_video
from lib.miniature.dataset import write_frames


def test_says_the_same_as_the_dataset(root, tmp_path):  # noqa: F811
    folder = tmp_path / "small"
    size = cache.build_cache(root, folder, side=16)
    assert size == sum(path.stat().st_size for path in (folder / "cached").iterdir())
    for split in ("train", "validation", "test"):
        ours = SomethingSomething(folder, split, size=16)
        theirs = SomethingSomething(root, split, size=16)
        assert [i.id for i in ours.items] == [i.id for i in theirs.items]
        assert ours.classes == theirs.classes
        for (a, x), (b, y) in zip(ours, theirs):
            assert x == y and np.abs(a.astype(int) - b).max() <= 3
    assert ours.clip(0, frames=1, size=None).frames.shape == (1, 16, 24, 3)
    assert check(folder).troubles == []


def test_goes_on_where_it_was_stopped(root, tmp_path):  # noqa: F811
    folder = tmp_path / "small"
    broken = root / "videos/12.webm"
    whole = broken.read_bytes()
    broken.write_bytes(b"")
    with pytest.raises(VideoError, match="12.webm: is empty"):
        cache.build_cache(root, folder, side=16)
    with pytest.raises(FileNotFoundError, match="unpack or draw"):  # half made: no dataset yet
        SomethingSomething(folder, "train")
    broken.write_bytes(whole)
    (folder / "cached/.7-0123abcd.zip").touch()  # of a run that was killed
    seven, other = folder / "cached/7.zip", root / "videos/7.webm"
    before = seven.stat().st_mtime_ns
    cache.build_cache(root, folder, side=16)
    assert len(SomethingSomething(folder, "train")) == 3
    assert seven.stat().st_mtime_ns == before and len(list(seven.parent.iterdir())) == 6
    for spoil in partial(seven.write_bytes, b""), partial(shutil.copy, broken, other):
        spoil()
        cache.build_cache(root, folder, side=16)
        assert seven.stat().st_mtime_ns != before  # made again
        before = seven.stat().st_mtime_ns
    same = (read_clip(folder / f"cached/{name}.zip").frames for name in (7, 12))
    assert np.array_equal(*same)
    with pytest.raises(ValueError, match="has frames of another side or dataset; name another"):
        cache.build_cache(root, folder, side=24)
    with pytest.raises(ValueError, match="small: is a cache itself"):
        cache.build_cache(folder, tmp_path / "smaller", side=8)
    with pytest.raises(ValueError, match="is the dataset itself"):
        cache.build_cache(root, root / "videos" / "..", side=8)
    assert not (root / cache.CACHED).exists()


def test_another_dataset_with_the_same_ids_is_refused(root, tmp_path):  # noqa: F811
    folder = tmp_path / "small"
    cache.build_cache(root, folder, side=16)
    labels = (folder / "labels/something-something-v2-train.json").read_bytes()
    train = root / "labels/something-something-v2-train.json"
    train.write_text(train.read_text().replace("Holding", "Dropping"))
    with pytest.raises(ValueError, match="small: has frames of another side or dataset"):
        cache.build_cache(root, folder, side=16)
    assert (folder / "labels/something-something-v2-train.json").read_bytes() == labels


def test_every_frame_is_in_it_once(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (30, 24, 32, 3), np.uint8)
    write_video(tmp_path / "1.webm", frames // 8 * 8, 12)
    write_frames(tmp_path / "2", frames)
    for name in ("1.webm", "2"):
        item = cache.Item(name[0], tmp_path / name, "", "", [], 0)
        cache.pack(item, tmp_path, side=100)  # they are not made larger
        kept = read_clip(tmp_path / f"{name[0]}.zip", 31, 12, start=0)
        assert kept.times[-1] == kept.times[-2] == pytest.approx(29 / 12)
        assert kept.frames.shape == (31, 24, 32, 3)
    middle = read_clip(tmp_path / "1.zip", 4, 4)
    np.testing.assert_allclose(middle.times, read_clip(tmp_path / "1.webm", 4, 4).times, atol=0.01)


def test_a_damaged_zip_is_named(tmp_path):
    (tmp_path / "7.zip").write_bytes(b"PK no")
    with pytest.raises(VideoError, match="7.zip: a damaged zip"):
        read_clip(tmp_path / "7.zip")


def test_as_a_command(root, tmp_path, monkeypatch, capsys):  # noqa: F811
    folder = str(tmp_path / "small")
    monkeypatch.setattr(sys, "argv", ["cache", str(root), folder, "--side", "16", "--workers", "1"])
    cache.main()
    assert "GB of frames" in capsys.readouterr().out
    shutil.rmtree(root / "labels")
    with pytest.raises(SystemExit) as stop:
        cache.main()
    assert stop.value.code == 2 and "labels.json; unpack" in capsys.readouterr().err
