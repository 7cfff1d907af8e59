"""The miniature Something-Something: a drawn stand-in for a dataset nobody may redistribute.

Emoji objects and hands act out classes of the article over textures, before a camera that moves.
A clip is drawn from (seed, split, index) alone, so the same three numbers give the same clip on
any machine, and a fresh seed gives fresh ones without end. Beside each clip stands the truth: which
pixels are the object, the hand and the second object, and when the action happens.
"""

import argparse
import json
import os
import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from torch.utils.data import Dataset
from tqdm import tqdm

from lib.data.labels import CLASSES_40, fill
from lib.data.something import RELEASES, Item, releases, write_annotations
from lib.data.video import write_frames, write_video
from lib.miniature import actions, scenes
from lib.miniature.drawing import FRAME, HAND, OBJECT, Layer, affine, background, render

CLASSES = CLASSES_40
SPLITS = ("train", "validation", "test")
SECONDS, FPS = 4.0, 12
VIDEOS = {"v1": "20bn-something-something-v1", "v2": "videos"}  # folder of the clips, by layout
WORLD = 352  # the background's side in world units
VERSION = 2  # of the drawing; clips of another version are not mixed with these


@dataclass(frozen=True)
class Drawn:
    """A clip with its truth.

    frames (T, H, W, 3) uint8; roles (T, H, W) uint8, one of `drawing`'s BACKGROUND, OBJECT, HAND,
    SECOND; times (T,) seconds; action (start, end) seconds.
    """

    frames: np.ndarray
    roles: np.ndarray
    times: np.ndarray
    class_index: int
    placeholders: list[str]
    action: tuple[float, float]
    camera_moves: bool

    @property
    def template(self) -> str:
        return CLASSES[self.class_index]

    @property
    def truth(self) -> "Truth":
        return Truth(self.roles, self.times, self.action, self.camera_moves)

    def __repr__(self) -> str:
        return f"Drawn({fill(self.template, self.placeholders)!r}, {len(self.frames)} frames)"


@dataclass(frozen=True)
class Truth:
    """What is known of a clip because it was drawn: see `Drawn`."""

    roles: np.ndarray
    times: np.ndarray
    action: tuple[float, float]
    camera_moves: bool

    @property
    def mask(self) -> np.ndarray:
        """What moves, (T, H, W) bool: object and hand, or the whole frame when the camera does."""
        if self.camera_moves:
            return np.full(self.roles.shape, True)
        return (self.roles == OBJECT) | (self.roles == HAND)

    def at(self, times: np.ndarray) -> "Truth":
        """The truth of the frames shown at these times (seconds), such as a sampled clip's."""
        shown = np.searchsorted(self.times, np.asarray(times) + 1e-3, side="right") - 1
        shown = shown.clip(0)
        return Truth(self.roles[shown], self.times[shown], self.action, self.camera_moves)

    def __repr__(self) -> str:
        start, end = self.action
        return f"Truth({len(self.times)} frames, action from {start:.2f} to {end:.2f} s)"


def handheld(rng: np.random.Generator):
    """A camera held by hand: small sways that differ in every clip; t -> (x, y, zoom, angle)."""
    frequency, phase = rng.uniform(0.1, 0.9, (4, 3)), rng.uniform(0, 2 * np.pi, (4, 3))
    reach = np.array([1.6, 1.6, 0.012, 0.012]) * rng.uniform(0, 1.5, 4)
    still = np.array(
        [*rng.uniform(-8, 8, 2), np.log(rng.uniform(0.82, 1.22)), rng.uniform(-0.1, 0.1)]
    )
    return lambda t: still + reach * np.sin(2 * np.pi * frequency * t + phase).mean(1)


