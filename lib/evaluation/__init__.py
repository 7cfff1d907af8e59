"""Is the network right, does it use time, and do its maps lie where the action is?"""

from lib.evaluation.accuracy import Results, evaluate
