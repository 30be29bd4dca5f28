//! The questions about one table and its foreign keys, in PostgreSQL's catalog: one round trip, one JSON document each.
//!
//! Invariant: the search path decides nothing but what the client's own name means. Every relation, function, type and
//! operator of ours is tied to `pg_catalog` (operators by [`quote::catalog`]); `IN`, `LIKE`, simple CASE, `||` and NULLIF, which look operators
//! up by the path, do not occur. `to_regclass` finds the table as the client's statement would, temporary ones included.
//!
//! Source: PostgreSQL manual, "System Catalogs"; 13 to 18 have all columns used here. Tried on 15.

use crate::database::quote;

/// Everything of [`crate::policy::question::Table`]. No row when there is no such table.
pub fn table(parts: &[String]) -> String {
    fill(TABLE, &quote::literal(&quote::dotted(parts)))
}

/// All foreign keys with an action that can be reached from the table downwards, and who is whose child.
pub fn foreign_keys(table: u64) -> String {
    fill(FOREIGN_KEYS, &table.to_string())
}

fn fill(template: &str, subject: &str) -> String {
    let sql = quote::fill(template, &[("key", KEY), ("viewed", VIEWED)]);
    quote::fill(&quote::catalog(&sql), &[("subject", subject)])
}

/// What a view (`t.id`) reads: it stands in for those tables, so their foreign keys and triggers count as its own.
const VIEWED: &str = "SELECT d.refobjid AS id FROM pg_catalog.pg_class v
    JOIN pg_catalog.pg_rewrite r ON r.ev_class = v.oid AND r.ev_type = '1'
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
     AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
    WHERE v.oid = t.id AND v.relkind = 'v'";

/// One foreign key `k` of the child table `cc` in the schema `cn`.
const KEY: &str = "pg_catalog.json_build_object(
   'name', k.conname, 'schema', cn.nspname, 'table', cc.relname, 'kind', cc.relkind,
   'child', k.conrelid::pg_catalog.int8, 'parent', k.confrelid::pg_catalog.int8,
   'on_delete', k.confdeltype, 'on_update', k.confupdtype,
   'child_columns', (SELECT pg_catalog.json_agg(a.attname ORDER BY u.n)
      FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS u (num, n)
      JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num),
   'parent_columns', (SELECT pg_catalog.json_agg(a.attname ORDER BY u.n)
      FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY AS u (num, n)
      JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.num),
   'indexed', EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = k.conrelid AND i.indisvalid
      AND i.indpred IS NULL
      AND (i.indkey::pg_catalog.int2[])[0:pg_catalog.cardinality(k.conkey) - 1] @> k.conkey))";

/// `pg_relation_is_updatable` says 28 of a view (UPDATE 4, INSERT 8, DELETE 16) that the server itself turns into its one table
/// (`rewrite/rewriteHandler.c`, `relation_is_updatable`), the views below it included.
const TABLE: &str = "WITH RECURSIVE tree AS (
  SELECT pg_catalog.to_regclass({subject})::pg_catalog.oid AS id
  UNION
  SELECT x.id FROM tree t CROSS JOIN LATERAL (
    SELECT h.inhrelid AS id FROM pg_catalog.pg_inherits h WHERE h.inhparent = t.id
    UNION ALL {viewed}) AS x)
