//! What goes away with TRUNCATE and DROP: every table reached, with its rows, and the objects that depend on it.
//!
//! TRUNCATE … CASCADE follows every foreign key, whatever its action; DROP follows the catalog's own dependencies, as the server
//! does (`catalog/dependency.c`: internal and automatic ones always, normal ones with CASCADE; an internal object stands for its owner).
//!
//! Invariant: a list is whole, or the answer is unknown with its reason. Rows are counted where the user may read them,
//! else they are the server's estimate or what fits into the table's pages at most, and say so.

pub(in crate::database) mod mysql;

use crate::database::catalog::{Names, list, odd, texts};
use crate::database::interview::Interview;
use crate::database::{Ask, quote};
use crate::ground::limits;
use crate::policy::question::{Known, RemovalEvidence, RemovedTable, Rows};
use crate::sql::facts::{Name, Removal, Removed};
use serde_json::Value;

pub(in crate::database) async fn evidence<A: Ask>(
    interview: &mut Interview<'_, A>,
    removal: &Removal,
    together: &[Removal],
    names: Names,
) -> RemovalEvidence {
    let found = match &removal.what {
        Removed::Rows => walked(interview, removal, names, &truncated(removal)).await,
        Removed::Table | Removed::MaterializedView => {
            let question = dropped(&relation(&removal.name.parts), "0", removal.cascade);
            walked(interview, removal, names, &question).await
        }
        Removed::Schema => walked(interview, removal, names, &schema(removal)).await,
        Removed::Partition(partition) => {
            let question = dropped(&relation(&part_of(removal, partition)), "0", removal.cascade);
            walked(interview, removal, names, &question).await
        }
        Removed::Column(column) => dropped_column(interview, removal, names, column).await,
        Removed::Database => database(interview, removal, names).await,
        // The server refuses to drop a tablespace that holds anything.
        Removed::Tablespace => Ok((Vec::new(), Vec::new())),
        Removed::Other(what) if removal.cascade => match other(removal, what) {
            Some(question) => walked(interview, removal, names, &question).await,
            None => Err(format!("what DROP {} … CASCADE takes along is not looked up", what.to_uppercase())),
        },
        Removed::Other(_) => Ok((Vec::new(), Vec::new())),
    };
    match found {
        Ok((tables, dependents)) => {
            let refused_for = refused_for(interview, removal, together).await;
            RemovalEvidence { tables: Known::Known(tables), dependents: Known::Known(dependents), refused_for }
        }
        Err(why) => unknown(&why),
    }
}

/// Nothing was learned, or asked.
pub(in crate::database) fn unknown(why: &str) -> RemovalEvidence {
    RemovalEvidence {
        tables: Known::Unknown(why.to_owned()),
        dependents: Known::Unknown(why.to_owned()),
        refused_for: Vec::new(),
    }
}

/// Keys of tables that the statement does not name. What cannot be learned is left out: it is a service, nothing is judged by it.
async fn refused_for<A: Ask>(interview: &mut Interview<'_, A>, removal: &Removal, together: &[Removal]) -> Vec<String> {
    if removal.cascade || !matches!(removal.what, Removed::Rows | Removed::Table) {
        return Vec::new();
    }
    let targets: Vec<String> = together.iter().map(|one| relation(&one.name.parts)).collect();
    let values = [("start", relation(&removal.name.parts)), ("targets", targets.join(", "))];
    let values: Vec<(&str, &str)> = values.iter().map(|(place, value)| (*place, value.as_str())).collect();
    let answer = interview.document(&quote::fill(&quote::catalog(REFERRING), &values)).await;
    answer.ok().and_then(|keys| texts(&keys)).unwrap_or_default()
}

/// Keys that the server copied to partitions stand for the one they were copied from.
const REFERRING: &str = "SELECT pg_catalog.json_agg(k.conname ORDER BY k.conname) FROM pg_catalog.pg_constraint k
 WHERE k.contype = 'f' AND k.conparentid = 0::pg_catalog.oid AND k.confrelid = {start}
   AND NOT (k.conrelid = ANY (ARRAY[{targets}]::pg_catalog.oid[]))";

type Found = Result<(Vec<RemovedTable>, Vec<String>), String>;

async fn walked<A: Ask>(interview: &mut Interview<'_, A>, removal: &Removal, names: Names, question: &str) -> Found {
    let answer = interview.document(question).await?;
    match answer.get("start") {
        None => return Err(odd()),
        Some(Value::Null) => return missing(removal, names, &quote::dotted(&removal.name.parts)),
        Some(_) => {}
    }
    let (members, dependents) = listed(&answer)?;
    Ok((counted(interview, members).await, dependents))
}

