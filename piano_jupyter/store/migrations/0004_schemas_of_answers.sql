-- The JSON Schema that a job's answer is to fit, as JSON text.

ALTER TABLE jobs ADD COLUMN schema VARCHAR;
