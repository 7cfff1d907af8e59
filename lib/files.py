"""A file or a folder is written whole or not at all, and is on the disk before it has its name."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path beside `path`, then rename; OSError names the file."""
    part = path.with_name(f".{path.stem[:40]}-{uuid4().hex[:8]}{path.suffix}")
    try:
        write(part)
        for file in part.iterdir() if part.is_dir() else [part]:
            with file.open("rb+") as written:
                os.fsync(written.fileno())
        os.replace(part, path)
    except OSError as error:
        why = f"cannot be written ({error.strerror or error})"
        raise OSError(f"{path}: {why}; does the folder exist, is there room?") from error
    finally:
        shutil.rmtree(part) if part.is_dir() else part.exists() and part.unlink()


def remove_unfinished(path: Path) -> None:
    """Remove what `write_whole` left beside `path` when it was killed; with the stem *, any."""
    stem = "*" if path.stem == "*" else escape(path.stem[:40])
    for part in path.parent.glob(f".{stem}-{'[0-9a-f]' * 8}{path.suffix}"):
        part.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """The only run in a folder: an OSError for a second one. A run that is killed frees it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / ".running.lock", blocking=False).acquire()
    except Timeout as error:
        raise OSError(f"{folder}: another run is in this folder; wait, or name another") from error
    with lock:
        yield


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_text(path: Path, text: str) -> None:
    """`write_whole` of a text, UTF-8."""
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
