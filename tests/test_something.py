import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from lib.data import cache
from lib.data import check as check_command
from lib.data.arguments import GOES_ON, KILLED, STOPPED
from lib.data.cache import build_cache
from lib.data.check import check, main
from lib.data.labels import CLASSES_10, CLASSES_40, GATHERED, class_set
from lib.data.something import Item, SomethingSomething, assign_split
from lib.data.write import write_video
from lib.evaluation import __main__ as evaluation
from lib.evaluation import command as clips_of_command
from lib.miniature import __main__ as miniature
from lib.miniature.dataset import write_annotations, write_frames
from lib.model import networks
from lib.training import __main__ as training

CLASSES = ["Opening [something]", "Closing [something]", "Holding [something] next to [something]"]
HERE = Path(__file__).parents[1]
SPLITS = {"train": ["7", "8", "9"], "validation": ["10"], "test": ["11", "12"]}
LEVELS = {"7": 70, "8": 80, "9": 90, "10": 100, "11": 110, "12": 120}  # each clip's grey


@pytest.fixture
def root(tmp_path):
    """A dataset of six grey clips; class of clip i is i % 3."""
    (tmp_path / "videos").mkdir()
    for name, level in LEVELS.items():
        frames = np.full((12, 32, 48, 3), level, np.uint8)
        write_video(tmp_path / "videos" / f"{name}.webm", frames, 6)
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


def test_ids_may_be_numbers(root):
    """In JSON; answers and files have their digits."""
    labels = root / "labels"
    for split in SPLITS:
        path = labels / f"something-something-v2-{split}.json"
        entries = [entry | {"id": int(entry["id"])} for entry in json.loads(path.read_text())]
        if split == "test":
            entries = [{"id": entry["id"]} for entry in entries]
        path.write_text(json.dumps(entries))
    answers = "11;Holding something next to something\n12;Opening something\n"
    (labels / "something-something-v2-test-answers.csv").write_text(answers)
    for split, ids in SPLITS.items():
        data = SomethingSomething(root, split)
        assert [(item.id, item.class_index) for item in data.items] == [
            (name, int(name) % 3) for name in ids
        ]
    everything = [SomethingSomething(root, split, resplit=3).items for split in SPLITS]
    assert {item.id for items in everything for item in items} == set(LEVELS)
    assert troubles(check(root)) == set()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_damage(root, encoding):
    for path in (root / "labels").iterdir():
        path.write_text(path.read_text(encoding="utf-8"), encoding=encoding)
    data = SomethingSomething(root, "train")
    assert data.classes == CLASSES and [item.id for item in data.items] == SPLITS["train"]
    assert troubles(check(root)) == set()


def test_no_classes_are_not_all_of_them(root):
    for empty in ([], {}, (), iter([])):
        for read in (lambda c: SomethingSomething(root, "train", c), lambda c: check(root, c)):
            with pytest.raises(ValueError, match=r"classes=\[\]: name at least one"):
                read(empty)
    some = iter(CLASSES[:2])
    assert SomethingSomething(root, "train", some).classes == CLASSES[:2]


def test_a_template_in_two_classes_is_refused(root):
    for twice in ({"Lids": CLASSES[:2], "Others": CLASSES[1:]}, [CLASSES[1], CLASSES[1]]):
        with pytest.raises(ValueError, match="'Closing something' is in two of them"):
            SomethingSomething(root, "train", twice)


def test_a_clip_knows_its_class(root):
    data = SomethingSomething(root, "train", {"Lids": CLASSES[:2]}, frames=4, size=16)
    clip = data.clip(1)
    assert clip.label == "Lids" and clip.frames.shape == (4, 16, 16, 3) and clip.mask is None
    assert np.array_equal(clip.frames, data[1][0])
    assert data.clip(0, frames=2, size=None, start=0).frames.shape == (2, 32, 48, 3)


