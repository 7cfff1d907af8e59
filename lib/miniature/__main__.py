import sys

from lib.miniature.dataset import main

sys.exit(main())
