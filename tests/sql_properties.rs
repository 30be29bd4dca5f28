//! The reading of SQL held against PostgreSQL's own scanner and grammar (pg_query), over a corpus of tricky statements and over
//! texts generated and mutated from it. The one direction that must never fail: we do not see fewer statements or changes than it does.

use pg_query::protobuf::{ScanToken, Token as Scanned};
use proptest::prelude::*;
use sluice::sql::facts::{Facts, Kind, Verb};
use sluice::sql::lexer::{self, Lexer};
use sluice::sql::split::split;
use sluice::sql::statement::LexicalMode;
use sluice::sql::{Glance, Reading, glance, read};
use std::sync::{Mutex, PoisonError};

/// One statement or text to a line; `⏎` stands for a newline.
const CORPUS: &str = include_str!("data/tricky.sql");

const ON: LexicalMode = LexicalMode::Postgres { standard_conforming_strings: true };
const OFF: LexicalMode = LexicalMode::Postgres { standard_conforming_strings: false };

/// pg_query points stderr elsewhere while it works: one at a time, as in the house itself.
static AUTHORITY: Mutex<()> = Mutex::new(());

fn authority<T>(ask: impl FnOnce() -> T) -> T {
    let _turn = AUTHORITY.lock().unwrap_or_else(PoisonError::into_inner);
    ask()
}

fn corpus() -> Vec<String> {
    CORPUS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("#"))
        .map(|line| line.replace('⏎', "\n"))
        .collect()
}

fn postgres(text: &str, mode: LexicalMode) -> Reading {
    read(text, mode)
}

fn scan(text: &str) -> Option<Vec<ScanToken>> {
    // The library's scan_tokens (18.1) makes a slice of a null pointer when there is no token.
    if text.contains('\0') || Lexer::new(text, ON).next().is_none() {
        return None;
    }
    // A junk token is refused by the servers we know (15 to 18), but the library's scanner lets some through.
    if Lexer::new(text, ON).any(|token| token.kind == lexer::Kind::Junk) {
        return None;
    }
    // A parse that failed leaves the library's thread in the mode it was asked for; one that succeeds puts it right.
    authority(|| pg_query::parse("SELECT 1", 0).and_then(|_| pg_query::scan_tokens(text)).ok())
}

/// Statement kinds with the changes nested in them, as the library's own summary (in C, apart from the tree that facts are made of).
fn summary(text: &str, mode: LexicalMode) -> Option<Vec<String>> {
    if text.contains('\0') {
        return None;
    }
    let options = if mode.standard_conforming_strings() {
        pg_query::ParserOptions::DEFAULT
    } else {
        pg_query::ParserOptions::DISABLE_STANDARD_CONFORMING_STRINGS
    };
    authority(|| pg_query::summary(text, options, -1).ok()).map(|summary| summary.statement_types)
}

fn assert_same_tokens(text: &str) {
    let Some(theirs) = scan(text) else { return };
    let ours: Vec<(usize, usize)> = Lexer::new(text, ON).map(|token| (token.start, token.end)).collect();
    let theirs: Vec<(usize, usize)> = theirs.iter().map(|token| (token.start as usize, token.end as usize)).collect();
    assert_eq!(ours, theirs, "tokens of {text:?}");
}

fn assert_comments_agree(text: &str) {
    let Some(theirs) = scan(text) else { return };
    let theirs = theirs.iter().filter(|token| matches!(token.token(), Scanned::SqlComment | Scanned::CComment)).count();
    let ours = Lexer::new(text, ON).filter(|token| token.is_comment()).count();
    assert_eq!(ours, theirs, "comments of {text:?}");
}

fn assert_statements_agree(text: &str) {
    if text.contains('\0') {
        return;
    }
    if let Some(theirs) = authority(|| pg_query::split_with_parser(text).ok().map(|pieces| pieces.len())) {
        assert!(split(text, ON).len() >= theirs, "fewer pieces than the authority in {text:?}");
    }
}

fn has(facts: &Facts, kind: &str) -> bool {
    facts.changes.iter().any(|change| match kind {
        "InsertStmt" => change.verb == Verb::Insert,
        "UpdateStmt" => change.verb == Verb::Update,
        "DeleteStmt" => change.verb == Verb::Delete,
        "MergeStmt" => matches!(change.verb, Verb::Merge { .. }),
        _ => true,
    })
}

