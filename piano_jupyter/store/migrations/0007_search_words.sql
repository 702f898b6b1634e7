-- Which words are in which blocks of messages, so that a search passes by the blocks that cannot hold its words.

CREATE TABLE search_words (id INTEGER NOT NULL, word VARCHAR NOT NULL);

CREATE TABLE search_postings (segment INTEGER NOT NULL, word_id INTEGER NOT NULL, blocks USMALLINT NOT NULL);

CREATE TABLE search_segments (segment INTEGER PRIMARY KEY);
