"""limbnet: train, prune, quantise, measure and deploy bottom-up multi-person 2D pose networks."""

from importlib.metadata import version

__version__ = version("limbnet")
