-- What the user was asked about tool calls, and what was answered. Both are only ever added: a call that is asked about
-- anew (the mode has changed, the kernel was started again) has another row, and an answer is to one of them.

CREATE TABLE approvals (
    id UUID PRIMARY KEY,
    seq BIGINT NOT NULL,
    call_id UUID NOT NULL,
    message_id UUID NOT NULL,
    job_id UUID NOT NULL,
    thread_id UUID NOT NULL,
    name VARCHAR NOT NULL,
    arguments VARCHAR NOT NULL,
    digest VARCHAR NOT NULL,
    question VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    always VARCHAR NOT NULL,
    requested_at TIMESTAMP NOT NULL
);

CREATE TABLE decisions (
    approval_id UUID PRIMARY KEY,
    allowed BOOLEAN NOT NULL,
    note VARCHAR NOT NULL,
    decided_at TIMESTAMP NOT NULL
);
