-- Figures that tools have shown, images and files that were sent. The bytes are kept once, by their hash; a message and
-- the result of a call list theirs in order, as JSON, since a join would triple what reading a message costs.

CREATE TABLE attachments (
    sha256 VARCHAR PRIMARY KEY,
    mime VARCHAR NOT NULL,
    content BLOB NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL
);

ALTER TABLE messages ADD COLUMN attachments VARCHAR NOT NULL DEFAULT '[]';

ALTER TABLE tool_results ADD COLUMN attachments VARCHAR NOT NULL DEFAULT '[]';
