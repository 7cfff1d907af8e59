"""A 2D network in, a 3D network out (Carreira & Zisserman 2017, arXiv 1705.07750).

A kernel w (out, in, k, k) grows a temporal axis, (out, in, t, k, k):

    mean        every time step gets w / t     a clip that stands still gives the 2D response
    centre      the middle step gets w, the others 0     every clip starts as its frames one by one
    difference  as centre, and the w of another output channel one step later, less the same one
                step earlier     the first, and from the first update on it sees what moves
    random      new numbers at every step, where w is as new and worth nothing

With zero padding in time these identities fail near the ends of the clip, all but the second. With
padding "replicate" they hold, and what a clip that stands still gives is the same at every step.

A module whose code means the same for clips keeps it and gets 3D layers. Any other runs as it is on
the frames, (N*T, C, H, W), and only its convolutions that grow see the clip: see `Growth`.
"""

import copy
import inspect
from collections import defaultdict
from collections.abc import Callable

import torch
from torch import fx, nn

from lib.model.framewise import Clipwise, Framewise, GlobalPool, SeeMotion
from lib.model.kernels import conv3d, is_plain, norm3d

Rule = Callable[[str, nn.Conv2d], bool]  # of a module's name and the convolution

#: Which convolutions grow in time. The last three are of EfficientNet-Lite0: the convolutions that
#: widen a block of its last two stages; all of these stages and of the head; and, of what stands in
#: their place in `motion_lite0`, the second convolution of each block.
RULES: dict[str, Rule] = {
    "all": lambda name, conv: True,
    "spatial": lambda name, conv: max(conv.kernel_size) > 1,
    "first": lambda name, conv: name.endswith(("conv1", "conv_pw", "conv_stem")),
    "none": lambda name, conv: False,
    "late": lambda name, conv: RULES["upper"](name, conv) and name.endswith("conv_pw"),
    "upper": lambda name, conv: name.startswith(("blocks.5.", "blocks.6.", "conv_head")),
    "motion": lambda name, conv: name.startswith("blocks.4.") and name.endswith("conv2"),
}

#: Layers, functions and methods that treat every number alone, whatever the shape.
_POINTWISE = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish)
_POINTWISE += (nn.Sigmoid, nn.Hardsigmoid, nn.Hardtanh, nn.Tanh, nn.Dropout, nn.Identity)
_ALONE = {"add", "iadd", "add_", "sub", "mul", "imul", "mul_", "truediv", "neg", "contiguous"}
_ALONE |= {"relu", "relu_", "relu6", "leaky_relu", "elu", "gelu", "silu", "mish", "hardswish"}
_ALONE |= {"sigmoid", "hardsigmoid", "hardtanh", "tanh", "dropout"}


