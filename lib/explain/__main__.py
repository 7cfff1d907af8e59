"""Show what a trained network sees in a video: prints the two most probable classes, and writes the
evidence on every frame."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from os.path import realpath
from pathlib import Path

from torch import nn

from lib.data.arguments import GOES_ON, STOPPED, named, one_line, whole
from lib.data.video import VideoError, read_clip
from lib.explain.ask import most_probable, network_inputs
from lib.explain.clip import METHODS, explain, sampling
from lib.explain.explanation import OUTPUTS, ExplainError, Explanation, check_suffix, class_index
from lib.explain.folder import explain_folder, fingerprint, is_clip
from lib.explain.layers import table
from lib.explain.maps import GRADIENT_METHODS
from lib.model import hub
from lib.model.hardware import to_gpu
from lib.model.networks import load


def _parser() -> argparse.ArgumentParser:
    example = "example: python -m lib.explain clip.mp4 --out clip.html"
    parser = argparse.ArgumentParser("python -m lib.explain", description=__doc__, epilog=example)
    add, cls = parser.add_argument, "NAME|INDEX"
    what = "a video file, or a zip or folder of JPEGs 00001.jpg, 00002.jpg, ...: 16 frames, 4 a "
    what += "second, from its middle; others with --network. Or a folder of such clips, also in "
    what += "folders inside it: all of them, to --out DIR; started again it goes on"
    add("clip", type=named, help=what)
    add("--class", dest="cls", metavar=cls, help="class to show (default: the most probable)")
    add("--versus", metavar=cls, help="why not this class? its evidence is taken from --class's")
    add("--motion", action="store_true", help="also each frame alone: what is left is motion")
    add("--start", type=whole(0, kind=float), metavar="SECONDS", help="where the frames begin")
    add("--method", choices=METHODS, help="cam: all classes at once (default, if the network fits)")
    add("--layer", metavar="NAME", help="module to explain, not with cam (default: the last)")
    which = parser.add_mutually_exclusive_group().add_argument
    which("--weights", type=named, metavar="FILE", help="written by lib.training (default: ours)")
    others = "somebody else's network: one of torchvision, such as swin3d_t; a video classifier of "
    others += "transformers, by its name on huggingface.co or the folder it was saved in; or a 2D "
    others += "network of timm, frame by frame, such as timm/resnet18"
    which("--network", metavar="NAME|FOLDER", help=others)
    add("--layers", action="store_true", help="list the layers that can be explained, their price")
    kinds = ".html: a page with the viewer; .gif, .mp4, .webm: original and overlay side by side; "
    kinds += ".npz: the numbers; for a folder: the folder of a page, a table and the numbers"
    add("-o", "--out", type=named, metavar="FILE|DIR", help=kinds)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status, 1 where clips of a folder could not be explained.
    A file, class or layer that is at fault ends it in a line, with 2."""
    parser = _parser()
    options = parser.parse_args(arguments)
    path, out = options.clip, options.out or Path("none.html")
    stopped = STOPPED if out.suffix.lower() in OUTPUTS else GOES_ON
    with one_line(parser, VideoError, ExplainError, OSError, stopped=stopped):
        if options.layers:
            if options.out or options.cls or options.versus or options.motion:
                raise ExplainError("--layers is a table of the network, without --out or a class")
            network = _network(options)
            print(table(network, read_clip(path, *sampling(network), options.start, 256)))
            return 0
        return (_folder if path.is_dir() and not is_clip(path) else _clip)(options)


def _clip(options: argparse.Namespace) -> int:
    if options.out:
        check_suffix(options.out)
    if options.out and realpath(options.out) == realpath(options.clip):
        raise VideoError(f"{options.out}: is the clip itself; name another file to write")
    network = _network(options)
    chosen = options.cls, options.versus
    chosen = (int(c) if c and c.isdecimal() and len(c) < 10 else c for c in chosen)
    shown, versus = (None if c is None else class_index(network.classes, c) for c in chosen)
    result = _explained(network, options, options.clip, shown, versus)
    print(result.summary())
    if versus is not None:
        print(result.why(shown, versus))
    if options.out:
        result.save(options.out, shown, versus)
        print(f"written: {options.out}")
        if result.geometry_note:
            print(f"note: {result.geometry_note}")
    if not (options.network or options.weights):
        print("note: this network has learned from drawn clips; of filmed ones it can only guess")
    return 0


def _folder(options: argparse.Namespace) -> int:
    if options.out is None or options.out.suffix.lower() in OUTPUTS:
        raise ExplainError("a folder of clips needs --out DIR, a folder to write to")
    if options.cls or options.versus or options.motion:
        raise ExplainError("a folder of clips: --class, --versus and --motion are for one clip")
    network, out = _network(options), options.out
    settings = {
        "folder": realpath(options.clip),
        "network": f"{Path(options.network or options.weights or 'ours').name} "
        f"({fingerprint(network)})",
        "method": options.method or getattr(network, "default_method", "cam"),
        "layer": options.layer or getattr(network, "default_layer", None),
        "frames": list(sampling(network)),
        "start": options.start,
    }
    one = partial(_explained, network, options)
    faults = explain_folder(options.clip, out, settings, one)
    print(f"written: {out / 'index.html'}, {out / 'clips.csv'}, and a .npz for each clip")
    for fault in faults.values():
        print(f"not explained: {fault}", file=sys.stderr)
    return int(bool(faults))


def _explained(
    network, options, path: str | Path, shown: int | None = None, versus: int | None = None
) -> Explanation:
    """Of all classes, or those that a gradient is worth: one class is a backward pass."""
    clip = read_clip(path, *sampling(network), start=options.start, size=256)
    method, only = options.method or getattr(network, "default_method", "cam"), None
    if method in GRADIENT_METHODS and (options.network or shown is not None):
        only = [shown]
        if shown is None:
            only = most_probable(network, network_inputs(network, clip.frames))
        only += [versus] if versus not in (None, *only) else []
    return explain(network, clip, only, options.layer, method, motion=options.motion)


def _network(options: argparse.Namespace) -> nn.Module:
    try:
        if options.network is not None:
            return to_gpu(hub.load(options.network))
        return to_gpu(load() if options.weights is None else load(options.weights))
    except (ValueError, RuntimeError, ImportError) as error:  # something else, or out of reach
        raise ExplainError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
