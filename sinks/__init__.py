"""Where the tape is kept: the sink's process and the history that is read back from it."""

from sinks.history import History, open_history
from sinks.lines import has_caught_up

__all__ = ["History", "has_caught_up", "open_history"]
