"""The entry point of the Spark image is master, worker, executor or hackwatch: here as processes, without the image."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from hackwatch.store import open_store
from tests.conftest import ROOT
from tests.servers.process import free_ports
from tests.servers.spark import jars, missing

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=missing() or "")]

ENTRY = ROOT / "deploy" / "spark" / "entrypoint"
#: What a driver tells an executor whose pod it asks Kubernetes for.
EXECUTOR = {
    "SPARK_EXECUTOR_ID": "1",
    "SPARK_EXECUTOR_CORES": "1",
    "SPARK_EXECUTOR_MEMORY": "256m",
    "SPARK_EXECUTOR_POD_IP": "127.0.0.1",
    "SPARK_EXECUTOR_POD_NAME": "hackwatch-exec-1",
    "SPARK_APPLICATION_ID": "spark-application-1",
    "SPARK_RESOURCE_PROFILE_ID": "0",
    "SPARK_JAVA_OPT_0": "-Dspark.driver.port=7078",
    "SPARK_JAVA_OPT_1": "-Dspark.rpc.askTimeout=5s",
}


def environ(**more: str) -> dict[str, str]:
    """The variables of the image, for this machine."""
    spec = importlib.util.find_spec("pyspark")
    assert spec is not None
    assert spec.origin is not None
    return {
        **os.environ,
        "SPARK_HOME": str(Path(spec.origin).parent),
        "PYSPARK_PYTHON": sys.executable,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SPARK_LOCAL_IP": "127.0.0.1",
        **more,
    }


def call(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ENTRY, *words], env=environ(**more), capture_output=True, text=True, timeout=600, check=False
    )


def test_an_executor_understands_its_driver_and_looks_for_it() -> None:
    [port] = free_ports(1)
    done = call("executor", **EXECUTOR, SPARK_DRIVER_URL=f"spark://CoarseGrainedScheduler@127.0.0.1:{port}")
    assert "KubernetesExecutorBackend: Started" in done.stderr
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Unrecognized" not in done.stderr


def test_anything_else_is_hackwatch() -> None:
    assert call("--version").stdout.startswith("hackwatch")


@contextmanager
def running(log: Path, *words: str) -> Iterator[None]:
    with log.open("wb") as file:
        process = subprocess.Popen([ENTRY, *words], env=environ(), stdout=file, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def workers(port: int) -> list[dict[str, Any]]:
    """The workers that the master on this machine knows."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/", timeout=5) as answer:
        found: list[dict[str, Any]] = json.load(answer)["workers"]
    return [one for one in found if one["state"] == "ALIVE"]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """The address of a standalone cluster with one worker, started as the compose file does it."""
    port, page, own = free_ports(3)
    master = f"spark://127.0.0.1:{port}"
    with ExitStack() as stack:
        place = ["--host", "127.0.0.1", "--port", str(port), "--webui-port", str(page)]
        stack.enter_context(running(tmp_path / "master.log", "master", *place))
        words = ["--cores", "2", "--memory", "1g", "--work-dir", str(tmp_path / "work"), "--webui-port", str(own)]
        end = time.monotonic() + 120
        started = False
        while time.monotonic() < end:
            with suppress(OSError):
                if workers(page):
                    break
                if not started:
                    stack.enter_context(running(tmp_path / "worker.log", "worker", *words, master))
                    started = True
            time.sleep(0.5)
        yield master


def test_the_pipeline_runs_on_a_cluster(cluster: str, tmp_path: Path) -> None:
    """Driver, master, worker and executors are processes of their own, as in the compose file."""
    data = tmp_path / "data"
    settings = tmp_path / "hackwatch.toml"
    lines = [f'data = "{data}"', "[streams.memory]", "enabled = false", "[spark]"]
    lines += [f'master = "{cluster}"', f'jars = "{jars()}"']
    settings.write_text("\n".join(lines), encoding="utf-8")
    fed = call("--config", str(settings), "feed", "simulate", "host", "--rate", "400", "--duration", "3", "--json")
    records = json.loads(fed.stdout)["records"] // 2
    conf = ["spark.executor.memory=512m", "spark.driver.host=127.0.0.1", "spark.sql.shuffle.partitions=1"]
    conf += [f"spark.{part}.extraJavaOptions=-XX:TieredStopAtLevel=1" for part in ("driver", "executor")]
    options = [word for line in conf for word in ("--spark-conf", line)]
    done = call("--config", str(settings), "run", "--engine", "spark", "--available-now", *options)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "work").glob("app-*")), "no executor ran"
    with open_store(data / "store.sqlite", read_only=True) as store:
        assert store.windows.find()["records"].sum() == records > 0
