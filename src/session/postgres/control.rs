//! Looking a user's verifier up in the database, over a connection of Sluice's own (`auth_query`).
//!
//! The query runs for every login and nothing of its answer is kept: so a password that was changed, a role that was dropped or may
//! not log in any more counts at once, and how long a login takes does not tell whether somebody else was looked up before. It is
//! one index look-up over a connection that stays open; the login at the database that follows costs several times as much.
//!
//! Invariants: only the configured query is ever sent here, with the name as a bound parameter; a connection that was given up in
//! mid-answer is dropped, never used again; whatever is not a clear answer is an error, and its caller lets nobody in.

use crate::ground::limits;
use crate::protocol::Parameters;
use crate::protocol::cursor::{Cursor, Short};
use crate::protocol::postgres::handshake;
use crate::protocol::postgres::message::Script;
use crate::session::door::{AuthQuery, Checked, Stored};
use crate::session::link::Leg;
use crate::session::postgres::enter::{self, Credential, enter};
use crate::session::postgres::login::next_upstream;
use crate::session::upstream::Target;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

/// One listener's connection, on one thread. Logins wait for it in turn, each up to its own deadline.
#[derive(Default)]
pub struct Control {
    /// With the configuration that it was opened by: after a reload a new one is opened.
    open: Mutex<Option<(Arc<Checked>, Leg)>>,
}

impl Control {
    /// The error is for the operator.
    pub(in crate::session) async fn look_up(
        &self,
        target: &Target,
        checked: &Arc<Checked>,
        query: &AuthQuery,
        user: &str,
    ) -> Result<Stored, String> {
        let looked = tokio::time::timeout(limits::AUTH_QUERY_DEADLINE, self.within(target, checked, query, user)).await;
        looked.unwrap_or_else(|_| Err("no answer to auth_query in time".to_owned()))
    }

    async fn within(
        &self,
        target: &Target,
        checked: &Arc<Checked>,
        query: &AuthQuery,
        user: &str,
    ) -> Result<Stored, String> {
        let mut open = self.open.lock().await;
        // Taken out while it is used: if this future is dropped half-way, so is the connection.
        if let Some((by, mut leg)) = open.take()
            && Arc::ptr_eq(&by, checked)
            && let Ok(answer) = ask(&mut leg, &query.query, user).await
        {
            *open = Some((by, leg));
            return understood(answer, user);
        }
        let mut leg = connect(target, query).await?;
        let answer = ask(&mut leg, &query.query, user).await?;
        *open = Some((checked.clone(), leg));
        understood(answer, user)
    }
}

/// What one question was answered with.
enum Answer {
    Rows(Vec<Bytes>),
    /// The server's error; the connection is fit for the next question.
    Error(String),
}

async fn connect(target: &Target, query: &AuthQuery) -> Result<Leg, String> {
    let packet = handshake::startup_packet(&[
        ("user", &query.user),
        ("database", &query.database),
        ("application_name", "sluice auth_query"),
    ]);
    let credential = query.password.as_ref().map_or(Credential::Nothing, Credential::Password);
    let entered = enter(target, &packet, &query.user, credential).await;
    let mut leg = entered.map_err(|shut| format!("auth_query cannot log in at the database: {shut}"))?;
    match until_ready(&mut leg).await? {
        Answer::Rows(_) => Ok(leg),
        Answer::Error(error) => Err(format!("auth_query cannot log in at the database: {error}")),
    }
}

async fn ask(leg: &mut Leg, query: &str, user: &str) -> Result<Answer, String> {
    let values = vec![Some(Bytes::copy_from_slice(user.as_bytes()))];
    let parameters = Parameters { values, ..Parameters::default() };
    let script = Script::default().parse("", query, &[]).bind("", "", Some(&parameters)).execute("", 2).sync();
    leg.send(script.bytes());
    until_ready(leg).await
}

