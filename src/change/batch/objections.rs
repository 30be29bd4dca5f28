//! Why a change is carried out whole: what could mean something else in another batch, or does more than its own rows tell.
//!
//! Invariant: what is not known to be steady is not; a list here names what may stand in a batch, never what may not.

use super::walked_key;
use crate::database::batches::{BATCH, KeyColumn, UNDONE};
use crate::policy::question::{ChangeEvidence, Known, Table, TableKind};
use crate::sql::facts::{Change, Clauses, Facts, Verb};
use crate::sql::lexer::Lexer;
use crate::sql::moments;
use crate::sql::statement::LexicalMode;

/// Functions of the server's own that give the same for the same, in every transaction.
const STEADY: &[&str] = &[
    "abs",
    "array_length",
    "array_position",
    "array_remove",
    "array_replace",
    "ascii",
    "btrim",
    "cardinality",
    "ceil",
    "ceiling",
    "char_length",
    "character_length",
    "chr",
    "coalesce",
    "concat",
    "concat_ws",
    "date_part",
    "date_trunc",
    "div",
    "encode",
    "decode",
    "extract",
    "floor",
    "greatest",
    "initcap",
    "isfinite",
    "jsonb_array_length",
    "jsonb_build_object",
    "jsonb_set",
    "jsonb_typeof",
    "justify_days",
    "least",
    "left",
    "length",
    "lower",
    "lpad",
    "ltrim",
    "make_date",
    "make_interval",
    "md5",
    "mod",
    "nullif",
    "octet_length",
    "overlay",
    "position",
    "power",
    "regexp_match",
    "regexp_replace",
    "repeat",
    "replace",
    "reverse",
    "right",
    "round",
    "rpad",
    "rtrim",
    "sign",
    "split_part",
    "sqrt",
    "starts_with",
    "strpos",
    "substr",
    "substring",
    "to_char",
    "to_date",
    "to_number",
    "to_timestamp",
    "translate",
    "trim",
    "trunc",
    "upper",
    // Pinned to one moment.
    "now",
    "transaction_timestamp",
    "statement_timestamp",
];

fn clauses_objection(clauses: &Clauses) -> Option<String> {
    if clauses.with.is_some() || clauses.from.is_some() || clauses.tables.is_some() {
        return Some("it reads other tables".to_owned());
    }
    if clauses.order.is_some() || clauses.limit.is_some() {
        return Some("LIMIT and ORDER BY would choose other rows in each batch".to_owned());
    }
    None
}

/// What its subqueries read must be the same for each batch: tables that neither the change itself nor code behind it writes to. `Some`:
/// why it may not be.
pub(super) fn reads_objection(facts: &Facts, change: &Change, known: &ChangeEvidence, table: &Table) -> Option<String> {
    let tables = match (&facts.reads, &known.reads) {
        (Some(names), _) if names.is_empty() => return None,
        (Some(names), Known::Known(tables)) if names.len() == tables.len() => tables,
        (_, Known::Unknown(why)) => return Some(format!("what its subqueries read is not known: {why}")),
        _ => return Some("what its subqueries read is not known".to_owned()),
    };
    let carried = known.carried.known().map_or(&[][..], Vec::as_slice);
    let is_divided = |table: &Table| table.kind == TableKind::Partitioned || table.children > 0;
    if is_divided(table) || tables.iter().any(is_divided) {
        return Some("a subquery may read partitions that it changes".to_owned());
    }
    for read in tables {
        let name = &read.name;
        if read.kind != TableKind::Table || read.row_security {
            return Some(format!("its subquery reads {name}, which is no plain table"));
        }
        let is = |other: &Table| (&other.schema, &other.name) == (&read.schema, name);
        if std::iter::once(table).chain(carried).any(is) {
            return Some(format!("its subquery reads {name}, which it changes"));
        }
    }
    let is_delete = change.verb == Verb::Delete;
    let own = table.triggers.iter().filter(|trigger| if is_delete { trigger.on_delete } else { trigger.on_update });
    let below =
        carried.iter().flat_map(|table| &table.triggers).filter(|trigger| trigger.on_delete || trigger.on_update);
    own.chain(below).next().map(|trigger| format!("the trigger {} may change what its subquery reads", trigger.name))
}

/// Functions over the rows of a subquery.
const AGGREGATES: &[&str] = &["count", "min", "max", "sum", "avg", "bool_and", "bool_or", "every"];

/// What makes a subquery find other rows each time although nobody changed any.
const UNSTEADY: &[&str] = &["limit", "offset", "fetch", "tablesample", "recursive", "over", "rownum", "into"];

