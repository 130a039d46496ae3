"""The records of the wire and the codec that writes and reads them."""

from schemas.codec import Codec, Registry, schema_of
from schemas.records import (
    Bar,
    BarBlock,
    BarColumns,
    Command,
    Coverage,
    DataRequest,
    Frame,
    Quote,
    QuoteBlock,
    QuoteColumns,
    RawPosition,
    Record,
    Tick,
    TickBlock,
    TickColumns,
)

__all__ = [
    "Bar",
    "BarBlock",
    "BarColumns",
    "Codec",
    "Command",
    "Coverage",
    "DataRequest",
    "Frame",
    "Quote",
    "QuoteBlock",
    "QuoteColumns",
    "RawPosition",
    "Record",
    "Registry",
    "Tick",
    "TickBlock",
    "TickColumns",
    "schema_of",
]