async fn until_ready(leg: &mut Leg) -> Result<Answer, String> {
    let (mut rows, mut bytes, mut error) = (Vec::new(), 0, None);
    loop {
        let next = next_upstream(leg).await.map_err(|error| error.to_string())?;
        let Some(frame) = next else {
            return Err(error.unwrap_or_else(|| "the connection of auth_query was closed".to_owned()));
        };
        match frame.tag() {
            b'D' => {
                bytes += frame.body().len();
                if bytes > limits::AUTH_QUERY_BYTES_MAX {
                    return Err("auth_query's answer is too long".to_owned());
                }
                rows.push(frame.body_bytes());
            }
            b'E' => error = Some(enter::said(frame.body())),
            b'Z' => return Ok(error.map_or(Answer::Rows(rows), Answer::Error)),
            b'1' | b'2' | b'C' | b's' | b'S' | b'K' | b'N' | b'I' | b'A' => {}
            other => {
                return Err(format!("the connection of auth_query said something unexpected (message type {other})"));
            }
        }
    }
}

/// No row: no such user. One row: its name, and its verifier or NULL.
fn understood(answer: Answer, user: &str) -> Result<Stored, String> {
    let rows = match answer {
        Answer::Rows(rows) => rows,
        Answer::Error(error) => return Err(format!("auth_query failed: {error}")),
    };
    let row = match rows.as_slice() {
        [] => return Ok(Stored::Nothing("no such user")),
        [row] => row,
        _ => return Err("auth_query gave more than one row".to_owned()),
    };
    let (name, kept) = columns(row).map_err(|Short| "auth_query gave no row of name and verifier".to_owned())?;
    if name != Some(user.as_bytes()) {
        return Err("auth_query gave the row of another user".to_owned());
    }
    let Some(kept) = kept else { return Ok(Stored::Nothing("the user has no password, or it is not valid any more")) };
    let text = std::str::from_utf8(kept).map_err(|_| "auth_query gave a verifier that is no text".to_owned())?;
    Ok(Stored::parse(&Zeroizing::new(text.to_owned())))
}

type Column<'a> = Option<&'a [u8]>;

fn columns(row: &[u8]) -> Result<(Column<'_>, Column<'_>), Short> {
    let mut cursor = Cursor::new(row);
    if cursor.i16()? < 2 {
        return Err(Short);
    }
    let mut column = || match cursor.i32()? {
        -1 => Ok(None),
        length => cursor.bytes(usize::try_from(length).map_err(|_| Short)?).map(Some),
    };
    Ok((column()?, column()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(columns: &[Option<&str>]) -> Bytes {
        let mut row = (columns.len() as i16).to_be_bytes().to_vec();
        for column in columns {
            row.extend(column.map_or(-1, |text| text.len() as i32).to_be_bytes());
            row.extend(column.unwrap_or_default().bytes());
        }
        row.into()
    }

    #[test]
    fn only_a_clear_answer_counts() {
        let stored = |rows: Vec<Bytes>| understood(Answer::Rows(rows), "anna");
        assert!(matches!(stored(vec![]), Ok(Stored::Nothing(_))));
        assert!(matches!(stored(vec![row(&[Some("anna"), None])]), Ok(Stored::Nothing(_))));
        assert!(matches!(stored(vec![row(&[Some("anna"), Some("md5")])]), Ok(Stored::Nothing(_))));
        for rows in [
            vec![row(&[Some("berta"), Some("x")])],
            vec![row(&[None, Some("x")])],
            vec![row(&[Some("anna")])],
            vec![Bytes::from_static(b"\0\x02\0\0\0\x04an")],
            vec![Bytes::from_static(b"\0\x02\xff\xff\xff\xfe")],
            vec![row(&[Some("anna"), None]), row(&[Some("anna"), None])],
        ] {
            assert!(stored(rows.clone()).is_err(), "{rows:?}");
        }
        assert!(understood(Answer::Error("no".to_owned()), "anna").is_err());
    }
}
