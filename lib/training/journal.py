"""What a run depends on, and what it leaves in its folder:

last.pt            to go on from, written every so many updates, whole or not at all
best.safetensors   the weights of the best epoch, for `lib.model.load`
log.jsonl          a line for every so many updates, and one for every epoch
.running.lock      is held while a run is there: a second one is refused
"""

import io
import json
import textwrap
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lib.data.something import Item
from lib.files import remove_unfinished, write_text, write_whole
from lib.training import distributed

DIGEST = 32  # bytes at the end of last.pt: the SHA-256 of what stands before
REMEDY = "name another folder (--folder), or remove it"


class Diverged(ArithmeticError):
    """Loss or weights are not finite: what was learned since the last checkpoint is lost."""


class CannotStart(ValueError):
    """A run refuses to start, before its first update."""


class Journal:
    """The folder of a run, or None: what the result depends on (`identity`), the `state` that
    training changes, and the lines of the log. Of several processes only the first writes."""

    def __init__(self, folder: Path | str | None, identity: dict, state: dict):
        self.folder, self.identity, self.state = folder and Path(folder), identity, state
        self.writes = bool(folder) and distributed.rank() == 0
        self.lines: list[dict] = []

    def resume(self) -> tuple[int, int, list[float]]:
        """Load the last checkpoint, where there is one: whole epochs, updates of the next one, sums
        over these. CannotStart if it is another run's, naming what differs."""
        if self.writes:
            for name in ("last.pt", "best.safetensors", "log.jsonl"):
                remove_unfinished(self.folder / name)
        if not self.folder or not (path := self.folder / "last.pt").is_file():
            return 0, 0, [0.0] * 4
        try:
            content = path.read_bytes()
            if sha256(content[:-DIGEST]).digest() != content[-DIGEST:]:
                raise ValueError("what it holds has another hash than it says")
            saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            then, now = saved["identity"], self.identity
            pairs = [(name, then.get(name), now.get(name)) for name in now | then]
            differ = [f"{n}={a}, this run asks for {n}={b}" for n, a, b in pairs if a != b]
            if differ:
                raise CannotStart(f"{path} was trained with {'; '.join(differ[:3])}; {REMEDY}")
            for name, part in self.state.items():
                part.load_state_dict(saved[name])
            self.lines = saved["lines"]
            return saved["position"]
        except CannotStart:
            raise
        except Exception as error:  # torch.load raises many kinds
            reason = textwrap.shorten(f"{type(error).__name__}: {error}", 100)
            what = f"is cut off, changed, or no checkpoint ({reason})"
            raise CannotStart(f"{path} {what}; {REMEDY}") from error

    def write(self, line: dict, *position) -> None:
        """Add a line to the log, and write the checkpoint from which `resume` gives `position`."""
        self.lines.append(line)
        if self.writes:
            text = "".join(json.dumps(line) + "\n" for line in self.lines)
            write_text(self.folder / "log.jsonl", text)
            saved = {name: part.state_dict() for name, part in self.state.items()}
            saved |= dict(identity=self.identity, lines=self.lines, position=position)
            torch.save(saved, file := io.BytesIO())  # on a disk it hides that this is full
            file.write(sha256(file.getbuffer()).digest())
            write_whole(self.folder / "last.pt", lambda path: path.write_bytes(file.getbuffer()))

    def epochs(self) -> list[dict]:
        """The lines of whole epochs."""
        return [line for line in self.lines if "epoch" in line]


def read(folder: Path | str) -> list[dict]:
    """The lines of a run's log. FileNotFoundError, saying how to make one, where there is none."""
    path = Path(folder) / "log.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: `python -m lib.training --folder {folder}` writes it")
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise ValueError(f"{path}: not the log of a training ({error}); {REMEDY}") from error


def facts(name: str, value: object) -> dict[str, str]:
    """What tells a value from others, each fact with its name: of a dataset the kind, length and
    fields, of tensors, arrays and long texts a hash, of an object of another kind that kind."""
    if isinstance(value, Dataset):
        fields = getattr(value, "facts", vars(value))
        value = {"kind": type(value).__name__, "clips": len(value)} | fields
    if isinstance(value, dict):
        inside = (facts(f"{name}.{inner}", value[inner]) for inner in value)
        return {inner: fact for found in inside for inner, fact in found.items()}
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, list | tuple | range):
        text = " ".join(str(fact) for inner in value for fact in facts("", inner).values())
    elif isinstance(value, np.ndarray) and value.dtype != object:
        text = sha256(value.tobytes()).hexdigest()
    else:
        known = isinstance(value, str | int | float | Path | Item | None)
        text = str(value) if known else type(value).__name__
    return {name: text if len(text) < 60 else sha256(text.encode()).hexdigest()[:12]}
