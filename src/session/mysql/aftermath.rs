//! What a client can still ask about its last statement: warnings, `ROW_COUNT()`, `FOUND_ROWS()`. Questions of ours make the server forget
//! them, so they are kept here, with what Sluice itself has to say: a refusal's preview, a warning.
//!
//! Invariant: what is answered here is what the server would have answered had nothing been asked; where nothing was asked and nothing is
//! to be said, the server answers.
//!
//! Sources: MySQL manual, "SHOW WARNINGS", "Information Functions"; tried on MySQL 9.7 (any SELECT clears the warnings, and
//! `SELECT FOUND_ROWS()` leaves one of its own) and MariaDB 10.11 (only those that use tables do).

use crate::ground::limits;
use crate::protocol::Refusal;
use crate::protocol::mysql::response::{End, Failure};
use crate::sql::lexer::{self, Lexer, Token};
use crate::sql::statement::LexicalMode;

/// One line of SHOW WARNINGS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::session) struct Condition {
    pub level: String,
    pub code: u16,
    pub message: String,
}

#[derive(Debug, Default)]
pub(in crate::session) struct Aftermath {
    /// The server's conditions, where it does not know them any more.
    kept: Option<Vec<Condition>>,
    /// What Sluice has to say to the statement that was answered last.
    ours: Vec<Condition>,
    /// What Sluice has to say to the statement that is on its way.
    coming: Vec<Condition>,
    /// How many warnings the server told of.
    warnings: u16,
    row_count: Option<i64>,
    found_rows: Option<String>,
    /// What is on its way to the server only looks at the conditions, and leaves them.
    only_looks: bool,
    /// What the statement answered last left, whether the server still knows it or not.
    last_row_count: i64,
}

/// What a text asks of the last statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::session) enum Wish {
    Conditions {
        errors_only: bool,
        skip: usize,
        most: usize,
    },
    Count {
        errors_only: bool,
        name: String,
    },
    Value {
        name: String,
        what: Counted,
    },
    /// Several of them and nothing else.
    Values(Vec<(String, Counted)>),
    /// Its numbers stand in another statement: these places are to be replaced.
    Within(Vec<Place>),
}

/// Where one of the numbers stands, and whether it is a column of its own, which is called as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::session) struct Place {
    pub span: std::ops::Range<usize>,
    pub what: Counted,
    pub is_column: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Counted {
    RowCount,
    FoundRows,
}

impl Aftermath {
    /// SHOW WARNINGS has more to show than the server knows.
    pub fn has_conditions(&self) -> bool {
        self.kept.is_some() || !self.ours.is_empty()
    }

    /// It was asked for: that is a statement that gives rows, and leaves the conditions as they are.
    pub fn was_asked(&mut self) {
        self.last_row_count = -1;
        self.row_count = Some(-1);
    }

    /// The same by a query, which finds rows: one.
    pub fn was_queried(&mut self) {
        self.was_asked();
        self.found_rows = Some("1".to_owned());
    }

    /// MySQL warns of its own function.
    pub fn found_rows_was_asked(&mut self) {
        let message =
            "FOUND_ROWS() is deprecated and will be removed in a future release. Consider using COUNT(*) instead.";
        let (level, message) = ("Warning".to_owned(), message.to_owned());
        self.kept = Some(vec![Condition { level, code: 1287, message }]);
        self.ours.clear();
    }

    /// A query without tables forgets them in MySQL.
    pub fn queried(&mut self) {
        self.kept = Some(Vec::new());
        self.ours.clear();
    }

    /// How many conditions the client is told of by packets that count them.
    pub fn count(&self) -> u16 {
        let own = self.kept.as_ref().map_or(usize::from(self.warnings), Vec::len);
        u16::try_from(own + self.ours.len()).unwrap_or(u16::MAX)
    }

    /// The server would not answer as it should, or has less to say than we.
    pub fn is_disturbed(&self) -> bool {
        self.kept.is_some() || !self.ours.is_empty() || self.row_count.is_some() || self.found_rows.is_some()
    }

    /// SHOW WARNINGS goes to the server, which knows what it knew afterwards too.
    pub fn looks(&mut self) {
        self.only_looks = true;
    }

    /// Warnings of the server's that would be lost by a question.
    pub fn has_unkept_warnings(&self) -> bool {
        self.kept.is_none() && self.warnings > 0
    }

    pub fn needs_found_rows(&self) -> bool {
        self.found_rows.is_none()
    }

    /// Before a question: what the server knew.
    pub fn keep(&mut self, conditions: Option<Vec<Condition>>, found_rows: Option<String>) {
        if self.kept.is_none() {
            self.kept = Some(conditions.unwrap_or_default());
        }
        if self.found_rows.is_none() {
            self.found_rows = found_rows;
        }
        if self.row_count.is_none() {
            self.row_count = Some(self.last_row_count);
        }
    }

