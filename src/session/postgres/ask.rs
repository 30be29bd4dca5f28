//! Questions of our own on the client's own upstream connection, leaving no trace.
//!
//! ```text
//! idle                 BEGIN READ ONLY · statement_timeout · questions · ROLLBACK
//! idle, pipeline open  Sync first (nothing was executed yet: there is nothing to commit), then as idle
//! in a transaction     SAVEPOINT · statement_timeout · READ ONLY · questions · ROLLBACK TO · RELEASE
//! pipeline, executed   questions only, no Sync: the implicit transaction goes on; an error fails it, and the statement with it
//! in a failed one      nothing is asked
//! ```
//!
//! Invariant: everything goes by named statements and portals of ours (`sluice_ask`), so the client's unnamed ones live on; the
//! transaction status afterwards is the one before, or the session ends. Every wait has a deadline: the database's own
//! `statement_timeout`, and past it (plus a grace) the connection counts as lost.
//!
//! Source: PostgreSQL manual, "Extended Query" and SAVEPOINT; tried on 15 and 18.

use crate::database::{Answer, Ask, AskError};
use crate::ground::limits;
use crate::protocol::Parameters;
use crate::protocol::postgres::command;
use crate::protocol::postgres::conversation::Conversation;
use crate::protocol::postgres::frame::{Frame, upstream_frame};
use crate::protocol::postgres::message::Script;
use crate::session::link::{Link, Listen, Woke};
use crate::session::registry::Seat;
use std::time::{Duration, Instant};

const NAME: &str = "sluice_ask";
const OUTER: &str = "sluice_outer";
const INNER: &str = "sluice_inner";

/// One more than is kept, so that a longer answer is noticed without being read.
const ROWS: i32 = limits::QUESTION_ROWS_MAX as i32 + 1;

/// How the questions are kept apart from what the client is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// A transaction of our own.
    Own,
    /// A savepoint in the client's transaction block.
    Savepoint,
    /// The implicit transaction of a pipeline that has executed something.
    Implicit,
    /// A failed transaction that the message to come ends: nothing can be asked.
    Failed,
}

/// The session must end.
#[derive(Debug)]
pub enum Broken {
    /// The connection is gone, or does not answer.
    Lost(String),
    /// It is in a state that we do not know.
    Unknown(String),
}

/// Asks while it lives. [`Asker::end`] must be called: it puts the connection back as it was.
pub struct Asker<'a> {
    link: &'a mut Link,
    seat: &'a Seat,
    ground: Ground,
    status_before: u8,
    deadline: Instant,
    broken: Option<Broken>,
    /// An implicit transaction that failed by a question: nothing more can be asked or done in it.
    failed: bool,
    cancelled: bool,
}

/// What came back for one script, up to its end.
#[derive(Default)]
struct Heard {
    answer: Answer,
    types: Vec<u32>,
    error: Option<(String, String)>,
    failure: Option<Frame>,
    too_large: bool,
    status: u8,
}

