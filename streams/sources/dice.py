"""Dice that fall the same on every machine: hashes of what is decided, as bits and as shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import xxhash
from numpy.typing import NDArray

from schemas.records import Floats

__all__ = ["ALL_BITS", "Hashes", "keys_of", "mix", "share_of"]

Hashes: TypeAlias = NDArray[np.uint64]

ALL_BITS = 2**64 - 1


def keys_of(seed: int, symbols: Sequence[str]) -> Hashes:
    """Return a hash of each symbol under a seed."""
    return np.array([xxhash.xxh3_64_intdigest(s.encode(), seed) for s in symbols], np.uint64)


def mix(value: Hashes) -> Hashes:
    """Return 64 well-mixed bits for each value (SplitMix64, Steele et al. 2014)."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def share_of(bits: Hashes) -> Floats:
    """Return numbers in [0, 1) from the upper 53 bits."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
