import sys

from lib.evaluation.accuracy import main

sys.exit(main())
