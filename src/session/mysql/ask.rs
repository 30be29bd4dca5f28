//! Questions on the client's own connection, between its commands, that leave no trace.
//!
//! ```text
//! idle                 START TRANSACTION READ ONLY · questions · ROLLBACK
//! in a transaction     questions only: MySQL has no savepoint that would give a read view back, and takes no READ ONLY in the middle
//! ```
//!
//! Invariant: nothing is outstanding before and after; the session's status afterwards is the one before, or the session ends. Every
//! wait has a deadline: the server's own (MAX_EXECUTION_TIME, max_statement_time), and past it (plus a grace) the connection counts as
//! lost. What the client could ask about its last statement (`ROW_COUNT()`, warnings) is kept in [`crate::session::mysql::aftermath`].
//!
//! Sources: MySQL manual, "Optimizer Hints" and "START TRANSACTION"; MariaDB's "SET STATEMENT". Tried on MySQL 9.7 and MariaDB 10.11.

use crate::database::{Answer, Ask, AskError};
use crate::ground::limits;
use crate::protocol::Parameters;
use crate::protocol::mysql::capabilities::Capabilities;
use crate::protocol::mysql::cursor::Reader;
use crate::protocol::mysql::frame::{Packet, packet};
use crate::protocol::mysql::message::Script;
use crate::protocol::mysql::response::{self, End, status};
use crate::session::link::{Link, Listen, Woke};
use crate::sql::encoding::Letters;
use crate::sql::lexer::Lexer;
use crate::sql::statement::{LexicalMode, MySqlMode, Product};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// How the questions are kept apart from what the client is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Ground {
    /// A transaction of our own.
    Own,
    /// The client's transaction goes on.
    Block,
}

/// The session must end.
#[derive(Debug)]
pub(in crate::session) enum Broken {
    /// The connection is gone, or does not answer.
    Lost(String),
    /// It is in a state that we do not know.
    Unknown(String),
}

/// Asks while it lives. [`Asker::end`] must be called: it puts the connection back as it was.
pub(in crate::session) struct Asker<'a> {
    line: Line<'a>,
    mode: MySqlMode,
    ground: Ground,
    time: Duration,
    broken: Option<Broken>,
    cancelled: bool,
    /// Reading rows would lock them: the client's transaction is SERIALIZABLE.
    locks: bool,
    letters: Letters,
}

/// The connection, for words of ours and what comes back.
pub(in crate::session) struct Line<'a> {
    pub link: &'a mut Link,
    pub server: Capabilities,
    pub deadline: Instant,
}

/// What came back for one text.
#[derive(Debug)]
pub(in crate::session) struct Heard {
    pub answer: Answer,
    /// The payloads in front of the rows, as they came.
    pub head: Vec<Bytes>,
    pub end: End,
    pub too_large: bool,
    /// What an OK says to people.
    pub info: Option<String>,
}

