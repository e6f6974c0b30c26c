"""Addresses of Kafka topics, and the settings that clients get: what is understood, and what is never shown."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hackwatch.cli import main
from hackwatch.cli.feeding import topic_of
from hackwatch.config import KafkaSettings, load_settings
from hackwatch.errors import ConfigurationError
from hackwatch.topics import open_reader, open_writer
from hackwatch.topics.kafka.address import parse_address, parse_servers
from tests.third.support import shop

__all__ = ["shop"]

SECRET = "hush-hush-9"

GOOD = {
    "kafka://broker:9092/visit_stream": ("broker:9092", "visit_stream"),
    "kafka://broker/visit": ("broker:9092", "visit"),
    "kafka://a:1,b:2,c/t.x-Y_9": ("a:1,b:2,c:9092", "t.x-Y_9"),
    "kafka://127.0.0.1:19092/0": ("127.0.0.1:19092", "0"),
    "kafka://[::1]:9092/t": ("[::1]:9092", "t"),
}
BAD = {
    "kafka:broker/topic": "does not begin with kafka://",
    "kafka://": "no topic",
    "kafka://broker:9092": "no topic",
    "kafka://broker:9092/": "no topic",
    "kafka:///topic": "no broker",
    "kafka://broker,/topic": "no broker",
    "kafka://broker:port/topic": "'broker:port' is not HOST:PORT",
    "kafka://broker:0/topic": "is not HOST:PORT",
    "kafka://broker:65536/topic": "is not HOST:PORT",
    "kafka://bro ker/topic": "is not HOST:PORT",
    "kafka://broker/a/b": "'a/b' cannot be the name of a topic",
    "kafka://broker/..": "cannot be the name of a topic",
    "kafka://broker/tópico": "cannot be the name of a topic",
    f"kafka://broker/{'x' * 250}": "cannot be the name of a topic",
}


@pytest.mark.parametrize("url", GOOD)
def test_an_address_names_brokers_and_a_topic(url: str) -> None:
    address = parse_address(url)
    assert (address.servers, address.topic) == GOOD[url]
    assert parse_address(str(address)) == address
    assert parse_servers(url) == address.servers


@pytest.mark.parametrize("url", BAD)
def test_a_wrong_address_says_what_is_wrong_with_it(url: str) -> None:
    for use in (parse_address, open_reader, open_writer):
        with pytest.raises(ConfigurationError, match="is not the address of a Kafka topic") as error:
            use(url)
        assert BAD[url] in error.value.what
        assert error.value.next_step == "write kafka://HOST:PORT[,HOST:PORT...]/TOPIC"


def test_a_login_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError, match="a login does not belong") as error:
        parse_address(f"kafka://me:{SECRET}@broker:9092/topic")
    assert SECRET not in str(error.value)


WHERE = {
    ("/folder", True): "/folder",
    ("/folder", False): "/folder/login",
    ("kafka://b:1", False): "kafka://b:1/login",
    ("kafka://b:1/", True): "kafka://b:1/login",
    ("kafka://b:1/x", True): "kafka://b:1/x",
    ("kafka://b:1/{stream}_stream", False): "kafka://b:1/login_stream",
    ("/folder/{stream}", True): "/folder/login",
}


@pytest.mark.parametrize(("to", "only"), WHERE)
def test_where_feeds_write(to: str, only: bool) -> None:
    assert topic_of("login", to, only=only) == WHERE[to, only]


def test_one_topic_does_not_take_two_streams() -> None:
    with pytest.raises(ConfigurationError, match="one topic cannot take several streams"):
        topic_of("login", "kafka://b:1/x", only=False)


# -- settings ----------------------------------------------------------------------------------------------------


def settings_file(folder: Path, text: str) -> Path:
    path = folder / "hackwatch.toml"
    path.write_text(text, encoding="utf-8")
    return path


PLACES = {
    "among the properties": f'properties = {{"sasl.password" = "{SECRET}", "sasl.username" = "ann"}}',
    "as secret": f'secrets = {{"sasl.password" = "{SECRET}"}}',
    "in a variable": 'secrets_env = {"sasl.password" = "THE_SECRET"}',
    "in a file beside the settings": 'secrets_file = {"sasl.password" = "secret.txt"}',
}


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_reaches_the_client_and_nothing_that_is_printed(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret.txt").write_text(f"{SECRET}\n", encoding="utf-8")
    monkeypatch.setenv("THE_SECRET", SECRET)
    path = settings_file(tmp_path, f"[kafka]\n{PLACES[place]}\n")
    settings = load_settings(path)
    assert settings.kafka.client()["sasl.password"] == SECRET
    assert SECRET not in repr(settings) + str(settings) + json.dumps(settings.shown())
    for arguments in (["config", "show"], ["config", "show", "--json"]):
        shown = CliRunner().invoke(main, ["--config", str(path), *arguments])
        assert shown.exit_code == 0
        assert SECRET not in shown.output
        assert "sasl.password" in shown.output
    assert settings.kafka.hidden(f"the password {SECRET} is wrong") == "the password ********** is wrong"


WRONG = {
    'secrets_env = {"sasl.password" = "NOT_SET"}': "kafka.secrets_env.sasl.password: NOT_SET is empty or not set",
    'secrets_file = {"sasl.password" = "none.txt"}': "cannot read the secret: No such file or directory",
    'properties = {"group.id" = "x"}': "group.id cannot be set: set group",
    'properties = {"acks" = 0}': "acks cannot be set: it is always `all`",
    'properties = {"bootstrap.servers" = "x:1"}': "name the brokers in the addresses of topics",
    'enriched = "spool:x"': "must be kafka://HOST:PORT/TOPIC",
    'group = "a b"': "kafka.group",
}


@pytest.mark.parametrize("url", ["kafka://broker", "kafka://me:pass@broker/t", "kafka://b/a b", "kafka:///t"])
def test_a_wrong_address_in_the_settings_is_named_with_all_that_is_wrong(url: str, tmp_path: Path, shop: None) -> None:
    path = settings_file(tmp_path, f'[streams.visit]\ntopic = "{url}"\n')
    with pytest.raises(ConfigurationError, match=r"hackwatch.toml:2: streams.visit.topic: must be kafka://HOST:PORT"):
        load_settings(path)


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_setting_is_named(line: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_settings(settings_file(tmp_path, f"[kafka]\n{line}\n"), environ={})
    assert WRONG[line] in str(error.value).replace('"', "")


def test_values_reach_the_client_as_it_takes_them() -> None:
    settings = KafkaSettings(properties={"a": True, "b": 5, "c": "text", "d": 0.5})
    assert settings.client() == {"a": "true", "b": "5", "c": "text", "d": "0.5"}


def test_properties_that_the_client_does_not_know_are_an_error_without_the_secrets() -> None:
    pytest.importorskip("confluent_kafka")
    settings = KafkaSettings.model_validate({"properties": {"no.such": 1, "sasl.password": SECRET}})
    with pytest.raises(ConfigurationError, match="does not take its properties") as error:
        open_reader("kafka://localhost:1/t", kafka=settings)
    assert "no.such" in str(error.value)
    assert SECRET not in str(error.value)


def test_without_the_extra_the_error_names_it() -> None:
    script = (
        "import sys; sys.modules['confluent_kafka'] = None\n"
        "from hackwatch.topics import open_reader, open_writer\n"
        "for open_topic in (open_reader, open_writer):\n"
        "    try: open_topic('kafka://localhost:1/t')\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.count("ResourceError kafka:// addresses need the extra `kafka`") == 2
    assert done.stdout.count("pip install 'hackwatch[kafka]'") == 2
