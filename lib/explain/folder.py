"""All clips of a folder: a file of numbers for each, a table, and a page of tiles.

A clip that is done stays done, so a run that was stopped goes on when it is started again.
"""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from hashlib import file_digest, sha256
from html import escape
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from lib.data.faults import reading
from lib.data.jpegs import is_frame
from lib.data.streams import VIDEO_SUFFIXES
from lib.data.video import VideoError
from lib.explain.explanation import ExplainError, Explanation
from lib.files import alone, remove_unfinished, write_text

CLIPS = (*VIDEO_SUFFIXES, ".zip")
DONE = "explained.jsonl"  # in the folder written to: a line for each clip
TOP = 5  # classes of a clip in the table, and maps of it on the page; its own file has all
MOST = 500  # tiles of a page, of 0.1 MB each
BROKEN = ValueError, TypeError, RecursionError  # of JSON that is not ours, or not whole
WIDE = "<style>body{max-width:72rem}</style>"


def is_clip(path: Path) -> bool:
    """Whether this is one clip, by its name; of a folder, by what is in it: numbered JPEGs, and no
    videos beside them."""
    if not path.is_dir():
        return path.suffix.lower() in CLIPS
    names = [file.name for file in path.iterdir()]
    others = any(Path(name).suffix.lower() in CLIPS for name in names)
    return any(map(is_frame, names)) and not others


def clips_in(folder: Path, without: Path) -> tuple[list[Path], list[Path]]:
    """The clips of a folder and of all folders in it but one, and what else is there. Hidden files
    are no clips, and links to folders are not followed."""
    clips, others = [], []
    for path in sorted(folder.iterdir()):
        if os.path.realpath(path) == os.path.realpath(without):  # of a circle of links, too
            continue
        if not path.name.startswith(".") and is_clip(path):
            clips.append(path)
        elif path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            for found, more in zip((clips, others), clips_in(path, without)):
                found += more
        else:
            others.append(path)
    return clips, others


def explain_folder(
    folder: Path, out: Path, settings: dict, one: Callable[[Path], Explanation]
) -> dict[str, str]:
    """Explain every clip of a folder with `one`, and write CLIP.npz for each, clips.csv and
    index.html to `out`; both begin with the clip whose two highest probabilities are closest.

    settings: what the explanations depend on, as JSON has it: a folder of others is refused. A clip
    that has not changed since its file was written is not explained again.

    Returns what is wrong with each clip that could not be explained. VideoError for no clips,
    ExplainError where `out` is of something else or `one` refuses the first clip.
    """
    clips, others = clips_in(folder, out)
    kinds = Counter(path.suffix or path.name for path in others)
    left_out = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    if left_out:
        tqdm.write(f"left out, as they are no clips by their names: {left_out}")
    if not clips:
        raise VideoError(f"{folder}: no clips in it; they end in {', '.join(CLIPS)}")
    written = {Path(name) for name in ("clips.csv", "index.html", "settings.json", DONE)}
    written |= {Path(f"{path.relative_to(folder)}.npz") for path in clips}
    for path in clips:
        if taken := written & {*path.relative_to(folder).parents}:
            raise VideoError(f"{path}: {min(taken)} is the name of a file to write; rename it")
    _open(out, settings)
    ranking, faults, done = [], {}, _done(out)
    with alone(out):
        for path in tqdm(clips, "clips", unit="clip"):
            saved = out / f"{path.relative_to(folder)}.npz"
            name = os.fsencode(path.relative_to(folder)).decode("utf-8", "replace")
            try:
                key, content, found = str(path.relative_to(folder)), _content(path), None
                with suppress(OSError, ExplainError):  # not there, or damaged
                    found = Explanation.load(saved) if done.get(key) == content else None
                if found is None:
                    found = _explained(path, saved, one)
                    with (out / DONE).open("a", encoding="utf-8") as file:
                        file.write(f"\n{json.dumps({key: content})}")
                top = found.top(TOP)
            except (VideoError, ExplainError) as error:
                if isinstance(error, ExplainError) and not ranking:
                    raise  # it is the network or the layer, not this clip
                fault = str(error) if isinstance(error, VideoError) else f"{path}: {error}"
                faults[name] = fault.encode("utf-8", "replace").decode()
            else:
                ranking.append((top[0][1] - sum(p for _, p in top[1:2]), name, saved, top))
        ranking.sort()
        write_text(out / "clips.csv", _table(ranking, faults))
        write_text(out / "index.html", _page(ranking, faults))
    return faults


