//! Questions made from a change for MySQL and MariaDB: how many rows it would touch, which they are, what they would become.
//!
//! Invariant: every text handed out was read back and is exactly one read without locks; each `?` of the client's text has become the
//! literal of its value, for a question of ours binds none. The parts are spliced from the client's own text, so names mean what they mean
//! there. In doubt: `None`.
//!
//! A LIMIT counts where the change has one, ORDER BY only where it decides which rows those are. A row that a join meets twice is told by its
//! primary key, as the servers have no other name for a row that a text could use; a row that an outer join only makes up has none.

use crate::sql::dialect::{self, Reading};
use crate::sql::facts::{Change, Kind, OnConflict, Verb};
use crate::sql::lexer::{self, Lexer};
use crate::sql::statement::LexicalMode;
use crate::sql::unlocked::without_locks;
use std::ops::Range;

/// The client's statement, with what it needs to be asked about.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub text: &'a str,
    pub mode: LexicalMode,
    pub change: &'a Change,
    /// One for each `?` of the text, in its order.
    pub literals: &'a [String],
    /// The target's primary key, which tells the rows of a join apart.
    pub key: &'a [String],
}

/// How many rows of the target the change would touch; counting stops after `limit`.
pub fn count_text(source: &Source<'_>, limit: Option<u64>) -> Option<String> {
    let limit = limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default();
    if source.change.verb == Verb::Insert {
        if source.change.on_conflict == OnConflict::Fails {
            return None;
        }
        let query = source.part(&source.change.clauses.as_ref()?.target)?;
        return source.checked(format!(
            "SELECT COUNT(*) FROM (SELECT 1 FROM ({query}\n) AS sluice_source{limit}) AS sluice_rows"
        ));
    }
    let parts = Parts::of(source)?;
    let rows = match &parts.limit {
        Some(own) => {
            let row = if parts.joined { source.own_key()? } else { "1".to_owned() };
            format!("SELECT 1 FROM (SELECT {row} {}{own}) AS sluice_limited{limit}", parts.body)
        }
        None if parts.joined => format!("SELECT DISTINCT {} {}{limit}", source.own_key()?, parts.body),
        None => format!("SELECT 1 {}{limit}", parts.body),
    };
    source.checked(format!("{}SELECT COUNT(*) FROM ({rows}) AS sluice_rows", parts.with))
}

/// Some of the rows: DELETE shows the target's columns; UPDATE besides, for assignments whose new value can be told, a column of that value.
/// Which columns those are, in their order behind the target's own, is told with the text.
pub fn sample_text(source: &Source<'_>, rows: u64) -> Option<(String, Vec<String>)> {
    let parts = Parts::of(source)?;
    let (mut columns, mut values) = (Vec::new(), String::new());
    if source.change.verb == Verb::Update {
        for (at, assignment) in source.change.assignments.iter().enumerate() {
            let Some(value) = assignment.value.as_deref() else { continue };
            let is_default = value.trim().eq_ignore_ascii_case("default");
            // Assignments are made from left to right: a later one sees what an earlier one has set. And where a value of the text
            // stands in it more than once, it is not known which `?` is meant.
            let earlier = source.change.assignments.iter().take(at);
            let builds_on = earlier.clone().any(|one| mentions(value, source.mode, &one.column));
            if is_default || builds_on || has_parameter(value, source.mode) {
                continue;
            }
            values.push_str(&format!(", ({value}\n) AS sluice_new_{}", columns.len() + 1));
            columns.push(assignment.column.clone());
        }
    }
    let called = &source.change.called;
    let once = if parts.joined { "DISTINCT " } else { "" };
    let chosen = format!("SELECT {once}{called}.*{values} {}{}", parts.body, parts.order);
    let text = match &parts.limit {
        Some(own) => format!("{}SELECT * FROM ({chosen}{own}) AS sluice_limited LIMIT {rows}", parts.with),
        None => format!("{}{chosen} LIMIT {rows}", parts.with),
    };
    Some((source.checked(without_locks(&text, source.mode))?, columns))
}

/// The given columns of the rows the change would touch, called `k1`, `k2`…, fit to stand as a table in FROM.
pub fn keys_text(source: &Source<'_>, columns: &[String]) -> Option<String> {
    let parts = Parts::of(source)?;
    if columns.is_empty() {
        return None;
    }
    let called = &source.change.called;
    let list = columns.iter().enumerate().map(|(at, column)| format!("{called}.{} AS k{}", ident(column), at + 1));
    let list = list.collect::<Vec<_>>().join(", ");
    let limit = parts.limit.as_ref().map(|own| format!("{}{own}", parts.order)).unwrap_or_default();
    source.checked(format!("{}SELECT {list} {}{limit}", parts.with, parts.body))
}

/// Whether a text is exactly one statement that reads and nothing else: for texts that we made ourselves.
pub fn is_one_read(text: &str, mode: LexicalMode) -> bool {
    let Reading { statements, .. } = dialect::read(text, mode);
    let [statement] = statements.as_slice() else { return false };
    let facts = &statement.facts;
    let only_reads = facts.kind == Kind::Read && facts.unread.is_none() && facts.parameters == 0;
    only_reads
        && facts.changes.is_empty()
        && facts.removals.is_empty()
        && facts.settings.is_empty()
        && facts.acts.is_empty()
        && facts.executes.is_none()
}

