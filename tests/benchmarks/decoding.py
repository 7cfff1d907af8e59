"""Clips per second and core, ours beside torchcodec and OpenCV, on the same files and one thread.

`python tests/benchmarks/decoding.py --record book/results/decoding.json`. Each reader gives the
same clips: 16 frames at 4 a second from the middle, the middle square, resized to 224. The readers
take turns, so that other load on the machine affects all alike; the median counts.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from lib import miniature
from lib.data import Item, read_clip, square, write_video
from lib.data.cache import pack

FRAMES, FPS, SIZE = 16, 4.0, 224
HEIGHT, WIDTH = 240, 426  # as the second release's videos are


def files(folder: Path, clips: int) -> list[Path]:
    """Drawn videos of five seconds, at the size and frame rate of Something-Something."""
    paths = []
    for i in range(clips):
        times = np.arange(60) / 12
        drawn = miniature.draw("train", i, 0, times, WIDTH).frames
        top = (WIDTH - HEIGHT) // 2
        paths.append(folder / f"{i}.webm")
        write_video(paths[-1], drawn[:, top : top + HEIGHT], 12)
    return paths


def ours(path: Path) -> np.ndarray:
    return read_clip(path, FRAMES, FPS, size=SIZE).frames


def cached(path: Path) -> np.ndarray:
    return read_clip(path.with_suffix(".zip"), FRAMES, FPS, size=SIZE).frames


def torchcodec(path: Path) -> np.ndarray:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1)
    length = decoder.metadata.duration_seconds
    wanted = max(0, (length - FRAMES / FPS) / 2) + np.arange(FRAMES) / FPS
    return square(decoder.get_frames_played_at(wanted.tolist()).data.numpy(), SIZE)


def opencv(path: Path) -> np.ndarray:
    import cv2

    video = cv2.VideoCapture(str(path))
    count, rate = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)
    wanted = max(0, (count / rate - FRAMES / FPS) / 2) + np.arange(FRAMES) / FPS
    pictures, shown = [], -1
    for number in np.minimum((wanted * rate + 0.02).astype(int), count - 1):
        while shown < number:
            video.grab()
            shown += 1
        pictures.append(cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2RGB))
    return square(np.stack(pictures), SIZE)


READERS: dict[str, Callable[[Path], np.ndarray]] = {
    "lib.data": ours,
    "lib.data, cached": cached,
    "torchcodec": torchcodec,
    "OpenCV": opencv,
}


def measure(paths: list[Path], rounds: int) -> list[dict]:
    rows = {}
    for name, read in READERS.items():
        try:
            read(paths[0])
        except (ImportError, RuntimeError) as error:
            rows[name] = dict(reader=name, missing=str(error).splitlines()[0])
    seconds: dict[str, list[float]] = {name: [] for name in READERS if name not in rows}
    for _ in range(rounds):
        for name in seconds:
            begun = time.process_time()  # of the processor: what a core can do, not how idle it is
            for path in paths:
                READERS[name](path)
            seconds[name].append((time.process_time() - begun) / len(paths))
    reference = np.stack([ours(path) for path in paths]).astype(float)
    for name, spent in seconds.items():
        off = np.abs(np.stack([READERS[name](path) for path in paths]) - reference).mean()
        rate = 1 / float(np.median(spent))
        rows[name] = dict(reader=name, clips_per_second=round(rate, 1), off=round(float(off), 2))
    return [rows[name] for name in READERS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--record", type=Path)
    args = parser.parse_args()
    import cv2

    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = files(Path(folder), args.clips)
        for path in paths:
            pack(Item(path.stem, path, "", "", [], 0), path.parent, 256)
        sizes = {
            kind: round(sum(path.with_suffix(kind).stat().st_size for path in paths) / len(paths))
            for kind in (".webm", ".zip")
        }
        rows = measure(paths, args.rounds)
    for row in rows:
        print(*row.values(), sep="\t")
    if args.record:
        record = dict(
            command=shlex.join(["python", "tests/benchmarks/decoding.py", *sys.argv[1:]]),
            hardware=f"one of {os.cpu_count()} CPU cores",
            versions={
                p: version(p) for p in ("av", "pillow", "torchcodec", "opencv-python-headless")
            },
            bytes_of_a_clip=sizes,
            readers=rows,
        )
        args.record.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
