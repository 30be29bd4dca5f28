-- The schema that every case finds, unless its file's @base adds to it. Small enough to be copied for each case, large enough that
-- a change of logs, of either of its kinds, or of either part of measures is past every size below which the gate does not ask.
CREATE TABLE logs (id int PRIMARY KEY, kind text NOT NULL, line text, at timestamptz NOT NULL DEFAULT '2026-01-01', size int NOT NULL DEFAULT 1);
INSERT INTO logs SELECT n, CASE WHEN n % 2 = 0 THEN 'even' ELSE 'odd' END, 'line ' || n, timestamptz '2026-01-01' + n * interval '1 hour', n % 10
  FROM generate_series(1, 3000) n;
CREATE TABLE carts (id int PRIMARY KEY, status text NOT NULL, note text);
INSERT INTO carts SELECT n, CASE WHEN n <= 800 THEN 'abandoned' ELSE 'paid' END, 'note ' || n FROM generate_series(1, 2000) n;
CREATE TABLE cart_items (id int PRIMARY KEY, cart_id int NOT NULL REFERENCES carts ON DELETE CASCADE ON UPDATE CASCADE, price numeric(10, 2) NOT NULL);
INSERT INTO cart_items SELECT n, (n + 1) / 2, n FROM generate_series(1, 2400) n;
CREATE INDEX ON cart_items (cart_id);
CREATE TABLE item_notes (item_id int PRIMARY KEY REFERENCES cart_items ON DELETE CASCADE, note text);
INSERT INTO item_notes SELECT n, 'note' FROM generate_series(1, 600) n;
CREATE TABLE people (id serial PRIMARY KEY, name text NOT NULL, boss int REFERENCES people ON DELETE CASCADE, email text UNIQUE, cart_id int REFERENCES carts ON DELETE SET NULL ON UPDATE CASCADE);
INSERT INTO people (name, boss, email, cart_id) SELECT 'person ' || n, CASE WHEN n > 1 THEN 1 END, n || '@example.org', n FROM generate_series(1, 600) n;
CREATE TABLE measures (id int, day date NOT NULL, value numeric) PARTITION BY RANGE (day);
CREATE TABLE measures_old PARTITION OF measures FOR VALUES FROM ('2020-01-01') TO ('2025-01-01');
CREATE TABLE measures_new PARTITION OF measures FOR VALUES FROM ('2025-01-01') TO ('2030-01-01');
INSERT INTO measures SELECT n, date '2024-01-01' + n % 730, n FROM generate_series(1, 3000) n;
CREATE TABLE animals (id int, name text);
CREATE TABLE cats (lives int) INHERITS (animals);
INSERT INTO animals SELECT n, 'animal ' || n FROM generate_series(1, 300) n;
INSERT INTO cats SELECT n, 'cat ' || n, 9 FROM generate_series(1001, 1300) n;
CREATE TABLE few (id int PRIMARY KEY, name text);
INSERT INTO few SELECT n, 'few ' || n FROM generate_series(1, 10) n;
CREATE TABLE empty_one (id int PRIMARY KEY, name text);
CREATE SCHEMA archive;
CREATE TABLE archive.logs (id int PRIMARY KEY, kind text, line text);
INSERT INTO archive.logs SELECT id, kind, line FROM logs;
CREATE VIEW odd_logs AS SELECT id, kind, line FROM archive.logs WHERE kind = 'odd';
CREATE MATERIALIZED VIEW log_counts AS SELECT kind, count(*) FROM archive.logs GROUP BY kind;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE SEQUENCE tickets;
SELECT setval('tickets', 5000);
ANALYZE;
