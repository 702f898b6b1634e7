-- Which branch of a thread was chosen: the message at which the thread continues, unless a job with a higher `seq` than
-- `after` moves it on. And what was written of an answer when its job was stopped or failed: '' where nothing was.

CREATE TABLE chosen_branches (
    thread_id UUID PRIMARY KEY,
    message_id UUID NOT NULL,
    after BIGINT NOT NULL
);

ALTER TABLE jobs ADD COLUMN partial VARCHAR NOT NULL DEFAULT '';
