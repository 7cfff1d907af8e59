"""Something-Something, and any dataset laid out like one of its two releases.

The first: a folder of JPEGs for each video, with CSV annotations; the second: .webm and JSON.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from lib.data.entries import read, wrong_with
from lib.data.video import Clip, read_clip

SPLITS = ("train", "validation", "test")
RELEASES = {"v1": ("", "csv"), "v2": (".webm", "json")}  # suffixes of videos and annotations
PREFIX = "something-something-{}-"  # of the annotations; some copies of a release lack it
FOLDERS = ("20bn-something-something-{}", "videos/20bn-something-something-{}", "videos")
CACHED = "cached"  # folder that `lib.data.cache` writes: ID.zip for each video
Classes = Iterable[str] | Mapping[str, list[str]]  # a mapping: the templates of each class


@dataclass(frozen=True)
class Item:
    """One annotated video, such as "holding potato" of the template "Holding [something]".

    Where a release has no caption, it is the template without brackets, and no placeholders.
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
    with a `size`. The `classes` are templates, or map each class to the templates that it gathers
    (see `class_set`); other videos are left out. By default, all templates of the labels file, in
    its order. The `release`, "v1" or "v2", is read off the annotations; v1 has no brackets. A test
    split without templates takes them from test-answers.csv, lines of `id;template`. With
    `resplit`, a seed, `assign_split` splits all videos of known templates.

    Raises FileNotFoundError for a missing folder, annotation file or video, ValueError for an
    unknown split, two releases in one folder, a fault in the annotations, or no video at all.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        classes: Classes | None = None,
        frames: int = 16,
        fps: float = 4.0,
        size: int | None = None,
        resplit: int | None = None,
    ):
        self.split, self.frames, self.fps, self.size = split, frames, fps, size
        if split not in SPLITS:
            raise ValueError(f"split={split!r}: choose one of {', '.join(SPLITS)}")
        annotations = Annotations(root)
        self.root, self.release = annotations.root, annotations.release
        if resplit is None:
            items = annotations.items(split)
        else:
            items = [i for i in annotations.labelled() if assign_split(i.id, resplit) == split]
        classes = gathered(annotations.classes() if classes is None else classes)
        self.classes, self.templates = list(classes), list(classes.values())
        self.items, unknown = annotations.choose(items, self.templates)
        if unknown:
            lacks = f"lacks the template {unknown[0].template!r} of video {unknown[0].id}"
            raise ValueError(f"{root}: the labels file {lacks} in {split}; take all of one release")
        if not self.items:
            raise ValueError(f"{root}: no video of {split} has one of the classes asked")
        folder = self.items[0].path.parent
        present = set(os.listdir(folder))
        missing = [item.path.name for item in self.items if item.path.name not in present]
        if missing:
            lost = f"{len(missing)} of the {len(self.items)} videos of {split} are missing"
            raise FileNotFoundError(f"{folder}: {lost}, {missing[0]} first; unpack or draw again")

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.clip(index).frames, self.items[index].class_index

    def __repr__(self) -> str:
        return f"SomethingSomething({self.split}: {len(self)} clips, {len(self.classes)} classes)"

    def clip(self, index: int, **wanted: Any) -> Clip:
        """The clip, labelled with its class's name; `wanted` goes to `read_clip`."""
        item = self.items[index]
        how = {"frames": self.frames, "fps": self.fps, "size": self.size} | wanted
        return replace(read_clip(item.path, **how), label=self.classes[item.class_index])

    def class_of(self, template: str) -> int | None:
        """Index of the class that gathers the template, None where none does."""
        return class_indices(self.templates).get(plain(template))


