"""What a market takes: workers, partitions, brokers, network and disk, from measured figures. Pure.

The arithmetic is told in docs/scale.md, and its table of figures is that of `FIGURES`. A plan is a
place to begin: the figures are of a shared machine of two cores, on which every process of the
tape ran at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from streams.errors import ConfigError
from streams.intervals import MINUTE_NS, SECOND_NS

__all__ = ["FIGURES", "Figure", "Load", "Plan", "plan"]

MACHINE = "2 shared cores of an AMD EPYC, 24 GiB"
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured.

    Attributes
    ----------
    value, unit
        The figure.
    of
        What it is of, and how it was seen.
    load
        Load of the machine meanwhile; 0 where it plays no part.
    on
        The day.
    machine
        The machine.
    """

    value: float
    unit: str
    of: str
    load: float
    on: date
    machine: str = MACHINE


_BARS = "500 symbols x 10 sessions replayed, CPU of the process by its bars"
_TICKS = "6 million ticks of a Parquet file replayed, CPU of the process by its ticks"
_LOAD_BARS, _LOAD_TICKS = 1.4, 8.0
_ON = date(2026, 11, 26)

FIGURES: Mapping[str, Figure] = {
    "bar.producer": Figure(0.55, "µs", _BARS, _LOAD_BARS, _ON),
    "bar.coordinator": Figure(0.69, "µs", _BARS, _LOAD_BARS, _ON),
    "bar.upkeep": Figure(0.45, "µs", f"{_BARS}, 5m and 15m derived", _LOAD_BARS, _ON),
    "bar.tables": Figure(0.49, "µs", _BARS, _LOAD_BARS, _ON),
    "bar.sink": Figure(1.20, "µs", "500 symbols x 5 sessions into chDB", 2.2, date(2026, 11, 23)),
    "bar.broker": Figure(1.63, "µs", f"{_BARS}, upkeep on, one replica", _LOAD_BARS, _ON),
    "bar.reader": Figure(0.56, "µs", f"{_BARS}, SessionData and digest", _LOAD_BARS, _ON),
    "tick.producer": Figure(1.3, "µs", _TICKS, _LOAD_TICKS, _ON),
    "tick.coordinator": Figure(1.0, "µs", _TICKS, _LOAD_TICKS, _ON),
    "tick.upkeep": Figure(0.6, "µs", "not measured: taken as the tables'", 0.0, _ON),
    "tick.tables": Figure(0.6, "µs", _TICKS, _LOAD_TICKS, _ON),
    "tick.sink": Figure(
        2.7, "µs", "2 million ticks into chDB in process, merges on (decision 22)", 0.0, _ON
    ),
    "tick.broker": Figure(2.2, "µs", f"{_TICKS}, one replica", _LOAD_TICKS, _ON),
    "tick.reader": Figure(0.9, "µs", _TICKS, _LOAD_TICKS, _ON),
    "bar.raw": Figure(52.0, "bytes", "a bar in a block of a raw topic", 0.0, _ON),
    "bar.tape": Figure(
        61.0, "bytes", "a bar in a live frame: one slice, and its symbols' names", 0.0, _ON
    ),
    "tick.raw": Figure(40.5, "bytes", "a tick in a block of 1,000 of 500 symbols", 0.0, _ON),
    "tick.tape": Figure(
        48.2, "bytes", "a tick in a frame of 1,000, numbered, a slice a tick", 0.0, _ON
    ),
    "bar.store": Figure(
        47.2, "bytes", "a bar in ClickHouse, merged: 22.7 final, 24.5 as known", 0.0, _ON
    ),
    "tick.store": Figure(
        42.0, "bytes", "a tick in ClickHouse: 18 final, 24 as known (decision 22)", 0.0, _ON
    ),
}
"""What a row costs: CPU by worker, bytes by place."""