SELECT pg_catalog.json_build_object('shape', pg_catalog.json_build_object(
  'id', c.oid::pg_catalog.int8, 'schema', n.nspname, 'name', c.relname, 'kind', c.relkind,
  'temporary', c.relpersistence = 't', 'row_security', pg_catalog.row_security_active(c.oid),
  'columns', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', a.attname, 'kind', pg_catalog.format_type(a.atttypid, a.atttypmod), 'generated', a.attgenerated <> '',
      'always', a.attidentity = 'a',
      'not_null', a.attnotnull OR EXISTS (
        WITH RECURSIVE base AS (
          SELECT y.typbasetype AS up, y.typnotnull AS never FROM pg_catalog.pg_type y WHERE y.oid = a.atttypid
          UNION ALL
          SELECT y.typbasetype, y.typnotnull FROM base b JOIN pg_catalog.pg_type y ON y.oid = b.up)
        SELECT FROM base WHERE base.never)) ORDER BY a.attnum)
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'keys', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('primary', i.indisprimary, 'columns',
      (SELECT pg_catalog.json_agg(a.attname ORDER BY s.n)
       FROM pg_catalog.generate_series(1, i.indnkeyatts::pg_catalog.int4) AS s (n)
       JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[s.n - 1]))
      ORDER BY i.indisprimary DESC, i.indexrelid)
    FROM pg_catalog.pg_index i
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indisready
      AND i.indislive AND NOT i.indisexclusion AND i.indpred IS NULL AND i.indexprs IS NULL
      AND NOT EXISTS (SELECT FROM pg_catalog.generate_series(1, i.indnkeyatts::pg_catalog.int4) AS s (n)
       JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[s.n - 1]
       JOIN pg_catalog.pg_type y ON y.oid = a.atttypid
       JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[s.n - 1]
       WHERE a.attcollation <> i.indcollation[s.n - 1]
          OR (y.typnamespace <> 'pg_catalog'::pg_catalog.regnamespace AND y.typtype <> 'e' AND o.opcintype <> y.oid))),
  'foreign_keys', (SELECT pg_catalog.json_agg({key} ORDER BY cn.nspname, cc.relname, k.conname)
    FROM pg_catalog.pg_constraint k JOIN tree t ON t.id = k.confrelid
    JOIN pg_catalog.pg_class cc ON cc.oid = k.conrelid JOIN pg_catalog.pg_namespace cn ON cn.oid = cc.relnamespace
    WHERE k.contype = 'f' AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint p JOIN tree q ON q.id = p.confrelid
      WHERE p.oid = k.conparentid)),
  'triggers', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', g.tgname, 'type', g.tgtype, 'enabled', g.tgenabled, 'function', f.oid::pg_catalog.int8, 'calls', f.proname,
      'columns', (SELECT pg_catalog.json_agg(a.attname ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = g.tgrelid AND a.attnum = ANY (g.tgattr::pg_catalog.int2[])), 'version', f.xmin::pg_catalog.text)
      ORDER BY g.tgname, g.tgrelid)
    FROM pg_catalog.pg_trigger g JOIN tree t ON t.id = g.tgrelid JOIN pg_catalog.pg_proc f ON f.oid = g.tgfoid
    WHERE (NOT g.tgisinternal OR (g.tgparentid <> 0::pg_catalog.oid AND g.tgconstraint = 0::pg_catalog.oid))
      AND g.tgenabled <> 'D'
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger p JOIN tree q ON q.id = p.tgrelid WHERE p.oid = g.tgparentid)),
  'rules', EXISTS (SELECT FROM pg_catalog.pg_rewrite r JOIN tree t ON t.id = r.ev_class
    WHERE r.ev_type <> '1' AND r.ev_enabled <> 'D'),
  'maps_to_one', c.relkind = 'v' AND pg_catalog.pg_relation_is_updatable(c.oid::pg_catalog.regclass, false) = 28::pg_catalog.int4
    AND NOT EXISTS (SELECT FROM tree t JOIN pg_catalog.pg_class m ON m.oid = t.id
      WHERE m.relkind = 'f' OR m.relrowsecurity
        OR EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = m.oid AND r.ev_type <> '1')
        OR EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = m.oid AND m.relkind = 'v'))),
 'rights', pg_catalog.json_build_object('archive', pg_catalog.has_schema_privilege(n.oid, 'CREATE'),
   'read', pg_catalog.has_table_privilege(c.oid, 'SELECT') OR NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND NOT pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')),
   'insert', pg_catalog.has_table_privilege(c.oid, 'INSERT'), 'update', pg_catalog.has_table_privilege(c.oid, 'UPDATE'),
   'delete', pg_catalog.has_table_privilege(c.oid, 'DELETE')),
 'children', (SELECT pg_catalog.count(*) FROM tree) - 1,
 'size', (SELECT pg_catalog.json_build_object(
     'unknown', COALESCE(pg_catalog.bool_or(z.reltuples <= 0::pg_catalog.float4 AND z.bytes > 0::pg_catalog.int8), false),
     'rows', COALESCE(pg_catalog.sum(GREATEST(z.reltuples, 0::pg_catalog.float4)::pg_catalog.float8), 0)::pg_catalog.int8,
     'bytes', COALESCE(pg_catalog.sum(z.total), 0)::pg_catalog.int8)
   FROM (SELECT m.reltuples, pg_catalog.pg_relation_size(m.oid::pg_catalog.regclass) AS bytes,
           pg_catalog.pg_total_relation_size(m.oid::pg_catalog.regclass) AS total
         FROM tree t JOIN pg_catalog.pg_class m ON m.oid = t.id
         WHERE m.relkind = 'r' OR m.relkind = 'm' OR m.relkind = 't') AS z))
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = pg_catalog.to_regclass({subject})::pg_catalog.oid";

