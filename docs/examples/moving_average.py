"""A moving-average cross-over on one symbol, the same on a replay and live.

python docs/examples/moving_average.py NAMESPACE SYMBOL
"""

import sys

from streams import SessionStream

namespace, symbol = sys.argv[1:3]
is_long = False
with SessionStream(namespace, start="first") as tape:
    for now in tape:  # one slice after the other: everything with one ready time
        closes = tape.data.get_last_n_bars(symbol, 20)["close"]
        if len(closes) == 20 and (closes[-5:].mean() > closes.mean()) != is_long:
            is_long = not is_long
            print(now.session, now.ready_ns, "buy" if is_long else "sell", closes[-1])
    print("bars", tape.data.get_bar_count(symbol))
