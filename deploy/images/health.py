"""The health check of the image: asks the worker's own /health, and says what it says."""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection, HTTPException


def main() -> int:
    """Return 0 where the worker is well, 1 where it is not or does not answer."""
    connection = HTTPConnection("127.0.0.1", int(os.environ["SESSIONTAPE_METRICS_PORT"]), timeout=4)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        sys.stdout.write(answer.read().decode())
    except (OSError, HTTPException) as exc:
        sys.stdout.write(f"no answer: {exc}\n")
        return 1
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