FIRST = {  # the first release, its lines as they are in it
    "labels": "Holding something\nTurning something upside down\n"
    "Lifting up one end of something, then letting it drop down\n"
    "Poking something so lightly that it doesn't or almost doesn't move\n",
    "train": "100218;Lifting up one end of something, then letting it drop down\n"
    "24413;Holding something\n",
    "validation": "7;Poking something so lightly that it doesn't or almost doesn't move\n",
    "test": "8\n9\n",
}


@pytest.fixture
def first(tmp_path):
    """Clips of 13 grey frames each, a level brighter from frame to frame, as the release has it."""
    for name, lines in FIRST.items():
        (tmp_path / f"something-something-v1-{name}.csv").write_text(lines)
    for clip in ("100218", "24413", "7", "8", "9"):
        folder = tmp_path / "20bn-something-something-v1" / clip
        folder.mkdir(parents=True)
        for number in range(1, 14):
            Image.new("RGB", (42, 24), (10 * number,) * 3).save(folder / f"{number:05}.jpg")
    return tmp_path


def test_first_release(first):
    data = SomethingSomething(first, "train", frames=5, size=16)
    assert data.release == "v1" and data.classes == FIRST["labels"].splitlines()
    assert [(item.id, item.class_index) for item in data.items] == [("100218", 2), ("24413", 0)]
    item = data.items[0]
    assert item.template == item.caption == data.classes[2] and item.placeholders == []
    assert item.path == first / "20bn-something-something-v1" / "100218"
    frames, index = data[1]
    assert frames.shape == (5, 16, 16, 3) and index == 0
    assert np.abs(frames.mean((1, 2, 3)) - [10, 40, 70, 100, 130]).max() < 2
    assert data.clip(0, frames=2, size=None).frames.shape == (2, 24, 42, 3)
    chosen = ["Never [seen]", "Holding [something]"]
    data = SomethingSomething(first, "train", classes=chosen)
    assert data.classes == chosen
    assert [(item.id, item.class_index) for item in data.items] == [("24413", 1)]


def test_first_release_says_what_is_missing(first):
    with pytest.raises(FileNotFoundError, match="v1-test-answers.csv is missing"):
        SomethingSomething(first, "test")
    answers = first / "something-something-v1-test-answers.csv"
    answers.write_text("8;Holding something\n9;Turning something upside down\n")
    assert [item.class_index for item in SomethingSomething(first, "test").items] == [0, 1]
    shutil.rmtree(first / "20bn-something-something-v1" / "24413")
    with pytest.raises(FileNotFoundError, match="1 of the 2 videos of train are missing, 24413 "):
        SomethingSomething(first, "train")
    train = first / "something-something-v1-train.csv"
    train.write_text("100218;Holding something\n24413\n")  # cut short
    with pytest.raises(ValueError, match="lacks the template '' of video 24413"):
        SomethingSomething(first, "train")
    train.unlink()
    with pytest.raises(FileNotFoundError, match="v1-train.csv is missing; looked for"):
        SomethingSomething(first, "train")


