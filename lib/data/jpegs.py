"""The frames of a folder or a zip of JPEGs, with Pillow."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from PIL import Image, ImageOps

from lib.data.faults import VideoError, check_pixels, reading

JPEG_RATE = 12.0  # JPEGs a second in a folder or zip, as Something-Something has them
Jpeg = tuple[str, ZipFile | None]  # its name, and the zip that it is in, if it is in one


def is_jpegs(path: Path) -> bool:
    """Whether this is a folder, or a zip by its name or its first bytes: FFmpeg would take the
    pictures in a zip that is called .mp4 for a video."""
    if path.is_dir() or path.suffix.lower() == ".zip":
        return True
    with path.open("rb") as file:
        return file.read(4) == b"PK\3\4"


def is_frame(name: str) -> bool:
    return name[:1].isdigit() and "/" not in name and name.endswith(".jpg")


@contextmanager
def opened(path: Path) -> Iterator[list[tuple[float, Jpeg]]]:
    """(seconds, JPEG) of 00001.jpg, 00002.jpg, ...; other files are ignored."""
    with (
        reading(path, "a damaged zip", "make or copy it again"),
        nullcontext() if path.is_dir() else ZipFile(path) as file,
    ):
        # By its list of names: zipfile.Path never ends, or fills the memory, for some of them.
        files = file.namelist() if file else os.listdir(path)
        odd = re.compile(r"\d+\.jpe?g", re.IGNORECASE)  # one of these is missed by name
        found = {name for name in files if is_frame(name) or odd.fullmatch(name)}
        names = [f"{number:05}.jpg" for number in range(1, len(found) + 1)]
        if not names:
            deeper = (name for name in files if "/" in name or (path / name).is_dir())
            inside = next(deeper, "").partition("/")[0]
            remedy = f"they lie deeper, perhaps in {inside}" if inside else "unpack again"
            raise VideoError(f"{path}: no frames 00001.jpg, 00002.jpg, ... in it; {remedy}")
        if lacking := [path / name for name in names if name not in found]:
            raise VideoError(f"{lacking[0]}: missing, though {max(found)} is there; unpack again")
        yield [(number / JPEG_RATE, (name, file)) for number, name in enumerate(names)]


def picture(path: Path, cut: Callable, jpeg: Jpeg) -> np.ndarray:
    """(H, W, 3) uint8 RGB, turned as the camera noted; then cut."""
    name, zipped = path / jpeg[0], jpeg[1]
    with reading(name, "not a JPEG, or damaged", "unpack or copy it again"):
        if not zipped and not name.is_file():
            raise VideoError(f"{name}: a folder, pipe or device, not a file; unpack again")
        data = zipped.open(jpeg[0]) if zipped else name.open("rb")
        with data as file, Image.open(file, formats=["JPEG"]) as image:
            check_pixels(name, *image.size)
            ImageOps.exif_transpose(image, in_place=True)
            return cut(np.asarray(image.convert("RGB")))
