-- What was said in this database's name and is not in it: at most one gap.
CREATE TABLE recovery (
    id INTEGER PRIMARY KEY CHECK (id = 0),
    cause TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    -- The last order before the gap: incarnation and counter in one number.
    remembered INTEGER NOT NULL,
    until_incarnation INTEGER NOT NULL,
    is_overruled INTEGER NOT NULL CHECK (is_overruled IN (0, 1)),
    holds_grants INTEGER NOT NULL CHECK (holds_grants IN (0, 1))
) STRICT;

-- Devices that are to keep what they run, whatever is decided for the others.
CREATE TABLE hold (
    device BLOB PRIMARY KEY REFERENCES device_keys (device) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
) STRICT;

-- When this database was put in place of another one; null: never, or the start after it has taken note.
ALTER TABLE meta ADD COLUMN restored_ms INTEGER;
