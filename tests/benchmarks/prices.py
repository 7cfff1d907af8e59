"""What a map costs, in time and memory, beside the forward pass alone and beside other libraries.

    python tests/benchmarks/prices.py [--record book/results/prices.json]

All candidates run on the same network, laid out as `lib.model.load` gives it, the same clip and the
same number of threads. Times are taken in turns, so that whatever else the machine does affects all
alike; each call explains another class. Memory is measured in a process of its own for each: the
largest amount (VmHWM), less the amount with network and clip loaded; what is freed goes back to the
system at once, so that what malloc keeps for later is not counted.
"""

import argparse
import ctypes
import gc
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[2]))

import forms

from lib.explain.maps import GRADIENT_METHODS  # noqa: E402
from lib.model import build, load  # noqa: E402
from lib.model.hardware import channels_last, hardware, versions  # noqa: E402
from lib.model.inflate import macs  # noqa: E402

ALL = 40  # classes
MEGABYTE = 1e6
ROUNDS = {"paper": 5, "default": 30}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LAYERS = {"paper": "layer4", "default": "blocks"}


class Setting(NamedTuple):
    network: nn.Module
    inputs: Tensor  # (1, 3, 16, size, size)
    layer: str


def setting(name: str) -> Setting:
    """The paper's inflated ResNet-50 with random weights, or the network that ships."""
    torch.manual_seed(0)
    if name == "paper":
        network = build("paper", [str(k) for k in range(ALL)], imagenet=False).eval()
        network = channels_last(network)
    else:
        network = load()
    return Setting(network, clip(network.profile.size), LAYERS[name])


def clip(size: int) -> Tensor:
    """Smooth noise that drifts, (1, 3, 16, size, size)."""
    torch.manual_seed(1)
    wide = nn.functional.interpolate(torch.randn(1, 3, size // 8, size // 4), scale_factor=8)
    return torch.stack([wide[..., 4 * t : 4 * t + size] for t in range(16)], 2)


# --- what is compared: each takes a setting and the class (or the first of all) -------------------


def forward(at: Setting, cls: int) -> None:
    with torch.inference_mode():
        at.network(at.inputs)


def closed(at: Setting, cls: int) -> None:
    forms.class_maps(at.network, at.inputs, [cls])


def closed_all(at: Setting, cls: int) -> None:
    forms.class_maps(at.network, at.inputs, range(ALL))


def by_gradient(method: str) -> Callable[[Setting, int], None]:
    return lambda at, cls: forms.class_maps(at.network, at.inputs, [cls], at.layer, method)


def captum(at: Setting, cls: int) -> None:
    from captum.attr import LayerGradCam

    LayerGradCam(at.network, at.network.get_submodule(at.layer)).attribute(at.inputs, target=cls)


def torchcam(at: Setting, cls: int) -> None:
    from torchcam.methods import GradCAM

    with GradCAM(at.network, at.layer) as method:
        method(cls, at.network(at.inputs))


def torchcam_all(at: Setting, cls: int) -> None:
    """All classes from one forward pass, whose graph is kept: not its documented use."""
    from torchcam.methods import GradCAM

    with GradCAM(at.network, at.layer) as method:
        scores = at.network(at.inputs)
        for k in range(ALL):
            method(k, scores, retain_graph=True)


def grad_cam(at: Setting, cls: int) -> None:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with GradCAM(at.network, [at.network.get_submodule(at.layer)]) as method:
        method(at.inputs, [ClassifierOutputTarget(cls)])
    at.network.zero_grad()  # it leaves a gradient for every weight


CANDIDATES = {
    "forward alone": forward,
    "cam": closed,
    f"cam, all {ALL} classes": closed_all,
    **{method: by_gradient(method) for method in GRADIENT_METHODS},
    "captum": captum,
    "torchcam": torchcam,
    "pytorch-grad-cam": grad_cam,
    f"torchcam, all {ALL} classes, graph kept": torchcam_all,
}
PEERS = ("captum", "torchcam", "pytorch-grad-cam")


# --- time and memory ------------------------------------------------------------------------------


def seconds(at: Setting, rounds: int) -> dict[str, list[float]]:
    """Seconds of every candidate, `rounds` of each, in turns."""
    forward(at, 0)
    for run in CANDIDATES.values():
        run(tiny(at), 0)  # imports
    taken: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    for turn in tqdm(range(rounds), "rounds", leave=False):
        for name, run in CANDIDATES.items():
            begun = time.perf_counter()
            run(at, turn)
            taken[name].append(time.perf_counter() - begun)
            gc.collect()
    return taken


def memory(network: str, threads: int) -> dict[str, float]:
    """Megabytes that every candidate needs on top of network and clip."""
    command = [sys.executable, __file__, "--alone", network, "--threads", str(threads)]
    at_once = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**16)}  # glibc: a mapping for each
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=at_once)
    return json.loads(done.stdout)


