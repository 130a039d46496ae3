"""What subscribers use: the merged tape and the replica of the session."""

from streams.client.batch import Batch, Position, Slice
from streams.client.data import SessionData, get_session_data, reset_session_data
from streams.client.flags import Flags
from streams.client.history import recorded
from streams.client.past import History, Trailing
from streams.client.reader import Reader
from streams.client.rows import BarRow, QuoteRow, TickRow
from streams.client.stream import SessionStream

__all__ = [
    "BarRow",
    "Batch",
    "Flags",
    "History",
    "Position",
    "QuoteRow",
    "Reader",
    "SessionData",
    "SessionStream",
    "Slice",
    "TickRow",
    "Trailing",
    "get_session_data",
    "recorded",
    "reset_session_data",
]
