"""The streams of a host: what processes do, and what they occupy."""
