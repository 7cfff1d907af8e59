"""One drawn clip: emoji objects and hands act out a class over textures, before a moving camera.

A clip is drawn from (seed, split, index) alone, so the same three numbers give the same clip on
any machine, and a new seed gives new clips without end. Its truth comes with it.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter
from torch.utils.data import Dataset

from lib.data.labels import CLASSES_40
from lib.data.something import SPLITS
from lib.data.video import Clip
from lib.miniature import actions, scenes
from lib.miniature.drawing import FRAME, HAND, OBJECT, SECOND, Layer, affine, background, render

CLASSES = CLASSES_40
SECONDS, FPS = 4.0, 12
VERSION = 2  # of the drawing; clips of another version are not mixed with these
PARTS = {"object": OBJECT, "hand": HAND, "second": SECOND, "bystanders": None}  # and their roles
WORLD = 352  # the background's side in world units


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of a clip because it was drawn."""

    roles: np.ndarray  # (T, H, W) uint8: BACKGROUND, OBJECT, HAND or SECOND of `drawing`
    times: np.ndarray  # (T,) seconds
    action: tuple[float, float]  # seconds at which it starts and ends
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


@dataclass(eq=False, repr=False, kw_only=True)
class Drawn(Clip):
    """A clip with its truth: `label` is its class, `mask` what moves."""

    truth: Truth
    placeholders: list[str]  # names of the objects, as the template asks for them

    def __repr__(self) -> str:
        caption = fill_template(self.label, self.placeholders)
        return f"Drawn({caption!r}, {len(self.frames)} frames)"


def draw(
    split: str,
    index: int,
    seed: int = 0,
    times: np.ndarray | None = None,
    size: int | tuple[int, int] = FRAME,
    class_index: int | None = None,
    scenery: str | None = None,
    without: Collection[str] = (),
) -> Drawn:
    """Draw one clip.

    Args:
        split: train, validation or test; each has its own objects, hands and backgrounds.
        index: the clip's number; class `index % len(CLASSES)` unless `class_index` says otherwise.
        times: seconds of the frames wanted; by default 12 a second for 4 seconds.
        size: side of the square frames in pixels, or (width, height); a wider frame sees more.
        scenery: the split whose backgrounds are used, when it is another.
        without: names of `PARTS` that are left out, with their shadows; all else stays the same.

    Raises:
        ValueError: for an unknown split or part, or a width that is not 1 to 1.6 times the height.
    """
    for name in (split, scenery or split):
        if name not in SPLITS:
            raise ValueError(f"split {name!r}: choose one of {', '.join(SPLITS)}")
    if unknown := set(without) - PARTS.keys():
        raise ValueError(f"without {sorted(unknown)}: choose from {', '.join(PARTS)}")
    width, height = size if isinstance(size, tuple) else (size, size)
    if not height <= width <= 1.6 * height:
        raise ValueError(f"size {width}x{height}: the width must be 1 to 1.6 times the height")
    # Each part has a generator of its own: a clip is the same at any size and over any scenery.
    rngs = np.random.default_rng([seed, SPLITS.index(split), index]).spawn(4)
    times = np.arange(int(SECONDS * FPS)) / FPS if times is None else np.asarray(times)
    class_index = index % len(CLASSES) if class_index is None else class_index
    script, backwards = actions.SCRIPTS[CLASSES[class_index]]
    scene = script(rngs[0], split)
    wall = Layer(background(rngs[1], scenery or split, WORLD), affine(-WORLD / 2, -WORLD / 2))
    behind, before = scenes.bystanders(rngs[0], split, scene.busy)
    if "bystanders" in without:
        behind = before = lambda t: []
    removed = {PARTS[name] for name in without}
    sway, light = handheld(rngs[2]), lighting(rngs[3], (width, height))
    length = rngs[2].uniform(*scene.seconds) if scene.seconds else SECONDS
    start = rngs[2].uniform(0.2, SECONDS - 0.4 - length) if scene.seconds else 0.0

    frames, roles = [], []
    for t in times:
        progress = np.clip((t - start) / length, 0, 1)
        u = 1 - progress if backwards else progress
        x, y, zoom = scene.view(u)
        dx, dy, log_zoom, angle = sway(t)
        zoom *= np.exp(log_zoom) * height / FRAME
        camera = affine(width / 2, height / 2, zoom, angle, anchor=(x + dx, y + dy))
        layers = [wall, *behind(t), *scene.layers(u), *before(t)]
        kept = [layer for layer in layers if layer.role not in removed]
        frame, role = render(kept, camera, (width, height))
        frames.append(light(frame))
        roles.append(role)
    truth = Truth(np.stack(roles), times, (start, start + length), scene.camera_moves)
    return Drawn(
        np.stack(frames),
        times,
        CLASSES[class_index],
        truth.mask,
        truth=truth,
        placeholders=scene.placeholders,
    )