def alone(network: str, threads: int) -> dict[str, float]:
    """What `memory` runs: it loads network and clip once, and forks for each candidate."""
    torch.set_num_threads(1)  # threads do not survive a fork: none may have started
    at = setting(network)
    megabytes = {}
    for candidate in CANDIDATES:
        reader, writer = os.pipe()
        if (child := os.fork()) == 0:
            torch.set_num_threads(threads)
            os.write(writer, str(peak_of(candidate, at)).encode())
            os._exit(0)
        os.close(writer)
        with open(reader) as answer:
            megabytes[candidate] = float(answer.read())
        os.waitpid(child, 0)
    return megabytes


def peak_of(candidate: str, at: Setting) -> float:
    """Peak resident megabytes of a call above those before it (Linux)."""
    run = CANDIDATES[candidate]
    run(tiny(at), 0)  # imports, thread pools
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = status("VmRSS")
    run(at, 0)
    return (status("VmHWM") - before) / MEGABYTE


def tiny(at: Setting) -> Setting:
    return at._replace(inputs=at.inputs[:, :, :4, :64, :64].clone())


def status(field: str) -> int:
    """Bytes, from /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


def forms_of(at: Setting) -> list[dict]:
    """Every form of `forms`, and which of them is chosen."""
    found = [
        dict(
            form=str(trial),
            seconds=trial.seconds,
            same_top2=trial.same_top2,
            map_difference=trial.difference,
            faithful=trial.faithful,
        )
        for trial in forms.trials(at.network, at.inputs)
    ]
    best = min((row for row in found if row["faithful"]), key=lambda row: row["seconds"])
    return [
        row | dict(speed_up=found[0]["seconds"] / row["seconds"], chosen=row is best)
        for row in found
    ]


def peak(dtype: torch.dtype, times: int = 5) -> float:
    """Operations a second of one wide 3x3x3 convolution, the work that suits a processor best."""
    layout = dict(memory_format=torch.channels_last_3d)
    x = torch.randn(1, 512, 16, 14, 14).to(dtype).contiguous(**layout)
    kernel = torch.randn(512, 512, 3, 3, 3).to(dtype).contiguous(**layout)
    taken = []
    with torch.inference_mode():
        for _ in range(times):
            begun = time.perf_counter()
            y = nn.functional.conv3d(x, kernel, padding=1)
            taken.append(time.perf_counter() - begun)
    return 2 * y.numel() * kernel[0].numel() / min(taken)


# --- what is reported -----------------------------------------------------------------------------


def aims(rows: dict[str, dict], tried: list[dict], most: float) -> list[dict]:
    """Ratios of the medians, each beside what was aimed at; `most` is the speed-up of a forward
    pass that ran at the processor's peak throughout."""
    cost = {name: row["seconds"] for name, row in rows.items()}
    megabytes = {name: row["megabytes"] for name, row in rows.items()}
    every = f"cam, all {ALL} classes"
    kept = f"torchcam, all {ALL} classes, graph kept"
    ours = ("cam", *GRADIENT_METHODS)
    best = next(row for row in tried if row["chosen"])
    ratios = [
        ("all classes / forward alone", cost[every] / cost["forward alone"], "<=", 1.05),
        (f"captum x {ALL} / all classes", ALL * cost["captum"] / cost[every], ">=", 35),
        (f"torchcam x {ALL} / all classes", ALL * cost["torchcam"] / cost[every], ">=", 35),
        ("torchcam, graph kept / all classes", cost[kept] / cost[every], None, None),
        ("pytorch-grad-cam / cam", cost["pytorch-grad-cam"] / cost["cam"], ">=", 3),
        ("pytorch-grad-cam / gradcam", cost["pytorch-grad-cam"] / cost["gradcam"], ">=", 3),
        *(
            (f"memory: {name} / captum", megabytes[name] / megabytes["captum"], "<=", 1.0)
            for name in (*ours, every)
        ),
        *(
            (
                f"memory: {name} / pytorch-grad-cam",
                megabytes[name] / megabytes["pytorch-grad-cam"],
                "<=",
                0.1,
            )
            for name in (*ours, every)
        ),
        ("pytorch-grad-cam / fastest form", cost["pytorch-grad-cam"] / best["seconds"], ">=", 12),
        ("fastest form: speed-up", best["speed_up"], ">=", 4),
        ("the most this processor allows", most, None, None),
    ]
    return [
        dict(ratio=name, value=value, aim=sign and f"{sign} {aim}", met=_met(value, sign, aim))
        for name, value, sign, aim in ratios
    ]