impl Line<'_> {
    /// One text of ours, and everything up to the end of its answer. One result: our texts have no more.
    pub async fn say(&mut self, text: &[u8]) -> Result<Heard, Broken> {
        self.link.say(Script::new(self.server).query_bytes(text));
        self.hear().await
    }

    /// The answer to a COM_QUERY of ours.
    pub async fn hear(&mut self) -> Result<Heard, Broken> {
        let first = self.next().await?;
        if let Some(end) = self.ended(&first, true)? {
            let whole = first.into_bytes();
            let info = match &end {
                End::Okay(okay) => whole.get(okay.info.clone()).map(|info| String::from_utf8_lossy(info).into_owned()),
                _ => None,
            };
            return Ok(Heard { answer: Answer::default(), head: Vec::new(), end, too_large: false, info });
        }
        let mut reader = Reader::new(first.payload());
        let columns = reader.lenenc().map_err(|_| odd("a column count"))?;
        let mut heard = Heard {
            answer: Answer::default(),
            head: vec![first.payload_bytes()],
            end: End::Eof { status: 0, warnings: 0, status_at: 0, warnings_at: 0 },
            too_large: false,
            info: None,
        };
        for _ in 0..columns {
            let definition = self.next().await?;
            heard.answer.columns.push(column_name(definition.payload()).ok_or_else(|| odd("a column"))?);
            heard.head.push(definition.payload_bytes());
        }
        if !self.server.has(Capabilities::DEPRECATE_EOF) {
            heard.head.push(self.next().await?.payload_bytes());
        }
        let mut bytes = 0;
        loop {
            let row = self.next().await?;
            if let Some(end) = self.ended(&row, false)? {
                heard.end = end;
                return Ok(heard);
            }
            bytes += row.payload().len();
            if bytes > limits::QUESTION_BYTES_MAX || heard.answer.rows.len() >= limits::QUESTION_ROWS_MAX {
                heard.too_large = true;
            } else {
                let cells = cells(row.payload(), heard.answer.columns.len()).ok_or_else(|| odd("a row"))?;
                heard.answer.rows.push(cells);
            }
        }
    }

    /// The answer to a COM_STMT_PREPARE of ours: the statement's number.
    pub async fn hear_prepared(&mut self) -> Result<Result<u32, response::Failure>, Broken> {
        let first = self.next().await?;
        if first.tag() == Some(0xff) {
            let failure = response::read_failure(first.payload()).map_err(|_| odd("an error"))?;
            return Ok(Err(failure));
        }
        let prepared = response::read_prepared(first.payload()).map_err(|_| odd("a prepared statement"))?;
        let eof = usize::from(!self.server.has(Capabilities::DEPRECATE_EOF));
        for list in [prepared.parameters, prepared.columns] {
            let packets = if list == 0 { 0 } else { usize::from(list) + eof };
            for _ in 0..packets {
                self.next().await?;
            }
        }
        Ok(Ok(prepared.statement))
    }

    fn ended(&self, packet: &Packet, is_first: bool) -> Result<Option<End>, Broken> {
        let length = packet.payload().len();
        let is_end = match packet.tag() {
            Some(0xff) => true,
            Some(0x00) => is_first,
            // A row may begin so too, but only one that fills a packet.
            Some(0xfe) => !is_first && (self.server.has(Capabilities::DEPRECATE_EOF) || length <= 8),
            _ => false,
        };
        if !is_end {
            return Ok(None);
        }
        let whole = packet.clone().into_bytes();
        response::read_end(&whole, self.server).map(Some).map_err(|_| odd("the end of a result"))
    }

    async fn next(&mut self) -> Result<Packet, Broken> {
        let until = tokio::time::Instant::from_std(self.deadline + limits::QUESTION_GRACE);
        loop {
            match packet(self.link.answers(), limits::ANSWER_FRAME_BYTES_MAX) {
                Ok(Some(packet)) => return Ok(packet),
                Ok(None) => {}
                Err(malformed) => return Err(Broken::Lost(malformed.to_string())),
            }
            if self.link.upstream_ended() {
                return Err(Broken::Lost("the database closed the connection".to_owned()));
            }
            match tokio::time::timeout_at(until, self.link.wait(Listen::Upstream)).await {
                Ok(Woke::Upstream | Woke::Client) => {}
                Ok(Woke::UpstreamGone(error) | Woke::ClientGone(error)) => return Err(Broken::Lost(error.to_string())),
                Err(_) => {
                    return Err(Broken::Lost("the database did not answer a question within its deadline".to_owned()));
                }
            }
        }
    }
}

