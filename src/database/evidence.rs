//! The database's part of a judgement: for each change and removal of a statement, what the rules asked for.
//!
//! Invariants: an answer that was not had is unknown with its reason; nothing is run or planned that could do more than read; the
//! questions carry the statement's own names and run as its user, so search path, temporary tables, views, partitions and row
//! security act on them as on the statement.

mod mysql;

use crate::database::catalog::{self, Cache};
use crate::database::harmless::{self, Calls};
use crate::database::interview::Interview;
use crate::database::{Ask, Parameters, cascade, pins, quote, removal, scan};
use crate::ground::limits;
use crate::policy::question::{
    Cascade, ChangeEvidence, Evidence, Known, Questions, RemovalEvidence, Rows, Sample, Table, TableKind,
};
use crate::policy::settings::Sizes;
use crate::sql::Product;
use crate::sql::facts::{Change, Clauses, Facts, Name, OnConflict, Restriction, Source, Verb};
use crate::sql::rewrite;
use crate::sql::statement::LexicalMode;
use std::collections::BTreeMap;
use std::time::Instant;

/// What is asked, about which statement.
pub struct Inquiry<'a> {
    /// The statement's own text, which the spans of the facts point into.
    pub text: &'a str,
    /// How the session reads texts now: questions made from the text are read back the same way.
    pub mode: LexicalMode,
    pub facts: &'a Facts,
    /// Parallel to the facts' changes and removals.
    pub changes: &'a [Questions],
    pub removals: &'a [Questions],
    pub parameters: Option<&'a Parameters>,
    pub sizes: &'a Sizes,
    /// Rows are counted up to this number; beyond it, "at least one more".
    pub count_bound: u64,
    pub now: &'a (dyn Fn() -> Instant + Sync),
}

/// Asks what there is to ask. The asker limits the time of each question; counting as a whole ends after `preview_timeout`.
/// Not cancel-safe: a question may be on its way.
pub async fn gather<A: Ask>(asker: &mut A, inquiry: &Inquiry<'_>, cache: &mut Cache) -> Evidence {
    let start = (inquiry.now)();
    let deadline = start.checked_add(inquiry.sizes.preview_timeout).unwrap_or(start);
    let product = inquiry.mode.product();
    let mut interview = Interview::new(asker, inquiry.parameters, inquiry.now, deadline, inquiry.count_bound, product);
    let mut subjects = Vec::with_capacity(inquiry.facts.changes.len());
    for (at, change) in inquiry.facts.changes.iter().enumerate() {
        let asked = inquiry.changes.get(at).copied().unwrap_or_default();
        let table = if asked.none() { Known::NotAsked } else { table(&mut interview, &change.target, cache).await };
        subjects.push(Subject { change, asked, table });
    }
    let calls = calls(&mut interview, inquiry, &subjects).await;
    let mut evidence = Evidence::default();
    // Rows that the statement deletes itself are not those that a foreign key carries away.
    let deleted: Vec<(&Change, Table)> = match subjects.len() {
        1 => Vec::new(),
        _ => subjects.iter().filter_map(deletes).collect(),
    };
    let asks = subjects.iter().any(|subject| subject.asked.rows || subject.asked.preview);
    let reads = if asks { reads(&mut interview, inquiry.facts, cache).await } else { Known::NotAsked };
    for subject in subjects {
        let others: Vec<_> = deleted.iter().filter(|(change, _)| !std::ptr::eq(*change, subject.change)).collect();
        let known = change(&mut interview, inquiry, subject, &others, &calls).await;
        evidence.changes.push(ChangeEvidence { reads: reads.clone(), ..known });
    }
    let too_many = inquiry.facts.removals.len() > limits::REMOVALS_SHOWN_MAX;
    for (at, removal) in inquiry.facts.removals.iter().enumerate() {
        let asked = inquiry.removals.get(at).copied().unwrap_or_default();
        evidence.removals.push(match asked.none() {
            false if too_many => removal::unknown("it names too many objects to look each of them up"),
            true => RemovalEvidence { tables: Known::NotAsked, dependents: Known::NotAsked, refused_for: Vec::new() },
            false if product.is_mysql() => {
                removal::mysql::evidence(&mut interview, removal, &inquiry.facts.removals, cache.names()).await
            }
            false => removal::evidence(&mut interview, removal, &inquiry.facts.removals, cache.names()).await,
        });
    }
    evidence
}

