//! What goes away with TRUNCATE and DROP on MySQL and MariaDB: every table with its rows, and what goes or breaks with it.
//!
//! Neither knows CASCADE: a table that foreign keys point at is not dropped or truncated while they are checked, a view over a dropped table
//! stays and no longer works, triggers and partitions go with their table, and DROP DATABASE takes all that is in it.
//!
//! Invariant: a list is whole, or the answer is unknown with its reason. What is not shown to the user is not in a list, so DROP DATABASE is
//! only told to who sees all of it. Rows are counted where the user may read them, else they are the server's estimate, and say so.

use crate::database::catalog::mysql::{self as catalog, cell};
use crate::database::catalog::{Names, odd, reason};
use crate::database::interview::{Interview, first_number};
use crate::database::quote::mysql::{dotted, hex, ident, literal, shown, unhex};
use crate::database::removal::{Found, missing, unknown};
use crate::database::{Answer, Ask, AskError};
use crate::ground::limits;
use crate::policy::question::{Known, RemovalEvidence, RemovedTable, Rows, Table, TableKind};
use crate::sql::facts::{Name, Removal, Removed};

pub(in crate::database) async fn evidence<A: Ask>(
    interview: &mut Interview<'_, A>,
    removal: &Removal,
    together: &[Removal],
    names: Names,
) -> RemovalEvidence {
    let found = match &removal.what {
        Removed::Rows | Removed::Table => whole(interview, removal, names).await,
        Removed::Column(column) => column_of(interview, removal, names, column).await,
        Removed::Partition(partition) => partition_of(interview, removal, partition).await,
        Removed::Schema | Removed::Database => database(interview, removal, names).await,
        // The server refuses to drop a tablespace that holds anything.
        Removed::Tablespace | Removed::Other(_) => Ok((Vec::new(), Vec::new())),
        Removed::MaterializedView => Err("there are no materialized views".to_owned()),
    };
    let (tables, dependents) = match found {
        Ok(found) => found,
        Err(why) => return unknown(&why),
    };
    let refused_for = match &removal.what {
        Removed::Rows | Removed::Table if !tables.is_empty() => refused_for(interview, removal, together).await,
        _ => Vec::new(),
    };
    RemovalEvidence { tables: Known::Known(tables), dependents: Known::Known(dependents), refused_for }
}

/// One table, all of it.
async fn whole<A: Ask>(interview: &mut Interview<'_, A>, removal: &Removal, names: Names) -> Found {
    let Some(table) = table(interview, &removal.name).await? else {
        return missing(removal, names, &dotted(&removal.name.parts));
    };
    if table.kind == TableKind::View {
        return Ok((Vec::new(), Vec::new()));
    }
    let rows = rows(interview, &table, &dotted(&removal.name.parts), "").await?;
    let name = match table.kind {
        TableKind::Temporary => removal.name.clone(),
        _ => shown(&table.schema, &table.name),
    };
    let mut dependents = Vec::new();
    if removal.what == Removed::Table && table.kind != TableKind::Temporary {
        dependents.extend(table.triggers.iter().map(|trigger| format!("trigger {}", trigger.name)));
        dependents.extend(views_over(interview, &table).await?);
    }
    Ok((vec![RemovedTable { name, rows, bytes: table.bytes, because: None }], dependents))
}

/// `None`: there is no such table.
async fn table<A: Ask>(interview: &mut Interview<'_, A>, name: &Name) -> Result<Option<Table>, String> {
    let there = interview.ask(&format!("SHOW CREATE TABLE {}", dotted(&name.parts)), None).await;
    match there {
        // ER_NO_SUCH_TABLE; of a table that the user has no right to, the server says that he has none, there or not.
        Err(AskError::Database { code, .. }) if code == "42S02" => return Ok(None),
        Err(error) => return Err(reason(&error)),
        Ok(_) => {}
    }
    match catalog::table(interview.asker, interview.product, name).await {
        Known::Known(table) => Ok(Some(table)),
        Known::Unknown(why) => Err(why),
        Known::NotAsked => Err(odd()),
    }
}

/// Counted up to the bound; of a large table the server's estimate says as much.
async fn rows<A: Ask>(
    interview: &mut Interview<'_, A>,
    table: &Table,
    name: &str,
    condition: &str,
) -> Result<Rows, String> {
    let bound = interview.count_bound;
    if let Some(estimate) = table.estimated_rows.filter(|rows| *rows > bound && condition.is_empty()) {
        return Ok(Rows::Estimate(estimate));
    }
    let limit = bound.saturating_add(1);
    let question =
        format!("SELECT COUNT(*) FROM (SELECT 1 FROM {name} AS sluice_t{condition} LIMIT {limit}) AS sluice_counted");
    match interview.rows(&question).await {
        Known::Known(rows) => Ok(rows),
        Known::Unknown(why) => table.estimated_rows.map(Rows::Estimate).ok_or(why),
        Known::NotAsked => Err(odd()),
    }
}