    /// A result of the client's own statement ended: the server knows about it what there is to know.
    pub fn followed_by(&mut self, end: &End) {
        self.kept = None;
        self.row_count = None;
        self.ours = std::mem::take(&mut self.coming);
        if !std::mem::take(&mut self.only_looks) || end.failed().is_some() {
            self.warnings = end.warnings();
        }
        self.last_row_count = match end {
            End::Okay(okay) if !is_of_rows(end) => i64::try_from(okay.affected).unwrap_or(i64::MAX),
            _ => -1,
        };
        if end.failed().is_some() {
            // The error itself is a condition too.
            self.warnings = self.warnings.max(1);
        }
        if is_of_rows(end) {
            self.found_rows = None;
        }
    }

    /// Sluice refused the statement: what there is to say of it, line by line.
    pub fn refused(&mut self, refusal: &Refusal) {
        let line = |level: &str, text: &str| Condition {
            level: level.to_owned(),
            code: refusal.code.errno(),
            message: text.to_owned(),
        };
        let more = refusal.detail.iter().chain(&refusal.hint).flat_map(|text| text.lines());
        let mut ours = vec![line("Error", &refusal.message)];
        ours.extend(more.take(limits::CONDITIONS_MAX).map(|text| line("Note", text)));
        *self = Aftermath {
            kept: Some(Vec::new()),
            ours,
            row_count: Some(-1),
            last_row_count: -1,
            found_rows: self.found_rows.take(),
            ..Aftermath::default()
        };
    }

    /// The statement failed by an error of the server's that it does not know as this session's last any more.
    /// `conditions`: all that it left, where the server was asked in time.
    pub fn failed(&mut self, failure: &Failure, conditions: Option<Vec<Condition>>) {
        let condition =
            || Condition { level: "Error".to_owned(), code: failure.errno, message: failure.message.clone() };
        self.kept = Some(conditions.filter(|all| !all.is_empty()).unwrap_or_else(|| vec![condition()]));
        self.ours.clear();
        self.coming.clear();
        (self.row_count, self.last_row_count) = (Some(-1), -1);
    }

    /// To be told with the statement that goes on now.
    pub fn warn(&mut self, message: String) {
        if self.coming.len() < limits::CONDITIONS_MAX {
            self.coming.push(Condition { level: "Warning".to_owned(), code: 50003, message });
        }
    }

    /// What is told beside a statement that went well.
    pub fn note(&mut self, message: String) {
        if self.coming.len() < limits::CONDITIONS_MAX {
            self.coming.push(Condition { level: "Note".to_owned(), code: 50006, message });
        }
    }

    /// How many warnings of ours are to be told with the statement that is on its way.
    pub fn coming(&self) -> u16 {
        u16::try_from(self.coming.len()).unwrap_or(u16::MAX)
    }

    /// All that SHOW WARNINGS would show. `server`: what the server itself still says.
    pub fn conditions(&self, server: Vec<Condition>) -> Vec<Condition> {
        let mut all = self.kept.clone().unwrap_or(server);
        all.extend(self.ours.iter().cloned());
        all
    }

    /// The server has to be asked for its part.
    pub fn needs_the_servers(&self) -> bool {
        self.kept.is_none() && self.warnings > 0
    }

    pub fn value(&self, what: Counted) -> Option<String> {
        match what {
            Counted::RowCount => self.row_count.map(|count| count.to_string()),
            Counted::FoundRows => self.found_rows.clone(),
        }
    }
}

/// Whether a result of rows ended: its last packet begins as an EOF does, and affects nothing.
pub(in crate::session) fn is_of_rows(end: &End) -> bool {
    match end {
        End::Eof { .. } => true,
        End::Okay(okay) => okay.of_rows,
        End::Failed(_) => false,
    }
}

/// What a text asks of the statement before it; `None`: nothing.
pub(in crate::session) fn wish(text: &str, mode: LexicalMode) -> Option<Wish> {
    let tokens: Vec<Token> = Lexer::new(text, mode).filter(|token| !token.is_comment()).take(TOKENS_MAX).collect();
    let tokens = match tokens.split_last() {
        Some((last, before)) if last.is(b';') => before,
        _ => &tokens[..],
    };
    let first = tokens.first()?;
    if let Some(end) = tokens.iter().position(|token| token.is(b';')) {
        // What stands behind another statement asks about that one.
        let places = places(text, &tokens[..end]);
        return (!places.is_empty()).then_some(Wish::Within(places));
    }
    if first.is_word(text, "show") {
        return shown(text, &tokens[1..]);
    }
    let places = places(text, tokens);
    if places.is_empty() {
        return None;
    }
    // SELECT ROW_COUNT(), FOUND_ROWS(): nothing but what is kept here.
    let columns = 1 + 4 * places.len() - 1;
    if places.len() > 1 && places.iter().all(|place| place.is_column) && tokens.len() == columns {
        let named = |place: &Place| (text.get(place.span.clone()).unwrap_or_default().to_owned(), place.what);
        return Some(Wish::Values(places.iter().map(named).collect()));
    }
    match (&places[..], tokens.len()) {
        // SELECT ROW_COUNT(), and with a name of its own.
        ([Place { span, what, .. }], 4..=6) if first.is_word(text, "select") => {
            let name = match &tokens[4..] {
                [] => text.get(span.clone()).unwrap_or_default().to_owned(),
                [alias] => bare(text, alias),
                [_, alias] => bare(text, alias),
                _ => return Some(Wish::Within(places)),
            };
            Some(Wish::Value { name, what: *what })
        }
        _ => Some(Wish::Within(places)),
    }
}

