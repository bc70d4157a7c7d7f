CREATE TABLE webhook (
    catalog TEXT NOT NULL,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    secret BLOB NOT NULL,
    who TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    tested_at BIGINT NOT NULL,
    PRIMARY KEY (catalog, name)
);
CREATE TABLE alert_delivery (
    catalog TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    number BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    lease TEXT NOT NULL,
    lease_until BIGINT NOT NULL,
    delivered BIGINT NOT NULL,
    given_up BIGINT NOT NULL,
    dropped BIGINT NOT NULL,
    delivered_at BIGINT,
    failed_at BIGINT,
    failure TEXT,
    PRIMARY KEY (catalog, kind, name)
);
CREATE INDEX alert_delivery_by_time ON alert_delivery (kind, next_at);
