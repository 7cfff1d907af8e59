"""Something-Something, and anything laid out like one of its two releases.

The first: a folder of JPEGs for each video, with CSV annotations; the second: .webm and JSON.
`python -m lib.datasets ROOT` reads all of it once, before a long run does: see `check`.
"""

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from lib.data.video import Clip, read_clip
from lib.files import write_text

SPLITS = ("train", "validation", "test")
RELEASES = {"v1": ("", "csv"), "v2": (".webm", "json")}  # suffixes of videos and annotations
PREFIX = "something-something-{}-"  # of the annotations; some copies of a release go without
VIDEOS = ("20bn-something-something-{}", "videos/20bn-something-something-{}", "videos")
CACHED = "cached"  # folder of `lib.cache`: ID.zip for each video


@dataclass(frozen=True)
class Item:
    """One annotated video, such as "holding potato" of the template "Holding [something]".

    Where a release gives no label, it is the template without brackets, and no placeholders.
    """

    id: str
    path: Path  # of a video file, or of a folder or zip of JPEGs
    template: str
    caption: str
    placeholders: list[str]
    class_index: int


class SomethingSomething(Dataset):
    """One split ("train", "validation", "test") of Something-Something (arXiv 1706.04261).

    An element is `(frames, class_index)`: (T, H, W, 3) uint8 RGB as `read_clip` gives them, square
    with a `size`. With `classes` only items whose template is among them are kept, and the index
    counts in that list; a mapping says which templates each class gathers, see `class_set`.
    Without, `.classes` are the templates in the order of the labels file (which writes them without
    brackets; they are taken from the splits, and a class that none has a video of stays without).
    The `release`, "v1" or "v2", is read off the annotations unless given; v1 knows no brackets, and
    its labels file is not in alphabetical order. A test split without templates takes them from
    test-answers.csv, lines of `id;template`.

    The splits are the release's own; with `resplit`, a seed, all videos whose label is known are
    dealt out anew, 8:1:1, each by `assign_split`.

    Raises FileNotFoundError for a missing folder, annotation file or video, ValueError for an
    unknown split, two releases in one folder, a template that the labels file lacks, or classes
    that leave no video.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        classes: list[str] | Mapping[str, list[str]] | None = None,
        frames: int = 16,
        fps: float = 4.0,
        size: int | None = None,
        release: str | None = None,
        resplit: int | None = None,
    ):
        self.root, self.split = Path(root), split
        self.frames, self.fps, self.size = frames, fps, size
        if split not in SPLITS:
            raise ValueError(f"split={split!r}: choose one of {', '.join(SPLITS)}")
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"{self.root}: no such folder; unpack or draw the dataset there"
            )
        self.release = _release(self.root, release)
        names = _names(self.root, self.release)
        if resplit is None:
            entries = _entries(self.root, self.release, split)
        else:
            pool = _labelled(self.root, self.release)
            entries = [entry for entry in pool if assign_split(entry["id"], resplit) == split]
        classes = classes or _in_brackets(self.root, self.release, names)
        self.classes = list(classes)
        self.items = self._items(entries, set(names), _places_of(classes))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.clip(index).frames, self.items[index].class_index

    def clip(self, index: int, **wanted: Any) -> Clip:
        """The clip under its class; `wanted` are arguments of `read_clip` to read otherwise."""
        item = self.items[index]
        how = {"frames": self.frames, "fps": self.fps, "size": self.size} | wanted
        return replace(read_clip(item.path, **how), label=self.classes[item.class_index])

    def __repr__(self) -> str:
        return f"SomethingSomething({self.split}: {len(self)} clips, {len(self.classes)} classes)"

    def _items(
        self, entries: list[dict[str, Any]], known: set[str], place: dict[str, int]
    ) -> list[Item]:
        folder, suffix = _videos(self.root, self.release)
        present = set(os.listdir(folder))
        items = []
        for entry in entries:
            template = entry.get("template", "")
            name, path = _plain(template), folder / f"{entry['id']}{suffix}"
            if name not in known:
                raise ValueError(
                    f"{self.root}: the labels file lacks the template {template!r} of video "
                    f"{entry['id']} in {self.split}; take all annotations from one release"
                )
            if name in place:
                said = (template, entry.get("label", name), entry.get("placeholders", []))
                items.append(Item(entry["id"], path, *said, place[name]))
        if not items:
            raise ValueError(f"{self.root}: no video of {self.split} has one of the classes asked")
        missing = [item.path.name for item in items if item.path.name not in present]
        if missing:
            raise FileNotFoundError(
                f"{folder}: {len(missing)} of the {len(items)} videos of {self.split} are missing, "
                f"{missing[0]} first; unpack or draw the dataset again"
            )
        return items


def write_annotations(
    root: str | Path,
    items_by_split: dict[str, list[Item]],
    classes: list[str],
    release: str = "v2",
) -> None:
    """The files of a release, each of them whole or not at all, the labels file last.

    Below root/labels. v2: JSON; the labels file maps a class without its brackets to its place in
    `classes`, as a string. v1: CSV without brackets; the labels file is `classes`, line by line.
    Unlike both releases, the test file is as complete as the others.
    """
    release, keys = _release(Path(root), release), ("id", "label", "template", "placeholders")
    names = ("id", "caption", "template", "placeholders")
    for split, items in items_by_split.items():
        if release == "v1":
            entries = [f"{item.id};{_plain(item.template)}" for item in items]
        else:
            entries = [dict(zip(keys, map(partial(getattr, item), names))) for item in items]
        _write(root, release, split, entries)
    names = [_plain(name) for name in classes]
    places = {name: str(i) for i, name in enumerate(names)}
    _write(root, release, "labels", names if release == "v1" else places)


def every_video(root: str | Path, release: str | None = None) -> list[Item]:
    """All videos of all splits, but for those whose label is kept back; class indices are 0."""
    release = _release(Path(root), release)
    folder, suffix = _videos(Path(root), release)
    items = []
    for entry in _labelled(Path(root), release):
        name, path = entry.get("template", ""), folder / f"{entry['id']}{suffix}"
        items.append(Item(entry["id"], path, name, entry.get("label", name), [], 0))
    return items


def annotations(root: str | Path, release: str | None = None) -> list[Path]:
    """The files of a release that are there, besides the videos."""
    release = _release(Path(root), release)
    suffix = RELEASES[release][1]
    names = [f"{name}.{suffix}" for name in ("labels", *SPLITS)] + ["test-answers.csv"]
    places = [_places(root, release, name) for name in names]
    return [next(filter(Path.is_file, found)) for found in places if any(map(Path.is_file, found))]


def releases(root: str | Path) -> list[str]:
    """Which of "v1" and "v2" have a labels file in the folder."""
    files = {name: _places(root, name, f"labels.{RELEASES[name][1]}") for name in RELEASES}
    return [name for name, places in files.items() if any(map(Path.is_file, places))]


def assign_split(id: str, seed: int) -> str:
    """The split of a video: the SHA-256 of "SEED/ID", modulo 10, is 8 for validation, 9 for test.

    So it depends on nothing else: not on the other videos, not on the order of a file.
    """
    rest = int(hashlib.sha256(f"{seed}/{id}".encode()).hexdigest(), 16) % 10
    return {8: "validation", 9: "test"}.get(rest, "train")


def _labelled(root: Path, release: str) -> list[dict[str, Any]]:
    """What all splits have; without the test split of a release that keeps its labels back."""
    entries = _entries(root, release, "train") + _entries(root, release, "validation")
    with suppress(FileNotFoundError):
        entries += _entries(root, release, "test")
    return entries


def _places_of(classes: Iterable[str] | Mapping[str, list[str]]) -> dict[str, int]:
    """The class index of each template that is in a class."""
    gathered = classes if isinstance(classes, Mapping) else {name: [name] for name in classes}
    return {
        _plain(template): index
        for index, templates in enumerate(gathered.values())
        for template in templates
    }


def _videos(root: Path, release: str) -> tuple[Path, str]:
    """The folder of the videos, and how their names go on after the id."""
    suffixes = {name.format(release): RELEASES[release][0] for name in VIDEOS} | {CACHED: ".zip"}
    for name, suffix in suffixes.items():
        if (root / name).is_dir():
            return root / name, suffix
    raise FileNotFoundError(f"{root}: no folder of videos, as {', '.join(suffixes)}")


def _release(root: Path, release: str | None) -> str:
    found = [release] if release else releases(root)
    if not found:
        raise FileNotFoundError(
            f"{root}: has neither {PREFIX.format('v1')}labels.csv nor "
            f"{PREFIX.format('v2')}labels.json; unpack or draw the dataset there"
        )
    if len(found) > 1 or found[0] not in RELEASES:
        trouble = "both are there" if len(found) > 1 else f"{release!r} is neither"
        raise ValueError(f"{root}: {trouble}; choose release='v1' or 'v2'")
    return found[0]


def _plain(template: str) -> str:
    return template.replace("[", "").replace("]", "")


def _names(root: Path, release: str) -> list[str]:
    """The classes of the labels file, in order and without brackets."""
    if release == "v1":
        return [_plain(row[0]) for row in _read_csv(_find(root, release, "labels.csv"))]
    labels = _read_json(_find(root, release, "labels.json"))
    return [_plain(name) for name in sorted(labels, key=lambda name: int(labels[name]))]


def _in_brackets(root: Path, release: str, names: list[str]) -> list[str]:
    """The classes as the train and validation files write them."""
    written = {}
    for split in SPLITS[:2]:
        for entry in _entries(root, release, split):
            template = entry.get("template", "")
            written[_plain(template)] = template
    return [written.get(name, name) for name in names]


def _entries(root: Path, release: str, split: str) -> list[dict[str, Any]]:
    """What a release says of each video; that of test leaves the templates to a file apart."""
    if release == "v1":
        rows = _read_csv(_find(root, release, f"{split}.csv"))
        entries = [dict(zip(("id", "template"), row)) for row in rows]
    else:
        entries = _read_json(_find(root, release, f"{split}.json"))
    if split != "test" or all("template" in entry for entry in entries):
        return entries
    answers = {row[0]: row[-1] for row in _read_csv(_find(root, release, "test-answers.csv"))}
    return [entry | {"template": answers.get(entry["id"], "")} for entry in entries]


def _places(root: str | Path, release: str, name: str) -> list[Path]:
    names = (PREFIX.format(release) + name, name)
    return [Path(root, folder, name) for folder in ("labels", "") for name in names]


def _find(root: Path, release: str, name: str) -> Path:
    places = _places(root, release, name)
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise FileNotFoundError(
            f"{root}: {places[0].name} is missing; looked for {', '.join(map(str, places))}"
        )
    return found


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not whole JSON ({error}); copy or draw it again") from error


def _read_csv(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=";") if row]


def _write(root: str | Path, release: str, name: str, content: Any) -> None:
    path = _places(root, release, f"{name}.{RELEASES[release][1]}")[0]
    if release == "v1":
        text = "".join(f"{line}\n" for line in content)
    else:
        text = json.dumps(content, indent=1, ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


dealt = assign_split  # until all have moved
