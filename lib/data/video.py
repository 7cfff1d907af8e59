"""A video file or a folder of JPEGs in, a clip out, and back: with PyAV (FFmpeg) and Pillow."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import dropwhile
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile, ZipFile

import av
import numpy as np
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from PIL import Image

TOLERANCE = 0.002  # seconds; containers round the time of a frame, Matroska and WebM to 1 ms


class VideoError(ValueError):
    """A video cannot be read or written; the message names the file, the trouble and the remedy."""


@dataclass(eq=False)
class Clip:
    """Frames of a video, upright, with square pixels, in the order shown."""

    frames: np.ndarray  # (T, H, W, 3) uint8 RGB
    times: np.ndarray  # (T,) float64, seconds from the first frame of the video
    label: str | None = None  # name of the true class, where it is known
    mask: np.ndarray | None = None  # (T, H, W) bool: what moves, where it is known

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
    mirrored: bool = False

    def of(self, frames: np.ndarray) -> np.ndarray:
        """(T, H, W, 3) to (T, S, S, 3), whole pixels, a view."""
        height, width = frames.shape[1:3]
        side = max(1, int(self.side * min(width, height)))
        left, top = int(self.x * (width - side)), int(self.y * (height - side))
        cut = frames[:, top : top + side, left : left + side]
        return cut[:, :, ::-1] if self.mirrored else cut


CENTRE = Crop()


def read_clip(
    path: str | Path,
    frames: int = 16,
    fps: float = 4.0,
    start: float | None = None,
    size: int | None = None,
    at: float = 0.5,
    crop: Crop = CENTRE,
) -> Clip:
    """`frames` frames of a video, `fps` of them per second.

    Frame i is the one on screen at start + i/fps seconds; past the end the last frame is held and
    its time repeated. Without a `start`, a video longer than frames/fps is read from where `at`
    says: 0 is its beginning, 1 so late that the clip just fits, the default its middle. Frames are
    turned upright and stretched to square pixels as a player would; `size` also makes each of them
    a size x size `square`, of the `crop`. Only frames that are kept are converted, so the memory
    needed depends on the clip and not on the video.

    Raises VideoError when the file is missing, empty, damaged or has no picture, and when the video
    ends before `start`; ValueError for a count, rate, start or size that makes no sense.
    """
    path = Path(path)
    if path.is_dir() or path.suffix == ".zip":
        return read_frames(path, frames, fps, start, size, at, crop)
    _check(frames=frames, fps=fps, start=start, size=size)
    with _opened(path) as stream:
        origin, duration = _extent(stream, path)
    start = _begin(path, start, duration, frames / fps, at)
    wanted = origin + start + np.arange(frames) / fps
    for early in (0.0, 2.0, 30.0, start):  # an index can lead past the frame sought: try earlier
        with _opened(path) as stream:
            if early < start:
                _seek(stream, wanted[0] - early)
            kept = _sample(stream, wanted, size, crop)
        if kept and kept[0][0] <= wanted[0] + TOLERANCE:
            break
    times, pictures = zip(*kept, strict=True)
    return _clip(path, pictures, np.array(times) - origin)


def read_frames(
    folder: str | Path,
    frames: int = 16,
    fps: float = 4.0,
    start: float | None = None,
    size: int | None = None,
    at: float = 0.5,
    crop: Crop = CENTRE,
    rate: float = 12.0,
) -> Clip:
    """`read_clip` for a folder of JPEGs 00001.jpg, 00002.jpg, ..., `rate` of them per second.

    Only the JPEGs on screen at one of the wanted seconds are decoded; other files are overlooked.
    A .zip of such JPEGs is read like the folder.

    Raises VideoError when the folder is missing or empty, when a number is left out, a JPEG damaged
    or of another size, and when the frames end before `start`; ValueError as `read_clip`.
    """
    _check(frames=frames, fps=fps, start=start, size=size, rate=rate)
    folder = Path(folder)
    with _shelf(folder) as (names, opened):
        _numbered(folder, names)
        start = _begin(folder, start, len(names) / rate, frames / fps, at)
        wanted = start + np.arange(frames) / fps
        shown = np.minimum((wanted + TOLERANCE) * rate, len(names) - 1).astype(int)
        pictures = {i: _jpeg(folder, names[i], opened, size, crop) for i in np.unique(shown)}
    return _clip(folder, [pictures[i] for i in shown], shown / rate)


def duration(path: str | Path) -> float:
    """Seconds from the first frame of a video file until the last one is gone. VideoError as
    `read_clip`."""
    with _opened(Path(path)) as stream:
        return _extent(stream, Path(path))[1]


def square(frames: np.ndarray, size: int, crop: Crop = CENTRE) -> np.ndarray:
    """A square of each frame (T, H, W, 3) uint8, antialiased: (T, size, size, 3)."""
    images = map(Image.fromarray, crop.of(frames))
    return np.stack([image.resize((size, size), Image.Resampling.BILINEAR) for image in images])


def _check(**numbers: float | None) -> None:
    for name, number in numbers.items():
        if number is not None and (number < 0 or number == 0 and name != "start"):
            said = ", ".join(f"{name}={number}" for name, number in numbers.items())
            raise ValueError(f"{said}: counts, rates and sizes are above 0, start is at least 0")


def _begin(path: Path, start: float | None, duration: float, seconds: float, at: float) -> float:
    """Second at which a clip of so many seconds begins."""
    if start is None:
        if not 0 <= at <= 1:
            raise ValueError(f"at={at}: choose from 0, the beginning, to 1, the end")
        return max(0.0, duration - seconds) * at
    if 0 < duration <= start:
        raise VideoError(f"{path}: ends at {duration:.2f} s; choose a start below, not {start}")
    return start


def _clip(path: Path, pictures: Sequence[np.ndarray], times: np.ndarray) -> Clip:
    if len({picture.shape for picture in pictures}) > 1:
        raise VideoError(f"{path}: changes its frame size on the way; pass size= to make all equal")
    return Clip(np.stack(pictures), times)


@contextmanager
def _shelf(folder: Path) -> Iterator[tuple[list[str], Callable[[str], BinaryIO]]]:
    """The JPEGs of a folder, or of a zip, in order, and what opens one of them."""
    if folder.is_dir():
        names = sorted(path.name for path in folder.glob("[0-9]*.jpg"))
        yield names, lambda name: (folder / name).open("rb")
    elif folder.suffix == ".zip" and folder.is_file():
        try:
            with ZipFile(folder) as shelf:
                yield sorted(shelf.namelist()), shelf.open
        except BadZipFile as error:
            raise VideoError(f"{folder}: a damaged zip ({error}); make or copy it again") from error
    else:
        raise VideoError(f"{folder}: no such folder of frames; check the name, or unpack it again")


def _numbered(folder: Path, names: list[str]) -> None:
    """VideoError unless they are 00001.jpg, 00002.jpg, ..., none left out."""
    if not names:
        raise VideoError(f"{folder}: no frames 00001.jpg, 00002.jpg, ... in it; unpack it again")
    for number, present in enumerate(names, start=1):
        if present != (name := f"{number:05}.jpg"):
            raise VideoError(
                f"{folder / name}: missing, though {names[-1]} is there; unpack the folder again"
            )


def _jpeg(
    folder: Path, name: str, opened: Callable[[str], BinaryIO], size: int | None, crop: Crop
) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    try:
        with opened(name) as file, Image.open(file) as image:
            rgb = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise VideoError(
            f"{folder / name}: not a JPEG, or damaged ({error}); unpack or copy it again"
        ) from error
    return rgb if size is None else square(rgb[None], size, crop)[0]


@contextmanager
def _opened(path: Path) -> Iterator[VideoStream]:
    """The picture stream of a file; what FFmpeg raises inside leaves as a VideoError."""
    if not path.exists():
        raise VideoError(f"{path}: no such file; check the name and the folder")
    if path.is_dir():
        raise VideoError(f"{path}: is a folder; name one video in it; read_frames reads JPEGs")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: is empty (0 bytes); copy or download it again")
    try:
        with av.open(str(path.absolute()), metadata_errors="replace") as container:
            if container.format.name == "tty":  # FFmpeg would draw a text file as a terminal
                raise VideoError(f"{path}: is a text, not a video; name a .webm, .mp4 or .gif")
            covers = Disposition.attached_pic  # the cover of a song is no video
            stream = next((s for s in container.streams.video if not s.disposition & covers), None)
            if stream is None:
                raise VideoError(f"{path}: has sound or text but no picture; name a video file")
            # Threads pay for large pictures only: for small ones they cost more than they save.
            stream.thread_type = "AUTO" if stream.width * stream.height > 640 * 480 else "NONE"
            yield stream
    except av.FFmpegError as error:
        raise VideoError(
            f"{path}: not a video, or damaged ({error.strerror}); "
            "copy or download it again, or convert it to .webm or .mp4"
        ) from error


def _decode(stream: VideoStream) -> Iterator[tuple[float, VideoFrame]]:
    """(seconds, frame) in the order shown; a damaged packet is skipped, as players do."""
    interval = float(1 / (stream.average_rate or stream.guessed_rate or 25))
    seconds, due = -math.inf, 0.0
    for packet in dropwhile(lambda packet: not packet.is_keyframe, stream.container.demux(stream)):
        try:
            decoded = packet.decode()
        except av.FFmpegError:
            continue
        for frame in decoded:
            known = frame.time is not None and frame.time > seconds  # not so in raw streams and AVI
            seconds = frame.time if known else due
            due = seconds + interval
            yield seconds, frame


def _sample(
    stream: VideoStream, wanted: np.ndarray, size: int | None, crop: Crop
) -> list[tuple[float, np.ndarray]]:
    """(seconds, picture) on screen at each of the wanted seconds; empty if nothing decodes."""
    timed, to_rgb = _decode(stream), VideoReformatter()  # one for all frames: it is dear to set up
    shown, following, picture = next(timed, None), next(timed, None), None
    kept = []
    for second in wanted if shown else []:
        while following and following[0] <= second + TOLERANCE:
            shown, following, picture = following, next(timed, None), None
        if picture is None:
            picture = _picture(shown[1], to_rgb, stream.sample_aspect_ratio or 1, size, crop)
        kept.append((shown[0], picture))
    return kept


def _picture(
    frame: VideoFrame,
    to_rgb: VideoReformatter,
    pixel_aspect: Fraction | int,
    size: int | None,
    crop: Crop,
) -> np.ndarray:
    """(H, W, 3) uint8 RGB as a player shows it: square pixels, then the turn the camera noted."""
    width = max(1, round(frame.width * pixel_aspect))
    picture = to_rgb.reformat(frame, width, format="rgb24").to_ndarray()
    rgb = np.rot90(picture, round(frame.rotation / 90))
    return rgb if size is None else square(rgb[None], size, crop)[0]


def _extent(stream: VideoStream, path: Path) -> tuple[float, float]:
    """Time of the first frame, and seconds from it until the last one is gone.

    The length in the header can be missing (browser recordings) or wrong (a file cut short), so it
    is only believed when the packets near the end bear it out; otherwise all packets are counted.
    """
    first = next(_decode(stream), None)
    if first is None:
        raise VideoError(f"{path}: no frame can be decoded; it is cut short, copy it again")
    origin = first[0]
    claimed = float((stream.duration or 0) * stream.time_base)
    claimed = claimed or (stream.container.duration or 0) / av.time_base
    for second in [origin + claimed, origin] if claimed else [origin]:
        _seek(stream, second)
        end = max(map(_end, stream.container.demux(stream)), default=0.0)
        if end - origin > claimed - 0.5:
            break
    return origin, end - origin


def _end(packet: av.Packet) -> float:
    """Second at which the frame in a packet leaves the screen."""
    begin = packet.dts if packet.pts is None else packet.pts
    if begin is None:  # the empty packet that marks the end of the file
        return 0.0
    return float((begin + (packet.duration or 0)) * packet.time_base)


def _seek(stream: VideoStream, second: float) -> None:
    """To the last key frame at or before the second."""
    with suppress(av.FFmpegError):  # raw streams cannot; they go on from where they are
        stream.container.seek(int(second / stream.time_base), stream=stream)


from lib.data.write import write_frames, write_video  # noqa: E402, F401  until all have moved
