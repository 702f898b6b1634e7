-- One question asked of each row of a table: the batches, and the answer to each row, or the error in place of one.
-- Answers are only added, or deleted; they have no index, which would cost more at each of them than it saves.

CREATE TABLE batches (
    id UUID PRIMARY KEY,
    seq BIGINT NOT NULL,
    name VARCHAR NOT NULL,
    template VARCHAR NOT NULL,
    schema VARCHAR,
    agent VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    server VARCHAR NOT NULL,
    options VARCHAR NOT NULL,
    digest VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    reason VARCHAR,
    row_count BIGINT NOT NULL,
    owner VARCHAR,
    notebook_id VARCHAR NOT NULL,
    notebook_name VARCHAR NOT NULL,
    inserted_at TIMESTAMP NOT NULL,
    started_at TIMESTAMP,
    finished_at TIMESTAMP
);

CREATE TABLE batch_answers (
    batch_id UUID NOT NULL,
    key UUID NOT NULL,
    place BIGINT NOT NULL,
    asked VARCHAR NOT NULL,
    answer VARCHAR,
    error VARCHAR,
    usage VARCHAR NOT NULL,
    answered_at TIMESTAMP NOT NULL
);
