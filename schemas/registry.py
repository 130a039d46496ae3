"""A Confluent Schema Registry as the codec's ``Registry``, by confluent-kafka's own client."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from schemas.codec import Codec
from streams.errors import ConfigError

__all__ = ["ConfluentRegistry", "codec_for"]

_NOT_THERE = 404


def codec_for(url: str) -> Codec:
    """Return the codec of a setting: Confluent's envelope with ``url``, single-object if empty."""
    return Codec(ConfluentRegistry(url) if url else None)


class ConfluentRegistry:
    """Registers under ``<topic>-<full name>``, as TopicRecordNameStrategy does.

    Parameters
    ----------
    url
        Address of the registry, with ``user:password@`` where it asks for them; ``mock://NAME``
        is one in memory, of this object alone.

    Raises
    ------
    ConfigError
        No such address, or the client is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            from confluent_kafka import schema_registry  # noqa: PLC0415 - an extra
        except ImportError as exc:
            msg = (
                f"SESSIONTAPE_SCHEMA_REGISTRY_URL needs an extra ({exc}): "
                "pip install 'sessiontape[registry]'"
            )
            raise ConfigError(msg) from exc
        self._url = _without_login(url)
        self._make_schema: Callable[..., Any] = schema_registry.Schema
        try:
            self._client: Any = schema_registry.SchemaRegistryClient.new_client({"url": url})
        except Exception as exc:  # noqa: BLE001 - any error means the address is no good
            reason = str(exc).replace(url, self._url)
            msg = f"SESSIONTAPE_SCHEMA_REGISTRY_URL={self._url!r} can't be used: {reason}"
            raise ConfigError(msg) from None  # the client's error holds the password

    def id_of(self, topic: str, schema: Mapping[str, Any]) -> int:
        """Return the id of ``schema`` on ``topic``, registering it if it is new there.

        Raises
        ------
        ConfigError
            The registry refuses it (its own compatibility rules, rights) or can't be reached.
        """
        if not topic:
            msg = "with a schema registry a message needs its topic: encode(record, topic)"
            raise ConfigError(msg)
        subject = f"{topic}-{schema['namespace']}.{schema['name']}"
        wanted = self._make_schema(json.dumps(schema), "AVRO")
        try:
            return int(self._client.register_schema(subject, wanted))
        except Exception as exc:
            msg = f"the schema registry {self._url} does not register {subject}: {exc}"
            raise ConfigError(msg) from exc

    def schema_of(self, schema_id: int) -> Mapping[str, Any]:
        """Return the schema with that id.

        Raises
        ------
        LookupError
            There is none, or it is not an Avro record.
        ConfigError
            The registry can't be asked.
        """
        try:
            found = self._client.get_schema(schema_id)
        except Exception as exc:
            if getattr(exc, "http_status_code", 0) == _NOT_THERE:
                raise LookupError(str(exc)) from exc
            msg = f"the schema registry {self._url} does not give schema {schema_id}: {exc}"
            raise ConfigError(msg) from exc
        try:
            schema = json.loads(found.schema_str)
        except ValueError:
            schema = None
        if not isinstance(schema, dict):
            msg = f"schema {schema_id} is no Avro record"
            raise LookupError(msg)  # noqa: TRY004 - the id is at fault, not our argument
        return cast("dict[str, Any]", schema)


def _without_login(url: str) -> str:
    scheme, _, rest = url.rpartition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if scheme else rest.rpartition("@")[2]