/// What is not there cannot lose anything: the server answers with its own error, or with a notice. That it is not there is
/// believed only of a name that the catalog reads as the statement does, and that no other statement can give a meaning.
fn missing(removal: &Removal, names: Names, what: &str) -> Found {
    let believed = match removal.what {
        Removed::Rows | Removed::Table | Removed::MaterializedView => true,
        Removed::Schema | Removed::Column(_) | Removed::Database => true,
        Removed::Partition(_) | Removed::Tablespace | Removed::Other(_) => false,
    };
    // How the server folds other letters depends on its locale.
    let plain = removal.name.parts.iter().all(|part| part.is_ascii())
        && !matches!(&removal.what, Removed::Column(column) if !column.is_ascii());
    match names {
        Names::Settled if believed && plain => Ok((Vec::new(), Vec::new())),
        Names::Settled | Names::Untold if removal.if_exists => Ok((Vec::new(), Vec::new())),
        Names::Unsettled => {
            Err(format!("{what} does not exist yet, and another statement of the message may change that"))
        }
        Names::Settled | Names::Untold => Err(format!("{what} does not exist")),
    }
}

fn listed(answer: &Value) -> Result<(Vec<Member>, Vec<String>), String> {
    let members = list(&answer["tables"]).ok_or_else(odd)?;
    if members.len() > limits::REMOVED_TABLES {
        return Err(format!("it takes more than {} tables along", limits::REMOVED_TABLES));
    }
    let members: Vec<Member> = members.iter().map(member).collect::<Option<_>>().ok_or_else(odd)?;
    let mut dependents = texts(&answer["dependents"]).ok_or_else(odd)?;
    if dependents.len() > limits::REMOVED_DEPENDENTS {
        dependents.truncate(limits::REMOVED_DEPENDENTS);
        dependents.push("… and more".to_owned());
    }
    Ok((members, dependents))
}

/// One table of the list.
struct Member {
    name: Name,
    because: Option<String>,
    /// It holds rows itself (a partitioned table does not).
    holds: bool,
    remote: bool,
    readable: bool,
    estimate: Option<u64>,
    at_most: u64,
    bytes: u64,
}

fn member(value: &Value) -> Option<Member> {
    Some(Member {
        name: quote::shown(value["schema"].as_str()?, value["name"].as_str()?),
        because: value["because"].as_str().map(str::to_owned),
        holds: value["kind"].as_str()? != "p",
        remote: value["kind"].as_str()? == "f",
        readable: value["readable"].as_bool()?,
        estimate: value["estimate"].as_u64(),
        at_most: value["at_most"].as_u64()?,
        bytes: value["bytes"].as_u64()?,
    })
}

/// Counts the small tables in one question; large ones are as well told by the server's estimate.
async fn counted<A: Ask>(interview: &mut Interview<'_, A>, members: Vec<Member>) -> Vec<RemovedTable> {
    let bound = interview.count_bound;
    let wanted: Vec<usize> = members
        .iter()
        .enumerate()
        .filter(|(_, member)| member.holds && member.readable && member.estimate.is_none_or(|rows| rows <= bound))
        .map(|(at, _)| at)
        .take(limits::REMOVED_COUNTED)
        .collect();
    let counts = count_all(interview, &members, &wanted).await;
    members
        .into_iter()
        .enumerate()
        .map(|(at, member)| {
            let exact = wanted.iter().position(|wanted| *wanted == at).and_then(|place| counts.get(place).copied());
            let rows = match (exact, member.estimate) {
                _ if !member.holds => Rows::Exact(0),
                (Some(n), _) => match u64::try_from(n) {
                    Ok(n) if n > bound => Rows::AtLeast(n),
                    Ok(n) => Rows::Exact(n),
                    Err(_) => Rows::AtLeast(0),
                },
                (None, Some(n)) => Rows::Estimate(n),
                // What lies behind a foreign table is another server's.
                (None, None) if member.remote => Rows::AtLeast(0),
                (None, None) => Rows::AtMost(member.at_most),
            };
            RemovedTable { name: member.name, rows, bytes: member.bytes, because: member.because }
        })
        .collect()
}

