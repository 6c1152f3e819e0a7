-- The nonce that a device's credential was derived from, for brokers that have to be told the credential itself.
ALTER TABLE device_keys ADD COLUMN join_nonce BLOB CHECK (join_nonce IS NULL OR length(join_nonce) = 16);
