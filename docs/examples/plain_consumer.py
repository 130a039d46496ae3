"""The digest of a run with no line of sessiontape: plain_consumer.py BROKERS NAMESPACE SCHEMA."""

import hashlib
import io
import sys

import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from fastavro import schemaless_reader
from fastavro.schema import load_schema

brokers, topic, schema = sys.argv[1], f"{sys.argv[2]}.session", load_schema(sys.argv[3])
settings = {"group.id": "plain", "isolation.level": "read_committed"}
consumer = Consumer({"bootstrap.servers": brokers, **settings})
shards = consumer.list_topics(topic, 10).topics[topic].partitions
consumer.assign([TopicPartition(topic, shard, OFFSET_BEGINNING) for shard in shards])
values = dict.fromkeys(("open", "high", "low", "close", "volume"), "<f8")
types = {"symbol": "<i4", "interval_ns": "<i8", "ts_ns": "<i8", **values, "revision": "<i4"}
sessions, running, digest = {}, set(shards), hashlib.sha256()
while running:
    message = consumer.poll(1.0)
    if message is None or message.error():
        continue
    frame = schemaless_reader(io.BytesIO(message.value()[10:]), schema)  # behind the fingerprint
    running -= {frame["shard"]} if frame["event"] == "end" else set()
    rows = sessions.setdefault(frame["session"] if frame["event"] != "roll" else "", {})
    if frame["bars"]:
        columns = [np.frombuffer(frame["bars"][name], kind) for name, kind in types.items()]
        columns = [np.resize(c, len(columns[2])).tolist() for c in columns]  # one value for all
        for symbol, length, ts, *row, revision in zip(*columns, strict=True):
            key = (ts + length, length, frame["symbols"][symbol])  # ready time first
            if revision >= rows.get(key, [0])[-1]:
                rows[key] = [length, ts, *row, revision]
for session, rows in sorted(sessions.items())[1:]:  # the first is that of start and end
    names = sorted({symbol for _, _, symbol in rows})
    digest.update(f"{session}\nbars\n{chr(10).join(names)}\n\n".encode())
    table = [(names.index(key[2]), *row[:-1]) for key, row in sorted(rows.items())]
    for column, kind in zip(zip(*table, strict=True), types.values(), strict=False):
        digest.update(np.array(column, kind).tobytes())
print(digest.hexdigest())