/// Empty when the question failed: estimates do then.
async fn count_all<A: Ask>(interview: &mut Interview<'_, A>, members: &[Member], wanted: &[usize]) -> Vec<i64> {
    let limit = interview.count_bound.saturating_add(1);
    let each: Vec<String> = wanted
        .iter()
        .filter_map(|at| members.get(*at))
        .map(|member| {
            let table = quote::dotted(&member.name.parts);
            // TRUNCATE and DROP take what no snapshot shows: rows of others that are not committed, or were after this one was taken.
            // So a table is empty only if nothing is stored for it; where something is, none counted is told as -1.
            let stored = format!("pg_catalog.pg_relation_size({}::pg_catalog.regclass)", quote::literal(&table));
            format!(
                "(SELECT CASE WHEN sluice_all.n OPERATOR(pg_catalog.=) 0 AND {stored} OPERATOR(pg_catalog.>) 0 THEN -1 \
                 ELSE sluice_all.n END FROM (SELECT pg_catalog.count(*) AS n FROM (SELECT 1 FROM ONLY {table} LIMIT {limit}) \
                 AS sluice_counted) AS sluice_all)"
            )
        })
        .collect();
    if each.is_empty() || interview.out_of_time() {
        return Vec::new();
    }
    let answer = interview.ask(&format!("SELECT {}", each.join(", ")), None).await.unwrap_or_default();
    let row = answer.rows.first().map(Vec::as_slice).unwrap_or_default();
    row.iter().map(|cell| cell.as_deref()?.parse().ok()).collect::<Option<_>>().unwrap_or_default()
}

async fn dropped_column<A: Ask>(
    interview: &mut Interview<'_, A>,
    removal: &Removal,
    names: Names,
    column: &str,
) -> Found {
    let start = relation(&removal.name.parts);
    let number = format!(
        "(SELECT a.attnum FROM pg_catalog.pg_attribute a WHERE a.attrelid = {start} AND a.attname = {}::pg_catalog.name AND NOT a.attisdropped)",
        quote::literal(column)
    );
    let answer = interview.document(&dropped(&start, &quote::catalog(&number), removal.cascade)).await?;
    match answer.get("start") {
        None => return Err(odd()),
        Some(Value::Null) => {
            let what = format!("column {} of {}", quote::ident(column), quote::dotted(&removal.name.parts));
            return missing(removal, names, &what);
        }
        Some(_) => {}
    }
    let (along, dependents) = listed(&answer)?;
    let limit = interview.count_bound.saturating_add(1);
    let table = quote::dotted(&removal.name.parts);
    // NOT (… IS NULL): of a composite value, IS NOT NULL would ask that no field is NULL.
    let filled = format!(
        "SELECT pg_catalog.count(*) FROM (SELECT 1 FROM {table} AS sluice_t WHERE NOT (sluice_t.{} IS NULL) LIMIT {limit}) AS sluice_counted",
        quote::ident(column)
    );
    let hidden =
        interview.document(&format!("SELECT pg_catalog.to_json(pg_catalog.row_security_active({start}))")).await?;
    match interview.rows(&filled).await {
        Known::Known(rows) => {
            // Rows that this user may not see lose the column as well.
            let rows = match rows {
                Rows::Exact(n) if hidden != Value::Bool(false) => Rows::AtLeast(n),
                rows => rows,
            };
            let because = Some(format!("values in column {column} that are not NULL"));
            let column = RemovedTable { name: removal.name.clone(), rows, bytes: 0, because };
            let along = counted(interview, along).await;
            Ok((std::iter::once(column).chain(along).collect(), dependents))
        }
        Known::Unknown(why) => Err(why),
        Known::NotAsked => Err(odd()),
    }
}

async fn database<A: Ask>(interview: &mut Interview<'_, A>, removal: &Removal, names: Names) -> Found {
    let name = removal.name.parts.last().map(String::as_str).unwrap_or_default();
    let question = quote::fill(&quote::catalog(DATABASE), &[("name", &quote::literal(name))]);
    let answer = interview.document(&question).await?;
    match answer["bytes"].as_u64() {
        Some(bytes) => {
            let because = Some("its rows cannot be counted from here".to_owned());
            Ok((vec![RemovedTable { name: removal.name.clone(), rows: Rows::AtLeast(0), bytes, because }], Vec::new()))
        }
        None if answer["there"] == Value::Bool(false) => {
            missing(removal, names, &format!("database {}", quote::ident(name)))
        }
        None => Err(odd()),
    }
}

