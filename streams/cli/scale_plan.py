"""``scale-plan``: what a market takes."""

from __future__ import annotations

from dataclasses import asdict

from streams.cli.options import Json, settings_of
from streams.cli.output import note, print_json, print_table
from streams.intervals import SECOND_NS, interval_ns
from streams.scale import Load, plan

__all__ = ["scale_plan"]


def scale_plan(
    *,
    symbols: int,
    interval: str = "1m",
    ticks_per_s: float = 0.0,
    ticks_per_day: float = 0.0,
    session: str = "390m",
    sessions: int = 5,
    replicas: int = 3,
    readers: int = 1,
    burst: str = "1s",
    busy: float = 0.5,
    broker_cores: int = 8,
    store: bool = True,
    json: Json = False,
) -> int:
    """Say what a market takes, from measured figures: docs/scale.md has the arithmetic.

    Parameters
    ----------
    symbols
        Number of symbols; each has a bar an interval.
    interval
        Length of the bars.
    ticks_per_s
        Ticks a second over all symbols, at their busiest.
    ticks_per_day
        Ticks of a session; 0: at the busiest all day, which is more than any market does.
    session
        Length of a session.
    sessions
        Sessions that ClickHouse keeps.
    replicas
        Replicas of the topics.
    readers
        Subscribers that read all of it.
    burst
        Within how long the bars of an interval are to be out.
    busy
        Share of a core, of a broker and of a disk that may be in use.
    broker_cores
        Cores of a broker.
    store
        Whether it is stored in ClickHouse.
    """
    settings = settings_of()
    load = Load(
        symbols=symbols,
        interval_ns=interval_ns(interval),
        ticks_per_s=ticks_per_s,
        ticks_per_day=ticks_per_day,
        session_s=interval_ns(session) / SECOND_NS,
        sessions=sessions,
        trailing=settings.trailing_sessions,
        prefetch=settings.prefetch_sessions,
        replicas=replicas,
        readers=readers,
        burst_s=interval_ns(burst) / SECOND_NS,
        busy=busy,
        broker_cores=broker_cores,
        has_sink=store,
    )
    found = plan(load)
    if json:
        print_json({"load": asdict(load), "plan": asdict(found)})
        return 0
    rows: list[tuple[str, str]] = [
        ("namespaces", f"{found.namespaces}"),
        ("partitions of each", f"{found.partitions}"),
        *((f"processes: {name}", f"{count}") for name, count in found.workers.items()),
        ("brokers", f"{found.brokers} of {broker_cores} cores"),
        *((f"cores in use: {name}", f"{used:.2f}") for name, used in found.cores.items()),
        *((f"network {way}", f"{mb:,.1f} MB/s") for way, mb in found.network_mb_s.items()),
        *((f"a session: {what}", f"{gb:,.2f} GB") for what, gb in found.day_gb.items()),
        *((f"disk: {where}", f"{gb:,.1f} GB") for where, gb in found.disk_gb.items()),
    ]
    print_table("", ("what", "takes>"), rows)
    for limit in found.limits:
        note(limit)
    return 0
