"""What hackwatch has to say about itself: clocks that are wrong, models that are refused, whatever needs a person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hackwatch.alerts.alert import Alert, alert_id
from hackwatch.alerts.observed import Skew
from hackwatch.alerts.risk import risk_of
from hackwatch.streams.stream import Stream
from hackwatch.words import Severity

__all__ = ["CLOCK_SKEW", "HACKWATCH", "MANY_SOURCES", "Notice", "Tell", "clock_skew", "many_sources"]

CLOCK_SKEW, MANY_SOURCES = "clock-skew", "too-many-sources"
#: The entity of what concerns no other one, and the stream of what concerns all.
HACKWATCH = "hackwatch"


@dataclass(frozen=True, slots=True)
class Notice:
    """What a person is to be told of hackwatch itself. `occurrence`: tells it apart from others of its rule."""

    rule: str
    occurrence: str
    title: str
    detail: str
    stream: str = HACKWATCH
    entity: str = HACKWATCH
    severity: Severity = "medium"

    def alert(self, wall: float, site: str = "local") -> Alert:
        """The alert that says it. `wall`: Unix seconds UTC. The same occurrence has the same id at any time."""
        return Alert(
            id=alert_id(self.stream, self.entity, self.rule, self.occurrence, site),
            kind="system",
            stream=self.stream,
            entity=self.entity,
            rule=self.rule,
            title=self.title,
            severity=self.severity,
            risk=risk_of(self.severity) - 5,
            subject=self.occurrence,
            first_seen=wall,
            last_seen=wall,
            created=wall,
            site=site,
            evidence={"detail": self.detail},
        )


#: Hears what a person is to be told; called by the thread that found it, and must not fail.
Tell = Callable[[Notice], None]


def clock_skew(stream: Stream, skew: Skew) -> Notice:
    """A source's clock is wrong."""
    way = "ahead of" if skew.seconds > 0 else "behind"
    return Notice(
        CLOCK_SKEW,
        skew.source,
        f"The clock of {skew.source} is {abs(skew.seconds):,.0f} s {way} the others in {stream.name}",
        "its own records are judged by its own clock; correct the clock: its times do not fit those of others",
        stream=stream.name,
        entity=skew.source if stream.source == stream.entity else HACKWATCH,
        severity="low",
    )


def many_sources(stream: Stream, most: int) -> Notice:
    """There are more sources than are told apart."""
    return Notice(
        MANY_SOURCES,
        str(most),
        f"{stream.name}: more than {most:,} sources; those beyond share one clock",
        "names come from messages: look at who sends them; max_sources says how many are told apart",
        stream=stream.name,
    )
