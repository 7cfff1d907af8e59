"""Something-Something v2, and anything laid out like it: .webm videos with JSON annotations."""

import csv
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from torch.utils.data import Dataset

from lib.video import read_clip

SPLITS = ("train", "validation", "test")
PREFIX = "something-something-v2-"  # of the JSON files; some copies of the release go without
VIDEOS = ("20bn-something-something-v2", "videos/20bn-something-something-v2", "videos")


@dataclass(frozen=True)
class Item:
    """One annotated video, such as "holding potato" of the template "Holding [something]"."""

    id: str
    path: Path
    template: str
    label: str
    placeholders: list[str]
    class_index: int


class SomethingSomething(Dataset):
    """One split ("train", "validation", "test") of Something-Something v2 (arXiv 1706.04261).

    An element is `(frames, class_index)`: (T, H, W, 3) uint8 RGB as `read_clip` gives them, square
    with a `size`. With `classes` only items whose template is among them are kept, and the index
    counts in that list; without, `.classes` are the templates in the order of the labels file
    (which writes them without brackets; they are taken from the splits, and a class that none has
    a video of stays without).

    Raises FileNotFoundError for a missing folder, JSON file or video, ValueError for an unknown
    split, a template that the labels file lacks, or classes that leave no video.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        classes: list[str] | None = None,
        frames: int = 16,
        fps: float = 4.0,
        size: int | None = None,
    ):
        self.root, self.split = Path(root), split
        self.frames, self.fps, self.size = frames, fps, size
        if split not in SPLITS:
            raise ValueError(f"split={split!r}: choose one of {', '.join(SPLITS)}")
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"{self.root}: no such folder; unpack or draw the dataset there"
            )
        labels = _read_json(_find(self.root, "labels.json"))
        entries = _entries(self.root, split)
        self.classes = list(classes or _in_brackets(self.root, labels))
        self.items = self._items(entries, {_plain(name) for name in labels})

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        item = self.items[index]
        return read_clip(item.path, self.frames, self.fps, size=self.size).frames, item.class_index

    def __repr__(self) -> str:
        return f"SomethingSomething({self.split}: {len(self)} clips, {len(self.classes)} classes)"

    def _items(self, entries: list[dict[str, Any]], known: set[str]) -> list[Item]:
        folder = next((self.root / name for name in VIDEOS if (self.root / name).is_dir()), None)
        if folder is None:
            raise FileNotFoundError(f"{self.root}: no folder of videos; one of {', '.join(VIDEOS)}")
        present = set(os.listdir(folder))
        place = {_plain(name): index for index, name in enumerate(self.classes)}
        items = []
        for entry in entries:
            name, path = _plain(entry["template"]), folder / f"{entry['id']}.webm"
            if name not in known:
                raise ValueError(
                    f"{self.root}: the labels file lacks the template {entry['template']!r} of "
                    f"video {entry['id']} in {self.split}; take all JSON files from one release"
                )
            if name in place:
                said = (entry["template"], entry.get("label", name), entry.get("placeholders", []))
                items.append(Item(entry["id"], path, *said, place[name]))
        if not items:
            raise ValueError(f"{self.root}: no video of {self.split} has one of the classes asked")
        missing = [item.id for item in items if item.path.name not in present]
        if missing:
            raise FileNotFoundError(
                f"{folder}: {len(missing)} of the {len(items)} videos of {self.split} are missing, "
                f"{missing[0]}.webm first; unpack or draw the dataset again"
            )
        return items


def write_annotations(
    root: str | Path, items_by_split: dict[str, list[Item]], classes: list[str]
) -> None:
    """The release's JSON files below root/labels, each of them whole or not at all.

    The labels file maps a class without its brackets to its place in `classes`, as a string. Unlike
    the release, the test file is as complete as the others.
    """
    _write_json(root, "labels.json", {_plain(name): str(i) for i, name in enumerate(classes)})
    for split, items in items_by_split.items():
        keys = ("id", "label", "template", "placeholders")
        entries = [{key: getattr(item, key) for key in keys} for item in items]
        _write_json(root, f"{split}.json", entries)


def _plain(template: str) -> str:
    return template.replace("[", "").replace("]", "")


def _in_brackets(root: Path, labels: dict[str, str]) -> list[str]:
    """The classes of the labels file in order, as the train and validation files write them."""
    written = {}
    for split in SPLITS[:2]:
        for entry in _read_json(_find(root, f"{split}.json")):
            written[_plain(entry["template"])] = entry["template"]
    return [written.get(name, name) for name in sorted(labels, key=lambda name: int(labels[name]))]


def _entries(root: Path, split: str) -> list[dict[str, Any]]:
    """What a JSON file says of each video; the release keeps the templates of test apart."""
    entries = _read_json(_find(root, f"{split}.json"))
    if all("template" in entry for entry in entries):
        return entries
    lines = _find(root, "test-answers.csv").read_text(encoding="utf-8").splitlines()
    answers = dict(csv.reader(lines, delimiter=";"))
    return [entry | {"template": answers.get(entry["id"], "")} for entry in entries]


def _find(root: Path, name: str) -> Path:
    places = [
        root / folder / f"{prefix}{name}" for folder in ("labels", "") for prefix in (PREFIX, "")
    ]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"{root}: {PREFIX}{name} is missing; looked for {', '.join(map(str, places))}"
        )
    return found


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not whole JSON ({error}); copy or draw it again") from error


def _write_json(root: str | Path, name: str, content: Any) -> None:
    path = Path(root) / "labels" / f"{PREFIX}{name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_name(f".{name}-{uuid4().hex[:8]}")
    try:
        whole.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
        os.replace(whole, path)
    finally:
        whole.unlink(missing_ok=True)
