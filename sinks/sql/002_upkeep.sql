-- What the upkeep adds to a tape: derived bars, the story of gaps, the minutes of sessions.
-- Each statement may run twice, also from two processes at once; partitions are those of 001.

-- Final state of derived bars: one per (symbol, interval_ns, ts_ns). Read it with FINAL.
CREATE TABLE IF NOT EXISTS derived
(
    symbol      LowCardinality(String) COMMENT 'Symbol',
    interval_ns Int64                  COMMENT 'Length of the bars of this interval, ns',
    length_ns   Int64                  COMMENT 'Length of this bar, ns: the last of a session may be cut',
    ts_ns       Int64                  COMMENT 'Start of the bar, ns since the epoch, UTC',
    open        Float64                COMMENT 'First price of the interval',
    high        Float64                COMMENT 'Highest price of the interval',
    low         Float64                COMMENT 'Lowest price of the interval',
    close       Float64                COMMENT 'Last price of the interval',
    volume      Float64                COMMENT 'Quantity traded in the interval',
    vwap        Float64                COMMENT 'Sum of volume * (high + low + close) / 3 over its bars, by their volume; NaN without volume',
    count       Int32                  COMMENT 'Number of bars it is made of',
    quality     Float64                COMMENT 'Bars and no-trade minutes of its expected minutes, in %',
    revision    Int32                  COMMENT '0 when first delivered, counted up by corrections',
    session     LowCardinality(String) COMMENT 'Label of the session it belongs to',
    version     UInt64                 COMMENT 'Order of delivery: generation * 2^44 + row number; 0: a trailing session, not delivered'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY substring(session, 1, 7)
ORDER BY (symbol, interval_ns, ts_ns)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- As known: every derived bar as it was delivered, with what it was before.
CREATE TABLE IF NOT EXISTS derived_as_known
(
    run           LowCardinality(String) COMMENT 'Run that delivered the row',
    interval_ns   Int64                  COMMENT 'Length of the bars of this interval, ns',
    shard         Int32                  COMMENT 'Shard of the topic of the interval',
    row_number    Int64                  COMMENT 'Number of the row in its shard of that topic',
    known_ns      Int64                  COMMENT 'Session clock at which it was delivered, ns since the epoch, UTC',
    symbol        LowCardinality(String) COMMENT 'Symbol',
    length_ns     Int64                  COMMENT 'Length of this bar, ns: the last of a session may be cut',
    ts_ns         Int64                  COMMENT 'Start of the bar, ns since the epoch, UTC',
    open          Float64                COMMENT 'First price of the interval',
    high          Float64                COMMENT 'Highest price of the interval',
    low           Float64                COMMENT 'Lowest price of the interval',
    close         Float64                COMMENT 'Last price of the interval',
    volume        Float64                COMMENT 'Quantity traded in the interval',
    vwap          Float64                COMMENT 'Sum of volume * (high + low + close) / 3 over its bars, by their volume; NaN without volume',
    count         Int32                  COMMENT 'Number of bars it is made of',
    quality       Float64                COMMENT 'Bars and no-trade minutes of its expected minutes, in %',
    revision      Int32                  COMMENT '0 when first delivered, counted up by corrections',
    before_open   Float64                COMMENT 'Its open before this revision; NaN where there was none',
    before_high   Float64                COMMENT 'Its high before this revision; NaN where there was none',
    before_low    Float64                COMMENT 'Its low before this revision; NaN where there was none',
    before_close  Float64                COMMENT 'Its close before this revision; NaN where there was none',
    before_volume Float64                COMMENT 'Its volume before this revision; NaN where there was none',
    session       LowCardinality(String) COMMENT 'Label of the session it belongs to'
)
ENGINE = ReplacingMergeTree
PARTITION BY substring(session, 1, 7)
ORDER BY (run, interval_ns, shard, row_number)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- What became known of runs of minutes: each step of each gap, as the tape told it.
CREATE TABLE IF NOT EXISTS gaps
(
    run      LowCardinality(String) COMMENT 'Run of the frame',
    shard    Int32                  COMMENT 'Shard of the session topic',
    frame    Int64                  COMMENT 'Number of the frame that told it, in its shard',
    number   Int32                  COMMENT 'Place in that frame, from 0',
    event    LowCardinality(String) COMMENT 'Event of that frame; open tells the state of the whole session, again too',
    session  LowCardinality(String) COMMENT 'Label of the session that the minutes belong to',
    symbol   LowCardinality(String) COMMENT 'Symbol',
    start_ns Int64                  COMMENT 'Start of the first minute, ns since the epoch, UTC',
    end_ns   Int64                  COMMENT 'End of the last minute, ns since the epoch, UTC',
    status   LowCardinality(String) COMMENT 'What they are: pending, traded, no_trade, missing, requested, filled, given_up, halted',
    attempt  Int32                  COMMENT 'Number of the last attempt at them, from 1; 0: none',
    request  LowCardinality(String) COMMENT 'Id of the last request for them; empty: none',
    loaded   Bool                   COMMENT 'Whether these are the minutes without a bar when the coverage became complete',
    clock_ns Int64                  COMMENT 'Session clock when it became known, ns since the epoch, UTC'
)
ENGINE = ReplacingMergeTree
PARTITION BY substring(session, 1, 7)
ORDER BY (run, shard, frame, number)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Every expected minute of a session, one row a run, session and symbol. Read it with FINAL.
CREATE TABLE IF NOT EXISTS minutes
(
    run      LowCardinality(String) COMMENT 'Run that played the session',
    session  LowCardinality(String) COMMENT 'Label of the session',
    symbol   LowCardinality(String) COMMENT 'Symbol',
    shard    Int32                  COMMENT 'Shard of the session topic',
    clock_ns Int64                  COMMENT 'Session clock that the row stands at, ns since the epoch, UTC',
    expected Int32                  COMMENT 'Expected minutes that were over then',
    traded   Int32                  COMMENT 'Those with a bar that came of its own accord',
    filled   Int32                  COMMENT 'Those whose bar had been missing',
    no_trade Int32                  COMMENT 'Those that a source vouches have none',
    missing  Int32                  COMMENT 'Those without a bar, asked for or not',
    given_up Int32                  COMMENT 'Those without a bar that nobody asks for any more',
    quality  Float64                COMMENT '(traded + filled + no_trade) / expected, in %; 100 before the first minute',
    statuses String                 COMMENT 'A letter a minute: p pending, t traded, n no_trade, m missing, r requested, f filled, g given_up, h halted; - not expected',
    version  UInt64                 COMMENT 'Order of delivery: generation * 2^44 + frame number'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY substring(session, 1, 7)
ORDER BY (run, session, symbol)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Where the sink stands in the topics beside the session topic, whose positions are in frames, and,
-- as topic minutes, the frame of the session topic up to which minutes are stored.
CREATE TABLE IF NOT EXISTS positions
(
    topic      String                 COMMENT 'Topic, or minutes',
    shard      Int32                  COMMENT 'Its partition',
    offset     Int64                  COMMENT 'Offset of the last frame that is wholly stored',
    frame      Int64                  COMMENT 'Number of that frame',
    run        LowCardinality(String) COMMENT 'Its run',
    generation UInt64                 COMMENT 'How often the topic had been read anew from its start',
    version    UInt64                 COMMENT 'Order of delivery: generation * 2^44 + frame number'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (topic, shard)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Sessions by run. A trailing session that was loaded has frames of event history, whose numbers
-- are below 0: they are rows of it, and never a position on the tape.
CREATE OR REPLACE VIEW sessions AS
SELECT
    run,
    session,
    any(f.mode) AS mode,
    min(f.open_ns) AS open_ns,
    max(f.close_ns) AS close_ns,
    max(f.shards) AS shards,
    uniqExactIf(f.shard, f.event = 'close') >= shards OR countIf(f.event = 'history') > 0 AS closed,
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