def draw(
    split: str,
    index: int,
    seed: int = 0,
    times: np.ndarray | None = None,
    size: int | tuple[int, int] = FRAME,
    class_index: int | None = None,
    scenery: str | None = None,
) -> Drawn:
    """Draw one clip.

    Args:
        split: train, validation or test; each has its own objects, hands and backgrounds.
        index: the clip's number; class `index % len(CLASSES)` unless `class_index` says otherwise.
        times: seconds of the frames wanted; by default 12 a second for 4 seconds.
        size: side of the square frames in pixels, or (width, height); a wider frame sees more.
        scenery: the split whose backgrounds are used, when it is another.

    Raises:
        ValueError: for an unknown split, or a width that is not 1 to 1.6 times the height.
    """
    for name in (split, scenery or split):
        if name not in SPLITS:
            raise ValueError(f"split {name!r}: choose one of {', '.join(SPLITS)}")
    width, height = size if isinstance(size, tuple) else (size, size)
    if not height <= width <= 1.6 * height:
        raise ValueError(f"size {width}x{height}: the width must be 1 to 1.6 times the height")
    # Each part has dice of its own, so that a clip is the same at any size and over any scenery.
    dice = np.random.default_rng([seed, SPLITS.index(split), index]).spawn(4)
    times = np.arange(int(SECONDS * FPS)) / FPS if times is None else np.asarray(times)
    class_index = index % len(CLASSES) if class_index is None else class_index
    script, backwards = actions.SCRIPTS[CLASSES[class_index]]
    scene = script(dice[0], split)
    wall = Layer(background(dice[1], scenery or split, WORLD), affine(-WORLD / 2, -WORLD / 2))
    behind, before = scenes.bystanders(dice[0], split, scene.busy)
    sway, light = handheld(dice[2]), lighting(dice[3], (width, height))
    length = dice[2].uniform(*scene.seconds) if scene.seconds else SECONDS
    start = dice[2].uniform(0.2, SECONDS - 0.4 - length) if scene.seconds else 0.0

    frames, roles = [], []
    for t in times:
        progress = np.clip((t - start) / length, 0, 1)
        u = 1 - progress if backwards else progress
        x, y, zoom = scene.view(u)
        dx, dy, log_zoom, angle = sway(t)
        zoom *= np.exp(log_zoom) * height / FRAME
        camera = affine(width / 2, height / 2, zoom, angle, anchor=(x + dx, y + dy))
        layers = [wall, *behind(t), *scene.layers(u), *before(t)]
        frame, role = render(layers, camera, (width, height))
        frames.append(light(frame))
        roles.append(role)
    return Drawn(
        np.stack(frames),
        np.stack(roles),
        times,
        class_index,
        scene.placeholders,
        (start, start + length),
        scene.camera_moves,
    )


class Fresh(Dataset):
    """Miniature clips drawn in memory, never the same twice: `clips` of them for each epoch.

    Items are (frames (16, size, size, 3) uint8, class index). `scenery`: as in `draw`.
    """

    def __init__(
        self,
        split: str,
        clips: int,
        seed: int = 0,
        size: int = 128,
        first: int = 0,
        scenery: str | None = None,
    ):
        self.split, self.clips, self.seed, self.size, self.first = split, clips, seed, size, first
        self.scenery = scenery

    def __len__(self) -> int:
        return self.clips

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        times = np.arange(16) / 4
        drawn = draw(self.split, self.first + i, self.seed, times, self.size, scenery=self.scenery)
        return drawn.frames, drawn.class_index

    def epoch(self, number: int) -> "Fresh":
        """The next clips in the endless row."""
        return Fresh(
            self.split, self.clips, self.seed, self.size, number * self.clips, self.scenery
        )


