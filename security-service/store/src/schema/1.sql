CREATE TABLE catalog (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    grades TEXT NOT NULL,
    audit_number BIGINT NOT NULL,
    audit_head BLOB NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE TABLE authority (
    catalog TEXT NOT NULL,
    serial TEXT NOT NULL,
    kind TEXT NOT NULL,
    certificate BLOB NOT NULL,
    wrapped_key BLOB,
    not_before BIGINT NOT NULL,
    not_after BIGINT NOT NULL,
    PRIMARY KEY (catalog, serial)
);
CREATE TABLE maker (
    catalog TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    certificate BLOB NOT NULL,
    grade TEXT NOT NULL,
    added_at BIGINT NOT NULL,
    PRIMARY KEY (catalog, fingerprint)
);
CREATE TABLE product (
    catalog TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (catalog, name)
);
CREATE TABLE grp (
    catalog TEXT NOT NULL,
    product TEXT NOT NULL,
    name TEXT NOT NULL,
    least_index BIGINT NOT NULL,
    grades TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (catalog, product, name)
);
CREATE TABLE device (
    catalog TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    product TEXT,
    grp TEXT,
    serial TEXT,
    board TEXT,
    claimed_grade TEXT,
    grade TEXT,
    evidence_key BLOB,
    quarantined BIGINT NOT NULL,
    receipt_newest BIGINT NOT NULL,
    receipt_returned BIGINT NOT NULL,
    clock_ms BIGINT,
    clock_resets BIGINT,
    clock_restarts BIGINT,
    clock_safe BIGINT,
    verdict TEXT,
    version TEXT,
    rollback_index BIGINT,
    phase TEXT,
    claims BLOB,
    certificate_end BIGINT,
    next_at BIGINT,
    seen_at BIGINT,
    created_at BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    PRIMARY KEY (catalog, id)
);
CREATE INDEX device_by_state ON device (catalog, state);
CREATE TABLE enrolment (
    catalog TEXT NOT NULL,
    number TEXT NOT NULL PRIMARY KEY,
    device TEXT NOT NULL,
    evidence_key BLOB NOT NULL,
    secret BLOB NOT NULL,
    grade TEXT NOT NULL,
    ends_at BIGINT NOT NULL
);
CREATE TABLE measurement (
    catalog TEXT NOT NULL,
    pcr TEXT NOT NULL,
    boot TEXT NOT NULL,
    version TEXT NOT NULL,
    rollback_index BIGINT NOT NULL,
    added_at BIGINT NOT NULL,
    withdrawn_at BIGINT,
    PRIMARY KEY (catalog, pcr)
);
CREATE TABLE evidence (
    catalog TEXT NOT NULL,
    device TEXT NOT NULL,
    number BIGINT NOT NULL,
    at BIGINT NOT NULL,
    verdict TEXT NOT NULL,
    measured TEXT NOT NULL,
    claims BLOB NOT NULL,
    PRIMARY KEY (catalog, device, number)
);
CREATE TABLE finding (
    catalog TEXT NOT NULL,
    device TEXT NOT NULL,
    kind TEXT NOT NULL,
    opened_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    times BIGINT NOT NULL,
    closed_at BIGINT NOT NULL,
    PRIMARY KEY (catalog, device, kind, closed_at)
);
CREATE TABLE token (
    catalog TEXT,
    hash TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL
);
CREATE TABLE ticket (
    hash TEXT NOT NULL PRIMARY KEY,
    ends_at BIGINT NOT NULL
);
CREATE TABLE idempotency (
    catalog TEXT NOT NULL,
    name TEXT NOT NULL,
    digest BLOB NOT NULL,
    at BIGINT NOT NULL,
    status BIGINT NOT NULL,
    answer TEXT NOT NULL,
    PRIMARY KEY (catalog, name)
);
CREATE TABLE audit (
    catalog TEXT NOT NULL,
    number BIGINT NOT NULL,
    at BIGINT NOT NULL,
    who TEXT NOT NULL,
    verb TEXT NOT NULL,
    object TEXT NOT NULL,
    digest BLOB NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (catalog, number)
);
