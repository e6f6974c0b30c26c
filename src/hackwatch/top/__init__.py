"""The engine live in the terminal: what it does, which machines are suspect, what was found and why."""

from hackwatch.top.live import can_show, screen_console, show
from hackwatch.top.plain import show_plain, snapshot_lines
from hackwatch.top.read import Note, Reader, View, snapshot

__all__ = [
    "Note",
    "Reader",
    "View",
    "can_show",
    "screen_console",
    "show",
    "show_plain",
    "snapshot",
    "snapshot_lines",
]
