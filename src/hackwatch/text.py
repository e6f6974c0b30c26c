"""Text that came from outside, made safe to show in a terminal or a log line."""

from __future__ import annotations

__all__ = ["printable"]

# Control characters (C0, DEL, C1), line and paragraph separators, and the marks that turn the reading direction:
# a program's name may hold any of them, and a terminal obeys them.
_DANGEROUS = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x200E, 0x200F, *range(0x202A, 0x202F)]
_ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _DANGEROUS}
_ESCAPES |= {code: f"\\u{code:04x}" for code in (*range(0x2066, 0x206A), *range(0xD800, 0xE000))}
_KEEP_LINES = {code: text for code, text in _ESCAPES.items() if code not in (0x09, 0x0A)}


def printable(text: str, *, keep_lines: bool = False) -> str:
    """Control, direction and surrogate characters become escapes (`\\x1b`); `keep_lines` keeps \\n and \\t."""
    return text.translate(_KEEP_LINES if keep_lines else _ESCAPES)