const DATABASE: &str = "SELECT pg_catalog.json_build_object(
 'there', EXISTS (SELECT FROM pg_catalog.pg_database d WHERE d.datname = {name}::pg_catalog.name),
 'bytes', (SELECT pg_catalog.pg_database_size(d.oid) FROM pg_catalog.pg_database d WHERE d.datname = {name}::pg_catalog.name))";

fn relation(parts: &[String]) -> String {
    format!("pg_catalog.to_regclass({})::pg_catalog.oid", quote::literal(&quote::dotted(parts)))
}

/// A partition's name as facts hold it: one folded part, or already dotted as written.
fn part_of(removal: &Removal, partition: &str) -> Vec<String> {
    let parts: Vec<String> = partition.split('.').map(|part| part.trim_matches('"').to_owned()).collect();
    match (parts.len(), removal.name.parts.len()) {
        (1, _) => vec![partition.trim_matches('"').to_owned()],
        _ => parts,
    }
}

fn truncated(removal: &Removal) -> String {
    finish(TRUNCATED, &relation(&removal.name.parts), "pg_class", "0", removal.cascade, "")
}

/// Column number 0 is the whole table.
fn dropped(start: &str, column: &str, cascade: bool) -> String {
    finish(DROPPED, start, "pg_class", column, cascade, "depends on it")
}

/// Whatever is in a schema depends on it: without CASCADE the server would refuse, so this is what CASCADE takes.
fn schema(removal: &Removal) -> String {
    let name = removal.name.parts.last().map(String::as_str).unwrap_or_default();
    let start = format!("pg_catalog.to_regnamespace({})::pg_catalog.oid", quote::literal(&quote::ident(name)));
    finish(DROPPED, &start, "pg_namespace", "0", true, "in the schema")
}

/// What CASCADE takes along from an object that holds no rows itself: a view, a type whose columns go with it.
fn other(removal: &Removal, what: &str) -> Option<String> {
    let dotted = quote::literal(&quote::dotted(&removal.name.parts));
    let (class, start) = match what.to_lowercase().as_str() {
        "view" | "sequence" | "index" | "foreign table" => ("pg_class", relation(&removal.name.parts)),
        "type" | "domain" => ("pg_type", format!("pg_catalog.to_regtype({dotted})::pg_catalog.oid")),
        "extension" => {
            let name = quote::literal(removal.name.parts.last()?);
            let find = quote::catalog("(SELECT e.oid FROM pg_catalog.pg_extension e WHERE e.extname = ");
            ("pg_extension", format!("{find}{name}::pg_catalog.name)"))
        }
        _ => return None,
    };
    Some(finish(DROPPED, &start, class, "0", true, "depends on it"))
}

fn finish(walk: &str, start: &str, class: &str, column: &str, cascade: bool, because: &str) -> String {
    let values = [
        ("start", start),
        ("class", &format!("'pg_catalog.{class}'::pg_catalog.regclass")),
        ("column", column),
        ("cascade", if cascade { "true" } else { "false" }),
        ("because", &quote::literal(because)),
    ];
    quote::fill(&quote::catalog(&format!("{walk}{LISTED}")), &values)
}

const TRUNCATED: &str = "WITH RECURSIVE walk AS (
  SELECT {class}::pg_catalog.oid AS class, {start} AS id, {column}::pg_catalog.int4 AS sub, NULL::pg_catalog.text AS because, false AS told
  UNION
  SELECT w.class, x.id, 0, x.because COLLATE pg_catalog.\"default\", false FROM walk w CROSS JOIN LATERAL (
    SELECT h.inhrelid AS id, CASE WHEN c.relispartition THEN 'partition' ELSE 'inherits from it' END AS because
    FROM pg_catalog.pg_inherits h JOIN pg_catalog.pg_class c ON c.oid = h.inhrelid WHERE h.inhparent = w.id
    UNION ALL
    SELECT k.conrelid, k.conname::pg_catalog.text FROM pg_catalog.pg_constraint k
    WHERE {cascade} AND k.contype = 'f' AND k.confrelid = w.id) AS x)";

