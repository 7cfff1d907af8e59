"""JSON files of figures, each with the command that made them."""

import json
import os
from pathlib import Path

from lib.files import write_text


def read_record(path: Path | None) -> dict:
    """The figures in a file, none where there is no file yet. To be asked before a long run: an
    OSError or ValueError, naming the file, says why its figures could not be added."""
    if path and not os.access(path.parent, os.W_OK):
        raise OSError(f"{path}: there is no such folder, or it cannot be written; make it")
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path and path.exists() else {}
        if not isinstance(found, dict):
            raise ValueError(f"a {type(found).__name__}, not names with figures")
        return found
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not figures in JSON ({error}); name another file") from error


def add_to_record(path: Path | None, figures: dict) -> None:
    """Print figures, and put them in a file beside what it holds under other names."""
    print(json.dumps(figures, indent=1))
    if path:
        write_text(path, json.dumps(read_record(path) | figures, indent=1) + "\n")
