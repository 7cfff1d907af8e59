"""What actions are staged with: things, hands that reach in, props, cameras, bystanders.

A staged clip is a `Scene`: what is where as the action's progress u goes from 0 to 1. Positions are
in world units about the middle of the frame, y downwards; angles in radians.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from lib.miniature import drawing
from lib.miniature.drawing import BACKGROUND, HAND, OBJECT, SECOND, Layer, Sprite, affine

FINE = 2.5  # pixels of a prop for each world unit
PI = np.pi
Layers = Callable[[float], list[Layer]]
Track = Callable[[float], tuple[float, float, float]]  # x, y, how much larger


@dataclass(frozen=True)
class Scene:
    """A staged clip: `layers(u)` and `view(u)` give the world and the camera at progress u.

    seconds: how long the action may last; None: all through the clip. busy: where no bystander may
    stand.
    """

    layers: Layers
    placeholders: list[str]
    busy: Sequence[np.ndarray] = ()
    view: Track = lambda u: (0.0, 0.0, 1.0)
    camera_moves: bool = False
    seconds: tuple[float, float] | None = (1.4, 3.0)


def smooth(u: float, start: float, end: float) -> float:
    """0 before `start`, 1 after `end`, and a gentle way between; a step where the two are equal."""
    if end <= start:
        return float(u >= start)
    s = min(max((u - start) / (end - start), 0.0), 1.0)
    return s * s * (3 - 2 * s)


def steady(u: float, start: float, length: float) -> float:
    """0 before `start`, 1 when `length` has passed since, and an even pace between."""
    return min(max((u - start) / length, 0.0), 1.0)


def absence(u: float, enter: float, leave: float) -> float:
    """How far away a hand is (1: out of sight) that arrives at `enter` and goes from `leave` on.

    With `enter` 0 it is there from the beginning; with `leave` 1 it stays to the end.
    """
    before = 1 - smooth(u, 0, enter) if enter > 0 else 0
    after = smooth(u, leave, 1) if leave < 1 else 0
    return max(before, after)


def visit(rng: np.random.Generator) -> tuple[float, float]:
    """When a hand takes hold and lets go; it may be there at the beginning or stay to the end."""
    return rng.choice([0.0, 0.25], p=[0.3, 0.7]), rng.choice([0.75, 1.0], p=[0.7, 0.3])


def pick(rng: np.random.Generator, *words: str) -> str:
    return str(rng.choice(words))


def colour(rng: np.random.Generator, low: int = 20, high: int = 236) -> tuple[int, int, int]:
    return tuple(int(c) for c in rng.integers(low, high, 3))


def unit(angle: float) -> np.ndarray:
    """The direction (x, y) of an angle."""
    return np.array([np.cos(angle), np.sin(angle)])


class Thing:
    """A drawn object with its shadow; `size` is its longer side in world units."""

    def __init__(self, rng: np.random.Generator, split: str, role=OBJECT, among=drawing.OBJECTS):
        emoji = str(rng.choice(list(among[split])))
        self.name, self.sprite, self.role = drawing.name(emoji), drawing.sprite(emoji), role
        self.size = rng.uniform(30, 48)
        self.angle = rng.uniform(-0.4, 0.4)

    @property
    def height(self) -> float:
        return self.size * self.sprite.size[1] / max(self.sprite.size)

    def layers(self, x, y, grown=1.0, lift=0.0, turn=0.0, stretch=1.0) -> list[Layer]:
        """The thing with its middle at (x, y), `turn` from how it lies, shown `stretch` as wide."""
        scale = grown * self.size / max(self.sprite.size)
        centre = np.array(self.sprite.size) / 2
        matrix = affine(x, y, scale, self.angle + turn, centre, stretch)
        return self.sprite.layers(matrix, self.role, lift)


class Hand:
    """A hand with its arm, reaching in from one side; it points along `direction`."""

    GRASPING, POINTING = "🤏🫱🫳", "👉"
    ANYWHERE, SIDEWAYS, ABOVE = (0, PI, -PI / 2, -PI / 2), (0, PI), (0, PI, PI / 2)

    def __init__(
        self,
        rng: np.random.Generator,
        split: str,
        shapes=GRASPING,
        angles=ANYWHERE,
        spread=0.6,
        other: "Hand | None" = None,
    ):
        shape = pick(rng, *shapes)
        tone = pick(rng, *drawing.TONES[split])
        sleeve = colour(rng)
        self.skin = other.skin if other else (tone, sleeve)  # of the same person
        image, tip = drawing.arm(shape, *self.skin)
        self.angle = rng.choice(angles) + rng.uniform(-spread, spread)
        if np.cos(self.angle) < 0:  # keep the thumb up when it comes from the right
            image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
            tip = (tip[0], image.height - tip[1])
        self.sprite, self.tip = Sprite(image, strength=0.3), tip
        self.scale = other.scale if other else rng.uniform(0.5, 0.8) * 72 / drawing.SIDE
        self.direction = unit(self.angle)

    def layers(self, x, y, away=0.0, grown=1.0, turn=0.0) -> list[Layer]:
        """Fingertips at (x, y), or drawn back out of the frame as `away` goes to 1."""
        x, y = np.array([x, y]) - 160 * away * self.direction
        matrix = affine(x, y, grown * self.scale, self.angle + turn, self.tip)
        return self.sprite.layers(matrix, HAND, lift=2)

    def grip(self, x: float, y: float, size: float) -> np.ndarray:
        """Where the fingertips are that hold a thing of this size at (x, y)."""
        return np.array([x, y]) - 0.25 * size * self.direction


def straight(start: np.ndarray, end: np.ndarray, grown=lambda s: 1) -> Track:
    """From `start` to `end` as s goes from 0 to 1."""
    return lambda s: (*(start + s * (end - start)), grown(s))


def carried(thing: Thing, hand: Hand, path: Track, enter: float, leave: float) -> Layers:
    """A hand takes hold at `enter`, moves the thing along path(s), lets go at `leave`.

    s goes from 0 to 1. See `absence` for `enter` 0 and `leave` 1.
    """

    def layers(u: float) -> list[Layer]:
        x, y, grown = path(smooth(u, enter, leave))
        away = absence(u, enter, leave)
        tips = hand.grip(x, y, grown * thing.size)
        held = thing.layers(x, y, grown, lift=4 * (1 - away))
        return held + hand.layers(*tips, away, grown)

    return layers


def sheet(rng: np.random.Generator, split: str, size: tuple[float, float]) -> Image.Image:
    """Paper or cloth of a size in world units, something printed on it, RGBA, with a thin rim."""
    width, height = (int(FINE * side) for side in size)
    printed = drawing.texture(rng, split, max(width, height)).crop((0, 0, width, height))
    plain = Image.new("RGB", (width, height), colour(rng, 120, 256))
    page = Image.blend(plain, printed, rng.uniform(0, 0.6))
    ImageDraw.Draw(page).rectangle((0, 0, width - 1, height - 1), outline=(60, 60, 60), width=2)
    return page.convert("RGBA")


def svg(width: float, height: float, shapes: str) -> Image.Image:
    """A prop drawn in world units."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
    return drawing.rasterise(int(FINE * width), svg_string=f"{head}{shapes}</svg>")


