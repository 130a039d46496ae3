"""Two runs compared: by digest, and where they differ by session, minute, symbol and field."""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np

from streams.certificate import Cells, Certificate, Certifier, Place
from streams.client import Batch, SessionData, SessionStream
from streams.digest import KINDS, VALUES, Digest
from streams.errors import ConfigError
from streams.finals import corrected
from streams.intervals import MINUTE_NS
from streams.settings import NAMESPACE, Settings

__all__ = ["Difference", "RunDigest", "Verdict", "compare", "save"]

Value: TypeAlias = float | str | None

_FORMAT = 1
_COLUMNS = ("symbol", "minute", "final", "known")
_ONE = {"bars": "bar", "quotes": "quote", "ticks": "tick"}


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
        Bars that the digest is over.
    rows
        Rows that it is over, by kind.
    """

    name: str
    run: str
    digest: str
    digest_as_known: str
    bars: int
    rows: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place at which two runs differ: the first minute, in it the first symbol.

    Attributes
    ----------
    session, symbol, kind
        Of the row.
    ts_ns
        Its time; the start of the minute where nothing more is known.
    field
        The first field that differs. ``bar``, ``quote`` or ``tick``: one run lacks the row;
        ``quotes`` or ``ticks``: it has another number of them at that time; empty: rows of one of
        the runs can't be read.
    a, b
        What the runs have there; of rows that one lacks the close, bid or price; None for none.
    """

    session: str
    ts_ns: int
    symbol: str
    field: str
    a: Value
    b: Value
    kind: str = "bars"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Two runs, whether they are equal, and where not, if that can be seen.

    ``first`` is where their final states differ, ``first_as_known`` where what was known does: also
    where that is when alone.
    """

    a: RunDigest
    b: RunDigest
    equal: bool
    equal_as_known: bool
    first: Difference | None
    first_as_known: Difference | None


def compare(settings: Settings, a: str, b: str) -> Verdict:
    """Compare two runs: a namespace, ``namespace/run``, a file of `save` or the JSON of a replay.

    A namespace alone means its last run. A tape keeps its trailing sessions only; where two runs
    differ is looked for in the sessions that both still have. The JSON of a replay holds digests
    alone: it can't say where. Of a saved run the field is not known, since its rows are not.

    Raises
    ------
    ConfigError
        One of them is none, or there is no such run.
    SessiontapeError
        A tape can't be read.
    """
    one, two = _Side.of(settings, a), _Side.of(settings, b)
    equal = one.digest.digest == two.digest.digest
    as_known = one.digest.digest_as_known == two.digest.digest_as_known
    return Verdict(
        one.digest,
        two.digest,
        equal,
        as_known,
        None if equal else _first(one, two, as_known=False),
        None if as_known else _first(one, two, as_known=True),
    )


def save(settings: Settings, name: str, file: IO[bytes]) -> RunDigest:
    """Write what `compare` needs of a run, its rows left out, into a file; return its digests.

    That is some 20 bytes a minute, symbol and kind.

    Raises
    ------
    ConfigError
        It is none, or there is no such run, or only its digests are known.
    SessiontapeError
        The tape can't be read.
    """
    side = _Side.of(settings, name)
    if side.certificate is None:
        msg = f"{name} holds digests alone: name a namespace or namespace/run to save"
        raise ConfigError(msg)
    cells = [*side.certificate.cells.items()]
    said = {
        "format": _FORMAT,
        **asdict(side.digest),
        "sessions": side.certificate.sessions,
        "cells": [(session, kind, one.symbols) for (session, kind), one in cells],
    }
    arrays = {
        f"{number}.{name}": getattr(one, name)
        for number, (_, one) in enumerate(cells)
        for name in _COLUMNS
    }
    np.savez_compressed(file, said=np.frombuffer(json.dumps(said).encode(), np.uint8), **arrays)
    return side.digest


@dataclass(frozen=True, slots=True)
class _Side:
    """One of two runs; ``tape`` says where its rows can be read."""

    digest: RunDigest
    certificate: Certificate | None = None
    tape: Settings | None = None

    @classmethod
    def of(cls, settings: Settings, name: str) -> _Side:
        path = Path(name)
        if path.is_file():
            return _saved(path) if zipfile.is_zipfile(path) else cls(_replayed(path))
        namespace, _, run = name.partition("/")
        if not NAMESPACE.fullmatch(namespace):
            msg = f"{name} is no file that is there, no namespace and no namespace/run"
            raise ConfigError(msg)
        return _read(settings.but(namespace=namespace), name, run)


def _replayed(path: Path) -> RunDigest:
    try:
        return _digest_of(path, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as exc:
        msg = (
            f"{path} is not what `sessiontape verify --save` or `sessiontape replay --json` "
            f"wrote: {exc!r}"
        )
        raise ConfigError(msg) from exc


def _saved(path: Path) -> _Side:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            said = json.loads(arrays["said"].tobytes())
            if said["format"] != _FORMAT:
                msg = f"{path} has format {said['format']}, this version reads {_FORMAT}: save anew"
                raise ConfigError(msg)
            cells = {
                (session, kind): Cells(
                    tuple(symbols), *(arrays[f"{number}.{name}"] for name in _COLUMNS)
                )
                for number, (session, kind, symbols) in enumerate(said["cells"])
            }
            return _Side(_digest_of(path, said), Certificate(cells, tuple(said["sessions"])))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as exc:
        msg = f"{path} is not what `sessiontape verify --save` wrote: {exc!r}"
        raise ConfigError(msg) from exc


def _digest_of(path: Path, said: Mapping[str, Any]) -> RunDigest:
    run, digest, as_known = (str(said[name]) for name in ("run", "digest", "digest_as_known"))
    bars = int(said["bars"])
    rows = dict(said.get("rows", {"bars": bars}))
    return RunDigest(str(path), run, digest, as_known, bars, rows)


def _batches(settings: Settings) -> Iterator[Batch]:
    """Give all that the tape of a namespace still has."""
    with SessionStream(
        settings=settings,
        kinds=KINDS,
        start="first",
        until="idle",
        data=SessionData(trailing_sessions=0),
    ) as stream:
        yield from stream.frames()


def _read(settings: Settings, name: str, run: str) -> _Side:
    """Read a run of a namespace, its last where none is named."""
    found: dict[str, tuple[Digest, Certifier]] = {}
    for batch in _batches(settings):
        if run and batch.run != run:
            continue
        if batch.run not in found:
            # Of a namespace the last run counts: those before it can go.
            found = {batch.run: (Digest(), Certifier())}
        for one in found[batch.run]:
            one.add(batch)
    if not found:
        what = f"run {run} of namespace" if run else "run in namespace"
        msg = f"there is no {what} {settings.namespace} on its tape any more"
        raise ConfigError(msg)
    ((last, (digest, certifier)),) = found.items()
    counts = dict(digest.counts)
    said = RunDigest(name, last, digest.final(), digest.as_known(), counts["bars"], counts)
    return _Side(said, certifier.certificate(), settings)


class _Row(NamedTuple):
    """A row of a place: key and values by name, in the order in which they are compared.

    ``said`` are source, sequence (-1: none) and revision.
    """

    ts_ns: int
    values: Mapping[str, Value]
    is_late: bool
    known_ns: int
    said: tuple[str, int, int]

    @property
    def revision(self) -> int:
        return self.said[2]

    @property
    def as_known(self) -> Mapping[str, Value]:
        more = {"known_ns": self.known_ns, "revision": self.revision}
        return {"ts_ns": self.ts_ns, **self.values, **more}


def _first(one: _Side, two: _Side, *, as_known: bool) -> Difference | None:
    if one.certificate is None or two.certificate is None:
        return None
    place = one.certificate.first(two.certificate, as_known=as_known)
    if place is None:
        return None
    nothing = Difference(place.session, place.minute_ns, place.symbol, "", None, None, place.kind)
    if one.tape is None or two.tape is None:
        return nothing
    mine = _rows_at(one.tape, one.digest.run, place)
    theirs = _rows_at(two.tape, two.digest.run, place)
    differs = _known_differs if as_known else _final_differs
    return differs(place, mine, theirs) or nothing


def _rows_at(settings: Settings, run: str, place: Place) -> list[_Row]:
    """Return the rows of a place, as they were delivered."""
    found: list[_Row] = []
    names = [*(("interval_ns",) if place.kind == "bars" else ()), *VALUES[place.kind]]
    for batch in _batches(settings):
        if (batch.run, batch.session) != (run, place.session):
            continue
        columns = getattr(batch, place.kind)
        if columns is None or place.symbol not in batch.symbols:
            continue
        is_there = columns.symbol == batch.symbols.index(place.symbol)
        is_there &= columns.ts_ns // MINUTE_NS * MINUTE_NS == place.minute_ns
        late, known = batch.late(place.kind), batch.known_ns(place.kind)
        for at in np.flatnonzero(is_there).tolist():
            values: dict[str, Value] = {name: getattr(columns, name)[at].item() for name in names}
            if place.kind == "ticks":
                values["condition"] = (*columns.conditions, "")[columns.condition[at]]
            is_late = late is not None and bool(late[at])
            sequence = -1 if place.kind == "bars" else int(columns.sequence[at])
            source = batch.sources[columns.source[at]]
            said = (source, sequence, int(columns.revision[at]))
            found.append(_Row(int(columns.ts_ns[at]), values, is_late, int(known[at]), said))
    return found


def _known_differs(place: Place, a: Sequence[_Row], b: Sequence[_Row]) -> Difference | None:
    """Return where two lists of rows as delivered differ."""
    for mine, theirs in zip_longest(a, b):
        if mine is None or theirs is None:
            return _lacks(place, mine, theirs)
        name = _field(mine.as_known, theirs.as_known)
        if name:
            return _difference(place, mine.ts_ns, name, mine.as_known[name], theirs.as_known[name])
    return None


def _final_differs(place: Place, a: Sequence[_Row], b: Sequence[_Row]) -> Difference | None:
    """Return where the final states of two lists of rows differ."""
    both = [_final_bars(rows) if place.kind == "bars" else _final_points(rows) for rows in (a, b)]
    for key in sorted({*both[0], *both[1]}):
        mine, theirs = (side.get(key, []) for side in both)
        if place.kind == "bars":
            one, other = mine[0] if mine else None, theirs[0] if theirs else None
            if one is None or other is None:
                return _lacks(place, one, other)
            left, right = [one], [other]
        else:
            # What both have, as often as both have it, does not tell them apart.
            left, right = _but(mine, theirs), _but(theirs, mine)
            if len(mine) != len(theirs):
                return _difference(place, key[0], place.kind, len(mine), len(theirs))
        for one, other in zip(left, right, strict=True):
            name = _field(one.values, other.values)
            if name:
                return _difference(place, one.ts_ns, name, one.values[name], other.values[name])
    return None


def _final_bars(rows: Sequence[_Row]) -> dict[tuple[int, ...], list[_Row]]:
    """Return the bars that stand by (ts, interval)."""
    found: dict[tuple[int, ...], list[_Row]] = {}
    for row in sorted(rows, key=lambda row: row.revision):  # of equal ones the later
        found[row.ts_ns, int(row.values["interval_ns"] or 0)] = [row]
    return found


def _final_points(rows: Sequence[_Row]) -> dict[tuple[int, ...], list[_Row]]:
    """Return the quotes or ticks that stand by (ts,): see ``finals.corrected``."""
    found: dict[tuple[int, ...], list[_Row]] = {}
    for row in rows:
        held = found.setdefault((row.ts_ns,), [])
        is_revised = row.is_late and row.revision > 0
        at = corrected([one.said for one in held], row.said) if is_revised else len(held)
        held[at : at + 1] = [row]
    return found


def _but(rows: Sequence[_Row], others: Sequence[_Row]) -> list[_Row]:
    """Return the rows that are not among others, as often as they are more, by their values."""
    counts = Counter(tuple(row.values.values()) for row in others)
    found = []
    for row in sorted(rows, key=lambda row: [*map(str, row.values.values())]):
        values = tuple(row.values.values())
        if counts[values]:
            counts[values] -= 1
        else:
            found.append(row)
    return found


def _field(a: Mapping[str, Value], b: Mapping[str, Value]) -> str:
    return next((name for name, value in a.items() if value != b[name]), "")


def _lacks(place: Place, mine: _Row | None, theirs: _Row | None) -> Difference:
    there = mine or theirs
    ts_ns = place.minute_ns if there is None else there.ts_ns
    name = {"bars": "close", "quotes": "bid", "ticks": "price"}[place.kind]
    a, b = (None if row is None else row.values[name] for row in (mine, theirs))
    return _difference(place, ts_ns, _ONE[place.kind], a, b)


def _difference(place: Place, ts_ns: int, name: str, a: Value, b: Value) -> Difference:
    return Difference(place.session, ts_ns, place.symbol, name, a, b, place.kind)
