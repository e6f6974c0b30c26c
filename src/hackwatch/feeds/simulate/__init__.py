"""A simulated world of Linux machines that fills the `process` and `memory` streams, with labelled attacks."""

from hackwatch.feeds.simulate.attacks import TYPES, Episode
from hackwatch.feeds.simulate.bulk import Batch, Faults, generate
from hackwatch.feeds.simulate.feed import FASTEST, SLOWEST, HostFeed, shape
from hackwatch.feeds.simulate.messages import Payload
from hackwatch.feeds.simulate.training import labelled
from hackwatch.feeds.simulate.world import Sample, World

__all__ = [
    "FASTEST",
    "SLOWEST",
    "TYPES",
    "Batch",
    "Episode",
    "Faults",
    "HostFeed",
    "Payload",
    "Sample",
    "World",
    "generate",
    "labelled",
    "shape",
]
