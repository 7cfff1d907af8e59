"""The forty classes, acted out: one script for each, in `SCRIPTS`.

A script stages its class with things of its split and returns a `Scene`. A class that has a
reversal in `labels.REVERSED` has no script of its own: it is the other's with the progress running
from 1 to 0, so that the two differ in the direction of time and in nothing else.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from lib.data.labels import REVERSED
from lib.miniature import drawing
from lib.miniature.drawing import OBJECT, SECOND, Layer, Sprite, affine
from lib.miniature.scenes import (
    FINE,
    PI,
    Hand,
    Layers,
    Scene,
    Thing,
    Vessel,
    absence,
    carried,
    colour,
    pick,
    shaded,
    sheet,
    smooth,
    steady,
    straight,
    svg,
    unit,
    visit,
)

# Carrying


def putting(rng: Generator, split: str) -> Scene:
    thing, hand = Thing(rng, split), Hand(rng, split)
    rest = rng.uniform([-32, -25], [32, 35])
    start = rest - 160 * hand.direction + rng.normal(0, 15, 2)
    path = straight(start, rest, lambda s: 1 + 0.25 * (1 - s))
    return Scene(carried(thing, hand, path, 0, 0.65), [thing.name], [rest])


def moving(heading: float) -> Callable[[Generator, str], Scene]:
    """A hand moves a thing across the frame, along the angle `heading` or nearly so."""

    def script(rng: Generator, split: str) -> Scene:
        thing, hand = Thing(rng, split), Hand(rng, split)
        along, across = unit(heading), unit(heading + PI / 2)
        aside = rng.uniform(-32, 32)
        start = -rng.uniform(24, 46) * along + (aside - rng.uniform(-4, 4)) * across
        end = rng.uniform(24, 46) * along + (aside + rng.uniform(-4, 4)) * across
        layers = carried(thing, hand, straight(start, end), *visit(rng))
        return Scene(layers, [thing.name], [start, (start + end) / 2, end])

    return script


def moving_closer(rng: Generator, split: str) -> Scene:
    thing, other, hand = Thing(rng, split), Thing(rng, split, SECOND), Hand(rng, split)
    direction = unit(rng.uniform(0, 2 * PI))
    goal = -rng.uniform(15, 30) * direction + rng.normal(0, 6, 2)
    near = goal + direction * 0.5 * (thing.size + other.size)
    far = near + direction * rng.uniform(38, 52)
    move = carried(thing, hand, straight(far, near), *visit(rng))
    names, busy = [thing.name, other.name], [goal, near, far]
    return Scene(lambda u: other.layers(*goal) + move(u), names, busy)


def moving_towards_camera(rng: Generator, split: str) -> Scene:
    thing, hand = Thing(rng, split), Hand(rng, split)
    far, near = rng.uniform([-25, -25], [25, 25]), rng.uniform([-20, -15], [20, 20])
    small, large = rng.uniform(0.5, 0.75), rng.uniform(1.5, 2.0)
    path = straight(far, near, lambda s: small * (large / small) ** s)
    return Scene(carried(thing, hand, path, 0, 1), [thing.name], [far, near])


def putting_into(rng: Generator, split: str) -> Scene:
    thing, hand = Thing(rng, split), Hand(rng, split, angles=Hand.ABOVE)
    vessel, mouth = Vessel(rng), rng.uniform([-25, -8], [25, 14])
    thing.size = min(thing.size, 0.8 * vessel.wide)
    above = mouth - [0, 0.7 * thing.height + 8]
    start = above - 130 * hand.direction
    deep = mouth + [0, rng.uniform(0.05, 0.35) * vessel.tall]

    def between(u):
        s, sunk = smooth(u, 0, 0.4), smooth(u, 0.4, 0.65)
        x, y = start + s * (above - start) + sunk * (deep - above)
        tips = hand.grip(x, y - 0.2 * thing.size, thing.size)
        held = thing.layers(x, y)
        return held + hand.layers(*tips, absence(u, 0, 0.7))

    def layers(u):  # until it is above the opening, the thing is in front
        if u < 0.4:
            return vessel.layers(*mouth) + between(u)
        return vessel.layers(*mouth, content=between(u))

    return Scene(layers, [thing.name, vessel.name], [mouth, mouth + [0, 30]])


def stacking(rng: Generator, split: str) -> Scene:
    count, word = int(rng.integers(2, 4)), pick(rng, "books", "boxes", "bricks", "blocks")
    wide, tall = rng.uniform(38, 50), rng.uniform(15, 19)
    sprites = [Sprite(slab(rng, wide * rng.uniform(0.85, 1), tall)) for _ in range(count + 1)]
    hand = Hand(rng, split, angles=Hand.ABOVE, spread=0.45)
    foot = np.array([rng.uniform(-25, 25), rng.uniform(24, 40)])
    jitter = rng.normal(0, 2.5, count + 1)

    def layers(u):
        drawn = []
        for k, sprite in enumerate(sprites):
            rest = foot + [jitter[k], -k * tall]
            s = 1.0 if k == 0 else smooth(u, (k - 1) / count, (k - 0.4) / count)
            if s > 0:
                spot = rest - (1 - s) * (130 * hand.direction + [0, 12])
                matrix = affine(*spot, 1 / FINE, 0.15 * (1 - s), np.array(sprite.size) / 2)
                drawn += sprite.layers(matrix, OBJECT, lift=4 * (s < 1))
                away = smooth(u, (k - 0.35) / count, k / count) if k else 1.0
                if away < 1:
                    drawn += hand.layers(*hand.grip(*(spot - [0, 4]), wide), away)
        return drawn

    number = {2: "two", 3: "three"}[count]
    busy = [foot, foot - [0, 30], foot - [0, 55]]
    return Scene(layers, [number, word], busy, seconds=(2.2, 3.2))


def slab(rng: Generator, wide: float, tall: float) -> Image.Image:
    """A box seen from the side."""
    stripe = f"rgb{colour(rng)}"
    return svg(
        wide,
        tall,
        f'<defs>{shaded(rng)}</defs><rect width="{wide}" height="{tall}" rx="2" fill="url(#body)"/>'
        f'<rect x="{wide * rng.uniform(0.1, 0.7)}" width="{wide * 0.12}" height="{tall}" '
        f'fill="{stripe}"/><rect x=".7" y=".7" width="{wide - 1.4}" height="{tall - 1.4}" rx="2" '
        'fill="none" stroke="#000" stroke-opacity=".45" stroke-width="1.2"/>',
    )


# Holding and showing


def holding(rng: Generator, split: str) -> Scene:
    thing, hand = Thing(rng, split), Hand(rng, split)
    spot, sway = rng.uniform(-28, 28, 2), trembling(rng)

    def layers(u):
        x, y = spot + sway(u)
        return thing.layers(x, y, lift=5) + hand.layers(*hand.grip(x, y, thing.size))

    return Scene(layers, [thing.name], [spot], seconds=None)


def holding_next_to(rng: Generator, split: str) -> Scene:
    thing, other, hand = Thing(rng, split), Thing(rng, split, SECOND), Hand(rng, split)
    direction, sway = unit(rng.uniform(0, 2 * PI)), trembling(rng)
    goal = -rng.uniform(10, 25) * direction
    near = goal + direction * 0.55 * (thing.size + other.size)

    def layers(u):
        x, y = near + sway(u)
        held = thing.layers(x, y, lift=5)
        return other.layers(*goal) + held + hand.layers(*hand.grip(x, y, thing.size))

    return Scene(layers, [thing.name, other.name], [goal, near], seconds=None)


def trembling(rng: Generator) -> Callable[[float], np.ndarray]:
    """What a hand that holds still does all the same: up to a few units, to and fro."""
    rate, phase, reach = rng.uniform(0.5, 2.5, 2), rng.uniform(0, 2 * PI, 2), rng.uniform(0.5, 3, 2)
    return lambda u: reach * np.sin(2 * PI * rate * u + phase)


def showing(rng: Generator, split: str) -> Scene:
    """The thing fills the view and is turned this way and that; fingertips peep out from behind."""
    thing, hand = Thing(rng, split), Hand(rng, split)
    grown, sway = rng.uniform(1.4, 1.9), trembling(rng)
    spot = rng.uniform(-10, 10, 2) - rng.uniform(12, 24) * hand.direction
    swing, rate, phase = rng.uniform(0.5, 1.1), rng.uniform(0.7, 1.6), rng.uniform(0, 2 * PI)

    def layers(u):
        x, y = spot + sway(u)
        turned = swing * np.sin(2 * PI * rate * u + phase)
        tips = np.array([x, y]) - 0.3 * grown * thing.size * hand.direction
        front = thing.layers(x, y, grown, turn=0.25 * turned, stretch=np.cos(turned))
        return hand.layers(*tips) + front

    return Scene(layers, [thing.name], [spot], seconds=None)


def showing_photo(rng: Generator, split: str) -> Scene:
    subject, hand = Thing(rng, split), Hand(rng, split)
    size = (rng.uniform(44, 56), rng.uniform(40, 54))
    width, height = (int(FINE * side) for side in size)
    picture = drawing.background(rng, split, max(width, height)).crop((0, 0, width, height))
    figure = subject.sprite.image.convert("RGBA")
    figure.thumbnail((0.6 * width, 0.6 * height))
    picture.paste(figure, ((width - figure.width) // 2, (height - figure.height) // 2), figure)
    rim = int(3 * FINE)
    photo = Image.new("RGBA", (width + 2 * rim, height + 2 * rim), (246, 244, 238, 255))
    photo.paste(picture, (rim, rim))
    sprite, middle = Sprite(photo), np.array(photo.size) / 2
    spot, tilt = rng.uniform(-14, 14, 2), rng.uniform(-0.25, 0.25)
    small, large = rng.uniform(0.6, 0.8), rng.uniform(1.1, 1.5)
    arrive, sway = rng.uniform(0.3, 0.55), trembling(rng)

    def layers(u):
        s = smooth(u, 0, arrive)
        grown = small * (large / small) ** s
        away = 0.75 * (1 - smooth(u, 0, 0.8 * arrive))
        x, y = spot + sway(u) - 160 * away * hand.direction
        tips = np.array([x, y]) - 0.42 * grown * size[0] * hand.direction
        card = sprite.layers(affine(x, y, grown / FINE, tilt, middle), OBJECT, lift=5)
        return card + hand.layers(*tips, grown=grown)

    return Scene(layers, [subject.name], [spot], seconds=(2.4, 3.4))


def showing_empty(rng: Generator, split: str) -> Scene:
    """A vessel held at its rim is tilted until the camera sees its bottom."""
    vessel, hand = Vessel(rng, OBJECT), Hand(rng, split, angles=Hand.SIDEWAYS, spread=0.35)
    spot, side = rng.uniform([-20, -14], [20, 6]), -np.sign(hand.direction[0])
    upright, shown = rng.uniform(0.15, 0.3), rng.uniform(1.0, 1.3)
    back = 1.0 if rng.random() < 0.5 else rng.uniform(0.75, 0.9)

    def layers(u):
        s = smooth(u, 0.1, 0.6) - 0.8 * smooth(u, back, back + 0.2)
        tips = spot + [side * 0.46 * vessel.wide, 0.45 * vessel.tall * (1 - 0.7 * s)]
        return vessel.layers(*spot, tilt=upright + s * (shown - upright)) + hand.layers(*tips)

    return Scene(layers, [vessel.name], [spot, spot + [0, 25]])


# Touching without carrying


def poking(rng: Generator, split: str) -> Scene:
    thing, hand = Thing(rng, split), Hand(rng, split, Hand.POINTING)
    spot, times = rng.uniform(-28, 28, 2), int(rng.integers(1, 4))
    touch = spot - 0.38 * thing.size * hand.direction
    jolt, rock = rng.uniform(1, 3), rng.choice([-1, 1]) * rng.uniform(0.08, 0.2)

    def layers(u):
        inside = (u - 0.25) / 0.5 * times  # pokes done so far
        poke = np.sin(PI * (inside % 1)) ** 2 if 0 <= inside < times else 0.0
        tips = touch + (poke * (jolt + 4) - 9) * hand.direction
        moved = spot + poke * jolt * hand.direction
        return thing.layers(*moved, turn=poke * rock) + hand.layers(*tips, absence(u, 0.25, 0.75))

    return Scene(layers, [thing.name], [spot])


def pushing_slightly(rng: Generator, split: str) -> Scene:
    thing, hand = Thing(rng, split), Hand(rng, split, Hand.POINTING + Hand.GRASPING)
    distance, turned = rng.uniform(10, 18), rng.uniform(-0.3, 0.3)
    spot = rng.uniform(-28, 28, 2) - 0.5 * distance * hand.direction
    enter, leave = 0.3, 0.7

    def layers(u):
        s = smooth(u, enter, leave)
        x, y = spot + s * distance * hand.direction
        tips = np.array([x, y]) - 0.42 * thing.size * hand.direction
        return thing.layers(x, y, turn=s * turned) + hand.layers(*tips, absence(u, enter, leave))

    return Scene(layers, [thing.name], [spot])


def pushing_with(rng: Generator, split: str) -> Scene:
    """The hand holds a stick, and the stick pushes the thing, far."""
    thing, hand = Thing(rng, split), Hand(rng, split)
    word, (long, thick) = pick(rng, "a pencil", "a ruler", "a stick"), rng.uniform([50, 5], [66, 8])
    stick = Sprite(rod(rng, long, thick))
    heading = hand.angle + rng.uniform(-0.35, 0.35)
    distance = rng.uniform(26, 42)
    end = rng.uniform(-18, 18, 2) + 0.5 * distance * unit(heading)
    enter, leave = visit(rng)

    def layers(u):
        s = smooth(u, enter, leave)
        x, y = end - (1 - s) * distance * unit(heading)
        away = absence(u, enter, leave)
        point = np.array([x, y]) - 0.4 * thing.size * unit(heading) - 160 * away * hand.direction
        tip = (stick.size[0], stick.size[1] / 2)
        tool = stick.layers(affine(*point, 1 / FINE, heading, tip), SECOND, lift=3)
        return thing.layers(x, y) + tool + hand.layers(*(point - 0.72 * long * unit(heading)))

    busy = [end, end - distance * unit(heading)]
    return Scene(layers, [thing.name, word], busy)


def rod(rng: Generator, long: float, thick: float) -> Image.Image:
    """A pencil or stick that points right."""
    body = f"rgb{colour(rng, 80)}"
    tip = long - 1.3 * thick
    return svg(
        long,
        thick,
        f'<rect width="{tip}" height="{thick}" rx="1" fill="{body}"/>'
        f'<rect width="{tip}" y="{0.6 * thick}" height="{0.4 * thick}" fill="#000" opacity=".25"/>'
        f'<path d="M{tip},0 L{long},{thick / 2} L{tip},{thick} Z" fill="rgb{colour(rng)}"/>',
    )


def pretending_to_pick_up(rng: Generator, split: str) -> Scene:
    thing, hand = Thing(rng, split), Hand(rng, split)
    spot = rng.uniform(-28, 28, 2)
    tips, leave = hand.grip(*spot, thing.size), rng.uniform(0.5, 0.65)
    lifted = rng.uniform(0.15, 0.35)

    def layers(u):
        grown = 1 + lifted * smooth(u, leave, 1)
        return thing.layers(*spot) + hand.layers(*tips, absence(u, 0.35, leave), grown)

    return Scene(layers, [thing.name], [spot])


def pretending_to_put(beside: bool) -> Callable[[Generator, str], Scene]:
    """A hand brings a thing, holds it where it would be put, and takes it away again."""

    def script(rng: Generator, split: str) -> Scene:
        thing, hand = Thing(rng, split), Hand(rng, split)
        spot, leave = rng.uniform(-25, 25, 2), rng.uniform(0.5, 0.65)
        dip = rng.uniform(4, 10)
        neighbours, busy, names = [], [spot], [thing.name]
        if beside:
            other = Thing(rng, split, SECOND)
            apart = 0.52 * (thing.size + other.size)
            turn = hand.angle + rng.choice([-1, 1]) * rng.uniform(0.9, 2.2)
            goal = 0.5 * spot + apart * unit(turn)
            spot = goal - apart * unit(turn)
            neighbours, busy = other.layers(*goal), [spot, goal]
            names.append(other.name)

        def layers(u):
            away = absence(u, 0.4, leave)
            raised = 1 - abs(smooth(u, 0.3, 0.45) - smooth(u, leave - 0.05, leave + 0.1))
            x, y = spot - 160 * away * hand.direction - [0, dip * raised]
            held = thing.layers(x, y, 1 + 0.12 * raised, lift=3 + 4 * raised)
            return neighbours + held + hand.layers(*hand.grip(x, y, thing.size))

        return Scene(layers, names, busy)

    return script


def pretending_to_take(rng: Generator, split: str) -> Scene:
    """A hand goes into a vessel and comes out with nothing; what was in it stays."""
    thing, hand = Thing(rng, split), Hand(rng, split, angles=Hand.ABOVE)
    vessel, mouth = Vessel(rng), rng.uniform([-25, -8], [25, 14])
    thing.size = 0.65 * vessel.wide
    inside = mouth + [rng.uniform(-3, 3), rng.uniform(-0.1, 0.15) * vessel.tall]
    leave = rng.uniform(0.5, 0.65)
    content = thing.layers(*inside)

    def between(u):
        return content + hand.layers(*(inside + [0, 4]), absence(u, 0.35, leave))

    names, busy = [thing.name, vessel.name], [mouth, mouth + [0, 30]]
    return Scene(lambda u: vessel.layers(*mouth, content=between(u)), names, busy)


# Letting go


def dropping(rng: Generator, split: str) -> Scene:
    thing, hand = Thing(rng, split), Hand(rng, split)
    x, top, floor = rng.uniform(-28, 28), rng.uniform(-40, -22), rng.uniform(24, 42)
    release, fall = rng.uniform(0.25, 0.45), rng.uniform(0.25, 0.4)
    enter = rng.choice([0.0, 0.2])
    hop, spin = rng.uniform(0, 0.25), rng.normal(0, 1.0)

    def layers(u):
        s = steady(u, release, fall)
        y = top + (floor - top) * bounced(s, hop)
        away = absence(u, enter, 0.75)
        slid = -160 * absence(u, enter, 1.0) * hand.direction  # the thing comes with the hand
        opened = 5 * smooth(u, release, release + 0.1)
        tips = hand.grip(x, top, thing.size) - opened * hand.direction
        held = thing.layers(x + slid[0], y + slid[1], lift=6 * (1 - s), turn=s * spin)
        return held + hand.layers(*tips, away)

    return Scene(layers, [thing.name], [(x, top), (x, floor)])


def bounced(s: float, hop: float) -> float:
    """How far a thing has fallen (0..1) that reaches the floor at s = 0.6 and hops once."""
    if s < 0.6:
        return (s / 0.6) ** 2
    return 1 - hop * (1 - ((s - 0.8) / 0.2) ** 2)


def throwing_against(rng: Generator, split: str) -> Scene:
    thing, target = Thing(rng, split), Thing(rng, split, SECOND)
    side = rng.choice([-1, 1])
    hand = Hand(rng, split, angles=(0,) if side > 0 else (PI,), spread=0.4)
    thing.size, target.size = rng.uniform(24, 34), rng.uniform(46, 60)
    start = np.array([-side * rng.uniform(30, 40), rng.uniform(-10, 22)])
    goal = np.array([side * rng.uniform(20, 34), rng.uniform(-18, 8)])
    hit = goal - [side * 0.4 * (target.size + thing.size), rng.uniform(-8, 8)]
    release, flight, spin = rng.uniform(0.35, 0.5), rng.uniform(0.15, 0.22), rng.normal(0, 3)
    back, fall = rng.uniform(8, 26), rng.uniform(50, 80)

    def layers(u):
        s, after = steady(u, release, flight), max(u - release - flight, 0.0)
        swing = -14 * side * np.sin(PI * smooth(u, 0.1, release))  # drawn back, then forth
        x, y = start + [swing, 0] + s * (hit - start)
        y -= 40 * s * (1 - s)
        x, y = x - side * back * min(3 * after, 1), y + fall * (2 * after) ** 2
        jolt = 3 * side * np.sin(PI * min(after / 0.12, 1.0))
        tips = hand.grip(*(start + [swing, 0]), thing.size)
        flying = thing.layers(x, y, lift=6, turn=spin * (s + after))
        follows = hand.layers(*tips, 0.6 * smooth(u, release + 0.1, 1))
        return target.layers(goal[0] + jolt, goal[1]) + flying + follows

    return Scene(layers, [thing.name, target.name], [goal, start, hit])


def pouring(rng: Generator, split: str) -> Scene:
    bottle = Thing(rng, split, among=drawing.BOTTLES)
    side = rng.choice([-1, 1])  # the way it tips over
    hand = Hand(rng, split, angles=(0,) if side > 0 else (PI,), spread=0.5)
    bottle.size, bottle.angle = rng.uniform(42, 54), 0.0
    spot = np.array([-side * rng.uniform(8, 24), rng.uniform(-32, -14)])
    tilt = rng.uniform(1.7, 2.2)
    floor = rng.uniform(26, 42)
    vessel = Vessel(rng) if rng.random() < 0.6 else None
    juice = (*colour(rng, 40, 256), 230)
    begin, end = 0.2, rng.choice([0.8, 1.0])

    def mouth(turn):
        return spot + 0.46 * bottle.height * unit(turn - PI / 2)

    landing = mouth(side * tilt) + [side * 5, 0]
    rim = np.array([landing[0], max(floor - 22, landing[1] + 24)])

    def layers(u):
        s = smooth(u, 0, begin + 0.1) - (smooth(u, end, 1) if end < 1 else 0)
        turn = side * tilt * s
        flow = smooth(u, begin, begin + 0.15)
        until = end if end < 1 else 1.5
        gone = smooth(u, until, until + 0.12)
        x, y = mouth(turn)
        bottom = rim[1] + 6 if vessel else floor
        drops = stream(bottom - y, flow, gone, u, juice)
        falling = Layer(drops, affine(x + side * 3, y, 1 / FINE, 0, (6 * FINE, 0)), OBJECT)
        below = vessel.layers(*rim, content=[falling]) if vessel else [falling]
        held = bottle.layers(*spot, lift=5, turn=turn)
        tips = hand.grip(*spot, bottle.size)
        return below + held + hand.layers(*tips, turn=0.3 * turn)

    return Scene(layers, [bottle.name], [spot, (landing[0], floor)])


def stream(length: float, flow: float, gone: float, u: float, juice: tuple) -> Image.Image:
    """Liquid falling `length` world units: its front at `flow`, its tail at `gone` of the way."""
    height = max(int(FINE * length), 8)
    image = Image.new("RGBA", (int(12 * FINE), height))
    draw = ImageDraw.Draw(image)
    for k in range(40):
        at = (k + (u * 37) % 1) / 40
        if gone <= at**1.5 <= flow:
            x = FINE * (6 + np.sin(9 * at - 50 * u))
            y, r = height * at**1.5, FINE * (2.6 - 0.8 * at)
            draw.ellipse((x - r, y - 2.2 * r, x + r, y + 2.2 * r), fill=juice)
    return image


# Changing the thing itself


def hinged(rng: Generator, split: str, base, front, back, opened: float, name: str) -> Scene:
    """A leaf turns about its hinge from the angle `opened` until it lies on the base, `back` up.

    base, front and back are pictures.
    """
    hand, (enter, leave) = Hand(rng, split), visit(rng)
    centre, scale = rng.uniform(-14, 14, 2), rng.uniform(0.8, 1.1) / FINE
    turn = rng.uniform(0, 2 * PI)
    hinge = (0, base.height / 2)
    below = Sprite(base).layers(affine(*centre, scale, turn, hinge, -1), OBJECT)

    def layers(u: float) -> list[Layer]:
        theta = opened + smooth(u, enter, leave) * (PI - opened)
        stretch = np.cos(theta)
        leaf = affine(*centre, scale, turn, hinge, stretch)
        edge = leaf @ np.array([0.9 * front.width, front.height / 2, 1])
        side = Layer(front if stretch > 0 else back, leaf, OBJECT)
        return [*below, side, *hand.layers(*edge, absence(u, enter, leave))]

    return Scene(layers, [name], [centre])


def folding(rng: Generator, split: str) -> Scene:
    size = rng.uniform([26, 44], [40, 70])
    printed, back = sheet(rng, split, size), sheet(rng, split, size)
    name = pick(rng, "a sheet of paper", "a towel", "a napkin", "a letter")
    return hinged(rng, split, printed, printed, back, 0.0, name)


def closing(rng: Generator, split: str) -> Scene:
    size = rng.uniform([46, 44], [58, 60])
    lid, lining = sheet(rng, split, size), sheet(rng, split, size)
    box = Image.new("RGBA", lid.size, (*colour(rng, 20, 80), 255))
    frame = (0, 0, box.width - 1, box.height - 1)
    ImageDraw.Draw(box).rectangle(frame, outline=colour(rng, 80, 220), width=10)
    content = drawing.twemoji(pick(rng, *drawing.OBJECTS[split])).copy()
    content.thumbnail((min(box.size) - 36, min(box.size) - 36))
    corner = (box.width - content.width) // 2, (box.height - content.height) // 2
    box.alpha_composite(content, corner)
    name = pick(rng, "a box", "a case", "a drawer", "a chest")
    return hinged(rng, split, box, lining, lid, rng.uniform(0.3, 1.1), name)


def tearing(rng: Generator, split: str) -> Scene:
    size = rng.uniform([50, 46], [68, 62])
    page = sheet(rng, split, size)
    y = np.linspace(0, page.height, 12)
    edge = page.width * (0.5 + rng.uniform(-0.08, 0.08)) + rng.normal(0, 4, len(y))
    zigzag = list(zip(edge, y))
    halves = []
    for x in (0, page.width):
        mask = Image.new("L", page.size)
        ImageDraw.Draw(mask).polygon([(x, 0), *zigzag, (x, page.height)], fill=255)
        half = page.copy()
        half.putalpha(mask)
        halves.append(Sprite(half, strength=0.3))
    left = Hand(rng, split, angles=(0,), spread=0.35)
    hands = [left, Hand(rng, split, angles=(PI,), spread=0.35, other=left)]
    centre, tilt = rng.uniform(-12, 12, 2), rng.uniform(-0.2, 0.2)
    foot, middle = (edge[-1], page.height), np.array(page.size) / 2
    whole = affine(*centre, 1 / FINE, tilt, middle)
    pivot = whole @ np.array([*foot, 1])
    start, wide = rng.uniform(0.1, 0.3), rng.uniform(10, 18)

    def layers(u):
        torn = smooth(u, start, 0.7)
        apart = smooth(u, 0.55, 1) * wide
        drawn = []
        for half, hand, side in zip(halves, hands, (-1, 1)):
            x, y = pivot + side * apart * unit(tilt)
            matrix = affine(x, y, 1 / FINE, tilt + side * 0.3 * torn, foot)
            drawn += half.layers(matrix, OBJECT)
            held = (page.width * (0.5 + side * 0.28), 0.22 * page.height, 1)
            drawn += hand.layers(*(matrix @ np.array(held)))
        return drawn

    return Scene(layers, [pick(rng, "paper", "a letter", "a receipt", "cloth")], [centre])


def turning_upside_down(rng: Generator, split: str) -> Scene:
    thing, hand = Thing(rng, split), Hand(rng, split)
    thing.size = rng.uniform(38, 52)
    spot, way = rng.uniform(-25, 25, 2), rng.choice([-1, 1])
    enter, leave = visit(rng)

    def layers(u):
        s = smooth(u, enter, leave)
        away = absence(u, enter, leave)
        held = thing.layers(*spot, lift=4 * (1 - away), turn=way * PI * s)
        tips = hand.grip(*spot, thing.size)
        return held + hand.layers(*tips, away, turn=way * 0.9 * (s - 0.5) * (1 - away))

    return Scene(layers, [thing.name], [spot])


def uncovering(rng: Generator, split: str) -> Scene:
    thing, hand = Thing(rng, split), Hand(rng, split)
    spot, side = rng.uniform(-22, 22, 2), 1.35 * thing.size
    cloth = sheet(rng, split, (side, side * rng.uniform(0.9, 1.1)))
    corners = Image.new("L", cloth.size)
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, *cloth.size), radius=18, fill=255)
    cloth.putalpha(corners)
    sprite, middle, tilt = Sprite(cloth), np.array(cloth.size) / 2, rng.uniform(-0.4, 0.4)
    enter = rng.choice([0.0, 0.3])
    drag = -rng.uniform(75, 140) * hand.direction

    def layers(u):
        s = smooth(u, enter, 0.85)
        away = absence(u, enter, 1.0)
        x, y = spot + s * drag
        crumple = 1 - 0.35 * s
        cover = sprite.layers(affine(x, y, 1 / FINE, tilt, middle, crumple), SECOND, lift=5 * s)
        tips = np.array([x, y]) - 0.36 * side * hand.direction
        return thing.layers(*spot) + cover + hand.layers(*tips, away)

    return Scene(layers, [thing.name], [spot])


def plugging(rng: Generator, split: str) -> Scene:
    hand = Hand(rng, split)
    heading = rng.choice([0, PI]) + rng.uniform(-0.5, 0.5)
    plug, block = Sprite(plug_picture(rng)), Sprite(socket_picture(rng))
    goal = rng.uniform(-10, 10, 2) + 16 * unit(heading)
    distance = rng.uniform(40, 60)
    enter, leave = rng.choice([0.0, 0.25]), rng.choice([0.75, 1.0])
    whole = block.layers(affine(*goal, 1 / FINE, heading, (0, block.size[1] / 2)), SECOND)
    tip = (plug.size[0], plug.size[1] / 2)

    def layers(u):
        s = smooth(u, enter, leave)
        x, y = goal + (8 - (1 - s) * distance) * unit(heading)
        inserted = plug.layers(affine(x, y, 1 / FINE, heading, tip), OBJECT, lift=3 * (1 - s))
        tips = np.array([x, y]) - 18 * unit(heading)
        return inserted + whole + hand.layers(*tips, absence(u, enter, leave))

    names = [pick(rng, "a cable", "a plug", "a charger"), pick(rng, "a socket", "a power strip")]
    return Scene(layers, names, [goal, goal - distance * unit(heading)])


def plug_picture(rng: Generator) -> Image.Image:
    """A plug that points right, its prongs last, with a long cable behind it."""
    bend = rng.uniform(-9, 9)
    cable = f"M0,{10 + bend} C60,{10 - bend} 100,{10 + 2 * bend} 152,10"
    return svg(
        186,
        20,
        f'<defs>{shaded(rng)}</defs><path d="{cable}" fill="none" stroke="rgb{colour(rng, 10, 90)}"'
        ' stroke-width="3"/><rect x="148" y="4" width="8" height="12" rx="2" fill="#444"/>'
        '<rect x="154" y="1" width="22" height="18" rx="4" fill="url(#body)"/>'
        '<path d="M176,6 H186 M176,14 H186" stroke="#d8b25a" stroke-width="2.6"/>',
    )


def socket_picture(rng: Generator) -> Image.Image:
    """A block with its opening at its left side, and a lamp."""
    long, tall = rng.uniform(30, 56), rng.uniform(26, 36)
    return svg(
        long,
        tall,
        f'<defs>{shaded(rng)}</defs><rect width="{long}" height="{tall}" rx="4" fill="url(#body)"/>'
        f'<rect width="2.5" y="{tall / 2 - 8}" height="16" fill="#1b1b1b"/>'
        f'<circle cx="{long - 8}" cy="8" r="2.6" fill="#e33"/>'
        f'<rect x="{0.35 * long}" y="{0.6 * tall}" width="{0.4 * long}" height="2" fill="#0006"/>',
    )


# Moving the camera


def still_life(rng: Generator, split: str) -> tuple[Layers, list[str]]:
    """One to three objects that stay where they are, sometimes with a hand at rest on one."""
    things = [Thing(rng, split) for _ in range(rng.integers(1, 4))]
    spots = [rng.uniform(-12, 12, 2)] + [rng.uniform(-60, 60, 2) for _ in things[1:]]
    layers = [layer for thing, spot in zip(things, spots) for layer in thing.layers(*spot)]
    if rng.random() < 0.4:
        layers += Hand(rng, split).layers(*spots[0])
    return (lambda u: layers), [things[0].name]


def turning_camera(dx: float, dy: float) -> Callable[[Generator, str], Scene]:
    def script(rng: Generator, split: str) -> Scene:
        layers, names = still_life(rng, split)
        along, across = rng.uniform(60, 105), rng.uniform(-8, 8)

        def view(u):
            s = smooth(u, 0, 1) - 0.5
            return s * (dx * along + dy * across), s * (dy * along + dx * across), 1

        return Scene(layers, names, view=view, camera_moves=True)

    return script


def approaching(rng: Generator, split: str) -> Scene:
    layers, names = still_life(rng, split)
    zoom = rng.uniform(1.6, 2.3)

    def view(u):
        return 0, 0, zoom ** (smooth(u, 0, 1) - 0.4)

    return Scene(layers, names, view=view, camera_moves=True)


_FORWARD = {
    "Approaching [something] with your camera": approaching,
    "Closing [something]": closing,
    "Dropping [something]": dropping,
    "Folding [something]": folding,
    "Holding [something]": holding,
    "Holding [something] next to [something]": holding_next_to,
    "Moving [something] closer to [something]": moving_closer,
    "Moving [something] down": moving(PI / 2),
    "Moving [something] from left to right": moving(0.0),
    "Moving [something] towards the camera": moving_towards_camera,
    "Plugging [something] into [something]": plugging,
    "Poking [something]": poking,
    "Pouring [something]": pouring,
    "Pretending to pick [something] up": pretending_to_pick_up,
    "Pretending to put [something] next to [something]": pretending_to_put(beside=True),
    "Pretending to put [something] on a surface": pretending_to_put(beside=False),
    "Pretending to take [something] from [somewhere]": pretending_to_take,
    "Pushing [something] so that it slightly moves": pushing_slightly,
    "Pushing [something] with [something]": pushing_with,
    "Putting [something]": putting,
    "Putting [something] into [something]": putting_into,
    "Showing [something] (almost no hand)": showing,
    "Showing a photo of [something] to the camera": showing_photo,
    "Showing that [something] is empty": showing_empty,
    "Stacking [number of] [something]": stacking,
    "Tearing [something]": tearing,
    "Throwing [something] against [something]": throwing_against,
    "Turning [something] upside down": turning_upside_down,
    "Turning the camera left while filming [something]": turning_camera(-1, 0),
    "Turning the camera upwards while filming [something]": turning_camera(0, -1),
    "Uncovering [something]": uncovering,
}

#: template -> (script, whether its progress runs backwards)
SCRIPTS = {name: (script, False) for name, script in _FORWARD.items()}
SCRIPTS |= {REVERSED[name]: (script, True) for name, script in _FORWARD.items() if name in REVERSED}
