"""The fields of an explanation in a file of arrays, .npz."""

from dataclasses import fields
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from lib.explain.receptive_field import ReceptiveField
from lib.files import write_whole

MOST_BYTES = 2**31  # of all arrays: 2 GB
NEEDED = "frames", "times", "classes", "logits", "maps", "mapped", "method", "layer", "y", "x"


def write(path: Path, values: dict) -> None:
    """Write the fields that are not None. ValueError for more than MOST_BYTES."""
    values["y"], values["x"] = values.pop("cells")
    if field := values["footprint"]:
        values["footprint"] = np.column_stack([getattr(field, f.name) for f in fields(field)])
    arrays = {name: np.asarray(x) for name, x in values.items() if x is not None}
    _check_size(sum(x.nbytes for x in arrays.values()))

    def save(part: Path) -> None:
        with part.open("wb") as file:  # by its name, it would get another suffix
            np.savez_compressed(file, **arrays)

    write_whole(path, save)


def read(path: Path) -> dict:
    """The fields. A damaged or foreign file raises many kinds of errors, ValueError among them."""
    if not path.is_file():  # opening a pipe would wait for a writer
        raise ValueError("No such file, or a pipe or device")
    with ZipFile(path) as file:  # before anything is unpacked; no more than it says will be
        _check_size(sum(member.file_size for member in file.infolist()))
    with np.load(path, allow_pickle=False) as file:
        values = {name: x if x.ndim else x.item() for name, x in file.items()}
    if lacking := [name for name in NEEDED if name not in values]:
        raise ValueError(f"it lacks {', '.join(lacking)}")
    cells = values.pop("y"), values.pop("x")
    values |= dict(bias=values.get("bias"), cells=cells)
    if empty := [name for name in values if not getattr(values[name], "nbytes", 1)]:
        raise ValueError(f"{empty[0]} has no bytes")
    values |= {name: values[name].tolist() for name in ("classes", "mapped")}
    if (rows := values.get("footprint")) is not None:
        if np.shape(rows) != (3, 9) or np.isnan(rows).any():
            raise ValueError("needed are footprint: 3 rows of 9 numbers")
        pairs = (tuple(map(tuple, rows[:, i : i + 2].tolist())) for i in (3, 5, 7))
        shape, *numbers = (tuple(column) for column in rows[:, :3].T.tolist())
        values["footprint"] = ReceptiveField(tuple(map(int, shape)), *numbers, *pairs)
    return values


def _check_size(size: int) -> None:
    if size > MOST_BYTES:
        most = f"{MOST_BYTES / 2**30:.0f} GB are allowed, explain fewer frames or classes"
        raise ValueError(f"its numbers take {size / 2**30:.1f} GB; at most {most}")
