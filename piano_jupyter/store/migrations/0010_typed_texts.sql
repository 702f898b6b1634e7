-- A question as it was typed ('' where that is what was sent, and of messages that are older than this), and what was
-- inserted into it for each {{…}}, as JSON text: a list of pairs of a label and a text.

ALTER TABLE messages ADD COLUMN typed VARCHAR NOT NULL DEFAULT '';

ALTER TABLE messages ADD COLUMN inserted VARCHAR NOT NULL DEFAULT '[]';
