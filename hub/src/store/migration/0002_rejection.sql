-- Keys of devices that an operator refused for good.
CREATE TABLE rejection (
    device BLOB PRIMARY KEY CHECK (length(device) = 16),
    name TEXT NOT NULL,
    rejected_ms INTEGER NOT NULL
) STRICT;
