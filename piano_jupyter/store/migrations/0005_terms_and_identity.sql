-- What a job was sent under: what tools might do, the user's rules (as JSON text), and to which server. Of a job that is
-- older than this nothing is known: it may only look.

ALTER TABLE jobs ADD COLUMN mode VARCHAR NOT NULL DEFAULT 'read';

ALTER TABLE jobs ADD COLUMN rules VARCHAR NOT NULL DEFAULT '[]';

ALTER TABLE jobs ADD COLUMN server VARCHAR NOT NULL DEFAULT '';

-- One row: the random id by which the user's data folder knows this database.
CREATE TABLE identity (
    id UUID PRIMARY KEY
);
