"""The network and the maps of all its classes as one ONNX graph, which a page can run.

Class activation maps need no gradient: one forward pass gives logits, maps, and their activations.
"""

import hashlib
import json
import logging
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import lib.explain.maps
import lib.model
from lib.data.video import Clip
from lib.explain import explain
from lib.explain.ask import after
from lib.explain.clip import sampling
from lib.explain.maps import class_maps, watching
from lib.files import digest, write_text, write_whole
from lib.model import WEIGHTS, load
from lib.model.networks import evaluation_mode
from lib.viewer import data

OPSET = 18
GRAPH, RECORD = "network.onnx", "network.json"
SHARED = ("classes", "bias", "cells", "method", "layer", "footprint", "note", "colours", "mapped")
CLIPS = 10  # drawn ones, on which the graph is held against PyTorch


class InPage(nn.Module):
    """Frames (T, S, S, 3), uint8 or float of 0 to 255, to logits (K,), maps (K, T, h, w),
    activations (C, T, h, w) and the head's weight (K, C)."""

    def __init__(self, network: nn.Module, layer: str, head: nn.Linear):
        super().__init__()
        self.network, self.head = network, head
        self.seen: list[Tensor] = []
        after(network.get_submodule(layer), self.seen.append)
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(network.preprocess, name)))

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        self.seen.clear()
        x = ((frames.float() / 255 - self.mean) / self.std).permute(3, 0, 1, 2)[None]
        logits = self.network(x)[0]
        maps = class_maps(self.seen[-1], self.head.weight[None])[0]
        return logits, maps, self.seen[-1][0], self.head.weight


def export(folder: Path | str, weights: Path | str = WEIGHTS) -> dict:
    """Write the graph and its record to a folder; what is there of the same weights and the same
    code is kept.

    The record has what a page needs to show what the graph gives, and how far it was from PyTorch.
    """
    folder, network = Path(folder), load(weights)
    sources = [Path(weights), *sorted(Path(lib.model.__file__).parent.glob("*.py"))]
    sources += [Path(__file__), Path(lib.explain.maps.__file__)]
    made_of = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    with suppress(FileNotFoundError, ValueError, TypeError, RecursionError):  # no whole record
        record = dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))
        if (record.get("made_of"), record.get("sha256")) == (made_of, digest(folder / GRAPH)):
            return record
    (folder / RECORD).unlink(missing_ok=True)  # of another graph than the one that is to come
    folder.mkdir(parents=True, exist_ok=True)
    (frames, fps), size = sampling(network), network.preprocess.size
    black = np.zeros((frames, size, size, 3), np.uint8)
    shown = explain(network, black)
    write_graph(network, shown.layer, black, folder / GRAPH)
    viewer = json.loads(data(shown))
    record = {
        "made_of": made_of,
        "sha256": digest(folder / GRAPH),
        "opset": OPSET,
        "bytes": (folder / GRAPH).stat().st_size,
        "clips": CLIPS,
        **compare(folder / GRAPH, network, drawn(CLIPS, network)),
        **dict(frames=frames, fps=fps, size=size),
        "shape": shown.maps.shape[1:],
        "viewer": {name: viewer[name] for name in SHARED},
    }
    write_text(folder / RECORD, json.dumps(record) + "\n")
    return record


def write_graph(network: nn.Module, layer: str, frames: np.ndarray, path: Path) -> None:
    """Weights are float16 where they are on disk, and become float32 when the graph is loaded;
    the frames may be given as uint8."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it warns that an output is a weight
    with watching(network, network.preprocess(frames), layer) as seen:
        head = seen.head
    with evaluation_mode(network), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        outputs = ["logits", "maps", "activations", "weight"]
        named = dict(input_names=["frames"], output_names=outputs)
        how = dict(opset_version=OPSET, dynamo=True, verbose=False, **named)
        given = (torch.from_numpy(frames),)
        model = torch.onnx.export(InPage(network, layer, head), given, **how).model_proto
    casts, graph = [], model.graph
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and np.array_equal(half := values.astype("f2"), values):
            name, kept = tensor.name, f"{tensor.name}_half"
            tensor.CopyFrom(numpy_helper.from_array(half, kept))
            casts.append(helper.make_node("Cast", [kept], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    for node in nodes:  # without where in the code each comes from
        del node.metadata_props[:]
    del graph.node[:], graph.value_info[:], model.metadata_props[:]
    graph.node.extend(nodes)
    write_whole(path, lambda part: onnx.save(model, part))


def drawn(clips: int, network: nn.Module) -> list[Clip]:
    """Test clips of different classes, as the network wants them."""
    from lib import miniature

    (frames, fps), size = sampling(network), network.preprocess.size
    times = np.arange(frames) / fps
    return [miniature.draw("test", 7 * i, 3, times, size) for i in range(clips)]


def compare(graph: Path, network: nn.Module, clips: list[Clip]) -> dict[str, float]:
    """The graph on onnxruntime against `explain`: greatest differences, same two most probable."""
    run, logits, maps, same = runner(graph), 0.0, 0.0, 0
    for clip in clips:
        there, here = run(clip.frames), explain(network, clip)
        logits = max(logits, float(np.abs(there[0] - here.logits).max()))
        maps = max(maps, float(np.abs(there[1] - here.maps).max()))
        same += set(np.argsort(there[0])[-2:]) == set(np.argsort(here.logits)[-2:])
    return {"logits": logits, "maps": maps, "same_two": same}


def runner(graph: Path):
    """Frames (T, S, S, 3) uint8 to (logits, maps, activations, weight), by onnxruntime on one
    thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    cpu = ["CPUExecutionProvider"]  # of its bytes: not every name of a file is UTF-8
    session = onnxruntime.InferenceSession(graph.read_bytes(), options, providers=cpu)
    return lambda frames: session.run(None, {"frames": frames})
