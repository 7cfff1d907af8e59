"""An explanation as HTML: the per-frame viewer, and walls of clips."""

from lib.viewer.gallery import cases, gallery
from lib.viewer.viewer import caption, element, html, script