/// What its subqueries read.
async fn reads<A: Ask>(interview: &mut Interview<'_, A>, facts: &Facts, cache: &mut Cache) -> Known<Vec<Table>> {
    let is_cut = facts.changes.iter().all(|change| matches!(change.verb, Verb::Update | Verb::Delete));
    let Some(names) = facts.reads.as_ref().filter(|names| is_cut && !names.is_empty()) else { return Known::NotAsked };
    if names.len() > limits::TABLES_READ_MAX {
        return Known::Unknown("there are too many of them".to_owned());
    }
    let mut tables = Vec::with_capacity(names.len());
    for name in names {
        match table(interview, name, cache).await {
            Known::Known(table) => tables.push(table),
            Known::Unknown(why) => return Known::Unknown(why),
            Known::NotAsked => return Known::NotAsked,
        }
    }
    Known::Known(tables)
}

struct Subject<'a> {
    change: &'a Change,
    asked: Questions,
    table: Known<Table>,
}

async fn table<A: Ask>(interview: &mut Interview<'_, A>, name: &Name, cache: &mut Cache) -> Known<Table> {
    if let Some(table) = cache.get(name, (interview.now)()) {
        return Known::Known(table.clone());
    }
    if let Err(reason) = interview.open() {
        return Known::Unknown(reason);
    }
    let table = match interview.product {
        Product::PostgreSql => catalog::table(interview.asker, name).await,
        product => catalog::mysql::table(interview.asker, product, name).await,
    };
    if let Known::Known(table) = &table {
        cache.put(name, table.clone(), (interview.now)());
    }
    table
}

/// The functions are looked up once, and only if something of the statement's own text is going to be run or planned.
async fn calls<A: Ask>(
    interview: &mut Interview<'_, A>,
    inquiry: &Inquiry<'_>,
    subjects: &[Subject<'_>],
) -> Result<Calls, String> {
    let from_text = |subject: &Subject<'_>| {
        let asked = subject.asked;
        let counts = asked.rows && told_by_text(subject.change, &subject.table, inquiry).is_none();
        let carries = |table: &Table| cascade::carries(subject.change, table);
        let follows = asked.cascade && subject.table.known().is_some_and(carries);
        (counts || follows || asked.preview) && unbuildable(subject, inquiry).is_none()
    };
    if !subjects.iter().any(from_text) {
        return Err("its functions were not looked up".to_owned());
    }
    let views: Vec<u64> =
        subjects.iter().filter_map(|s| s.table.known()).filter(|t| t.kind == TableKind::View).map(|t| t.id).collect();
    if interview.product.is_mysql() {
        let several =
            subjects.iter().any(|subject| mysql::reads_others(subject.change)) || inquiry.facts.changes.len() > 1;
        let views = match views.is_empty() && !several && !mysql::mentions_a_query(inquiry) {
            true => None,
            false => harmless::mysql::of_views(interview, inquiry.text, inquiry.mode).await?,
        };
        return Ok(Calls::of_mysql(inquiry.facts, inquiry.mode, views));
    }
    harmless::look_up(interview, inquiry.facts, inquiry.text, &views).await
}

fn deletes<'a>(subject: &Subject<'a>) -> Option<(&'a Change, Table)> {
    let table =
        subject.table.known().filter(|table| matches!(table.kind, TableKind::Table | TableKind::Partitioned))?;
    (subject.change.verb == Verb::Delete).then(|| (subject.change, table.clone()))
}

