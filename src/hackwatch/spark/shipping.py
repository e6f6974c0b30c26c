"""Models, tables and rules on their way to the workers."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from hackwatch import streams
from hackwatch.detect.bundle import Bundle, load_bundle, save_bundle
from hackwatch.detect.detector import Detector
from hackwatch.detect.panel import Member, Panel
from hackwatch.detect.rules import RuleSet
from hackwatch.detect.rules.ruleset import Rule
from hackwatch.pipeline.enrichment import Enrichment

__all__ = ["Packed", "Shipped", "pack"]


@dataclass(frozen=True, slots=True)
class Packed:
    """A detector as files, for workers need not see the registry. One that is not a bundle goes as it is (`other`)."""

    version: str
    files: Mapping[str, bytes]
    other: Detector | None = None

    @classmethod
    def of(cls, detector: Detector) -> Packed:
        if not isinstance(detector, Bundle):
            return cls(detector.version, {}, detector)
        with tempfile.TemporaryDirectory(prefix="hackwatch-model-") as name:
            folder = Path(name) / "bundle"
            save_bundle(detector, folder)
            files = {
                path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
            }
        return cls(detector.version, files)

    def unpack(self) -> Detector:
        if self.other is not None:
            return self.other
        with tempfile.TemporaryDirectory(prefix="hackwatch-model-") as name:
            for path, content in self.files.items():
                (Path(name) / path).parent.mkdir(parents=True, exist_ok=True)
                (Path(name) / path).write_bytes(content)
            return load_bundle(Path(name), threads=1, version=self.version)


@dataclass
class Shipped:
    """What goes to every worker once, and stays there: the models of a stream, the tables of its enrichers, the rules.

    `tables`: as Arrow streams.
    """

    stream: str
    champion: Packed | None
    others: Mapping[str, Packed | None]
    tables: Mapping[str, bytes]
    rules: tuple[Rule, ...]

    @cached_property
    def panel(self) -> Panel:
        """The detectors, loaded at the first use; without any: rules only."""
        champion = None if self.champion is None else self.champion.unpack()
        others = {role: None if packed is None else Member(packed.unpack()) for role, packed in self.others.items()}
        return Panel(champion, others)

    @cached_property
    def enrichment(self) -> Enrichment:
        """What fills the columns that messages do not hold; the stateful ones stay null here."""
        tables = {name: pl.read_ipc_stream(io.BytesIO(data)) for name, data in self.tables.items()}
        return Enrichment(streams.get(self.stream), streams.enrichers(self.stream), tables)

    @cached_property
    def book(self) -> RuleSet:
        """The rules, compiled at the first use."""
        return RuleSet(self.rules, {rule.stream: streams.get(rule.stream) for rule in self.rules})


def pack(stream: str, panel: Panel, tables: Mapping[str, pl.DataFrame], rules: tuple[Rule, ...]) -> Shipped:
    """Detectors, tables and rules, ready to go."""
    champion = None if panel.champion is None else Packed.of(panel.champion)
    others = {role: None if member is None else Packed.of(member.detector) for role, member in panel.others.items()}
    return Shipped(stream, champion, others, {name: _ipc(frame) for name, frame in tables.items()}, rules)


def _ipc(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer, compression="zstd")
    return buffer.getvalue()
