-- The whole schema of a dripfeed database, version 1.
--
-- A status that an insert, a claim or a settle has to pass is compared, and not looked up by `IN (…)`: for that SQLite makes a
-- table in memory for each statement, which took as long as the rest of it.
--
-- Times are milliseconds since 1970 (UTC). What is private is in columns whose comment says "sealed": AES-256-GCM under
-- the batch's data key, bound to batch, row and purpose. Statuses are spelled as the API spells them, and CHECKs tie the
-- other columns to them, so that a half-done transition cannot be committed.

-- Who uploads. A client that is removed keeps its row, so that its batches still have an owner; its keys are gone.
CREATE TABLE clients (
    client             INTEGER PRIMARY KEY,
    name               TEXT NOT NULL UNIQUE,
    rows_per_run       INTEGER CHECK (rows_per_run >= 0),      -- NULL: the configured default
    workflows          TEXT,                                   -- JSON: the names of those that it may use; NULL: all
    pending_rows_most  INTEGER CHECK (pending_rows_most >= 0), -- its own quotas; NULL: the configured ones
    stored_bytes_most  INTEGER CHECK (stored_bytes_most >= 0),
    batches_most       INTEGER CHECK (batches_most >= 0),
    uploads_most       INTEGER CHECK (uploads_most >= 0),      -- at once
    paused_at          INTEGER,
    created_at         INTEGER NOT NULL,
    removed_at         INTEGER
) STRICT;

-- What clients come in with. A key that has expired stays to be seen until somebody removes it.
CREATE TABLE client_keys (
    key           INTEGER PRIMARY KEY,
    client        INTEGER NOT NULL REFERENCES clients (client),
    name          TEXT NOT NULL,
    hash          BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),  -- SHA-256 of the key
    old_hash      BLOB UNIQUE CHECK (length(old_hash) = 32),   -- the one before its last rotation,
    old_until     INTEGER,                                     -- which is good until then
    scopes        INTEGER NOT NULL CHECK (scopes BETWEEN 1 AND 7),  -- 1 upload + 2 read + 4 manage
    expires_at    INTEGER,                                     -- NULL: never
    last_used_at  INTEGER,                                     -- within a minute
    created_at    INTEGER NOT NULL,
    UNIQUE (client, name),
    CHECK ((old_hash IS NULL) = (old_until IS NULL))
) STRICT;

-- What each client's batches add up to, so that no quota and no list has to add up thousands of them. Triggers keep it
-- (behind `batches`), in the transaction that changes what is added up.
CREATE TABLE client_totals (
    client      INTEGER PRIMARY KEY REFERENCES clients (client),
    batches     INTEGER NOT NULL DEFAULT 0,
    unfinished  INTEGER NOT NULL DEFAULT 0,                    -- of these batches
    file_bytes  INTEGER NOT NULL DEFAULT 0,
    rows        INTEGER NOT NULL DEFAULT 0,
    pending     INTEGER NOT NULL DEFAULT 0,
    processing  INTEGER NOT NULL DEFAULT 0,
    completed   INTEGER NOT NULL DEFAULT 0,
    failed      INTEGER NOT NULL DEFAULT 0,
    kept_bytes  INTEGER NOT NULL DEFAULT 0,
    saved_bytes INTEGER NOT NULL DEFAULT 0
) STRICT;
-- The few whose rows have saved much.
CREATE INDEX client_totals_saved ON client_totals (client) WHERE saved_bytes > 0;
CREATE TRIGGER clients_added AFTER INSERT ON clients BEGIN
    INSERT INTO client_totals (client) VALUES (new.client);
END;

