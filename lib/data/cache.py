"""Copy a dataset so that it is quick to read: each video becomes a zip of small JPEGs, twelve a
second, which `SomethingSomething(FOLDER, ...)` opens."""

import argparse
import io
import shutil
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import numpy as np
from PIL import Image
from tqdm import tqdm

from lib.data.arguments import MOST_PROCESSES, named, one_line, processes, whole
from lib.data.something import CACHED, Annotations, Item
from lib.data.video import JPEG_RATE, duration, read_clip
from lib.files import alone, remove_unfinished, write_text, write_whole


def pack(item: Item, folder: Path, side: int) -> int:
    """Write FOLDER/ID.zip, whole or not at all; its size in bytes. One that is there is kept, if
    it was made of a video of as many bytes."""
    path, size = folder / f"{item.id}.zip", item.path.is_file() and item.path.stat().st_size
    made_of = b"%d bytes" % size  # 0 of a folder of frames
    with suppress(OSError, BadZipFile, NotImplementedError):  # it is not there, or damaged
        if ZipFile(path).comment == made_of or not item.path.exists():
            return path.stat().st_size
    count = max(1, round(duration(item.path) * JPEG_RATE))
    frames = read_clip(item.path, count, JPEG_RATE, start=0).frames
    write_whole(path, partial(_zip, frames=frames, side=side, made_of=made_of))
    return path.stat().st_size


def build_cache(
    root: str | Path, folder: str | Path, side: int = 256, workers: int | None = 1
) -> int:
    """Write the dataset in `root` to `folder`, whole, with its annotations; returns how many bytes
    its videos take there. A run that was stopped goes on: a video that was written is kept.

    side: the shorter side of the frames in pixels; smaller frames stay as they are. workers: how
    many processes read videos; None is one for each core.

    VideoError for a video that cannot be read (`python -m lib.data.check ROOT` lists all before);
    ValueError for a side below 1, a folder of another side or dataset, and a root that is a cache.
    """
    root, folder = Path(root), Path(folder)
    if side < 1:
        raise ValueError(f"side={side}: must be at least 1")
    if folder.resolve() == root.resolve():
        raise ValueError(f"{folder}: is the dataset itself; name another folder to write")
    if (root / CACHED).is_dir():
        raise ValueError(f"{root}: is a cache itself; name the folder of the videos")
    annotations = Annotations(root)
    items = {item.id: item for item in annotations.labelled()}.values()
    files = annotations.files.values()
    made_of = f"{side} {sha256(b''.join(path.read_bytes() for path in files)).hexdigest()}"
    videos, noted = folder / CACHED, folder / "side.txt"
    videos.mkdir(parents=True, exist_ok=True)
    if noted.is_file() and noted.read_bytes() != made_of.encode():
        raise ValueError(f"{folder}: has frames of another side or dataset; name another folder")
    write_text(noted, made_of)
    with alone(folder), processes(workers) as pool:
        remove_unfinished(videos / "*.zip")
        sizes = pool.map(partial(pack, folder=videos, side=side), items, chunksize=4)
        total = sum(tqdm(sizes, "clips", len(items)))
    for path in files:  # last: half a cache is no dataset
        target = folder / path.relative_to(root)
        target.parent.mkdir(exist_ok=True)
        write_whole(target, partial(shutil.copyfile, path))
    return total


def _zip(path: Path, frames: np.ndarray, side: int, made_of: bytes) -> None:
    with ZipFile(path, "w", ZIP_STORED) as file:
        file.comment = made_of
        for number, frame in enumerate(frames, start=1):
            image, jpeg = Image.fromarray(frame), io.BytesIO()
            scale = side / min(image.size)
            if scale < 1:  # never larger than it was filmed
                image = image.resize([round(s * scale) for s in image.size], Image.BILINEAR)
            image.save(jpeg, "JPEG", quality=90)
            file.writestr(f"{number:05}.jpg", jpeg.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lib.data.cache", description=__doc__)
    add = parser.add_argument
    add("root", type=named, help="folder of the dataset, either release")
    add("folder", type=named, help="folder to write")
    add("--side", type=whole(1), default=256, help="shorter side of the frames (%(default)s)")
    add("--workers", type=whole(1, MOST_PROCESSES), help="processes (one for each core)")
    args = parser.parse_args()
    with one_line(parser, OSError, ValueError):
        size = build_cache(**vars(args))
    print(f"{args.folder}: {size / 1e9:.2f} GB of frames")


if __name__ == "__main__":
    main()
