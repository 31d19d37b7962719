-- Times are milliseconds since 1970 in UTC; 0 and 1 are no and yes; documents are deflated JSON.

CREATE TABLE submissions (
    id TEXT NOT NULL PRIMARY KEY,
    client TEXT NOT NULL,
    -- SHA-256 of the idempotency key; null once the key is free again.
    key_hash TEXT,
    provider TEXT NOT NULL,
    -- SHA-256 of the request; empty once it is erased.
    fingerprint TEXT NOT NULL,
    records BIGINT NOT NULL,
    reference TEXT,
    custom_ids BYTEA,
    state TEXT NOT NULL,
    -- Counts those who took the submission on: each step must show it.
    attempt BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    batch_id TEXT,
    answer BYTEA,
    code TEXT,
    created_at BIGINT NOT NULL,
    sent_at BIGINT,
    state_since BIGINT NOT NULL,
    resolved_by TEXT,
    -- How often a submission in doubt was looked up at the vendor, and when it is to be looked up next.
    looks BIGINT NOT NULL,
    -- How often the vendor did not have it when it was looked up.
    misses BIGINT NOT NULL,
    next_look_at BIGINT NOT NULL
);

CREATE UNIQUE INDEX submissions_key ON submissions (client, key_hash);
CREATE INDEX submissions_batch ON submissions (provider, batch_id);
CREATE INDEX submissions_state ON submissions (state, provider);
CREATE INDEX submissions_created ON submissions (created_at);
CREATE INDEX submissions_key_age ON submissions (state, state_since) WHERE key_hash IS NOT NULL;
CREATE INDEX submissions_unaccepted ON submissions (provider, state_since) WHERE state <> 'accepted';

CREATE TABLE batches (
    provider TEXT NOT NULL,
    id TEXT NOT NULL,
    submission TEXT,
    client TEXT,
    reference TEXT,
    records BIGINT,
    status TEXT NOT NULL,
    done BIGINT NOT NULL,
    complete BIGINT NOT NULL,
    document BYTEA,
    summary BYTEA,
    -- How many results the document has.
    results BIGINT,
    charged BIGINT,
    refunded BIGINT,
    submitted_at BIGINT,
    first_seen_at BIGINT NOT NULL,
    -- The submission, else the first sight: the order of lists, and its day in UTC for usage.
    sort_at BIGINT NOT NULL,
    day TEXT NOT NULL,
    retrieved_at BIGINT,
    -- Null when nobody follows the batch.
    next_poll_at BIGINT,
    -- A hint came since the last poll began.
    hinted BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    polls BIGINT NOT NULL,
    erased_at BIGINT,
    PRIMARY KEY (provider, id)
);

CREATE INDEX batches_due ON batches (next_poll_at) WHERE next_poll_at IS NOT NULL;
CREATE INDEX batches_sort ON batches (sort_at, provider, id);
CREATE INDEX batches_day ON batches (day);
CREATE INDEX batches_ended ON batches (retrieved_at) WHERE done = 1;
CREATE INDEX batches_erased ON batches (erased_at) WHERE erased_at IS NOT NULL;

-- One row for each vendor whose calls are counted: locking it makes the count exact.
CREATE TABLE quotas (
    provider TEXT NOT NULL PRIMARY KEY
);

CREATE TABLE calls (
    provider TEXT NOT NULL,
    called_at BIGINT NOT NULL
);

CREATE INDEX calls_window ON calls (provider, called_at);
CREATE INDEX calls_age ON calls (called_at);
