"""The miniature Something-Something: a drawn stand-in for a dataset nobody may redistribute.

Emoji objects and hands act out classes of the article over textures, before a camera that moves.
A clip is drawn from (seed, split, index) alone, so the same three numbers give the same clip on
any machine, and a fresh seed gives fresh ones without end. Beside each clip stands the truth: which
pixels are the object, the hand and the second object, and when the action happens.
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lib import scenes
from lib.datasets import Item, write_annotations
from lib.drawing import FRAME, HAND, OBJECT, Layer, affine, background, render
from lib.labels import CLASSES_40, fill
from lib.video import write_video

#: The classes drawn so far, in the order of the article's forty.
CLASSES = [name for name in CLASSES_40 if name in scenes.SCRIPTS]
SPLITS = ("train", "validation", "test")
SECONDS, FPS = 4.0, 12
WORLD = 352  # the background's side in world units
VERSION = 1  # of the drawing; clips of another version are not mixed with these


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
        [*rng.uniform(-8, 8, 2), np.log(rng.uniform(0.85, 1.35)), rng.uniform(-0.1, 0.1)]
    )
    return lambda t: still + reach * np.sin(2 * np.pi * frequency * t + phase).mean(1)


def draw(
    split: str,
    index: int,
    seed: int = 0,
    times: np.ndarray | None = None,
    size: int = FRAME,
    class_index: int | None = None,
) -> Drawn:
    """Draw one clip.

    Args:
        split: train, validation or test; each has its own objects, hands and backgrounds.
        index: the clip's number; class `index % len(CLASSES)` unless `class_index` says otherwise.
        times: seconds of the frames wanted; by default 12 a second for 4 seconds.
        size: side of the square frames in pixels.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: choose one of {', '.join(SPLITS)}")
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    times = np.arange(int(SECONDS * FPS)) / FPS if times is None else np.asarray(times)
    class_index = index % len(CLASSES) if class_index is None else class_index
    script, backwards = scenes.SCRIPTS[CLASSES[class_index]]
    scene = script(rng, split)
    scenery = Layer(background(rng, split, WORLD), affine(-WORLD / 2, -WORLD / 2))
    others = scenes.bystanders(rng, split, scene.busy)
    sway, light = handheld(rng), lighting(rng, size)
    length = rng.uniform(1.4, 3.0)
    start = rng.uniform(0.2, SECONDS - 0.4 - length)

    frames, roles = [], []
    for t in times:
        progress = np.clip((t - start) / length, 0, 1)
        u = 1 - progress if backwards else progress
        x, y, zoom = scene.view(u)
        dx, dy, log_zoom, angle = sway(t)
        zoom *= np.exp(log_zoom) * size / FRAME
        camera = affine(size / 2, size / 2, zoom, angle, anchor=(x + dx, y + dy))
        frame, role = render([scenery, *others, *scene.layers(u)], camera, size)
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


def lighting(rng: np.random.Generator, size: int):
    """A lamp to one side, a little flicker and a little sensor noise: frame -> frame, uint8."""
    y, x = (np.mgrid[:size, :size] / size - 0.5).astype(np.float32)
    gain = rng.uniform(0.75, 1.15) + rng.uniform(-0.5, 0.5) * x + rng.uniform(-0.5, 0.5) * y
    gain = np.repeat((gain * 256).astype(np.int32)[..., None], 3, axis=2)
    noise = rng.normal(0, rng.uniform(0.5, 4), (2 * size, 2 * size, 3)).astype(np.int16)

    def light(frame: np.ndarray) -> np.ndarray:
        flicker = int(256 * rng.normal(1, 0.01))
        i, j = rng.integers(size, size=2)
        lit = (frame * gain >> 8) * flicker >> 8
        return (lit + noise[i : i + size, j : j + size]).clip(0, 255).astype(np.uint8)

    return light


def write(
    root: Path | str,
    clips: int = 1080,
    seed: int = 0,
    size: int = FRAME,
    workers: int | None = None,
) -> Path:
    """Draw a dataset, 8:1:1, in the layout of Something-Something v2; what is there is kept.

    root/videos/ID.webm, root/labels/*.json as `datasets` reads them, root/truth/ID.npz.

    Raises:
        ValueError: when the folder holds a miniature of another size, seed or version.
    """
    root = Path(root)
    made = dict(version=VERSION, seed=seed, size=size, clips=clips)
    card = root / "miniature.json"
    if card.is_file() and (found := json.loads(card.read_text())) != made:
        raise ValueError(f"{root} holds {found}, not {made}: remove it or name another folder")
    counts = dict(zip(SPLITS, (clips - 2 * (clips // 10), clips // 10, clips // 10)))
    jobs = [(split, i) for split in SPLITS for i in range(counts[split])]
    missing = [job for job in jobs if not (root / "truth" / f"{identity(*job)}.npz").is_file()]
    if missing:
        for folder in ("videos", "truth"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        card.write_text(json.dumps(made))
        with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
            work = pool.map(partial(_write_clip, root, seed, size), missing, chunksize=4)
            for _ in tqdm(work, total=len(missing), desc=f"drawing {root}", unit="clip"):
                pass
    if missing or not (root / "labels").is_dir():
        items = {split: [_item(root, s, i) for s, i in jobs if s == split] for split in SPLITS}
        write_annotations(root, items, CLASSES)
    return root


def identity(split: str, index: int) -> str:
    """A clip's id: a number, as in the release."""
    return str(100_000 * (SPLITS.index(split) + 1) + index)


def _write_clip(root: Path, seed: int, size: int, job: tuple[str, int]) -> None:
    drawn, clip_id = draw(*job, seed=seed, size=size), identity(*job)
    write_video(root / "videos" / f"{clip_id}.webm", drawn.frames, FPS)
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


def _item(root: Path, split: str, index: int) -> Item:
    clip_id = identity(split, index)
    with np.load(root / "truth" / f"{clip_id}.npz") as saved:
        template, placeholders = str(saved["template"]), saved["placeholders"].tolist()
    path = root / "videos" / f"{clip_id}.webm"
    label = fill(template, placeholders)
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


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.miniature",
        description="Draw the miniature Something-Something: .webm clips, the dataset's JSON, and "
        "the truth. A run that was stopped goes on where it was.",
    )
    parser.add_argument("root", nargs="?", default="data/miniature", help="folder (%(default)s)")
    parser.add_argument("--clips", type=int, default=1080, help="in all, split 8:1:1 (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=FRAME, help="side in pixels (%(default)s)")
    parser.add_argument("--workers", type=int, help="processes (default: one for each core)")
    args = parser.parse_args()
    try:
        root = write(args.root, args.clips, args.seed, args.size, args.workers)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    print(f"{args.clips} clips of {len(CLASSES)} classes in {root}")


if __name__ == "__main__":
    main()
