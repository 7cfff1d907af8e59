"""Write the network as a graph that a page can run: `python -m lib.live --help`."""

import argparse
from pathlib import Path

from lib.data.arguments import STOPPED, one_line
from lib.live.export import GRAPH, export
from lib.model import WEIGHTS


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.live",
        description="Write one ONNX graph that gives the logits and the maps of all classes, and a "
        "record of how far it is from PyTorch. Needs the extra `live` of the package.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="(those that ship)")
    args = parser.parse_args()
    with one_line(parser, OSError, ValueError, stopped=STOPPED):
        record = export(args.out, args.weights)
    print(f"{args.out / GRAPH}: {record['bytes'] / 1e6:.1f} MB, opset {record['opset']}")
    print("on {clips} drawn clips: logits within {logits:.1e} of PyTorch's".format(**record))


if __name__ == "__main__":
    main()