def fingerprint(network: nn.Module) -> str:
    """Twelve signs that change with the network's form, weights, classes and preprocessing."""
    preprocess = getattr(network, "preprocess", None)
    about = network, network.classes, getattr(preprocess, "__qualname__", preprocess)
    digest = sha256(repr(about).encode())
    for x in network.state_dict().values():
        digest.update(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:12]


def _open(out: Path, settings: dict) -> None:
    """Note the settings in a new folder; ExplainError for a folder of others, or something else."""
    out.mkdir(parents=True, exist_ok=True)
    noted = out / "settings.json"
    if not any(not path.name.startswith(".") for path in out.iterdir()):
        write_text(noted, json.dumps(settings, indent=1))
    try:
        before = dict(json.loads(noted.read_text(encoding="utf-8")))
    except (FileNotFoundError, *BROKEN) as error:
        what = "is in use, and not by this command"
        raise ExplainError(f"{out}: {what}; name a new folder") from error
    pairs = [(name, before.get(name), value) for name, value in settings.items()]
    if differ := [f"{name} {then!r}, not {now!r}" for name, then, now in pairs if then != now]:
        raise ExplainError(f"{out}: was written with {'; '.join(differ)}; name another folder")


def _done(out: Path) -> dict[str, str]:
    """Of each clip that is explained, by its path, what its `_content` was."""
    done = {}
    with suppress(FileNotFoundError):
        for line in (out / DONE).read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(*BROKEN):  # cut short, as when the power went
                done |= json.loads(line)
    return done


def _content(path: Path) -> str:
    """Changes when a byte of a clip does; of a folder, with the names and bytes of its files."""
    digest = sha256()
    with reading(path):
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.is_file():  # no pipe, which would wait
                with file.open("rb") as opened:
                    part = file_digest(opened, "sha256").digest()
                digest.update(os.fsencode(file.name) + part)
    return digest.hexdigest()


def _explained(path: Path, saved: Path, one: Callable[[Path], Explanation]) -> Explanation:
    """A new explanation, saved."""
    if len(os.fsencode(saved.name)) > 255:
        raise VideoError(f"{path}: its name is too long for {saved.suffix} behind it; shorten it")
    saved.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(saved)
    explanation = one(path)
    explanation.save(saved)
    return explanation


def _table(ranking: list[tuple], faults: dict[str, str]) -> str:
    """A CSV: the clips in order of doubt, then those that could not be explained."""
    file = io.StringIO()
    write = csv.writer(file, lineterminator="\n").writerow
    count = max((len(top) for *_, top in ranking), default=0)
    columns = [f"{what} {rank}" for rank in range(1, count + 1) for what in ("class", "p")]
    write(["clip", "gap", *columns, "error"])
    for gap, name, _, top in ranking:
        write([name, f"{gap:.6f}", *[x for cls, p in top for x in (cls, f"{p:.6f}")], ""])
    for name, fault in faults.items():
        write([name, "", *[""] * len(columns), fault])
    return file.getvalue()


def _page(ranking: list[tuple], faults: dict[str, str]) -> str:
    """A page of tiles in order of doubt, each of which opens into the viewer."""
    from lib.viewer.gallery import TILE  # with matplotlib, which is slow to load
    from lib.viewer.viewer import element, page, script

    tiles = []
    for _, name, saved, _ in tqdm(ranking[:MOST], "page", leave=False):
        found = Explanation.load(saved)
        most = sorted(range(len(found.mapped)), key=lambda i: -found.logits[found.mapped[i]])[:TOP]
        few = replace(found, maps=found.maps[most], mapped=[found.mapped[i] for i in most])
        tiles.append(element(few, size=TILE, tile=True, name=name))
    wrong = "".join(f"<p>Not explained: {escape(fault)}</p>" for fault in faults.values())
    which = "The most doubtful first" if len(ranking) <= MOST else f"The {MOST} most doubtful"
    which += ": those whose two highest probabilities are closest. Press one to open it."
    wall = f'<p>{which} All numbers: <a href="clips.csv">clips.csv</a>.</p><cam-wall>'
    wall += f"{''.join(tiles)}</cam-wall>{wrong}"
    title = f"{len(ranking)} clip{'s' * (len(ranking) != 1)}"
    return page(title, f"{WIDE}{wall}{script()}")
