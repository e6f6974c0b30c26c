"""Data folders whose topics are in a real Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hackwatch import topics
from hackwatch.topics import TopicWriter
from hackwatch.topics.kafka.reader import KafkaReader
from tests.engine.processes import Folder
from tests.servers.kafka import Broker

__all__ = ["KafkaFolder"]


@dataclass(frozen=True)
class KafkaFolder(Folder):
    """One data folder; its topics are PREFIX-STREAM."""

    broker: Broker | None = None
    prefix: str = "test"
    _readers: dict[str, KafkaReader] = field(default_factory=dict, compare=False)

    @classmethod
    def on(
        cls, path: Path, broker: Broker, prefix: str, *, models: bool = True, more: str = "", shop: bool = False
    ) -> KafkaFolder:
        made = Folder.make(path, models=models, more=more, shop=shop)
        folder = cls(made.path, made.names, broker=broker, prefix=prefix)
        text = folder.config.read_text()
        for name in folder.names:
            text = text.replace(f"[streams.{name}]\n", f'[streams.{name}]\ntopic = "{folder.url(name)}"\n')
        folder.config.write_text(text)
        return folder

    def url(self, stream: str) -> str:
        assert self.broker is not None
        return self.broker.url(f"{self.prefix}-{stream}")

    @contextmanager
    def writers(self) -> Iterator[dict[str, TopicWriter]]:
        opened = {name: topics.open_writer(self.url(name)) for name in self.names}
        yield opened
        for writer in opened.values():
            writer.close()

    def ends(self) -> dict[tuple[str, int], int]:
        for name in self.names:
            if name not in self._readers:
                reader = topics.open_reader(self.url(name), name="ends")
                assert isinstance(reader, KafkaReader)
                self._readers[name] = reader
            self._readers[name].look()
        return {(name, p): reader.end_offset(p) for name, reader in self._readers.items() for p in reader.partitions()}

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
