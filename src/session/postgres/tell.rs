//! Texts of our own on the client's upstream connection, outside anything of the client's, with everything that came back.
//!
//! Invariant: what is the client's (notices, notifications, settings) is passed on; rows and completions of ours never are.

use crate::audit::Permit;
use crate::database::Answer;
use crate::ground::limits;
use crate::protocol::postgres::command;
use crate::protocol::postgres::message::Script;
use crate::protocol::{Code, Parameters, Refusal};
use crate::session::End;
use crate::session::postgres::Session;
use crate::session::postgres::redeem::bound_script;
use crate::session::postgres::run::Failure;

/// What came back for one message of ours.
#[derive(Debug, Default)]
pub(in crate::session) struct Told {
    /// One for each statement that was carried out: its rows, and how many its tag counts.
    pub each: Vec<(Answer, u64)>,
    pub error: Option<(Failure, String)>,
    /// The transaction status.
    pub status: u8,
}

impl Told {
    /// The first cell of a statement's first row.
    pub fn cell(&self, statement: usize) -> Option<&str> {
        self.each.get(statement)?.0.rows.first()?.first()?.as_deref()
    }

    /// The first row of a statement, if it gave one and nothing in it is NULL.
    pub fn row(&self, statement: usize) -> Option<Vec<String>> {
        self.each.get(statement)?.0.rows.first()?.iter().cloned().collect()
    }

    pub fn tag(&self, statement: usize) -> u64 {
        self.each.get(statement).map_or(0, |(_, count)| *count)
    }
}

impl Session {
    /// One message of statements of ours. Only where the client has nothing outstanding.
    pub(in crate::session) async fn tell(&mut self, text: &str) -> Result<Told, End> {
        self.link.say(Script::default().query(text));
        self.hear_told().await
    }

    /// The same for what carries a permitted statement out.
    pub(in crate::session) async fn tell_permitted(&mut self, permit: &Permit, text: &str) -> Result<Told, End> {
        self.link.carry(permit, Script::default().query(text));
        self.hear_told().await
    }

    /// One statement of ours with values of the client's.
    pub(in crate::session) async fn tell_bound(&mut self, text: &str, parameters: &Parameters) -> Result<Told, End> {
        self.link.say(bound_script(text, parameters));
        self.hear_told().await
    }

    async fn hear_told(&mut self) -> Result<Told, End> {
        let (mut told, mut answer, mut bytes) = (Told::default(), Answer::default(), 0usize);
        let odd = |_| End::Refused(Refusal::new(Code::Upstream, "sluice: an answer of the database's cannot be read"));
        loop {
            let frame = self.next_frame().await?;
            match frame.tag() {
                b'T' => answer.columns = command::column_names(&frame).map_err(odd)?,
                b'D' => {
                    bytes = bytes.saturating_add(frame.body().len());
                    if bytes > limits::QUESTION_BYTES_MAX || answer.rows.len() >= limits::QUESTION_ROWS_MAX {
                        let message = "sluice: an answer of the database's is larger than it can be";
                        return Err(End::Refused(Refusal::new(Code::CannotKnow, message)));
                    }
                    answer.rows.push(command::text_row(&frame).map_err(odd)?);
                }
                b'C' | b'I' => {
                    let body = frame.body();
                    let count = command::changed_rows(body.strip_suffix(&[0]).unwrap_or(body)).unwrap_or(0);
                    told.each.push((std::mem::take(&mut answer), count));
                }
                b'E' => {
                    let field = |kind| command::error_field(frame.body(), kind).unwrap_or_default();
                    let (code, message) = (field(b'C'), field(b'M'));
                    told.error = Some((Failure { code, bytes: frame.into_bytes() }, message));
                }
                b'Z' => {
                    told.status = frame.body().first().copied().unwrap_or_default();
                    return Ok(told);
                }
                b'A' | b'N' => self.link.client.send(frame.into_bytes()),
                b'S' => self.note_and_pass(frame),
                _ => {}
            }
        }
    }
}
