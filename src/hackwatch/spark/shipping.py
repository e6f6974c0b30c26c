"""Models and rules on their way to the workers."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hackwatch import streams
from hackwatch.detect.base import Detector
from hackwatch.detect.bundle import Bundle, load_bundle, save_bundle
from hackwatch.detect.rules import RuleSet
from hackwatch.detect.rules.ruleset import Rule

__all__ = ["Shipped", "pack"]


@dataclass
class Shipped:
    """What goes to every worker once a model version, and stays there: the bundle's files, and the rules.

    Workers need not see the registry. A detector that is not a bundle goes as the object it is.
    """

    version: str | None
    files: Mapping[str, bytes]
    other: Detector | None
    rules: tuple[Rule, ...]

    @cached_property
    def detector(self) -> Detector | None:
        """The detector, loaded at the first use; None: rules only."""
        if not self.files:
            return self.other
        with tempfile.TemporaryDirectory(prefix="hackwatch-model-") as name:
            for path, content in self.files.items():
                (Path(name) / path).parent.mkdir(parents=True, exist_ok=True)
                (Path(name) / path).write_bytes(content)
            return load_bundle(Path(name), threads=1, version=self.version or "")

    @cached_property
    def book(self) -> RuleSet:
        """The rules, compiled at the first use."""
        return RuleSet(self.rules, {rule.stream: streams.get(rule.stream) for rule in self.rules})


def pack(detector: Detector | None, rules: tuple[Rule, ...]) -> Shipped:
    """A detector and rules, ready to go."""
    if not isinstance(detector, Bundle):
        return Shipped(detector.version if detector else None, {}, detector, rules)
    with tempfile.TemporaryDirectory(prefix="hackwatch-model-") as name:
        folder = Path(name) / "bundle"
        save_bundle(detector, folder)
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return Shipped(detector.version, files, None, rules)