impl<'a> Asker<'a> {
    /// Nothing may be outstanding on the link. `time` bounds each question (the database keeps it), `together` all of them.
    pub async fn begin<T>(
        link: &'a mut Link,
        seat: &'a Seat,
        talk: &Conversation<T>,
        ground: Ground,
        time: Duration,
        together: Duration,
    ) -> Result<Asker<'a>, Broken> {
        debug_assert!(talk.is_quiet());
        let deadline = Instant::now() + together.max(time);
        let status_before = talk.status();
        seat.take_cancelled();
        let mut asker =
            Asker { link, seat, ground, status_before, deadline, broken: None, failed: false, cancelled: false };
        let timeout = format!(
            // Compiling a question takes longer than answering it.
            "SELECT pg_catalog.set_config('statement_timeout', '{}', true), pg_catalog.set_config('jit', 'off', true)",
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
        );
        match ground {
            Ground::Own => asker.must(&["BEGIN READ ONLY", &timeout, &format!("SAVEPOINT {INNER}")]).await?,
            Ground::Savepoint => {
                let outer = format!("SAVEPOINT {OUTER}");
                let inner = format!("SAVEPOINT {INNER}");
                // The timeout first: its SELECT takes the snapshot, if the transaction has none yet. A serializable transaction that
                // takes it while read-only counts as one that never writes, and its conflicts would go unnoticed.
                asker.must(&[&outer, &timeout, "SET TRANSACTION READ ONLY", &inner]).await?;
            }
            Ground::Implicit | Ground::Failed => {}
        }
        Ok(asker)
    }

    /// The types of a prepared statement's parameters, as the server resolved them. Asked before anything else.
    pub async fn parameter_types(&mut self, statement: &str) -> Result<Vec<u32>, AskError> {
        let heard = self.run(Script::default().describe_statement(statement)).await?;
        match heard.error {
            Some((code, message)) => Err(AskError::Database { code, message }),
            None => Ok(heard.types),
        }
    }

    /// What the server itself says of a text before anything of it runs: its own error, whole, if it refuses to parse or to analyse
    /// it. `None` where it finds nothing wrong, or where its error is not about the text.
    pub async fn parse_error(&mut self, text: &[u8]) -> Result<Option<Frame>, AskError> {
        let script = Script::default().close_statement(NAME).parse_bytes(NAME, text);
        if self.in_failed_transaction() {
            // The server's lexer and grammar still speak, and then it says that the transaction has failed: of one statement, and
            // not of one that ends it.
            let heard = self.hear(script.sync(), true).await?;
            let is_refused = |failure: &Frame| command::error_field(failure.body(), b'C').as_deref() == Some("25P02");
            return Ok(heard.failure.filter(|failure| is_refused(failure) || is_about_the_text(failure)));
        }
        let heard = self.run(script).await?;
        Ok(heard.failure.filter(is_about_the_text))
    }

    /// What is asked about will run in a transaction of its own, not in one that the client has begun.
    pub fn is_apart(&self) -> bool {
        self.ground == Ground::Own
    }

    pub fn in_failed_transaction(&self) -> bool {
        self.ground == Ground::Failed
    }

    /// Puts the connection back as it was. Whether the client asked to cancel meanwhile, and whether its implicit transaction
    /// was failed by a question, is told.
    pub async fn end(mut self) -> Result<Ended, Broken> {
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        match self.ground {
            Ground::Own => self.must(&["ROLLBACK"]).await?,
            Ground::Savepoint => {
                let back = format!("ROLLBACK TO SAVEPOINT {OUTER}");
                let release = format!("RELEASE SAVEPOINT {OUTER}");
                self.must(&[&back, &release]).await?;
            }
            Ground::Implicit | Ground::Failed => {}
        }
        Ok(Ended { cancelled: self.cancelled || self.seat.take_cancelled(), failed: self.failed })
    }

    /// Statements of ours that cannot fail in a sound session: sent with one write, answered by one ReadyForQuery.
    async fn must(&mut self, statements: &[&str]) -> Result<(), Broken> {
        let mut script = Script::default();
        for statement in statements {
            script = script
                .close_portal(NAME)
                .close_statement(NAME)
                .parse(NAME, statement, &[])
                .bind(NAME, NAME, None)
                .execute(NAME, 0);
            script = script.close_portal(NAME);
        }
        let script = script.close_statement(NAME).sync();
        let heard = match self.hear(script, true).await {
            Ok(heard) => heard,
            Err(_) => return Err(self.broken.take().unwrap_or_else(|| Broken::Lost("no answer".to_owned()))),
        };
        if let Some((code, message)) = heard.error {
            return Err(Broken::Unknown(format!("\"{}\" failed: {code} {message}", statements.join("; "))));
        }
        let expected = match (self.ground, statements.first()) {
            (Ground::Own, Some(&"ROLLBACK")) => b'I',
            (Ground::Own, _) => b'T',
            _ => self.status_before,
        };
        if heard.status != expected {
            return Err(Broken::Unknown(format!("transaction status {} where {} was due", heard.status, expected)));
        }
        Ok(())
    }

    async fn run(&mut self, script: Script) -> Result<Heard, AskError> {
        if self.ground == Ground::Failed {
            return Err(AskError::Database {
                code: "25P02".to_owned(),
                message: "the transaction has failed".to_owned(),
            });
        }
        if self.broken.is_some() || self.failed {
            return Err(AskError::Lost);
        }
        if self.cancelled {
            return Err(AskError::Cancelled);
        }
        if Instant::now() >= self.deadline {
            return Err(AskError::Deadline);
        }
        let with_sync = self.ground != Ground::Implicit;
        let script = if with_sync { script.sync() } else { script.close_statement(NAME).flush() };
        let heard = self.hear(script, with_sync).await?;
        if heard.error.is_some() {
            if with_sync {
                let back = format!("ROLLBACK TO SAVEPOINT {INNER}");
                if let Err(broken) = self.recover(&back).await {
                    self.broken = Some(broken);
                    return Err(AskError::Lost);
                }
            } else {
                self.failed = true;
            }
        }
        Ok(heard)
    }

    async fn recover(&mut self, statement: &str) -> Result<(), Broken> {
        let before = self.status_before;
        self.status_before = b'T';
        let done = self.must(&[statement]).await;
        self.status_before = before;
        done
    }

    /// Sends, and takes in everything up to the end of the answer: ReadyForQuery, or without a Sync the last CloseComplete or
    /// an error. Messages that are the client's (notifications, changed settings) are passed on.
    async fn hear(&mut self, script: Script, with_sync: bool) -> Result<Heard, AskError> {
        let mut closes = script.closes();
        self.link.say(script);
        let mut heard = Heard::default();
        let mut bytes = 0;
        loop {
            let frame = match self.next().await {
                Ok(frame) => frame,
                Err(why) => {
                    self.broken = Some(Broken::Lost(why));
                    return Err(AskError::Lost);
                }
            };
            match frame.tag() {
                b'D' => {
                    bytes += frame.body().len();
                    if bytes > limits::QUESTION_BYTES_MAX || heard.answer.rows.len() >= limits::QUESTION_ROWS_MAX {
                        heard.too_large = true;
                    } else {
                        heard.answer.rows.push(command::text_row(&frame).map_err(|_| AskError::Lost)?);
                    }
                }
                b'T' => heard.answer.columns = command::column_names(&frame).map_err(|_| AskError::Lost)?,
                b't' => heard.types = command::parameter_types(&frame).map_err(|_| AskError::Lost)?,
                b'E' => {
                    let field = |kind| command::error_field(frame.body(), kind).unwrap_or_default();
                    heard.error = Some((field(b'C'), field(b'M')));
                    heard.failure = Some(frame);
                    if !with_sync {
                        return Ok(heard);
                    }
                }
                b'Z' => {
                    heard.status = frame.body().first().copied().unwrap_or_default();
                    return Ok(heard);
                }
                b'3' => {
                    closes -= closes.min(1);
                    if closes == 0 && !with_sync {
                        return Ok(heard);
                    }
                }
                b'A' | b'S' => self.link.client.send(frame.into_bytes()),
                _ => {}
            }
        }
    }

    async fn next(&mut self) -> Result<Frame, String> {
        let until = tokio::time::Instant::from_std(self.deadline + limits::QUESTION_GRACE);
        loop {
            match upstream_frame(self.link.answers(), limits::ANSWER_FRAME_BYTES_MAX) {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(malformed) => return Err(malformed.to_string()),
            }
            if self.link.upstream_ended() {
                return Err("the database closed the connection".to_owned());
            }
            match tokio::time::timeout_at(until, self.link.wait(Listen::Upstream)).await {
                Ok(Woke::Upstream | Woke::Client) => {}
                Ok(Woke::UpstreamGone(error) | Woke::ClientGone(error)) => return Err(error.to_string()),
                Err(_) => return Err("the database did not answer a question within its deadline".to_owned()),
            }
        }
    }
}

