"""A video file, a folder of JPEGs or a zip of them in, a clip out: with PyAV and Pillow."""

import math
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from itertools import dropwhile
from pathlib import Path

import av
import numpy as np
from av.format import Flags
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from PIL import Image, ImageOps

TOLERANCE = 0.002  # seconds; containers round the time of a frame, Matroska and WebM to 1 ms
JPEG_RATE = 12.0  # JPEGs a second in a folder or zip, as Something-Something has them


class VideoError(ValueError):
    """A video cannot be read or written; the message names the file, the fault and the remedy."""


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
    .zip of such JPEGs. Frame i is the one on screen at start + i/fps seconds; past the end the last
    frame and its time are repeated. Without a `start`, `at` says where a video longer than
    frames/fps is read: 0 is its beginning, 1 its end, the default its middle. Frames are upright,
    with square pixels, as a player shows them. A `crop` cuts a square out of each; a `size` resizes
    the crop, the middle one by default, to size x size. Memory depends on the clip, not the video.

    Raises VideoError for a video that is missing, empty, damaged, or ends before `start`;
    ValueError for a count, rate, start or size that makes no sense.
    """
    path = Path(path)
    if not (
        frames > 0 and fps > 0 and (start is None or start >= 0) and (size is None or size > 0)
    ):
        given = f"frames={frames}, fps={fps}, start={start}, size={size}"
        raise ValueError(f"{given}: counts, rates and sizes are above 0, start is at least 0")
    origin, length = _extent(path)
    start = _begin(path, start, length, frames / fps, at)
    read = _read_jpegs if _is_jpegs(path) else _read_video
    kept = read(path, origin + start + np.arange(frames) / fps, partial(_cut, size, crop))
    times, pictures = zip(*kept)
    if len({picture.shape for picture in pictures}) > 1:
        raise VideoError(f"{path}: changes its frame size on the way; pass size= to make all equal")
    return Clip(np.stack(pictures), np.array(times) - origin)


def duration(path: str | Path) -> float:
    """Seconds from the first frame of a video until the last one is gone."""
    return _extent(Path(path))[1]


def square(frames: np.ndarray, size: int, crop: Crop = CENTRE) -> np.ndarray:
    """A square of each frame (T, H, W, 3) uint8, antialiased: (T, size, size, 3)."""
    images = map(Image.fromarray, crop.of(frames))
    return np.stack([image.resize((size, size), Image.Resampling.BILINEAR) for image in images])


def _begin(path: Path, start: float | None, length: float, seconds: float, at: float) -> float:
    """Second at which a clip of so many seconds begins."""
    if not 0 <= at <= 1:
        raise ValueError(f"at={at}: choose from 0, the beginning, to 1, the end")
    if start and start >= length - TOLERANCE:
        raise VideoError(f"{path}: ends at {length:.2f} s; choose a start below, not {start}")
    return max(0.0, length - seconds) * at if start is None else start


def _cut(size: int | None, crop: Crop | None, picture: np.ndarray) -> np.ndarray:
    if size is not None:
        return square(picture[None], size, crop or CENTRE)[0]
    return picture if crop is None else crop.of(picture[None])[0]


def _sample(timed: Iterator, wanted: np.ndarray, picture: Callable) -> list:
    """(seconds, picture) on screen at each of the wanted seconds; `timed` are (seconds, frame)."""
    shown, following, made, kept = next(timed, None), next(timed, None), None, []
    for second in wanted if shown else []:
        while following and following[0] <= second + TOLERANCE:
            shown, following, made = following, next(timed, None), None
        made = picture(shown[1]) if made is None else made
        kept.append((shown[0], made))
    return kept


def _extent(path: Path) -> tuple[float, float]:
    """Time of the first frame, and seconds from it until the last one is gone.

    The length in a header can be missing (browser recordings) or wrong (a file cut short), so the
    packets after the last key frame are read, or else all. Frames without times are counted.
    """
    if not path.exists():
        raise VideoError(f"{path}: no such file or folder; check the name")
    if _is_jpegs(path):
        with _jpegs(path) as jpegs:
            return 0.0, len(jpegs) / JPEG_RATE
    with _opened(path) as stream:
        first = next(_decode(stream), None)
        if first is None:
            raise VideoError(f"{path}: no frame can be decoded; it is cut short, copy it again")
        origin = end = first[0]
        for second in [] if _is_raw(stream) else [1e6, origin]:  # 1e6: after any end
            _seek(stream, second)
            end = max(map(_end, stream.container.demux(stream)))
            if end > origin:
                return origin, end - origin
    with _opened(path) as stream:
        for last, _ in _decode(stream):
            end = last + _interval(stream)
    return origin, end - origin


def _is_jpegs(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() == ".zip"


@contextmanager
def _jpegs(path: Path) -> Iterator[list[tuple[float, Path | zipfile.Path]]]:
    """(seconds, JPEG) of 00001.jpg, 00002.jpg, ...; other files are ignored."""
    try:
        with nullcontext(path) if path.is_dir() else zipfile.ZipFile(path) as opened:
            files = (path if path.is_dir() else zipfile.Path(opened)).iterdir()
            found = {f.name: f for f in files if f.name[0].isdigit() and f.name.endswith(".jpg")}
            names = [f"{number:05}.jpg" for number in range(1, len(found) + 1)]
            if not names:
                raise VideoError(f"{path}: no frames 00001.jpg, 00002.jpg, ... in it; unpack again")
            if lacking := [path / name for name in names if name not in found]:
                raise VideoError(
                    f"{lacking[0]}: missing, though {max(found)} is there; unpack again"
                )
            yield [(number / JPEG_RATE, found[name]) for number, name in enumerate(names)]
    except zipfile.BadZipFile as error:
        raise VideoError(f"{path}: a damaged zip ({error}); make or copy it again") from error


def _read_jpegs(path: Path, wanted: np.ndarray, cut: Callable) -> list:
    def picture(jpeg: Path | zipfile.Path) -> np.ndarray:
        try:
            with jpeg.open("rb") as file, Image.open(file) as image:
                ImageOps.exif_transpose(image, in_place=True)
                return cut(np.asarray(image.convert("RGB")))  # (H, W, 3)
        except (OSError, SyntaxError, EOFError, RuntimeError, zlib.error) as error:
            fault = f"not a JPEG, or damaged ({error})"
            raise VideoError(f"{path / jpeg.name}: {fault}; unpack or copy it again") from error

    with _jpegs(path) as jpegs:
        return _sample(iter(jpegs), wanted, picture)


@contextmanager
def _opened(path: Path) -> Iterator[VideoStream]:
    """The picture stream of a file; what FFmpeg raises inside leaves as a VideoError."""
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
        fault = f"not a video, or damaged ({error.strerror})"
        raise VideoError(f"{path}: {fault}; copy it again, or convert it to .mp4") from error


def _is_raw(stream: VideoStream) -> bool:
    """Whether it has pictures alone, as .h264: their times are guesses, and no seek is exact."""
    return bool(stream.container.format.flags & Flags.no_timestamps.value)


def _interval(stream: VideoStream) -> float:
    """Seconds from a frame to the next one."""
    return float(1 / (stream.average_rate or stream.guessed_rate or 25))


def _end(packet: av.Packet) -> float:
    """Second at which the frame in a packet leaves the screen."""
    begin = packet.dts if packet.pts is None else packet.pts  # neither marks the end of the file
    return 0.0 if begin is None else float((begin + (packet.duration or 0)) * packet.time_base)


def _seek(stream: VideoStream, second: float) -> None:
    """To the last key frame at or before the second, where the container can seek."""
    with suppress(av.FFmpegError):
        stream.container.seek(int(second / stream.time_base), stream=stream)


def _decode(stream: VideoStream) -> Iterator[tuple[float, VideoFrame]]:
    """(seconds, frame) in the order shown; a damaged packet is skipped, as players do."""
    raw, interval = _is_raw(stream), _interval(stream)
    seconds, due = -math.inf, 0.0
    for packet in dropwhile(lambda packet: not packet.is_keyframe, stream.container.demux(stream)):
        try:
            decoded = packet.decode()
        except av.FFmpegError:
            continue
        for frame in decoded:
            known = not raw and frame.time is not None and frame.time > seconds  # not in all AVI
            seconds = frame.time if known else due
            due = seconds + interval
            yield seconds, frame


def _read_video(path: Path, wanted: np.ndarray, cut: Callable) -> list:
    for early in (0.0, 2.0, 30.0, None):  # an index can lead past the frame sought: try earlier
        with _opened(path) as stream:
            if early is not None and not _is_raw(stream):
                _seek(stream, wanted[0] - early)
            make = partial(_picture, stream, VideoReformatter(), cut)
            kept = _sample(_decode(stream), wanted, make)
        if kept and kept[0][0] <= wanted[0] + TOLERANCE:
            break
    return kept


def _picture(stream: VideoStream, to_rgb: VideoReformatter, cut: Callable, frame: VideoFrame):
    """(H, W, 3) uint8 RGB as a player shows it: square pixels, turned and flipped; then cut."""
    width = max(1, round(frame.width * (stream.sample_aspect_ratio or 1)))
    picture = to_rgb.reformat(frame, width, format="rgb24").to_ndarray()
    try:  # a pixel (x, y) is shown at (ax + cy, bx + dy)
        a, b, _, c, d, *_ = np.frombuffer(frame.side_data["DISPLAYMATRIX"], np.int32).tolist()
    except KeyError:
        return cut(picture)
    except ValueError:  # beside it is side data that PyAV has no name for; only the turn is known
        return cut(np.rot90(picture, round(frame.rotation / 90)))
    if abs(b) + abs(c) > abs(a) + abs(d):
        picture, a, d = picture.swapaxes(0, 1), c, b
    return cut(picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