/// Parts that are not run now may hold changes that facts rightly do not list.
fn holds_bodies(types: &[String]) -> bool {
    types.iter().any(|kind| ["ExplainStmt", "RuleStmt", "CreateFunctionStmt", "ViewStmt"].contains(&kind.as_str()))
}

fn assert_no_change_is_missed(text: &str, mode: LexicalMode) {
    let Some(types) = summary(text, mode) else {
        return;
    };
    let reading = postgres(text, mode);
    let unread = reading.statements.iter().any(|statement| statement.facts.unread.is_some());
    let sluice = reading.statements.iter().any(|statement| statement.facts.kind == Kind::Sluice);
    for kind in
        types.iter().filter(|kind| ["InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"].contains(&kind.as_str()))
    {
        let seen = reading.statements.iter().any(|statement| has(&statement.facts, kind));
        assert!(seen || unread || sluice || holds_bodies(&types), "{kind} missed in {text:?}: {reading:#?}");
    }
    let harmful = [
        "UpdateStmt",
        "DeleteStmt",
        "MergeStmt",
        "TruncateStmt",
        "DropStmt",
        "AlterTableStmt",
        "DoStmt",
        "CallStmt",
        "VariableSetStmt",
        "ExecuteStmt",
        "PrepareStmt",
    ];
    if types.iter().any(|kind| harmful.contains(&kind.as_str())) {
        assert!(!matches!(glance(text, mode), Glance::Harmless { .. }), "harmless at a glance: {text:?}");
    }
}

fn assert_spans_are_sound(text: &str, reading: &Reading) {
    let mut end = 0;
    for statement in &reading.statements {
        assert!(statement.span.start >= end && text.get(statement.span.clone()).is_some(), "spans of {text:?}");
        end = statement.span.end;
    }
}

fn assert_all(text: &str) {
    assert_same_tokens(text);
    assert_comments_agree(text);
    assert_statements_agree(text);
    for mode in [ON, OFF] {
        assert_no_change_is_missed(text, mode);
        assert_spans_are_sound(text, &postgres(text, mode));
    }
    // Where the text says that the mode does not matter, it must not.
    let (tokens, sensitive) = lexer::tokens(text, ON);
    if !sensitive {
        assert_eq!(tokens, lexer::tokens(text, OFF).0, "mode of {text:?}");
    }
}

#[test]
fn the_corpus_is_read_as_the_authority_reads_it() {
    let corpus = corpus();
    assert!(corpus.len() >= 140, "{} texts", corpus.len());
    corpus.iter().for_each(|text| assert_all(text));
}

#[test]
fn the_corpus_is_read_to_its_end() {
    let mut unread = Vec::new();
    for text in corpus().iter().filter(|text| summary(text, ON).is_some()) {
        let reasons = postgres(text, ON).statements.into_iter().filter_map(|statement| statement.facts.unread);
        unread.extend(reasons.map(|reason| format!("{text}: {reason}")));
    }
    let expected = [
        "DROP OWNED BY r: DROP OWNED removes whatever the role owns, tables included: the text does not name it",
        "SELECT $1a: trailing junk after a number or parameter",
    ];
    assert_eq!(unread, expected);
}

#[test]
fn what_would_run_in_one_mode_only_is_said_to_depend_on_it() {
    for text in ["SELECT 'a\\'; DELETE FROM t; --'", "SELECT U&'a'", "INSERT INTO t VALUES ('c:\\x')"] {
        assert!(postgres(text, ON).mode_sensitive, "{text}");
    }
    for text in ["SELECT E'a\\'; DELETE FROM t; --'", "SELECT $$\\$$", "SELECT 1 -- \\", "SELECT \"\\\""] {
        assert!(!postgres(text, ON).mode_sensitive, "{text}");
    }
    assert_eq!(postgres("SELECT 'a\\'; DELETE FROM t; --'", ON).statements.len(), 2);
    assert_eq!(postgres("SELECT 'a\\'; DELETE FROM t; --'", OFF).statements.len(), 1);
}

