"""How a video network sees: 3D networks, data to train them on, and what they looked at."""

import sys

if sys.argv[:1] == ["-m"]:  # a command, whose modules take a second: Ctrl-C is a line then, too
    hook, stopped = sys.excepthook, KeyboardInterrupt
    sys.excepthook = lambda *of: sys.stderr.write("stopped\n") if of[0] is stopped else hook(*of)