pub(super) fn text_objection(text: &str, mode: LexicalMode, facts: &Facts, change: &Change) -> Option<String> {
    let Some(clauses) = &change.clauses else { return Some("its parts could not be told apart".to_owned()) };
    if let Some(why) = clauses_objection(clauses) {
        return Some(why);
    }
    if moments::pinned(text, mode, "").is_none() {
        return Some("it reads the clock, which goes on between batches".to_owned());
    }
    let is_steady = |name: &str| STEADY.contains(&name) || AGGREGATES.contains(&name);
    if let Some(function) = facts.functions.iter().find(|name| !is_steady(name)) {
        return Some(format!("{function}() may give something else in each batch"));
    }
    let behind = [Some(&clauses.target), clauses.set.as_ref(), clauses.condition.as_ref()];
    let end = behind.into_iter().flatten().map(|span| span.end).max().unwrap_or_default();
    let (mut queries, mut after_distinct) = (false, false);
    for token in Lexer::new(text, mode).filter(|token| !token.is_comment()) {
        let is = |word| token.is_word(text, word);
        queries |= is("select") || is("table") || is("values");
        if queries && UNSTEADY.iter().any(|word| is(word)) || (after_distinct && is("on")) {
            return Some("a subquery may find something else in each batch".to_owned());
        }
        after_distinct = is("distinct");
        if is("default") && clauses.set.as_ref().is_some_and(|set| set.contains(&token.span().start)) {
            return Some("a DEFAULT may give something else in each batch".to_owned());
        }
        if is("returning") && token.span().start >= end {
            return Some("RETURNING wants its rows from one statement".to_owned());
        }
    }
    None
}

/// The same of MySQL's and MariaDB's. Their clock is held still by the session itself.
pub(super) fn own_text_objection(text: &str, mode: LexicalMode, facts: &Facts, change: &Change) -> Option<String> {
    let Some(clauses) = &change.clauses else { return Some("its parts could not be told apart".to_owned()) };
    if let Some(why) = clauses_objection(clauses) {
        return Some(why);
    }
    let is_steady = |name: &str| OWN_STEADY.contains(&name) || AGGREGATES.contains(&name);
    if let Some(function) = facts.functions.iter().find(|name| !is_steady(name)) {
        return Some(format!("{function}() may give something else in each batch"));
    }
    if change.verb == Verb::Update && clauses.set.is_none() {
        return Some("its parts could not be told apart".to_owned());
    }
    let behind = [Some(&clauses.target), clauses.set.as_ref(), clauses.condition.as_ref()];
    let end = behind.into_iter().flatten().map(|span| span.end).max().unwrap_or_default();
    let (mut queries, mut after_distinct) = (false, false);
    for token in Lexer::new(text, mode).filter(|token| !token.is_comment()) {
        let (is, span) = (|word| token.is_word(text, word), token.span());
        queries |= is("select") || is("table") || is("values");
        if queries && UNSTEADY.iter().any(|word| is(word)) || (after_distinct && is("on")) {
            return Some("a subquery may find something else in each batch".to_owned());
        }
        after_distinct = is("distinct");
        if text.get(span.clone()).is_some_and(|written| written.starts_with('@')) {
            return Some("it reads variables, which may be others in each batch".to_owned());
        }
        if is("sysdate") || is("next") || is("previous") || is("lastval") || is("nextval") {
            return Some("it reads what goes on between batches".to_owned());
        }
        if is("default") && clauses.set.as_ref().is_some_and(|set| set.contains(&span.start)) {
            return Some("a DEFAULT may give something else in each batch".to_owned());
        }
        if span.start < clauses.target.start && ["ignore", "low_priority", "quick"].into_iter().any(is) {
            return Some("it is written with a modifier (IGNORE, LOW_PRIORITY, QUICK)".to_owned());
        }
        if clauses.target.contains(&span.start) && is("partition") {
            return Some("it names partitions".to_owned());
        }
        if is("returning") && span.start >= end {
            return Some("RETURNING wants its rows from one statement".to_owned());
        }
    }
    None
}

/// Whether a text of MySQL's or MariaDB's reads the session's clock, which can be held still.
pub fn reads_clock(text: &str, mode: LexicalMode) -> bool {
    #[rustfmt::skip]
    const WORDS: &[&str] = &[
        "now", "curdate", "curtime", "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp",
        "unix_timestamp", "utc_date", "utc_time", "utc_timestamp",
    ];
    Lexer::new(text, mode).any(|token| WORDS.iter().any(|word| token.is_word(text, word)))
}