async fn change<A: Ask>(
    interview: &mut Interview<'_, A>,
    inquiry: &Inquiry<'_>,
    subject: Subject<'_>,
    others: &[&(&Change, Table)],
    calls: &Result<Calls, String>,
) -> ChangeEvidence {
    let unaskable = unaskable(&subject, inquiry, calls);
    let Subject { change, asked, mut table } = subject;
    let told = told_by_text(change, &table, inquiry);
    // Making a question of the text costs as much as reading it: most changes are by key, and need none.
    let counts = asked.preview || told.as_ref().is_none_or(is_counted);
    let count = match unaskable.clone() {
        Some(why) => Err(why),
        None if !counts => Err("its rows were told by its text".to_owned()),
        None => count_text(inquiry, change, &table).ok_or_else(|| mysql::uncountable(change, &table, inquiry)),
    };
    let rows = match (asked.rows, told, &count) {
        (false, ..) => Known::NotAsked,
        (true, Some(rows), _) => rows,
        (true, None, Ok(count)) => seen(interview.rows(count).await, change, &table),
        (true, None, Err(why)) => Known::Unknown(why.clone()),
    };
    let cascade = match (asked.cascade, &table) {
        (false, _) => Known::NotAsked,
        (true, Known::Known(table)) if interview.product.is_mysql() => {
            let source = mysql::source(inquiry, change, Some(table));
            let others = others.iter().map(|(change, table)| (mysql::source(inquiry, change, Some(table)), table));
            let others: Vec<_> = others.collect();
            cascade::mysql::walk(interview, &source, table, &others, unaskable.clone()).await
        }
        (true, Known::Known(table)) => {
            let through_view = (table.kind == TableKind::View).then(|| "rows below a view are not counted".to_owned());
            let start = cascade::Start {
                text: inquiry.text,
                mode: inquiry.mode,
                change,
                table,
                unaskable: unaskable.clone().or(through_view),
            };
            cascade::walk(interview, &start).await
        }
        (true, Known::Unknown(why)) => Known::Unknown(why.clone()),
        (true, Known::NotAsked) => Known::NotAsked,
    };
    let carried = carried(interview, change, &rows, &cascade, inquiry.sizes).await;
    let (mut sample, mut scan) = (Known::NotAsked, Known::NotAsked);
    if asked.preview {
        total(interview, change, &mut table).await;
        sample = match &unaskable {
            Some(why) => Known::Unknown(why.clone()),
            None if interview.product.is_mysql() => mysql::sample(interview, inquiry, change, &table, calls).await,
            None => self::sample(interview, inquiry, change, calls).await,
        };
        scan = match &count {
            Ok(count) => self::scan(interview, count, change, &table).await,
            Err(why) => Known::Unknown(why.clone()),
        };
    }
    if asked.plan && !asked.preview && is_counted(&rows) && is_large(&table, inquiry.sizes) {
        scan = match &count {
            Ok(count) => self::scan(interview, count, change, &table).await,
            Err(why) => Known::Unknown(why.clone()),
        };
    }
    ChangeEvidence { verb: change.verb, table, rows, cascade, carried, reads: Known::NotAsked, sample, scan }
}

/// What the tables are whose rows foreign keys take along, where it is to be done in batches.
async fn carried<A: Ask>(
    interview: &mut Interview<'_, A>,
    change: &Change,
    rows: &Known<Rows>,
    cascade: &Known<Vec<Cascade>>,
    sizes: &Sizes,
) -> Known<Vec<Table>> {
    let (Some(tree), Some(rows), Verb::Delete) = (cascade.known(), rows.known(), change.verb) else {
        return Known::NotAsked;
    };
    let carried = tree.iter().fold(0u64, |sum, branch| sum.saturating_add(branch.known_total()));
    if carried == 0 || rows.number().saturating_add(carried) <= sizes.batch_rows {
        return Known::NotAsked;
    }
    let (mut open, mut names) = (tree.iter().collect::<Vec<_>>(), BTreeMap::new());
    while let Some(branch) = open.pop() {
        if branch.rows != Known::Known(Rows::Exact(0)) {
            names.insert(branch.key.child.parts.clone(), &branch.key.child);
            open.extend(&branch.below);
        }
    }
    let mut tables = Vec::with_capacity(names.len());
    for name in names.into_values() {
        if let Err(reason) = interview.open() {
            return Known::Unknown(reason);
        }
        let table = match interview.product {
            Product::PostgreSql => catalog::table(interview.asker, name).await,
            product => catalog::mysql::table(interview.asker, product, name).await,
        };
        match table {
            Known::Known(table) => tables.push(table),
            Known::Unknown(why) => return Known::Unknown(why),
            Known::NotAsked => {}
        }
    }
    Known::Known(tables)
}

async fn scan<A: Ask>(
    interview: &mut Interview<'_, A>,
    count: &str,
    change: &Change,
    table: &Known<Table>,
) -> Known<String> {
    let describe = if interview.product.is_mysql() { scan::mysql::describe } else { scan::describe };
    interview.plan(count).await.map_or_else(Known::Unknown, |plan| describe(&plan, change, table))
}

