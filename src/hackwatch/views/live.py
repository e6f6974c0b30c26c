"""The engine at this moment: what it does, who is suspect, what was found; read from the store as one frozen view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from hackwatch import streams
from hackwatch.alerts.alert import SEVERITIES, Severity
from hackwatch.alerts.forms import native
from hackwatch.counts import COUNTERS
from hackwatch.store import Store, StoredAlert
from hackwatch.streams.stream import Noun
from hackwatch.views.panels import PanelView, panels

__all__ = ["EntityView", "Note", "Reader", "StreamView", "Tone", "View", "snapshot", "stream_view"]

#: Seconds without a status after which an engine is said not to answer.
STALE_SECONDS = 10.0
#: An alert seen again within so many seconds makes its entity a matter of now.
RECENT_SECONDS = 600.0
#: Alerts of a view, more than any screen shows.
ALERTS = 60
#: Buckets of arrivals in a status.
BUCKETS = 60
_WINDOWS_BACK, _WINDOWS = 7_200.0, 1_000

Tone = Literal["info", "truth", "found", "warning"]


@dataclass(frozen=True, slots=True)
class Note:
    """A line that the caller adds to the view: `at` in Unix seconds."""

    at: float
    text: str
    tone: Tone = "info"


@dataclass(frozen=True, slots=True)
class StreamView:
    """One stream: totals since the pipeline began, `rate` in records/s, `watermark_age` in seconds behind now.

    What is not yet read is in `lag_bytes` for a spool, in `lag_messages` for a Kafka topic. `late_sources`: those with
    the most late records, and how many; `skewed_sources`: those whose clocks are wrong, and by how many seconds.
    `partitions`: those of its topic, 0 while there is none.
    """

    name: str
    records: int
    on_time: int
    late: int
    duplicate: int
    rejected: int
    suspects: int
    rate: float
    lag_bytes: int
    watermark_age: float | None
    model: str | None
    lag_messages: int = 0
    late_sources: Mapping[str, int] = field(default_factory=dict)
    skewed_sources: Mapping[str, float] = field(default_factory=dict)
    partitions: int | None = None


@dataclass(frozen=True, slots=True)
class EntityView:
    """One entity: arrivals of the last 2 minutes in buckets of 2 s, oldest first, all streams together.

    `windows`: stream -> distinct suspects in the present and in the previous window. `streams`: where it showed.
    """

    name: str
    records: tuple[int, ...]
    suspects: tuple[int, ...]
    windows: Mapping[str, tuple[int, int]]
    streams: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """Everything on one screen. Times in Unix seconds UTC; `updated` is None while no engine has spoken yet."""

    now: float
    state: str = "starting"
    updated: float | None = None
    started: float = 0.0
    pid: int = 0
    pipeline: str = "main"
    site: str = "local"
    rate: float = 0.0
    latency_p50: float = 0.0
    latency_p99: float = 0.0
    epoch: int = 0
    epoch_age: float = 0.0
    streams: tuple[StreamView, ...] = ()
    entities: tuple[EntityView, ...] = ()
    panels: tuple[PanelView, ...] = ()
    alerts: tuple[StoredAlert, ...] = ()
    notes: tuple[Note, ...] = ()
    notes_title: str = ""
    progress: str | None = None

    @property
    def stale(self) -> bool:
        """Whether an engine that has not said goodbye is silent."""
        return self.updated is not None and self.state != "stopped" and self.now - self.updated > STALE_SECONDS

    @property
    def lag_bytes(self) -> int:
        return sum(stream.lag_bytes for stream in self.streams)

    @property
    def lag_messages(self) -> int:
        return sum(stream.lag_messages for stream in self.streams)

    @property
    def watermark_age(self) -> float | None:
        """Seconds that the stream furthest behind is behind now; None before the first record."""
        return max((s.watermark_age for s in self.streams if s.watermark_age is not None), default=None)

    @property
    def noun(self) -> Noun:
        """What people call the entities: those of the streams that have had records, of all before the first one."""
        return streams.noun([s.name for s in self.streams if s.records] or [s.name for s in self.streams])

    def kinds(self) -> dict[Noun, list[EntityView]]:
        """The entities by what people call them, as the streams in which they show do."""
        found: dict[Noun, list[EntityView]] = {streams.noun([stream.name]): [] for stream in self.streams}
        for entity in self.entities:
            for noun in {streams.noun([name]) for name in entity.streams}:
                found.setdefault(noun, []).append(entity)
        return found

    def total(self, counter: str) -> int:
        """Sum over the streams of one of their counters."""
        return sum(getattr(stream, counter) for stream in self.streams)

    @property
    def troubled(self) -> dict[str, Severity]:
        """Entity -> worst severity of its open alerts that were seen lately, the worst first."""
        worst: dict[str, Severity] = {}
        for alert in self.alerts:
            fresh = self.now - max(alert.last_seen, alert.created) < RECENT_SECONDS
            if fresh and alert.status == "new" and _rank(alert.severity) > _rank(worst.get(alert.entity)):
                worst[alert.entity] = alert.severity
        return dict(sorted(worst.items(), key=lambda item: (-_rank(item[1]), item[0])))


def _rank(severity: Severity | None) -> int:
    return SEVERITIES.index(severity) if severity is not None else -1


@dataclass(frozen=True, slots=True, eq=False)
class Reader:
    """Reads views from a store that an engine writes.

    `notes`: lines of the caller, newest last; `progress`: what goes on beside the engine, None if nothing does.
    `since`: what an engine said before then (Unix seconds) is left out, as the last words of the one before.
    """

    store: Store
    pipeline: str
    clock: Callable[[], float]
    notes: Callable[[], Sequence[Note]] = field(default=lambda: ())
    progress: Callable[[], str | None] = field(default=lambda: None)
    notes_title: str = ""
    since: float = 0.0

    def after(self, sequence: int, limit: int) -> list[StoredAlert]:
        """The next alerts stored after that sequence number, oldest first."""
        return self.store.triage.alerts(after=sequence, limit=limit)

    def __call__(self) -> View:
        """The view of this moment."""
        now = self.clock()
        status = self.store.statuses.read().get(self.pipeline)
        site = status["site"] if status else None
        own: dict[str, Any] = {
            "now": now,
            "pipeline": self.pipeline,
            "alerts": tuple(self.store.triage.alerts(site=site, limit=ALERTS)),
            "notes": tuple(self.notes()),
            "notes_title": self.notes_title,
            "progress": self.progress(),
        }
        if status is None or status["updated"] < self.since:
            return View(**own)
        told = {str(name): one for name, one in status["streams"].items()}
        return View(
            **own,
            **{name: status[name] for name in ("state", "updated", "started", "pid", "site", "rate", "epoch")},
            epoch_age=status["epoch_age"] + max(0.0, now - status["updated"]),
            latency_p50=status["latency_ms"]["p50"],
            latency_p99=status["latency_ms"]["p99"],
            streams=tuple(stream_view(name, one, now) for name, one in told.items()),
            entities=_entities(told, _counts(self._windows(told, site))),
            panels=panels(self.store, status),
        )

    def _windows(self, told: Mapping[str, Mapping[str, Any]], site: str | None) -> list[dict[str, Any]]:
        """Windows about each stream's own present, which for old data is long ago."""
        presents = {name: one["watermark"] for name, one in told.items() if one["watermark"] is not None}
        if not presents:
            return []
        latest = max(presents.values())  # of a stream that has not begun nothing tells when its present is
        found = [
            self.store.windows.find(
                stream=name, since=presents.get(name, latest) - _WINDOWS_BACK, site=site, limit=_WINDOWS
            )
            for name in told
        ]
        return [row for frame in found for row in frame.iter_rows(named=True)]


