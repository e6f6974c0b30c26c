"""The decoder agrees with a plain-Python one on any payload, however it is cut into batches."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hackwatch.streams.stream import Decoded, DecodeOptions
from tests.streams import oracle
from tests.streams.request import short, wrapped
from tests.streams.support import BASE, kib, messages, named
from tests.third.support import SHOP, shop_all_along

__all__ = ["OWN", "facts", "payloads", "shop_all_along"]

OWN = ("process", "memory", "request", *SHOP)
pytestmark = pytest.mark.usefixtures("shop_all_along")

#: JSON texts of values: usual ones, traps, and what no field may hold.
TOKENS = st.sampled_from(
    [
        b"0", b"1", b"17", b"-5", b"120", b"99", b"139", b"100", b"3.7", b"1.0", b"1e3", b"1E2", b"-0", b"-0.0",
        b"9007199254740993", b"9223372036854775807", b"9223372036854775808", b"18446744073709551616",
        b"123456789012345678901234567890", b"9" * 40, b"9" * 80, b"1e308", b"1e400", b"5e-324", b"1e-400",
        b"1554218915", b"1554218915123", b"true", b"false", b"null", b"[]", b"{}", b"[1]", b'["x"]', b'{"x":1}',
        b'{"path":"["}', b'[{"a":1},{"b":2}]', b"NaN", b"Infinity", b"-Infinity", b"01", b"1.", b".5", b"+1", b"tru",
        b'""', b'" "', b'"-"', b'" - "', b'"5"', b'" 24K"', b'"24K "', b'"88680K"', b'"519.1M"', b'"2.0G"', b'"1T"',
        b'"-1.5M"', b'"0K"', b'"K"', b'"-K"', b'"612.3"', b'"1438e3"', b'"1.1M"', b'"1e3K"', b'"infK"', b'"nan"',
        b'"inf"', b'"13%"', b'"13 %"', b'"%"', b'"0.13"', b'"1_000"', b'"0x10"', b'"+5"', b'"5."', b'"1e400"',
        b'"\xd9\xa3"', b'"5k"', b'"1P"', b'"9e18K"', b'"123456789012.5M"', b'"apache2"', b'"<grep>"', b'"<>"',
        b'"<"', b'"<<a>>"', b'"kworker/u8:2"', b'"[kworker/0:1]"', b'"{x"', b'"},{"', b'"}, {"', b'"a\\u003ab"',
        b'"\\u0041"', b'"\\ud800"', b'"\\ud83d\\ude00"', b'"a\\"b"', b'"a\\\\b"', b'"a\\/b"', b'"\\\\u0041"',
        b'"caf\xc3\xa9"', b'"\xff"', b'"\xed\xa0\x80"', b'"a\x01b"', b'"a\\u0000b"', b'"a\tb"', b'"true"', b'"[1]"',
        b'"192.0.2.1"', b'"192.0.2.01"', b'"::1"', b'"2001:DB8::0:1"', b'"::ffff:192.0.2.9"', b'"::1%eth0"', b'"1.2.3"',
        b'"10/Oct/2000:13:55:36 -0700"', b'"30/Feb/2000:13:55:36 +0000"', b'"10/Okt/2000:13:55:36 +0000"',
        b'"2000-10-10T13:55:36Z"', b'"2000-10-10 13:55:36,123456789+0530"', b'"2000-02-30T00:00:00Z"', b'"1.5e9"',
        b'"2000-10-10T24:00:00Z"', b'"2000-10-10"', b'"T"', b'" no "', b'"oFF"', b'"1"', b'"maybe"',
        b'"' + b"x" * 300 + b'"', b'"=cmd()"', b"[" * 70 + b"]" * 70, b"[" * 62 + b"]" * 62,
    ]
)  # fmt: skip
NAMES = st.sampled_from(
    [
        *sorted({*chain(*BASE.values())}), "label", "attack", "type", "verdict", "host", "source", "position", "format",
        "line", "a:b", "", "x" * 70, "\u00e9", 'q"',
    ]
)  # fmt: skip
SEPARATORS = st.sampled_from([(b",", b":"), (b", ", b": "), (b" ,\t", b" : ")])


@st.composite
def record_texts(draw: st.DrawFn, stream: str, usual: int) -> bytes:
    """The JSON text of a record: sound in `usual` of 10 cases, else with fields changed, added, doubled, dropped."""
    pairs = [(json.dumps(name).encode(), json.dumps(value).encode()) for name, value in BASE[stream].items()]
    comma, colon = draw(SEPARATORS) if draw(st.integers(0, 9)) == 0 else (b",", b":")
    if draw(st.integers(0, 9)) >= usual:
        for _ in range(draw(st.integers(1, 3))):
            position = draw(st.integers(0, len(pairs) - 1))
            what = draw(st.sampled_from(["change", "change", "change", "add", "add", "double", "drop", "escape"]))
            if what == "change":
                pairs[position] = (pairs[position][0], draw(TOKENS))
            elif what == "add":
                pairs.insert(position, (json.dumps(draw(NAMES)).encode(), draw(TOKENS)))
            elif what == "double":
                pairs.insert(0, (pairs[position][0], draw(TOKENS)))
            elif what == "drop" and len(pairs) > 1:
                del pairs[position]
            elif what == "escape":
                pairs[position] = (b'"\\u00' + b"%02x" % pairs[position][0][1] + pairs[position][0][2:], b"1")
    return b"{" + comma.join(name + colon + value for name, value in pairs) + b"}"


LINES = st.one_of(
    st.just(short()),
    st.sampled_from(["client", "when", "bot", "bytes", "path"]).flatmap(
        lambda name: TOKENS.map(lambda token: short(**{name: token.decode(errors="replace").strip('"') or "x"}))
    ),
    st.sampled_from(
        [b"[10/Oct/2000:13:55:36 -0700\t::1\tF\t-\t/]", b"[a\tb\tc\td\te]", short() + b"\r", b"\xff" + short()]
    ),
).map(lambda line: line.replace(b"\n", b""))


@st.composite
def lines_and_envelopes(draw: st.DrawFn, usual: int) -> bytes:
    """A line, bare or in an envelope; the latter may not be quite one."""
    line = draw(LINES)
    if draw(st.booleans()):
        return line
    form = draw(st.sampled_from(["short", "short", "tabbed", "json", "json", "xml"]))
    text = draw(record_texts("request", usual)) if form == "json" else line
    whole = wrapped(text.decode(errors="replace"), form, draw(st.sampled_from(["a", "a", "b:c", None, 5, ["x"]])))
    envelope = json.dumps(dict(draw(st.permutations(list(whole.items())))), ensure_ascii=draw(st.booleans())).encode()
    odd = draw(st.sampled_from(["", "", "", "", "array", "more", "less", "blank"]))
    changed = {
        "array": b"[" + envelope + b"]",
        "more": envelope[:-1] + b',"more":1}',
        "less": b'{"format":"short","line":"x"}',
        "blank": b" " + envelope,
    }
    return changed.get(odd, envelope)


@st.composite
def message_texts(draw: st.DrawFn, stream: str, usual: int) -> bytes:
    if stream == "request" and draw(st.booleans()):
        return draw(lines_and_envelopes(usual))
    kind = draw(st.sampled_from(["object"] * 12 + ["array"] * 6 + ["cut", "junk", "odd", "many"]))
    if kind == "object":
        return draw(record_texts(stream, usual))
    if kind in ("array", "many"):
        comma = draw(st.sampled_from([b",", b",", b", ", b" , "]))
        elements = draw(st.lists(record_texts(stream, usual), max_size=4))
        if kind == "many":
            elements.insert(0, draw(TOKENS))
        return draw(st.sampled_from([b"", b"", b"", b" "])) + b"[" + comma.join(elements) + b"]"
    if kind == "cut":
        text = draw(record_texts(stream, usual))
        return text[: draw(st.integers(0, len(text)))]
    if kind == "junk":
        return draw(st.binary(max_size=40)).replace(b"\n", b"")
    record = draw(record_texts(stream, usual))
    odd = [b"", b" ", b"\t \r", b"5", b"null", b'"text"', b"[]", b"[[]]", b"{}", b"\xef\xbb\xbf{}", record + b"\r"]
    odd += [
        b"[" + record,
        record + b"]",
        b"[" + record + b"],[" + record + b"]",
        record + record,
        b"[" + record + b"},{]",
    ]
    return draw(st.sampled_from(odd))


@st.composite
def payloads(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    stream = draw(st.sampled_from(OWN))
    usual = draw(st.sampled_from([0, 7, 9, 10]))
    return stream, draw(st.lists(message_texts(stream, usual), min_size=1, max_size=12))


def facts(decoded: Decoded) -> tuple[Any, ...]:
    rejected = decoded.rejected.select("offset", "index", "reason", "raw", "raw_bytes").rows()
    by_message = None if decoded.unknown_by_message is None else decoded.unknown_by_message.tolist()
    return decoded.records.rows(), rejected, dict(decoded.unknown_fields), by_message


@given(payloads(), st.booleans())
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_payload_is_decoded_as_the_oracle_does(payload: tuple[str, list[bytes]], letterless_kib: bool) -> None:
    stream, lines = payload
    given_ = messages(lines)
    decoded = named(stream).decode(given_, DecodeOptions(own=kib(letterless_kib)))
    expected = oracle.decode(lines, stream, letterless_kib=letterless_kib)
    number = {offset: position for position, offset in enumerate(given_.offsets.tolist())}
    schema = [*decoded.records.columns[:-3], "message", "index"]
    found = decoded.records.with_columns(message=pl.col("offset").replace_strict(number, return_dtype=pl.Int64))
    assert found.select(schema).rows() == [tuple(one[name] for name in schema) for one in expected.records]
    rejected = decoded.rejected.select("offset", "index", "reason").rows()
    assert [(number[offset], index) for offset, index, _ in rejected] == [one[:2] for one in expected.rejected]
    for (_, _, reason), (_, _, start) in zip(rejected, expected.rejected, strict=True):
        assert start in reason
    assert sum(decoded.unknown_fields.values()) == expected.unknown.total()
    by_message = [0] * len(lines) if decoded.unknown_by_message is None else decoded.unknown_by_message.tolist()
    assert by_message == [expected.unknown_of[number] for number in range(len(lines))]


@given(payloads(), st.integers(1, 12))
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_how_messages_are_cut_into_batches_changes_nothing(payload: tuple[str, list[bytes]], cut: int) -> None:
    stream, lines = payload
    decoder, options = named(stream).decode, DecodeOptions(labels=True)
    whole = decoder(messages(lines), options)
    first, second = (decoder(messages(part), options) for part in (lines[:cut], lines[cut:]))
    shift = sum(len(line) + 1 for line in lines[:cut])
    moved = pl.col("offset") + shift
    joined = pl.concat([first.records, second.records.with_columns(moved)])
    rejected = pl.concat([first.rejected, second.rejected.with_columns(moved)])
    assert joined.equals(whole.records)
    assert rejected.equals(whole.rejected)


@given(payloads(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_order_of_messages_changes_nothing(payload: tuple[str, list[bytes]], random: Any) -> None:
    stream, lines = payload
    shuffled = random.sample(lines, len(lines))
    decoder, options = named(stream).decode, DecodeOptions()
    one, other = decoder(messages(lines), options), decoder(messages(shuffled), options)
    without = [name for name in one.records.columns if name != "offset"]
    assert sorted(map(repr, one.records.select(without).rows())) == sorted(
        map(repr, other.records.select(without).rows())
    )
    assert sorted(one.rejected["reason"]) == sorted(other.rejected["reason"])
    assert one.unknown_fields == other.unknown_fields


@pytest.mark.parametrize("stream", OWN)
def test_the_oracle_reads_sound_records(stream: str) -> None:
    lines = [json.dumps(BASE[stream]).encode()] * 3
    expected = oracle.decode(lines, stream)
    assert (len(expected.records), expected.rejected) == (3, [])
