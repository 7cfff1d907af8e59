"""The actions of the miniature Something-Something: what is where, as the action goes from 0 to 1.

Each script below stages one class; its twin in `labels.REVERSED` is the same script with its
progress running from 1 to 0, so the two differ in the direction of time and in nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from lib import drawing
from lib.drawing import BACKGROUND, HAND, OBJECT, SECOND, Layer, affine
from lib.labels import REVERSED


@dataclass(frozen=True)
class Scene:
    """A staged clip: `layers(u)` and `view(u)` give the world and the camera at progress u."""

    layers: Callable[[float], list[Layer]]
    placeholders: list[str]
    view: Callable[[float], tuple[float, float, float]] = lambda u: (0.0, 0.0, 1.0)  # x, y, zoom
    camera_moves: bool = False
    busy: list[tuple[float, float]] = field(default_factory=list)  # where no bystander may stand


def smooth(u: float, start: float, end: float) -> float:
    """0 before `start`, 1 after `end`, and a gentle way between; a step where the two are equal."""
    if end <= start:
        return float(u >= start)
    s = min(max((u - start) / (end - start), 0.0), 1.0)
    return s * s * (3 - 2 * s)


class Thing:
    """A drawn object with its shadow."""

    def __init__(self, rng: np.random.Generator, split: str, role: int = OBJECT):
        emoji = str(rng.choice(list(drawing.OBJECTS[split])))
        self.name, self.image, self.role = drawing.name(emoji), drawing.drawing(emoji), role
        self.shadow = drawing.shadow(self.image)
        self.size = rng.uniform(30, 48)
        self.angle = rng.uniform(-0.4, 0.4)

    def layers(self, x: float, y: float, grown: float = 1.0, lift: float = 0.0) -> list[Layer]:
        scale = grown * self.size / max(self.image.size)
        centre, middle = np.array(self.image.size) / 2, np.array(self.shadow.size) / 2
        below = affine(x + 2 + 0.3 * lift, y + 3 + 0.6 * lift, scale, self.angle, middle)
        return [
            Layer(self.shadow, below, None),
            Layer(self.image, affine(x, y, scale, self.angle, centre), self.role),
        ]


class Hand:
    """A hand with its arm, reaching in from one side all through the clip."""

    def __init__(self, rng: np.random.Generator, split: str):
        shape = str(rng.choice(list(drawing.HANDS)))
        tone = str(rng.choice(list(drawing.TONES[split])))
        sleeve = tuple(int(c) for c in rng.integers(20, 236, 3) // 24 * 24)
        self.image, (tip_x, tip_y) = drawing.arm(shape, tone, sleeve)
        self.angle = rng.choice([0, np.pi, -np.pi / 2, -np.pi / 2]) + rng.uniform(-0.6, 0.6)
        if np.cos(self.angle) < 0:  # keep the thumb up when it comes from the right
            self.image = self.image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
            tip_y = self.image.height - tip_y
        self.tip = (tip_x, tip_y)
        self.scale = rng.uniform(0.5, 0.8)
        self.direction = np.array([np.cos(self.angle), np.sin(self.angle)])
        self.shadow = drawing.shadow(self.image, strength=0.3)

    def layers(self, x: float, y: float, away: float = 0.0, grown: float = 1.0) -> list[Layer]:
        """Fingertips at (x, y), or drawn back out of the frame as `away` goes to 1."""
        x, y = np.array([x, y]) - 150 * away * self.direction
        scale = grown * self.scale
        pad = (self.shadow.width - self.image.width) / 2
        tip = (self.tip[0] + pad, self.tip[1] + pad)
        return [
            Layer(self.shadow, affine(x + 3, y + 5, scale, self.angle, tip), None),
            Layer(self.image, affine(x, y, scale, self.angle, self.tip), HAND),
        ]


def carried(
    thing: Thing,
    hand: Hand,
    path: Callable[[float], tuple[float, float, float]],
    enter: float,
    leave: float,
) -> Callable[[float], list[Layer]]:
    """A hand takes hold at `enter`, moves the thing along path(s), lets go at `leave`.

    path(s) gives (x, y, grown) for s in 0..1.

    With `enter` 0 the hand is there from the beginning; with `leave` 1 it stays to the end.
    """

    def layers(u: float) -> list[Layer]:
        x, y, grown = path(smooth(u, enter, leave))
        before = 1 - smooth(u, 0, enter) if enter > 0 else 0
        after = smooth(u, leave, 1) if leave < 1 else 0
        held = 1 - max(before, after)
        grip = -0.25 * grown * thing.size * hand.direction
        return thing.layers(x, y, grown, lift=4 * held) + hand.layers(
            x + grip[0], y + grip[1], max(before, after), grown
        )

    return layers


def visit(rng: np.random.Generator) -> tuple[float, float]:
    """When a hand takes hold and lets go; it may be there at the beginning or stay to the end."""
    return rng.choice([0.0, 0.25], p=[0.3, 0.7]), rng.choice([0.75, 1.0], p=[0.7, 0.3])


def putting(rng: np.random.Generator, split: str) -> Scene:
    thing, hand = Thing(rng, split), Hand(rng, split)
    rest = rng.uniform([-32, -25], [32, 35])
    start = rest - 150 * hand.direction + rng.normal(0, 15, 2)

    def path(s):
        x, y = start + s * (rest - start)
        return x, y, 1 + 0.25 * (1 - s)

    return Scene(carried(thing, hand, path, 0, 0.65), [thing.name], busy=[tuple(rest)])


def moving_right(rng: np.random.Generator, split: str) -> Scene:
    thing, hand = Thing(rng, split), Hand(rng, split)
    left, right = -rng.uniform(24, 46), rng.uniform(24, 46)
    y, slope = rng.uniform(-30, 35), rng.uniform(-8, 8)

    def path(s):
        return left + s * (right - left), y + (s - 0.5) * slope, 1

    busy = [(left, y), (0, y), (right, y)]
    return Scene(carried(thing, hand, path, *visit(rng)), [thing.name], busy=busy)


def moving_closer(rng: np.random.Generator, split: str) -> Scene:
    thing, other, hand = Thing(rng, split), Thing(rng, split, SECOND), Hand(rng, split)
    turn = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(turn), np.sin(turn)])
    goal = -rng.uniform(15, 30) * direction + rng.normal(0, 6, 2)
    near = goal + direction * 0.5 * (thing.size + other.size)
    far = near + direction * rng.uniform(38, 52)

    def path(s):
        x, y = far + s * (near - far)
        return x, y, 1

    move = carried(thing, hand, path, *visit(rng))
    return Scene(
        lambda u: other.layers(*goal) + move(u),
        [thing.name, other.name],
        busy=[tuple(goal), tuple(near), tuple(far)],
    )


def moving_towards_camera(rng: np.random.Generator, split: str) -> Scene:
    thing, hand = Thing(rng, split), Hand(rng, split)
    far, near = rng.uniform([-25, -25], [25, 25]), rng.uniform([-20, -15], [20, 20])
    small, large = rng.uniform(0.5, 0.75), rng.uniform(1.5, 2.0)

    def path(s):
        x, y = far + s * (near - far)
        return x, y, small * (large / small) ** s

    return Scene(carried(thing, hand, path, 0, 1), [thing.name], busy=[tuple(far), tuple(near)])


def hinged(
    rng: np.random.Generator,
    split: str,
    base: Image.Image,
    front: Image.Image,
    back: Image.Image,
    opened: float,
    name: str,
) -> Scene:
    """A leaf turns about its hinge from the angle `opened` until it lies on the base, `back` up."""
    hand, (enter, leave) = Hand(rng, split), visit(rng)
    centre, scale = rng.uniform(-14, 14, 2), rng.uniform(0.8, 1.1)
    turn = rng.uniform(0, 2 * np.pi)
    hinge = (0, base.height / 2)
    shade = drawing.shadow(base)
    pad = (shade.width - base.width) / 2

    def layers(u: float) -> list[Layer]:
        theta = opened + smooth(u, enter, leave) * (np.pi - opened)
        stretch = np.cos(theta)
        leaf = affine(*centre, scale, turn, hinge, stretch)
        still = affine(*centre, scale, turn, hinge, -1)
        dropped = affine(centre[0] + 2, centre[1] + 3, scale, turn, (pad, pad + hinge[1]), -1)
        edge = leaf @ np.array([0.9 * front.width, front.height / 2, 1])
        before = 1 - smooth(u, 0, enter) if enter > 0 else 0
        after = smooth(u, leave, 1) if leave < 1 else 0
        return [
            Layer(shade, dropped, None),
            Layer(base, still, OBJECT),
            Layer(front if stretch > 0 else back, leaf, OBJECT),
            *hand.layers(*edge, max(before, after)),
        ]

    return Scene(layers, [name], busy=[tuple(centre)])


def sheet(rng: np.random.Generator, split: str, size: tuple[int, int]) -> Image.Image:
    """A piece of paper or cloth with something printed on it, RGBA, with a thin dark rim."""
    printed = drawing.texture(rng, split, max(size)).crop((0, 0, *size))
    plain = Image.new("RGB", size, tuple(int(c) for c in rng.integers(120, 256, 3)))
    page = Image.blend(plain, printed, rng.uniform(0, 0.6))
    ImageDraw.Draw(page).rectangle((0, 0, size[0] - 1, size[1] - 1), outline=(60, 60, 60))
    return page.convert("RGBA")


def folding(rng: np.random.Generator, split: str) -> Scene:
    size = (int(rng.uniform(26, 40)), int(rng.uniform(44, 70)))
    printed, back = sheet(rng, split, size), sheet(rng, split, size)
    name = str(rng.choice(["sheet of paper", "towel", "napkin", "letter"]))
    return hinged(rng, split, printed, printed, back, 0.0, name)


def closing(rng: np.random.Generator, split: str) -> Scene:
    size = (int(rng.uniform(46, 58)), int(rng.uniform(44, 60)))
    lid, lining = sheet(rng, split, size), sheet(rng, split, size)
    box = Image.new("RGBA", size, tuple(int(c) for c in rng.integers(20, 80, 3)) + (255,))
    rim = tuple(int(c) for c in rng.integers(80, 220, 3))
    ImageDraw.Draw(box).rectangle((0, 0, size[0] - 1, size[1] - 1), outline=rim, width=4)
    content = drawing.drawing(str(rng.choice(list(drawing.OBJECTS[split])))).copy()
    content.thumbnail((min(size) - 14, min(size) - 14))
    box.alpha_composite(content, ((size[0] - content.width) // 2, (size[1] - content.height) // 2))
    name = str(rng.choice(["box", "case", "drawer", "chest"]))
    return hinged(rng, split, box, lining, lid, rng.uniform(0.3, 1.1), name)


def still_life(rng: np.random.Generator, split: str) -> tuple[Callable, list[str]]:
    """One to three objects that stay where they are, sometimes with a hand at rest on one."""
    things = [Thing(rng, split) for _ in range(rng.integers(1, 4))]
    spots = [rng.uniform(-12, 12, 2)] + [rng.uniform(-60, 60, 2) for _ in things[1:]]
    layers = [layer for thing, spot in zip(things, spots) for layer in thing.layers(*spot)]
    if rng.random() < 0.4:
        layers += Hand(rng, split).layers(*spots[0])
    return (lambda u: layers), [things[0].name]


def turning_camera(dx: float, dy: float) -> Callable[[np.random.Generator, str], Scene]:
    def script(rng: np.random.Generator, split: str) -> Scene:
        layers, names = still_life(rng, split)
        along, across = rng.uniform(60, 105), rng.uniform(-8, 8)

        def view(u):
            s = smooth(u, 0, 1) - 0.5
            return s * (dx * along + dy * across), s * (dy * along + dx * across), 1

        return Scene(layers, names, view, camera_moves=True)

    return script


def approaching(rng: np.random.Generator, split: str) -> Scene:
    layers, names = still_life(rng, split)
    zoom = rng.uniform(1.6, 2.3)
    return Scene(
        layers, names, lambda u: (0, 0, zoom ** (smooth(u, 0, 1) - 0.4)), camera_moves=True
    )


_FORWARD = {
    "Approaching [something] with your camera": approaching,
    "Closing [something]": closing,
    "Folding [something]": folding,
    "Moving [something] closer to [something]": moving_closer,
    "Moving [something] from left to right": moving_right,
    "Moving [something] towards the camera": moving_towards_camera,
    "Putting [something]": putting,
    "Turning the camera left while filming [something]": turning_camera(-1, 0),
    "Turning the camera upwards while filming [something]": turning_camera(0, -1),
}

#: template -> (script, whether its progress runs backwards)
SCRIPTS = {name: (script, False) for name, script in _FORWARD.items()}
SCRIPTS |= {REVERSED[name]: (script, True) for name, script in _FORWARD.items()}


def bystanders(rng: np.random.Generator, split: str, busy: list) -> list[Layer]:
    """Up to two objects that have nothing to do with the action, away from it."""
    layers = []
    for _ in range(rng.integers(3)):
        x, y = rng.uniform(-70, 70, 2)
        if all(np.hypot(x - bx, y - by) > 42 for bx, by in busy):
            layers += Thing(rng, split, BACKGROUND).layers(x, y)
    return layers
