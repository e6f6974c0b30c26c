"""From a labelled recording to a better detector: the cells of a notebook, one after another.

Run it with a folder for the registry: python examples/train_in_a_notebook.py /tmp/models
"""

import sys
import tempfile
from pathlib import Path

import polars as pl

from hackwatch import streams
from hackwatch.detect.evaluation import evaluate
from hackwatch.detect.registry import Registry
from hackwatch.detect.training import Options, train
from hackwatch.families.host.simulate import labelled
from hackwatch.feeds.files import read_file
from hackwatch.streams.stream import DecodeOptions


def recording(seed: int, records: int) -> pl.DataFrame:
    """A recording, as a feed would have written it, decoded. Yours: just the last two lines, with your file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "process.ndjson"
        labelled(seed, records=records)[0].write_ndjson(file)
        chunks = read_file(file, stream, DecodeOptions(labels=True))
        return pl.concat([chunk.records for chunk in chunks])


# %% Two recordings: one to learn from, one of other days to judge by.
stream = streams.get("process")
training, judging = recording(seed=1, records=12_000), recording(seed=2, records=8_000)
print(training.group_by("type").len().sort("len", descending=True))

# %% The same method with different settings; what counts is recall where only one normal record in a hundred may alarm.
candidates = {
    f"{trees} trees of depth {depth}": train(
        training, stream, "supervised", Options(trees=trees, depth=depth, alert_budget=0.01)
    )
    for trees, depth in ((20, 3), (60, 6), (120, 8))
}
results = {name: evaluate(bundle, stream, judging) for name, bundle in candidates.items()}
for name, result in results.items():
    print(f"{name:22s} ROC {result.roc_auc:.4f}  recall at 1 % false alarms {result.recall_at_1_percent:.3f}")

# %% Keep the best; a running engine takes up what is promoted in its registry, without a restart.
best = max(results, key=lambda name: results[name].recall_at_1_percent)
version = Registry(Path(sys.argv[1] if len(sys.argv) > 1 else "models")).add(candidates[best], stream)
print(f"promoted {version}: {best}")

# %% Why does it find a record suspect?
suspects = judging.filter(pl.Series(candidates[best].score(judging) >= candidates[best].threshold))
for driver in candidates[best].explain(suspects.head(1))[0]:
    print(f"{driver.column:8s} {driver.seen:>12s}   usually {driver.usual}")
