"""The records of the wire as frozen classes; columns are numpy arrays, one value a row.

Field names, order and meaning are those of ``schemas/<Class>.avsc``, where each is documented.
Times are int64 nanoseconds since the epoch, UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Bar",
    "BarBlock",
    "BarColumns",
    "Command",
    "Coverage",
    "DataRequest",
    "DerivedColumns",
    "Floats",
    "Frame",
    "Halt",
    "Ints",
    "Longs",
    "Minutes",
    "Quote",
    "QuoteBlock",
    "QuoteColumns",
    "RawPosition",
    "Record",
    "Tick",
    "TickBlock",
    "TickColumns",
    "empty_floats",
    "empty_ints",
    "empty_longs",
]

Ints: TypeAlias = NDArray[np.int32]
Longs: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


def empty_ints() -> Ints:
    """Return an int32 column without rows."""
    return np.empty(0, np.int32)


def empty_longs() -> Longs:
    """Return an int64 column without rows."""
    return np.empty(0, np.int64)


def empty_floats() -> Floats:
    """Return a float64 column without rows."""
    return np.empty(0, np.float64)


class Record:
    """Base of what the codec writes and reads."""

    __slots__ = ()
    columns: ClassVar[tuple[str, ...]] = ()
    """Names of the fields that are columns of one length, ``ts_ns`` among them."""


class _Columnar(Record):
    """Part shared by every record whose rows stand in columns."""

    __slots__ = ()
    ts_ns: Longs

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ts_ns)

    def take(self, index: Any) -> Self:
        """Return the rows at ``index`` (positions, mask or slice) in that order, a copy or view."""
        changed = {name: _taken(getattr(self, name), index) for name in self.columns}
        kept = {
            f.name: getattr(self, f.name)
            for f in fields(self)  # type: ignore[arg-type]
            if f.name not in changed
        }
        return type(self)(**kept, **changed)


def _taken(column: NDArray[Any], index: Any) -> NDArray[Any]:
    """Return the values at ``index``; one value for all rows stays one."""
    if column.strides == (0,) and len(column) and isinstance(index, np.ndarray):
        rows = int(np.count_nonzero(index)) if index.dtype == np.bool_ else len(index)
        return np.broadcast_to(column[:1], rows)
    found: NDArray[Any] = column[index]
    return found


@dataclass(frozen=True, slots=True)
class Bar(Record):
    """One bar in a message of its own."""

    symbol: str
    ts_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    interval: str = "1m"
    source: str = ""
    revision: int = 0
    run: str = ""


@dataclass(frozen=True, slots=True)
class Quote(Record):
    """One best bid and ask in a message of its own."""

    symbol: str
    ts_ns: int
    bid: float
    bid_size: float
    ask: float
    ask_size: float
    sequence: int = 0
    source: str = ""
    revision: int = 0
    run: str = ""


@dataclass(frozen=True, slots=True)
class Tick(Record):
    """One trade in a message of its own."""

    symbol: str
    ts_ns: int
    price: float
    size: float
    conditions: str = ""
    sequence: int = 0
    source: str = ""
    revision: int = 0
    run: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class BarBlock(_Columnar):
    """Many bars of one shard, as a source sends them."""

    columns: ClassVar[tuple[str, ...]] = (
        *("symbol", "ts_ns", "interval_ns"),
        *("open", "high", "low", "close", "volume", "revision"),
    )
    symbols: tuple[str, ...]
    symbol: Ints
    ts_ns: Longs
    interval_ns: Longs
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    revision: Ints
    run: str = ""
    request: str = ""
    block: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class QuoteBlock(_Columnar):
    """Many quotes of one shard, as a source sends them."""

    columns: ClassVar[tuple[str, ...]] = (
        *("symbol", "ts_ns", "bid", "bid_size", "ask", "ask_size", "sequence", "revision"),
    )
    symbols: tuple[str, ...]
    symbol: Ints
    ts_ns: Longs
    bid: Floats
    bid_size: Floats
    ask: Floats
    ask_size: Floats
    sequence: Longs
    revision: Ints
    run: str = ""
    request: str = ""
    block: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class TickBlock(_Columnar):
    """Many ticks of one shard, as a source sends them."""

    columns: ClassVar[tuple[str, ...]] = (
        *("symbol", "ts_ns", "price", "size", "condition", "sequence", "revision"),
    )
    symbols: tuple[str, ...]
    symbol: Ints
    ts_ns: Longs
    price: Floats
    size: Floats
    condition: Ints
    sequence: Longs
    revision: Ints
    conditions: tuple[str, ...] = ()
    run: str = ""
    request: str = ""
    block: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Minutes(_Columnar):
    """Runs of expected minutes of one session, each with what is known of it."""

    columns: ClassVar[tuple[str, ...]] = (
        *("symbol", "ts_ns", "end_ns", "status", "attempt", "request"),
    )
    symbols: tuple[str, ...]
    symbol: Ints
    ts_ns: Longs
    end_ns: Longs
    status: Ints
    attempt: Ints
    request: Ints
    session: str = ""
    loaded: bool = False
    requests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Coverage(Record):
    """A source has sent all it has of some symbols over [start_ns, end_ns) of ready time."""

    symbols: tuple[str, ...]
    start_ns: int
    end_ns: int
    answer: str = "rows"
    blocks: int = 0
    rows: int = 0
    run: str = ""
    request: str = ""
    source: str = ""
    gaps: Minutes | None = None
    final: bool = False


@dataclass(frozen=True, slots=True)
class Halt(Record):
    """Trading of some symbols is halted from ts_ns on, or goes on."""

    symbols: tuple[str, ...]
    ts_ns: int
    halted: bool
    reason: str = ""
    source: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class DataRequest(Record):
    """Asks a source for the rows with start_ns <= ts_ns < end_ns."""

    id: str
    run: str
    kind: str
    streams: tuple[str, ...]
    symbols: tuple[str, ...]
    start_ns: int
    end_ns: int
    session: str
    shard: int
    interval: str = "1m"
    attempt: int = 1
    reason: str = ""
    gaps: Minutes | None = None


@dataclass(frozen=True, slots=True)
class Command(Record):
    """The whole desired state of a namespace."""

    version: int
    action: str
    run: str
    mode: str
    calendar: str
    start: str
    end: str
    symbols: tuple[str, ...]
    streams: tuple[str, ...]
    anchor_wall_ns: int
    anchor_clock_ns: int = 0
    hours: str = "regular"
    interval: str = "1m"
    speed: float = 0.0
    paused: bool = False
    stopped: bool = False
    session_timeout_s: float = 60.0
    on_timeout: str = "go_on"
    prefetch_sessions: int = 1
    trailing_sessions: int = 5
    readers: tuple[str, ...] = ()
    upkeep: bool = False
    derived: tuple[str, ...] = ()
    historical: tuple[str, ...] = ()
    lockstep: tuple[str, ...] = ()
    lockstep_timeout_s: float = 10.0
    lateness_s: float = 2.0
    catchup_threshold_s: float = 30.0


@dataclass(frozen=True, slots=True)
class RawPosition(Record):
    """Position of a shard in a raw partition: looked at before ``taken``, needed from ``keep``."""

    topic: str
    partition: int
    taken: int
    keep: int


@dataclass(frozen=True, slots=True, eq=False)
class BarColumns(_Columnar):
    """Bars of a frame, in order."""

    columns: ClassVar[tuple[str, ...]] = (
        *("row", "symbol", "ts_ns", "interval_ns"),
        *("open", "high", "low", "close", "volume", "source", "revision"),
    )
    row: Ints
    symbol: Ints
    ts_ns: Longs
    interval_ns: Longs
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    source: Ints
    revision: Ints


@dataclass(frozen=True, slots=True, eq=False)
class QuoteColumns(_Columnar):
    """Quotes of a frame, in order."""

    columns: ClassVar[tuple[str, ...]] = (
        *("row", "symbol", "ts_ns", "bid", "bid_size", "ask", "ask_size", "source", "revision"),
        "sequence",
    )
    row: Ints
    symbol: Ints
    ts_ns: Longs
    bid: Floats
    bid_size: Floats
    ask: Floats
    ask_size: Floats
    source: Ints
    revision: Ints
    sequence: Longs = field(default_factory=empty_longs)

    def __post_init__(self) -> None:
        """Have no numbers where none are given."""
        _without_numbers(self)


@dataclass(frozen=True, slots=True, eq=False)
class TickColumns(_Columnar):
    """Ticks of a frame, in order."""

    columns: ClassVar[tuple[str, ...]] = (
        *("row", "symbol", "ts_ns", "price", "size", "condition", "source", "revision"),
        "sequence",
    )
    row: Ints
    symbol: Ints
    ts_ns: Longs
    price: Floats
    size: Floats
    condition: Ints
    source: Ints
    revision: Ints
    conditions: tuple[str, ...] = ()
    sequence: Longs = field(default_factory=empty_longs)

    def __post_init__(self) -> None:
        """Have no numbers where none are given."""
        _without_numbers(self)


def _without_numbers(rows: QuoteColumns | TickColumns) -> None:
    if len(rows.ts_ns) and not len(rows.sequence):
        none = np.broadcast_to(np.int64(-1), len(rows.ts_ns))
        object.__setattr__(rows, "sequence", none)


@dataclass(frozen=True, slots=True, eq=False)
class DerivedColumns(_Columnar):
    """Derived bars of a frame, in order."""

    columns: ClassVar[tuple[str, ...]] = (
        *("row", "symbol", "ts_ns", "interval_ns"),
        *("open", "high", "low", "close", "volume", "vwap", "count", "quality", "revision"),
        *("before_open", "before_high", "before_low", "before_close", "before_volume"),
    )
    row: Ints
    symbol: Ints
    ts_ns: Longs
    interval_ns: Longs
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    vwap: Floats
    count: Ints
    quality: Floats
    revision: Ints
    before_open: Floats
    before_high: Floats
    before_low: Floats
    before_close: Floats
    before_volume: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Frame(Record):
    """Rows of one shard in order, over an interval of ready time, with the position behind them."""

    run: str
    shard: int
    shards: int
    frame: int
    first_row: int
    rows: int
    clock_ns: int
    event: str
    mode: str
    speed: float
    command: int
    session: str
    open_ns: int
    close_ns: int
    open_offset: int
    state: str = "running"
    incomplete: bool = False
    reason: str = ""
    requested: str = ""
    positions: tuple[RawPosition, ...] = ()
    symbols: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    interval_ns: int = 60_000_000_000
    expected: int = 0
    slice_ns: Longs = field(default_factory=empty_longs)
    slice_rows: Ints = field(default_factory=empty_ints)
    slice_corrections: Ints = field(default_factory=empty_ints)
    slice_expected: Ints = field(default_factory=empty_ints)
    slice_received: Ints = field(default_factory=empty_ints)
    slice_no_trade: Ints = field(default_factory=empty_ints)
    slice_missing: Ints = field(default_factory=empty_ints)
    bars: BarColumns | None = None
    quotes: QuoteColumns | None = None
    ticks: TickColumns | None = None
    waiting: bool = False
    prefetched: bool = False
    minutes: Minutes | None = None
    derived: DerivedColumns | None = None
    left_out: tuple[str, ...] = ()
    catching_up: bool = False
