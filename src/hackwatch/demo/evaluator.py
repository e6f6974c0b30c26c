"""What was simulated against what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hackwatch.families.host.simulate import Episode
from hackwatch.store import Store, StoredAlert
from hackwatch.top.story import Story
from hackwatch.views.live import Note

__all__ = ["Evaluator", "Finding", "names"]

#: An alert may name an attack so many seconds after its end: both streams must agree within 30 s.
AFTER_THE_END = 30.0
#: Names of programs are cut to this length in CMD.
CMD_WIDTH = 14
_ALERTS = 2_000


@dataclass(frozen=True, slots=True)
class Finding:
    """A simulated attack and the alert that names it first, if any did."""

    episode: Episode
    alert: StoredAlert | None

    @property
    def seconds(self) -> float | None:
        """From the begin of the attack to the alert; None if it only added to an alert that was there before."""
        if self.alert is None or self.alert.created < self.episode.start:
            return None
        return self.alert.created - self.episode.start


class Evaluator:
    """Compares what was simulated with what was found."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._episodes: list[Episode] = []
        self._told: set[int] = set()

    def begins(self, episode: Episode) -> None:
        """An attack begins: the truth, which no detector is told."""
        programs = ", ".join(episode.programs)
        self._story.tell(f"simulated: {episode.type} on {episode.machine} begins ({programs})", "truth")
        self._episodes.append(episode)

    def look(self, store: Store) -> Sequence[Note]:
        """The story, with what has been found since the last look."""
        waiting = [n for n in range(len(self._episodes)) if n not in self._told]
        if waiting:
            found = self.findings(store)
            for number in waiting:
                finding = found[number]
                if finding.alert is not None and finding.alert.kind == "attack":
                    self._told.add(number)
                    where = f"{finding.episode.type} on {finding.episode.machine}"
                    when = "" if finding.seconds is None else f", {finding.seconds:.1f} s after its begin"
                    self._story.tell(f"found: {where}{when}", "found")
        return self._story.notes()

    def findings(self, store: Store) -> list[Finding]:
        """Each attack in order of its begin, with its alert: one of both detectors together rather than of a rule."""
        alerts = [alert for alert in store.alerts(limit=_ALERTS) if alert.kind in ("attack", "rule")]
        by_time = sorted(alerts, key=lambda alert: (alert.kind != "attack", alert.created))
        return [
            Finding(episode, next((alert for alert in by_time if names(alert, episode)), None))
            for episode in self._episodes
        ]

    def unfounded(self, store: Store) -> int:
        """Alerts of both detectors together that name no simulated attack."""
        attacks = store.alerts(kind="attack", limit=_ALERTS)
        return sum(not any(names(alert, episode) for episode in self._episodes) for alert in attacks)


def names(alert: StoredAlert, episode: Episode) -> bool:
    """Whether an alert is about an attack: same machine, same program, at that time."""
    programs = {name[:CMD_WIDTH] for name in episode.programs}
    together = alert.last_seen >= episode.start - 1 and alert.first_seen <= episode.end + AFTER_THE_END
    return alert.entity == episode.machine and together and not programs.isdisjoint(alert.subjects)
