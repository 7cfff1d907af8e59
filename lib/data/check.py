"""Is a dataset whole? `python -m lib.data.check ROOT` reads every clip once."""

import argparse
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lib.data.labels import CLASS_SETS, class_set
from lib.data.something import (
    RELEASES,
    SPLITS,
    Item,
    _entries,
    _names,
    _places_of,
    _plain,
    _release,
    _videos,
)
from lib.data.video import VideoError, read_clip
from lib.files import write_text


@dataclass(frozen=True)
class Trouble:
    """A video that a run would stumble over."""

    split: str
    id: str
    kind: str  # "missing", "unreadable", "too short" or "unlabelled"
    what: str


@dataclass(frozen=True)
class Report:
    """What `check` found."""

    clips: dict[str, dict[str, int]]  # of each split, how many of each class are whole
    held: int  # of these, how many end before the window and have their last frame held
    troubles: list[Trouble]

    def summary(self, most: int = 10) -> str:
        """Counts, and of each kind of trouble the first `most`."""
        lines = []
        for split, counts in self.clips.items():
            least = min(counts.values(), default=0)
            lines.append(
                f"{split:<12}{sum(counts.values()):>8} whole clips, {len(counts)} classes, "
                f"{least} or more of each"
            )
        lines.append(f"{self.held} of them end before the window; their last frame is held")
        kinds: dict[str, list[Trouble]] = {}
        for trouble in self.troubles:
            kinds.setdefault(trouble.kind, []).append(trouble)
        for kind, found in kinds.items():
            lines.append(f"{kind}: {len(found)}")
            lines += [f"  {t.split} {t.id}: {t.what}" for t in found[:most]]
            lines += [f"  and {len(found) - most} more"] * (len(found) > most)
        return "\n".join(lines + ["nothing is wrong"] * (not kinds))


def check(
    root: str | Path,
    classes: list[str] | Mapping[str, list[str]] | None = None,
    splits: Iterable[str] = SPLITS,
    frames: int = 16,
    fps: float = 4.0,
    least: int | None = None,
    release: str | None = None,
    workers: int = 1,
) -> Report:
    """Read every clip once, as a run would, and say what is wrong with which.

    A clip is too short where fewer than `least` of its `frames` are its own, half of them by
    default. With `classes`, videos of other classes are passed over; `workers` are processes.

    Raises FileNotFoundError and ValueError where annotations are missing or no release is found.
    """
    root, least = Path(root), frames // 2 if least is None else least
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; unpack or draw the dataset there")
    release = _release(root, release)
    (folder, suffix), names = _videos(root, release), _names(root, release)
    classes = classes or names
    place, labels = _places_of(classes), [_plain(name) for name in classes]
    jobs, troubles = [], []
    for split in splits:
        for entry in _entries(root, release, split):
            name, path = _plain(entry.get("template", "")), folder / f"{entry['id']}{suffix}"
            if name not in names:
                what = f"the labels file lacks the template {name!r}" if name else "no template"
                troubles.append(Trouble(split, entry["id"], "unlabelled", what))
            elif name in place:
                item = Item(entry["id"], path, name, name, [], place[name])
                jobs.append((split, labels[place[name]], item))
    counts = {split: Counter(dict.fromkeys(labels, 0)) for split in splits}
    held = 0
    read = partial(_own_frames, frames=frames, fps=fps)
    with ProcessPoolExecutor(workers) as pool:
        found = pool.map(read, [item for *_, item in jobs], chunksize=16)
        for (split, name, item), own in zip(jobs, tqdm(found, "clips", len(jobs), leave=False)):
            if isinstance(own, str):
                kind = "unreadable" if item.path.exists() else "missing"
                troubles.append(Trouble(split, item.id, kind, own))
            elif own < least:
                what = f"{item.path}: {own} of {frames} frames are its own, the rest is held"
                troubles.append(Trouble(split, item.id, "too short", what))
            else:
                counts[split][name] += 1
                held += own < frames
    return Report({split: dict(found) for split, found in counts.items()}, held, troubles)


def _own_frames(item: Item, frames: int, fps: float) -> int | str:
    """How many frames of a clip are not held, or what is wrong with it."""
    try:
        return len(np.unique(read_clip(item.path, frames=frames, fps=fps, size=32).times))
    except VideoError as error:
        return str(error)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.data.check",
        description="Read every clip of a dataset once and list what is missing, unreadable, too "
        "short or unlabelled. Exits with 1 where there is any.",
    )
    parser.add_argument("root", type=Path, help="folder of the dataset, either release")
    parser.add_argument("--classes", choices=CLASS_SETS, default="174")
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS))
    parser.add_argument("--frames", type=int, default=16, help="of a clip (%(default)s)")
    parser.add_argument("--fps", type=float, default=4.0, help="of a clip (%(default)s)")
    parser.add_argument("--least", type=int, help="frames of its own; half of them by default")
    parser.add_argument("--release", choices=tuple(RELEASES), help="where both are there")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--record", type=Path, help="write all of it as JSON")
    args = parser.parse_args()
    try:
        report = check(
            args.root, class_set(args.classes), args.splits, args.frames, args.fps, args.least,
            args.release, args.workers,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    print(report.summary())
    if args.record:
        text = json.dumps(asdict(report), indent=1, ensure_ascii=False) + "\n"
        write_text(args.record, text)
    raise SystemExit(bool(report.troubles))


if __name__ == "__main__":
    main()
