"""A 2D network in, a 3D network out; the networks of the book, saved and loaded."""

from lib.model.inflate import inflate
from lib.model.networks import PROFILES, WEIGHTS, Preprocess, build, load, save
from lib.model.own import Own
