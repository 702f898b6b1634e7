-- The images and files that go with a draft, in order, as a message lists its own. Their bytes are in `attachments`.

CREATE TABLE draft_files (
    thread_id UUID PRIMARY KEY,
    attachments VARCHAR NOT NULL
);