def lighting(rng: np.random.Generator, size: tuple[int, int]):
    """What lamp and lens do: picture -> frame uint8.

    A lamp to one side, a little flicker, a little sensor noise, and some clips out of focus.
    """
    width, height = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    gain = rng.uniform(0.75, 1.15) + rng.uniform(-0.5, 0.5) * (x / width - 0.5)
    gain += rng.uniform(-0.5, 0.5) * (y / height - 0.5)
    gain = np.repeat((gain * 256).astype(np.int32)[..., None], 3, axis=2)
    blur = ImageFilter.BoxBlur(rng.uniform(0.3, 0.9) * height / FRAME * (rng.random() < 0.3))
    loud, dice = rng.uniform(0.5, 4), rng.spawn(1)[0]
    noise = dice.normal(0, loud, (2 * height, 2 * width, 3)).astype(np.int16)

    def light(picture: Image.Image) -> np.ndarray:
        flicker = int(256 * rng.normal(1, 0.01))
        i, j = dice.integers(height), dice.integers(width)
        frame = np.asarray(picture.filter(blur) if blur.radius else picture)
        lit = (frame * gain >> 8) * flicker >> 8
        return (lit + noise[i : i + height, j : j + width]).clip(0, 255).astype(np.uint8)

    return light


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
    root/20bn-something-something-v1/ID/00001.jpg, and root/labels/*.csv. Both as `datasets` reads
    them, and both with root/truth/ID.npz. `size` is a side or (width, height), in pixels.

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
    missing = [job for job in jobs if not (root / "truth" / f"{identity(*job)}.npz").is_file()]
    if missing:
        for folder in (VIDEOS[layout], "truth"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        card.write_text(json.dumps(made))
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


def _video(root: Path, layout: str, clip_id: str) -> Path:
    return root / VIDEOS[layout] / f"{clip_id}{RELEASES[layout][0]}"


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
    part = root / "truth" / f"{clip_id}.part.npz"
    np.savez_compressed(
        part,
        roles=drawn.roles,
        times=drawn.times,
        action=drawn.action,
        camera_moves=drawn.camera_moves,
        template=drawn.template,
        placeholders=drawn.placeholders,
    )
    os.replace(part, root / "truth" / f"{clip_id}.npz")  # last: its presence says the clip is whole


def _item(root: Path, layout: str, split: str, index: int) -> Item:
    clip_id = identity(split, index)
    with np.load(root / "truth" / f"{clip_id}.npz") as saved:
        template, placeholders = str(saved["template"]), saved["placeholders"].tolist()
    path, label = _video(root, layout, clip_id), fill(template, placeholders)
    return Item(clip_id, path, template, label, placeholders, CLASSES.index(template))


def read_truth(root: Path | str, clip_id: str) -> Truth:
    """The truth of a written clip.

    Raises:
        FileNotFoundError: naming the file and the command that draws it.
    """
    path = Path(root) / "truth" / f"{clip_id}.npz"
    if not path.is_file():
        raise FileNotFoundError(
            f"no truth at {path}: draw it with `python -m lib.miniature {root}`"
        )
    with np.load(path) as saved:
        start, end = saved["action"].tolist()
        return Truth(saved["roles"], saved["times"], (start, end), bool(saved["camera_moves"]))


def _size(text: str) -> tuple[int, int]:
    """(width, height) of "128" or "320x240"."""
    sides = re.fullmatch(r"(\d+)(?:x(\d+))?", text, re.ASCII)
    if not sides:
        raise argparse.ArgumentTypeError(f"{text!r}: write a side or both, as 128 or 320x240")
    return int(sides[1]), int(sides[2] or sides[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.miniature",
        description="Draw the miniature Something-Something: the clips and annotations of one of "
        "its releases, and the truth. A run that was stopped goes on where it was.",
    )
    parser.add_argument("root", nargs="?", default="data/miniature", help="folder (%(default)s)")
    parser.add_argument("--clips", type=int, default=1600, help="in all, split 8:1:1 (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--size", type=_size, default=FRAME, help="side, or WIDTHxHEIGHT, in pixels (%(default)s)"
    )
    parser.add_argument(
        "--layout", choices=RELEASES, default="v2", help="v1: JPEGs and CSV; v2: .webm and JSON"
    )
    parser.add_argument("--workers", type=int, help="processes (default: one for each core)")
    args = parser.parse_args()
    try:
        root = write(args.root, args.clips, args.seed, args.size, args.workers, args.layout)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    print(f"{args.clips} clips of {len(CLASSES)} classes in {root}")


if __name__ == "__main__":
    main()
