"""What a training depends on, besides its clips, and what the two profiles set."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Settings:
    """What a run depends on, besides its clips."""

    epochs: int = 5
    batch: int = 16  # clips of one update, over all processes
    accumulate: int = 1  # ... which go through the network in so many parts, to save memory
    lr: float = 1e-3  # the highest: it rises for `warmup` of the run, then falls as a cosine
    warmup: float = 0.2
    optimizer: str = "adamw"  # or "sgd", with momentum 0.9
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    whole: bool = False  # train every stage, not only the upper ones
    frozen_norms: bool = False  # keep ImageNet's batch statistics: for very small parts
    reverse: bool = True  # a clip played backwards is one more example, of the opposite class
    frames: int = 16  # 1: the single-frame baseline
    bfloat16: bool = True  # where that is faster; the weights stay float32
    channels_last: bool = True
    compile: bool = False
    recompute: bool = False  # a block's activations, instead of keeping them: slower, less memory
    workers: int = 2
    seed: int = 0


RECIPES = {
    "default": Settings(epochs=12),
    "paper": Settings(
        epochs=30, batch=64, lr=0.02, warmup=0.1, optimizer="sgd", weight_decay=1e-4, whole=True,
        reverse=False, compile=True, workers=8,
    ),
}  # fmt: skip
STARTS = {"scratch": (False, "centre"), "mean": (True, "mean"), "centre": (True, "centre")}


def comparable(settings: Settings) -> dict:
    """What must be the same for a run to go on: how fast it is computed may change."""
    free = ("workers", "compile", "recompute", "channels_last")
    return {name: value for name, value in asdict(settings).items() if name not in free}