def _met(value: float, sign: str | None, aim: float | None) -> bool | None:
    return None if sign is None else value <= aim if sign == "<=" else value >= aim


def measure(name: str, rounds: int, threads: int) -> dict:
    at = setting(name)
    taken = seconds(at, rounds)
    tried = forms_of(at)
    peaks = {name: peak(dtype) for name, dtype in DTYPES.items()}
    work = 2 * macs(at.network, *at.inputs.shape)
    most = tried[0]["seconds"] * max(peaks.values()) / work
    megabytes = memory(name, threads)
    rows = {
        candidate: dict(
            seconds=statistics.median(taken[candidate]),
            all_seconds=[round(s, 4) for s in taken[candidate]],
            megabytes=megabytes[candidate],
        )
        for candidate in CANDIDATES
    }
    for peer in PEERS:
        rows[peer][f"seconds_of_{ALL}_classes"] = ALL * rows[peer]["seconds"]
    return dict(
        network=name,
        backbone=at.network.profile.backbone,
        input=list(at.inputs.shape),
        layer=at.layer,
        candidates=rows,
        forms=tried,
        operations=work,
        peaks=peaks,
        aims=aims(rows, tried, most),
    )


def table(result: dict) -> str:
    shape = "x".join(map(str, result["input"][2:]))
    lines = [f"\n{result['backbone']} inflated, {shape}, layer {result['layer']}"]
    lines += [f"{'':44}{'seconds':>9}{'forwards':>10}{'MB':>9}"]
    rows = result["candidates"]
    one = rows["forward alone"]["seconds"]
    for name, row in rows.items():
        forwards = row["seconds"] / one
        lines += [f"{name:44}{row['seconds']:9.3f}{forwards:10.2f}{row['megabytes']:9.0f}"]
    for name in PEERS:
        taken = rows[name][f"seconds_of_{ALL}_classes"]
        lines += [f"{f'{name}, class by class x {ALL}':44}{taken:9.1f}{taken / one:10.1f}"]
    lines += [
        "",
        f"{'fastest faithful forward':44}{'seconds':>9}{'speed-up':>10}{'top 2':>9}  maps",
    ]
    for row in result["forms"]:
        name = row["form"] + " (chosen)" * row["chosen"]
        top2 = "same" if row["same_top2"] else "other"
        line = f"{name:44}{row['seconds']:9.3f}{row['speed_up']:10.2f}{top2:>9}"
        lines += [f"{line}  {row['map_difference']:.2%} off"]
    rates = ", ".join(f"{name} {rate / 1e9:.0f} G/s" for name, rate in result["peaks"].items())
    lines += [f"{result['operations'] / 1e9:.0f} G operations; most this processor does: {rates}"]
    lines += [""]
    for row in result["aims"]:
        met = {None: "", True: "met", False: "not met"}[row["met"]]
        lines += [f"{row['ratio']:44}{row['value']:9.2f}{row['aim'] or '':>10}  {met}".rstrip()]
    return "\n".join(lines)


HOW = (
    "seconds: median of turns taken in alternation; megabytes: peak resident memory of a process "
    "of its own, above network and clip, freed memory given back at once; class by class: the "
    f"median of one class times {ALL}; peaks: operations a second of one wide 3x3x3 convolution; "
    "weights of the paper's network are random, those of the default are trained"
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python tests/benchmarks/prices.py", description=HOW)
    parser.add_argument("--record", type=Path, help="JSON file to write, as well")
    parser.add_argument("--networks", nargs="+", choices=list(ROUNDS), default=list(ROUNDS))
    parser.add_argument("--rounds", type=int, help=f"turns of each candidate (default: {ROUNDS})")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        print(json.dumps(alone(args.alone, args.threads)))
        return
    torch.set_num_threads(args.threads)
    record = dict(
        hardware=hardware("cpu"),
        processor=torch.backends.cpu.get_cpu_capability(),
        threads=args.threads,
        versions=versions() | {name: version(name) for name in ("captum", "torchcam", "grad-cam")},
        how=HOW,
        networks={},
    )
    if args.record and args.record.is_file():  # what is not measured now stays
        record["networks"] = json.loads(args.record.read_text())["networks"]
    command = shlex.join(["python", "tests/benchmarks/prices.py", *sys.argv[1:]])
    for name in args.networks:
        result = measure(name, args.rounds or ROUNDS[name], args.threads)
        record["networks"][name] = dict(command=command) | result
        print(table(result), flush=True)
    if args.record:
        args.record.parent.mkdir(parents=True, exist_ok=True)
        args.record.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