def test_two_releases_in_one_folder(root, first):
    with pytest.raises(ValueError, match="both releases are there; give each a folder"):
        SomethingSomething(root, "train")
    for path in root.rglob("*labels.*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="neither .*v1-labels.csv nor .*v2-labels.json"):
        SomethingSomething(root, "train")


def test_annotations_of_the_first_release(root, tmp_path):
    items = SomethingSomething(root, "train").items
    write_annotations(tmp_path / "v1", {"train": items, "validation": []}, CLASSES, layout="v1")
    written = {path.name: path.read_text() for path in (tmp_path / "v1" / "labels").iterdir()}
    assert written == {
        "something-something-v1-labels.csv": "Opening something\nClosing something\n"
        "Holding something next to something\n",
        "something-something-v1-train.csv": "7;Closing something\n"
        "8;Holding something next to something\n9;Opening something\n",
        "something-something-v1-validation.csv": "",
    }


def test_a_class_gathers_templates(root):
    gathered = {"Lids": CLASSES[:2], "Others": CLASSES[2:]}
    data = SomethingSomething(root, "train", gathered)
    assert data.classes == ["Lids", "Others"]
    assert [(item.id, item.class_index) for item in data.items] == [("7", 0), ("8", 1), ("9", 0)]
    assert data.items[0].template == "Closing [something]"  # what it was filmed for
    report = check(root, {"Lids": CLASSES[:2]})
    assert report.clips["train"] == {"Lids": 2} and report.clips["validation"] == {"Lids": 1}


def test_a_class_without_a_clip_is_counted(root):
    report = check(root, ["Opening [something]", "Holding [something] next to [something]"],
                   ["validation"])  # fmt: skip
    assert report.clips["validation"]["Opening [something]"] == 0
    assert "0 or more of each" in report.summary()


def test_the_published_sets_of_classes():
    forty, ten = class_set("40"), class_set("10")
    assert list(forty) == CLASSES_40 and list(ten) == CLASSES_10 and class_set("174") is None
    assert set(ten) < set(forty) and all(forty[name] == ten[name] for name in ten)
    templates = [name for names in forty.values() for name in set(names)]
    assert len(templates) == len(set(templates))  # none in two classes
    gathered = [name for names in GATHERED.values() for name in names]
    assert len(gathered) == 41  # of the 174, as published
    with pytest.raises(ValueError, match="choose 174, 40 or 10"):
        class_set("41")


def test_split_anew(root):
    ids = [str(number) for number in range(4000)]
    shares = Counter(assign_split(name, 0) for name in ids)
    assert shares["train"] == pytest.approx(3200, abs=100)
    assert shares["validation"] == pytest.approx(400, abs=70) == shares["test"]
    assert [assign_split(name, 0) for name in "012"] == ["train", "validation", "train"]
    assert sum(assign_split(name, 0) != assign_split(name, 1) for name in ids) > 1000
    found = {}
    for split in SPLITS:  # six clips: a seed that leaves no split empty
        data = SomethingSomething(root, split, resplit=3)
        found |= {item.id: split for item in data.items}
        assert all(assign_split(item.id, 3) == split for item in data.items)
    assert set(found) == set(LEVELS)


def test_labels_kept_back_are_not_assign_split(first):
    every = [SomethingSomething(first, split, resplit=17) for split in SPLITS]
    assert {item.id for data in every for item in data.items} == {"100218", "24413", "7"}


def troubles(report):
    return {(t.id, t.kind) for t in report.troubles}


def test_a_whole_dataset_passes_the_check(root):
    # 12 frames of 1/6 s last 2 s: 9 of the 16 frames of a clip are its own
    report = check(root)
    assert troubles(report) == set() and report.ends_early == 6
    assert report.clips["train"] == {name.replace("[", "").replace("]", ""): 1 for name in CLASSES}
    assert sum(report.clips["test"].values()) == 2
    assert "nothing is wrong" in report.summary()


def test_the_check_names_every_trouble(root):
    (root / "videos/7.webm").unlink()
    (root / "videos/8.webm").write_bytes((root / "videos/8.webm").read_bytes()[:300])
    write_video(root / "videos/9.webm", np.zeros((2, 32, 48, 3), np.uint8), 12)
    train = root / "labels/something-something-v2-train.json"
    entries = json.loads(train.read_text())
    entries.append(entries[0] | {"id": "99", "template": "Juggling [something]"})
    entries.append(entries[0] | {"id": "n" * 300})  # no disk has such a name
    train.write_text(json.dumps(entries))
    report = check(root, splits=["train"])
    assert troubles(report) == {
        ("7", "missing"), ("8", "unreadable"), ("9", "too short"), ("99", "unlabelled"),
        ("n" * 300, "missing"),
    }  # fmt: skip
    assert sum(report.clips["train"].values()) == 0
    text = report.summary()
    assert "8.webm" in text and "Juggling [something]" in text and "nothing is wrong" not in text


def test_the_check_reads_each_split_asked_for(root):
    every = check(root)
    report = check(root, splits=(split for split in SPLITS))
    assert report == every and sum(map(sum, map(dict.values, report.clips.values()))) == 6
    assert check(root, splits=iter(["test"])).clips == {"test": every.clips["test"]}
    for wrong in ([], iter([]), ["val"], "train"):
        with pytest.raises(ValueError, match=r"splits=\[.*choose from train, validation, test"):
            check(root, splits=wrong)


def test_the_check_names_videos_that_are_there_twice(root):
    train = root / "labels/something-something-v2-train.json"
    entries = json.loads(train.read_text())
    train.write_text(json.dumps([*entries, entries[0], entries[1] | {"id": 11}]))
    report = check(root)
    assert [(t.split, t.kind, t.what) for t in report.troubles] == [
        (train.name, "annotation", "entry 4: id 7 is in train already"),
        ("something-something-v2-test.json", "annotation", "entry 1: id 11 is in train already"),
    ]


V2 = "labels/something-something-v2-{}.json"
WHOLE = {"id": "99", "template": CLASSES[0], "label": "", "placeholders": []}


@pytest.mark.parametrize("name, content, told", [
    ("train", {"7": "potato"}, ["holds a dict; a list is needed"]),
    ("train", None, ["holds a NoneType; a list is needed"]),
    ("train", b"", ["not whole JSON (Expecting value: line 1 column 1"]),
    ("train", b"[" * 100_000, ["not whole JSON (maximum recursion depth exceeded"]),
    ("train", b'[{"id": "1", "id": "2"}]', ["not whole JSON ('id' twice); copy or draw it again"]),
    ("train", b'[\n{"id": "1",\n "label": "caf\xe9"}]', ["line 3: not in UTF-8; save"]),
    ("train", [WHOLE, {"template": CLASSES[0]}, 5, None, WHOLE | {"id": ""}, WHOLE], [
        "entry 2: has no id", "entry 3: has no id", "entry 4: has no id", "entry 5: has no id",
        "entry 6: id 99 is in train already"]),
    ("train", [WHOLE | {"id": True}, WHOLE | {"id": 1.5}, WHOLE | {"id": ["1"]}], [
        "entry 1: id True is neither a text nor a whole number",
        "entry 2: id 1.5 is neither a text nor a whole number",
        "entry 3: id ['1'] is neither a text nor a whole number"]),
    ("train", [WHOLE | {"template": None}, WHOLE | {"label": 5}, WHOLE | {"placeholders": "x"}], [
        "entry 1: template None is no text", "entry 2: label 5 is no text",
        "entry 3: placeholders 'x' are no list of texts"]),
    ("labels", list(CLASSES), ["holds a list; a dict is needed", "names no template"]),
    ("labels", {"Opening something": "first", "Closing something": None}, [
        "'Opening something': its number is 'first', not a whole number",
        "'Closing something': its number is None, not a whole number"]),
    ("labels", {"Opening something": "1", "Closing something": 1, "Opening [something]": 2}, [
        "'Closing something': the template or its number is there twice",
        "'Opening [something]': the template or its number is there twice"]),
    ("labels", {}, ["names no template"]),
])  # fmt: skip
def test_a_run_names_the_first_fault_of_an_annotation_file_and_the_check_all(
    root, name, content, told
):
    path = root / V2.format(name)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(ValueError) as refused:
        SomethingSomething(root, "train")
    assert str(refused.value).startswith(f"{path}: {told[0]}")
    assert f"`python -m lib.data.check {root}` lists all faults" in str(refused.value)
    found = [t.what for t in check(root).troubles if t.kind == "annotation"]
    assert [what[: len(start)] for what, start in zip(found, told, strict=True)] == told


@pytest.mark.parametrize("bad", [
    "../out", "/abs/x", "..", ".", "a/b", "C:x", "\\\\host\\x", "..\\out", "a\0b", "a\nb",
])  # fmt: skip
def test_an_id_never_leaves_the_folder_of_the_videos(root, tmp_path, bad):
    (root / V2.format("train")).write_text(json.dumps([WHOLE | {"id": bad}]))
    for read in (
        lambda: SomethingSomething(root, "train", CLASSES),
        lambda: build_cache(root, tmp_path / "cache"),
    ):
        with pytest.raises(ValueError, match=r"train\.json: entry 1: id .* is no name of a file"):
            read()
    assert not (tmp_path / "cache").exists()


def test_a_split_opens_its_own_file_alone(root):
    for name in "train", "test":
        (root / V2.format(name)).write_text("no JSON")
    assert len(SomethingSomething(root, "validation", CLASSES)) == len(SPLITS["validation"])
    with pytest.raises(ValueError, match=r"train\.json: not whole JSON"):
        SomethingSomething(root, "train", CLASSES)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ["training", "evaluation"])
