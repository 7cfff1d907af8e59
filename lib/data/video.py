"""A video file, a folder of JPEGs or a zip of them in, a clip out."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import index
from pathlib import Path
from stat import S_ISDIR, S_ISREG

import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from lib.data import jpegs, streams
from lib.data.faults import VideoError, check_clip, reading
from lib.data.jpegs import JPEG_RATE

TOLERANCE = 0.002  # seconds; containers round the time of a frame, Matroska and WebM to 1 ms
MOST_FRAMES = 1_000_000  # of a clip


@dataclass(eq=False)
class Clip:
    """Frames of a video, upright, with square pixels, in the order shown."""

    frames: np.ndarray  # (T, H, W, 3) uint8 RGB
    times: np.ndarray  # (T,) float64, seconds from the first frame of the video
    label: str | None = None  # name of the true class, where it is known
    mask: np.ndarray | None = None  # (T, H, W) bool: what moves, where it is known
    note: str = ""  # what to know of the frames: few of them differ, their colours are pale

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        count, height, width, _ = self.frames.shape
        begin, end = self.times[[0, -1]]
        return f"Clip({count} frames of {width}x{height}, {begin:.2f} to {end:.2f} s)"


@dataclass(frozen=True)
class Crop:
    """A square of a frame, the same for all frames of a clip. The default is the middle one."""

    side: float = 1.0  # as a share of the frame's shorter side
    x: float = 0.5  # where it lies: 0 at the left edge, 1 at the right
    y: float = 0.5  # 0 at the top, 1 at the bottom
    mirrored: bool = False  # left and right exchanged

    def __post_init__(self):
        if not (0 < self.side <= 1 and 0 <= self.x <= 1 and 0 <= self.y <= 1):
            raise ValueError(f"{self}: side is above 0 and at most 1, x and y from 0 to 1")

    def of(self, frames: np.ndarray) -> np.ndarray:
        """(T, H, W, 3) to (T, S, S, 3), whole pixels, a view."""
        height, width = frames.shape[1:3]
        side = max(1, int(self.side * min(width, height)))
        left, top = int(self.x * (width - side)), int(self.y * (height - side))
        square = frames[:, top : top + side, left : left + side]
        return square[:, :, ::-1] if self.mirrored else square


CENTRE = Crop()


def read_clip(
    path: str | Path,
    frames: int = 16,
    fps: float = 4.0,
    start: float | None = None,
    size: int | None = None,
    at: float = 0.5,
    crop: Crop | None = None,
) -> Clip:
    """`frames` frames of a video, `fps` of them per second.

    The video is a file, a folder of JPEGs 00001.jpg, 00002.jpg, ..., 12 of them per second, or a
    zip of such JPEGs, whatever it is called. Frame i is the one on screen at start + i/fps seconds;
    past the end the last frame and its time are repeated. Without a `start`, `at` says where a
    video longer than frames/fps is read: 0 is its beginning, 1 its end, the default its middle.
    Frames are upright, with square pixels, as a player shows them, but for a crop that the file may
    ask for. A `crop` cuts a square out of each; a `size` resizes the crop, the middle one by
    default, to size x size. Memory depends on the clip, not the video.

    Raises VideoError for whatever is wrong with the file, such as pictures above 67 million pixels
    or a clip above 4 GB; ValueError or TypeError for an argument that makes no sense.
    """
    path, frames, size = Path(path), index(frames), size if size is None else index(size)
    fits = (size is None or size > 0) and (start is None or start >= 0)
    if not (0 < frames <= MOST_FRAMES and 0 < fps < math.inf and fits):
        given = f"frames={frames}, fps={fps}, start={start}, size={size}"
        limits = "counts, rates and sizes are above 0 and finite, start at least 0"
        raise ValueError(f"{given}: {limits}, frames at most {MOST_FRAMES:,}")
    if not 0 <= at <= 1:
        raise ValueError(f"at={at}: choose from 0, the beginning, to 1, the end")
    if not isinstance(crop, Crop | None):
        raise TypeError(f"crop={crop!r}: a Crop or None")
    with reading(path):
        origin, length, note = _extent(path)
        if start and start >= length - TOLERANCE:
            raise VideoError(f"{path}: ends at {length:.2f} s; choose a start below, not {start}")
        begin = max(0.0, length - frames / fps) * at if start is None else start
        read = _read_jpegs if jpegs.is_jpegs(path) else _read_video
        cut = partial(_cut, path, frames, size, crop)
        times, pictures = zip(*read(path, origin + begin + np.arange(frames) / fps, cut))
        if len({picture.shape for picture in pictures}) > 1:
            fault = "changes its frame size on the way"
            raise VideoError(f"{path}: {fault}; pass size= to make all equal")
        if 2 * (different := len({*times})) < frames:
            short = f"only {different} of the {frames} frames differ: the video is too short"
            note = "; ".join(filter(None, (note, short)))
        return Clip(np.stack(pictures), np.array(times) - origin, note=note)


def duration(path: str | Path) -> float:
    """Seconds from the first frame of a video until the last one is gone; else VideoError."""
    path = Path(path)
    with reading(path):
        return _extent(path)[1]


def square(frames: np.ndarray, size: int, crop: Crop = CENTRE) -> np.ndarray:
    """A square of each frame (T, H, W, 3) uint8, antialiased: (T, size, size, 3)."""
    images = map(Image.fromarray, crop.of(frames))
    return np.stack([image.resize((size, size), Image.Resampling.BILINEAR) for image in images])


def _cut(path: Path, frames: int, size: int | None, crop: Crop | None, picture: np.ndarray):
    """What is kept of one picture (H, W, 3) of so many; a copy, so that the rest can go."""
    if size is None and crop is not None:
        picture = crop.of(picture[None])[0].copy()
    check_clip(path, frames, size or picture.shape[1], size or picture.shape[0])
    return picture if size is None else square(picture[None], size, crop or CENTRE)[0]


def _sample(timed: Iterator, wanted: np.ndarray, picture: Callable) -> list:
    """(seconds, picture) on screen at each of the wanted seconds; `timed` are (seconds, frame)."""
    shown, following, made, kept = next(timed, None), next(timed, None), None, []
    for second in wanted if shown else []:
        while following and following[0] - second <= min(TOLERANCE, (following[0] - shown[0]) / 2):
            shown, following, made = following, next(timed, None), None
        made = picture(shown[1]) if made is None else made
        kept.append((shown[0], made))
    return kept


def _extent(path: Path) -> tuple[float, float, str]:
    """Time of the first frame, seconds from it until the last one is gone, a note on colours."""
    mode = path.stat().st_mode
    if not S_ISREG(mode) and not S_ISDIR(mode):  # opening a pipe would wait for a writer
        raise VideoError(f"{path}: a pipe or device, not a file; name a video file")
    if jpegs.is_jpegs(path):
        with jpegs.opened(path) as timed:
            return 0.0, len(timed) / JPEG_RATE, ""
    return streams.extent(path)


def _read_jpegs(path: Path, wanted: np.ndarray, cut: Callable) -> list:
    with jpegs.opened(path) as timed:
        return _sample(iter(timed), wanted, partial(jpegs.picture, path, cut))


def _read_video(path: Path, wanted: np.ndarray, cut: Callable) -> list:
    for early in (0.0, 2.0, 30.0, None):  # an index can lead past the frame sought: try earlier
        with streams.opened(path) as stream:
            if sought := early is not None and streams.is_exact(stream):
                streams.seek(stream, wanted[0] - early)
            make = partial(streams.picture, path, stream, VideoReformatter(), cut)
            kept = _sample(streams.decode(stream, sought), wanted, make)
        if kept and kept[0][0] <= wanted[0] + TOLERANCE:
            break
    return kept
