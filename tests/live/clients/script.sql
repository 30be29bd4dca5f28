-- What people type into psql, and what psql itself asks for them. Run direct and through; the output must be the same.
\set ON_ERROR_STOP off
\pset pager off
\d
\d carts
\d+ cart_items
\dt public.*
\di
\dp logs
\sf pg_catalog.bool
SELECT status, count(*) FROM carts GROUP BY status ORDER BY status;
\x on
SELECT * FROM carts WHERE id = 1;
\x off
\gset
SELECT 42 AS answer \gset
\echo :answer
SELECT * FROM carts WHERE id = :answer;
SELECT 'SELECT ' || n FROM generate_series(1, 3) n \gexec
SELECT n % 2 AS odd, n % 3 AS third, count(*) FROM generate_series(1, 12) n GROUP BY 1, 2 ORDER BY 1, 2 \crosstabview
\copy (SELECT * FROM logs ORDER BY id LIMIT 5) TO '@FILE@' CSV HEADER
CREATE TEMP TABLE copied (LIKE logs);
\copy copied FROM '@FILE@' CSV HEADER
SELECT * FROM copied;
COPY copied (id, kind) FROM STDIN;
1001	typed
1002	here
\.
SELECT count(*) FROM copied;
\copy copied TO STDOUT
INSERT INTO logs VALUES (1, 'twice');
\errverbose
SELECT 1/0;
BEGIN;
INSERT INTO logs VALUES (2001, 'in a transaction');
SAVEPOINT a;
INSERT INTO logs VALUES (2001, 'twice');
ROLLBACK TO a;
COMMIT;
SELECT count(*) FROM logs;
DELETE FROM logs WHERE id = 2001;
DO NOTHING;
\set FETCH_COUNT 100
SELECT n FROM generate_series(1, 250) n;
\set FETCH_COUNT 0
\unset FETCH_COUNT
LISTEN psql_story;
NOTIFY psql_story, 'hello';
UNLISTEN *;
SELECT 1 \; SELECT 2 \; SELECT 3;
\timing off
\lo_list
\encoding LATIN1
SELECT 'a' AS plain;
\encoding UTF8
\q
