-- The request under which a job was claimed: the same request is given the same job again.

ALTER TABLE jobs ADD COLUMN request_id UUID;
