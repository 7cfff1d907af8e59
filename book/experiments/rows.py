"""What the experiments share: rows of figures that a stopped run goes on from, tables with
intervals, and where figures come from."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from scipy.stats import bootstrap, permutation_test, rankdata, spearmanr
from tqdm import tqdm

from lib.data.arguments import named
from lib.evaluation import read_record
from lib.evaluation.marks import YARDSTICK
from lib.files import write_text
from lib.model.hardware import hardware, versions
from lib.training import Settings

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

Row = dict[str, str | int | float]  # the figures of one clip and one map, under their names


class Rows:
    """Rows of figures in a file: its first line says what they were measured on (`about`), each
    other line holds all rows of one clip, so that a clip is there or is not.

    ValueError where the file was begun with other settings, or holds something else.
    """

    def __init__(self, path: Path, about: dict):
        self.path, self.about = path, about
        lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
        try:
            begun, *clips = [json.loads(line) for line in lines if line.endswith("\n")] or [about]
            self.clips = {rows[0]["clip"]: rows for rows in clips}
        except (ValueError, TypeError, LookupError) as error:
            raise ValueError(f"{path} does not hold rows of figures: remove it") from error
        if begun != about:
            raise ValueError(f"{path} was begun with {begun}, not {about}: remove it")

    def measure(
        self, clips: int, figures: Callable[[Sequence[int]], Iterator[list[Row]]]
    ) -> list[Row]:
        """The rows of clips 0 to `clips`; `figures` gives those of the clips that are missing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(line) + "\n" for line in (self.about, *self.clips.values())]
        write_text(self.path, "".join(lines))  # without a line that was cut off
        missing = [i for i in range(clips) if i not in self.clips]
        with self.path.open("a") as file:
            for rows in tqdm(figures(missing), self.path.stem, len(missing), unit="clip"):
                file.write(json.dumps(rows) + "\n")
                file.flush()
                self.clips[rows[0]["clip"]] = rows
        return [row for i in range(clips) for row in self.clips[i]]


def grouped(rows: Iterable[Row]) -> dict[str, dict[str, dict[int, float]]]:
    """Of every map and every measure, in their order, the figure of each clip."""
    scores: dict[str, dict[str, dict[int, float]]] = {}
    for row in rows:
        measures = scores.setdefault(row["map"], {})
        for measure in [key for key in row if key not in ("clip", "map")]:
            measures.setdefault(measure, {})[row["clip"]] = row[measure]
    return scores


def table(rows: Iterable[Row], yardstick: str = YARDSTICK) -> dict[str, dict[str, dict]]:
    """For every map, every measure: mean, 95% interval, number of clips.

    The interval is a bootstrap over clips. `ahead` is the mean difference from the `yardstick`, a
    map, on the same clips with its interval, and `p` how likely one as large would be by chance
    (signs of the differences flipped at random), corrected for all comparisons of the table.
    """
    scores = grouped(rows)
    found: dict[str, dict[str, dict]] = {}
    apart: dict[tuple[str, str], list[float]] = {}
    for name, measures in scores.items():
        found[name] = {}
        for measure, by_clip in measures.items():
            found[name][measure] = mean(by_clip.values())
            other = scores.get(yardstick, {}).get(measure, {})
            shared = sorted(by_clip.keys() & other.keys())
            if shared and name != yardstick:
                apart[name, measure] = [by_clip[clip] - other[clip] for clip in shared]
                difference = mean(apart[name, measure])
                found[name][measure]["ahead"] = [difference[k] for k in ("mean", "low", "high")]
    for (name, measure), p in zip(apart, holm([by_chance(each) for each in apart.values()])):
        found[name][measure]["p"] = round(p, 4)
    return found


