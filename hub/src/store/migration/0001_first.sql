-- One row about the whole database.
CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 0),
    fleet TEXT NOT NULL,
    -- Raised at every start.
    incarnation INTEGER NOT NULL,
    -- Of the last batch.
    sequence INTEGER NOT NULL,
    workload_id_next INTEGER NOT NULL,
    hub_signing BLOB NOT NULL CHECK (length(hub_signing) = 32),
    hub_exchange BLOB NOT NULL CHECK (length(hub_exchange) = 32),
    admin_token_sha256 BLOB NOT NULL CHECK (length(admin_token_sha256) = 32),
    -- The last link of the audit chain, so that rows missing at its end are noticed.
    audit_sequence INTEGER NOT NULL,
    audit_hash BLOB NOT NULL CHECK (length(audit_hash) = 32),
    -- How often the log was repaired after a failed commit.
    repairs INTEGER NOT NULL
) STRICT;

CREATE TABLE trust (
    version INTEGER PRIMARY KEY,
    frame BLOB NOT NULL
) STRICT;

CREATE TABLE object (
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    generation INTEGER NOT NULL,
    resource_version INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    json BLOB NOT NULL,
    PRIMARY KEY (kind, namespace, name)
) STRICT;

CREATE TABLE device_keys (
    device BLOB PRIMARY KEY CHECK (length(device) = 16),
    name TEXT NOT NULL UNIQUE,
    identity BLOB NOT NULL CHECK (length(identity) = 32),
    exchange BLOB NOT NULL CHECK (length(exchange) = 32),
    credential_sha256 BLOB NOT NULL CHECK (length(credential_sha256) = 32),
    joined_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE token (
    id BLOB PRIMARY KEY CHECK (length(id) = 8),
    secret_sha256 BLOB NOT NULL CHECK (length(secret_sha256) = 32),
    expires_ms INTEGER NOT NULL,
    approve INTEGER NOT NULL CHECK (approve IN (0, 1)),
    labels TEXT NOT NULL,
    used_by BLOB CHECK (used_by IS NULL OR length(used_by) = 16)
) STRICT;

-- A set or a capability without its device is half a state: checked when the batch ends, so that order within it is free.
CREATE TABLE desired (
    device BLOB PRIMARY KEY REFERENCES device_keys (device) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    -- Key id, signature and header, as the device gets them.
    signed BLOB NOT NULL,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE capabilities (
    device BLOB PRIMARY KEY REFERENCES device_keys (device) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY,
    -- Sequence of the batch that made the change.
    resource_version INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    before BLOB,
    after BLOB,
    hash_previous BLOB NOT NULL CHECK (length(hash_previous) = 32),
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
