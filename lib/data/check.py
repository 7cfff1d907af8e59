"""Is a dataset whole? `python -m lib.data.check ROOT` reads every clip once, before a long run."""

import argparse
import json
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lib.data.labels import CLASS_SETS, class_set
from lib.data.something import RELEASES, SPLITS, Annotations, Classes, gathered, plain
from lib.data.video import VideoError, read_clip
from lib.files import write_text


@dataclass(frozen=True)
class Trouble:
    """A video that would stop a run, or mislead it."""

    split: str
    id: str
    kind: str  # "missing", "unreadable", "too short", "unlabelled" or "repeated"
    what: str


@dataclass(frozen=True)
class Report:
    """What `check` found."""

    clips: dict[str, dict[str, int]]  # of each split, how many of each class are whole
    ends_early: int  # how many of these end before the window, so that the last frame is repeated
    troubles: list[Trouble]

    def summary(self) -> str:
        """Counts, and of each kind of trouble the first ten."""
        lines = []
        for split, counts in self.clips.items():
            found = f"{sum(counts.values()):>8} whole clips, {len(counts)} classes"
            lines.append(f"{split:<12}{found}, {min(counts.values())} or more of each")
        lines.append(f"{self.ends_early} of them end before the window; their last frame repeats")
        for kind in dict.fromkeys(trouble.kind for trouble in self.troubles):
            found = [f"  {t.split} {t.id}: {t.what}" for t in self.troubles if t.kind == kind]
            lines += [f"{kind}: {len(found)}", *found[:10]]
            lines += [f"  and {len(found) - 10} more"] * (len(found) > 10)
        return "\n".join(lines + ["nothing is wrong"] * (not self.troubles))


def check(
    root: str | Path,
    classes: Classes | None = None,
    splits: Iterable[str] = SPLITS,
    frames: int = 16,
    fps: float = 4.0,
    least: int | None = None,
    release: str | None = None,
    workers: int = 1,
) -> Report:
    """Read every clip once, as a run would, and say what is wrong with which.

    A clip is too short where fewer than `least` of its `frames` are different ones, half of them by
    default. With `classes`, videos of other classes are not read; `workers` are processes.

    Raises FileNotFoundError and ValueError where annotations are missing or no release is found.
    """
    splits, least = list(splits), frames // 2 if least is None else least
    if not splits or not set(splits) <= set(SPLITS):
        raise ValueError(f"splits={splits}: choose from {', '.join(SPLITS)}")
    annotations = Annotations(root, release)
    classes = gathered(annotations.names() if classes is None else classes)
    labels = [plain(name) for name in classes]
    counts = {split: dict.fromkeys(labels, 0) for split in splits}
    items, split_of, ends_early = [], {}, 0
    troubles: list[Trouble] = []
    for split in counts:
        annotated = annotations.items(split)
        chosen, unknown = annotations.choose(annotated, list(classes.values()))
        items += [(split, item) for item in chosen]
        lacks = "the labels file lacks the template"
        troubles += [Trouble(split, i.id, "unlabelled", f"{lacks} {i.template!r}") for i in unknown]
        for item in annotated:
            if item.id in split_of:
                already = f"is in {split_of[item.id]} already"
                troubles.append(Trouble(split, item.id, "repeated", already))
            split_of.setdefault(item.id, split)
    read = partial(_different_frames, frames=frames, fps=fps)
    with ProcessPoolExecutor(workers) as pool:
        found = pool.map(read, [item.path for _, item in items], chunksize=16)
        for (split, item), own in zip(items, tqdm(found, "clips", len(items), leave=False)):
            if isinstance(own, str):
                kind = "unreadable" if item.path.exists() else "missing"
                troubles.append(Trouble(split, item.id, kind, own))
            elif own < least:
                what = f"{item.path}: {own} different frames of {frames}, the rest repeats"
                troubles.append(Trouble(split, item.id, "too short", what))
            else:
                counts[split][labels[item.class_index]] += 1
                ends_early += own < frames
    return Report(counts, ends_early, troubles)


def _different_frames(path: Path, frames: int, fps: float) -> int | str:
    """How many frames of a clip are different ones, or what is wrong with it."""
    try:
        return len(np.unique(read_clip(path, frames, fps, size=32).times))
    except (VideoError, OSError) as error:
        return str(error)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.data.check",
        description="Read every clip of a dataset once and list what is missing, unreadable, too "
        "short, unlabelled or repeated. Exits with 1 where there is any.",
    )
    add = parser.add_argument
    add("root", type=Path, help="folder of the dataset, either release")
    add("--classes", choices=CLASS_SETS, default="174", help="set of classes (%(default)s)")
    add("--splits", nargs="+", choices=SPLITS, default=SPLITS, help="splits to read (all)")
    add("--frames", type=int, default=16, help="frames of a clip (%(default)s)")
    add("--fps", type=float, default=4.0, help="frames of a clip per second (%(default)s)")
    add("--least", type=int, help="different frames that a clip needs (half of --frames)")
    add("--release", choices=RELEASES, help="which one, where the folder has both")
    add("--workers", type=int, default=os.cpu_count(), help="processes (one for each core)")
    add("--record", type=Path, help="write all that was found to this file, as JSON")
    options = vars(parser.parse_args())
    record = options.pop("record")
    try:
        report = check(**options | {"classes": class_set(options["classes"])})
        print(report.summary())
        if record:
            write_text(record, json.dumps(asdict(report), indent=1, ensure_ascii=False) + "\n")
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    raise SystemExit(bool(report.troubles))


if __name__ == "__main__":
    main()
