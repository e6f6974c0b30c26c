"""A simulated world of Linux machines that fills the `process` and `memory` streams, with labelled attacks."""

from hackwatch.feeds.simulate.attacks import TYPES, Episode
from hackwatch.feeds.simulate.training import labelled
from hackwatch.feeds.simulate.world import Sample, World

__all__ = ["TYPES", "Episode", "Sample", "World", "labelled"]
