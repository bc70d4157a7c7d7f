ALTER TABLE deployment ADD COLUMN frozen_given BIGINT NOT NULL DEFAULT 0;
ALTER TABLE deployment ADD COLUMN stage_granted BIGINT NOT NULL DEFAULT 0;
ALTER TABLE deployment ADD COLUMN stage_committed BIGINT NOT NULL DEFAULT 0;
ALTER TABLE deployment ADD COLUMN stage_failed BIGINT NOT NULL DEFAULT 0;
ALTER TABLE deployment ADD COLUMN stage_silent BIGINT NOT NULL DEFAULT 0;
UPDATE deployment SET stage_granted = granted, stage_committed = committed,
    stage_failed = failed, stage_silent = silent;
ALTER TABLE slot_given ADD COLUMN stage BIGINT NOT NULL DEFAULT 0;
UPDATE slot_given SET stage = (SELECT p.stage FROM deployment p
    WHERE p.catalog = slot_given.catalog AND p.id = slot_given.deployment)
    WHERE EXISTS (SELECT 1 FROM deployment p
        WHERE p.catalog = slot_given.catalog AND p.id = slot_given.deployment);
