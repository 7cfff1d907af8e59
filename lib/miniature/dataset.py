"""The miniature Something-Something on disk, in the layout of one of the dataset's releases."""

import json
import shutil
from functools import partial
from itertools import starmap
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from lib.data.arguments import processes
from lib.data.something import PREFIX, RELEASES, SPLITS, Item, plain
from lib.data.write import write_video
from lib.files import write_text, write_whole
from lib.miniature.clip import CLASSES, FPS, VERSION, Truth, draw, fill_template
from lib.miniature.drawing import FRAME

KEPT = "roles", "times", "action", "camera_moves", "template", "placeholders"  # of the truth
MOST_CLIPS = 125_000  # with more, ids of one split would be those of the next
FOLDERS = {"v1": "20bn-something-something-v1", "v2": "videos"}  # of the clips


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
    if not 0 < clips <= MOST_CLIPS:
        raise ValueError(f"{clips} clips: must be from 1 to {MOST_CLIPS}")
    if layout not in RELEASES:
        raise ValueError(f"layout {layout!r}: choose one of {', '.join(RELEASES)}")
    made = dict(version=VERSION, seed=seed, size=list(size), clips=clips, layout=layout)
    card = root / "miniature.json"
    if card.is_file():
        try:
            found = json.loads(card.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{card}: not whole ({error}); remove it to draw again") from error
        if found != made:
            raise ValueError(f"{root} holds {found}, not {made}: remove it or name another folder")
    counts = dict(zip(SPLITS, (clips - 2 * (clips // 10), clips // 10, clips // 10)))
    jobs = [(split, i) for split in SPLITS for i in range(counts[split])]
    files = ((_truth(root, name), _video(root, layout, name)) for name in starmap(identity, jobs))
    missing = [job for job, pair in zip(jobs, files) if not all(path.exists() for path in pair)]
    if missing:
        for folder in (root / FOLDERS[layout], root / "truth"):
            folder.mkdir(parents=True, exist_ok=True)
        write_text(card, json.dumps(made))
        with processes(workers) as pool:
            work = pool.map(partial(_write_clip, root, layout, seed, size), missing, chunksize=4)
            for _ in tqdm(work, total=len(missing), desc=f"drawing {root}", unit="clip"):
                pass
    if missing or not _annotation_file(root, layout, "labels").is_file():
        items = {
            split: [_item(root, layout, split, i) for i in range(counts[split])] for split in SPLITS
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


def _video(root: Path, layout: str, clip_id: str) -> Path:
    return root / FOLDERS[layout] / f"{clip_id}{RELEASES[layout][0]}"


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
    saved = _saved(_truth(root, clip_id))
    template, placeholders = str(saved["template"]), saved["placeholders"].tolist()
    path, caption = _video(root, layout, clip_id), fill_template(template, placeholders)
    return Item(clip_id, path, template, caption, placeholders, CLASSES.index(template))


def write_frames(folder: Path, frames: np.ndarray) -> None:
    """(T, H, W, 3) uint8 RGB to a new folder of JPEGs 00001.jpg, ...; it is whole or not there."""

    def write_jpegs(part: Path) -> None:
        part.mkdir()
        for number, frame in enumerate(frames, start=1):
            Image.fromarray(frame).save(part / f"{number:05}.jpg", quality=90)

    write_whole(folder, write_jpegs)


def write_annotations(
    root: Path, items_by_split: dict[str, list[Item]], classes: list[str], layout: str = "v2"
) -> None:
    """The files of a release below root/labels, the labels file last; each is whole or not there.

    v2: JSON; the labels file maps a class without its brackets to its index in `classes`, as a
    string. v1: CSV without brackets; the labels file is `classes`, line by line. Unlike both
    releases, the test file is as complete as the others.
    """
    (root / "labels").mkdir(parents=True, exist_ok=True)
    names = [plain(name) for name in classes]
    contents = {s: [_entry(item, layout) for item in items] for s, items in items_by_split.items()}
    contents["labels"] = names if layout == "v1" else {name: str(i) for i, name in enumerate(names)}
    for name, content in contents.items():
        if layout == "v1":
            text = "".join(f"{line}\n" for line in content)
        else:
            text = json.dumps(content, indent=1, ensure_ascii=False)
        write_text(_annotation_file(root, layout, name), text)


def _entry(item: Item, layout: str) -> str | dict:
    """What the file of a split says of a clip."""
    if layout == "v1":
        return f"{item.id};{plain(item.template)}"
    entry = dict(id=item.id, label=item.caption, template=item.template)
    return entry | dict(placeholders=item.placeholders)


def _annotation_file(root: Path, layout: str, name: str) -> Path:
    return root / "labels" / f"{PREFIX.format(layout)}{name}.{RELEASES[layout][1]}"


def read_truth(root: Path | str, clip_id: str) -> Truth:
    """The truth of a written clip.

    Raises:
        FileNotFoundError: naming the file and the command that draws it.
    """
    path = _truth(root, clip_id)
    if not path.is_file():
        why = f"no truth at {path}: draw it with `python -m lib.miniature {root}`"
        raise FileNotFoundError(why)
    saved = _saved(path)
    start, end = saved["action"].tolist()
    return Truth(saved["roles"], saved["times"], (start, end), bool(saved["camera_moves"]))


def _saved(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a truth. ValueError where the file is not one that `write` has made."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            return {name: saved[name] for name in KEPT}
    except Exception as error:  # a damaged zip raises many kinds
        raise ValueError(f"{path}: not a whole truth ({error}); remove it, draw again") from error
