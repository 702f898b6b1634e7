-- How many rounds an agent's turn may take, and how many agents have handed a question on.

ALTER TABLE agents ADD COLUMN max_iterations INTEGER;

ALTER TABLE jobs ADD COLUMN hops INTEGER NOT NULL DEFAULT 0;