#[test]
fn nothing_crashes_on_depth_or_length() {
    let mut long: Vec<String> = vec![
        format!("SELECT 1{}", " + 1".repeat(6_000)),
        format!("SELECT 1{}", " OR 1 = 1".repeat(3_000)),
        format!("DELETE FROM t WHERE {}1=1", "NOT ".repeat(6_000)),
        format!("DELETE FROM t WHERE a = 1{}", " OR a = 1".repeat(4_000)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(2_000)),
        format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("SELECT {}1{}", "(".repeat(2_000), ")".repeat(2_000)),
        format!("DELETE FROM t WHERE id IN ({}1)", "1, ".repeat(50_000)),
        "(".repeat(200_000),
        "/*".repeat(100_000),
        "'a'\n".repeat(50_000),
        "$a$ ".repeat(50_000),
        "SELECT 1;".repeat(20_000),
        format!("SELECT {}1", "-".repeat(3)),
    ];
    // Readers that try twice at every parenthesis would take for ever here.
    for depth in [20, 30, 45, 60] {
        let (open, close) = ("(".repeat(depth), ")".repeat(depth));
        long.push(format!("DELETE FROM t WHERE {open}a = 1{close}"));
        long.push(format!("DELETE FROM t WHERE {}1{}", "(SELECT ".repeat(depth), ")".repeat(depth)));
        long.push(format!("DELETE FROM t WHERE {}1{close}", "CASE WHEN f(".repeat(depth).replace("CASE WHEN ", "")));
        long.push(format!("DELETE FROM t USING {open}u JOIN v ON true{close} WHERE t.id = u.id"));
        long.push(format!("DELETE FROM t WHERE a IN {open}1{close}"));
    }
    for text in long {
        let reading = postgres(&text, ON);
        glance(&text, ON);
        let delete = text.starts_with("DELETE");
        let seen = reading
            .statements
            .iter()
            .all(|statement| statement.facts.unread.is_some() || !statement.facts.changes.is_empty());
        assert!(!delete || seen, "{}", &text[..40]);
    }
}

#[test]
fn a_long_chain_is_still_understood() {
    let text = format!("DELETE FROM t WHERE a = 1{}", " + 1".repeat(500));
    let reading = postgres(&text, ON);
    assert_eq!(reading.statements[0].facts.unread, None);
    assert_eq!(reading.statements[0].facts.changes.len(), 1);
}

#[test]
fn a_huge_insert_is_glanced_at() {
    let text = format!("INSERT INTO t VALUES {}(0, 'x')", "(1, 'it''s; DELETE FROM t'), ".repeat(400_000));
    assert!(matches!(glance(&text, ON), Glance::Harmless { kind: Kind::Insert, .. }));
    let reading = postgres(&text, ON);
    assert_eq!(reading.statements[0].facts.kind, Kind::Insert);
    let update = format!("UPDATE t SET a = 1 WHERE id IN ({}0)", "1, ".repeat(4_000_000));
    assert_eq!(postgres(&update, ON).statements[0].facts.kind, Kind::Unread);
}

/// Pieces that texts are made of: where they meet is where readers part.
fn pieces() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "SELECT ",
        "DELETE FROM t",
        "UPDATE t SET a = 1",
        "INSERT INTO t VALUES (1)",
        " WHERE ",
        "a",
        "1",
        ";",
        ";",
        "'",
        "''",
        "\"",
        "E'",
        "e'",
        "U&'",
        "U&\"",
        "B'",
        "x'",
        "N'",
        "\\",
        "\\'",
        "\n",
        "\r",
        "\t",
        " ",
        "--",
        "/*",
        "*/",
        "/",
        "*",
        "-",
        "+",
        "@",
        "$$",
        "$a$",
        "$",
        "$1",
        "(",
        ")",
        ",",
        ".",
        "..",
        "::",
        ":=",
        "=>",
        "<>",
        "!=",
        "|",
        "%",
        "#",
        "0x1F",
        "1_0",
        "1e",
        "1.5e-3",
        "é",
        "_x",
        "end",
        "case ",
        "begin ",
        "atomic ",
        "create function f() ",
        "with d as (",
        "returning *",
        "explain analyze ",
        "explain ",
        "prepare p as ",
        "union ",
        "and ",
        "or ",
        "null",
        "from t",
        "for update",
        "'b\\''; DELETE FROM t; --'",
        "-/* 'x */ 2",
        "sluice: a=1",
        "\u{b}",
        "\u{c}",
    ])
}

