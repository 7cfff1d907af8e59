"""An explanation as HTML: the per-frame viewer, walls of clips, and a reader who points first."""

from lib.viewer.gallery import cases, gallery
from lib.viewer.point import point
from lib.viewer.viewer import caption, data, element, html, module, page, script