async fn views_over<A: Ask>(interview: &mut Interview<'_, A>, table: &Table) -> Result<Vec<String>, String> {
    // The server writes every name of a definition in backticks, with its database.
    let named = format!("%{}%", like(&format!("{}.{}", ident(&table.schema), ident(&table.name))));
    let question = format!(
        "SELECT {} AS a, {} AS b FROM information_schema.VIEWS v WHERE v.VIEW_DEFINITION LIKE {} ESCAPE '!' LIMIT {}",
        hex("v.TABLE_SCHEMA"),
        hex("v.TABLE_NAME"),
        literal(&named),
        limits::REMOVED_DEPENDENTS,
    );
    let answer = interview.ask(&question, None).await.map_err(|error| reason(&error))?;
    let name = |row: usize| {
        let text = |column| cell(&answer, row, column).and_then(unhex);
        Some(format!("view {}, which no longer works", shown(&text(0)?, &text(1)?).written))
    };
    (0..answer.rows.len()).map(name).collect::<Option<_>>().ok_or_else(odd)
}

fn like(text: &str) -> String {
    text.replace('!', "!!").replace('%', "!%").replace('_', "!_")
}

/// Keys of tables that the statement does not name. What cannot be learned is left out: it is a service, nothing is judged by it.
async fn refused_for<A: Ask>(interview: &mut Interview<'_, A>, removal: &Removal, together: &[Removal]) -> Vec<String> {
    let Ok(Some(table)) = table(interview, &removal.name).await else { return Vec::new() };
    let own = shown(&table.schema, &table.name);
    let goes_too = |child: &Name| together.iter().any(|one| one.name.parts.last() == child.parts.last());
    let others = table.referenced_by.iter().filter(|key| key.child != own && !goes_too(&key.child));
    others.map(|key| format!("{} of {}", key.name, key.child.written)).collect()
}

async fn column_of<A: Ask>(interview: &mut Interview<'_, A>, removal: &Removal, names: Names, column: &str) -> Found {
    let Some(table) = table(interview, &removal.name).await? else {
        return missing(removal, names, &dotted(&removal.name.parts));
    };
    let written = column.trim_matches('`').to_lowercase();
    let Some(found) = table.columns.iter().find(|one| one.name == written) else {
        return missing(removal, names, &format!("column {} of {}", ident(column), dotted(&removal.name.parts)));
    };
    let because = Some(format!("values in column {} that are not NULL", found.name));
    let name = shown(&table.schema, &table.name);
    if found.generated {
        // Its values come from other columns.
        return Ok((vec![RemovedTable { name, rows: Rows::Exact(0), bytes: 0, because }], Vec::new()));
    }
    let condition = format!(" WHERE sluice_t.{} IS NOT NULL", ident(&found.name));
    let rows = rows(interview, &table, &dotted(&removal.name.parts), &condition).await?;
    Ok((vec![RemovedTable { name, rows, bytes: 0, because }], Vec::new()))
}

async fn partition_of<A: Ask>(interview: &mut Interview<'_, A>, removal: &Removal, partition: &str) -> Found {
    let Some(table) = table(interview, &removal.name).await? else {
        return Err(format!("{} does not exist", dotted(&removal.name.parts)));
    };
    let partition = partition.trim_matches('`');
    let question = format!(
        "SELECT CAST(SUM(p.TABLE_ROWS) AS CHAR) AS a, CAST(SUM(p.DATA_LENGTH + p.INDEX_LENGTH) AS CHAR) AS b \
         FROM information_schema.PARTITIONS p WHERE p.TABLE_SCHEMA = {} AND p.TABLE_NAME = {} AND (p.PARTITION_NAME = {2} OR p.SUBPARTITION_NAME = {2})",
        literal(&table.schema),
        literal(&table.name),
        literal(partition),
    );
    let answer = interview.ask(&question, None).await.map_err(|error| reason(&error))?;
    let number = |column| cell(&answer, 0, column).and_then(|digits| digits.parse::<u64>().ok());
    let part = Table { estimated_rows: number(0), ..table.clone() };
    let name = dotted(&removal.name.parts);
    let bound = interview.count_bound;
    let rows = match part.estimated_rows.filter(|rows| *rows > bound) {
        Some(estimate) => Rows::Estimate(estimate),
        None => {
            let limit = bound.saturating_add(1);
            let question = format!(
                "SELECT COUNT(*) FROM (SELECT 1 FROM {name} PARTITION ({}) LIMIT {limit}) AS sluice_counted",
                ident(partition)
            );
            match interview.rows(&question).await {
                Known::Known(rows) => rows,
                Known::Unknown(why) => return Err(why),
                Known::NotAsked => return Err(odd()),
            }
        }
    };
    let name = shown(&table.schema, &table.name);
    let because = Some(format!("partition {partition}"));
    Ok((vec![RemovedTable { name, rows, bytes: number(1).unwrap_or_default(), because }], Vec::new()))
}

