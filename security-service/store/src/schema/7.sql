CREATE TABLE repository (
    catalog TEXT NOT NULL,
    name TEXT NOT NULL,
    root BLOB NOT NULL,
    memory BLOB NOT NULL,
    targets BIGINT,
    set_at BIGINT NOT NULL,
    taken_at BIGINT,
    served_at BIGINT,
    revision BIGINT NOT NULL,
    PRIMARY KEY (catalog, name)
);
INSERT INTO repository (catalog, name, root, memory, targets, set_at, taken_at, revision)
    SELECT catalog, 'os', root, memory, targets, set_at, taken_at, revision FROM release_root;
DROP TABLE release_root;
CREATE TABLE repository_file (
    catalog TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    who TEXT NOT NULL,
    added_at BIGINT NOT NULL,
    PRIMARY KEY (catalog, sha256)
);
CREATE INDEX repository_file_by_content ON repository_file (sha256);
CREATE TABLE served_file (
    catalog TEXT NOT NULL,
    repository TEXT NOT NULL,
    path TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    until BIGINT,
    PRIMARY KEY (catalog, repository, path)
);
CREATE INDEX served_file_by_content ON served_file (sha256);
