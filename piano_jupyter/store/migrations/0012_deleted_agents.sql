-- A deleted agent answers nobody, and its name is free. Its row stays: what it has written names its author.

ALTER TABLE agents ADD COLUMN deleted BOOLEAN NOT NULL DEFAULT false;