/// How many values the text wants.
pub fn parameters(text: &str, mode: LexicalMode) -> usize {
    Lexer::new(text, mode).filter(|token| is_parameter(text, token)).count()
}

/// A prepared text with its values in it. `None`: there are fewer of them than it wants.
pub fn with_literals(text: &str, mode: LexicalMode, literals: &[String]) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for (number, token) in Lexer::new(text, mode).filter(|token| is_parameter(text, token)).enumerate() {
        out.push_str(text.get(from..token.span().start)?);
        out.push_str(&format!(" {} ", literals.get(number)?));
        from = token.span().end;
    }
    out.push_str(text.get(from..)?);
    Some(out)
}

impl Source<'_> {
    /// A part of the text with its values in it, without locks.
    fn part(&self, span: &Range<usize>) -> Option<String> {
        let mut out = String::with_capacity(span.len());
        let mut from = span.start;
        let tokens = Lexer::new(self.text, self.mode).filter(|token| is_parameter(self.text, token));
        for (number, token) in tokens.enumerate() {
            let place = token.span();
            if place.start < span.start || place.end > span.end {
                continue;
            }
            out.push_str(self.text.get(from..place.start)?);
            // A sign of the value must not meet one of the text: `1-?` is not to become a comment.
            out.push_str(&format!(" {} ", self.literals.get(number)?));
            from = place.end;
        }
        out.push_str(self.text.get(from..span.end)?);
        Some(without_locks(&out, self.mode))
    }

    /// The target's primary key, by which its rows are told apart.
    fn own_key(&self) -> Option<String> {
        let columns: Vec<String> = self.key.iter().map(|column| self.column(column)).collect();
        (!columns.is_empty()).then(|| columns.join(", "))
    }

    fn column(&self, column: &str) -> String {
        format!("{}.{}", self.change.called, ident(column))
    }

    fn checked(&self, text: String) -> Option<String> {
        is_one_read(&text, self.mode).then_some(text)
    }
}

struct Parts {
    /// With a line break behind it, or empty.
    with: String,
    /// `FROM … [WHERE …]`
    body: String,
    /// With a space before it, or empty.
    order: String,
    /// `LIMIT …`, with a space before it.
    limit: Option<String>,
    joined: bool,
}

impl Parts {
    fn of(source: &Source<'_>) -> Option<Parts> {
        if !matches!(source.change.verb, Verb::Update | Verb::Delete) {
            return None;
        }
        let clauses = source.change.clauses.as_ref()?;
        let part = |span: &Option<Range<usize>>| match span {
            Some(span) => source.part(span).map(Some),
            None => Some(None),
        };
        let with = part(&clauses.with)?;
        if let (Some(with), [name]) = (&with, &source.change.target.parts[..])
            && mentions(with, source.mode, name)
        {
            // A change goes to the table of that name; FROM would mean the WITH query. Where it only reads the table, nothing is asked either.
            return None;
        }
        let (joined, tables) = match (&clauses.tables, &clauses.from) {
            (Some(tables), _) => (true, source.part(tables)?),
            (None, None) => (false, source.part(&clauses.target)?),
            (None, Some(_)) => return None,
        };
        // The line breaks end comments that the parts may end in.
        let mut conditions: Vec<String> =
            part(&clauses.condition)?.map(|condition| format!("({condition}\n)")).into_iter().collect();
        if joined {
            let first = source.key.first()?;
            conditions.push(format!("{} IS NOT NULL", source.column(first)));
        }
        let conditions =
            if conditions.is_empty() { String::new() } else { format!("\nWHERE {}", conditions.join(" AND ")) };
        let ordered = |order: String| format!("\nORDER BY {order}\n");
        Some(Parts {
            with: with.map(|with| format!("{with}\n")).unwrap_or_default(),
            body: format!("FROM {tables}{conditions}"),
            order: part(&clauses.order)?.map(ordered).unwrap_or_default(),
            limit: part(&clauses.limit)?.map(|limit| format!("\nLIMIT {limit}\n")),
            joined,
        })
    }
}

/// A `?` that is a parameter, however the lexer calls it.
fn is_parameter(text: &str, token: &lexer::Token) -> bool {
    let counts = matches!(token.kind, lexer::Kind::Parameter | lexer::Kind::Operator | lexer::Kind::Punctuation(_));
    counts && token.text(text) == "?"
}

fn has_parameter(text: &str, mode: LexicalMode) -> bool {
    parameters(text, mode) > 0
}

/// The name stands in it, bare or quoted, in whatever case.
fn mentions(text: &str, mode: LexicalMode, name: &str) -> bool {
    let is_name = |token: &lexer::Token| {
        let written = token.text(text);
        let quoted = written.strip_prefix(['`', '"']).and_then(|rest| rest.strip_suffix(['`', '"']));
        let inner = quoted.map_or_else(|| written.to_lowercase(), |inner| inner.replace("``", "`").to_lowercase());
        inner == name.to_lowercase()
    };
    Lexer::new(text, mode).any(|token| !token.is_comment() && is_name(&token))
}

fn ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