def shaded(rng: np.random.Generator) -> str:
    """A gradient across, "body", of one random colour: round things are drawn with it."""
    base = np.array(colour(rng, 60, 230))
    stops = "".join(
        f'<stop offset="{at}" stop-color="rgb({",".join(map(str, (base * f).astype(int)))})"/>'
        for at, f in ((0, 0.75), (0.3, 1.08), (1, 0.55))
    )
    return f'<linearGradient id="body">{stops}</linearGradient>'


class Vessel:
    """A cup, bowl or bucket that shows its inside, more of it the more it is tilted to the camera.

    Its inside and its front are layers of their own, so that things can be between them.
    """

    def __init__(self, rng: np.random.Generator, role: int = SECOND):
        kind = pick(rng, "cup", "bowl", "bucket", "jar", "basket")
        wide, tall, narrow = {
            "cup": (34, 34, 0.8),
            "bowl": (50, 26, 0.5),
            "bucket": (42, 40, 0.75),
            "jar": (32, 40, 1.0),
            "basket": (52, 30, 0.85),
        }[kind]
        self.name, self.role = f"a {kind}", role
        self.wide, self.tall = wide * rng.uniform(0.9, 1.15), tall * rng.uniform(0.9, 1.15)
        self.narrow, self.body = narrow, shaded(rng)
        self.band = f"rgb{colour(rng)}" if rng.random() < 0.5 else "none"
        self.drawn = (None, None, None)  # the last tilt, with its pictures

    def pictures(self, tilt: float) -> tuple[Image.Image, Image.Image]:
        """Inside and front; the opening's middle is at (wide / 2 + 2, wide / 2 + 2) world units."""
        r, depth = self.wide / 2, self.tall * np.cos(tilt)
        flat, x, y, base = r * np.sin(tilt), r + 2, r + 2, r * self.narrow
        side, box = 2 * r + 4, 2 * r + 4 + self.tall
        inside = (
            f'<defs><linearGradient id="in">'
            '<stop offset="0" stop-color="#15110e"/><stop offset="1" stop-color="#5b5048"/>'
            f'</linearGradient></defs><ellipse cx="{x}" cy="{y}" rx="{r}" ry="{flat}" '
            'fill="url(#in)"/>'
        )
        bottom = y + depth
        outline = (
            f"M{x - r},{y} A{r},{flat} 0 0 0 {x + r},{y} L{x + base},{bottom} "
            f"A{base},{flat * self.narrow} 0 0 1 {x - base},{bottom} Z"
        )
        middle, across = y + flat * 0.8 + 0.35 * depth, r * (0.65 + 0.35 * self.narrow)
        band = (
            f"M{x - across},{middle - flat * 0.3} "
            f"A{across},{flat} 0 0 0 {x + across},{middle - flat * 0.3}"
        )
        front = (
            f'<defs>{self.body}</defs><path d="{outline}" fill="url(#body)"/>'
            f'<path d="{band}" fill="none" stroke="{self.band}" stroke-width="{0.1 * self.tall}"/>'
            f'<ellipse cx="{x}" cy="{y}" rx="{r}" ry="{flat}" fill="none" stroke="#fff" '
            'stroke-opacity=".55" stroke-width="1.4"/>'
        )
        return svg(side, box, inside), svg(side, box, front)

    def layers(self, x, y, tilt=0.45, content: Sequence[Layer] = ()) -> list[Layer]:
        """The vessel with the middle of its opening at (x, y), and what is in it."""
        if tilt != self.drawn[0]:
            inside, front = self.pictures(tilt)
            self.drawn = tilt, inside, Sprite(front)
        _, inside, front = self.drawn
        middle = FINE * (self.wide / 2 + 2)
        matrix = affine(x, y, 1 / FINE, 0, (middle, middle))
        shade, face = front.layers(matrix, self.role)
        back = Layer(inside, matrix, self.role)
        return [shade, back, *content, face]