def test_a_damaged_clip_ends_a_run_in_a_line(root, name, workers, monkeypatch, capsys):
    (root / "videos/8.webm").write_bytes(b"no video")
    network = networks.build("default", CLASSES, imagenet=False)
    networks.save(network, root / "w.safetensors")
    own = {"training": ["--folder", "run", "--epochs", "1"]}
    own["evaluation"] = ["--weights", "w.safetensors", "--split", "train"]
    for module in training, clips_of_command:
        monkeypatch.setattr(module, "class_set", lambda name: CLASSES)
    arguments = [name, "--data", str(root), "--workers", str(workers), *own[name]]
    monkeypatch.setattr("sys.argv", arguments)
    monkeypatch.chdir(root)
    with pytest.raises(SystemExit) as stop:
        {"training": training, "evaluation": evaluation}[name].main()
    *_, said = re.split(r"[\r\n]+", capsys.readouterr().err.strip())
    damaged = f"{root}/videos/8.webm: not a video, or damaged"
    assert stop.value.code == 2 and said.strip().startswith(damaged)
    assert not (root / "run/weights.safetensors").exists()


def test_an_id_for_training_and_validation_is_refused(root, monkeypatch, tmp_path, capsys):
    twice = json.dumps([WHOLE | {"id": 7}])
    (root / V2.format("validation")).write_text(twice)
    with pytest.raises(ValueError, match=r"validation\.json: entry 1: id 7 is in train already"):
        SomethingSomething(root, "train")  # for all classes it reads both
    monkeypatch.setattr(training, "class_set", lambda name: CLASSES)
    arguments = ["training", "--data", str(root), "--folder", str(tmp_path / "run")]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as stop:
        training.main()
    said = capsys.readouterr().err
    assert stop.value.code == 2 and f"{root}: video 7 is in train and in validation" in said


