"""Videos and datasets in, clips out."""

from lib.data.labels import CLASS_SETS, CLASSES_10, CLASSES_40, REVERSED, class_set
from lib.data.something import SPLITS, Item, SomethingSomething
from lib.data.video import Clip, Crop, VideoError, read_clip, write_frames, write_video
