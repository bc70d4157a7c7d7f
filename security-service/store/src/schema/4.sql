CREATE TABLE detection_lease (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    ends_at BIGINT NOT NULL,
    away_since BIGINT NOT NULL,
    listening_since BIGINT NOT NULL,
    evaluated_at BIGINT NOT NULL
);
CREATE TABLE detection (
    catalog TEXT NOT NULL PRIMARY KEY,
    last_finding BIGINT NOT NULL,
    last_alert BIGINT NOT NULL
);
CREATE TABLE detection_group (
    catalog TEXT NOT NULL,
    product TEXT NOT NULL,
    grp TEXT NOT NULL,
    alerts TEXT,
    learned_until BIGINT NOT NULL,
    baseline TEXT,
    PRIMARY KEY (catalog, product, grp)
);
CREATE TABLE threshold_override (
    catalog TEXT NOT NULL,
    product TEXT NOT NULL,
    grp TEXT NOT NULL,
    name TEXT NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (catalog, product, grp, name)
);
CREATE TABLE threat (
    catalog TEXT NOT NULL,
    number BIGINT NOT NULL,
    product TEXT NOT NULL,
    grp TEXT NOT NULL,
    rule TEXT NOT NULL,
    severity BIGINT NOT NULL,
    closed_at BIGINT NOT NULL,
    contained_at BIGINT,
    contained_by TEXT,
    finding TEXT NOT NULL,
    PRIMARY KEY (catalog, number)
);
CREATE INDEX threat_by_group ON threat (catalog, product, grp, number);
CREATE TABLE containment (
    catalog TEXT NOT NULL,
    product TEXT NOT NULL,
    grp TEXT NOT NULL,
    contained TEXT NOT NULL,
    PRIMARY KEY (catalog, product, grp)
);
CREATE TABLE enrolment_failure (
    catalog TEXT NOT NULL,
    minute BIGINT NOT NULL,
    network TEXT NOT NULL,
    failures BIGINT NOT NULL,
    PRIMARY KEY (catalog, minute, network)
);
CREATE TABLE alert (catalog TEXT NOT NULL, number BIGINT NOT NULL, product TEXT NOT NULL, grp TEXT NOT NULL, at BIGINT NOT NULL, severity BIGINT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (catalog, number));
CREATE INDEX device_by_seen ON device (catalog, seen_at);
CREATE INDEX finding_by_last ON finding (catalog, last_at);
