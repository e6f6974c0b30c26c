"""Objects in an S3 bucket, or in what speaks its protocol (the extra `s3`).

Three things of S3 carry the guarantees of lake and registry: an object appears whole or not at all; what was written is
what the next reader sees; and a write can be refused because the object is there already, or is no longer the one that
was read. Not every server can do the last (conditional writes): each is tried once, before it is relied on.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hackwatch.config import StorageSettings
from hackwatch.errors import ConfigurationError, ResourceError

if TYPE_CHECKING:
    from obstore.store import S3Store

__all__ = ["Bucket", "explained", "is_remote", "storage_options"]

SCHEME = "s3://"
#: Options that are of the connection and not of S3; the libraries want them apart.
_OF_CLIENT = frozenset(
    {
        "allow_http", "allow_invalid_certificates", "connect_timeout", "http1_only", "http2_only",
        "pool_idle_timeout", "pool_max_idle_per_host", "proxy_ca_certificate", "proxy_excludes", "proxy_url",
        "timeout", "user_agent",
    }
)  # fmt: skip
#: What other libraries take from the environment by themselves, and what not all of them do.
_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "access_key_id",
    "AWS_SECRET_ACCESS_KEY": "secret_access_key",
    "AWS_SESSION_TOKEN": "session_token",
    "AWS_DEFAULT_REGION": "region",
    "AWS_REGION": "region",
    "AWS_ENDPOINT_URL": "endpoint",
    "AWS_ENDPOINT_URL_S3": "endpoint",
    "AWS_ALLOW_HTTP": "allow_http",
}
_KEYS = ("access_key_id", "secret_access_key", "session_token")
#: The engine tries again by itself, and shows that it waits: a library that does so for minutes would hide it.
_RETRIES, _RETRY_SECONDS = 3, 15
_DEFAULTS = {"region": "us-east-1", "connect_timeout": "5s", "timeout": "30s"}
#: Servers (and buckets) that were seen to refuse a second writer.
_PROVEN: set[tuple[str | None, str]] = set()
_ANSWER = re.compile(r"<Code>(.*?)</Code>\s*<Message>(.*?)</Message>", re.DOTALL)
_ADVICE = {
    "NoSuchBucket": "make the bucket, or correct its name in the settings",
    "InvalidBucketName": "correct the bucket's name in the settings",
}
_CREDENTIALS = (
    "give the keys of this server: access_key_id and secret_access_key (or secret_access_key_env) in [lake.storage], "
    "or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; and let them read, write, list and delete there"
)
_REACH = "check that the server runs, and endpoint, region and allow_http in [lake.storage]"


def is_remote(location: str | os.PathLike[str]) -> bool:
    """Whether a place is in a bucket and not in a folder."""
    return str(location).startswith(SCHEME)


def storage_options(storage: StorageSettings, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The options as the libraries want them, secrets included: settings before `AWS_...` variables before defaults.

    Keys of another identity are not mixed in: with an access key in the settings those of the environment count for
    nothing.
    """
    given = dict(storage.options)
    for name, value in (
        ("endpoint", storage.endpoint),
        ("region", storage.region),
        ("access_key_id", storage.access_key_id),
        ("secret_access_key", storage.secret_access_key),
        ("session_token", storage.session_token),
    ):
        if value is not None:
            given[name] = value if isinstance(value, str) else value.get_secret_value()
    if storage.allow_http is not None:
        given["allow_http"] = str(storage.allow_http).lower()
    inherited = {
        _ENVIRONMENT[name]: value
        for name, value in (os.environ if environ is None else environ).items()
        if name in _ENVIRONMENT and value and not ("access_key_id" in given and _ENVIRONMENT[name] in _KEYS)
    }
    return {**_DEFAULTS, **inherited, **given}


