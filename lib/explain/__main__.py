import sys

from lib.explain.clip import main

sys.exit(main())
