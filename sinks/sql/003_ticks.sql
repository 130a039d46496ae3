-- Quotes and ticks of a tape. Each statement may run twice, also from two processes at once;
-- partitions are those of 001.
-- Several rows may have one symbol and time. In the final state each has its place among them, in
-- the order in which the tape had them; a correction takes the place of what it corrects.

-- Final state of quotes: one per (symbol, ts_ns, place), the last one delivered. Read it with FINAL.
CREATE TABLE IF NOT EXISTS quotes
(
    symbol   LowCardinality(String) COMMENT 'Symbol',
    ts_ns    Int64                  COMMENT 'Time of the quote, ns since the epoch, UTC',
    place    Int32                  COMMENT 'Place among the quotes of this symbol and time, from 0',
    bid      Float64                COMMENT 'Best bid price',
    bid_size Float64                COMMENT 'Quantity at the best bid',
    ask      Float64                COMMENT 'Best ask price',
    ask_size Float64                COMMENT 'Quantity at the best ask',
    sequence Int64                  COMMENT 'Number that its source gave it among its rows; -1: none',
    revision Int32                  COMMENT '0 when first delivered, counted up by corrections',
    source   LowCardinality(String) COMMENT 'Source of the row',
    session  LowCardinality(String) COMMENT 'Label of the session it belongs to',
    version  UInt64                 COMMENT 'Order of delivery: generation * 2^44 + row number'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY substring(session, 1, 7)
ORDER BY (symbol, ts_ns, place)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- As known: every quote as it was delivered, corrections beside what they correct.
CREATE TABLE IF NOT EXISTS quotes_as_known
(
    run        LowCardinality(String) COMMENT 'Run that delivered the row',
    shard      Int32                  COMMENT 'Shard of the session topic',
    row_number Int64                  COMMENT 'Number of the row in its shard',
    known_ns   Int64                  COMMENT 'Session clock at which it was delivered, ns since the epoch, UTC',
    symbol     LowCardinality(String) COMMENT 'Symbol',
    ts_ns      Int64                  COMMENT 'Time of the quote, ns since the epoch, UTC',
    place      Int32                  COMMENT 'Place among the quotes of this symbol and time, from 0; a correction has that of what it corrects',
    bid        Float64                COMMENT 'Best bid price',
    bid_size   Float64                COMMENT 'Quantity at the best bid',
    ask        Float64                COMMENT 'Best ask price',
    ask_size   Float64                COMMENT 'Quantity at the best ask',
    sequence   Int64                  COMMENT 'Number that its source gave it among its rows; -1: none',
    revision   Int32                  COMMENT '0 when first delivered, counted up by corrections',
    source     LowCardinality(String) COMMENT 'Source of the row',
    session    LowCardinality(String) COMMENT 'Label of the session it belongs to',
    INDEX times ts_ns TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY substring(session, 1, 7)
ORDER BY (run, shard, row_number)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Final state of ticks: one per (symbol, ts_ns, place), the last one delivered. Read it with FINAL.
CREATE TABLE IF NOT EXISTS ticks
(
    symbol    LowCardinality(String) COMMENT 'Symbol',
    ts_ns     Int64                  COMMENT 'Time of the trade, ns since the epoch, UTC',
    place     Int32                  COMMENT 'Place among the ticks of this symbol and time, from 0',
    price     Float64                COMMENT 'Price of the trade',
    size      Float64                COMMENT 'Quantity of the trade',
    condition LowCardinality(String) COMMENT 'Its condition codes; empty: none',
    sequence  Int64                  COMMENT 'Number that its source gave it among its rows; -1: none',
    revision  Int32                  COMMENT '0 when first delivered, counted up by corrections',
    source    LowCardinality(String) COMMENT 'Source of the row',
    session   LowCardinality(String) COMMENT 'Label of the session it belongs to',
    version   UInt64                 COMMENT 'Order of delivery: generation * 2^44 + row number'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY substring(session, 1, 7)
ORDER BY (symbol, ts_ns, place)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- As known: every tick as it was delivered, corrections beside what they correct.
CREATE TABLE IF NOT EXISTS ticks_as_known
(
    run        LowCardinality(String) COMMENT 'Run that delivered the row',
    shard      Int32                  COMMENT 'Shard of the session topic',
    row_number Int64                  COMMENT 'Number of the row in its shard',
    known_ns   Int64                  COMMENT 'Session clock at which it was delivered, ns since the epoch, UTC',
    symbol     LowCardinality(String) COMMENT 'Symbol',
    ts_ns      Int64                  COMMENT 'Time of the trade, ns since the epoch, UTC',
    place      Int32                  COMMENT 'Place among the ticks of this symbol and time, from 0; a correction has that of what it corrects',
    price      Float64                COMMENT 'Price of the trade',
    size       Float64                COMMENT 'Quantity of the trade',
    condition  LowCardinality(String) COMMENT 'Its condition codes; empty: none',
    sequence   Int64                  COMMENT 'Number that its source gave it among its rows; -1: none',
    revision   Int32                  COMMENT '0 when first delivered, counted up by corrections',
    source     LowCardinality(String) COMMENT 'Source of the row',
    session    LowCardinality(String) COMMENT 'Label of the session it belongs to',
    INDEX times ts_ns TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY substring(session, 1, 7)
ORDER BY (run, shard, row_number)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- How many of the rows of a frame are of which kind.
ALTER TABLE frames ADD COLUMN IF NOT EXISTS quotes Int64 COMMENT 'Quotes in it' AFTER bars;
ALTER TABLE frames ADD COLUMN IF NOT EXISTS ticks Int64 COMMENT 'Ticks in it' AFTER quotes;

-- Sessions by run, as in 002, with their quotes and ticks.
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
    sum(f.quotes) AS quotes,
    sum(f.ticks) AS ticks,
    sum(f.expected) AS expected,
    sum(f.received) AS received,
    sum(f.no_trade) AS no_trade,
    sum(f.missing) AS missing
FROM frames AS f FINAL
WHERE session != ''
GROUP BY run, session;
