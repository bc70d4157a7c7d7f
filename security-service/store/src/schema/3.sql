CREATE TABLE symbols (
    catalog TEXT NOT NULL,
    build_id TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    who TEXT NOT NULL,
    added_at BIGINT NOT NULL,
    PRIMARY KEY (catalog, build_id)
);
CREATE INDEX symbols_by_content ON symbols (sha256);
CREATE TABLE symbol_name (
    catalog TEXT NOT NULL,
    build_id TEXT NOT NULL,
    address BIGINT NOT NULL,
    symbolizer BIGINT NOT NULL,
    function TEXT,
    outer_function TEXT,
    PRIMARY KEY (catalog, build_id, address)
);