const FOREIGN_KEYS: &str = "WITH RECURSIVE reach AS (
  SELECT {subject}::pg_catalog.oid AS id
  UNION
  SELECT x.id FROM reach t CROSS JOIN LATERAL (
    SELECT h.inhrelid AS id FROM pg_catalog.pg_inherits h WHERE h.inhparent = t.id
    UNION ALL {viewed}
    UNION ALL SELECT f.conrelid FROM pg_catalog.pg_constraint f WHERE f.contype = 'f' AND f.confrelid = t.id) AS x)
SELECT pg_catalog.json_build_object(
 'inherits', (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
     h.inhrelid::pg_catalog.int8, h.inhparent::pg_catalog.int8, b.relispartition))
   FROM pg_catalog.pg_inherits h JOIN reach t ON t.id = h.inhparent JOIN pg_catalog.pg_class b ON b.oid = h.inhrelid),
 'views', (SELECT pg_catalog.json_agg(t.id::pg_catalog.int8) FROM reach t JOIN pg_catalog.pg_class v ON v.oid = t.id
   WHERE v.relkind = 'v'),
 'keys', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('key', {key},
     'hidden', pg_catalog.row_security_active(k.conrelid), 'id', k.oid::pg_catalog.int8, 'clone_of', k.conparentid::pg_catalog.int8,
     'equals', (SELECT pg_catalog.json_agg(pg_catalog.format('%I.%s', s.nspname, o.oprname) ORDER BY u.n)
        FROM pg_catalog.unnest(k.conpfeqop) WITH ORDINALITY AS u (op, n)
        JOIN pg_catalog.pg_operator o ON o.oid = u.op JOIN pg_catalog.pg_namespace s ON s.oid = o.oprnamespace),
     'same', (SELECT pg_catalog.json_agg(pg_catalog.format('%I.%s', s.nspname, o.oprname) ORDER BY u.n)
        FROM pg_catalog.unnest(k.conppeqop) WITH ORDINALITY AS u (op, n)
        JOIN pg_catalog.pg_operator o ON o.oid = u.op JOIN pg_catalog.pg_namespace s ON s.oid = o.oprnamespace))
     ORDER BY cn.nspname, cc.relname, k.conname)
   FROM pg_catalog.pg_constraint k JOIN reach t ON t.id = k.confrelid
   JOIN pg_catalog.pg_class cc ON cc.oid = k.conrelid JOIN pg_catalog.pg_namespace cn ON cn.oid = cc.relnamespace
   WHERE k.contype = 'f'))";
