"""What can be wrong with a video, said as one kind of error; and how large one may be."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from PIL import Image

MOST_PIXELS = 2**26  # of one picture: 67 million, twice an 8K film
MOST_BYTES = 2**32  # of one clip: 4 GB


class VideoError(ValueError):
    """A video cannot be read or written; the message names the file, the fault and the remedy."""


@contextmanager
def reading(
    path: Path,
    fault: str = "not a video, or damaged",
    remedy: str = "copy it again, or convert it to .mp4",
) -> Iterator[None]:
    """Whatever goes wrong inside leaves as a VideoError about this file.

    A damaged file can make a decoder raise nearly anything (AttributeError, IndexError,
    OverflowError, zlib.error, ...), so check arguments before: their errors are the caller's.
    """
    try:
        yield
    except VideoError:
        raise
    except Exception as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        match error:
            case FileNotFoundError():
                why = "no such file or folder; check the name"
            case PermissionError():
                why = "may not be read; change the permissions of the file or its folder"
            case MemoryError():
                why = "needs more memory than there is; pass size=, or ask for fewer frames"
            case Image.DecompressionBombError():
                why = f"has too large a picture ({said}); make it smaller"
            case OSError(errno=int()) if not isinstance(error, av.FFmpegError):
                why = f"cannot be read ({said}); check the name and the disk"
            case _:
                why = f"{fault} ({said}); {remedy}"
        raise VideoError(f"{path}: {why}") from error


def check_pixels(path: Path, width: int, height: int) -> None:
    """Raise VideoError for a picture above MOST_PIXELS; call it before the picture is decoded."""
    if width * height > MOST_PIXELS:
        most = f"at most {MOST_PIXELS / 1e6:.0f} million pixels"
        raise VideoError(f"{path}: pictures of {width}x{height}; make them smaller, {most}")


def check_clip(path: Path, frames: int, width: int, height: int) -> None:
    """Raise VideoError for a clip above MOST_BYTES."""
    if frames * height * width * 3 > MOST_BYTES:
        most = f"take more than {MOST_BYTES / 2**30:.0f} GB"
        remedy = "pass a smaller size=, or ask for fewer frames"
        raise VideoError(f"{path}: {frames} frames of {width}x{height} {most}; {remedy}")
