"""Where the tape is kept: the sink's process and the history that is read back from it."""

from sinks.history import History, open_history

__all__ = ["History", "open_history"]
