"""Two runs compared: by digest, and where both tapes can be read, row by row."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from streams.client import Batch, SessionStream
from streams.digest import Digest
from streams.errors import ConfigError
from streams.settings import NAMESPACE, Settings

__all__ = ["Difference", "RunDigest", "Verdict", "compare"]

KEYS = ("session", "ts_ns", "symbol", "interval_ns")
VALUES = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True)
class RunDigest:
    """A run and what it comes to.

    Attributes
    ----------
    name
        As it was asked for.
    run
        Its id.
    digest, digest_as_known
        See ``streams.digest``.
    bars
        Rows that the digest is over.
    """

    name: str
    run: str
    digest: str
    digest_as_known: str
    bars: int


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place at which two tapes differ; a ``field`` of ``bar`` means that one has none."""

    session: str
    ts_ns: int
    symbol: str
    field: str
    a: float | None
    b: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Two runs, whether they are equal, and where not, if that can be seen."""

    a: RunDigest
    b: RunDigest
    equal: bool
    equal_as_known: bool
    first: Difference | None


def compare(settings: Settings, a: str, b: str) -> Verdict:
    """Compare two runs, each a namespace, ``namespace/run``, or the JSON file of a replay.

    A namespace alone means its last run. A tape keeps its trailing sessions only; the rows of two
    tapes are compared over the sessions that both still have.

    Raises
    ------
    ConfigError
        One of them is none, or there is no such run.
    SessiontapeError
        A tape can't be read.
    """
    one, two = _Tape.of(settings, a), _Tape.of(settings, b)
    equal = one.digest.digest == two.digest.digest
    first = None
    if not equal and one.rows is not None and two.rows is not None:
        first = _first_difference(one.rows, two.rows)
    as_known = one.digest.digest_as_known == two.digest.digest_as_known
    return Verdict(one.digest, two.digest, equal, as_known, first)


@dataclass(frozen=True, slots=True)
class _Tape:
    digest: RunDigest
    rows: pd.DataFrame | None

    @classmethod
    def of(cls, settings: Settings, name: str) -> _Tape:
        if Path(name).is_file():
            return cls(_from_file(Path(name)), None)
        namespace, _, run = name.partition("/")
        if not NAMESPACE.fullmatch(namespace):
            msg = f"{name} is no file that is there, no namespace and no namespace/run"
            raise ConfigError(msg)
        return _read(settings.but(namespace=namespace), name, run)


def _from_file(path: Path) -> RunDigest:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        bars, run = int(said["bars"]), str(said["run"])
        return RunDigest(str(path), run, str(said["digest"]), str(said["digest_as_known"]), bars)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        msg = f"{path} is not what `sessiontape replay --json` printed: {exc!r}"
        raise ConfigError(msg) from exc


def _read(settings: Settings, name: str, run: str) -> _Tape:
    digests: dict[str, Digest] = {}
    rows: dict[str, list[pd.DataFrame]] = {}
    with SessionStream(settings=settings, start="first", until="idle") as stream:
        for batch in stream.frames():
            if run and batch.run != run:
                continue
            if batch.run not in digests:
                digests[batch.run], rows[batch.run] = Digest(), []
            digests[batch.run].add(batch)
            rows[batch.run] += _frames(batch)
    if not digests:
        what = f"run {run} of namespace" if run else "run in namespace"
        msg = f"there is no {what} {settings.namespace} on its tape any more"
        raise ConfigError(msg)
    last = next(reversed(digests))
    digest = digests[last]
    found = RunDigest(name, last, digest.final(), digest.as_known(), digest.rows)
    return _Tape(found, _final(rows[last]))


def _frames(batch: Batch) -> Iterable[pd.DataFrame]:
    bars = batch.bars
    if bars is None or not len(bars):
        return []
    names = np.array(batch.symbols, object)
    columns: dict[str, Any] = {
        "session": batch.session,
        "ts_ns": bars.ts_ns,
        "symbol": names[bars.symbol],
        "interval_ns": bars.interval_ns,
        "revision": bars.revision,
    }
    return [pd.DataFrame(columns | {name: getattr(bars, name) for name in VALUES})]


def _final(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the final rows: of each (symbol, interval, ts) the highest revision, or the later."""
    if not parts:
        return pd.DataFrame(columns=[*KEYS, *VALUES])
    rows = pd.concat(parts, ignore_index=True)
    rows = rows.sort_values("revision", kind="stable")
    return rows.drop_duplicates(subset=list(KEYS), keep="last").drop(columns="revision")


def _first_difference(a: pd.DataFrame, b: pd.DataFrame) -> Difference | None:
    both = sorted(set(a["session"]) & set(b["session"]))
    a, b = a[a["session"].isin(both)], b[b["session"].isin(both)]
    merged = a.merge(b, how="outer", on=list(KEYS), suffixes=("_a", "_b"), indicator=True)
    merged = merged.sort_values(list(KEYS), kind="stable")
    differs = (merged["_merge"] != "both").to_numpy()
    for name in VALUES:
        differs = differs | (merged[f"{name}_a"] != merged[f"{name}_b"]).to_numpy()
    if not differs.any():
        return None
    row = merged[differs].iloc[0]
    place = (str(row["session"]), int(row["ts_ns"]), str(row["symbol"]))
    if row["_merge"] != "both":
        is_a = row["_merge"] == "left_only"
        close = float(row["close_a" if is_a else "close_b"])
        return Difference(*place, "bar", close if is_a else None, None if is_a else close)
    name = next(n for n in VALUES if row[f"{n}_a"] != row[f"{n}_b"])
    return Difference(*place, name, float(row[f"{name}_a"]), float(row[f"{name}_b"]))
