"""Write one ONNX graph, which a page can run, of a network and the maps of all its classes, and how
far it is from PyTorch. Needs the extra `live` of the package."""

import argparse

from lib.data.arguments import STOPPED, named, one_line
from lib.live.export import GRAPH, export
from lib.model import WEIGHTS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lib.live", description=__doc__)
    parser.add_argument("--out", type=named, required=True, help="folder to write to")
    parser.add_argument("--weights", type=named, default=WEIGHTS, help="(those that ship)")
    args = parser.parse_args()
    with one_line(parser, OSError, ValueError, stopped=STOPPED):
        record = export(args.out, args.weights)
    print(f"{args.out / GRAPH}: {record['bytes'] / 1e6:.1f} MB, opset {record['opset']}")
    print("on {clips} drawn clips: logits within {logits:.1e} of PyTorch's".format(**record))


if __name__ == "__main__":
    main()
