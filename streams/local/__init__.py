"""The stack on one machine: a real Kafka broker and the processes around it."""

from __future__ import annotations

from streams.local.broker import LocalBroker

__all__ = ["LocalBroker"]
