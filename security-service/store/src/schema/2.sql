ALTER TABLE measurement ADD COLUMN source TEXT NOT NULL DEFAULT 'by-hand';
ALTER TABLE catalog ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
ALTER TABLE grp ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
CREATE TABLE release_root (
    catalog TEXT NOT NULL PRIMARY KEY,
    root BLOB NOT NULL,
    memory BLOB NOT NULL,
    targets BIGINT,
    set_at BIGINT NOT NULL,
    taken_at BIGINT,
    revision BIGINT NOT NULL
);
