"""The container image, the compose file and their settings hold together, and with the program that they run.

No image is built here. What can be said without doing so is said: that every file, package, command and option that
they name exists, that they are sound to the tools that read them, and that nothing is open that must not be.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from hackwatch import streams
from hackwatch.config import Settings, load_settings
from tests.conftest import ROOT, mode
from tests.servers.deploy import compose_model, needs_tools, understood

DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def instructions() -> list[tuple[str, str]]:
    """(instruction, its arguments) of the Dockerfile, continued lines joined."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def stages() -> dict[str, list[tuple[str, str]]]:
    """Stage -> its instructions, after those of the stage that it is built on."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, rest in instructions():
        if name == "FROM":
            origin, _, stage = rest.split()
            found[stage] = [*found.get(origin, ()), (name, rest)]
        elif found:
            found[stage].append((name, rest))
    return found


# ---------------------------------------------------------------------------------------------- images


def sent_to_builder(path: str) -> bool:
    """Whether .dockerignore lets a file or folder through (a subset of its rules: `!NAME` after `*`)."""
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = [rule[1:] for rule in rules if rule.startswith("!")]
    return any(path == rule or path.startswith(f"{rule}/") or fnmatch.fnmatch(path, rule) for rule in let_in)


def test_everything_that_is_copied_exists_and_reaches_the_builder() -> None:
    copied = [rest.split() for name, rest in instructions() if name == "COPY"]
    own = [word for words in copied if not words[0].startswith("--from") for word in words[:-1] if word[:2] != "--"]
    assert {"src", "pyproject.toml", "locks/server.txt"} <= set(own)
    for source in own:
        assert (ROOT / source).exists(), source
        assert sent_to_builder(source), source
    for words in copied:
        if words[0].startswith("--from="):
            assert words[0].removeprefix("--from=") in stages(), words


def test_what_must_stay_here_does_not_reach_the_builder() -> None:
    for private in (".git", "deploy/.secrets", "data", ".venv", "tests"):
        assert not sent_to_builder(private)


@pytest.mark.parametrize(("stage", "lock"), [("hackwatch", "server"), ("spark", "spark")])
def test_an_image_holds_locked_packages_runs_as_a_user_and_looks_after_itself(stage: str, lock: str) -> None:
    own = stages()[stage]
    (environment,) = [rest.split()[0].removeprefix("--from=") for _, rest in own if "/opt/hackwatch /opt/h" in rest]
    installs = [rest for name, rest in stages()[environment] if name == "RUN" and "pip install" in rest]
    assert f"/locks/{lock}.txt" in installs[0]
    for line in installs:
        assert "--require-hashes" in line or "--no-deps --no-index /wheels" in line
    assert [rest for name, rest in own if name == "USER"] == ["10001:10001"]
    (probe,) = [re.search(r"CMD (\[.*\])", rest) for name, rest in own if name == "HEALTHCHECK"]
    assert probe is not None
    command = yaml.safe_load(probe[1])
    assert command[0] in PROJECT["scripts"]
    understood(command[1:])
    understood(yaml.safe_load(next(rest for name, rest in own if name == "CMD")))


def test_the_image_that_is_built_without_a_name_is_the_small_one() -> None:
    assert list(stages())[-1] == "hackwatch"
    assert not any("openjdk" in rest for _, rest in stages()["hackwatch"])


def test_the_dockerfile_is_sound_to_its_linter() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def artifacts(pom: Path) -> dict[str, str]:
    """Artifact -> version of a Maven file, its properties filled in."""
    space = {"m": "http://maven.apache.org/POM/4.0.0"}
    root = ElementTree.parse(pom).getroot()
    values = {item.tag.partition("}")[2]: item.text or "" for item in root.findall("m:properties/*", space)}
    found = {}
    for item in root.findall("m:dependencies/m:dependency", space):
        version = item.findtext("m:version", "", space)
        found[item.findtext("m:artifactId", "", space)] = re.sub(r"\$\{(\w+)\}", lambda m: values[m[1]], version)
    return found


def test_the_spark_image_has_the_jars_that_the_tests_run_with() -> None:
    image, tested = artifacts(DEPLOY / "spark" / "pom.xml"), artifacts(ROOT / "tools" / "servers" / "spark.xml")
    assert tested.items() <= image.items()
    lock = (ROOT / "locks" / "spark.txt").read_text(encoding="utf-8")
    (pyspark,) = re.findall(r"^pyspark==(\d+\.\d+)\.", lock, re.MULTILINE)
    assert image["spark-sql-kafka-0-10_2.13"].startswith(f"{pyspark}.")
    assert f"delta-spark_{pyspark}_2.13" in image


@pytest.mark.parametrize("script", ["spark/entrypoint", "secrets"])
def test_scripts_are_sound(script: str) -> None:
    assert os.access(DEPLOY / script, os.X_OK)
    subprocess.run(["bash", "-n", DEPLOY / script], check=True)


# ---------------------------------------------------------------------------------------------- settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """deploy/hackwatch.toml as the engine reads it, with secrets in another place."""
    text = (DEPLOY / "hackwatch.toml").read_text(encoding="utf-8")
    for name in re.findall(r'"/run/secrets/(\w+)"', text):
        (tmp_path / name).write_text("correct-horse\n", encoding="utf-8")
    (tmp_path / "hackwatch.toml").write_text(text.replace("/run/secrets", str(tmp_path)), encoding="utf-8")
    return load_settings(tmp_path / "hackwatch.toml", environ={})


def test_the_engine_accepts_its_settings(settings: Settings) -> None:
    assert settings.site == "compose"
    assert [settings.spool_url(name) for name in streams.in_order(settings.streams)] == [
        "kafka://kafka:9092/process",
        "kafka://kafka:9092/memory",
    ]
    assert settings.store_url.startswith("postgresql://")
    assert settings.lake_location == "s3://hackwatch/lake"
    assert "correct-horse" not in repr(settings.shown())


def test_the_settings_name_what_the_compose_file_starts(settings: Settings) -> None:
    text = (DEPLOY / "hackwatch.toml").read_text(encoding="utf-8")
    for host in re.findall(r"\w+://(?:\w+@)?([\w-]+)[:/]", re.sub(r"s3://[\w/]+", "", text)):
        assert host in COMPOSE["services"], host
    assert set(re.findall(r"/run/secrets/(\w+)", text)) <= COMPOSE["secrets"].keys()
    assert str(settings.spark.jars) == "/opt/spark-jars"
    spark = COMPOSE["services"]["engine-spark"]["volumes"] + COMPOSE["services"]["spark-worker"]["volumes"]
    assert spark.count("spark-checkpoints:/var/lib/spark") == 2
    assert settings.spark_checkpoint.startswith("/var/lib/spark/")


# ---------------------------------------------------------------------------------------------- compose


def services() -> Iterator[tuple[str, dict[str, Any]]]:
    yield from COMPOSE["services"].items()


def commands_of(service: dict[str, Any]) -> Iterator[list[str]]:
    """The hackwatch commands that a service runs."""
    words = [re.sub(r"\$\{\w+:-(\w+)\}", r"\1", str(word)) for word in service.get("command", ())]
    if words and words[0] not in ("master", "worker"):
        yield words
    script = " ".join(str(word) for word in service.get("entrypoint", ()))
    for line in re.findall(r"hackwatch ([a-z].*)$", script, re.MULTILINE):
        yield shlex.split(line.partition(">")[0].replace("$$", ""))


#: What each service of our image runs of hackwatch; Spark's two run Spark alone.
RUNS = {
    "topics": ["topics describe", "topics create", "topics create"],
    "engine": ["run"],
    "engine-spark": ["run"],
    "spark-master": [],
    "spark-worker": [],
    "feed": ["feed simulate"],
}


def test_every_command_of_hackwatch_is_understood() -> None:
    ours = {name: service for name, service in services() if "hackwatch" in service["image"].lower()}
    assert {name: [understood(words) for words in commands_of(service)] for name, service in ours.items()} == RUNS


@pytest.mark.parametrize("name", RUNS)
def test_hackwatch_can_do_no_more_than_it_must(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_is_pinned_private_and_comes_back(name: str) -> None:
    service = COMPOSE["services"][name]
    if "hackwatch" not in service["image"].lower():
        assert re.search(r":v?\d+(\.\d+)*(-\w+)?$", service["image"]), "an image without a version"
        assert "healthcheck" in service
    assert service["restart"] in ("unless-stopped", "on-failure")
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:"), port
    for key in service.get("environment", {}):
        assert not re.search(r"PASSWORD|SECRET|TOKEN", key) or key.endswith("_FILE"), f"{key} is a secret in sight"
    for secret in service.get("secrets", ()):
        assert secret in COMPOSE["secrets"]
    if "ports" not in service:
        assert service["networks"] == ["inside"]


def test_nothing_but_published_ports_leads_outside() -> None:
    assert COMPOSE["networks"]["inside"] == {"internal": True}


def test_files_that_are_mounted_exist() -> None:
    for name, service in services():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            there = (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
            assert there, f"{name}: {volume}"


def test_prometheus_looks_at_the_engines() -> None:
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    targets = scraped["scrape_configs"][0]["static_configs"][0]["targets"]
    assert {target.partition(":")[0] for target in targets} == {"engine", "engine-spark"}


def test_secrets_are_made_once_and_for_their_owner(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "secrets", tmp_path / "secrets")
    subprocess.run([tmp_path / "secrets"], check=True, capture_output=True)
    made = {name: tmp_path / secret["file"] for name, secret in COMPOSE["secrets"].items()}
    before = {name: path.read_text(encoding="utf-8") for name, path in made.items()}
    assert mode(tmp_path / ".secrets") == 0o700
    assert all(re.fullmatch(r"[0-9a-f]{48}", text) for text in before.values())
    assert len(set(before.values())) == len(before)
    assert "deploy/.secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8")
    subprocess.run([tmp_path / "secrets"], check=True, capture_output=True)
    assert before == {name: path.read_text(encoding="utf-8") for name, path in made.items()}


@pytest.mark.slow
@needs_tools
def test_compose_understands_the_file(tmp_path: Path) -> None:
    model = compose_model(DEPLOY / "compose.yaml", tmp_path)
    assert model["services"].keys() == COMPOSE["services"].keys()
    assert model["services"]["engine"]["depends_on"]["topics"]["condition"] == "service_completed_successfully"


@pytest.mark.slow
@needs_tools
def test_compose_complains_of_a_wrong_file(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text("services: {engine: {image: hackwatch, restrat: always}}\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="restrat"):
        compose_model(wrong, tmp_path)