def alpha(rows: Iterable[Row]) -> dict[str, float]:
    """For every measure, how far the clips agree on which map is better: Krippendorff's alpha, the
    clips rating and the maps rated by their rank (as Tomsett et al. 2020, arXiv 1912.01451, do).
    1 is agreement, 0 is chance. A clip or map with one figure alone says nothing."""
    from krippendorff import alpha as of

    scores, found = grouped(rows).values(), {}
    for measure in sorted({measure for measures in scores for measure in measures}):
        maps = [measures[measure] for measures in scores if measure in measures]
        clips = sorted({clip for by_clip in maps for clip in by_clip})
        table = np.array([[by_clip.get(clip, np.nan) for by_clip in maps] for clip in clips])
        whole = np.isfinite(table).sum(0) == np.isfinite(table).any(1).sum()  # on every clip
        if len(clips) > 1 and whole.sum() > 1 and len(np.unique(table[:, whole])) > 1:
            ranks = rankdata(table[:, whole], axis=1, nan_policy="omit")
            found[measure] = round(float(of(ranks, level_of_measurement="ordinal")), 3)
    return found


def by_chance(differences: Sequence[float]) -> float:
    """How likely a mean as far from 0 is, were each difference as likely the other way round."""
    values = np.array(differences)
    values = values[np.isfinite(values)]
    if len(values) < 2 or not values.any():
        return 1.0
    flips = dict(permutation_type="samples", n_resamples=9999, vectorized=True, rng=0)
    return float(permutation_test((values,), np.mean, **flips).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Each p corrected for their number (Holm 1979)."""
    order, corrected, greatest = np.argsort(p), [1.0] * len(p), 0.0
    for place, i in enumerate(order):
        greatest = max(greatest, min(1.0, p[i] * (len(p) - place)))
        corrected[i] = greatest
    return corrected


def mean(values: Iterable[float]) -> dict[str, float | int]:
    """Mean, 95% bootstrap interval and count, without what is not a number."""
    values = np.array([value for value in values if np.isfinite(value)])
    low = high = average = float(values.mean()) if len(values) else float("nan")
    if len(values) > 1 and np.ptp(values) > 0:
        ci = bootstrap([values], np.mean, n_resamples=2000, method="percentile", rng=0)
        low, high = ci.confidence_interval
    figures = dict(mean=average, low=float(low), high=float(high))
    return {name: round(x, 4) for name, x in figures.items()} | dict(clips=len(values))


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation; 0 where all of one are equal: it ranks nothing."""
    return 0.0 if np.ptp(a) == 0 or np.ptp(b) == 0 else float(spearmanr(a, b).statistic)


def made_by(experiment: str) -> dict:
    """The command that runs, and the machine."""
    command = shlex.join(["python", "-m", f"book.experiments.{experiment}", *sys.argv[1:]])
    return dict(command=command, hardware=hardware(DEVICE), versions=versions())


def budget_arguments(add: Callable, clips: int, epochs: int, tests: int, size: int, record: str):
    """The arguments of a command whose runs have an equal budget, with these defaults."""
    add("--clips", type=int, default=clips, help="training clips (%(default)s)")
    add("--epochs", type=int, default=epochs)
    add("--tests", type=int, default=tests, help="test clips (%(default)s)")
    add("--size", type=int, default=size, help="side of the frames (%(default)s)")
    add("--record", type=named, default=Path(record), help="JSON file (%(default)s)")


def begun(args: argparse.Namespace, settings: Settings, experiment: str) -> dict:
    """The record of runs of equal budget in a file, or a new one. ValueError where the file has
    those of another budget, machine or version."""
    path, budget = args.record, dict(clips=args.clips, tests=args.tests, size=args.size)
    budget["settings"] = {k: v for k, v in asdict(settings).items() if k != "workers"}
    record = dict(budget=budget) | made_by(experiment)
    found = read_record(path) or record
    differ = [name for name in record if name != "command" and found.get(name) != record[name]]
    if differ:
        what = f"{path} holds runs of another {' and '.join(differ)}"
        raise ValueError(f"{what}: remove it or name another file")
    return record | dict(runs=found.get("runs", []))


def add_run(path: Path, record: dict, run: dict) -> None:
    """Print a run, and write the record with it."""
    record["runs"].append(run)
    tqdm.write(json.dumps(run))
    write_text(path, json.dumps(record, indent=1) + "\n")
