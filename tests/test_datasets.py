import json
import shutil

import numpy as np
import pytest
from torch.utils.data import DataLoader

from lib.datasets import Item, SomethingSomething, write_annotations
from lib.video import write_video

CLASSES = ["Opening [something]", "Closing [something]", "Holding [something] next to [something]"]
SPLITS = {"train": ["7", "8", "9"], "validation": ["10"], "test": ["11", "12"]}
LEVELS = {"7": 70, "8": 80, "9": 90, "10": 100, "11": 110, "12": 120}  # each clip's grey


@pytest.fixture
def root(tmp_path):
    """A dataset of six grey clips; class of clip i is i % 3."""
    (tmp_path / "videos").mkdir()
    for name, level in LEVELS.items():
        frames = np.full((12, 32, 48, 3), level, np.uint8)
        write_video(tmp_path / "videos" / f"{name}.webm", frames, 12)
    items = {split: [_item(tmp_path, name) for name in names] for split, names in SPLITS.items()}
    write_annotations(tmp_path, items, CLASSES)
    return tmp_path


def _item(root, name):
    index = int(name) % 3
    things = ["potato", "box"][: CLASSES[index].count("[something]")]
    label = CLASSES[index].lower().replace("[something]", "{}").format(*things)
    path = root / "videos" / f"{name}.webm"
    return Item(name, path, CLASSES[index], label, things, index)


def test_annotations_are_those_of_the_release(root):
    labels = json.loads((root / "labels/something-something-v2-labels.json").read_text())
    assert labels == {
        "Opening something": "0",
        "Closing something": "1",
        "Holding something next to something": "2",
    }
    train = json.loads((root / "labels/something-something-v2-train.json").read_text())
    assert train[1] == {
        "id": "8",
        "label": "holding potato next to box",
        "template": "Holding [something] next to [something]",
        "placeholders": ["potato", "box"],
    }
    assert len(list((root / "labels").iterdir())) == 4


@pytest.mark.parametrize("split", SPLITS)
def test_reads_what_was_written(root, split):
    data = SomethingSomething(root, split, size=24)
    assert data.items == [_item(root, name) for name in SPLITS[split]]
    assert data.classes == CLASSES
    frames, index = data[0]
    assert frames.shape == (16, 24, 24, 3) and frames.dtype == np.uint8
    assert index == int(SPLITS[split][0]) % 3
    assert frames.mean() == pytest.approx(LEVELS[SPLITS[split][0]], abs=3)
    assert repr(data) == f"SomethingSomething({split}: {len(SPLITS[split])} clips, 3 classes)"


def test_feeds_a_loader(root):
    data = SomethingSomething(root, "train", frames=4, size=16)
    frames, labels = next(iter(DataLoader(data, batch_size=3)))
    assert frames.shape == (3, 4, 16, 16, 3) and labels.tolist() == [1, 2, 0]


def test_chosen_classes_number_the_clips(root):
    chosen = ["Holding [something] next to [something]", "Opening [something]", "Never [seen]"]
    data = SomethingSomething(root, "train", classes=chosen)
    assert data.classes == chosen
    assert [(item.id, item.class_index) for item in data.items] == [("8", 0), ("9", 1)]
    with pytest.raises(ValueError, match="no video of train"):
        SomethingSomething(root, "train", classes=["Never [seen]"])


@pytest.mark.parametrize("videos", ["20bn-something-something-v2", "videos/release"])
def test_layout_of_the_release(root, videos):
    """JSON in the root, without the prefix; ids alone in test, the answers beside them."""
    folder = root / videos.replace("release", "20bn-something-something-v2")
    moved = shutil.move(root / "videos", root / "moved")
    folder.parent.mkdir(exist_ok=True)
    shutil.move(moved, folder)
    for path in (root / "labels").iterdir():
        path.rename(root / path.name.removeprefix("something-something-v2-"))
    (root / "test.json").write_text(json.dumps([{"id": "11"}, {"id": "12"}]))
    with pytest.raises(FileNotFoundError, match="test-answers.csv is missing"):
        SomethingSomething(root, "test")
    answers = "11;Holding something next to something\n12;Opening something\n"
    (root / "test-answers.csv").write_text(answers)
    data = SomethingSomething(root, "test")
    assert [(item.id, item.class_index) for item in data.items] == [("11", 2), ("12", 0)]
    assert data.items[0].path == folder / "11.webm" and data.items[0].placeholders == []
    assert len(data[0][0]) == 16


def test_errors_name_what_is_missing(root):
    with pytest.raises(ValueError, match="train, validation, test"):
        SomethingSomething(root, "val")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        SomethingSomething(root / "nowhere", "train")
    (root / "videos" / "8.webm").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 3 videos of train.* 8\.webm"):
        SomethingSomething(root, "train")
    shutil.rmtree(root / "videos")
    with pytest.raises(FileNotFoundError, match="no folder of videos"):
        SomethingSomething(root, "validation")
    train = root / "labels" / "something-something-v2-train.json"
    train.write_text(train.read_text()[:-9])
    (root / "videos").mkdir()
    with pytest.raises(ValueError, match=r"train\.json: not whole JSON"):
        SomethingSomething(root, "train")
    train.unlink()
    with pytest.raises(FileNotFoundError, match=r"v2-train\.json is missing; looked for .*labels"):
        SomethingSomething(root, "train")


def test_template_that_the_labels_lack(root):
    labels = root / "labels" / "something-something-v2-labels.json"
    labels.write_text(json.dumps({"Opening something": "0", "Closing something": "1"}))
    with pytest.raises(ValueError, match=r"'Holding \[something\] next to .* video 8"):
        SomethingSomething(root, "train")
