"""Annotation files as they are read: each fault is told, with its line or entry, to `fault`."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any

Fault = Callable[[Path, str], None]  # is given the file, and what is wrong


def read_json(path: Path, kind: type, fault: Fault) -> Any:
    """A list or a dict; an empty one after a fault."""
    text = _text(path, fault)
    if text is None:
        return kind()
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        fault(path, f"not whole JSON ({error}); copy or draw it again")
        return kind()
    if not isinstance(found, kind):
        fault(path, f"holds a {type(found).__name__}; a {kind.__name__} is needed")
    return found if isinstance(found, kind) else kind()


def read_rows(path: Path, fault: Fault) -> list[tuple[str, list[str]]]:
    """("line 1", its cells) of a CSV file; empty lines are passed over."""
    lines, rows = csv.reader(io.StringIO(_text(path, fault) or "", newline=""), delimiter=";"), []
    try:
        for row in lines:
            rows.append((f"line {lines.line_num}", [cell.strip() for cell in row]))
    except csv.Error as error:
        fault(path, f"line {lines.line_num}: {error}")
    return [(where, row) for where, row in rows if any(row)]


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


def _text(path: Path, fault: Fault) -> str | None:
    content = path.read_bytes()
    try:
        return content.decode(json.detect_encoding(content))  # a byte-order mark is no fault
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        fault(path, f"line {line}: not in UTF-8; save the file in UTF-8")
        return None


def _once(pairs: list[tuple[str, Any]]) -> dict:
    """A dict of JSON. ValueError for a name that is there twice: the first would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(next(f"{name!r:.60} twice" for name in names if names.count(name) > 1))
    return found
