"""``python -m bench [NAME …]``: run measurements and print them as JSON."""

from __future__ import annotations

import json
import sys
from functools import partial

from bench import run

if __name__ == "__main__":
    result = run(sys.argv[1:], partial(print, file=sys.stderr))
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