impl<'a> Asker<'a> {
    /// Nothing may be outstanding on the link. `time` bounds each question (the database keeps it), `together` all of them.
    pub async fn begin(
        link: &'a mut Link,
        server: Capabilities,
        mode: MySqlMode,
        ground: Ground,
        time: Duration,
        together: Duration,
    ) -> Result<Asker<'a>, Broken> {
        let line = Line { link, server, deadline: Instant::now() + together.max(time) };
        let mut asker =
            Asker { line, mode, ground, time, broken: None, cancelled: false, locks: false, letters: Letters::Utf8 };
        if ground == Ground::Own {
            asker.must("START TRANSACTION READ ONLY").await?;
        }
        Ok(asker)
    }

    /// Parts of the client's text stand in what is asked: they are written as it wrote them.
    pub fn write_in(&mut self, letters: Letters) {
        self.letters = letters;
    }

    /// What the session's isolation is: in a transaction that is SERIALIZABLE, a plain SELECT locks what it reads.
    pub fn note_isolation(&mut self, isolation: Option<&str>) {
        self.locks = self.ground == Ground::Block && isolation.is_none_or(|level| level.starts_with("SERIAL"));
    }

    /// Puts the connection back as it was; whether somebody killed a question meanwhile.
    pub async fn end(mut self) -> Result<bool, Broken> {
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        if self.ground == Ground::Own {
            let heard = self.must("ROLLBACK").await?;
            if heard.end.status().is_none_or(|told| told & status::IN_TRANSACTION != 0) {
                return Err(Broken::Unknown("a transaction of ours did not end".to_owned()));
            }
        }
        Ok(self.cancelled)
    }

    /// Out of the transaction of ours that only reads, and into it again.
    pub async fn leave_reading(&mut self) -> Result<(), Broken> {
        if self.ground == Ground::Own {
            self.must("ROLLBACK").await?;
        }
        Ok(())
    }

    pub async fn go_on_reading(&mut self) -> Result<(), Broken> {
        if self.ground == Ground::Own {
            self.must("START TRANSACTION READ ONLY").await?;
        }
        Ok(())
    }

    /// A text is prepared, and nothing of it run.
    pub async fn prepared(&mut self, text: &[u8]) -> Result<Result<u32, response::Failure>, Broken> {
        self.line.link.say(Script::new(self.line.server).prepare(text));
        self.line.hear_prepared().await
    }

    pub fn close(&mut self, number: u32) {
        self.line.link.say(Script::new(self.line.server).close_statement(number));
    }

    /// A statement of ours that cannot fail in a sound session.
    async fn must(&mut self, text: &str) -> Result<Heard, Broken> {
        let heard = self.line.say(text.as_bytes()).await?;
        match heard.end.failed() {
            Some(failure) => Err(Broken::Unknown(format!("\"{text}\" failed: {} {}", failure.errno, failure.message))),
            None => Ok(heard),
        }
    }

    /// The question with its bound on time, whatever the session set for its own.
    fn bounded(&self, sql: &str) -> String {
        let millis = u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX).max(1);
        match self.mode.product {
            Product::MariaDb if !reads(sql) => sql.to_owned(),
            Product::MariaDb => format!(
                "SET STATEMENT max_statement_time={}.{:03}, sql_select_limit=18446744073709551615, max_join_size=18446744073709551615 FOR {sql}",
                millis / 1000,
                millis % 1000
            ),
            _ => with_hint(sql, self.mode, millis),
        }
    }
}

/// Anything but what the catalog and the session tell.
fn reads_rows(sql: &str) -> bool {
    reads(sql) && !sql.starts_with("EXPLAIN") && sql.contains(" FROM ") && !sql.contains("information_schema")
}

/// SHOW and its kind take no bounds, and need none.
fn reads(sql: &str) -> bool {
    let start = sql.trim_start_matches(|c: char| c == '(' || c.is_ascii_whitespace());
    ["select", "with", "explain"]
        .iter()
        .any(|word| start.get(..word.len()).is_some_and(|first| first.eq_ignore_ascii_case(word)))
}

/// MySQL takes its bounds behind the SELECT that a query begins with.
fn with_hint(sql: &str, mode: MySqlMode, millis: u64) -> String {
    let mut depth = 0i32;
    for token in Lexer::new(sql, LexicalMode::MySql(mode)) {
        depth += i32::from(token.is(b'(')) - i32::from(token.is(b')'));
        if depth == 0 && token.is_word(sql, "select") {
            let (before, behind) = sql.split_at(token.end);
            return format!(
                "{before} /*+ MAX_EXECUTION_TIME({millis}) SET_VAR(sql_select_limit=18446744073709551615) \
                 SET_VAR(max_join_size=18446744073709551615) */{behind}"
            );
        }
    }
    sql.to_owned()
}

