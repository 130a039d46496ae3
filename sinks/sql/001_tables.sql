-- What the sink keeps of a tape. Each statement may run twice, also from two processes at once.
-- Partitions are months of session labels: expiry drops them whole, and a replay of years of few
-- symbols is not cut into thousands of parts (a partition a session: 30 times slower).
-- fsync: a position is committed behind an insert, so the insert must outlive the machine, too.

-- Final state: one bar per (symbol, interval_ns, ts_ns), the last one delivered. Read it with FINAL.
CREATE TABLE IF NOT EXISTS bars
(
    symbol      LowCardinality(String) COMMENT 'Symbol',
    interval_ns Int64                  COMMENT 'Length of the bar, ns',
    ts_ns       Int64                  COMMENT 'Start of the bar, ns since the epoch, UTC',
    open        Float64                COMMENT 'First price of the interval',
    high        Float64                COMMENT 'Highest price of the interval',
    low         Float64                COMMENT 'Lowest price of the interval',
    close       Float64                COMMENT 'Last price of the interval',
    volume      Float64                COMMENT 'Quantity traded in the interval',
    revision    Int32                  COMMENT '0 when first delivered, counted up by corrections',
    source      LowCardinality(String) COMMENT 'Source of the row',
    session     LowCardinality(String) COMMENT 'Label of the session it belongs to',
    version     UInt64                 COMMENT 'Order of delivery: generation * 2^44 + row number'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY substring(session, 1, 7)
ORDER BY (symbol, interval_ns, ts_ns)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- As known: every bar as it was delivered, corrections beside what they correct.
CREATE TABLE IF NOT EXISTS bars_as_known
(
    run         LowCardinality(String) COMMENT 'Run that delivered the row',
    shard       Int32                  COMMENT 'Shard of the session topic',
    row_number  Int64                  COMMENT 'Number of the row in its shard',
    known_ns    Int64                  COMMENT 'Session clock at which it was delivered, ns since the epoch, UTC',
    symbol      LowCardinality(String) COMMENT 'Symbol',
    interval_ns Int64                  COMMENT 'Length of the bar, ns',
    ts_ns       Int64                  COMMENT 'Start of the bar, ns since the epoch, UTC',
    open        Float64                COMMENT 'First price of the interval',
    high        Float64                COMMENT 'Highest price of the interval',
    low         Float64                COMMENT 'Lowest price of the interval',
    close       Float64                COMMENT 'Last price of the interval',
    volume      Float64                COMMENT 'Quantity traded in the interval',
    revision    Int32                  COMMENT '0 when first delivered, counted up by corrections',
    source      LowCardinality(String) COMMENT 'Source of the row',
    session     LowCardinality(String) COMMENT 'Label of the session it belongs to'
)
ENGINE = ReplacingMergeTree
PARTITION BY substring(session, 1, 7)
ORDER BY (run, shard, row_number)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- One row a frame: the position of the sink beside its results, and what the sessions are made of.
CREATE TABLE IF NOT EXISTS frames
(
    run        LowCardinality(String) COMMENT 'Run of the frame',
    shard      Int32                  COMMENT 'Shard of the session topic',
    frame      Int64                  COMMENT 'Number of the frame in its shard',
    offset     Int64                  COMMENT 'Offset of the frame in its partition',
    generation UInt64                 COMMENT 'How often the topic had been read anew from its start',
    event      LowCardinality(String) COMMENT 'start, open, rows, close, roll or end',
    mode       LowCardinality(String) COMMENT 'replay or live',
    session    LowCardinality(String) COMMENT 'Label of the session; empty in start and end',
    open_ns    Int64                  COMMENT 'Open of the session, ns since the epoch, UTC',
    close_ns   Int64                  COMMENT 'Close of the session, ns since the epoch, UTC',
    clock_ns   Int64                  COMMENT 'Session clock after the frame, ns since the epoch, UTC',
    shards     Int32                  COMMENT 'Number of shards of the session topic',
    first_row  Int64                  COMMENT 'Number of its first row in its shard',
    rows       Int64                  COMMENT 'Rows in it, of all kinds',
    bars       Int64                  COMMENT 'Bars in it',
    expected   Int64                  COMMENT 'Bars expected in its slices',
    received   Int64                  COMMENT 'Expected bars that came',
    no_trade   Int64                  COMMENT 'Expected bars that a source vouches do not exist',
    missing    Int64                  COMMENT 'Expected bars that neither came nor are vouched for',
    incomplete Bool                   COMMENT 'Whether the session was played without complete coverage',
    reason     String                 COMMENT 'Why it is incomplete or ended early',
    symbols    Array(String)          COMMENT 'Symbols of the shard; only in the first frame of a session'
)
ENGINE = ReplacingMergeTree(generation)
PARTITION BY substring(session, 1, 7)
ORDER BY (run, shard, frame)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Sessions of the tape, by run.
CREATE VIEW IF NOT EXISTS sessions AS
SELECT
    run,
    session,
    any(f.mode) AS mode,
    min(f.open_ns) AS open_ns,
    max(f.close_ns) AS close_ns,
    max(f.shards) AS shards,
    uniqExactIf(f.shard, f.event = 'close') >= shards AS closed,
    max(f.incomplete) AS incomplete,
    anyIf(f.reason, f.reason != '') AS reason,
    sum(f.rows) AS rows,
    sum(f.bars) AS bars,
    sum(f.expected) AS expected,
    sum(f.received) AS received,
    sum(f.no_trade) AS no_trade,
    sum(f.missing) AS missing
FROM frames AS f FINAL
WHERE session != ''
GROUP BY run, session;
