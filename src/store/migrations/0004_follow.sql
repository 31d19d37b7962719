-- Batches are followed per vendor: what is due at one is found without looking at the others.
CREATE INDEX batches_due_at_vendor ON batches (provider, next_poll_at, id) WHERE next_poll_at IS NOT NULL;
DROP INDEX batches_due;
