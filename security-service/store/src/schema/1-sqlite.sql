CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'rows of the audit log are not changed'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'rows of the audit log are not deleted'); END;
CREATE TRIGGER measurement_is_not_deleted BEFORE DELETE ON measurement
BEGIN SELECT RAISE(ABORT, 'measurements are withdrawn and not deleted'); END;
