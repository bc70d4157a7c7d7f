ALTER TABLE grp ADD COLUMN production BIGINT NOT NULL DEFAULT 0;
ALTER TABLE grp ADD COLUMN update_mode TEXT NOT NULL DEFAULT 'on';
ALTER TABLE grp ADD COLUMN deployments BIGINT NOT NULL DEFAULT 0;
CREATE TABLE deployment (
    catalog TEXT NOT NULL,
    id TEXT NOT NULL,
    product TEXT NOT NULL,
    grp TEXT NOT NULL,
    component TEXT NOT NULL,
    version TEXT NOT NULL,
    plan TEXT NOT NULL,
    restart_window TEXT,
    deadline_s BIGINT,
    check_every_s BIGINT,
    begins_at BIGINT NOT NULL,
    progress TEXT NOT NULL,
    hold TEXT NOT NULL,
    cause TEXT,
    stage BIGINT NOT NULL,
    since BIGINT NOT NULL,
    drafted_by TEXT NOT NULL,
    approved_by TEXT,
    production BIGINT NOT NULL,
    resumed_at BIGINT NOT NULL,
    began_at BIGINT NOT NULL,
    frozen_devices BIGINT NOT NULL,
    frozen_allowance BIGINT NOT NULL,
    frozen_last TEXT NOT NULL,
    slots BIGINT NOT NULL,
    granted BIGINT NOT NULL,
    committed BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    silent BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    PRIMARY KEY (catalog, id)
);
CREATE INDEX deployment_by_group ON deployment (catalog, product, grp);
CREATE TABLE slot_given (
    catalog TEXT NOT NULL,
    deployment TEXT NOT NULL,
    device TEXT NOT NULL,
    outcome TEXT NOT NULL,
    forgiven BIGINT NOT NULL,
    granted_at BIGINT NOT NULL,
    tried_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    silent_at BIGINT NOT NULL,
    said TEXT,
    PRIMARY KEY (catalog, deployment, device)
);
CREATE INDEX slot_by_outcome ON slot_given (catalog, deployment, outcome, silent_at);
CREATE INDEX device_by_group ON device (catalog, product, grp);
