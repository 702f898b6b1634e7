-- From which notebook a job was sent (of a job that is older than this nothing is known), and which thread is current in
-- which notebook. The id is that of the notebook's kernel; where it has none, its name.

ALTER TABLE jobs ADD COLUMN notebook_id VARCHAR NOT NULL DEFAULT '';

ALTER TABLE jobs ADD COLUMN notebook_name VARCHAR NOT NULL DEFAULT '';

CREATE TABLE notebooks (
    id VARCHAR PRIMARY KEY,
    name VARCHAR NOT NULL,
    thread_id UUID,
    updated_at TIMESTAMP NOT NULL
);
