"""`python -m lib.explain clip.mp4 --out clip.html`: what the trained network sees in a video."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from lib.data.video import VideoError, read_clip
from lib.explain.clip import METHODS, explain, network_inputs, sampling
from lib.explain.explanation import ExplainError, class_index
from lib.explain.maps import GRADIENT_METHODS
from lib.model import hub
from lib.model.networks import evaluation_mode, load

MOST = 5  # classes that a network of many is asked about, one by one
OUTPUTS = (".html", ".gif", ".mp4", ".webm", ".npz")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: seconds from the start of the video, 0 or more")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lib.explain",
        description="Show what a trained network sees in a video: prints the two most probable "
        "classes, and writes the evidence on every frame.",
        epilog="example: python -m lib.explain clip.mp4 --out clip.html",
    )
    add, cls = parser.add_argument, "NAME|INDEX"
    add("clip", help="a video file: 16 frames, 4 a second, from its middle; others with --network")
    evidence = "class whose evidence is shown (default: the most probable)"
    add("--class", dest="cls", metavar=cls, help=evidence)
    without = "why not this class? the evidence for --class minus the evidence for this one"
    add("--versus", metavar=cls, help=without)
    add("--start", type=_seconds, metavar="SECONDS", help="where the frames begin")
    how = "cam: all classes at once (default, if the network allows it); the others one by one"
    add("--method", choices=METHODS, help=how)
    add("--layer", metavar="NAME", help="module to explain, not with cam (default: the last)")
    which = parser.add_mutually_exclusive_group().add_argument
    which("--weights", metavar="FILE", help="of a network trained by lib.training (default: ours)")
    others = "somebody else's network: one of torchvision, such as swin3d_t; or a video classifier "
    others += "of transformers, by its name on huggingface.co or the folder it was saved in"
    which("--network", metavar="NAME|FOLDER", help=others)
    kinds = "original and overlay side by side"
    kinds = f".html: a page with the viewer; .gif, .mp4, .webm: {kinds}; .npz: the numbers"
    add("-o", "--out", metavar="FILE", help=kinds)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status (2: a file, class or layer is at fault)."""
    options = _parser().parse_args(arguments)
    try:
        if options.out and Path(options.out).suffix.lower() not in OUTPUTS:
            raise VideoError(f"{options.out}: cannot be written; use {', '.join(OUTPUTS)}")
        if options.out and Path(options.out).resolve() == Path(options.clip).resolve():
            raise VideoError(f"{options.out}: is the clip itself; name another file to write")
        network = _network(options.weights, options.network)
        clip = read_clip(options.clip, *sampling(network), start=options.start, size=256)
        shown, versus = (_class(network.classes, c) for c in (options.cls, options.versus))
        named = [c for c in (shown, versus) if c is not None]
        method, only = options.method or getattr(network, "default_method", "cam"), None
        if method in GRADIENT_METHODS:  # one class is a backward pass
            if shown is not None:
                only = named
            elif options.network:
                with evaluation_mode(network), torch.inference_mode():
                    logits = network(network_inputs(network, clip.frames))[0]
                first = logits.topk(min(MOST, len(logits))).indices.tolist()
                only = list(dict.fromkeys([*first, *named]))
        result = explain(network, clip, only, options.layer, method)
        print(result.summary())
        if versus is not None:
            print(result.why(shown, versus))
        if options.out:
            result.save(options.out, shown, versus)
            print(f"written: {options.out}")
            if result.geometry_note:
                print(f"note: {result.geometry_note}")
    except (VideoError, ExplainError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _network(weights: str | None, name: str | None):
    try:
        if name is not None:
            return hub.load(name)
        return load() if weights is None else load(weights)
    except (ValueError, RuntimeError, ImportError) as error:  # something else, or out of reach
        raise ExplainError(str(error)) from error


def _class(names: Sequence[str], cls: str | None) -> int | None:
    return None if cls is None else class_index(names, int(cls) if cls.isdecimal() else cls)


if __name__ == "__main__":
    sys.exit(main())
