CREATE TABLE deployment_listed (
    catalog TEXT NOT NULL,
    deployment TEXT NOT NULL,
    device TEXT NOT NULL,
    stage BIGINT NOT NULL,
    PRIMARY KEY (catalog, deployment, device)
);
CREATE INDEX deployment_listed_by_device ON deployment_listed (catalog, device);
ALTER TABLE grp ADD COLUMN feed TEXT;
ALTER TABLE measurement ADD COLUMN feed TEXT NOT NULL DEFAULT '';
