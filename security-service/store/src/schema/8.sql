ALTER TABLE token ADD COLUMN person TEXT NOT NULL DEFAULT '';
ALTER TABLE token ADD COLUMN product TEXT;
ALTER TABLE token ADD COLUMN grp TEXT;
UPDATE token SET person = 'named:' || name;
ALTER TABLE deployment ADD COLUMN drafted_person TEXT NOT NULL DEFAULT '';
UPDATE deployment SET drafted_person = 'named:' || drafted_by;
CREATE TABLE person (
    id TEXT NOT NULL PRIMARY KEY,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    name TEXT NOT NULL,
    claimed_groups TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);
CREATE TABLE session (
    hash TEXT NOT NULL PRIMARY KEY,
    person TEXT NOT NULL,
    client TEXT NOT NULL,
    claimed_groups TEXT NOT NULL,
    began_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL
);
CREATE INDEX session_by_person ON session (person, began_at);
CREATE TABLE role_grant (
    catalog TEXT NOT NULL,
    id TEXT NOT NULL,
    issuer TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    role TEXT NOT NULL,
    product TEXT,
    grp TEXT,
    granted_by TEXT NOT NULL,
    granted_at BIGINT NOT NULL,
    PRIMARY KEY (catalog, id)
);
CREATE INDEX role_grant_by_subject ON role_grant (issuer, kind, subject);
CREATE TABLE pending_change (
    catalog TEXT NOT NULL,
    number BIGINT NOT NULL,
    kind TEXT NOT NULL,
    object TEXT NOT NULL,
    product TEXT,
    grp TEXT,
    request TEXT NOT NULL,
    digest BLOB NOT NULL,
    seen TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    requester TEXT NOT NULL,
    requested_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    state TEXT NOT NULL,
    decided_by TEXT,
    decided_at BIGINT,
    PRIMARY KEY (catalog, number)
);
CREATE INDEX pending_change_by_state ON pending_change (catalog, state, ends_at);
CREATE TABLE audit_checkpoint (
    catalog TEXT NOT NULL,
    size BIGINT NOT NULL,
    made_at BIGINT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (catalog, size)
);
