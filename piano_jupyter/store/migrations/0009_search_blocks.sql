-- Each block is in the index as soon as it is full, not only with the others of its segment; a segment has 64 of them;
-- the words are not compressed, for each search reads them all. The index is made again.

DROP TABLE search_words;

DROP TABLE search_postings;

DROP TABLE search_segments;

CREATE TABLE search_words (id INTEGER NOT NULL, word VARCHAR USING COMPRESSION uncompressed NOT NULL);

CREATE TABLE search_postings (segment INTEGER NOT NULL, word_id INTEGER NOT NULL, blocks UBIGINT NOT NULL);

CREATE TABLE search_segments (segment INTEGER PRIMARY KEY, blocks UBIGINT NOT NULL);
