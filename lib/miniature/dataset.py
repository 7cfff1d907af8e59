"""The miniature Something-Something on disk, in the layout of one of the dataset's releases."""

import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lib.data.labels import fill_template
from lib.data.something import FOLDERS, RELEASES, SPLITS, Item, releases, write_annotations
from lib.data.write import write_frames, write_video
from lib.files import write_text, write_whole
from lib.miniature.clip import CLASSES, FPS, VERSION, Truth, draw
from lib.miniature.drawing import FRAME


def write(
    root: Path | str,
    clips: int = 1600,
    seed: int = 0,
    size: int | tuple[int, int] = FRAME,
    workers: int | None = None,
    layout: str = "v2",
) -> Path:
    """Draw a dataset, 8:1:1, in the layout of a Something-Something release; what is there is kept.

    v2: root/videos/ID.webm and root/labels/*.json. v1: folders of JPEGs, 12 a second,
    root/20bn-something-something-v1/ID/00001.jpg, and root/labels/*.csv. `SomethingSomething`
    reads both, and both have root/truth/ID.npz. `size` is a side or (width, height), in pixels.

    Raises:
        ValueError: for another layout, sizes beyond 32 to 320x240 pixels, and when the folder holds
            a miniature of another size, layout, seed or version.
    """
    root, size = Path(root), _sides(size)
    if layout not in RELEASES:
        raise ValueError(f"layout {layout!r}: choose one of {', '.join(RELEASES)}")
    made = dict(version=VERSION, seed=seed, size=list(size), clips=clips, layout=layout)
    card = root / "miniature.json"
    if card.is_file() and (found := json.loads(card.read_text())) != made:
        raise ValueError(f"{root} holds {found}, not {made}: remove it or name another folder")
    counts = dict(zip(SPLITS, (clips - 2 * (clips // 10), clips // 10, clips // 10)))
    jobs = [(split, i) for split in SPLITS for i in range(counts[split])]
    missing = [job for job in jobs if not _truth(root, identity(*job)).is_file()]
    if missing:
        for folder in (_videos(root, layout), root / "truth"):
            folder.mkdir(parents=True, exist_ok=True)
        write_text(card, json.dumps(made))
        with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
            work = pool.map(partial(_write_clip, root, layout, seed, size), missing, chunksize=4)
            for _ in tqdm(work, total=len(missing), desc=f"drawing {root}", unit="clip"):
                pass
    if missing or layout not in releases(root):
        items = {
            split: [_item(root, layout, s, i) for s, i in jobs if s == split] for split in SPLITS
        }
        write_annotations(root, items, CLASSES, layout)
    return root


def identity(split: str, index: int) -> str:
    """A clip's id: a number, as in the release."""
    return str(100_000 * (SPLITS.index(split) + 1) + index)


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    width, height = size if isinstance(size, tuple) else (size, size)
    if not (32 <= height <= 240 and height <= width <= min(320, 1.6 * height)):
        raise ValueError(
            f"size {width}x{height}: choose from 32x32 to 320x240 pixels, the width 1 to 1.6 times "
            "the height"
        )
    return width, height


def _videos(root: Path, layout: str) -> Path:
    """The folder of the clips."""
    return root / FOLDERS[0 if layout == "v1" else -1].format(layout)


def _video(root: Path, layout: str, clip_id: str) -> Path:
    return _videos(root, layout) / f"{clip_id}{RELEASES[layout][0]}"


def _write_clip(
    root: Path, layout: str, seed: int, size: tuple[int, int], job: tuple[str, int]
) -> None:
    drawn, clip_id = draw(*job, seed=seed, size=size), identity(*job)
    video = _video(root, layout, clip_id)
    if layout == "v1":
        shutil.rmtree(video, ignore_errors=True)  # of a run stopped before the truth was written
        write_frames(video, drawn.frames)
    else:
        write_video(video, drawn.frames, FPS)
    known = vars(drawn.truth) | dict(template=drawn.label, placeholders=drawn.placeholders)
    # Last: its presence says that the clip is whole.
    write_whole(_truth(root, clip_id), lambda part: np.savez_compressed(part, **known))


def _truth(root: Path | str, clip_id: str) -> Path:
    return Path(root) / "truth" / f"{clip_id}.npz"


def _item(root: Path, layout: str, split: str, index: int) -> Item:
    clip_id = identity(split, index)
    with np.load(_truth(root, clip_id)) as saved:
        template, placeholders = str(saved["template"]), saved["placeholders"].tolist()
    path, caption = _video(root, layout, clip_id), fill_template(template, placeholders)
    return Item(clip_id, path, template, caption, placeholders, CLASSES.index(template))


def read_truth(root: Path | str, clip_id: str) -> Truth:
    """The truth of a written clip.

    Raises:
        FileNotFoundError: naming the file and the command that draws it.
    """
    path = _truth(root, clip_id)
    if not path.is_file():
        why = f"no truth at {path}: draw it with `python -m lib.miniature {root}`"
        raise FileNotFoundError(why)
    with np.load(path) as saved:
        start, end = saved["action"].tolist()
        return Truth(saved["roles"], saved["times"], (start, end), bool(saved["camera_moves"]))
