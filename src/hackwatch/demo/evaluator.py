"""What was simulated against what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hackwatch.feeds.simulator import Attack
from hackwatch.store import StoredAlert
from hackwatch.store.triage import Triage
from hackwatch.top.story import Story
from hackwatch.views.live import Note

__all__ = ["Evaluator", "Finding", "names"]

_ALERTS = 2_000


@dataclass(frozen=True, slots=True)
class Finding:
    """A simulated attack and the alert that names it first, if any did."""

    attack: Attack
    alert: StoredAlert | None

    @property
    def seconds(self) -> float | None:
        """From the begin of the attack to the alert; None if it only added to an alert that was there before."""
        if self.alert is None or self.alert.created < self.attack.start:
            return None
        return self.alert.created - self.attack.start


class Evaluator:
    """Compares what was simulated with what was found."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._attacks: list[Attack] = []
        self._told: set[int] = set()

    def begins(self, attack: Attack) -> None:
        """An attack begins: the truth, which no detector is told."""
        means = f" ({attack.means})" if attack.means else ""
        self._story.tell(f"simulated: {attack.kind} on {attack.entity} begins{means}", "truth")
        self._attacks.append(attack)

    def look(self, triage: Triage) -> Sequence[Note]:
        """The story, with what has been found since the last look."""
        waiting = [n for n in range(len(self._attacks)) if n not in self._told]
        if waiting:
            found = self.findings(triage)
            for number in waiting:
                finding = found[number]
                if finding.alert is not None and finding.alert.kind == "attack":
                    self._told.add(number)
                    where = f"{finding.attack.kind} on {finding.attack.entity}"
                    when = "" if finding.seconds is None else f", {finding.seconds:.1f} s after its begin"
                    self._story.tell(f"found: {where}{when}", "found")
        return self._story.notes()

    def findings(self, triage: Triage) -> list[Finding]:
        """Each attack in order of its begin, with its alert: one of both detectors together rather than of a rule."""
        alerts = [alert for alert in triage.alerts(limit=_ALERTS) if alert.kind in ("attack", "rule")]
        by_time = sorted(alerts, key=lambda alert: (alert.kind != "attack", alert.created))
        return [
            Finding(attack, next((alert for alert in by_time if names(alert, attack)), None))
            for attack in self._attacks
        ]

    def unfounded(self, triage: Triage) -> int:
        """Alerts of both detectors together that name no simulated attack."""
        attacks = triage.alerts(kind="attack", limit=_ALERTS)
        return sum(not any(names(alert, attack) for attack in self._attacks) for alert in attacks)


def names(alert: StoredAlert, attack: Attack) -> bool:
    """Whether an alert is about an attack: the same entity, a subject in common, at that time."""
    together = alert.last_seen >= attack.start - 1 and alert.first_seen <= attack.end + attack.after
    return alert.entity == attack.entity and together and not set(attack.subjects).isdisjoint(alert.subjects)