/// Statements with more tokens are not looked through: what asks for the statement before it is short.
const TOKENS_MAX: usize = 512;

fn bare(text: &str, token: &Token) -> String {
    token.text(text).trim_matches(|quote| matches!(quote, '`' | '"' | '\'')).to_owned()
}

fn shown(text: &str, tokens: &[Token]) -> Option<Wish> {
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|token| token.is_word(text, word));
    let number = |at: usize| tokens.get(at).and_then(|token| token.text(text).parse::<usize>().ok());
    if is(0, "count") {
        let errors_only = is(4, "errors");
        let name = if errors_only { "@@session.error_count" } else { "@@session.warning_count" };
        return ((errors_only || is(4, "warnings")) && tokens.len() == 5)
            .then(|| Wish::Count { errors_only, name: name.to_owned() });
    }
    let errors_only = is(0, "errors");
    if !errors_only && !is(0, "warnings") {
        return None;
    }
    let (skip, most) = match tokens.len() {
        1 => (0, usize::MAX),
        3 if is(1, "limit") => (0, number(2)?),
        5 if is(1, "limit") && tokens[3].is(b',') => (number(2)?, number(4)?),
        5 if is(1, "limit") && is(3, "offset") => (number(4)?, number(2)?),
        _ => return None,
    };
    Some(Wish::Conditions { errors_only, skip, most })
}

/// Where `ROW_COUNT()` and `FOUND_ROWS()` stand.
fn places(text: &str, tokens: &[Token]) -> Vec<Place> {
    let mut found = Vec::new();
    let selects = tokens.first().is_some_and(|first| first.is_word(text, "select"));
    for (at, window) in tokens.windows(3).enumerate() {
        let [name, open, close] = window else { continue };
        if name.kind != lexer::Kind::Word || !open.is(b'(') || !close.is(b')') {
            continue;
        }
        let what = match name.text(text) {
            word if word.eq_ignore_ascii_case("row_count") => Counted::RowCount,
            word if word.eq_ignore_ascii_case("found_rows") => Counted::FoundRows,
            _ => continue,
        };
        let before = at.checked_sub(1).and_then(|at| tokens.get(at));
        let begins = before.is_some_and(|token| token.is(b',') || token.is_word(text, "select"));
        let ends = tokens.get(at + 3).is_none_or(|token| token.is(b',') || token.is_word(text, "from"));
        found.push(Place { span: name.start..close.end, what, is_column: selects && begins && ends });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::statement::{MySqlMode, Product};

    fn wished(text: &str) -> Option<Wish> {
        wish(text, LexicalMode::MySql(MySqlMode::of(Product::MySql, 90704)))
    }

    #[test]
    fn what_asks_for_the_statement_before_is_known() {
        let all = Wish::Conditions { errors_only: false, skip: 0, most: usize::MAX };
        assert_eq!(wished("SHOW WARNINGS;"), Some(all));
        assert_eq!(
            wished("show /* x */ errors limit 2, 5"),
            Some(Wish::Conditions { errors_only: true, skip: 2, most: 5 })
        );
        assert_eq!(
            wished("SHOW COUNT(*) WARNINGS"),
            Some(Wish::Count { errors_only: false, name: "@@session.warning_count".into() })
        );
        assert_eq!(
            wished("select row_count()"),
            Some(Wish::Value { name: "row_count()".into(), what: Counted::RowCount })
        );
        assert_eq!(
            wished("SELECT FOUND_ROWS() AS `n`"),
            Some(Wish::Value { name: "n".into(), what: Counted::FoundRows })
        );
        assert_eq!(
            wished("INSERT INTO log VALUES (ROW_COUNT())"),
            Some(Wish::Within(vec![Place { span: 24..35, what: Counted::RowCount, is_column: false }]))
        );
        for text in ["SELECT 1", "SHOW TABLES", "SELECT row_count FROM t", "SELECT 'row_count()'", "SHOW WARNINGS x"] {
            assert_eq!(wished(text), None, "{text}");
        }
    }

    #[test]
    fn what_the_server_forgot_is_kept_until_the_next_statement() {
        let mut aftermath = Aftermath::default();
        assert!(!aftermath.is_disturbed());
        aftermath.keep(None, Some("7".into()));
        assert_eq!(aftermath.value(Counted::FoundRows).as_deref(), Some("7"));
        aftermath.followed_by(&End::Eof { status: 0, warnings: 0, status_at: 0, warnings_at: 0 });
        assert!(!aftermath.is_disturbed(), "the server knows again");
    }
}
