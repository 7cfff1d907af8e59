"""Videos and datasets in, clips out."""

from lib.data.labels import CLASSES_10, CLASSES_40, GATHERED, REVERSED, class_set, mirror_label
from lib.data.something import SPLITS, Item, SomethingSomething, assign_split
from lib.data.video import Clip, Crop, VideoError, read_clip, square
from lib.data.views import Views, Windows
from lib.data.write import write_video
