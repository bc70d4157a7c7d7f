ALTER TABLE device ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;
CREATE TABLE transfer (
    catalog TEXT NOT NULL,
    device TEXT NOT NULL,
    to_catalog TEXT NOT NULL,
    root BLOB NOT NULL,
    epoch BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    offered_by TEXT NOT NULL,
    offerer TEXT NOT NULL,
    approved_by TEXT,
    voucher BLOB,
    sent_at BIGINT,
    followed_at BIGINT,
    PRIMARY KEY (catalog, device)
);
CREATE INDEX transfer_by_device ON transfer (device, to_catalog);
