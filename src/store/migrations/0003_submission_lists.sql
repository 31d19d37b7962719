-- Lists of submissions, newest first: of all, of one client, in one state, and by the hash of an idempotency key.
DROP INDEX submissions_created;
CREATE INDEX submissions_newest ON submissions (created_at, id);
CREATE INDEX submissions_of_client ON submissions (client, created_at, id);
CREATE INDEX submissions_in_state ON submissions (state, created_at, id);
CREATE INDEX submissions_of_key ON submissions (key_hash) WHERE key_hash IS NOT NULL;
