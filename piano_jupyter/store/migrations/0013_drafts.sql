-- What was written in the chat panel and is not sent yet, by thread.

CREATE TABLE drafts (
    thread_id UUID PRIMARY KEY,
    text VARCHAR NOT NULL,
    updated_at TIMESTAMP NOT NULL
);
