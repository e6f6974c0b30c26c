"""The settings of the store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, model_validator

from hackwatch.config.address import is_server, parted
from hackwatch.config.table import Location, Table

__all__ = ["StoreSettings"]


class StoreSettings(Table):
    """The database of windows, alerts and checkpoints."""

    url: Location | None = Field(
        None,
        examples=["postgresql://hackwatch@db.example.org/hackwatch"],
        description="SQLite file, `sqlite:PATH`, or `postgresql://USER@HOST:PORT/DATABASE` (extra `postgres`) to share "
        "one. Without one: `store.sqlite` under the data folder.",
    )
    password: SecretStr | None = Field(
        None, description="Password of the PostgreSQL user; better `password_file`. Without any: what libpq finds."
    )
    password_file: Path | None = Field(None, description="File that holds the password.")
    password_env: str | None = Field(
        None, examples=["STORE_PASSWORD"], description="Environment variable that holds the password."
    )
    retention_days: float = Field(
        90.0, gt=0, description="Final windows, alerts and sent messages older than this are deleted, days."
    )

    @model_validator(mode="before")
    @classmethod
    def _password_apart(cls, values: Any) -> Any:
        """A password within the address is kept with the secrets, so that the address can be shown."""
        url = values.get("url") if isinstance(values, Mapping) else None
        if not isinstance(url, str) or not is_server(url):
            if isinstance(url, str) and "://" in url and not url.startswith("sqlite:"):
                raise ValueError("url must be a path, sqlite:PATH or postgresql://USER@HOST/DATABASE")
            return values
        shown, password = parted(url)
        if password is not None and values.get("password") is not None:
            raise ValueError("give the password once: within url, or as password, password_file or password_env")
        if "sslpassword=" in url:
            raise ValueError("a passphrase of the client's key (sslpassword) is not supported: use a key without one")
        return {**values, "url": shown, **({} if password is None else {"password": password})}
