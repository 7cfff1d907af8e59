"""A network and a clip in, the evidence for every class on every frame out."""

from lib.explain.clip import METHODS, explain
from lib.explain.explanation import ExplainError, Explanation
from lib.explain.overlay import on_pixels, overlay
