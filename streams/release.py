"""What goes out of a shard in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.records import DataRequest, Frame
from streams.arrival import Rejection

__all__ = ["RELEASE_ROWS", "Release"]

RELEASE_ROWS = 65_536
"""Rows of one transaction, about: enough for its cost not to count, few enough to flow."""


@dataclass(frozen=True, slots=True)
class Release:
    """What goes out in one transaction.

    Attributes
    ----------
    frames
        Frames of the session topic, in order.
    requests
        Questions to the sources.
    rejections
        Messages and rows that could not be taken.
    keep
        By raw topic the first offset that is still needed once this is committed.
    warnings
        What people are to be told.
    """

    frames: tuple[Frame, ...]
    requests: tuple[DataRequest, ...]
    rejections: tuple[Rejection, ...]
    keep: Mapping[str, int]
    warnings: tuple[str, ...] = ()