/// A text of the corpus with a few bytes cut out, doubled, or put in from elsewhere.
fn mutated() -> impl Strategy<Value = String> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0usize..6, pieces()), 0..4);
    (prop::sample::select(corpus()), edits).prop_map(|(text, edits)| {
        let mut characters: Vec<char> = text.chars().collect();
        for (at, cut, piece) in edits {
            let at = at.index(characters.len() + 1);
            let end = (at + cut).min(characters.len());
            characters.splice(at..end, piece.chars());
        }
        characters.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn texts_of_pieces_are_read_as_the_authority_reads_them(parts in prop::collection::vec(pieces(), 0..14)) {
        assert_all(&parts.concat());
    }

    #[test]
    fn mutated_texts_are_read_as_the_authority_reads_them(text in mutated()) {
        assert_all(&text);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&bytes);
        postgres(&text, ON);
        postgres(&text, OFF);
        glance(&text, ON);
        sluice::sql::redact(&text, ON);
    }
}

/// Three-valued evaluation over two numbers and two truth values, any of which may be NULL: the judge of the predicate reasoning.
mod evaluation {
    use super::*;
    use sluice::sql::facts::Need;
    use sluice::sql::predicate::{Comparison, Needs, Term, Truth, truth};
    use std::collections::BTreeMap;

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Value {
        Null,
        Bool(bool),
        Integer(i64),
    }

    type Row = BTreeMap<&'static str, Value>;

    /// AND over all; OR is its mirror image.
    fn all(truths: impl Iterator<Item = Option<bool>>, decisive: bool) -> Option<bool> {
        let truths: Vec<Option<bool>> = truths.collect();
        match truths.contains(&Some(decisive)) {
            true => Some(decisive),
            false => (!truths.contains(&None)).then_some(!decisive),
        }
    }

    fn value(term: &Term, row: &Row) -> Value {
        let known = |truth: Option<bool>| truth.map_or(Value::Null, Value::Bool);
        match term {
            Term::Bool(truth) => Value::Bool(*truth),
            Term::Integer(number) => Value::Integer(*number),
            Term::Column(name) => row.get(name.as_str()).copied().unwrap_or(Value::Null),
            Term::And(terms) => known(all(terms.iter().map(|term| holds(term, row)), false)),
            Term::Or(terms) => known(all(terms.iter().map(|term| holds(term, row)), true)),
            Term::Not(inner) => known(holds(inner, row).map(|truth| !truth)),
            Term::IsNull(inner) => Value::Bool(value(inner, row) == Value::Null),
            Term::Is(inner, wanted) => Value::Bool(holds(inner, row) == Some(*wanted)),
            Term::Same(left, right) => Value::Bool(value(left, row) == value(right, row)),
            Term::Coalesce(terms) => {
                terms.iter().map(|term| value(term, row)).find(|value| *value != Value::Null).unwrap_or(Value::Null)
            }
            Term::Strict(operator, operands) => {
                let operands: Vec<Value> = operands.iter().map(|term| value(term, row)).collect();
                match (operator.as_str(), operands.as_slice()) {
                    ("+", [Value::Integer(a), Value::Integer(b)]) => Value::Integer(a + b),
                    ("-", [Value::Integer(a), Value::Integer(b)]) => Value::Integer(a - b),
                    ("*", [Value::Integer(a), Value::Integer(b)]) => Value::Integer(a * b),
                    ("abs", [Value::Integer(a)]) => Value::Integer(a.abs()),
                    _ => Value::Null,
                }
            }
            Term::Case(arms, last) => {
                let taken = arms.iter().find(|(condition, _)| holds(condition, row) == Some(true));
                value(taken.map_or(last, |(_, result)| result), row)
            }
            Term::Compare(comparison, left, right) => match (value(left, row), value(right, row)) {
                (Value::Integer(a), Value::Integer(b)) => Value::Bool(comparison.holds(a.cmp(&b))),
                (Value::Bool(a), Value::Bool(b)) => Value::Bool(comparison.holds(a.cmp(&b))),
                _ => Value::Null,
            },
            _ => Value::Null,
        }
    }

    fn holds(term: &Term, row: &Row) -> Option<bool> {
        match value(term, row) {
            Value::Bool(truth) => Some(truth),
            _ => None,
        }
    }