class Bucket:
    """The objects under `s3://BUCKET/PREFIX`, by keys below it; safe to use from several threads.

    All raise ResourceError when the server cannot be reached, the bucket is missing or the keys are refused.
    `tag` is what a reader got to know an object by (its ETag).
    """

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        self.url, self.options = url.rstrip("/"), dict(options)
        self._store = _open(self.url, self.options)

    def child(self, name: str) -> Bucket:
        """The objects under one more name."""
        return Bucket(f"{self.url}/{name}", self.options)

    def read(self, key: str) -> bytes | None:
        """The whole object; None if there is none."""
        found = self.read_tagged(key)
        return None if found is None else found[0]

    def read_tagged(self, key: str) -> tuple[bytes, str] | None:
        """The whole object and its tag; None if there is none."""
        import obstore

        with self._explained(key):
            try:
                found = obstore.get(self._store, key)
                return bytes(found.bytes()), str(found.meta["e_tag"])
            except FileNotFoundError as error:
                self._absent(error)
                return None

    def tag(self, key: str) -> str | None:
        """The tag of an object, without reading it; None if there is none."""
        import obstore

        with self._explained(key):
            try:
                return str(obstore.head(self._store, key)["e_tag"])
            except FileNotFoundError:
                return None

    def write(self, key: str, data: bytes | memoryview | Path) -> None:
        """Write an object or replace it; a large file goes in parts, and appears when all are there."""
        import obstore

        with self._explained(key):
            obstore.put(self._store, key, data)

    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one; False if another writer was faster.

        A request whose answer was lost is sent again, and then finds its own object there: that is no other writer.
        So `data` must be like no other writer's.
        """
        return self._put_if(key, data, "create")

    def replace(self, key: str, data: bytes, tag: str | None) -> bool:
        """Replace the object that has the tag (None: there is none); False if it is no longer that one."""
        return self._put_if(key, data, "create" if tag is None else {"e_tag": tag})

    def _put_if(self, key: str, data: bytes, mode: Any) -> bool:
        self.prove()
        return self._put(key, data, mode) or self.read(key) == data

    def _put(self, key: str, data: bytes, mode: Any) -> bool:
        """Write if the condition holds; False if it does not."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._explained(key):
            try:
                obstore.put(self._store, key, data, mode=mode, use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return False
            return True

    def prove(self, *, again: bool = False) -> None:
        """See, once in a process, that the server refuses a second writer. ResourceError if it does not."""
        place = (self.options.get("endpoint"), self.url.removeprefix(SCHEME).partition("/")[0])
        if place in _PROVEN and not again:
            return
        key = f".hackwatch-{uuid.uuid4().hex}"
        first = self._put(key, b"first", "create")
        second = self._put(key, b"second", "create") or self._put(key, b"third", {"e_tag": '"none-such"'})
        if not first or second:
            with suppress(ResourceError):
                self.delete([key])
            raise ResourceError(
                "S3: the server lets one writer overwrite another: it does not know conditional writes",
                where=self.url,
                next_step="use a server that does (If-None-Match and If-Match of PutObject), or a folder",
            )
        self.delete([key])
        _PROVEN.add(place)

    def keys(self, prefix: str = "") -> list[str]:
        """All keys below a prefix (whole names, as folders have), sorted."""
        import obstore

        with self._explained(prefix):
            return sorted(item["path"] for item in obstore.list(self._store, prefix or None).collect())

    def holds(self, prefix: str, ending: str) -> bool:
        """Whether one of the first keys below a prefix (a thousand) ends so; one question, however many there are."""
        import obstore

        with self._explained(prefix):
            first = next(iter(obstore.list(self._store, prefix, chunk_size=1000)), ())
            return any(item["path"].endswith(ending) for item in first)

    def folders(self, prefix: str = "") -> list[str]:
        """The names of what has keys of its own below a prefix."""
        import obstore

        with self._explained(prefix):
            found = obstore.list_with_delimiter(self._store, prefix or None)["common_prefixes"]
            return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in found)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are not there are no error."""
        import obstore

        for key in keys:
            with self._explained(key):
                try:
                    obstore.delete(self._store, key)
                except FileNotFoundError as error:
                    self._absent(error)

    def check(self) -> None:
        """Ask the server for anything at all: raises what stands in the way."""
        self.folders()

    def _absent(self, error: FileNotFoundError) -> None:
        """Nothing, if the object is missing; the error, if it is the bucket or the user that is missing."""
        answer = _ANSWER.search(str(error))
        if answer is not None and answer[1] != "NoSuchKey":
            raise error

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, FileNotFoundError, NotImplementedError) as error:
            raise explained(error, f"{self.url}/{key}".rstrip("/")) from error


def explained(error: Exception, where: str) -> ResourceError:
    """What a library said of a server, in one line, with advice."""
    text = str(error)
    answer = _ANSWER.search(text)
    if answer is not None:
        code, what = answer[1], f"{answer[2].strip().rstrip('.')} ({answer[1]})"
        refused = re.search(r"status code: 40[13]", text) is not None or "User" in code or "Access" in code
        advice = _ADVICE.get(code, _CREDENTIALS if refused else _REACH)
    elif "169.254." in text or "credential" in text.lower():
        what, advice = "no keys were given, and this machine has none of its own", _CREDENTIALS
    elif status := re.search(r"status code: (40[13])", text):
        what, advice = f"the server refused ({status[1]})", _CREDENTIALS
    else:
        what, advice = "the server cannot be reached", _REACH
        if causes := re.findall(
            r"status code: \d+ [\w ]+|\w*(?:timed out|builder error|refused|dns error)[^\n\"]*", text
        ):
            what += f": {causes[-1].strip()}"
    return ResourceError(f"S3: {what}", where=where, next_step=advice)


def _open(url: str, options: Mapping[str, str]) -> S3Store:
    try:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store
    except ImportError as error:
        raise ResourceError(
            "lake and models on S3 need the extra `s3`", where=url, next_step="pip install 'hackwatch[s3]'"
        ) from error
    client: Any = {name: value for name, value in options.items() if name in _OF_CLIENT}
    config: Any = {name: value for name, value in options.items() if name not in _OF_CLIENT}
    retry: Any = {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)}
    try:
        return S3Store.from_url(url, config=config, client_options=client, retry_config=retry)
    except (BaseError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"the storage cannot be opened: {str(error).splitlines()[0]}",
            where=url,
            next_step="correct [lake.storage]; `options` takes the names of object_store's S3 client",
        ) from error
