"""Read every clip of a dataset once, before a long run, and list what is missing, unreadable, too
short or unlabelled, and all faults of the annotations. Exits with 1 where there is any."""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, field
from os.path import exists
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from lib.data.arguments import MOST_PROCESSES, STOPPED, named, one_line, processes, whole
from lib.data.labels import CLASS_SETS, class_set
from lib.data.something import SPLITS, Annotations, Classes, gathered
from lib.data.video import VideoError, read_clip

FRAMES = 16  # of a clip, at the rate of `read_clip`; half of them must be different ones


class Trouble(NamedTuple):
    """A video that would stop a run, or mislead it."""

    kind: str  # "annotation", "missing", "unreadable", "too short" or "unlabelled"
    split: str  # or the annotation file, whose fault is no single video's
    id: str
    what: str


@dataclass
class Report:
    """What `check` found."""

    clips: dict[str, dict[str, int]]  # of each split, how many of each class are whole
    ends_early: int = 0  # how many of these end before the window: the last frame is repeated
    troubles: list[Trouble] = field(default_factory=list)

    def summary(self) -> str:
        """Counts, then every trouble, kind by kind."""
        lines = []
        for split, counts in self.clips.items():
            found = f"{sum(counts.values()):>8} whole clips, {len(counts)} classes"
            lines.append(f"{split:<12}{found}, {min(counts.values(), default=0)} or more of each")
        lines.append(f"{self.ends_early} of them end before the window; their last frame repeats")
        for kind, split, id, what in sorted(self.troubles, key=lambda trouble: trouble[:2]):
            lines.append(f"{kind}: {f'{split} {id}'.strip()}: {what}")
        return "\n".join(lines if self.troubles else [*lines, "nothing is wrong"])


def check(
    root: str | Path,
    classes: Classes | None = None,
    splits: Iterable[str] = SPLITS,
    workers: int | None = 1,
) -> Report:
    """Read every clip once, as a run would, and say what is wrong with which.

    With `classes`, videos of other classes are not read; `workers` are processes (None: all cores).

    Raises FileNotFoundError and ValueError where annotations are missing or no release is found.
    """
    splits = list(splits)
    if not splits or not set(splits) <= set(SPLITS):
        raise ValueError(f"splits={splits}: choose from {', '.join(SPLITS)}")
    annotations = Annotations(root, faults := [])
    known = annotations.names
    classes = gathered(known if classes is None else classes) if known else {}
    names, templates = list(classes), list(classes.values())
    report = Report({split: dict.fromkeys(names, 0) for split in splits})
    to_read = []
    for split in report.clips:
        chosen, unknown = annotations.choose(annotations.items(split), templates)
        to_read += [(split, item) for item in chosen]
        for item in unknown if known else []:
            what = f"the labels file lacks the template {item.template!r}"
            report.troubles.append(Trouble("unlabelled", split, item.id, what))
    for path, what in faults:
        report.troubles.append(Trouble("annotation", path.name, "", what))
    with processes(workers) as pool:
        read = pool.map(_different_frames, [item.path for _, item in to_read], chunksize=16)
        read = tqdm(read, "clips", len(to_read), leave=False)
        for (split, item), different in zip(to_read, read):
            if isinstance(different, str):
                kind = "unreadable" if exists(item.path) else "missing"
                report.troubles.append(Trouble(kind, split, item.id, different))
            elif different < FRAMES // 2:
                what = f"{item.path}: {different} different frames of {FRAMES}, the rest repeats"
                report.troubles.append(Trouble("too short", split, item.id, what))
            else:
                report.clips[split][names[item.class_index]] += 1
                report.ends_early += different < FRAMES
    return report


def _different_frames(path: Path) -> int | str:
    """How many frames of a clip are different ones, or what is wrong with it."""
    try:
        return len(np.unique(read_clip(path, FRAMES, size=32).times))
    except (VideoError, OSError) as error:
        return str(error)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lib.data.check", description=__doc__)
    add = parser.add_argument
    add("root", type=named, help="folder of the dataset, either release")
    add("--classes", choices=CLASS_SETS, default="174", help="set of classes (%(default)s)")
    add("--splits", nargs="+", choices=SPLITS, default=SPLITS, help="splits to read (all)")
    add("--workers", type=whole(1, MOST_PROCESSES), help="processes (one for each core)")
    args = parser.parse_args()
    with one_line(parser, OSError, ValueError, stopped=STOPPED):
        report = check(args.root, class_set(args.classes), args.splits, args.workers)
    print(report.summary())
    raise SystemExit(bool(report.troubles))


if __name__ == "__main__":
    main()
