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
ALTER TABLE grp ADD COLUMN report_level TEXT NOT NULL DEFAULT 'health';
CREATE TABLE report_source (
    catalog TEXT NOT NULL,
    device TEXT NOT NULL,
    epoch TEXT NOT NULL,
    last_sequence BIGINT NOT NULL,
    unknown_frames BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    PRIMARY KEY (catalog, device, epoch)
);
CREATE TABLE report (
    catalog TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    device TEXT NOT NULL,
    epoch TEXT NOT NULL,
    last_sequence BIGINT NOT NULL,
    frames BLOB NOT NULL,
    PRIMARY KEY (catalog, received_at, device, epoch, last_sequence)
);
CREATE INDEX report_by_device ON report (catalog, device, received_at, epoch, last_sequence);
CREATE TABLE counter (
    catalog TEXT NOT NULL,
    hour BIGINT NOT NULL,
    product TEXT NOT NULL,
    grp TEXT NOT NULL,
    component TEXT NOT NULL,
    version TEXT NOT NULL,
    kind TEXT NOT NULL,
    amount BIGINT NOT NULL,
    PRIMARY KEY (catalog, hour, product, grp, component, version, kind)
);
CREATE TABLE crash_group (
    catalog TEXT NOT NULL,
    id TEXT NOT NULL,
    product TEXT NOT NULL,
    algorithm BIGINT NOT NULL,
    component TEXT NOT NULL,
    name TEXT NOT NULL,
    failure TEXT NOT NULL,
    place TEXT,
    called_from TEXT,
    first_version TEXT NOT NULL,
    last_version TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    events BIGINT NOT NULL,
    devices BIGINT NOT NULL,
    closed_version TEXT,
    closed_at BIGINT NOT NULL,
    regressed_at BIGINT,
    PRIMARY KEY (catalog, id)
);
CREATE INDEX crash_group_by_age ON crash_group (catalog, product, devices, last_at);
CREATE TABLE crash_version (
    catalog TEXT NOT NULL,
    crash TEXT NOT NULL,
    version TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    events BIGINT NOT NULL,
    devices BIGINT NOT NULL,
    PRIMARY KEY (catalog, crash, version)
);
CREATE TABLE crash_device (
    catalog TEXT NOT NULL,
    crash TEXT NOT NULL,
    device TEXT NOT NULL,
    version TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    events BIGINT NOT NULL,
    PRIMARY KEY (catalog, crash, device)
);
CREATE TABLE exposure (
    catalog TEXT NOT NULL,
    day BIGINT NOT NULL,
    product TEXT NOT NULL,
    component TEXT NOT NULL,
    version TEXT NOT NULL,
    devices BIGINT NOT NULL,
    PRIMARY KEY (catalog, day, product, component, version)
);