fn count_text(inquiry: &Inquiry<'_>, change: &Change, table: &Known<Table>) -> Option<String> {
    let limit = Some(inquiry.count_bound.saturating_add(1));
    match inquiry.mode.product() {
        Product::PostgreSql => rewrite::count_text(inquiry.text, inquiry.mode, change, limit),
        _ => rewrite::mysql::count_text(&mysql::source(inquiry, change, table.known()), limit),
    }
}

/// Its rows were asked about: one question more, and the plan is known.
fn is_counted(rows: &Known<Rows>) -> bool {
    matches!(rows, Known::Known(Rows::Exact(_) | Rows::AtLeast(_) | Rows::Estimate(_)))
}

/// More than one batch, as far as the server's statistics tell.
fn is_large(table: &Known<Table>, sizes: &Sizes) -> bool {
    let rows = table.known().map(|table| (table.estimated_rows, table.bytes));
    rows.is_some_and(|(rows, bytes)| rows.is_none_or(|rows| rows > sizes.batch_rows) && bytes > 0)
}

/// What needs no question: rows bounded by the text or by a unique key, and rows that no question can tell.
fn told_by_text(change: &Change, table: &Known<Table>, inquiry: &Inquiry<'_>) -> Option<Known<Rows>> {
    let facts = inquiry.facts;
    // Not knowing the table, we do not know of rules that make the statement something else.
    if let Known::Unknown(why) = table {
        return Some(Known::Unknown(why.clone()));
    }
    if let Some(why) = table.known().and_then(|table| replaced(change, table)) {
        return Some(Known::Unknown(why));
    }
    match (change.verb, &change.restriction, change.source) {
        (Verb::Insert, _, Source::Values(n)) if facts.unread.is_some() => Some(Known::Known(Rows::AtLeast(n))),
        (Verb::Insert, _, Source::Values(n)) => Some(Known::Known(Rows::AtMost(n))),
        (Verb::Insert, ..) if change.clauses.is_none() => {
            Some(Known::Unknown("the rows of a query are not counted before it inserts them".to_owned()))
        }
        (Verb::CopyIn, ..) => Some(Known::Unknown("the rows that it brings are not here yet".to_owned())),
        (Verb::Merge { .. }, ..) => {
            Some(Known::Unknown("the rows that a MERGE would match are not counted".to_owned()))
        }
        // What was not read may lift what was.
        _ if facts.unread.is_some() => None,
        (_, Restriction::CurrentOf { .. }, _) => Some(Known::Known(Rows::AtMost(1))),
        _ if mysql::limited(change).is_some_and(|most| most <= inquiry.sizes.free_rows) => {
            mysql::limited(change).map(|most| Known::Known(Rows::AtMost(most)))
        }
        (_, Restriction::Restricts { pinned }, _) if inquiry.mode.product().is_mysql() => {
            let table = table.known()?;
            let pinned = pins::all(change, pinned, table, mysql::source(inquiry, change, None).literals);
            one_row(change, table, &pinned).then_some(Known::Known(Rows::AtMost(1)))
        }
        (_, Restriction::Restricts { pinned }, _)
            if compares_exactly(inquiry) && one_row(change, table.known()?, pinned) =>
        {
            Some(Known::Known(Rows::AtMost(1)))
        }
        _ => None,
    }
}

/// A parameter's type decides how a key is compared with it: as float8, many a numeric is the same. A type that was not stated is that of
/// the column, unless the parameter stands in two places.
fn compares_exactly(inquiry: &Inquiry<'_>) -> bool {
    // bool, bytea, name, int8, int2, int4, text, oid, unknown, bpchar, varchar, dates and times, numeric, uuid (pg_type.dat, 13 to 18).
    const EXACT: &[u32] = &[16, 17, 19, 20, 21, 23, 25, 26, 705, 1042, 1043, 1082, 1083, 1114, 1184, 1266, 1700, 2950];
    let Some(parameters) = inquiry.parameters else { return true };
    let count = parameters.values.len();
    let stated = |at: usize| parameters.types.get(at).copied().unwrap_or(0);
    let twice = || rewrite::uses_a_parameter_twice(inquiry.text, inquiry.mode);
    (0..count).all(|at| stated(at) == 0 || EXACT.contains(&stated(at)))
        && ((0..count).all(|at| stated(at) != 0) || !twice())
}