@pytest.mark.parametrize("name, content, told", [
    ("train", b"7;Holding something\n  \n;Holding something\n../x;Holding something\n", [
        "line 3: has no id", "line 4: id '../x' is no name of a file in the folder of the videos"]),
    ("train", b"7;Holding something\n8;caf\xe9\n", [
        "line 2: not in UTF-8; save the file in UTF-8"]),
    ("labels", b"Holding something\nHolding something\n", [
        "line 2: the template or its number is there twice"]),
    ("test-answers", b"8\n9;Holding something\n9;Holding something\n", [
        "line 1: not ID;TEMPLATE, or the id is there twice",
        "line 3: not ID;TEMPLATE, or the id is there twice"]),
])  # fmt: skip
def test_faults_of_the_first_release(first, name, content, told):
    (first / "something-something-v1-test-answers.csv").write_text("8;Holding something\n")
    path = first / f"something-something-v1-{name}.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError) as refused:
        SomethingSomething(first, "test")
    assert str(refused.value).startswith(f"{path}: {told[0]}")
    found = check(first).troubles
    assert [t.what for t in found if t.kind == "annotation" and t.split == path.name] == told


def test_the_check_of_some_classes_passes_over_the_others(root):
    (root / "videos/7.webm").unlink()  # Closing
    report = check(root, classes=CLASSES[2:])
    assert troubles(report) == set() and sum(report.clips["train"].values()) == 1


