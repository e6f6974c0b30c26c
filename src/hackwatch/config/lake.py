"""The settings of the lake, and of the S3 server that lake and models may live on."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from hackwatch.config.table import Location, Table

__all__ = ["LakeSettings", "StorageSettings", "folder_or_bucket"]

_SECRET = re.compile(r"secret|token$|password|customer_key")
# Libraries do not agree on how other characters of a prefix are written in a request.
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*/?")


def folder_or_bucket(value: str | None) -> str | None:
    """The value, if it names a folder or a place in a bucket."""
    if value is not None and not value:
        raise ValueError("must name a folder, or s3://BUCKET/PREFIX")
    if value is not None and "://" in value and not _BUCKET.fullmatch(value):
        raise ValueError(
            "must be a folder, or s3://BUCKET/PREFIX: a bucket in lower case, and letters, digits, dots, - and _"
        )
    return value


class StorageSettings(Table):
    """The S3 server of all `s3://` places here; what is not set comes from the usual `AWS_...` variables."""

    endpoint: str | None = Field(
        None,
        examples=["https://s3.example.org:9000"],
        description="Address of the server, if it is not Amazon's (`AWS_ENDPOINT_URL`).",
    )
    region: str | None = Field(
        None, examples=["eu-central-1"], description="Region of the bucket (`AWS_REGION`). Default `us-east-1`."
    )
    allow_http: bool | None = Field(
        None, examples=[False], description="Whether an endpoint without TLS will do (`AWS_ALLOW_HTTP`)."
    )
    access_key_id: str | None = Field(
        None, examples=["AKIAIOSFODNN7EXAMPLE"], description="Whose keys they are (`AWS_ACCESS_KEY_ID`)."
    )
    secret_access_key: SecretStr | None = Field(
        None, description="The secret key (`AWS_SECRET_ACCESS_KEY`); better `secret_access_key_file`."
    )
    secret_access_key_file: Path | None = Field(None, description="File that holds the secret key.")
    secret_access_key_env: str | None = Field(
        None, examples=["SOC_SECRET"], description="Environment variable that holds the secret key."
    )
    session_token: SecretStr | None = Field(
        None, description="The token of temporary keys (`AWS_SESSION_TOKEN`); better `session_token_file`."
    )
    session_token_file: Path | None = Field(None, description="File that holds the token.")
    session_token_env: str | None = Field(
        None, examples=["SOC_SECRET"], description="Environment variable that holds the token."
    )
    options: dict[str, str] = Field(
        {},
        examples=[{"virtual_hosted_style_request": "true"}],
        description="More options, by the names of object_store's S3 client (such as `timeout`, `proxy_url`).",
    )

    @field_validator("options")
    @classmethod
    def _no_secrets(cls, value: dict[str, str]) -> dict[str, str]:
        """Options are shown: what must not be has settings of its own."""
        for name in value:
            if _SECRET.search(name.lower()):
                raise ValueError(f"{name} is a secret: give secret_access_key or session_token, by _file or _env")
        return value


class LakeSettings(Table):
    """The Delta Lake tables."""

    path: Location | None = Field(
        None,
        examples=["/var/lib/hackwatch/lake"],
        description="Folder of the tables, or `s3://BUCKET/PREFIX`. Without one: `lake` under the data folder.",
    )
    target_file_mib: int = Field(128, ge=1, description="Size of the files that compaction makes, MiB.")
    compact_minutes: float = Field(10.0, ge=0, description="Time between two compactions, minutes; 0 turns it off.")
    retention_hours: float = Field(
        168.0, ge=0, description="Vacuum deletes files that the tables no longer use after this time, hours."
    )
    storage: StorageSettings = StorageSettings()

    @field_validator("path")
    @classmethod
    def _known_place(cls, value: str | None) -> str | None:
        return folder_or_bucket(value)
