//! The examples on the rules' pages, run: each is read, asked about, answered from the page's evidence, and judged.
//!
//! Invariant: a rule is answered only what it asked for, so an example also shows that the rule asks for what it needs.

use serde::Deserialize;
use sluice::policy;
use sluice::policy::count::pinned_to_one;
use sluice::policy::freeze::Frozen;
use sluice::policy::question::{
    Action, Cascade, ChangeEvidence, Column, Effects, Evidence, ForeignKey, Known, Questions, RemovalEvidence,
    RemovedTable, Rows, Table, TableEffect, TableKind, Trigger,
};
use sluice::policy::rules::{self, Caller, Ledger, Rule, Scripted};
use sluice::policy::scope::{Principal, effective};
use sluice::policy::settings::{Effective, Policy};
use sluice::sql::Product;
use sluice::sql::facts::{Change, Name, Removal, Removed, Restriction, Verb};
use sluice::sql::statement::{LexicalMode, MySqlMode};
use std::collections::BTreeMap;
use std::sync::Arc;

#[test]
fn every_example_matches_or_passes_as_its_page_says() {
    let mut wrong = Vec::new();
    for rule in rules::all() {
        let examples = examples(rule.page());
        assert!(examples.iter().any(|example| !example.matches), "{}: an example that passes", rule.code());
        let matching = examples.iter().any(|example| example.matches);
        assert!(matching || rule.fixed(), "{}: an example that matches", rule.code());
        for example in examples {
            let found = findings(*rule, &example);
            if found.is_empty() == example.matches {
                let expected = if example.matches { "matches" } else { "passes" };
                wrong.push(format!(
                    "{}: expected: {expected}\n  {}\n  as {:?}\n  found: {found:?}",
                    rule.code(),
                    example.sql,
                    example.mode.product()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} examples are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_page_answers_what_a_reader_asks() {
    for rule in rules::all() {
        for heading in ["What it matches", "Why it matters", "What to write instead", "When to allow it", "Examples"] {
            assert!(rule.page().contains(&format!("\n## {heading}\n")), "{}: {heading}", rule.code());
        }
    }
}

struct Example {
    matches: bool,
    sql: String,
    mode: LexicalMode,
    evidence: Page,
}

/// The last `evidence` block before an example holds for it.
fn examples(page: &str) -> Vec<Example> {
    let mut evidence = Page::default();
    let mut examples = Vec::new();
    let mut blocks = page.split("\n```");
    blocks.next();
    while let (Some(block), Some(_)) = (blocks.next(), blocks.next()) {
        let (kind, body) = block.split_once('\n').unwrap_or((block, ""));
        match kind {
            "evidence" => evidence = toml::from_str(body).unwrap_or_else(|error| panic!("{error}\n{body}")),
            "sql matches" | "sql passes" | "mysql matches" | "mysql passes" | "mariadb matches" | "mariadb passes" => {
                let (language, what) = kind.split_once(' ').unwrap_or_default();
                examples.extend(modes(language).iter().map(|mode| Example {
                    matches: what == "matches",
                    sql: body.to_owned(),
                    mode: *mode,
                    evidence: evidence.clone(),
                }));
            }
            "toml" => {}
            other => panic!("a block of unknown kind: {other}"),
        }
    }
    examples
}

/// How a block is read: `mysql` as both servers of that language do, `mariadb` as that one alone.
fn modes(language: &str) -> Vec<LexicalMode> {
    let mysql = LexicalMode::MySql(MySqlMode::of(Product::MySql, 90_704));
    let mariadb = LexicalMode::MySql(MySqlMode::of(Product::MariaDb, 101_114));
    match language {
        "mysql" => vec![mysql, mariadb],
        "mariadb" => vec![mariadb],
        _ => vec![LexicalMode::default()],
    }
}

fn findings(rule: &dyn Rule, example: &Example) -> Vec<String> {
    let reading = sluice::sql::read(&example.sql, example.mode);
    assert_eq!(reading.statements.len(), 1, "one statement an example: {}", example.sql);
    let written = &reading.statements[0].facts;
    // A page speaks of a PREPARE as of what it runs.
    let facts = if written.prepares.is_some() { policy::executed(written) } else { written.clone() };
    let mut effective = only(rule);
    effective.frozen = example.evidence.frozen.then(|| Arc::new(a_freeze()));
    let asked = policy::questions(&facts, &effective);
    let evidence = Evidence {
        changes: facts
            .changes
            .iter()
            .zip(&asked.changes)
            .map(|(change, asked)| example.evidence.of(change, *asked))
            .collect(),
        removals: facts
            .removals
            .iter()
            .zip(&asked.removals)
            .map(|(removal, asked)| example.evidence.of_removal(removal, *asked))
            .collect(),
        effects: example.evidence.effects(),
        unshown: example.evidence.unshown,
        ..Evidence::default()
    };
    let verdict = policy::judge(&facts, &evidence, &effective, &example.evidence.caller);
    for finding in verdict.judged().iter().map(|judged| &judged.finding) {
        let instead = finding.instead.as_deref().unwrap_or_default();
        let sentence = instead.starts_with(char::is_uppercase) && instead.ends_with('.');
        assert!(sentence, "{}: what to do instead is a sentence: {instead}", finding.rule);
        assert!(!finding.message.contains(finding.rule), "{}: named twice: {}", finding.rule, finding.message);
        assert!(finding.message.chars().count() < 100, "{}: too long: {}", finding.rule, finding.message);
    }
    verdict.judged().iter().map(|judged| judged.finding.message.clone()).collect()
}

/// A policy in which only this rule has a level, so that no other rule asks on its behalf.
fn only(rule: &dyn Rule) -> Effective {
    let mut policy = Policy::default();
    let allowed = |(at, slot): (usize, &(_, _))| {
        let (level, origin): &(sluice::policy::finding::Level, sluice::policy::settings::Origin) = slot;
        let own = rules::all()[at].code() == rule.code();
        (if own { *level } else { Default::default() }, origin.clone())
    };
    policy.levels = policy.levels.iter().enumerate().map(allowed).collect();
    effective(&policy, &Principal::default(), &[], jiff::Timestamp::UNIX_EPOCH)
}

fn a_freeze() -> Frozen {
    let (name, until) = ("year's end".to_owned(), "until 2027-01-02".to_owned());
    Frozen { name, reason: Some("the books are being closed".to_owned()), until, origin: "a page".into() }
}

/// What a page's `evidence` block says: tables by name, and what the caller states.
#[derive(Debug, Clone, Default, Deserialize)]
struct Page {
    #[serde(default, deserialize_with = "caller")]
    caller: Caller,
    /// Rows changed when it was tried, by table.
    effects: Option<BTreeMap<String, u64>>,
    unknown_effects: Option<String>,
    unshown: Option<u64>,
    /// A freeze holds.
    #[serde(default)]
    frozen: bool,
    #[serde(flatten)]
    tables: BTreeMap<String, PageTable>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PageTable {
    kind: PageKind,
    /// `id!` cannot be NULL, `code=` is generated.
    columns: Vec<String>,
    primary_key: Vec<String>,
    unique: Vec<Vec<String>>,
    children: u64,
    /// Of a view: the server changes the rows of the one table below it.
    maps_to_one: bool,
    /// Rows the change touches; of a removal, rows the table holds.
    rows: PageRows,
    referenced_by: Vec<PageKey>,
    /// All its rows, by the server's statistics.
    estimated: Option<u64>,
    /// How the plan reads it.
    scan: Option<String>,
    /// "carts_audit AFTER DELETE", "x BEFORE UPDATE OF a", "y AFTER INSERT once"
    triggers: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PageKind {
    #[default]
    Table,
    Temporary,
    View,
    Foreign,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum PageRows {
    Exact(u64),
    Other(BTreeMap<String, u64>),
    Unknown(String),
}

impl Default for PageRows {
    fn default() -> Self {
        PageRows::Unknown("the page does not say".to_owned())
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageKey {
    child: String,
    columns: Vec<String>,
    parent: Vec<String>,
    #[serde(default)]
    on_delete: String,
    #[serde(default)]
    on_update: String,
    /// Rows carried on.
    #[serde(default)]
    rows: PageRows,
}

impl Page {
    fn effects(&self) -> Known<Effects> {
        let table = |(name, rows): (&String, &u64)| TableEffect {
            name: name.clone(),
            deleted: *rows,
            ..TableEffect::default()
        };
        match (&self.effects, &self.unknown_effects) {
            (Some(tables), _) => {
                Known::Known(Effects { tables: tables.iter().map(table).collect(), ..Effects::default() })
            }
            (None, Some(why)) => Known::Unknown(why.clone()),
            (None, None) => Known::NotAsked,
        }
    }

    fn of(&self, change: &Change, asked: Questions) -> ChangeEvidence {
        let table = change.target.parts.last().and_then(|name| Some((name, self.tables.get(name)?)));
        let known = table.map(|(name, table)| table.known(name));
        let cascade = match (&known, table) {
            (Some(known), Some((_, table))) => table.cascade(change, known),
            _ => not_described(),
        };
        ChangeEvidence {
            verb: change.verb,
            table: when(asked.table || asked.cascade, || known.map_or_else(not_described, Known::Known)),
            rows: when(asked.rows, || match table {
                None => not_described(),
                // As the look does: a key that is pinned is not counted.
                Some((name, table)) if pinned_to_one(&fitting(change), &table.known(name)) => {
                    Known::Known(Rows::AtMost(1))
                }
                Some((_, table)) => table.rows.known(),
            }),
            cascade: when(asked.cascade, || cascade),
            carried: Known::NotAsked,
            reads: Known::NotAsked,
            sample: Known::NotAsked,
            scan: when(asked.plan, || {
                let scan = table.and_then(|(_, table)| table.scan.clone());
                scan.map_or_else(not_described, Known::Known)
            }),
        }
    }

    /// What is named, and nothing besides: pages say nothing of dependents, so CASCADE of other things stays unknown.
    fn of_removal(&self, removal: &Removal, asked: Questions) -> RemovalEvidence {
        let named = removal.name.parts.last().and_then(|name| Some((name, self.tables.get(name)?)));
        let is_table = matches!(removal.what, Removed::Rows | Removed::Table | Removed::Column(_));
        let tables = match named.filter(|_| is_table) {
            Some((name, table)) => match table.rows.known() {
                Known::Known(rows) => Known::Known(vec![table.removed(name, rows)]),
                _ => Known::Unknown("the page does not say".to_owned()),
            },
            None => not_described(),
        };
        let tables = when(asked.table && asked.rows, || tables);
        RemovalEvidence { tables, dependents: Known::NotAsked, refused_for: Vec::new() }
    }
}

impl PageTable {
    fn known(&self, name: &str) -> Table {
        let column = |written: &String| Column {
            name: written.trim_end_matches(['!', '=']).to_owned(),
            kind: "text".to_owned(),
            not_null: written.contains('!'),
            always: false,
            generated: written.contains('='),
        };
        let primary = Some(self.primary_key.clone()).filter(|key| !key.is_empty());
        Table {
            schema: "public".to_owned(),
            name: name.to_owned(),
            kind: match self.kind {
                PageKind::Table => TableKind::Table,
                PageKind::Temporary => TableKind::Temporary,
                PageKind::View => TableKind::View,
                PageKind::Foreign => TableKind::Foreign,
            },
            columns: self.columns.iter().map(column).collect(),
            unique_keys: primary.into_iter().chain(self.unique.iter().cloned()).collect(),
            primary_key: self.primary_key.clone(),
            referenced_by: self.referenced_by.iter().map(PageKey::known).collect(),
            children: self.children,
            maps_to_one: self.maps_to_one,
            estimated_rows: self.estimated,
            triggers: self.triggers.iter().map(|written| trigger(written)).collect(),
            ..Table::default()
        }
    }

    /// As the server would carry on: a DELETE by every key that acts, an UPDATE only by those whose columns it sets.
    fn cascade(&self, change: &Change, known: &Table) -> Known<Vec<Cascade>> {
        let acting = |(page, key): (&PageKey, &ForeignKey)| {
            let deletes = matches!(change.verb, Verb::Delete);
            let action = if deletes { key.on_delete } else { key.on_update };
            let sets = |column: &String| change.assignments.iter().any(|set| set.column == *column);
            let touched = deletes || key.parent_columns.iter().any(sets);
            let acts = !matches!(action, Action::NoAction | Action::Restrict);
            (touched && acts).then(|| Cascade {
                key: key.clone(),
                action,
                rows: page.rows.known(),
                below: Vec::new(),
                stopped: None,
            })
        };
        Known::Known(self.referenced_by.iter().zip(&known.referenced_by).filter_map(acting).collect())
    }

    fn removed(&self, name: &str, rows: Rows) -> RemovedTable {
        let schema = if matches!(self.kind, PageKind::Temporary) { "pg_temp_3" } else { "public" };
        let parts = vec![schema.to_owned(), name.to_owned()];
        RemovedTable { name: Name { written: parts.join("."), parts }, rows, bytes: 0, because: None }
    }
}

impl PageKey {
    fn known(&self) -> ForeignKey {
        ForeignKey {
            name: format!("{}_{}_fkey", self.child, self.columns.join("_")),
            child: Name { written: self.child.clone(), parts: vec!["public".to_owned(), self.child.clone()] },
            child_columns: self.columns.clone(),
            parent_columns: self.parent.clone(),
            on_delete: action(&self.on_delete),
            on_update: action(&self.on_update),
            child_indexed: true,
        }
    }
}

impl PageRows {
    fn known(&self) -> Known<Rows> {
        match self {
            PageRows::Exact(rows) => Known::Known(Rows::Exact(*rows)),
            PageRows::Unknown(why) => Known::Unknown(why.clone()),
            PageRows::Other(how) => match how.iter().next() {
                Some((how, rows)) if how == "estimate" => Known::Known(Rows::Estimate(*rows)),
                Some((how, rows)) if how == "at_least" => Known::Known(Rows::AtLeast(*rows)),
                other => panic!("rows that no page may hold: {other:?}"),
            },
        }
    }
}

fn trigger(written: &str) -> Trigger {
    let words: Vec<&str> = written.split_whitespace().collect();
    let has = |word: &str| words.contains(&word);
    let of = words.iter().position(|word| *word == "OF").map_or(&[][..], |at| &words[at + 1..]);
    Trigger {
        name: words[0].to_owned(),
        when: written.to_owned(),
        on_insert: has("INSERT"),
        on_update: has("UPDATE"),
        on_delete: has("DELETE"),
        each_row: !has("once"),
        instead: has("INSTEAD"),
        function: "noted".to_owned(),
        columns: of.iter().map(|column| (*column).to_owned()).collect(),
    }
}

/// Pages say nothing of types: what is compared with a constant is taken to be of a type that fits it.
fn fitting(change: &Change) -> Change {
    let mut change = change.clone();
    if let Restriction::Restricts { pinned } = &mut change.restriction {
        pinned.extend(change.pinned_if.iter().map(|one| one.column.clone()));
    }
    change
}

fn not_described<T>() -> Known<T> {
    Known::Unknown("the page does not describe it".to_owned())
}

fn when<T>(asked: bool, answer: impl FnOnce() -> Known<T>) -> Known<T> {
    if asked { answer() } else { Known::NotAsked }
}

fn action(written: &str) -> Action {
    match written {
        "" | "no action" => Action::NoAction,
        "restrict" => Action::Restrict,
        "cascade" => Action::Cascade,
        "set null" => Action::SetNull,
        "set default" => Action::SetDefault,
        other => panic!("an action that no page may hold: {other}"),
    }
}

fn caller<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Caller, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Written {
        max_affected: Option<u64>,
        script: Option<String>,
        ran: Option<String>,
        begun: Option<String>,
    }
    let written = Written::deserialize(deserializer)?;
    let ledger = match (written.ran, written.begun) {
        (Some(when), _) => Ledger::Ran(when),
        (_, Some(when)) => Ledger::Begun(when),
        _ => Ledger::New,
    };
    let script = written.script.map(|name| Scripted { name, ledger, rerun: None });
    Ok(Caller { max_affected: written.max_affected, script, ..Caller::default() })
}
