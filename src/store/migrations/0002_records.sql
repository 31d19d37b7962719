-- The records of each submission: results are matched with them. Deflated JSON, erased with the batch.
CREATE TABLE orders (
    submission TEXT NOT NULL PRIMARY KEY,
    body BYTEA NOT NULL
);

-- Costs in millionths of the vendor's unit. The columns of whole units stay for the batches that have them, so that
-- replicas of version 0.1 go on and no row is rewritten.
ALTER TABLE batches ADD COLUMN charged_millionths BIGINT;
ALTER TABLE batches ADD COLUMN refunded_millionths BIGINT;

-- Since when the batch has ended without being final: results are missing or match no record.
ALTER TABLE batches ADD COLUMN incomplete_since BIGINT;
-- How often in a row the vendor did not know the batch, and when that was last counted.
ALTER TABLE batches ADD COLUMN misses BIGINT NOT NULL DEFAULT 0;
ALTER TABLE batches ADD COLUMN missed_at BIGINT;

-- A completed batch without all of its results was fetched for every reader; now it is followed. One that was read
-- more than a day before the store's newest batch was seen is final as it stands.
UPDATE batches SET
    incomplete_since = COALESCE(retrieved_at, first_seen_at),
    next_poll_at = CASE WHEN COALESCE(retrieved_at, first_seen_at)
                             >= (SELECT MAX(newest.first_seen_at) FROM batches newest) - 86400000
                        THEN first_seen_at END
WHERE status = 'completed' AND complete = 0 AND erased_at IS NULL;
