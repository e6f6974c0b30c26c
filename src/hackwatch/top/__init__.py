"""The engine live in the terminal: what it does, who is suspect, what was found and why."""

from hackwatch.top.live import has_screen, present
from hackwatch.top.plain import snapshot_lines
from hackwatch.top.story import Story, bar

__all__ = ["Story", "bar", "has_screen", "present", "snapshot_lines"]