def stream_view(name: str, told: Mapping[str, Any], now: float) -> StreamView:
    """What an engine said of one stream. `now`: Unix seconds."""
    watermark = told["watermark"]
    return StreamView(
        name=name,
        **{counter: told[counter] for counter in COUNTERS if counter in StreamView.__slots__},
        rate=told["rate"],
        lag_bytes=told["lag_bytes"],
        watermark_age=None if watermark is None else now - watermark,
        model=told["model"],
        lag_messages=told.get("lag_messages", 0),
        late_sources=told.get("late_sources", {}),
        skewed_sources=told.get("skewed_sources", {}),
        partitions=told.get("partitions"),
    )


def _counts(windows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], tuple[int, int]]:
    """(stream, entity) -> distinct suspects in the stream's present window and in the one before it.

    Present is what is latest for most of its entities: one whose clock is wrong does not decide for the others.
    """
    rows = [row for row in windows if row["records"]]
    own: dict[str, dict[str, int]] = {}
    for row in rows:
        latest = own.setdefault(row["stream"], {})
        latest[row["entity"]] = max(latest.get(row["entity"], 0), row["start"])
    present = {stream: sorted(latest.values())[len(latest) // 2] for stream, latest in own.items()}
    counts: dict[tuple[str, str], tuple[int, int]] = {}
    for row in rows:
        key, last = (row["stream"], row["entity"]), present[row["stream"]]
        now, before = counts.get(key, (0, 0))
        if row["start"] == last:
            counts[key] = (row["count"], before)
        elif row["end"] == last:
            counts[key] = (now, row["count"])
    return counts


def _entities(
    told: Mapping[str, Mapping[str, Any]], counts: Mapping[tuple[str, str], tuple[int, int]]
) -> tuple[EntityView, ...]:
    names = sorted({entity for one in told.values() for entity in one["arrivals"]})
    return tuple(
        EntityView(
            name,
            _sum(one["arrivals"].get(name) for one in told.values()),
            _sum(one["suspect_arrivals"].get(name) for one in told.values()),
            {stream: counts.get((stream, name), (0, 0)) for stream in told},
            tuple(stream for stream, one in told.items() if name in one["arrivals"]),
        )
        for name in names
    )


def _sum(rings: Iterable[Sequence[int] | None]) -> tuple[int, ...]:
    """Bucket by bucket; a stream in which an entity did not show has None."""
    return tuple(map(sum, zip(*(ring for ring in rings if ring), strict=True))) or (0,) * BUCKETS


def snapshot(view: View) -> dict[str, Any]:
    """A view as JSON values, for scripts; entities of each kind under what people call them, such as `machines`."""
    names = ("now", "state", "updated", "started", "pid", "pipeline", "site", "rate", "epoch", "epoch_age")
    return {
        **{name: getattr(view, name) for name in names},
        "stale": view.stale,
        "latency_ms": {"p50": view.latency_p50, "p99": view.latency_p99},
        "lag_bytes": view.lag_bytes,
        "lag_messages": view.lag_messages,
        "watermark_age": view.watermark_age,
        "streams": {s.name: {name: getattr(s, name) for name in StreamView.__slots__ if name != "name"}
                    for s in view.streams},
        **{noun.plural: {entity.name: _values(entity) for entity in shown} for noun, shown in view.kinds().items()},
        "panels": [asdict(panel) for panel in view.panels],
        "alerts": [native(alert) for alert in view.alerts],
    }  # fmt: skip


def _values(entity: EntityView) -> dict[str, Any]:
    return {
        "records": sum(entity.records),
        "suspects": sum(entity.suspects),
        "windows": {stream: {"now": now, "before": before} for stream, (now, before) in entity.windows.items()},
    }