WORKERS = ("producer", "coordinator", "tables", "upkeep", "sink")


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be carried.

    Attributes
    ----------
    symbols
        Number of symbols; each has a bar an interval.
    interval_ns
        Length of the bars.
    ticks_per_s
        Ticks a second over all symbols, at their busiest.
    ticks_per_day
        Ticks of a session; 0: as many as if it went at ``ticks_per_s`` all day.
    session_s
        Length of a session.
    sessions
        Sessions that ClickHouse keeps.
    trailing, prefetch
        Sessions that the tape keeps behind the running one, and is ahead on the raw topics.
    replicas
        Replicas of the topics.
    readers
        Subscribers that read all of it.
    burst_s
        Within how long the bars of a minute are to be out.
    busy
        Share of a core, of a broker and of a disk that is planned to be in use.
    broker_cores
        Cores of a broker.
    has_sink
        Whether it is stored in ClickHouse.
    """

    symbols: int
    interval_ns: int = MINUTE_NS
    ticks_per_s: float = 0.0
    ticks_per_day: float = 0.0
    session_s: float = 390 * 60.0
    sessions: int = 5
    trailing: int = 5
    prefetch: int = 2
    replicas: int = 3
    readers: int = 1
    burst_s: float = 1.0
    busy: float = 0.5
    broker_cores: int = 8
    has_sink: bool = True

    def __post_init__(self) -> None:
        """Refuse what can't be.

        Raises
        ------
        ConfigError
            A number that makes no sense; the message names it.
        """
        least = {
            "symbols": 1,
            "interval_ns": SECOND_NS,
            "sessions": 1,
            "replicas": 1,
            "broker_cores": 1,
        }
        for name, bound in least.items():
            if getattr(self, name) < bound:
                msg = f"a plan needs {name} of at least {bound}, not {getattr(self, name)}"
                raise ConfigError(msg)
        for name in ("ticks_per_s", "ticks_per_day", "trailing", "prefetch", "readers"):
            if not 0 <= getattr(self, name) < math.inf:
                msg = f"a plan needs {name} of 0 or more, not {getattr(self, name)}"
                raise ConfigError(msg)
        if not 0 < self.busy <= 1 or self.burst_s <= 0 or not 0 < self.session_s <= DAY_S:
            msg = (
                "a plan needs busy above 0 up to 1, burst_s above 0, and a session of a day at most"
            )
            raise ConfigError(msg)

    @property
    def bars_per_s(self) -> float:
        """Bars a second while those of an interval go out."""
        return self.symbols / min(self.burst_s, self.interval_ns / SECOND_NS)

    @property
    def bars_per_day(self) -> float:
        """Bars of a session."""
        return self.symbols * math.ceil(self.session_s * SECOND_NS / self.interval_ns)

    @property
    def all_ticks(self) -> float:
        """Ticks of a session."""
        return self.ticks_per_day or self.ticks_per_s * self.session_s


@dataclass(frozen=True, slots=True)
class Plan:
    """What it takes.

    Attributes
    ----------
    namespaces
        Tapes that the symbols are divided over, a power of two: one sink reads a whole tape, and
        so does a reader.
    partitions
        Shards of each namespace, a power of two.
    workers
        Processes of all namespaces by kind, each with one core at most.
    cores
        Cores in use by kind at the busiest, the brokers' with all replicas.
    brokers
        Brokers.
    network_mb_s
        MB a second at the brokers at the busiest: ``in`` from clients, ``replicas`` among them,
        ``out`` to clients.
    day_gb
        GB of a session: ``raw`` and ``tape`` on the wire, ``store`` on ClickHouse's disk.
    disk_gb
        GB of disk: ``brokers`` over all replicas, ``clickhouse`` for one replica.
    limits
        What the plan runs into, in sentences.
    """

    namespaces: int
    partitions: int
    workers: dict[str, int]
    cores: dict[str, float]
    brokers: int
    network_mb_s: dict[str, float]
    day_gb: dict[str, float]
    disk_gb: dict[str, float]
    limits: list[str] = field(default_factory=list)


def plan(load: Load) -> Plan:
    """Return what a load takes."""
    wanted = [name for name in WORKERS if name != "sink" or load.has_sink]
    cores = {name: _rate(load, name) / 1e6 for name in wanted}
    reader = _rate(load, "reader") / 1e6
    whole = max(cores.get("sink", 0.0), reader if load.readers else 0.0)
    namespaces = _power(whole / load.busy)
    each = {name: _count(used / namespaces / load.busy) for name, used in cores.items()}
    if load.has_sink:
        each["sink"] = 1
    partitions = _power(max(each["coordinator"], each["tables"], each["upkeep"], each["producer"]))
    raw, tape = _rate(load, "raw"), _rate(load, "tape")
    broker = _rate(load, "broker") / 1e6 * load.replicas
    tape_readers = len(wanted) - 2 + load.readers  # all but the producer and the coordinator
    day = {name: _day(load, name) / 1e9 for name in ("raw", "tape", "store")}
    kept = (day["raw"] * (1 + load.prefetch) + day["tape"] * (1 + load.trailing)) * load.replicas
    return Plan(
        namespaces=namespaces,
        partitions=partitions,
        workers={name: count * namespaces for name, count in each.items()},
        cores={**cores, "reader": reader, "brokers": broker},
        brokers=max(_count(broker / load.busy / load.broker_cores), load.replicas),
        network_mb_s={
            "in": (raw + tape) / 1e6,
            "replicas": (raw + tape) * (load.replicas - 1) / 1e6,
            "out": (raw + tape * tape_readers) / 1e6,
        },
        day_gb=day if load.has_sink else day | {"store": 0.0},
        disk_gb={
            "brokers": kept / load.busy,
            "clickhouse": day["store"] * load.sessions / load.busy if load.has_sink else 0.0,
        },
        limits=_limits(load, namespaces, cores, reader),
    )


def _limits(load: Load, namespaces: int, cores: Mapping[str, float], reader: float) -> list[str]:
    found = []
    if namespaces > 1:
        what = "sink" if cores.get("sink", 0.0) >= reader else "reader"
        most = max(cores.get("sink", 0.0), reader)
        found.append(
            f"one {what} reads a whole tape and would need {most:.1f} cores: the symbols are "
            f"divided over {namespaces} namespaces"
        )
    if namespaces > load.symbols:
        found.append("there are more namespaces than symbols: it can't be divided so far")
    return found


def _rate(load: Load, of: str) -> float:
    """Return the bars and ticks of a second, at their busiest, each by what it costs."""
    bar, tick = FIGURES[f"bar.{of}"].value, FIGURES[f"tick.{of}"].value
    return load.bars_per_s * bar + load.ticks_per_s * tick


def _day(load: Load, of: str) -> float:
    bar, tick = FIGURES[f"bar.{of}"].value, FIGURES[f"tick.{of}"].value
    return load.bars_per_day * bar + load.all_ticks * tick


def _count(share: float) -> int:
    return max(math.ceil(share), 1)


def _power(share: float) -> int:
    """Return the least power of two that is not below."""
    return int(1 << (_count(share) - 1).bit_length())
