"""The machine a measurement was made on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import confluent_kafka
import numpy as np
import psutil

__all__ = ["machine"]


def machine() -> dict[str, Any]:
    """Return processor, cores, memory, load and versions, as plain values."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "numpy": np.__version__,
        "librdkafka": confluent_kafka.libversion()[0],
    }


def _processor() -> str:
    """Return the processor's name as Linux has it, else what Python knows."""
    info = Path("/proc/cpuinfo")
    names = info.read_text("utf-8").splitlines() if info.exists() else []
    found = [line.partition(":")[2].strip() for line in names if line.startswith("model name")]
    return found[0] if found else platform.processor()