/// `told`: reached by a normal dependency, which is what the server's own NOTICE lists.
const DROPPED: &str = "WITH RECURSIVE walk AS (
  SELECT {class}::pg_catalog.oid AS class, {start} AS id, {column}::pg_catalog.int4 AS sub, NULL::pg_catalog.text AS because, false AS told
  UNION
  SELECT x.class, x.id, x.sub, {because}::pg_catalog.text, x.told FROM walk w CROSS JOIN LATERAL (
    SELECT d.classid AS class, d.objid AS id, d.objsubid AS sub, d.deptype = 'n' AS told FROM pg_catalog.pg_depend d
    WHERE d.refclassid = w.class AND d.refobjid = w.id AND (w.sub = 0 OR d.refobjsubid = w.sub)
      AND ({cascade} OR d.deptype <> 'n')
      AND NOT (d.classid = w.class AND d.objid = w.id AND d.objsubid = w.sub)
    UNION ALL
    SELECT d.refclassid, d.refobjid, d.refobjsubid, w.told FROM pg_catalog.pg_depend d
    WHERE d.classid = w.class AND d.objid = w.id AND d.deptype = 'i') AS x)";

/// Most rows that fit a page: 291 (`MaxHeapTuplesPerPage` of 8 kB pages), a row taking 28 bytes at least.
const LISTED: &str = "
SELECT pg_catalog.json_build_object(
 'start', (SELECT pg_catalog.min(w.id) FROM walk w WHERE w.because IS NULL AND w.sub IS NOT NULL AND w.id IS NOT NULL),
 'tables', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
     'schema', n.nspname, 'name', c.relname, 'kind', c.relkind, 'because', CASE WHEN g.named THEN NULL
       WHEN c.relispartition THEN 'partition' WHEN c.relkind = 'm' THEN 'materialized view' ELSE g.because END,
     'readable', pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
       AND NOT pg_catalog.row_security_active(c.oid) AND c.relkind <> 'f' AND (c.relkind <> 'm' OR c.relispopulated),
     'estimate', CASE WHEN c.relkind = 'f' OR (c.reltuples <= 0::pg_catalog.float4 AND pg_catalog.pg_relation_size(c.oid::pg_catalog.regclass) > 0::pg_catalog.int8)
       THEN NULL ELSE GREATEST(c.reltuples, 0::pg_catalog.float4)::pg_catalog.int8 END,
     'at_most', pg_catalog.pg_relation_size(c.oid::pg_catalog.regclass) / 28::pg_catalog.int8,
     'bytes', pg_catalog.pg_total_relation_size(c.oid::pg_catalog.regclass)) ORDER BY g.named DESC, n.nspname, c.relname)
   FROM (SELECT w.id, pg_catalog.bool_or(w.because IS NULL) AS named, pg_catalog.min(w.because) AS because
         FROM walk w WHERE w.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND w.sub = 0 GROUP BY w.id
         UNION ALL
         SELECT w.id, false, pg_catalog.concat('its column ', pg_catalog.min(a.attname::pg_catalog.text)) FROM walk w
         JOIN pg_catalog.pg_attribute a ON a.attrelid = w.id AND a.attnum = w.sub AND a.attgenerated = ''
         WHERE w.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND w.sub <> 0 AND w.because IS NOT NULL
           AND NOT EXISTS (SELECT FROM walk o WHERE o.class = w.class AND o.id = w.id AND o.sub = 0) GROUP BY w.id) AS g
   JOIN pg_catalog.pg_class c ON c.oid = g.id JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind = 'r' OR c.relkind = 'p' OR c.relkind = 'm' OR c.relkind = 'f'),
 'dependents', (SELECT pg_catalog.json_agg(t.description ORDER BY t.description) FROM (
     SELECT DISTINCT pg_catalog.pg_describe_object(w.class, w.id, w.sub) AS description FROM walk w
     WHERE w.told AND w.because IS NOT NULL
       AND NOT EXISTS (SELECT FROM walk o WHERE o.class = w.class AND o.id = w.id AND o.sub = w.sub AND o.because IS NULL)
       AND NOT (w.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND w.sub = 0 AND EXISTS (
         SELECT FROM pg_catalog.pg_class c WHERE c.oid = w.id AND (c.relkind = 'r' OR c.relkind = 'p' OR c.relkind = 'm')))
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = w.class AND d.objid = w.id AND d.deptype = 'i')
       AND NOT (w.sub <> 0 AND EXISTS (SELECT FROM walk o WHERE o.class = w.class AND o.id = w.id AND o.sub = 0))
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN walk o ON o.class = d.refclassid AND o.id = d.refobjid AND o.sub = 0
         WHERE d.classid = w.class AND d.objid = w.id AND d.deptype = 'a')
     LIMIT 1000) AS t WHERE t.description IS NOT NULL))";