    fn numbers() -> impl Strategy<Value = Term> {
        let leaf = prop_oneof![
            3 => prop::sample::select(vec!["a", "b"]).prop_map(|name| Term::Column(name.into())),
            3 => (0i64..3).prop_map(Term::Integer),
            1 => Just(Term::Null),
        ];
        leaf.prop_recursive(2, 6, 2, |inner| {
            prop_oneof![
                (prop::sample::select(vec!["+", "-", "*"]), prop::collection::vec(inner.clone(), 2))
                    .prop_map(|(operator, operands)| Term::Strict(operator.into(), operands)),
                inner.clone().prop_map(|operand| Term::Strict("abs".into(), vec![operand])),
                // The same again: what a simplification looks for.
                inner.clone().prop_map(|operand| Term::Strict("-".into(), vec![operand.clone(), operand])),
                (prop::sample::select(vec!["p", "q"]), inner.clone(), inner.clone()).prop_map(|(name, then, last)| {
                    Term::Case(vec![(Term::Column(name.into()), then)], Box::new(last))
                }),
                prop::collection::vec(inner, 1..3).prop_map(Term::Coalesce),
            ]
        })
    }

    fn comparisons() -> impl Strategy<Value = Comparison> {
        use Comparison::*;
        prop::sample::select(vec![Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual])
    }

    fn conditions() -> impl Strategy<Value = Term> {
        let leaf = prop_oneof![
            1 => any::<bool>().prop_map(Term::Bool),
            1 => Just(Term::Null),
            2 => prop::sample::select(vec!["p", "q"]).prop_map(|name| Term::Column(name.into())),
            6 => (comparisons(), numbers(), numbers()).prop_map(|(comparison, a, b)| Term::Compare(comparison, Box::new(a), Box::new(b))),
            2 => numbers().prop_map(|inner| Term::IsNull(Box::new(inner))),
            2 => (numbers(), numbers()).prop_map(|(a, b)| Term::Same(Box::new(a), Box::new(b))),
        ];
        leaf.prop_recursive(4, 24, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(Term::And),
                prop::collection::vec(inner.clone(), 1..4).prop_map(Term::Or),
                inner.clone().prop_map(|inner| Term::Not(Box::new(inner))),
                inner.clone().prop_map(|inner| Term::IsNull(Box::new(inner))),
                (inner.clone(), any::<bool>()).prop_map(|(inner, wanted)| Term::Is(Box::new(inner), wanted)),
                (comparisons(), inner.clone(), inner.clone())
                    .prop_map(|(comparison, a, b)| { Term::Compare(comparison, Box::new(a), Box::new(b)) }),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| Term::Same(Box::new(a), Box::new(b))),
                (inner.clone(), inner.clone(), inner.clone())
                    .prop_map(|(condition, then, last)| Term::Case(vec![(condition, then)], Box::new(last))),
                prop::collection::vec(inner, 1..3).prop_map(Term::Coalesce),
            ]
        })
    }

    fn rows() -> Vec<Row> {
        let numbers = [
            Value::Null,
            Value::Integer(-1),
            Value::Integer(0),
            Value::Integer(1),
            Value::Integer(2),
            Value::Integer(3),
        ];
        let truths = [Value::Null, Value::Bool(true), Value::Bool(false)];
        let mut rows = Vec::new();
        for a in numbers {
            for b in numbers {
                for p in truths {
                    rows.extend(truths.map(|q| Row::from([("a", a), ("b", b), ("p", p), ("q", q)])));
                }
            }
        }
        rows
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 6000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_called_true_is_true_for_every_row(condition in conditions()) {
            let answer = truth(&condition);
            for row in rows() {
                let holds_of_row = |need: &Need| match need {
                    Need::NotNull(name) => row[name.as_str()] != Value::Null,
                    Need::Within { .. } | Need::WholeRow => false,
                };
                let null_free = |needs: &Needs| needs.iter().all(holds_of_row);
                match &answer {
                    Truth::True(columns) if null_free(columns) => prop_assert_eq!(holds(&condition, &row), Some(true), "{:?} {:?}", condition, row),
                    Truth::False(columns) if null_free(columns) => prop_assert_eq!(holds(&condition, &row), Some(false), "{:?} {:?}", condition, row),
                    Truth::Null => prop_assert_eq!(value(&condition, &row), Value::Null, "{:?} {:?}", condition, row),
                    _ => {}
                }
            }
        }
    }
}
