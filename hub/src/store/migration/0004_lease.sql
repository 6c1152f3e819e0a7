-- The last right to each exclusive workload. One row for each fence that was issued, not for each renewal.
CREATE TABLE lease (
    workload INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    device BLOB NOT NULL CHECK (length(device) = 16),
    boot BLOB NOT NULL CHECK (length(boot) = 8),
    fence_incarnation INTEGER NOT NULL,
    fence_counter INTEGER NOT NULL,
    ms INTEGER NOT NULL,
    ended INTEGER NOT NULL
) STRICT;
