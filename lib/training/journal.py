"""What a run leaves in its folder: checkpoints, a log, curves.

last.pt            to go on from, written every so many updates, whole or not at all
best.safetensors   the weights of the best epoch, for `lib.networks.load`
log.jsonl          a line for every so many updates, and one for every epoch
events.out...      the same for TensorBoard, where that is installed
"""

import json
from importlib.util import find_spec
from pathlib import Path

import torch

from lib.files import write_text, write_whole


class Journal:
    """The folder of a run; with None, nothing is written."""

    def __init__(self, folder: Path | str | None, settings: dict):
        self.folder, self.settings = Path(folder) if folder else None, settings
        self.lines: list[dict] = []
        self.curves = None

    def resume(self, device: torch.device) -> dict | None:
        """What the last checkpoint holds, if there is one.

        Raises ValueError where it was made with other settings.
        """
        if not self.folder:
            return None
        for cut_off in self.folder.glob(".*-????????.*"):  # what `write_whole` had not finished
            cut_off.unlink(missing_ok=True)
        path = self.folder / "last.pt"
        if not path.is_file():
            return None
        saved = torch.load(path, map_location=device, weights_only=True)
        if saved["settings"] != self.settings:
            raise ValueError(f"{path} was made with other settings: remove it or resume those")
        self.lines = saved["lines"]
        return saved

    def checkpoint(self, state: dict) -> None:
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)
            state = state | dict(settings=self.settings, lines=self.lines)
            write_whole(self.folder / "last.pt", lambda whole: torch.save(state, whole))

    def note(self, line: dict) -> None:
        """Add a line; `update` or `epoch` says when."""
        self.lines.append(line)
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)
            text = "".join(json.dumps(line) + "\n" for line in self.lines)
            write_text(self.folder / "log.jsonl", text)
            self._draw(line)

    def epochs(self) -> list[dict]:
        """The lines of whole epochs."""
        return [line for line in self.lines if "epoch" in line]

    def close(self) -> None:
        if self.curves:
            self.curves.close()

    def _draw(self, line: dict) -> None:
        if find_spec("tensorboard") is None:
            return
        if self.curves is None:
            from torch.utils.tensorboard import SummaryWriter

            self.curves = SummaryWriter(str(self.folder), purge_step=line["update"])
        kind = "epoch" if "epoch" in line else "update"
        for name in line.keys() - {"epoch", "update"}:
            self.curves.add_scalar(f"{kind}/{name}", line[name], line["update"])
        self.curves.flush()


def read(folder: Path | str) -> list[dict]:
    """The lines of a run's log. FileNotFoundError, saying how to make one, where there is none."""
    path = Path(folder) / "log.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: `python -m lib.training --folder {folder}` writes it")
    return [json.loads(line) for line in path.read_text().splitlines()]
