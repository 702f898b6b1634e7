-- The distinct words of each block of 2,048 messages: a search passes by the blocks that cannot hold its words.

CREATE TABLE search_words (block BIGINT PRIMARY KEY, words VARCHAR NOT NULL);
