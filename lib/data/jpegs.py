"""The frames of a folder or a zip of JPEGs, with Pillow."""

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from lib.data.faults import VideoError, check_pixels, reading

JPEG_RATE = 12.0  # JPEGs a second in a folder or zip, as Something-Something has them


def is_jpegs(path: Path) -> bool:
    """Whether this is a folder, or a zip by its name or its first bytes: FFmpeg would take the
    pictures in a zip that is called .mp4 for a video."""
    if path.is_dir() or path.suffix.lower() == ".zip":
        return True
    with path.open("rb") as file:
        return file.read(4) == b"PK\3\4"


def is_frame(name: str) -> bool:
    return name[0].isdigit() and name.endswith(".jpg")


@contextmanager
def opened(path: Path) -> Iterator[list[tuple[float, Path | zipfile.Path]]]:
    """(seconds, JPEG) of 00001.jpg, 00002.jpg, ...; other files are ignored."""
    with (
        reading(path, "a damaged zip", "make or copy it again"),
        nullcontext(path) if path.is_dir() else zipfile.ZipFile(path) as folder,
    ):
        files = [*(path if path.is_dir() else zipfile.Path(folder)).iterdir()]
        found = {f.name: f for f in files if is_frame(f.name)}
        names = [f"{number:05}.jpg" for number in range(1, len(found) + 1)]
        if not names:
            inside = [f.name for f in files if f.is_dir()][:1]
            remedy = f"they lie deeper, perhaps in {inside[0]}" if inside else "unpack again"
            raise VideoError(f"{path}: no frames 00001.jpg, 00002.jpg, ... in it; {remedy}")
        if lacking := [path / name for name in names if name not in found]:
            raise VideoError(f"{lacking[0]}: missing, though {max(found)} is there; unpack again")
        yield [(number / JPEG_RATE, found[name]) for number, name in enumerate(names)]


def picture(path: Path, cut: Callable, jpeg: Path | zipfile.Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned as the camera noted; then cut."""
    name = path / jpeg.name
    with reading(name, "not a JPEG, or damaged", "unpack or copy it again"):
        if not jpeg.is_file():
            raise VideoError(f"{name}: a folder, pipe or device, not a file; unpack again")
        with jpeg.open("rb") as file, Image.open(file, formats=["JPEG"]) as image:
            check_pixels(name, *image.size)
            ImageOps.exif_transpose(image, in_place=True)
            return cut(np.asarray(image.convert("RGB")))
