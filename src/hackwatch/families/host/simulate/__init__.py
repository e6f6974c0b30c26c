"""A simulated world of Linux machines that fills the `process` and `memory` streams, with labelled attacks."""

from hackwatch.families.host.simulate.attacks import TYPES, Episode
from hackwatch.families.host.simulate.bulk import Batch, Faults, generate
from hackwatch.families.host.simulate.feed import FASTEST, SLOWEST, HostFeed, shape
from hackwatch.families.host.simulate.messages import Payload
from hackwatch.families.host.simulate.training import labelled
from hackwatch.families.host.simulate.world import Sample, World

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