/// Everything in it, if the user is shown everything.
async fn database<A: Ask>(interview: &mut Interview<'_, A>, removal: &Removal, names: Names) -> Found {
    let name = removal.name.parts.last().map(String::as_str).unwrap_or_default();
    let question = format!(
        "SELECT 'there' AS kind, NULL AS a, NULL AS b, NULL AS c FROM information_schema.SCHEMATA s WHERE s.SCHEMA_NAME = {0} \
         UNION ALL SELECT 'table', {1}, CAST(t.TABLE_ROWS AS CHAR), CAST(t.DATA_LENGTH + t.INDEX_LENGTH AS CHAR) \
         FROM information_schema.TABLES t WHERE t.TABLE_SCHEMA = {0} AND t.TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') \
         UNION ALL SELECT 'object', {2}, NULL, NULL FROM information_schema.TABLES t \
         WHERE t.TABLE_SCHEMA = {0} AND t.TABLE_TYPE NOT IN ('BASE TABLE', 'SYSTEM VERSIONED') \
         UNION ALL SELECT 'object', {3}, NULL, NULL FROM information_schema.ROUTINES r WHERE r.ROUTINE_SCHEMA = {0} \
         UNION ALL SELECT 'object', {4}, NULL, NULL FROM information_schema.EVENTS e WHERE e.EVENT_SCHEMA = {0}",
        literal(name),
        hex("t.TABLE_NAME"),
        hex("CONCAT(LOWER(t.TABLE_TYPE), ' ', t.TABLE_NAME)"),
        hex("CONCAT(LOWER(r.ROUTINE_TYPE), ' ', r.ROUTINE_NAME)"),
        hex("CONCAT('event ', e.EVENT_NAME)"),
    );
    let answer = interview.ask(&question, None).await.map_err(|error| reason(&error))?;
    let kinds = |kind| (0..answer.rows.len()).filter(|row| is(&answer, *row, kind)).collect::<Vec<_>>();
    let rights = catalog::rights(interview.asker).await;
    if kinds("there").is_empty() {
        return match rights.sees_all() {
            true => missing(removal, names, &format!("database {}", ident(name))),
            false => Err(format!("this user is shown no database {}", ident(name))),
        };
    }
    if !rights.sees_database(name) {
        return Err(format!("this user is not shown all that is in the database {}", ident(name)));
    }
    let members: Vec<usize> = kinds("table");
    if members.len() > limits::REMOVED_TABLES {
        return Err(format!("it takes more than {} tables along", limits::REMOVED_TABLES));
    }
    let mut dependents: Vec<String> = kinds("object")
        .into_iter()
        .map(|row| cell(&answer, row, 1).and_then(unhex))
        .collect::<Option<_>>()
        .ok_or_else(odd)?;
    if dependents.len() > limits::REMOVED_DEPENDENTS {
        dependents.truncate(limits::REMOVED_DEPENDENTS);
        dependents.push("… and more".to_owned());
    }
    let mut tables = Vec::with_capacity(members.len());
    for (at, row) in members.into_iter().enumerate() {
        let table = cell(&answer, row, 1).and_then(unhex).ok_or_else(odd)?;
        let number = |column| cell(&answer, row, column).and_then(|digits| digits.parse::<u64>().ok());
        let rows = match number(2) {
            Some(estimate) if at >= limits::REMOVED_COUNTED || estimate > interview.count_bound => {
                Rows::Estimate(estimate)
            }
            estimate => counted(interview, &dotted(&[name.to_owned(), table.clone()]), estimate).await?,
        };
        let because = Some("in the database".to_owned());
        tables.push(RemovedTable { name: shown(name, &table), rows, bytes: number(3).unwrap_or_default(), because });
    }
    tables.sort_by(|one, two| one.name.written.cmp(&two.name.written));
    Ok((tables, dependents))
}

fn is(answer: &Answer, row: usize, kind: &str) -> bool {
    cell(answer, row, 0) == Some(kind)
}

async fn counted<A: Ask>(interview: &mut Interview<'_, A>, table: &str, estimate: Option<u64>) -> Result<Rows, String> {
    let guess = estimate.map_or(Rows::AtLeast(0), Rows::Estimate);
    if interview.out_of_time() {
        return Ok(guess);
    }
    let (bound, limit) = (interview.count_bound, interview.count_bound.saturating_add(1));
    let question = format!("SELECT COUNT(*) FROM (SELECT 1 FROM {table} LIMIT {limit}) AS sluice_counted");
    match interview.ask(&question, None).await {
        Ok(answer) => match first_number(&answer) {
            Some(n) if n > bound => Ok(Rows::AtLeast(n)),
            Some(n) => Ok(Rows::Exact(n)),
            None => Err(odd()),
        },
        Err(AskError::Lost | AskError::Cancelled) => interview.open().map(|()| guess),
        Err(_) => Ok(guess),
    }
}