def inflate(
    net2d: nn.Module,
    kernel: int = 3,
    init: str = "centre",
    where: str | Rule = "all",
    padding: str = "zeros",
) -> nn.Module:
    """A 3D copy of a 2D CNN: takes clips (N, 3, T, H, W), keeps T throughout, gives logits (N, K).

    Args:
        net2d: a CNN, such as those of torchvision and timm; it is left as it is.
        kernel: temporal kernel size, odd; padding (kernel - 1) / 2, stride 1.
        init: "mean", "centre", "difference" or "random".
        where: "all"; "spatial", kernels wider than 1x1; "first", the first convolution and the
            first of each block; "none"; another of `RULES`; or a function of (name, convolution).
            The others stay 2D and see the frames one by one, as do pools, gates and norms. So does
            a convolution that comes after the mean over time and space.
        padding: what lies beyond the ends of the clip, "zeros" as in the article, or "replicate",
            the first and the last frame.

    Time ends at the global average pool; where there is none, or it is hidden in code, the frames'
    logits are averaged. A TypeError names the layers that have no 3D form here.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel={kernel}: a temporal kernel needs an odd size, such as 3")
    if init not in ("mean", "centre", "difference", "random"):
        raise ValueError(f"init={init!r}: choose 'mean', 'centre', 'difference' or 'random'")
    if padding not in ("zeros", "replicate"):
        raise ValueError(f"padding={padding!r}: choose 'zeros' or 'replicate'")
    if isinstance(where, str) and where not in RULES:
        raise ValueError(f"where={where!r}: choose {', '.join(map(repr, RULES))} or a function")
    rule = RULES[where] if isinstance(where, str) else where
    growth = Growth(net2d, (kernel, init, padding), rule)
    net3d, refused = growth.clipwise(""), growth.refused()
    if refused:
        more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
        only = "only convolutions that do nothing else and have no hooks, in networks whose "
        only += "channels come first; `where` can leave a convolution 2D"
        raise TypeError(f"cannot inflate {', '.join(refused[:3])}{more}: {only}")
    if where != "none" and not growth.chosen:
        raise ValueError(f"where={where!r} chooses no convolution of this network: say 'none'?")
    return net3d


class Growth:
    """Grows a copy of a network. The code of each module is read (by torch.fx, its children left
    closed) and followed from its input on: a "clip" is (N, C, T, H, W), until it is averaged over
    time and space to a "picture", from where on all is as in the 2D network. Code that would do
    something else with a clip than with its frames, or cannot be read, is run on the frames.
    """

    def __init__(self, net2d: nn.Module, form: tuple[int, str, str], chosen: Rule):
        self.form = form  # kernel, init, padding
        self.modules = dict(copy.deepcopy(net2d).named_modules(remove_duplicate=False))
        convs = ((n, m) for n, m in self.modules.items() if isinstance(m, nn.Conv2d))
        self.chosen = {name for name, conv in convs if chosen(name, conv)}
        self.growing = {""} | self.chosen  # and all modules that they lie in
        for name in self.chosen:
            self.growing |= {name[:i] for i, letter in enumerate(name) if letter == "."}
        self.kinds: dict[str, str] = {}
        self.calls: dict[str, dict] = defaultdict(dict)  # what a module calls with a clip
        self.worlds: dict[nn.Module, str] = {}
        self.grown: dict[nn.Parameter, nn.Parameter] = {}
        self.wrong = {name for name in self.modules if self.stays_last(name)}

    def stays_last(self, name: str) -> bool:
        """Whether this normalises the last axis, and the code around it does not put the channels
        there and back again: nobody could tell then which axis of a volume is which."""
        kind, around = type(self.modules[name]).__name__, name.rpartition(".")[0]
        if "2d" in kind or not kind.startswith(("LayerNorm", "RMSNorm", "RmsNorm", "MultiheadA")):
            return False
        turns = []
        for node in (graph := _graph(self.modules[around], False)) and graph.nodes or ():
            if node.target == "permute":
                turns.append(node.args[1:])
            elif node.op == "call_module":
                child = self.modules[f"{around}.{node.target}".lstrip(".")]
                turns.append(tuple(getattr(child, "dims", ())))
        return [turn for turn in turns if turn] != [(0, 2, 3, 1), (0, 3, 1, 2)]

    def kind(self, name: str) -> str:
        """What a module gives for a clip: a "clip" or a "picture", if its code may see the clip; ""
        if it may see frames alone; "other" if it gives several tensors."""
        if name not in self.kinds:
            module = self.modules[name]
            if name in self.chosen or type(module) in _POINTWISE:
                kind = "clip"
            elif type(module) is SeeMotion:
                kind = self.kind(body := f"{name}.body".lstrip("."))
                self.calls[name][body] = None
            elif isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
                kind = "picture" if is_plain(module, nn.AdaptiveAvgPool2d) else ""
            elif not is_plain(module, type(module)) or not list(module.children()):
                kind = ""
            else:
                found = {self.follow(name, _graph(module, mode)) for mode in (False, True)}
                kind = found.pop() if len(found) == 1 else ""
            self.kinds[name] = kind
        return self.kinds[name]

    def follow(self, name: str, graph: fx.Graph | None) -> str:
        """The kind of a module by its code."""
        *nodes, last = graph.nodes if graph else (None,)
        if last is None or not isinstance(last.args[0], fx.Node):
            return "other" if last else ""
        kinds: dict[fx.Node, str] = {}
        for node in nodes:
            given = {kinds[n] for n in node.all_input_nodes}
            if node.op == "placeholder":
                kinds[node] = "picture" if kinds else "clip"  # the others keep their defaults
            elif given <= {"picture"}:
                kinds[node] = "picture"
            elif given == {"clip"} and (kind := self.called(name, node)):
                kinds[node] = kind
            else:
                return ""
        return kinds[last.args[0]]

    def called(self, name: str, node: fx.Node) -> str:
        """The kind of what a module's code makes of clips in one step; "" if it needs frames."""
        if node.op == "call_module":
            child = f"{name}.{node.target}".lstrip(".")
            self.calls[name][child] = None  # a set, in order
            alone = len(node.args) == 1 and isinstance(node.args[0], fx.Node) and not node.kwargs
            return {"": "clip", "other": ""}.get(kind := self.kind(child), kind) if alone else ""
        function = node.target if node.op == "call_method" else node.target.__name__
        joined = function == "cat" and 1 in (*node.args[1:], node.kwargs.get("dim"))
        return "clip" if function in _ALONE or joined else ""

    def clipwise(self, name: str) -> nn.Module:
        """The form of a module that takes clips."""
        module, kind = self.modules[name], self.kind(name)
        if name in self.chosen:
            return self.conv(name)
        if type(module) in _POINTWISE:
            return module
        if type(module) is nn.Conv2d and module.kernel_size == (1, 1):
            if form := conv3d(module, 1, "centre", "zeros"):
                return form
        if type(module) is nn.BatchNorm2d and is_plain(module, nn.BatchNorm2d):
            return norm3d(module)
        if kind == "picture" and isinstance(module, nn.AdaptiveAvgPool2d):
            return GlobalPool(1)
        if kind != "picture" and (kind != "clip" or name not in self.growing):
            return Framewise(self.framewise(name))
        for child in self.calls[name]:
            self.put(child, self.clipwise)
        return module

    def framewise(self, name: str) -> nn.Module:
        """The form of a module that takes frames."""
        module = self.modules[name]
        if name in self.chosen:
            return Clipwise(self.conv(name))
        if name not in self.growing:
            return module
        alone = len(inspect.signature(type(module).forward).parameters) == 2  # self and a tensor
        if alone and self.kind(name) == "clip":
            return Clipwise(self.clipwise(name))
        if "forward" in vars(module) or isinstance(module, torch.jit.ScriptModule):
            self.wrong.add(name)
        for child, _ in module.named_children():
            self.put(f"{name}.{child}".lstrip("."), self.framewise)
        return module

    def put(self, name: str, form: Callable[[str], nn.Module]) -> None:
        """Set a module's form wherever its parent keeps it."""
        module, parent = self.modules[name], self.modules[name.rpartition(".")[0]]
        if name in self.growing and self.worlds.setdefault(module, form.__name__) != form.__name__:
            self.wrong.add(name)  # shared by code that sees clips and code that sees frames
        places = [key for key, child in parent._modules.items() if child is module]
        new = form(name)
        for key in places:
            parent._modules[key] = new

    def conv(self, name: str) -> nn.Module:
        """The 3D form of a convolution; weights that were tied stay so."""
        conv = self.modules[name]
        grown, weight = conv3d(conv, *self.form), conv._parameters.get("weight")
        if grown is None:
            self.wrong.add(name)
        elif weight is not None:
            grown.weight = self.grown.setdefault(weight, grown.weight)
        return grown or conv

    def refused(self) -> list[str]:
        """The names of what has no 3D form, with their classes."""
        for name, module in self.modules.items():
            if name not in self.chosen and module._parameters.get("weight") in self.grown:
                self.wrong.add(name)  # its weight is tied to one that has grown
        wrong = {n: type(m).__name__ for n, m in self.modules.items() if n in self.wrong}
        return [f"{name or 'it'} ({kind})" for name, kind in wrong.items()]


class _Reader(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return True


def _graph(module: nn.Module, training: bool) -> fx.Graph | None:
    """What a module's code does with its first argument; None if that cannot be said."""
    alone = copy.copy(module)
    alone.training = training
    arguments = inspect.signature(type(module).forward).parameters.values()
    defaults = {a.name: a.default for a in arguments if a.default is not a.empty}
    try:
        return _Reader().trace(alone, defaults)
    except Exception:  # code that looks at numbers or sizes raises many kinds
        return None


def parameters(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in network.parameters())


@torch.no_grad()
def macs(network: nn.Module, *shape: int) -> int:
    """Multiply-accumulates of all convolutions and linear layers on one input of this shape,
    counted on PyTorch's "meta" device: it costs neither time nor memory."""
    from torch.utils.flop_counter import FlopCounterMode

    ghost = copy.deepcopy(network).to("meta").eval()
    with FlopCounterMode(display=False) as counter:
        ghost(torch.empty(shape, device="meta"))
    return counter.get_total_flops() // 2
