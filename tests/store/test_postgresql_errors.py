"""What one is told when PostgreSQL refuses or cannot be found; the password is in none of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest

from hackwatch.errors import ConfigurationError, HackwatchError, ResourceError
from hackwatch.store import open_store
from tests.servers.postgres import PASSWORD, Server

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("change", "what", "help_"),
    [
        (lambda s, d: f"postgresql://hackwatch@127.0.0.1:1/{d}", "cannot be reached: .*refused", "look whether"),
        (lambda s, d: f"postgresql://hackwatch@nowhere.invalid/{d}", "cannot be reached: .*resolve", "look whether"),
        (lambda s, d: s.url(d, password="wrong"), "refused the user or the password", "store.password_file"),
        (lambda s, d: s.url(d, password=None), "refused the user or the password", "store.password_file"),
        (lambda s, d: s.url("nope"), "no such database", "createdb .*--owner=hackwatch nope"),
        (lambda s, d: s.url(d) + "?sslmode=require", "no encrypted connection", "sslmode"),
    ],
    ids=["no server", "no host", "wrong password", "no password", "no database", "no encryption"],
)
def test_what_is_wrong_is_said_with_what_helps(
    postgres: Server, change: Callable[[Server, str], str], what: str, help_: str
) -> None:
    address = change(postgres, "postgres")
    for read_only in (False, True):
        with pytest.raises(ResourceError, match=what) as caught:
            open_store(address, read_only=read_only)
        assert caught.value.exit_code == 4
        assert caught.value.next_step is not None
        assert re.search(help_, caught.value.next_step)
        assert str(caught.value.where).startswith("postgresql://hackwatch@")


@pytest.mark.parametrize(
    "address", ["postgresql://u:hunter2@h/d?nonsense=1", "postgresql://u:hunter2@[::1/d", "postgresql://u:%zz@h/d"]
)
def test_an_address_that_is_none_is_told_without_its_password(address: str) -> None:
    with pytest.raises(ConfigurationError, match="no address of a PostgreSQL database") as caught:
        open_store(address)
    assert "hunter2" not in str(caught.value) + repr(caught.value)
    assert "zz" not in str(caught.value)


def test_a_user_who_may_not_make_tables(postgres: Server) -> None:
    name = postgres.create()
    with postgres.connected() as connection:
        connection.execute("DROP ROLE IF EXISTS guest")
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    address = postgres.url(name, user="guest", password="guest")
    with pytest.raises(ResourceError, match="permission denied for schema public") as caught:
        open_store(address)
    assert "GRANT" in str(caught.value)
    open_store(postgres.url(name)).close()
    with postgres.connected(name) as connection:
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest")
    with open_store(address, read_only=True) as reader:
        assert reader.triage.alerts() == []
    with open_store(address) as store, pytest.raises(ResourceError, match="permission denied for table mutes"):
        store.triage.mute("r", None, until=9.0, now=1.0)
    postgres.drop(name)


def test_a_database_that_does_not_know_all_characters_is_refused(postgres: Server) -> None:
    name = postgres.create(options="ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    with pytest.raises(ResourceError, match="keeps texts as LATIN1") as caught:
        open_store(postgres.url(name))
    assert "--encoding=UTF8" in str(caught.value)
    postgres.drop(name)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "hackwatch.store.postgresql")
    with pytest.raises(ResourceError, match="extra `postgres`") as caught:
        open_store("postgresql://u:hunter2@h/d")
    assert "pip install 'hackwatch[postgres]'" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_password_is_in_no_error(postgres: Server) -> None:
    told: list[str] = []
    for address in (postgres.url("nope"), postgres.url("postgres") + "?sslmode=require"):
        try:
            open_store(address)
        except HackwatchError as error:
            told += [str(error), repr(error), str(error.__cause__), repr(vars(error))]
    with open_store(postgres.url("postgres")) as store:
        told += [store.database.name, repr(store.database), repr(store)]
    assert len(told) == 11
    assert not [text for text in told if PASSWORD in text or "p%40ss" in text]
