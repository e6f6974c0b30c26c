"""Drift of what is scored raises one alert for a model: when enough was seen, and beyond the limit that is set."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from hackwatch.alerts.system import Notice
from hackwatch.detect.bundle import Bundle
from hackwatch.pipeline.detection import Scored
from hackwatch.runtime.drift import LOOK_SECONDS, DriftWatch
from hackwatch.store import StoredAlert
from hackwatch.streams.stream import REJECTED_SCHEMA
from tests.engine.processes import START, Folder, until
from tests.third.shop import VISIT, installed, shop_all_along
from tests.third.support import bundles, decoded

__all__ = ["shop_all_along"]

pytestmark = pytest.mark.usefixtures("shop_all_along")


def visits(seed: int, attacks: float) -> pl.DataFrame:
    with installed():
        import shop_simulator

        return decoded(VISIT, shop_simulator.labelled(seed, 20_000, attacks)[0])


USUAL = visits(21, 0.0)
#: One in five more is to the cart.
SOME = USUAL.with_columns(path=pl.when(pl.int_range(pl.len()) % 5 == 0).then(pl.lit("/cart")).otherwise("path"))
OTHER = USUAL.with_columns(path=pl.lit("/cart"))
ATTACKED = visits(22, 0.3)


@pytest.fixture(scope="module")
def bundle(shop_all_along: None) -> Bundle:
    return bundles()["visit"]


def watched(bundle: Bundle, frame: pl.DataFrame, *, enough: int = 1000, limit: float = 0.25) -> list[Notice]:
    """What a watch has to say that sees these records, 1000 at each look."""
    raised: list[Notice] = []
    watch = DriftWatch(enough, limit, raised.append)
    for number, part in enumerate(frame.iter_slices(1000)):
        watch.look([scored(bundle, part)], {"visit": bundle}, number * LOOK_SECONDS)
        watch.report()
    return raised


def scored(bundle: Bundle, part: pl.DataFrame) -> Scored:
    rows = part.with_columns(pl.Series("score", bundle.score(part)))
    return Scored("visit", "t", rows, pl.DataFrame(schema=REJECTED_SCHEMA), {0: len(rows)}, {})


@pytest.mark.parametrize(
    ("frame", "limit", "alerts"),
    [
        pytest.param(USUAL, 0.25, 0, id="more of the same"),
        pytest.param(SOME, 0.25, 1, id="a column moved"),
        pytest.param(SOME, 1.0, 0, id="less than the limit that is set"),
        pytest.param(OTHER, 1.0, 1, id="more than the limit that is set"),
        pytest.param(ATTACKED, 100.0, 1, id="too many suspects, whatever the limit"),
    ],
)
def test_one_alert_for_a_model_beyond_the_limit(bundle: Bundle, frame: pl.DataFrame, limit: float, alerts: int) -> None:
    raised = watched(bundle, frame, limit=limit)
    assert [(notice.rule, notice.occurrence) for notice in raised] == [("drift", bundle.version)] * alerts


def test_it_says_what_moved(bundle: Bundle) -> None:
    [notice] = watched(bundle, OTHER)
    assert notice.title == f"visit records no longer look like the training data of {bundle.version}"
    assert "path moved (PSI " in notice.detail
    [notice] = watched(bundle, ATTACKED, limit=100.0)
    assert "of records are suspects, trained for" in notice.detail


@pytest.mark.parametrize(("enough", "alerts"), [(20_000, 1), (20_001, 0)])
def test_nothing_is_said_of_too_few_records(bundle: Bundle, enough: int, alerts: int) -> None:
    assert len(watched(bundle, OTHER, enough=enough)) == alerts


def test_a_new_model_is_watched_anew(bundle: Bundle) -> None:
    raised: list[Notice] = []
    watch = DriftWatch(1000, 0.25, raised.append)
    other = Bundle(
        bundle.description, bundle.encoder, bundle.model, tuple(bundle.statistics.values()), version="visit-2"
    )
    for number, model in enumerate((bundle, bundle, other, other)):
        watch.look([scored(model, OTHER.head(1000))], {"visit": model}, number * LOOK_SECONDS)
        watch.report()
    assert [notice.occurrence for notice in raised] == [bundle.version, other.version]


def test_only_some_micro_batches_are_looked_at(bundle: Bundle) -> None:
    watch = DriftWatch(1000, 0.25, None)
    for number in range(100):
        watch.look([scored(bundle, USUAL.head(10))], {"visit": bundle}, number * 0.1)
    assert watch.report()["visit"].rows == 10 * 5


# -- a real engine -----------------------------------------------------------------------------------------------------


def drift_alerts(folder: Folder) -> list[StoredAlert]:
    if not folder.committed():
        return []
    with folder.store() as store:
        return store.triage.alerts(kind="system", rule="drift", limit=None)


def feed_strange(folder: Folder, part: int) -> None:
    """Visits to pages that no training saw."""
    import shop_simulator

    with folder.writers() as writers:
        for batch in shop_simulator.generate(4_000, 1, identified=True, start=START + 10 * part):
            payload = batch.visit
            data = payload.data.replace(b'"path":"', b'"path":"/new').replace(b'"uuid":"', b'"uuid":"%d-' % part)
            replace(payload, data=data).write_to(writers["visit"])


@pytest.mark.slow
def test_an_engine_whose_records_are_unlike_the_training_data_says_so(tmp_path: Path) -> None:
    folder = Folder.make(tmp_path / "run", batch_bytes=1 << 20, shop=True)
    text = folder.config.read_text().replace("drift_alerts = false", "drift_alerts = true\ndrift_records = 500")
    folder.config.write_text(text)
    with folder.service():
        parts = itertools.count()

        def fed_and_told() -> bool:
            """The engine looks at a micro-batch every two seconds: there must be some to look at."""
            feed_strange(folder, next(parts))
            return bool(drift_alerts(folder))

        until(fed_and_told, "it says that the records have moved", pause=0.5)
    [alert] = drift_alerts(folder)
    assert (alert.stream, alert.subject) == ("visit", folder.registry.current("visit"))
    assert "path moved" in str(alert.evidence["detail"])
