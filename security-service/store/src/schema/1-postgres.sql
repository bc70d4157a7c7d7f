CREATE FUNCTION row_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'rows of % are not changed or deleted', TG_TABLE_NAME; END $$;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE OR DELETE ON audit
FOR EACH ROW EXECUTE FUNCTION row_stays();
CREATE TRIGGER measurement_is_not_deleted BEFORE DELETE ON measurement
FOR EACH ROW EXECUTE FUNCTION row_stays();
