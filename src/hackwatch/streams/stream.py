"""What a stream is, and the two shapes that its decoder works between: `Messages` in, `Decoded` out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from hackwatch.streams.fields import Field, Option, Truth
from hackwatch.streams.formats import CSV, JSON, LineFormat

__all__ = [
    "POSITION",
    "REJECTED_SCHEMA",
    "DecodeOptions",
    "Decoded",
    "EventFields",
    "Features",
    "Messages",
    "Noun",
    "Stream",
    "microseconds",
]

#: Where a record came from, appended to every decoded frame: topic partition, offset of its message there,
#: and its index within the message (0 unless the message is an array of objects).
POSITION = pl.Schema({"partition": pl.Int32(), "offset": pl.Int64(), "index": pl.Int32()})

#: Rejected messages or records: `raw` is the text as it came (invalid UTF-8 as \\xNN escapes), cut to 64 KiB;
#: `raw_bytes` its true length; `index` null when the whole message is rejected.
REJECTED_SCHEMA = pl.Schema(
    {
        "stream": pl.String(),
        "topic": pl.String(),
        "partition": pl.Int32(),
        "offset": pl.Int64(),
        "index": pl.Int32(),
        "reason": pl.String(),
        "raw": pl.String(),
        "raw_bytes": pl.Int64(),
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class Messages:
    """A run of raw messages of one topic partition, in offset order.

    `payload` holds the messages, each ended by one newline (no message contains a newline).
    `offsets` is the position of each message (int64, increasing; the spool uses byte positions, Kafka counts).
    `next_offset` is where reading goes on. `ends`: where in the payload each message's newline is, if that is known.
    """

    topic: str
    partition: int
    payload: bytes
    offsets: npt.NDArray[np.int64]
    next_offset: int
    ends: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.offsets)


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """What a source says about its messages.

    `key`: name of a message field to keep as column `key` (String, null if absent), for duplicate removal.
    `labels`: keep the truth columns `label` (Int8, null if absent) and `type` (String) of training data.
    `max_message_bytes`: longer messages are rejected.
    `formats`: names of the line formats that messages are tried against which are not JSON, in this order; empty: all
    that the stream declares, in its order. `own`: names of the stream's own options that are on.
    """

    key: str | None = None
    labels: bool = False
    max_message_bytes: int = 1 << 20
    formats: tuple[str, ...] = ()
    own: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What became of some messages: normalised records, rejected ones, and what was ignored.

    `records`: the stream's `schema` + POSITION columns (+ `key`, `label`, `type` if asked), in offset order.
    `rejected`: REJECTED_SCHEMA. `messages` = number of messages in.
    Every message is an object (1 record), an array (n records; an empty one is 1 rejected), or rejected:
    records_in = len(records) + len(rejected).
    `unknown_fields`: how often each unknown field occurred. `unknown_by_message`: how many of them each message had
    (int64, one for each message); None if there were none.
    """

    records: pl.DataFrame
    rejected: pl.DataFrame
    messages: int
    unknown_fields: Mapping[str, int] = field(default_factory=dict)
    unknown_by_message: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Features:
    """Which normalised columns a model may look at.

    `numeric` as they are, `log` through log1p of the magnitude with the sign kept, `categorical` by vocabulary
    and frequency learned in training, `limited` likewise with a vocabulary of so many categories at most, all others
    being one. `text` by its character n-grams, hashed into a fixed number of columns: for what is hardly ever the same
    twice, such as a query. Position, identity and time are never features.
    """

    numeric: tuple[str, ...]
    log: tuple[str, ...]
    categorical: tuple[str, ...]
    text: tuple[str, ...] = ()
    limited: Mapping[str, int] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.numeric, *self.log, *self.categorical, *self.limited, *self.text)


@dataclass(frozen=True, slots=True)
class Noun:
    """What people call an entity: one, and several of them."""

    singular: str
    plural: str

    def count(self, number: int) -> str:
        """

        >>> Noun("client", "clients").count(1)
        '1 client'
        """
        return f"{number:,} {self.singular if number == 1 else self.plural}"


@dataclass(frozen=True, slots=True)
class Pace:
    """How recordings of a stream are replayed.

    Each `seconds` an entity sends `least`..`most` new records, and up to `late` more one cycle later. `order`: the
    field that numbers an entity's rows; it is made where a recording lacks it. `entities`: who plays a recording that
    has none.
    """

    seconds: float
    least: int
    most: int
    late: int = 0
    order: str | None = None
    entities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EventFields:
    """Where the columns of a record belong in the event schemas of others.

    `ecs`: column -> dotted field of the Elastic Common Schema ("client" -> "client.ip"). `ocsf`: column -> dotted place
    in an evidence of OCSF's Detection Finding ("client" -> "src_endpoint.ip"). `resource`: OCSF's type of an entity.
    """

    ecs: Mapping[str, str] = field(default_factory=dict)
    ocsf: Mapping[str, str] = field(default_factory=dict)
    resource: str = "Other"


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """One kind of telemetry: its schema, decoder and features.

    `schema`: normalised columns in order, without POSITION; holds `event_time` (Datetime us UTC) and the columns named
    here. `entity`: whom a record is about. `noun`: what people call an entity. `subject`: what an alert names within
    the entity (a program, a path). `identity`: what distinct suspects are counted by. `source`: whose clock stamped a
    record; None: that of its partition. `identifiers`: columns that say who and when, so that no model looks at them.
    `bounded`: texts that files are searched by: their least and greatest values are kept. `units`: unit per column for
    explanations ("bytes", "fraction", "events per interval"). `events`: for exports. `decode(messages, options)` is
    pure, vectorised and never raises on any payload; what it reads is declared on it (`fields`, `formats`, `truth`,
    `options`, as `Decoder` has them). `defaults`: field -> its value in a file whose header lacks it, from the file's
    name (without endings) and the number of the row, from 0. `pace`: how recordings are replayed; None: they are not.

    `hackwatch.streams.checks` says what a complete one has; an incomplete one is refused when it is loaded.
    """

    name: str
    schema: pl.Schema
    entity: str
    noun: Noun
    subject: str
    identity: str
    source: str | None
    identifiers: tuple[str, ...]
    features: Features
    units: Mapping[str, str]
    decode: Callable[[Messages, DecodeOptions], Decoded]
    bounded: tuple[str, ...] = ()
    events: EventFields = field(default_factory=EventFields)
    defaults: Mapping[str, Callable[[str, int], object]] = field(default_factory=dict)
    pace: Pace | None = None

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of its messages; empty if its decoder does not say."""
        return getattr(self.decode, "fields", ())

    @property
    def formats(self) -> tuple[LineFormat, ...]:
        """What its lines may be, in topics and files: JSON and CSV, unless its decoder says otherwise."""
        return getattr(self.decode, "formats", (JSON, CSV))

    @property
    def truth(self) -> Truth | None:
        """The truth that its training data may carry."""
        return getattr(self.decode, "truth", None)

    @property
    def options(self) -> tuple[Option, ...]:
        """Its own decode options."""
        return getattr(self.decode, "options", ())


def microseconds(times: pl.Series) -> npt.NDArray[np.int64]:
    """Times (Datetime us, no nulls) as integers, without a query: `to_physical` is one."""
    return times.to_numpy().view(np.int64)