/// A rule or an INSTEAD OF trigger does something else than the statement says.
fn replaced(change: &Change, table: &Table) -> Option<String> {
    if table.has_rules {
        return Some(format!("a rule on {}.{} decides what happens", table.schema, table.name));
    }
    let fires = |trigger: &&crate::policy::question::Trigger| match change.verb {
        Verb::Insert | Verb::CopyIn => trigger.on_insert,
        Verb::Update => trigger.on_update,
        Verb::Delete => trigger.on_delete,
        Verb::Merge { .. } => true,
    };
    let instead = table.triggers.iter().filter(|trigger| trigger.instead).find(fires)?;
    Some(format!("the trigger {} runs instead of the change", instead.name))
}

/// A unique key pinned by constants, where such a key holds for all rows the change can meet, and nothing is carried on.
fn one_row(change: &Change, table: &Table, pinned: &[String]) -> bool {
    let whole = match table.kind {
        // The keys of a partitioned table hold over all its partitions, those of a table that others inherit from do not.
        TableKind::Partitioned => true,
        TableKind::Table | TableKind::Temporary => table.children == 0 || change.only,
        _ => false,
    };
    let pins = |key: &Vec<String>| !key.is_empty() && key.iter().all(|column| pinned.contains(column));
    whole && table.unique_keys.iter().any(pins) && !cascade::carries(change, table)
}

/// Row security shows only rows that may be read. A change that reads no column needs no right to read, so it can meet more.
fn seen(rows: Known<Rows>, change: &Change, table: &Known<Table>) -> Known<Rows> {
    let reads_nothing = matches!(change.restriction, Restriction::Nothing { .. } | Restriction::AlwaysTrue { .. });
    let hidden = table.known().is_none_or(|table| table.row_security);
    match rows {
        Known::Known(Rows::Exact(n)) if reads_nothing && hidden => Known::Known(Rows::AtLeast(n)),
        rows => rows,
    }
}

/// Why no question can be made from the text at all.
fn unbuildable(subject: &Subject<'_>, inquiry: &Inquiry<'_>) -> Option<String> {
    if let Some(why) = subject.table.known().and_then(|table| replaced(subject.change, table)) {
        return Some(why);
    }
    // Not knowing the table, we do not know of rules that make the statement something else.
    if let Known::Unknown(why) = &subject.table {
        return Some(why.clone());
    }
    if inquiry.facts.has_own_settings() {
        return Some("it is written with settings of its own, which no question is asked under".to_owned());
    }
    let values = mysql::source(inquiry, subject.change, None).literals.len();
    let too_few = inquiry.mode.product().is_mysql() && values != rewrite::mysql::parameters(inquiry.text, inquiry.mode);
    if too_few || inquiry.facts.parameters > 0 && inquiry.parameters.is_none() {
        return Some("its parameters have no values yet".to_owned());
    }
    if subject.change.clauses.is_some() {
        return None;
    }
    Some(match (subject.change.verb, subject.change.on_conflict) {
        (Verb::Insert, OnConflict::Updates) => "which rows an INSERT would meet is not looked up".to_owned(),
        (Verb::Insert | Verb::CopyIn, _) => "its rows are not there yet".to_owned(),
        (Verb::Merge { .. }, _) => "which rows a MERGE would match is not looked up".to_owned(),
        _ => "no question can be made from this statement".to_owned(),
    })
}

fn unaskable(subject: &Subject<'_>, inquiry: &Inquiry<'_>, calls: &Result<Calls, String>) -> Option<String> {
    if let Some(why) = unbuildable(subject, inquiry) {
        return Some(why);
    }
    let clauses = subject.change.clauses.as_ref()?;
    match calls {
        Err(why) => Some(why.clone()),
        Ok(calls) => match parts(inquiry.text, clauses) {
            Some(parts) => calls.objection(&parts),
            None => Some(catalog::odd()),
        },
    }
}

/// The parts of the text that go into a question.
fn parts<'a>(text: &'a str, clauses: &Clauses) -> Option<Vec<&'a str>> {
    let Clauses { with, target, from, tables, condition, order, limit, set: _ } = clauses.clone();
    let spans = [with, Some(target), from, tables, condition, order, limit];
    spans.into_iter().flatten().map(|span| text.get(span)).collect()
}

