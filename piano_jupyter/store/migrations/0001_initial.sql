-- Everything that Piano keeps. Times are UTC. A column is named as the field of its record.
--
-- Primary keys only: a foreign key would forbid updates of a thread or an agent that something refers to, and a second
-- index doubles what a write costs and helps no read here. Lists and mappings are JSON text: a list column would make each
-- update a delete and an insert. `seq` is the order in which rows were kept.

CREATE TABLE schema_version (
    version INTEGER PRIMARY KEY,
    checksum VARCHAR NOT NULL,
    applied_at TIMESTAMP NOT NULL
);

CREATE TABLE agents (
    id UUID PRIMARY KEY,
    seq BIGINT NOT NULL,
    name VARCHAR NOT NULL,
    description VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    system_prompt VARCHAR NOT NULL,
    enabled_tools VARCHAR NOT NULL,
    enabled_skills VARCHAR NOT NULL,
    options VARCHAR NOT NULL,
    inserted_at TIMESTAMP NOT NULL
);

CREATE TABLE threads (
    id UUID PRIMARY KEY,
    seq BIGINT NOT NULL,
    title VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    primary_agent_id UUID,
    forked_from_thread_id UUID,
    forked_from_message_id UUID,
    inserted_at TIMESTAMP NOT NULL
);

-- Append-only: a checkpoint after one update of a long text rewrites what lies around it.
CREATE TABLE messages (
    id UUID PRIMARY KEY,
    seq BIGINT NOT NULL,
    thread_id UUID NOT NULL,
    parent_id UUID,
    role VARCHAR NOT NULL,
    content VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    agent_id UUID,
    job_id UUID,
    reasoning VARCHAR NOT NULL,
    usage VARCHAR NOT NULL,
    inserted_at TIMESTAMP NOT NULL
);

-- Appended before the tool runs; the result is a row of its own, appended after.
CREATE TABLE tool_calls (
    id UUID PRIMARY KEY,
    seq BIGINT NOT NULL,
    message_id UUID NOT NULL,
    name VARCHAR NOT NULL,
    arguments VARCHAR NOT NULL,
    started_at TIMESTAMP NOT NULL
);

CREATE TABLE tool_results (
    call_id UUID PRIMARY KEY,
    status VARCHAR NOT NULL,
    result VARCHAR,
    finished_at TIMESTAMP NOT NULL
);

CREATE TABLE jobs (
    id UUID PRIMARY KEY,
    seq BIGINT NOT NULL,
    thread_id UUID NOT NULL,
    message_id UUID NOT NULL,
    agent_id UUID NOT NULL,
    model VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    attempt INTEGER NOT NULL,
    owner VARCHAR,
    reason VARCHAR,
    inserted_at TIMESTAMP NOT NULL,
    started_at TIMESTAMP,
    finished_at TIMESTAMP
);
