"""What a training depends on, besides its clips, and what the two profiles set."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Settings:
    """How to train; ValueError for a value that makes no sense, naming it."""

    epochs: int = 5  # how often every clip is shown
    passes: int = 1  # epochs over the same clips before new ones are drawn
    batch: int = 16  # clips of one update, over all processes
    accumulate: int = 1  # parts in which these go through the network, to save memory
    lr: float = 1e-3  # the highest rate: it rises during the warm-up, then falls as a cosine
    warmup: float = 0.2  # share of the run in which the rate rises
    optimizer: str = "adamw"  # adamw, or sgd with momentum 0.9
    weight_decay: float = 0.02  # how strongly the weights are pulled to zero
    label_smoothing: float = 0.1  # share of a label that is spread over all classes
    whole: bool = False  # train every stage, not only the upper ones
    frozen_norms: bool = False  # keep ImageNet's batch statistics: for very small parts
    reverse: bool = True  # a clip played backwards is one more example, of the opposite class
    frames: int = 16  # frames of a clip: all 16, or 1 for the single-frame baseline
    bfloat16: bool = True  # half precision where that is faster; the weights stay float32
    channels_last: bool = True  # lay out memory with the channels last: mostly faster
    compile: bool = False  # compile the network first: faster in long runs, needs a compiler
    recompute: bool = False  # compute activations again, not keep them: slower, less memory
    workers: int = 2  # processes that read clips
    seed: int = 0  # where all random numbers of the run begin

    def __post_init__(self):
        limits = dict.fromkeys(("epochs", "passes", "batch", "accumulate"), (1, 65_536))
        limits |= dict(lr=(1e-12, 1000), weight_decay=(0, 1000), workers=(0, 1000))
        limits |= dict(warmup=(0, 1), label_smoothing=(0, 1), seed=(0, 2**32))
        for name, (least, most) in limits.items():
            if not least <= (value := getattr(self, name)) <= most:
                raise ValueError(f"{name}={value}: must be from {least} to {most}")
        for name, choices in dict(frames=(16, 1), optimizer=("adamw", "sgd")).items():
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name}={value}: must be {choices[0]} or {choices[1]}")

    def of_the_result(self) -> dict:
        """Those that the result depends on: speed and memory may change when a run goes on."""
        free = ("workers", "compile", "recompute", "channels_last")
        return {name: value for name, value in asdict(self).items() if name not in free}


# The schedule and the optimizer of the profile `paper`; its other settings are below.
PAPER = dict(epochs=30, batch=64, lr=0.02, warmup=0.1, optimizer="sgd", weight_decay=1e-4)
#: The settings of each profile of `lib.model.PROFILES`, but for those that a command is given.
RECIPES = {
    "default": Settings(epochs=24, passes=6, lr=2e-3, weight_decay=0.05),
    "lite0": Settings(epochs=12),
    "paper": Settings(**PAPER, whole=True, reverse=False, compile=True, workers=8),
}
