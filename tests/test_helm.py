"""The Helm chart: what it makes is valid Kubernetes, with settings that the engine accepts, and opens nothing.

No cluster is asked: the objects are checked strictly against the schemas of Kubernetes itself.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # it ships no types
import pytest
import yaml

from hackwatch.config import load_settings
from tests.conftest import ROOT
from tests.servers.deploy import helm, needs_tools, understood

CHART = ROOT / "deploy" / "helm" / "hackwatch"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
NEWEST, OLDEST = "1.34", "1.29"

CASES: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "spark": {"engine": "spark"},
    "everything": {
        "engine": "spark",
        "site": "berlin",
        "pipeline": "berlin",
        "image": {"repository": "registry.example.org/hackwatch", "tag": "spark", "pullSecrets": [{"name": "pull"}]},
        "metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
        "networkPolicy": {"enabled": True, "egress": [{"ports": [{"protocol": "TCP", "port": 9092}]}]},
        "persistence": {"storageClass": "fast"},
        "extraEnv": [{"name": "KAFKA_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "kafka", "key": "password"}}}],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ssl/kafka"}],
        "spark": {"executors": 4, "conf": {"spark.executor.memoryOverhead": "1g", "spark.executor.memory": "8g"}},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "watch", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "podLabels": {"team": "soc"},
        "podAnnotations": {"a": "b"},
        "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/hackwatch"}},
    },
    "without a disk, another's account": {
        "persistence": {"enabled": False},
        "serviceAccount": {"name": "shared"},
        "secretFiles": {},
        "settings": 'store.url = "postgresql://{{ .Release.Name }}@db/store"',
    },
}


@pytest.fixture(params=CASES)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """What the chart makes of a case: kind -> object."""
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(CASES[request.param]), encoding="utf-8")
    objects = helm("template", CHART, tmp_path, "--values", str(values), "--namespace", "watch")
    helm("lint", CHART, tmp_path, "--strict", "--values", str(values))
    kinds = [item["kind"] for item in objects]
    assert len(kinds) == len(set(kinds))
    return {item["kind"]: item for item in objects}


def engine(made: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    (container,) = made["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def complaint(item: dict[str, Any], version: str) -> str | None:
    """What Kubernetes of that version has against an object; None if nothing."""
    try:
        kubernetes_validate.validate(item, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return str(error)
    return None


@pytest.mark.slow
@needs_tools
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_object_is_valid(made: dict[str, dict[str, Any]], version: str) -> None:
    objects = {kind: item for kind, item in made.items() if kind != "ServiceMonitor"}  # that is the operator's
    if pod := made["ConfigMap"]["data"].get("executor.yaml"):
        objects["Pod"] = yaml.safe_load(pod)
    assert {kind: complaint(item, version) for kind, item in objects.items()} == dict.fromkeys(objects)


@pytest.mark.slow
@needs_tools
def test_the_engine_accepts_the_settings(made: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    text = made["ConfigMap"]["data"]["hackwatch.toml"]
    for name in re.findall(r'"/run/secrets/(\w+)"', text):
        (tmp_path / name).write_text("correct-horse\n", encoding="utf-8")
    (tmp_path / "hackwatch.toml").write_text(text.replace("/run/secrets", str(tmp_path)), encoding="utf-8")
    environ = {variable["name"]: variable.get("value", "set") for variable in engine(made)["env"]}
    settings = load_settings(tmp_path / "hackwatch.toml", environ=environ)
    assert (settings.metrics.host, settings.log.format) == ("0.0.0.0", "json")
    assert str(settings.data).startswith("/var/lib/hackwatch/")
    assert settings.site == made["Service"]["metadata"]["labels"]["site"]
    assert settings.pipeline == ("berlin" if settings.site == "berlin" else "main")
    mounted = {item["secret"]["items"][0]["path"] for volume in volumes(made) for item in sources(volume)}
    assert set(re.findall(r'"/run/secrets/(\w+)"', text)) <= mounted


def volumes(made: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = made["StatefulSet"]["spec"]["template"]["spec"]["volumes"]
    return found


def sources(volume: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = volume.get("projected", {}).get("sources", [])
    return found


@pytest.mark.slow
@needs_tools
def test_what_is_run_and_asked_exists(made: dict[str, dict[str, Any]]) -> None:
    assert understood(engine(made)["args"]) == "run"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        name, *words = engine(made)[probe]["exec"]["command"]
        assert name == "hackwatch"
        assert understood(words) == "status"


@pytest.mark.slow
@needs_tools
def test_volumes_and_ports_fit_together(made: dict[str, dict[str, Any]]) -> None:
    claims = [claim["metadata"]["name"] for claim in made["StatefulSet"]["spec"].get("volumeClaimTemplates", ())]
    names = [volume["name"] for volume in volumes(made)] + claims
    assert sorted(names) == sorted({mount["name"] for mount in engine(made)["volumeMounts"]})
    ports = {port["name"]: port["containerPort"] for port in engine(made)["ports"]}
    assert {port["targetPort"]: port["port"] for port in made["Service"]["spec"]["ports"]} == ports
    rules = made.get("NetworkPolicy", {}).get("spec", {}).get("ingress", ())
    assert {port["port"] for rule in rules for port in rule["ports"]} <= ports.keys()
    assert not rules or {port["port"] for rule in rules for port in rule["ports"]} == ports.keys()
    assert made["Service"]["spec"]["selector"].items() <= made["StatefulSet"]["spec"]["selector"]["matchLabels"].items()
    assert made["StatefulSet"]["spec"]["serviceName"] == made["Service"]["metadata"]["name"]


@pytest.mark.slow
@needs_tools
def test_the_engine_can_do_no_more_than_it_must(made: dict[str, dict[str, Any]]) -> None:
    pod = made["StatefulSet"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
    assert engine(made)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    spark = "--engine" in engine(made)["args"]
    assert pod["automountServiceAccountToken"] is spark
    assert ("Role" in made) is spark
    for rule in made.get("Role", {}).get("rules", ()):
        assert set(rule["resources"]) <= {"pods", "configmaps"}
        assert "*" not in rule["verbs"]


@pytest.mark.slow
@needs_tools
@pytest.mark.parametrize("made", ["spark", "everything"], indirect=True)
def test_executors_find_their_driver(made: dict[str, dict[str, Any]]) -> None:
    conf = tomllib.loads(made["ConfigMap"]["data"]["hackwatch.toml"])["spark"]["conf"]
    pod = f"{made['StatefulSet']['metadata']['name']}-0"
    assert conf["spark.driver.host"] == f"{pod}.{made['Service']['metadata']['name']}.watch.svc"
    assert conf["spark.kubernetes.driver.pod.name"] == pod
    ports = {port["name"]: str(port["containerPort"]) for port in engine(made)["ports"]}
    assert (conf["spark.driver.port"], conf["spark.blockManager.port"]) == (ports["driver"], ports["blocks"])
    assert conf["spark.kubernetes.container.image"] == engine(made)["image"]
    assert made["Service"]["spec"]["publishNotReadyAddresses"] is True
    mounts = {mount["name"]: mount["mountPath"] for mount in engine(made)["volumeMounts"]}
    assert conf["spark.kubernetes.executor.podTemplateFile"] == f"{mounts['settings']}/executor.yaml"
    if conf["spark.executor.instances"] == "4":
        assert (conf["spark.executor.memory"], conf["spark.executor.memoryOverhead"]) == ("8g", "1g")


@pytest.mark.slow
@needs_tools
@pytest.mark.parametrize(
    ("value", "complaint"),
    [("engin=spark", "engin"), ("engine=flink", "engine"), ("site=a b", "site"), ("metrics.port=no", "port")],
)
def test_a_wrong_value_is_refused(value: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=complaint):
        helm("template", CHART, tmp_path, "--set", value)


@pytest.mark.slow
@needs_tools
def test_a_wrong_object_is_found() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"port": []}}
    with pytest.raises(kubernetes_validate.ValidationError, match="port"):
        kubernetes_validate.validate(service, NEWEST, strict=True)


def test_every_value_is_used_and_every_used_one_is_there() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (CHART / "templates").iterdir())
    used = set(re.findall(r"\.Values\.(\w+(?:\.\w+)*)", text))
    tops = {path.partition(".")[0] for path in used}
    assert tops == VALUES.keys()
    for path in used:
        value: Any = VALUES
        for part in path.split("."):
            assert part in value, path
            value = value[part]


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert chart["appVersion"] == chart["version"] == project["version"]
