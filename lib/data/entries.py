"""Annotation files as they are read: what is wrong is told, with its line or entry, to `fault`."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any


def read(path: Path, kind: type, fault: Callable[[str], None]) -> list[tuple[str, Any]]:
    """What a file holds, each with where it stands: the lines of CSV ("line 1", cells), without
    empty ones; or of JSON, a list ("entry 1", entry) or a dict (name, (name, value))."""
    content, rows, wrong = path.read_bytes(), [], ""
    try:
        text = content.decode(json.detect_encoding(content))  # a byte-order mark is no fault
        if path.suffix == ".csv":
            lines = csv.reader(io.StringIO(text, newline=""), delimiter=";")
            for row in lines:
                rows.append((f"line {lines.line_num}", [cell.strip() for cell in row]))
            rows = [(where, row) for where, row in rows if any(row)]
        elif not isinstance(found := json.loads(text, object_pairs_hook=_once), kind):
            wrong = f"holds a {type(found).__name__}; a {kind.__name__} is needed"
        elif kind is dict:
            rows = [(f"{name!r:.60}", (name, value)) for name, value in found.items()]
        else:
            rows = [(f"entry {n}", entry) for n, entry in enumerate(found, start=1)]
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        wrong = f"line {line}: not in UTF-8; save the file in UTF-8"
    except csv.Error as error:
        wrong = f"line {lines.line_num}: {error}"
    except (ValueError, RecursionError) as error:
        wrong = f"not whole JSON ({error}); copy or draw it again"
    if wrong:
        fault(wrong)
    return rows


def wrong_with(entry: Any) -> str:
    """What is wrong with the entry of a video; "" if nothing is."""
    if not isinstance(entry, dict) or entry.get("id") in (None, ""):
        return "has no id"
    id, objects = entry["id"], entry.get("placeholders", [])
    if not isinstance(id, str | int) or isinstance(id, bool):
        return f"id {id!r:.60} is neither a text nor a whole number"
    if not (PureWindowsPath(str(id)).name == str(id) != ".." and str(id).isprintable()):
        return f"id {id!r:.60} is no name of a file in the folder of the videos"
    for name in "template", "label":
        if not isinstance(entry.get(name, ""), str):
            return f"{name} {entry[name]!r:.60} is no text"
    if not (isinstance(objects, list) and all(isinstance(x, str) for x in objects)):
        return f"placeholders {objects!r:.60} are no list of texts"
    return ""


def _once(pairs: list[tuple[str, Any]]) -> dict:
    """A dict of JSON. ValueError for a name that is there twice: the first would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(next(f"{name!r:.60} twice" for name in names if names.count(name) > 1))
    return found
