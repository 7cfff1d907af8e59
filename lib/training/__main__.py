import sys

from lib.training.loop import main

sys.exit(main())