-- Operators by name, beside the one that the configured token stands for. What they did is told by the audit.
CREATE TABLE operators (
    name        TEXT PRIMARY KEY,
    role        TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    token_hash  BLOB NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Who signed in on the page. A session stands for the key or token that it was opened with, and ends with it.
CREATE TABLE sessions (
    session       INTEGER PRIMARY KEY,                         -- in the order in which they were opened
    session_hash  BLOB NOT NULL UNIQUE CHECK (length(session_hash) = 32),  -- SHA-256 of the cookie's value
    key_hash      BLOB NOT NULL CHECK (length(key_hash) = 32),
    who           TEXT NOT NULL,                               -- as the audit calls them
    origin        TEXT NOT NULL,                               -- the address that it was opened from
    opened_at     INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_by_key ON sessions (key_hash);
CREATE INDEX sessions_by_end ON sessions (expires_at);

-- Who did what: every change that an operator makes, every look at what is masked, who signed in, and what a client ends for
-- good. Never a value of a row. The entries are numbered without a gap, and each holds the one before it by its hash.
CREATE TABLE audit (
    entry    INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    who      TEXT NOT NULL,
    action   TEXT NOT NULL,                                    -- a word like `dispatch.pause`
    target   TEXT,
    origin   TEXT NOT NULL,                                    -- the address it came from, or `command`
    why      TEXT,                                             -- in their words
    hash     BLOB NOT NULL CHECK (length(hash) = 32)           -- SHA-256 of the hash before it and all of the above
) STRICT;
CREATE INDEX audit_by_time ON audit (at);

-- Where that chain begins and ends, so that an entry that is taken out is missed at either end too.
CREATE TABLE audit_chain (
    only          INTEGER PRIMARY KEY CHECK (only = 1),
    removed       INTEGER NOT NULL DEFAULT 0,                  -- entries up to this one went because they were old,
    removed_hash  BLOB NOT NULL DEFAULT (zeroblob(32)) CHECK (length(removed_hash) = 32),
    last          INTEGER NOT NULL DEFAULT 0,                  -- the newest
    last_hash     BLOB NOT NULL DEFAULT (zeroblob(32)) CHECK (length(last_hash) = 32)
) STRICT;
INSERT INTO audit_chain (only) VALUES (1);

-- The Idempotency-Keys of uploads that became a batch, and what they were answered.
CREATE TABLE upload_keys (
    client       INTEGER NOT NULL REFERENCES clients (client),
    path         TEXT NOT NULL,
    key_hash     BLOB NOT NULL CHECK (length(key_hash) = 32),
    fingerprint  BLOB NOT NULL CHECK (length(fingerprint) = 32),  -- keyed, over the inflated file and the context
    batch        INTEGER NOT NULL,
    answer       BLOB NOT NULL,                                -- sealed under the batch's data key
    expires_at   INTEGER NOT NULL,
    PRIMARY KEY (client, path, key_hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX upload_keys_by_batch ON upload_keys (batch);
CREATE INDEX upload_keys_by_end ON upload_keys (expires_at);

-- An upload under way: written before its first byte is stored, gone in the transaction that makes it a batch. What is
-- left here after a crash names the stored file and the skipped lines that belong to nobody.
CREATE TABLE uploads (
    batch       INTEGER PRIMARY KEY AUTOINCREMENT,             -- becomes the batch's key
    id          TEXT NOT NULL UNIQUE,
    owner       INTEGER NOT NULL,
    started_at  INTEGER NOT NULL
) STRICT;

-- The workflows as they were when a batch was accepted, and as they are configured now. A batch keeps its own, whatever the
-- configuration says later, so a definition never changes. What it sends may hold secrets of the configuration, so it is
-- sealed, and known again by a keyed digest; its outline says what lists and commands need that have no key.
CREATE TABLE workflow_versions (
    version     INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT NOT NULL,
    digest      BLOB NOT NULL CHECK (length(digest) = 32),     -- HMAC of the definition
    outline     TEXT NOT NULL,                                 -- JSON: names, dependencies and `repeat` of the steps, in order
    is_current  INTEGER NOT NULL DEFAULT 0 CHECK (is_current IN (0, 1)),  -- uploads become batches of it
    key_id      TEXT NOT NULL REFERENCES ring (key_id),
    sealed      BLOB NOT NULL,                                 -- the definition, under that key of the ring
    created_at  INTEGER NOT NULL,
    UNIQUE (name, digest)
) STRICT;

-- One uploaded CSV. The five counts are for showing; what has to be decided is decided from the rows. That they fit is
-- looked at where they change, and not CHECKed: one that drifted is counted anew, and must stop nothing.
CREATE TABLE batches (
    batch                INTEGER PRIMARY KEY,
    id                   TEXT NOT NULL UNIQUE,
    client               INTEGER NOT NULL REFERENCES clients (client),
    workflow             TEXT NOT NULL,                        -- its name: for lists, and for the same file again
    workflow_version     INTEGER NOT NULL REFERENCES workflow_versions (version),
    status               TEXT NOT NULL CHECK (status = 'queued' OR status IN ('pending', 'processing', 'completed', 'failed', 'cancelled')),
    paused_at            INTEGER,
    paused_reason        TEXT,
    paused_itself        INTEGER NOT NULL DEFAULT 0 CHECK (paused_itself IN (0, 1)),  -- because too many of its rows failed
    paused_missing       INTEGER NOT NULL DEFAULT 0 CHECK (paused_missing IN (0, 1)),  -- by nobody: a dependency is missing
    cancelled_at         INTEGER,                              -- asked for; the status follows when nothing is in flight
    object               TEXT NOT NULL,                        -- the stored file
    file_bytes           INTEGER NOT NULL,
    file_digest          BLOB NOT NULL CHECK (length(file_digest) = 32),  -- keyed: nobody without the keys tells a file by it
    skipped              INTEGER NOT NULL DEFAULT 0,
    kept_bytes           INTEGER NOT NULL DEFAULT 0,           -- of what came with the file: `batch_details`, `skipped`
    saved_bytes          INTEGER NOT NULL DEFAULT 0,           -- that its rows keep of answers: `rows_saved` counts it
    total                INTEGER NOT NULL CHECK (total BETWEEN 1 AND 16777215),
    pending              INTEGER NOT NULL,
    processing           INTEGER NOT NULL DEFAULT 0,
    completed            INTEGER NOT NULL DEFAULT 0,
    failed               INTEGER NOT NULL DEFAULT 0,
    cancelled            INTEGER NOT NULL DEFAULT 0,
    extracted            INTEGER NOT NULL DEFAULT 0,           -- rows 1..extracted are in the work table
    next_row             INTEGER NOT NULL DEFAULT 1,           -- no row below it is pending for the first time
    owner                INTEGER,                              -- who extracts it
    claim_expires_at     INTEGER,
    extraction_attempts  INTEGER NOT NULL DEFAULT 0,
    next_attempt_at      INTEGER,                              -- when extraction is worth another try
    error_code           TEXT,
    error_message        TEXT,
    created_at           INTEGER NOT NULL,
    extracted_at         INTEGER,
    finished_at          INTEGER,
    CHECK ((status = 'processing') = (owner IS NOT NULL)),
    CHECK ((owner IS NULL) = (claim_expires_at IS NULL)),
    CHECK (extracted BETWEEN 0 AND total AND next_row BETWEEN 1 AND total + 1),
    CHECK (status NOT IN ('queued', 'completed') OR extracted = total),
    CHECK (status <> 'cancelled' OR cancelled_at IS NOT NULL),
    CHECK (status <> 'failed' OR error_code IS NOT NULL),
    CHECK (paused_itself = 0 OR paused_at IS NOT NULL),
    CHECK (paused_missing = 0 OR (paused_at IS NOT NULL AND paused_itself = 0)),
    CHECK (CASE WHEN status = 'queued' OR status = 'processing' OR status = 'pending'
           THEN finished_at IS NULL ELSE finished_at IS NOT NULL END)
) STRICT;

-- The sums of `client_totals`.
CREATE TRIGGER batches_added AFTER INSERT ON batches BEGIN
    UPDATE client_totals
    SET batches = batches + 1, unfinished = unfinished + (new.finished_at IS NULL), file_bytes = file_bytes + new.file_bytes,
        rows = rows + new.total, pending = pending + new.pending, processing = processing + new.processing,
        completed = completed + new.completed, failed = failed + new.failed, kept_bytes = kept_bytes + new.kept_bytes,
        saved_bytes = saved_bytes + new.saved_bytes
    WHERE client = new.client;
END;
CREATE TRIGGER batches_counted AFTER UPDATE OF pending, processing, completed, failed, finished_at ON batches BEGIN
    UPDATE client_totals
    SET unfinished = unfinished + (new.finished_at IS NULL) - (old.finished_at IS NULL),
        pending = pending + new.pending - old.pending, processing = processing + new.processing - old.processing,
        completed = completed + new.completed - old.completed, failed = failed + new.failed - old.failed
    WHERE client = new.client;
END;
CREATE TRIGGER batches_removed AFTER DELETE ON batches BEGIN
    UPDATE client_totals
    SET batches = batches - 1, unfinished = unfinished - (old.finished_at IS NULL), file_bytes = file_bytes - old.file_bytes,
        rows = rows - old.total, pending = pending - old.pending, processing = processing - old.processing,
        completed = completed - old.completed, failed = failed - old.failed, kept_bytes = kept_bytes - old.kept_bytes,
        saved_bytes = saved_bytes - old.saved_bytes
    WHERE client = old.client;
END;
CREATE TRIGGER batches_saved AFTER UPDATE OF saved_bytes ON batches BEGIN
    UPDATE client_totals SET saved_bytes = saved_bytes + new.saved_bytes - old.saved_bytes WHERE client = new.client;
END;

-- What is sealed of a batch besides its rows: the file's name and SHA-256, header, request context. Up to 64 KB, which do not ride along
-- with each change of the batch's counts here; it goes with the batch.
CREATE TABLE batch_details (
    batch   INTEGER PRIMARY KEY REFERENCES batches (batch),
    sealed  BLOB NOT NULL
) STRICT;

-- The lists of a client, newest first.
CREATE INDEX batches_by_client ON batches (client, batch);
-- The same file of the same client again.
CREATE INDEX batches_by_file ON batches (client, file_digest);
-- What retention looks through.
CREATE INDEX batches_finished ON batches (finished_at) WHERE finished_at IS NOT NULL;
-- The few that could not be extracted.
CREATE INDEX batches_failed ON batches (finished_at) WHERE status = 'failed';
-- Whether a version is still needed.
CREATE INDEX batches_by_version ON batches (workflow_version);
-- The few that are to be extracted, and when.
CREATE INDEX batches_pending ON batches (status, client, batch, next_attempt_at) WHERE status = 'pending';
-- The few that are being extracted, by when their claim expires.
CREATE INDEX batches_claimed ON batches (claim_expires_at) WHERE status = 'processing';
-- What dispatch looks through: never the finished ones.
CREATE INDEX batches_unfinished ON batches (client, batch) WHERE status IN ('pending', 'processing', 'queued');

-- The data key of each batch, wrapped, in a table of its own that can be relied on to forget. `secure_delete` zeroes a cell
-- that is deleted, but not what is left of one in the gaps of a page that was rebuilt when its neighbours grew or went.
-- Overflow pages are never rebuilt: each belongs to one record, and is zeroed as a whole when that is deleted or changed.
-- So the padding pushes the key onto one. Of a record of P bytes on pages of U = 4096, at most U - 35 = 4061 stay with its
-- neighbours (<https://www.sqlite.org/fileformat2.html#b_tree_pages>, "X"), and here M = 489 do, because a P of 4062 to
-- 4580 gives K = M + (P - M) % (U - 4) = P, which is more than X. What is behind M fits one overflow page.
CREATE TABLE data_keys (
    batch    INTEGER PRIMARY KEY REFERENCES batches (batch),
    key_id   TEXT NOT NULL,                                    -- the ring key that wraps it
    padding  BLOB NOT NULL DEFAULT (zeroblob(4061)) CHECK (length(padding) = 4061),
    sealed   BLOB NOT NULL                                     -- has to be last
) STRICT;

-- The work table. The key packs batch and number (batch << 24 | number), so that a batch's rows lie side by side and
-- are claimed by a cursor, without an index on those that are pending (it would cost every insert, and claims that
-- get slower with every row that waits).
CREATE TABLE rows (
    row               INTEGER PRIMARY KEY,
    line              INTEGER NOT NULL,                        -- of the file, where the record starts
    status            TEXT NOT NULL CHECK (status = 'pending' OR status = 'processing' OR status = 'completed' OR status = 'failed' OR status = 'cancelled'),
    data              BLOB NOT NULL,                           -- sealed: the record
    step              INTEGER NOT NULL DEFAULT 0,              -- how many steps are done
    attempts          INTEGER NOT NULL DEFAULT 0,              -- counted ones, of the step it is at
    retries           INTEGER NOT NULL DEFAULT 0,              -- how often a person retried a rejected request
    progress          BLOB,                                    -- sealed: what the steps saved, and their history
    first_request_at  INTEGER,
    sent_at           INTEGER,                                 -- a request of this step left then, and may have been carried out
    sent_key          TEXT,                                    -- under this key; NULL: without one, or the key is not known
    next_attempt_at   INTEGER,                                 -- pending, but worked on before: due then
    prepaid           INTEGER NOT NULL DEFAULT 0,              -- to go on spends nothing of its client's grant
    owner             INTEGER,                                 -- who holds it
    claim             INTEGER,                                 -- the number of the last claim, until that has ended
    claimed_run       INTEGER,                                 -- the dispatch run whose grant the claim spent
    claim_expires_at  INTEGER,
    error_code        TEXT,                                    -- of the last failure
    error_status      INTEGER,
    error             BLOB,                                    -- sealed: message and answer body
    finished_at       INTEGER,
    CHECK ((status = 'processing') = (owner IS NOT NULL)),
    CHECK (owner IS NULL OR claim IS NOT NULL),
    CHECK ((owner IS NULL) = (claim_expires_at IS NULL)),
    CHECK (sent_key IS NULL OR sent_at IS NOT NULL),
    CHECK (next_attempt_at IS NULL OR status = 'pending'),
    CHECK (status <> 'failed' OR (error_code IS NOT NULL AND error IS NOT NULL)),
    CHECK (status <> 'completed' OR progress IS NOT NULL),
    CHECK (CASE WHEN status = 'pending' OR status = 'processing' THEN finished_at IS NULL ELSE finished_at IS NOT NULL END)
) STRICT;

-- What a row keeps of answers counts in its batch where it is more than 500 bytes, which every row is counted with
-- (`KEPT_OF_A_ROW`). Rows go with their batch, and its bytes with it.
CREATE TRIGGER rows_saved AFTER UPDATE OF progress, error ON rows
WHEN max(coalesce(length(new.progress), 0) + coalesce(length(new.error), 0), 500)
  <> max(coalesce(length(old.progress), 0) + coalesce(length(old.error), 0), 500) BEGIN
    UPDATE batches
    SET saved_bytes = saved_bytes + max(coalesce(length(new.progress), 0) + coalesce(length(new.error), 0), 500)
                                  - max(coalesce(length(old.progress), 0) + coalesce(length(old.error), 0), 500)
    WHERE batch = new.row >> 24;
END;

-- Rows that somebody works on: as many as there are workers.
CREATE INDEX rows_claimed ON rows (row) WHERE status = 'processing';
-- Rows that were worked on and wait: for another try, or put down between two steps. By the step that they are at, and by
-- whether to go on spends a grant.
CREATE INDEX rows_waiting ON rows (row >> 24, step, prepaid, next_attempt_at)
    WHERE status = 'pending' AND next_attempt_at IS NOT NULL;

-- Rows that failed, in the file's order: lists, results, retries and examples of a kind of failure look through these
-- and not through the batch.
CREATE INDEX rows_failed ON rows (row, step, error_code, error_status) WHERE status = 'failed';

-- How many rows of a batch stand failed, by what went wrong: kept in the transaction that fails or retries a row.
CREATE TABLE failures (
    batch        INTEGER NOT NULL,
    step         INTEGER NOT NULL,
    code         TEXT NOT NULL,
    http_status  INTEGER NOT NULL,                             -- 0: no answer came
    failed       INTEGER NOT NULL CHECK (failed > 0),
    example_row  INTEGER NOT NULL,                             -- the number of one that failed so
    PRIMARY KEY (batch, step, code, http_status)
) STRICT, WITHOUT ROWID;

-- The few that no key opens.
CREATE INDEX failures_undecryptable ON failures (batch) WHERE code = 'undecryptable';

-- Retries that somebody asked for and that are not carried out to the end: rows go back to `pending` piece by piece,
-- and their batch cannot complete before.
CREATE TABLE retries (
    retry         INTEGER PRIMARY KEY AUTOINCREMENT,
    batch         INTEGER NOT NULL REFERENCES batches (batch),
    step          INTEGER,                                     -- only rows that failed at it
    code          TEXT,                                        -- only rows that failed so; NULL: all that can be repeated without harm
    safe_steps    INTEGER NOT NULL,                            -- a bit for each step of which a repeat does no harm
    next_row      INTEGER NOT NULL DEFAULT 1,                  -- rows below it are done
    rows          INTEGER NOT NULL DEFAULT 0,                  -- put back so far
    requested_at  INTEGER NOT NULL                             -- rows that failed later are not meant
) STRICT;
CREATE INDEX retries_by_batch ON retries (batch);

-- Batches that somebody deleted: the batch and its data key are gone already, what else there was goes piece by piece.
CREATE TABLE deletions (
    batch       INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    client      INTEGER NOT NULL,
    object      TEXT,                                          -- the stored file; NULL once it is gone
    rows        INTEGER NOT NULL,                              -- in the work table at first
    next_row    INTEGER NOT NULL DEFAULT 1,                    -- rows below it are gone
    listed      INTEGER NOT NULL DEFAULT 0 CHECK (listed IN (0, 1)),  -- noted where backups lie
    deleted_at  INTEGER NOT NULL
) STRICT;

-- Where a client is told that a batch has finished.
CREATE TABLE webhooks (
    client      INTEGER PRIMARY KEY REFERENCES clients (client),
    key_id      TEXT NOT NULL REFERENCES ring (key_id),
    sealed      BLOB NOT NULL,                                 -- under that key of the ring: what signs deliveries, and the URL
    created_at  INTEGER NOT NULL
) STRICT;

-- The outbox: written in the transaction that finishes a batch, so that no announcement is lost to a crash.
CREATE TABLE deliveries (
    delivery         INTEGER PRIMARY KEY AUTOINCREMENT,
    id               TEXT NOT NULL UNIQUE,                     -- the same in every attempt
    client           INTEGER NOT NULL REFERENCES clients (client),
    batch_id         TEXT NOT NULL,
    payload          TEXT NOT NULL,                            -- JSON: ids, status and counts; nothing of a row
    status           TEXT NOT NULL CHECK (status IN ('pending', 'delivered', 'failed')),
    attempts         INTEGER NOT NULL DEFAULT 0,
    next_attempt_at  INTEGER,
    http_status      INTEGER,                                  -- of the last answer
    error            TEXT,                                     -- what the last attempt ran into
    created_at       INTEGER NOT NULL,
    finished_at      INTEGER,
    CHECK ((status = 'pending') = (next_attempt_at IS NOT NULL)),
    CHECK ((status = 'pending') = (finished_at IS NULL))
) STRICT;
CREATE INDEX deliveries_due ON deliveries (next_attempt_at) WHERE status = 'pending';
CREATE INDEX deliveries_by_client ON deliveries (client, delivery);

-- Backups that were begun: what was deleted since may still be in them, also in those that broke off.
CREATE TABLE backups (
    backup       INTEGER PRIMARY KEY AUTOINCREMENT,
    at           INTEGER NOT NULL,
    place        TEXT NOT NULL,
    name         TEXT,                                         -- of a scheduled one; NULL: somebody asked for it
    finished_at  INTEGER                                       -- whole and verified; NULL: under way, or broke off
) STRICT;

-- Which data folder this database lives in: the same number stands in a file there. A copy that comes to lie in another
-- folder by other ways than `restore` is known by it. NULL: the next server makes it its own.
CREATE TABLE home (
    only    INTEGER PRIMARY KEY CHECK (only = 1),
    number  INTEGER
) STRICT;
INSERT INTO home (only) VALUES (1);

-- What an operator is told without asking: an entry from when something is first seen to be wrong until it is over, and
-- for a while after that.
CREATE TABLE alerts (
    alert        INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT NOT NULL UNIQUE,                         -- the same in every message about it
    kind         TEXT NOT NULL,
    subject      TEXT NOT NULL,                                -- the id of a batch or the name of a dependency; '': neither
    state        TEXT NOT NULL CHECK (state IN ('pending', 'gathered', 'firing', 'resolved')),
    summary      TEXT NOT NULL,                                -- ids, names and counts; nothing of a row
    since        INTEGER NOT NULL,
    fired_at     INTEGER,
    resolved_at  INTEGER,
    CHECK ((state IN ('firing', 'resolved')) = (fired_at IS NOT NULL)),
    CHECK ((state = 'resolved') = (resolved_at IS NOT NULL))
) STRICT;
CREATE UNIQUE INDEX alerts_standing ON alerts (kind, subject) WHERE state <> 'resolved';
CREATE INDEX alerts_fired ON alerts (fired_at) WHERE fired_at IS NOT NULL;
CREATE INDEX alerts_resolved ON alerts (resolved_at) WHERE state = 'resolved';

-- What each hook has taken of them; nothing, where there is no entry.
CREATE TABLE alerts_told (
    hook   TEXT NOT NULL,                                      -- its name in the configuration
    alert  INTEGER NOT NULL REFERENCES alerts (alert),
    state  TEXT NOT NULL CHECK (state IN ('firing', 'resolved')),
    PRIMARY KEY (hook, alert)
) STRICT, WITHOUT ROWID;
CREATE INDEX alerts_told_by_alert ON alerts_told (alert);

-- Records that `on_invalid_row = "skip"` left out.
CREATE TABLE skipped (
    batch          INTEGER NOT NULL,
    line           INTEGER NOT NULL,
    seq            INTEGER NOT NULL,                           -- a line can have several faults
    column         TEXT,
    column_number  INTEGER,
    code           TEXT NOT NULL,
    message        TEXT NOT NULL,
    PRIMARY KEY (batch, line, seq)
) STRICT, WITHOUT ROWID;

-- Dispatch runs, and what each granted.
CREATE TABLE runs (
    run       INTEGER PRIMARY KEY,
    at        INTEGER NOT NULL,
    asked_by  TEXT NOT NULL DEFAULT 'call' CHECK (asked_by IN ('call', 'clock', 'take_over')),
    rows      INTEGER NOT NULL,
    clients   INTEGER NOT NULL DEFAULT 0,                      -- that were granted rows
    granted   TEXT NOT NULL                                    -- JSON: [{"client", "rows"}], of those with the most rows
) STRICT;

-- What each client may still claim of the last run.
CREATE TABLE grants (
    client     INTEGER PRIMARY KEY REFERENCES clients (client),
    run        INTEGER NOT NULL REFERENCES runs (run),
    granted    INTEGER NOT NULL CHECK (granted > 0),
    remaining  INTEGER NOT NULL CHECK (remaining BETWEEN 0 AND granted)
) STRICT;

-- The one big switch.
CREATE TABLE dispatch (
    only           INTEGER PRIMARY KEY CHECK (only = 1),
    paused_at      INTEGER,
    paused_by      TEXT,
    paused_reason  TEXT,
    CHECK ((paused_at IS NULL) = (paused_by IS NULL))
) STRICT;
INSERT INTO dispatch (only) VALUES (1);

-- What was changed that decides which rows may start, by whomever: a server reads it behind what it has seen, and brings its
-- index in memory up to date. The triggers see to it that nobody can forget to say so; rows that come to wait are told by those
-- who put them down (`src/store/ready.rs`). The newest entry stays, so that no number comes twice.
CREATE TABLE touched (
    seq      INTEGER PRIMARY KEY,
    kind     TEXT NOT NULL CHECK (kind IN ('batch', 'rows', 'client', 'dispatch')),
    key      INTEGER NOT NULL,                                 -- of the batch or the client; 0: of all
    step     INTEGER,                                          -- rows of the batch that wait at this step,
    prepaid  INTEGER,
    due_at   INTEGER,                                          -- the first of them until then,
    rows     INTEGER,                                          -- so many
    CHECK ((kind = 'rows') = (step IS NOT NULL AND prepaid IS NOT NULL AND due_at IS NOT NULL AND rows IS NOT NULL))
) STRICT;
CREATE TRIGGER batches_touched AFTER UPDATE OF status, paused_at, cancelled_at, workflow_version ON batches BEGIN
    INSERT INTO touched (kind, key) VALUES ('batch', new.batch);
END;
CREATE TRIGGER clients_touched AFTER UPDATE OF paused_at ON clients BEGIN
    INSERT INTO touched (kind, key) VALUES ('client', new.client);
END;
-- A grant that is smaller or larger than was thought is seen by the next claim; without one there is none.
CREATE TRIGGER grants_touched AFTER UPDATE OF remaining ON grants WHEN old.remaining = 0 AND new.remaining > 0 BEGIN
    INSERT INTO touched (kind, key) VALUES ('client', new.client);
END;
CREATE TRIGGER runs_touched AFTER INSERT ON runs BEGIN
    INSERT INTO touched (kind, key) VALUES ('dispatch', 0);
END;
CREATE TRIGGER dispatch_touched AFTER UPDATE ON dispatch BEGIN
    INSERT INTO touched (kind, key) VALUES ('dispatch', 0);
END;

-- What outlives a process about a dependency: the line of its rate limit, the rate an operator set, its gate.
CREATE TABLE dependencies (
    name             TEXT PRIMARY KEY,
    boot             TEXT,                                     -- which start of the machine `next_slot_ns` counts from
    next_slot_ns     INTEGER,                                  -- nobody has leased from here on
    rate_per_second  REAL CHECK (rate_per_second > 0),         -- NULL: as configured
    gate_until       INTEGER,                                  -- closed until then; NULL: open
    gate_reason      TEXT CHECK (gate_reason IN ('rate_limited', 'unavailable', 'failing', 'unauthorized')),
    gate_closings    INTEGER NOT NULL DEFAULT 0,               -- since it was last wide open
    gate_risked      INTEGER NOT NULL DEFAULT 0,               -- probes since it was last open that are never sent twice
    CHECK ((gate_until IS NULL) = (gate_reason IS NULL)),
    CHECK ((boot IS NULL) = (next_slot_ns IS NULL))
) STRICT, WITHOUT ROWID;

-- Who made claims: a server, which is alone on its data folder, or a command beside it.
CREATE TABLE processes (
    process     INTEGER PRIMARY KEY AUTOINCREMENT,             -- in the order in which they started
    owner       INTEGER NOT NULL UNIQUE,                       -- random per start
    kind        TEXT NOT NULL CHECK (kind IN ('server', 'command')),
    started_at  INTEGER NOT NULL,
    key_id      TEXT                                           -- the ring key that a server seals under
) STRICT;

-- A proof for each key of the ring that sealed something, so that a start can tell a wrong key from a missing one.
CREATE TABLE ring (
    key_id  TEXT PRIMARY KEY,
    proof   BLOB NOT NULL                                      -- sealed under that key
) STRICT, WITHOUT ROWID;

-- The appliance's own secrets, sealed under a key of the ring.
CREATE TABLE secrets (
    name    TEXT PRIMARY KEY,
    key_id  TEXT NOT NULL REFERENCES ring (key_id),
    sealed  BLOB NOT NULL
) STRICT, WITHOUT ROWID;