def bystanders(rng: np.random.Generator, split: str, busy: Sequence) -> tuple[Layers, Layers]:
    """Up to two objects that have nothing to do with the action, behind it and before it.

    Those behind keep away from the action; some drift, whichever way they like, as t (seconds)
    goes. Now and then something out of focus stands before a corner of the frame.
    """
    behind, before = [], []
    for _ in range(rng.integers(3)):
        x, y = rng.uniform(-70, 70, 2)
        drift = unit(rng.uniform(0, 2 * PI)) * rng.uniform(2, 12) * (rng.random() < 0.5)
        spin = rng.normal(0, 0.4) * (rng.random() < 0.3)
        ends = np.array([x, y]) + 4 * drift
        spots = [(x, y), ends]
        if all(np.hypot(a - bx, b - by) > 42 for a, b in spots for bx, by in busy):
            behind.append((Thing(rng, split, BACKGROUND), np.array([x, y]), drift, spin))
    if rng.random() < 0.2:
        thing = Thing(rng, split, BACKGROUND)
        corner = rng.choice([-1, 1], 2) * rng.uniform([64, 58], [80, 72])
        before.append((thing, corner, unit(rng.uniform(0, 2 * PI)) * rng.uniform(0, 3), 0.0))

    def moving(things: list, grown: float) -> Layers:
        return lambda t: [
            layer
            for thing, spot, drift, spin in things
            for layer in thing.layers(*(spot + t * drift), grown, turn=t * spin)
        ]

    return moving(behind, 1.0), moving(before, 1.7)