def test_the_check_reads_folders_of_frames(tmp_path):
    folder = tmp_path / "20bn-something-something-v1"
    folder.mkdir()
    for name, count in ("1", 48), ("2", 6):
        write_frames(folder / name, np.full((count, 24, 32, 3), 90, np.uint8))
    items = [Item(name, folder / name, CLASSES[0], "", [], 0) for name in "12"]
    write_annotations(tmp_path, {"train": items}, CLASSES, layout="v1")
    report = check(tmp_path, splits=["train"])
    assert troubles(report) == {("2", "too short")} and report.ends_early == 0


@pytest.mark.parametrize("command", [check_command, cache, miniature])
@pytest.mark.parametrize("value", ["0", "-1", "62", "two", "1.5", ""])
def test_a_wrong_number_of_processes_is_one_line(root, command, value, monkeypatch, capsys):
    folders = [str(root), str(root / "new")][: 2 if command is cache else 1]
    monkeypatch.setattr("sys.argv", ["command", *folders, f"--workers={value}"])
    with pytest.raises(SystemExit) as stop:
        command.main()
    *_, said = capsys.readouterr().err.splitlines()
    wrong = "must be from 1 to 61" if value.lstrip("-").isdecimal() else "invalid number value"
    assert stop.value.code == 2 and "argument --workers: " in said and wrong in said


def test_check_as_a_command(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["check", str(root), "--workers", "1"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code and "nothing is wrong" in capsys.readouterr().out
    (root / "videos/11.webm").unlink()
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code and "missing: test 11: " in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["check", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2 and "nowhere: no such folder" in capsys.readouterr().err


COMMANDS = {
    "lib.data.check": ["ROOT", "--workers", "2"],
    "lib.data.cache": ["ROOT", "ROOT/new", "--workers", "2"],
    "lib.miniature": ["ROOT/drawn", "--clips", "400", "--size", "32", "--workers", "2"],
}


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize(
    "name, how",
    [(name, "Ctrl-C") for name in COMMANDS]
    + [("lib.data.check", how) for how in ("SIGTERM", "SIGKILL", "a process killed")],
)
def test_stopped_at_work_it_says_a_line_and_leaves_no_process(many, name, how):
    arguments = [x.replace("ROOT", str(many)) for x in COMMANDS[name]]
    command = [sys.executable, "-m", name, *arguments]
    heeded = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # also behind a nohup
    how_run = dict(stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=HERE)
    run = subprocess.Popen(command, preexec_fn=heeded, **how_run)
    while len(workers := children(run.pid)) < 2 and run.poll() is None:
        time.sleep(0.02)
    time.sleep(0.3)
    assert run.poll() is None
    if how == "Ctrl-C":
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does
    elif how == "a process killed":
        os.kill(workers[-1], signal.SIGKILL)
    else:
        run.send_signal(getattr(signal, how))
    said = run.communicate(timeout=60)[1]  # which ends when no process has it open
    code, line = {
        "SIGKILL": (-signal.SIGKILL, "clip"),
        "a process killed": (2, KILLED),
    }.get(how, (130, STOPPED if name == "lib.data.check" else GOES_ON))
    assert run.returncode == code and line in said.splitlines()[-1] and "Traceback" not in said


def children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def many(root):
    """The same with 900 clips more, links to the first."""
    items = {split: [_item(root, name) for name in names] for split, names in SPLITS.items()}
    for number in range(1000, 1900):
        (root / "videos" / f"{number}.webm").symlink_to("7.webm")
        items["train"].append(replace(items["train"][0], id=str(number)))
    write_annotations(root, items, CLASSES)
    return root