impl Ask for Asker<'_> {
    async fn ask(&mut self, sql: &str, _: Option<&Parameters>) -> Result<Answer, AskError> {
        if self.broken.is_some() {
            return Err(AskError::Lost);
        }
        if self.cancelled {
            return Err(AskError::Cancelled);
        }
        if self.locks && reads_rows(sql) {
            let message = "in a SERIALIZABLE transaction a question would lock the rows that it reads".to_owned();
            return Err(AskError::Database { code: "HY000".to_owned(), message });
        }
        if Instant::now() >= self.line.deadline {
            return Err(AskError::Deadline);
        }
        let bounded = self.bounded(sql);
        let Some(written) = self.letters.write(&bounded) else {
            let message = "the session's character set cannot write what is asked".to_owned();
            return Err(AskError::Database { code: "HY000".to_owned(), message });
        };
        let heard = match self.line.say(&written).await {
            Ok(heard) => heard,
            Err(broken) => {
                self.broken = Some(broken);
                return Err(AskError::Lost);
            }
        };
        match heard.end.failed() {
            None if heard.too_large => Err(AskError::TooLarge),
            None => Ok(heard.answer),
            Some(failure) => Err(match failure.errno {
                // ER_QUERY_TIMEOUT; MariaDB's ER_STATEMENT_TIMEOUT.
                3024 | 1969 => AskError::Deadline,
                // ER_QUERY_INTERRUPTED: KILL QUERY from somewhere.
                1317 => {
                    self.cancelled = true;
                    AskError::Cancelled
                }
                _ => AskError::Database { code: failure.sqlstate.clone(), message: failure.message.clone() },
            }),
        }
    }
}

fn odd(what: &str) -> Broken {
    Broken::Unknown(format!("the answer to a question of ours held {what} that cannot be read"))
}

/// The cells of a row in text form.
fn cells(payload: &[u8], columns: usize) -> Option<Vec<Option<String>>> {
    let mut reader = Reader::new(payload);
    let mut cells = Vec::with_capacity(columns);
    for _ in 0..columns {
        cells.push(match reader.rest().first()? {
            0xfb => {
                reader.u8().ok()?;
                None
            }
            _ => Some(String::from_utf8_lossy(reader.lenenc_bytes().ok()?).into_owned()),
        });
    }
    reader.finish().ok()?;
    Some(cells)
}

/// catalog, schema, table, original table, name.
fn column_name(payload: &[u8]) -> Option<String> {
    let mut reader = Reader::new(payload);
    for _ in 0..4 {
        reader.lenenc_bytes().ok()?;
    }
    Some(String::from_utf8_lossy(reader.lenenc_bytes().ok()?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_stands_behind_the_select_that_counts() {
        let mode = MySqlMode::of(Product::MySql, 90704);
        for (sql, expected) in [
            ("SELECT 1", "SELECT /*+ MAX_EXECUTION_TIME(5)"),
            ("WITH a AS (SELECT 2) SELECT 1", "WITH a AS (SELECT 2) SELECT /*+ MAX_EXECUTION_TIME(5)"),
        ] {
            assert!(with_hint(sql, mode, 5).starts_with(expected), "{sql}");
        }
        assert_eq!(with_hint("SHOW WARNINGS", mode, 5), "SHOW WARNINGS");
    }

    #[test]
    fn rows_are_cut_into_cells() {
        assert_eq!(cells(&[1, b'a', 0xfb, 0], 3), Some(vec![Some("a".into()), None, Some(String::new())]));
        assert_eq!(cells(&[1, b'a'], 2), None);
        assert_eq!(cells(&[1, b'a', 0], 1), None, "nothing is left over");
    }
}
