-- The records of each submission: results are matched with them. Deflated JSON, erased with the batch.
CREATE TABLE orders (
    submission TEXT NOT NULL PRIMARY KEY,
    body BYTEA NOT NULL
);

-- Costs are millionths of the vendor's unit.
ALTER TABLE batches RENAME COLUMN charged TO charged_millionths;
ALTER TABLE batches RENAME COLUMN refunded TO refunded_millionths;
UPDATE batches SET charged_millionths = charged_millionths * 1000000 WHERE charged_millionths IS NOT NULL;
UPDATE batches SET refunded_millionths = refunded_millionths * 1000000 WHERE refunded_millionths IS NOT NULL;

-- Since when the vendor calls the batch completed, and results are missing or match no record.
ALTER TABLE batches ADD COLUMN incomplete_since BIGINT;
-- How often in a row the vendor did not know the batch, and when that was last counted.
ALTER TABLE batches ADD COLUMN misses BIGINT NOT NULL DEFAULT 0;
ALTER TABLE batches ADD COLUMN missed_at BIGINT;

-- What was not final was fetched for every reader; now it is followed, and read once more.
UPDATE batches SET incomplete_since = COALESCE(retrieved_at, first_seen_at), next_poll_at = first_seen_at
WHERE status = 'completed' AND complete = 0 AND erased_at IS NULL;