/// Functions of MySQL's and MariaDB's own that give the same for the same, as long as the session's clock stands still.
#[rustfmt::skip]
const OWN_STEADY: &[&str] = &[
    "abs", "adddate", "addtime", "ascii", "bin", "bit_count", "bit_length", "cast", "ceil", "ceiling", "char", "char_length",
    "character_length", "coalesce", "concat", "concat_ws", "conv", "convert", "crc32", "curdate", "current_date",
    "current_timestamp", "date", "date_add", "date_format", "date_sub", "datediff", "day", "dayname", "dayofmonth", "dayofweek",
    "dayofyear", "elt", "extract", "field", "find_in_set", "floor", "format", "from_days", "greatest", "hex", "hour", "if", "ifnull",
    "insert", "instr", "interval", "isnull", "json_array", "json_contains", "json_extract", "json_length", "json_object", "json_set",
    "json_type", "json_unquote", "json_valid", "last_day", "lcase", "least", "left", "length", "locate", "lower", "lpad", "ltrim",
    "makedate", "md5", "mid", "minute", "mod", "month", "monthname", "now", "nullif", "octet_length", "ord", "period_add", "position",
    "pow", "power", "quarter", "regexp_replace", "repeat", "replace", "reverse", "right", "round", "rpad", "rtrim", "second", "sha1",
    "sha2", "sign", "sqrt", "str_to_date", "strcmp", "subdate", "substr", "substring", "substring_index", "subtime", "time_to_sec",
    "timestampadd", "timestampdiff", "to_days", "trim", "truncate", "ucase", "unhex", "unix_timestamp", "upper", "utc_date",
    "utc_timestamp", "week", "weekday", "weekofyear", "year",
];

/// What makes the rows that a statement tells of less than all it does.
pub(super) fn own_table_objection(
    change: &Change,
    table: &Table,
    can_be_walked: fn(&KeyColumn) -> bool,
) -> Option<String> {
    if let Some(engine) = &table.keeps_no_transactions {
        return Some(format!("{engine} knows no transactions"));
    }
    if table.versioned {
        return Some("the table keeps its rows as they were itself".to_owned());
    }
    if let Some(why) = table.unseen_triggers.as_ref().or(table.unseen_keys.as_ref()) {
        return Some(why.clone());
    }
    let is_delete = change.verb == Verb::Delete;
    let fires =
        |trigger: &&crate::policy::question::Trigger| if is_delete { trigger.on_delete } else { trigger.on_update };
    if let Some(trigger) = table.triggers.iter().find(fires) {
        return Some(format!("what the trigger {} does is not archived", trigger.name));
    }
    // Others could not be told to the optimizer by name.
    let own_key = walked_key(change, table, can_be_walked).ok()?;
    let names: Vec<&String> = own_key.iter().map(|column| &column.name).collect();
    (!names.iter().copied().eq(&table.primary_key)).then(|| "it has no primary key that can be walked".to_owned())
}

/// What this user may not do, and an archive needs.
pub(super) fn rights_objection(table: &Table, is_update: bool) -> Option<String> {
    let (name, schema) = (&table.name, &table.schema);
    if is_update && table.lacks.update {
        return Some(format!(
            "this user may change some columns of {name} only, and not lock it against others' definitions"
        ));
    }
    if table.lacks.read {
        return Some(format!("this user may not read all columns of {name}"));
    }
    table.lacks.archive.then(|| format!("this user may not make an archive in {schema}"))
}

pub(super) fn table_objection(change: &Change, table: &Table) -> Option<String> {
    let is_delete = change.verb == Verb::Delete;
    match table.kind {
        TableKind::Table if table.children > 0 && !change.only => {
            return Some("tables that inherit from it have columns and keys of their own".to_owned());
        }
        TableKind::Table | TableKind::Partitioned => {}
        _ => return Some("it is no ordinary table".to_owned()),
    }
    if table.has_rules {
        return Some("the table has rewrite rules".to_owned());
    }
    let fires =
        |trigger: &&crate::policy::question::Trigger| if is_delete { trigger.on_delete } else { trigger.on_update };
    if let Some(trigger) = table.triggers.iter().filter(fires).find(|trigger| !trigger.each_row || trigger.instead) {
        return Some(format!("the trigger {} fires once a statement", trigger.name));
    }
    let sets = |column: &String| change.assignments.iter().any(|assignment| &assignment.column == column);
    let own = [table.schema.clone(), table.name.clone()];
    if is_delete && table.referenced_by.iter().any(|key| key.child.parts == own) {
        return Some("its rows refer to one another, and none may go before the others".to_owned());
    }
    let carried = table.referenced_by.iter().find(|key| !is_delete && key.parent_columns.iter().any(sets));
    if let Some(key) = carried {
        return Some(format!("the foreign key {} carries it on", key.name));
    }
    is_named_as_an_archives(table)
}

pub(super) fn is_named_as_an_archives(table: &Table) -> Option<String> {
    let taken = |name: &String| name == BATCH || name == UNDONE || name.starts_with("new:");
    table
        .columns
        .iter()
        .find(|column| taken(&column.name))
        .map(|column| format!("its column {} is named as an archive's own", column.name))
}