/// Errors of syntax, names, rights and values. Not the one that says a text holds several statements: PostgreSQL calls that a syntax
/// error too, but such a text runs (the routine's name is not translated, its message is).
fn is_about_the_text(failure: &Frame) -> bool {
    let field = |kind| command::error_field(failure.body(), kind).unwrap_or_default();
    let code = field(b'C');
    let class = code.get(..2).unwrap_or_default();
    matches!(class, "42" | "22" | "0A" | "3F" | "26") && !matches!(field(b'R').as_str(), "" | "exec_parse_message")
}

/// How the questions ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The client asked to cancel meanwhile.
    pub cancelled: bool,
    /// The pipeline's implicit transaction was failed by a question.
    pub failed: bool,
}

impl Ask for Asker<'_> {
    async fn ask(&mut self, sql: &str, parameters: Option<&Parameters>) -> Result<Answer, AskError> {
        let types = parameters.map_or(&[][..], |given| &given.types);
        let script = Script::default()
            .close_portal(NAME)
            .close_statement(NAME)
            .parse(NAME, sql, types)
            .bind(NAME, NAME, parameters)
            .describe_portal(NAME)
            .execute(NAME, ROWS)
            .close_portal(NAME);
        let heard = self.run(script).await?;
        match heard.error {
            None if heard.too_large => Err(AskError::TooLarge),
            None => Ok(heard.answer),
            // query_canceled: by our own timeout, or because the client asked. Only we know which.
            Some((code, _)) if code == "57014" => {
                self.cancelled = self.seat.take_cancelled();
                Err(if self.cancelled { AskError::Cancelled } else { AskError::Deadline })
            }
            Some((code, message)) => Err(AskError::Database { code, message }),
        }
    }
}
