"""Live telemetry of Linux hosts: from /proc of this machine, or from what atop prints."""

from hackwatch.families.host.collect.atop_feed import AtopFeed
from hackwatch.families.host.collect.feed import CollectFeed, blind_spots

__all__ = ["AtopFeed", "CollectFeed", "blind_spots"]
