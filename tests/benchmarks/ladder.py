"""What each step of the training loop buys, and what explaining takes, on this machine.

`python tests/benchmarks/ladder.py --record book/results/ladder.json` adds this machine's figures to
that file. Weights and clips are random: they change nothing about the speed. The loop is that of
`lib.training`, one setting more from rung to rung.
"""

import argparse
import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import prices
import torch
from forms import class_maps
from torch import nn
from torch.profiler import ProfilerActivity, profile

from lib.files import write_text
from lib.model import PROFILES, build
from lib.model.hardware import device_of, hardware, trains_fast_in_bfloat16, versions
from lib.model.inflate import macs
from lib.training import Settings, loop
from lib.training.batches import Features, parts

CLASSES = [str(i) for i in range(40)]
#: Published dense bfloat16 operations a second, by a part of the device's name.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12, "4090": 165e12}
PLAIN = Settings(
    batch=4, optimizer="sgd", whole=True, reverse=False, bfloat16=False, channels_last=False
)


def rungs(half: bool, compiler: bool, batch: int, most: int) -> dict[str, Settings]:
    """Each adds one thing to the one before. Those that cannot help here are left out: bfloat16
    where it is not fast (`half`), and compiling without a compiler."""
    settings = replace(PLAIN, batch=batch)
    found = {"plain float32": settings}
    steps = [("bfloat16", dict(bfloat16=True))] * half
    steps += [("channels last", dict(channels_last=True))]
    steps += [("compiled", dict(compile=True))] * compiler
    steps += [(f"batch {most}", dict(batch=most))] * (most > batch)
    for name, changed in steps:
        settings = replace(settings, **changed)
        found[name] = settings
    smaller = replace(settings, batch=batch, accumulate=batch, compile=False, recompute=True)
    return found | {"for a small GPU: clip by clip, recomputed": smaller}


def rungs_here(network: nn.Module, args: argparse.Namespace) -> dict[str, Settings]:
    """Those for a network where it is."""
    on_gpu = device_of(network).type == "cuda"
    compiler = on_gpu or any(map(shutil.which, ("g++", "clang++", "cl")))
    half = trains_fast_in_bfloat16(network)
    return rungs(half, compiler, args.batch, args.most)


def peak_of(device: torch.device) -> float | None:
    """bfloat16 operations a second at most: a GPU's as published, a CPU's as measured."""
    if device.type == "cpu":
        return prices.peak(torch.bfloat16)
    return next((p for part, p in PEAKS.items() if part in hardware("cuda")), None)


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(call: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Median of some calls, after one to warm up (and to compile)."""
    call()
    spent = []
    for _ in range(rounds):
        begun = now(device)
        call()
        spent.append(now(device) - begun)
    return float(np.median(spent))


def untrained(name: str, device: torch.device) -> nn.Module:
    """The network of a profile, with random weights."""
    return build(name, CLASSES, imagenet=False).to(device)


def ready(network: nn.Module, settings: Settings) -> Callable[[list[Features]], object]:
    """What makes an update of the network from the parts of a batch."""
    model = loop.prepare(network, settings)
    loop.training_mode(network, settings)
    optimizer, scheduler = loop.optimize(model, settings, 10**6)
    return lambda batch: loop.step(model, batch, optimizer, scheduler, settings)


def climb(
    name: str, device: torch.device, args: argparse.Namespace, peak: float | None
) -> list[dict]:
    """Training clips per second of each rung, with the share of the device's peak."""
    size = args.size or PROFILES[name].size
    shape = (3, args.frames, size, size)
    rows = []
    for rung, settings in rungs_here(untrained(name, device), args).items():
        torch.manual_seed(0)
        network = untrained(name, device)
        work = 6 * macs(network, 1, *shape)  # 2 operations each, forward once and backward twice
        update = ready(network, settings)
        x = torch.rand(settings.batch, *shape, device=device)
        y = torch.arange(settings.batch, device=device) % 40
        batch = [(x[part], y[part]) for part in parts(settings.batch, settings)]
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        rate = settings.batch / seconds(partial(update, batch), device, args.rounds)
        row = dict(rung=rung, batch=settings.batch, clips_per_second=float(f"{rate:.3g}"))
        if device.type == "cuda":
            row["gigabytes"] = round(torch.cuda.max_memory_allocated() / 1e9, 1)
        if peak:
            row["share_of_peak"] = round(rate * work / peak, 3)
        row["teraflops"] = float(f"{rate * work / 1e12:.3g}")
        rows.append(row)
        print(*row.values(), sep="\t", flush=True)
    return rows


def explaining(name: str, device: torch.device, args: argparse.Namespace) -> dict:
    """Seconds for one clip with the maps of all classes, and clips per second in batches."""
    network = untrained(name, device).eval()
    size = args.size or network.profile.size
    figures = {}
    for batch in (1, args.most):
        x = torch.rand(batch, 3, args.frames, size, size, device=device)
        spent = seconds(lambda: class_maps(network, x, range(40)), device, args.rounds)  # noqa: B023
        figures["latency" if batch == 1 else "clips_per_second"] = float(
            f"{spent if batch == 1 else batch / spent:.3g}"
        )
    return figures


def kinds(name: str, device: torch.device, args: argparse.Namespace) -> list[dict]:
    """Where the time of an update goes: the share of each kind of operation, the largest first."""
    network = untrained(name, device)
    settings = list(rungs_here(network, args).values())[-2]
    settings = replace(settings, compile=False)  # a compiled graph hides the operations' names
    update = ready(network, settings)
    size = args.size or PROFILES[name].size
    x = torch.rand(args.batch, 3, args.frames, size, size, device=device)
    batch = [(x, torch.arange(args.batch, device=device) % 40)]
    update(batch)
    watched = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with profile(activities=watched) as measured:
        update(batch)
    attribute = f"self_{'device' if device.type == 'cuda' else 'cpu'}_time_total"
    events = [event for event in measured.key_averages() if event.key.startswith("aten::")]
    spent = {event.key: getattr(event, attribute) for event in events}  # not each kernel once more
    total = sum(spent.values())
    first = sorted(spent, key=spent.get, reverse=True)[:8]
    return [dict(operation=key, share=round(spent[key] / total, 3)) for key in first]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profiles", nargs="+", choices=PROFILES, default=["paper"])
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, help="of the frames; the profile's by default")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--most", type=int, default=4, help="the batch of the last rung")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", type=Path)
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    machine, peak = hardware(device.type), peak_of(device)
    record = json.loads(args.record.read_text()) if args.record and args.record.is_file() else {}
    mine = record.setdefault(machine, {})
    command = shlex.join(["python", "tests/benchmarks/ladder.py", *sys.argv[1:]])
    mine |= dict(command=command, versions=versions(), peak=peak and float(f"{peak:.3g}"))
    if device.type == "cuda":
        mine["versions"]["cudnn"] = str(torch.backends.cudnn.version())
    parts_of_a_profile = dict(
        training=partial(climb, peak=peak), explaining=explaining, operations=kinds
    )
    for name in args.profiles:
        figures = dict(frames=args.frames, size=args.size or PROFILES[name].size)
        mine.setdefault("profiles", {})[name] = figures
        for part, measure in parts_of_a_profile.items():  # a stopped run keeps those that it has
            figures[part] = measure(name, device, args=args)
            if args.record:
                write_text(args.record, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
