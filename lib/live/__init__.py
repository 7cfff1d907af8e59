"""The network runs in a page: exported as one graph, asked by a reader, without a kernel."""

from lib.live.export import export
from lib.live.page import live
