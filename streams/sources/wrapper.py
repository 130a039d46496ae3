"""A source that changes what another gives, and is that one for all else."""

from __future__ import annotations

from dataclasses import dataclass

from streams.sources.protocol import Source

__all__ = ["Wrapper"]


@dataclass(frozen=True, slots=True)
class Wrapper:
    """The other source.

    Attributes
    ----------
    source
        Whose rows they are.
    """

    source: Source

    @property
    def name(self) -> str:
        """Name of the other source: the rows are its."""
        return self.source.name

    def symbols(self) -> tuple[str, ...]:
        """Return all symbols of the other source."""
        return self.source.symbols()

    def sessions(self) -> tuple[str, str] | None:
        """Return the first and the last day of the other source."""
        return self.source.sessions()
