"""Is the network right, does it use time, and do its maps lie where the action is?"""

from lib.evaluation.accuracy import Results, evaluate
from lib.evaluation.command import add_to_record, read_record
from lib.evaluation.marks import controls, pointing, relevance_mass, relevance_rank