class Annotations:
    """What the files of a release say of its videos. Raises as `SomethingSomething`; but with a
    list of `faults`, all those of the files are put there, (path, what), and the rest is read."""

    def __init__(self, root: str | Path, faults: list[tuple[Path, str]] | None = None):
        self.root, self.faults, self._entries = Path(root), faults, {}
        if not self.root.is_dir():
            raise FileNotFoundError(f"{root}: no such folder; unpack or draw the dataset there")
        labels = {release: f"labels.{kind}" for release, (_, kind) in RELEASES.items()}
        files = {release: annotation_files(self.root, release) for release in RELEASES}
        found = [release for release in RELEASES if labels[release] in files[release]]
        if not found:
            missing = " nor ".join(PREFIX.format(name) + labels[name] for name in RELEASES)
            remedy = "unpack or draw the dataset there"
            raise FileNotFoundError(f"{root}: has neither {missing}; {remedy}")
        if len(found) > 1:
            raise ValueError(f"{root}: both releases are there; give each a folder of its own")
        self.release = found[0]
        self.files, self.kind = files[self.release], RELEASES[self.release][1]

    def read(self, name: str, kind: type = list) -> list[tuple[str, Any]]:
        """What an annotation file holds, a list or a dict, each with where it stands."""
        if name not in self.files:
            name = PREFIX.format(self.release) + name
            raise FileNotFoundError(f"{self.root}: {name} is missing; looked for it in labels, too")
        return read(self.files[name], kind, partial(self.fault, name))

    def fault(self, name: str, what: str) -> None:
        """Note what is wrong with a file, or raise it."""
        path = self.files[name]
        if self.faults is None:
            remedy = f"`python -m lib.data.check {self.root}` lists all faults"
            raise ValueError(f"{path}: {what}; {remedy}")
        self.faults.append((path, what))

    @cached_property
    def names(self) -> list[str]:
        """The templates of the labels file, in order, without brackets."""
        file, numbers = f"labels.{self.kind}", {}
        found = self.read(file, dict)
        if self.kind == "csv":  # the number of a template is its line
            found = [(where, (row[0], n)) for n, (where, row) in enumerate(found)]
        if not found:
            self.fault(file, "names no template")
        for where, (name, number) in found:
            if not re.fullmatch(r"\d{1,9}", str(number)):
                self.fault(file, f"{where}: its number is {number!r:.60}, not a whole number")
            elif plain(name) in numbers or int(number) in numbers.values():
                self.fault(file, f"{where}: the template or its number is there twice")
            else:
                numbers[plain(name)] = int(number)
        return sorted(numbers, key=numbers.__getitem__)

    def classes(self) -> list[str]:
        """The same, written as in the train and validation files."""
        items = self.items("train") + self.items("validation")
        written = {plain(item.template): item.template for item in items}
        return [written.get(name, name) for name in self.names]

    def items(self, split: str) -> list[Item]:
        """The videos of a split, with the class index -1; the template "" where none is known."""
        suffix = RELEASES[self.release][0]
        suffixes = {name.format(self.release): suffix for name in FOLDERS} | {CACHED: ".zip"}
        folder = next((name for name in suffixes if (self.root / name).is_dir()), None)
        if folder is None:
            raise FileNotFoundError(f"{self.root}: no folder of videos, as {', '.join(suffixes)}")
        answers, items, entries = {}, [], self.entries(split)
        if split == "test" and not all("template" in entry for entry in entries.values()):
            for where, row in self.read(file := "test-answers.csv"):
                if len(row) < 2 or row[0] in answers:
                    self.fault(file, f"{where}: not ID;TEMPLATE, or the id is there twice")
                answers.setdefault(row[0], row[-1])
        for id, entry in entries.items():
            template = entry.get("template", answers.get(id, ""))
            caption, objects = entry.get("label", plain(template)), entry.get("placeholders", [])
            video = self.root / folder / f"{id}{suffixes[folder]}"
            items.append(Item(id, video, template, caption, objects, -1))
        return items

    def entries(self, split: str) -> dict[str, dict]:
        """What the file of a split says of each video, by its id."""
        if split not in self._entries:
            rows, good = self.read(file := f"{split}.{self.kind}"), {}
            self._entries[split] = good
            for where, entry in rows:
                if self.kind == "csv":
                    entry = dict(zip(("id", "template"), entry))
                if wrong := wrong_with(entry):
                    self.fault(file, f"{where}: {wrong}")
                    continue
                id = str(entry["id"])
                if already := [name for name, ids in self._entries.items() if id in ids]:
                    self.fault(file, f"{where}: id {id} is in {already[0]} already")
                else:
                    good[id] = entry
        return self._entries[split]

    def labelled(self) -> list[Item]:
        """The videos of all splits; without the test split where its templates are kept back."""
        items = self.items("train") + self.items("validation")
        with suppress(FileNotFoundError):
            items += self.items("test")
        return items

    def choose(self, items: list[Item], templates: list[list[str]]) -> tuple[list, list]:
        """Items whose template a class gathers, with the class's index; and items whose template
        the labels file lacks."""
        index, known = class_indices(templates), set(self.names)
        chosen, unknown = [], []
        for item in items:
            template = plain(item.template)
            if template not in known:
                unknown.append(item)
            elif template in index:
                chosen.append(replace(item, class_index=index[template]))
        return chosen, unknown


def plain(template: str) -> str:
    """Without brackets."""
    return template.replace("[", "").replace("]", "")


def annotation_files(root: Path, release: str) -> dict[str, Path]:
    """The annotation files of a release that are there, by their names without the prefix."""
    kind, prefix = RELEASES[release][1], PREFIX.format(release)
    found = {}
    for name in [*(f"{name}.{kind}" for name in ("labels", *SPLITS)), "test-answers.csv"]:
        for place in ("", prefix, "labels/", f"labels/{prefix}"):  # the last that has it counts
            if (path := root / f"{place}{name}").is_file():
                found[name] = path
    return found


def gathered(classes: Classes) -> dict[str, list[str]]:
    """The templates of each class. ValueError for no class, or a template in two of them."""
    pairs = dict(classes).items() if isinstance(classes, Mapping) else [(n, [n]) for n in classes]
    if not pairs:
        raise ValueError("classes=[]: name at least one class, or leave it out for all")
    counts = Counter(plain(template) for _, templates in pairs for template in set(templates))
    if twice := [template for template in counts if counts[template] > 1]:
        raise ValueError(f"classes: {twice[0]!r} is in two of them; leave it in one")
    return dict(pairs)


def class_indices(templates: list[list[str]]) -> dict[str, int]:
    """The index of the class that gathers each template, which is written without brackets."""
    return {plain(name): index for index, names in enumerate(templates) for name in names}


def assign_split(id: str, seed: int) -> str:
    """The split of a video: the SHA-256 of "SEED/ID", modulo 10, is 8 for validation, 9 for test.

    So it depends on nothing else: not on the other videos, not on the order of a file.
    """
    rest = int(hashlib.sha256(f"{seed}/{id}".encode()).hexdigest(), 16) % 10
    return {8: "validation", 9: "test"}.get(rest, "train")
