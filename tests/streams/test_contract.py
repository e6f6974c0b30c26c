"""What every registered stream owes, third parties' included."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest

from hackwatch import streams
from hackwatch.errors import ConfigurationError
from hackwatch.streams.declarations import Family, windows_of
from hackwatch.streams.decode import Decoder
from hackwatch.streams.fields import Field, Kind
from hackwatch.streams.formats import LineFormat, matching
from hackwatch.streams.stream import POSITION, REJECTED_SCHEMA, DecodeOptions, Features, Messages, Noun, Pace, Stream
from tests.streams.support import BASE, messages, named
from tests.third.support import SHOP, installed

OPTIONS = DecodeOptions()


@pytest.fixture(params=sorted({*streams.names(), "request", *SHOP}))
def stream(request: pytest.FixtureRequest) -> Iterator[Stream]:
    with installed():
        yield named(request.param)


@pytest.fixture
def sound(stream: Stream) -> bytes:
    if stream.name not in BASE:
        pytest.fail(f"add a sound record of stream {stream.name} to tests/streams/support.py")
    return json.dumps(BASE[stream.name]).encode()


def test_the_streams_of_a_host_are_registered() -> None:
    assert {"memory", "process"} <= set(streams.names())
    assert list(streams.names()) == sorted(streams.names())


def test_an_unknown_stream_is_a_configuration_error_that_lists_the_known() -> None:
    with pytest.raises(ConfigurationError, match="use one of: memory, process"):
        streams.get("disk")


class _Point:
    """An entry point of a third party."""

    name, value = "disk", "elsewhere:STREAM"

    def __init__(self, loaded: Any) -> None:
        self._loaded = loaded

    def load(self) -> Any:
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, _Point]]:
    points: dict[str, _Point] = {}
    monkeypatch.setattr(streams, "_registered", lambda group: points)
    streams.get.cache_clear()
    yield points
    streams.get.cache_clear()


def test_a_third_party_can_register_a_stream(registered: dict[str, _Point]) -> None:
    theirs = complete()
    registered["disk"] = _Point(theirs)
    assert streams.get("disk") is theirs
    assert streams.names() == ("disk",)


@pytest.mark.parametrize(
    ("loaded", "says"), [(ImportError("no such"), "cannot be loaded: no such"), (5, "is not a stream")]
)
def test_a_broken_registration_says_where(registered: dict[str, _Point], loaded: Any, says: str) -> None:
    registered["disk"] = _Point(loaded)
    with pytest.raises(ConfigurationError, match=says) as caught:
        streams.get("disk")
    assert "elsewhere:STREAM" in str(caught.value)


def complete(**changes: Any) -> Stream:
    """A stream whose declaration is complete, but for the changes."""
    schema = pl.Schema({"client": pl.String(), "bytes": pl.Int64(), "event_time": pl.Datetime("us", "UTC")})
    declared: dict[str, Any] = {
        "name": "disk", "schema": schema, "entity": "client", "noun": Noun("client", "clients"), "subject": "client",
        "identity": "client", "source": None, "identifiers": ("client",),
        "features": Features((), ("bytes",), ()), "units": {"bytes": "bytes"}, "decode": lambda _, __: never(),
    }  # fmt: skip
    return Stream(**{**declared, **changes})


def reads(field: Field, *formats: LineFormat) -> Decoder:
    return Decoder("disk", complete().schema, (field,), {}, formats=formats)


#: What is wrong with a declaration, and what is said of it.
INCOMPLETE: dict[str, tuple[dict[str, Any], str]] = {
    "a subject that is no column": ({"subject": "path"}, "subject: there is no column 'path'"),
    "an entity that is no text": ({"entity": "bytes"}, "entity: 'bytes' is Int64; it must be a text"),
    "a source that is no column": ({"source": "server"}, "source: there is no column 'server'"),
    "no event time": ({"schema": pl.Schema({"client": pl.String(), "bytes": pl.Int64()})}, "event_time"),
    "a name of the pipeline": ({"schema": pl.Schema({**complete().schema, "index": pl.Int64()})}, "index: these names"),
    "a feature that is no column": ({"features": Features(("rate",), (), ())}, "features: 'rate': no such column"),
    "a feature that identifies": ({"identifiers": ("client", "bytes")}, "features: bytes: identifiers say who"),
    "a field of any value": ({"decode": reads(Field("bytes", Kind.INTEGER))}, "fields: bytes: say which values"),
    "two formats of one name": (
        {"decode": reads(Field("client", Kind.ADDRESS), matching("a", "a"), matching("a", "b"))},
        "formats: a: declared",
    ),
    "lines, and no field that a record must have": (
        {"decode": reads(Field("client", Kind.ADDRESS, optional=True), matching("a", "a"))},
        "must tell a record from",
    ),
    "a default of no field": (
        {"decode": reads(Field("client", Kind.ADDRESS)), "defaults": {"ts": lambda _, row: row}},
        "defaults: 'ts'",
    ),
    "a text feature of numbers": (
        {"features": Features((), (), (), text=("bytes",))},
        "'bytes' is Int64; text and limited",
    ),
    "a vocabulary of nothing": (
        {"features": Features((), (), (), limited={"client": 0}), "identifiers": ()},
        "'client': a limited vocabulary holds at least 1",
    ),
    "a feature of two kinds": ({"features": Features(("bytes",), ("bytes",), ())}, "bytes: of two kinds"),
    "a pace of less than nothing": ({"pace": Pace(1.0, 5, 4)}, "pace: more than 0 seconds; least and late from 0"),
    "a pace by no field": ({"pace": Pace(1.0, 1, 2, order="row")}, "pace: order: there is no field 'row'"),
    "a pace without time": ({"pace": Pace(1.0, 1, 2)}, "pace: no field is a time"),
    "no noun": ({"noun": Noun("", "")}, "noun: say what people call an entity"),
}


@pytest.mark.parametrize("case", INCOMPLETE)
def test_an_incomplete_declaration_is_refused_when_it_is_loaded(registered: dict[str, _Point], case: str) -> None:
    changes, says = INCOMPLETE[case]
    registered["disk"] = _Point(complete(**changes))
    with pytest.raises(ConfigurationError) as caught:
        streams.get("disk")
    assert says in str(caught.value)
    assert "elsewhere:STREAM" in str(caught.value)


def test_all_that_is_missing_is_said_at_once(registered: dict[str, _Point]) -> None:
    registered["disk"] = _Point(complete(subject="path", source="server", noun=Noun("", "")))
    with pytest.raises(ConfigurationError) as caught:
        streams.get("disk")
    assert len(caught.value.problems) == 3


def never() -> Any:
    raise AssertionError("not to be called")


def test_the_declaration_is_consistent(stream: Stream) -> None:
    assert {stream.entity, stream.subject, stream.identity, "event_time"} <= set(stream.schema)
    assert stream.source is None or stream.source in stream.schema
    assert {stream.entity, "event_time"} <= set(stream.identifiers)
    assert stream.schema["event_time"] == pl.Datetime("us", "UTC")
    assert set(stream.features.columns) <= set(stream.schema)
    assert set(stream.units) <= set(stream.schema)
    assert not set(POSITION) & set(stream.schema)
    assert not {"sequence", "ts", stream.source, *stream.identifiers} & set(stream.features.columns)
    for name in stream.features.categorical:
        assert stream.schema[name] == pl.String
    for name in (*stream.features.numeric, *stream.features.log):
        assert stream.schema[name].is_numeric()


@pytest.mark.parametrize(
    ("options", "further"),
    [
        (DecodeOptions(), {}),
        (DecodeOptions(key="uuid"), {"key": pl.String()}),
        (DecodeOptions(labels=True), {"label": pl.Int8(), "type": pl.String()}),
        (DecodeOptions(labels=True, key="ts"), {"key": pl.String(), "label": pl.Int8(), "type": pl.String()}),
    ],
)
@pytest.mark.parametrize("kind", ["none", "sound", "broken", "both"])
def test_schemas_are_as_declared(
    stream: Stream, sound: bytes, kind: str, options: DecodeOptions, further: dict[str, pl.DataType]
) -> None:
    lines = {"none": [], "sound": [sound], "broken": [b"{"], "both": [sound, b"{}", b"{", b"[" + sound + b"]"]}[kind]
    decoded = stream.decode(messages(lines), options)
    assert decoded.records.schema == pl.Schema({**stream.schema, **POSITION, **further})
    assert decoded.rejected.schema == REJECTED_SCHEMA
    assert decoded.messages == len(lines)
    assert decoded.records.height + decoded.rejected.height == len(lines)


def test_positions_are_those_of_the_messages(stream: Stream, sound: bytes) -> None:
    count = 5
    kafka = Messages("topic", 7, (sound + b"\n") * count, np.arange(10, 10 + count, dtype=np.int64), 10 + count)
    decoded = stream.decode(kafka, OPTIONS)
    assert decoded.records["offset"].to_list() == [10, 11, 12, 13, 14]
    assert decoded.records["partition"].to_list() == [7] * count


def test_decoding_twice_gives_the_same(stream: Stream, sound: bytes) -> None:
    lines = messages([sound, b"{}", b"[" + sound + b"," + sound + b"]"] * 20)
    one, other = stream.decode(lines, OPTIONS), stream.decode(lines, OPTIONS)
    assert one.records.equals(other.records)
    assert one.rejected.equals(other.rejected)


def test_a_field_that_is_missing_rejects_and_a_new_one_does_not(stream: Stream, sound: bytes) -> None:
    fields = json.loads(sound)
    for name in fields:
        without = json.dumps({other: value for other, value in fields.items() if other != name}).encode()
        decoded = stream.decode(messages([sound, without]), OPTIONS)
        assert decoded.records.height == 1
        assert decoded.rejected["reason"].to_list() == [f"{name}: missing or null"]
    more = json.dumps(fields | {"colour": "red"}).encode()
    decoded = stream.decode(messages([sound, more]), OPTIONS)
    assert decoded.records.drop("offset").row(0) == decoded.records.drop("offset").row(1)
    assert dict(decoded.unknown_fields) == {"colour": 1}


def test_normalised_columns_hold_no_unexpected_null(stream: Stream, sound: bytes) -> None:
    decoded = stream.decode(messages([sound]), OPTIONS)
    assert not any(decoded.records.null_count().row(0))


def test_a_large_payload_is_read_as_a_small_one_is(stream: Stream, sound: bytes) -> None:
    """Small payloads may be read another way."""
    few = stream.decode(messages([sound] * 3), OPTIONS).records.drop("offset")
    many = stream.decode(messages([sound] * 2000), OPTIONS).records.drop("offset")
    assert many.unique().equals(few.unique())
    assert many.height == 2000


@pytest.fixture(params=["host", "shop"])
def family(request: pytest.FixtureRequest) -> Iterator[Family]:
    with installed():
        yield streams.family(request.param)


def test_a_family_names_registered_streams_and_what_joins_them(family: Family) -> None:
    assert set(family.streams) <= set(streams.names())
    assert family in streams.families()
    for correlation in family.correlations:
        assert correlation in streams.correlations()
        sides = [streams.get(name) for name in (correlation.left, correlation.right)]
        assert all(set(correlation.keys) <= set(side.schema) for side in sides)
    for aggregate in family.aggregates:
        assert aggregate in streams.aggregates(aggregate.stream)


def test_every_stream_has_windows(stream: Stream) -> None:
    first = windows_of(stream, 300)
    assert (first.keys, first.seconds) == ((stream.entity,), 300)
    assert [measure.name for measure in first.measures] == ["records", "suspects", "count"]


def test_an_installed_family_is_gone_with_its_package() -> None:
    with installed():
        assert {"visit", "login"} <= set(streams.names())
        assert [one.name for one in streams.families()] == ["host", "shop"]
    assert not {"visit", "login"} & set(streams.names())
    assert "takeovers" not in {correlation.name for correlation in streams.correlations()}