/// Rows before and, for an UPDATE whose new values are harmless to compute, after.
async fn sample<A: Ask>(
    interview: &mut Interview<'_, A>,
    inquiry: &Inquiry<'_>,
    change: &Change,
    calls: &Result<Calls, String>,
) -> Known<Sample> {
    if change.verb == Verb::Insert {
        return Known::Unknown("which rows an INSERT would meet is not looked up".to_owned());
    }
    let computable = calls.as_ref().is_ok_and(|calls| calls.objection(&[inquiry.text]).is_none());
    let before = Change { verb: Verb::Delete, assignments: Vec::new(), ..change.clone() };
    let change = if computable { change } else { &before };
    let Some(text) = rewrite::sample_text(inquiry.text, inquiry.mode, change, inquiry.sizes.sample_rows) else {
        return Known::Unknown("no question can be made from this statement".to_owned());
    };
    if interview.out_of_time() {
        return Known::Unknown("no time was left for it".to_owned());
    }
    let parameters = interview.parameters;
    match interview.ask(&text, parameters).await {
        Ok(answer) => {
            let rows = answer.rows.into_iter().map(|row| row.into_iter().map(|cell| cell.map(cut)).collect()).collect();
            Known::Known(Sample { columns: answer.columns, rows })
        }
        Err(error) => Known::Unknown(catalog::reason(&error)),
    }
}

fn cut(cell: String) -> String {
    match cell.char_indices().nth(limits::CELL_CHARS) {
        Some((at, _)) => format!("{}…", &cell[..at]),
        None => cell,
    }
}

/// All rows of a small table, so that "of N rows" is exact where that costs little.
async fn total<A: Ask>(interview: &mut Interview<'_, A>, change: &Change, table: &mut Known<Table>) {
    let Known::Known(table) = table else { return };
    let counts =
        matches!(table.kind, TableKind::Table | TableKind::Partitioned | TableKind::Temporary) && !table.row_security;
    let small = table.estimated_rows.is_none_or(|rows| rows <= limits::EXACT_TOTAL_ROWS);
    if !counts || !small || interview.out_of_time() {
        return;
    }
    let only = if change.only { "ONLY " } else { "" };
    let name = quote::dotted(&[table.schema.clone(), table.name.clone()]);
    let limit = limits::EXACT_TOTAL_ROWS + 1;
    let question = match interview.product {
        Product::PostgreSql => {
            format!("SELECT pg_catalog.count(*) FROM (SELECT 1 FROM {only}{name} LIMIT {limit}) AS sluice_counted")
        }
        _ => {
            let name = quote::mysql::dotted(&[table.schema.clone(), table.name.clone()]);
            format!("SELECT COUNT(*) FROM (SELECT 1 FROM {name} LIMIT {limit}) AS sluice_counted")
        }
    };
    let answer = interview.ask(&question, None).await.unwrap_or_default();
    table.exact_rows = crate::database::interview::first_number(&answer).filter(|rows| *rows < limit);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{Answer, AskError};
    use crate::sql;

    #[derive(Default)]
    struct Counting(usize);

    impl Ask for Counting {
        async fn ask(&mut self, _: &str, _: Option<&Parameters>) -> Result<Answer, AskError> {
            self.0 += 1;
            Err(AskError::Deadline)
        }
    }

    #[tokio::test]
    async fn a_list_that_is_too_long_to_be_shown_costs_no_question() {
        for (count, asks) in [(limits::REMOVALS_SHOWN_MAX, true), (limits::REMOVALS_SHOWN_MAX + 1, false)] {
            let text = format!("TRUNCATE {}", vec!["t"; count].join(", "));
            let reading = sql::read(&text, LexicalMode::default());
            let facts = &reading.statements[0].facts;
            let asked = Questions { table: true, rows: true, ..Questions::default() };
            let inquiry = Inquiry {
                text: &text,
                mode: LexicalMode::default(),
                facts,
                changes: &[],
                removals: &vec![asked; count],
                parameters: None,
                sizes: &Sizes::default(),
                count_bound: 10,
                now: &Instant::now,
            };
            let mut asker = Counting::default();
            let evidence = gather(&mut asker, &inquiry, &mut Cache::default()).await;
            assert_eq!(asker.0 > 0, asks, "{count}: {} questions", asker.0);
            assert_eq!(evidence.removals.len(), count);
            assert!(evidence.removals.iter().all(|one| matches!(one.tables, Known::Unknown(_))), "never nothing");
        }
    }
}
