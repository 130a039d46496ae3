"""Bars as tables of other libraries, where a reader asks for them."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal, TypeAlias

from streams.client.store import Bars
from streams.errors import ConfigError

__all__ = ["As", "converted"]

As: TypeAlias = Literal["numpy", "arrow", "pandas", "polars"]


def converted(rows: Bars, as_: As | str) -> Any:
    """Return rows of `BAR` as a numpy array (as they are), or a table with the same columns.

    A pandas frame has the start of the bar as index ``ts``, UTC.

    Raises
    ------
    ConfigError
        Another name, or that library is not installed.
    """
    if as_ == "numpy":
        return rows
    if as_ not in ("arrow", "pandas", "polars"):
        msg = f"bars come as numpy, arrow, pandas or polars, not {as_!r}"
        raise ConfigError(msg)
    columns = {name: rows[name].copy() for name in rows.dtype.names or ()}
    try:
        if as_ == "arrow":
            return import_module("pyarrow").table(columns)
        if as_ == "polars":
            return import_module("polars").DataFrame(columns)
        pandas = import_module("pandas")
    except ImportError as exc:
        msg = f"bars as {as_} need it installed: pip install {as_.replace('arrow', 'pyarrow')}"
        raise ConfigError(msg) from exc
    index = pandas.to_datetime(columns["ts_ns"], unit="ns", utc=True).rename("ts")
    return pandas.DataFrame(columns, index=index)