def fill_template(template: str, placeholders: list[str]) -> str:
    """The caption of a clip: its template with the objects put in, in order, lower case.

    >>> fill_template("Moving [something] closer to [something]", ["banana", "red apple"])
    'moving banana closer to red apple'
    """
    for placeholder in placeholders:
        start, end = template.index("["), template.index("]")
        template = template[:start] + placeholder + template[end + 1 :]
    return template[0].lower() + template[1:]


class Fresh(Dataset):
    """Miniature clips drawn in memory, never the same twice: `clips` of them for each epoch.

    Items are (frames (16, size, size, 3) uint8, class index). For training, every other round of
    the classes is drawn no larger than the written dataset, and enlarged. `scenery`: as in `draw`.
    """

    def __init__(self, split: str, clips: int, seed=0, size=FRAME, first=0, scenery=None):
        self.split, self.clips, self.seed, self.size, self.first = split, clips, seed, size, first
        self.scenery = scenery

    def __len__(self) -> int:
        return self.clips

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        index, side, times = self.first + i, self.size, np.arange(16) / 4
        if self.split == "train" and index // len(CLASSES) % 2:
            side = min(side, FRAME)
        drawn = draw(self.split, index, self.seed, times, side, scenery=self.scenery)
        images, wanted = map(Image.fromarray, drawn.frames), (self.size, self.size)
        frames = np.stack([np.asarray(image.resize(wanted, Image.BICUBIC)) for image in images])
        return frames, CLASSES.index(drawn.label)

    def epoch(self, number: int) -> "Fresh":
        """The next clips of the endless sequence."""
        first = number * self.clips
        return Fresh(self.split, self.clips, self.seed, self.size, first, self.scenery)


def handheld(rng: np.random.Generator):
    """A camera held by hand: small sways that differ in every clip; t -> (x, y, zoom, angle)."""
    frequency, phase = rng.uniform(0.1, 0.9, (4, 3)), rng.uniform(0, 2 * np.pi, (4, 3))
    reach = np.array([1.6, 1.6, 0.012, 0.012]) * rng.uniform(0, 1.5, 4)
    still = np.array(
        [*rng.uniform(-8, 8, 2), np.log(rng.uniform(0.82, 1.22)), rng.uniform(-0.1, 0.1)]
    )
    return lambda t: still + reach * np.sin(2 * np.pi * frequency * t + phase).mean(1)


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
    level, grain = rng.uniform(0.5, 4), rng.spawn(1)[0]
    noise = grain.normal(0, level, (2 * height, 2 * width, 3)).astype(np.int16)

    def light(picture: Image.Image) -> np.ndarray:
        flicker = int(256 * rng.normal(1, 0.01))
        i, j = grain.integers(height), grain.integers(width)
        frame = np.asarray(picture.filter(blur) if blur.radius else picture)
        lit = (frame * gain >> 8) * flicker >> 8
        return (lit + noise[i : i + height, j : j + width]).clip(0, 255).astype(np.uint8)

    return light
