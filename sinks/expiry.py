"""Sessions that leave the store: by the tape's count, whole partitions where that can be."""

from __future__ import annotations

from sinks.store import Store

__all__ = ["expire"]

_TABLES = (
    *("bars", "bars_as_known", "derived", "derived_as_known", "quotes", "quotes_as_known"),
    *("ticks", "ticks_as_known", "gaps", "minutes", "frames"),
)


def expire(store: Store, sessions_to_keep: int) -> tuple[str, ...]:
    """Drop all but the last ``sessions_to_keep`` (>= 0) sessions; return their labels, sorted.

    The last ones are those that the tape delivered last, whatever their dates: a replay of 2013
    does not expire under its own feet because 2024 was replayed before. Trailing sessions that
    were loaded stand behind all that were delivered, the newest day first.
    """
    found = store.rows(_NEWEST)
    newest = [str(label) for label, _ in found]
    kept = set(newest[:sessions_to_keep])
    if kept:
        # Gaps are told of sessions to come, too, which an earlier run may have delivered.
        now = {"session": newest[0], "run": str(found[0][1])}
        kept |= {str(label) for (label,) in store.rows(_COMING, now)}
    dropped = sorted(set(newest) - kept)
    if not dropped:
        return ()
    months = {label[:7] for label in dropped} - {label[:7] for label in kept}
    left = [label for label in dropped if label[:7] not in months]
    for table in _TABLES:
        for month in sorted(months):
            store.run(f"ALTER TABLE {table} DROP PARTITION {{month:String}}", {"month": month})
        if left:
            # Hidden at once, gone with the next merge, at the latest with the month.
            where = "session IN {labels:Array(String)}"
            store.run(f"DELETE FROM {table} WHERE {where}", {"labels": left})  # noqa: S608
    return tuple(dropped)


# Shard 0 has frames of every session, also of those in which it has no symbols.
_NEWEST = """
SELECT session, argMax(run, (generation, frame)) FROM frames WHERE session != ''
GROUP BY session
ORDER BY max((generation, if(shard = 0 OR frame < 0, greatest(frame, -1), 0))) DESC,
    max(open_ns) DESC
"""
_COMING = """
SELECT DISTINCT session FROM gaps WHERE run = {run:String} AND session > {session:String}
"""
