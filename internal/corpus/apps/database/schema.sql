CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT UNIQUE);
INSERT INTO words (word) VALUES ('anchor'), ('kedge'), ('warp');
CREATE INDEX by_word ON words (word);
PRAGMA journal_mode = WAL;
