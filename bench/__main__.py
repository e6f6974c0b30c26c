"""All benchmarks, one after the other, and a table of what was measured against what is to be reached.

    python -m bench [NAME ...] [--quick] [--json] [--records N] ...

Names: throughput (beside Spark where pyspark is), limit, latency, memory, restart, help, decode, collect, kafka (beside
Spark and Bytewax, where they and a broker are), spark (the engine on Spark beside the straightforward Spark job).
"""

import json
import subprocess
import sys

from bench import collect, help, kafka, latency, limit, memory, restart, spark_baseline, spark_engine, support


def decode(workspace: support.Workspace) -> list[support.Figure]:
    """Decoding ordinary messages; in a process of its own, since it keeps Polars to one thread."""
    command = [sys.executable, "-m", "bench.decode", "--json", "--records", str(min(40_000, workspace.sizes.records))]
    rows = json.loads(subprocess.run(command, cwd=support.ROOT, stdout=subprocess.PIPE, check=True).stdout)
    return [
        support.Figure(f"decoding a {row['stream']} record", row["microseconds"], "us of CPU")
        for row in rows
        if row["payload"] == "native"
    ]


BENCHES: dict[str, support.Bench] = {
    "throughput": spark_baseline.measure,
    "limit": limit.measure,
    "latency": latency.measure,
    "memory": memory.measure,
    "restart": restart.measure,
    "help": help.measure,
    "decode": decode,
    "collect": collect.figures,
    "kafka": kafka.measure,
    "spark": spark_engine.measure,
}

if __name__ == "__main__":
    support.run(BENCHES, __doc__)
