//! What the server is asked beside a statement's own questions: the session's settings, what our questions would make it forget, the number
//! of a statement of ours; and what the client asks about its last statement, answered from what was kept.
//!
//! Invariant: as [`crate::session::mysql::aftermath`].

use crate::database::quote;
use crate::protocol::mysql::answer;
use crate::protocol::mysql::frame::Frame;
use crate::protocol::mysql::message::Script;
use crate::protocol::mysql::response::{self, End as Ended, Failure};
use crate::session::End;
use crate::session::commands::Table;
use crate::session::mysql::Session;
use crate::session::mysql::aftermath::{self, Condition, Counted, Place, Wish, wish};
use crate::session::mysql::ask::{Asker, Broken, Ground, Line};
use crate::session::mysql::look::unknown_state;
use crate::session::mysql::settings;
use crate::session::reaching::Reaching;
use crate::sql::statement::Product;
use bytes::Bytes;
use std::time::Instant;

impl Session {
    /// The settings that decide how a text is read are known from here on.
    pub(in crate::session) async fn know_settings(&mut self) -> Result<(), End> {
        if self.settings.is_known() {
            return Ok(());
        }
        self.keep_aftermath().await?;
        let ground = self.ground();
        let heard = self.own(settings::QUESTION).await?;
        self.ended_asking(ground).await?;
        let mut cells = heard.answer.rows.into_iter().next().unwrap_or_default().into_iter();
        let (sql_mode, charset) = (cells.next().flatten(), cells.next().flatten());
        let (Some(sql_mode), Some(charset)) = (sql_mode, charset) else {
            return Err(unknown_state(Broken::Unknown("the session's settings could not be asked for".to_owned())));
        };
        self.settings.learn(&sql_mode, &charset);
        let Some(database) = quote::mysql::unhex(&cells.next().flatten().unwrap_or_default().replace('\0', "")) else {
            return Err(unknown_state(Broken::Unknown("the session's database could not be asked for".to_owned())));
        };
        // What names lead to is shown by rights: users of one account with the same roles see the same.
        let who = format!("{:?} {:?}", cells.next().flatten(), cells.next().flatten());

        if self.desk.principal.database != database {
            self.desk.principal.database = database;
            self.desk.cache.clear();
        }
        let who = format!("{who} {}", self.desk.principal.database);
        if self.who != who {
            self.reaching = Reaching::new(self.desk.house.schemas.of(&who));
            self.who = who;
        }
        Ok(())
    }

    /// Before a text is read: the settings that decide how, and what its names lead to under them.
    pub(in crate::session) async fn be_ready_to_read(&mut self) -> Result<(), End> {
        self.know_settings().await?;
        if !self.reaching.is_fresh() {
            Box::pin(self.refresh_reach()).await?;
        }
        Ok(())
    }

    /// Before any question of ours: what the client could still ask about its last statement.
    pub(in crate::session) async fn keep_aftermath(&mut self) -> Result<(), End> {
        let conditions = match self.aftermath.has_unkept_warnings() {
            true => Some(conditions(self.words("SHOW WARNINGS").await?.answer.rows)),
            false => None,
        };
        let found_rows = match self.aftermath.needs_found_rows() {
            true => self.found_rows().await?,
            false => None,
        };
        self.aftermath.keep(conditions, found_rows);
        Ok(())
    }

    /// What the client can ask about a statement that has just run, before anything else is asked.
    pub(in crate::session) async fn what_it_left(&mut self, end: &Ended) -> Result<Left, End> {
        let warned = end.warnings() > 0 || end.failed().is_some();
        let conditions = match warned {
            true => Some(conditions(self.words("SHOW WARNINGS").await?.answer.rows)),
            false => None,
        };
        let found_rows = match aftermath::is_of_rows(end) {
            true => self.found_rows().await?,
            false => None,
        };
        Ok(Left { conditions, found_rows })
    }

    /// Behind a statement that was carried out with its commit withheld, and that the client is told of now.
    pub(in crate::session) fn keep_what_it_left(&mut self, end: &Ended, left: Left) {
        self.aftermath.followed_by(end);
        self.aftermath.keep(left.conditions, left.found_rows);
    }

    async fn found_rows(&mut self) -> Result<Option<String>, End> {
        let heard = self.words("SELECT FOUND_ROWS()").await?;
        Ok(heard.answer.rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }

    /// With autocommit off a question begins a transaction, which is no client's.
    pub(in crate::session) async fn ended_asking(&mut self, ground: Ground) -> Result<(), End> {
        if ground == Ground::Own && !self.autocommits() {
            self.own("ROLLBACK").await?;
        }
        Ok(())
    }

    /// Answers what asks about the statement before, where the server could not. `Some(Some)`: a command to send in its stead.
    pub(in crate::session) async fn answer_aftermath(
        &mut self,
        text: &Bytes,
    ) -> Result<Option<Option<(Frame, Bytes)>>, End> {
        if !self.aftermath.is_disturbed() && !self.aftermath.has_unkept_warnings() {
            return Ok(None);
        }
        let Ok(text) = std::str::from_utf8(text) else { return Ok(None) };
        let Some(wish) = wish(text, self.settings.mode()) else { return Ok(None) };
        if matches!(wish, Wish::Conditions { .. } | Wish::Count { .. }) && !self.aftermath.has_conditions() {
            self.aftermath.looks();
            return Ok(None);
        }
        if !self.aftermath.is_disturbed() {
            return Ok(None);
        }
        match wish {
            Wish::Conditions { errors_only, skip, most } => {
                let all = self.all_conditions().await?;
                let rows = all.iter().filter(|condition| !errors_only || condition.level == "Error");
                let row = |condition: &Condition| {
                    vec![
                        Some(condition.level.clone()),
                        Some(condition.code.to_string()),
                        Some(condition.message.clone()),
                    ]
                };
                let said = |condition: &Condition| {
                    row(condition).into_iter().map(|cell| cell.map(|text| self.spoken(&text))).collect()
                };
                let rows: Table = rows.skip(skip).take(most).map(said).collect();
                // Under the server's own definitions, so that clients see the columns that they know.
                let head = self.words("SHOW WARNINGS LIMIT 0").await?.head;
                if self.reply_with(answer::rows_under(self.to_client(), &head, &rows, (self.status, 0))) {
                    self.aftermath.was_asked();
                }
            }
            Wish::Count { errors_only, name } => {
                let all = self.all_conditions().await?;
                let count = all.iter().filter(|condition| !errors_only || condition.level == "Error").count();
                let counted = u16::try_from(all.len()).unwrap_or(u16::MAX);
                self.answer_numbers(&[(name, count.to_string())], counted);
            }
            Wish::Value { name, what } => {
                let Some(value) = self.aftermath.value(what) else { return Ok(None) };
                let warnings = self.asked_by_query(&[what]);
                self.answer_numbers(&[(name, value)], warnings);
            }
            Wish::Values(wanted) => {
                let asked: Vec<Counted> = wanted.iter().map(|(_, what)| *what).collect();
                let values: Option<Vec<(String, String)>> =
                    wanted.into_iter().map(|(name, what)| Some((name, self.aftermath.value(what)?))).collect();
                let Some(values) = values else { return Ok(None) };
                let warnings = self.asked_by_query(&asked);
                self.answer_numbers(&values, warnings);
            }
            Wish::Within(places) => return Ok(self.replaced(text, &places).map(Some)),
        }
        Ok(Some(None))
    }

    fn answer_numbers(&mut self, values: &[(String, String)], warnings: u16) {
        if self.reply_with(answer::numbers(self.to_client(), values, (self.status, warnings))) {
            self.aftermath.was_queried();
        }
    }

    /// A query that asks for these leaves conditions of its own: how many.
    fn asked_by_query(&mut self, asked: &[Counted]) -> u16 {
        if self.settings.own_mode().product != Product::MySql {
            return self.aftermath.count();
        }
        if asked.contains(&Counted::FoundRows) {
            self.aftermath.found_rows_was_asked();
        } else {
            self.aftermath.queried();
        }
        self.aftermath.count()
    }

    async fn all_conditions(&mut self) -> Result<Vec<Condition>, End> {
        let server = match self.aftermath.needs_the_servers() {
            true => conditions(self.words("SHOW WARNINGS").await?.answer.rows),
            false => Vec::new(),
        };
        Ok(self.aftermath.conditions(server))
    }

    /// The text with the numbers in it that the server does not know any more.
    fn replaced(&self, text: &str, places: &[Place]) -> Option<(Frame, Bytes)> {
        let mut out = String::with_capacity(text.len());
        let (mut from, mut any) = (0, false);
        for Place { span, what, is_column } in places {
            let Some(value) = self.aftermath.value(*what) else { continue };
            out.push_str(text.get(from..span.start)?);
            out.push_str(&value);
            if *is_column {
                out.push_str(&format!(" AS {}", quote::mysql::ident(text.get(span.clone())?)));
            }
            (from, any) = (span.end, true);
        }
        out.push_str(text.get(from..)?);
        let frame = any.then(|| Frame::encoded(Script::new(self.server).query(&out).bytes())).flatten()?;
        Some((frame, Bytes::from(out)))
    }

    /// What came ahead for a statement that was not run is forgotten by the server, too.
    pub(in crate::session) async fn own_reset(&mut self, number: u32) -> Result<(), End> {
        self.link.say(Script::new(self.server).reset_statement(number));
        let heard = self.hear_own().await?;
        match heard.end.failed() {
            None => Ok(()),
            Some(failure) => Err(unknown_state(Broken::Unknown(format!("a reset failed: {}", failure.message)))),
        }
    }

    /// A statement of ours is prepared: its number, or the server's error.
    pub(in crate::session) async fn prepare_own(&mut self, text: &[u8]) -> Result<Result<u32, Failure>, End> {
        self.link.say(Script::new(self.server).prepare(text));
        let deadline = Instant::now() + self.desk.house.ask_timeout;
        let mut line = Line { link: &mut self.link, server: self.server, deadline };
        line.hear_prepared().await.map_err(unknown_state)
    }
}

impl Asker<'_> {
    /// What the server itself says of a text before anything of it runs: its own error, if it refuses to parse or to resolve it. `None`
    /// where it finds nothing wrong, or where its error is not about the text.
    pub async fn text_error(&mut self, text: &[u8]) -> Result<Option<Failure>, crate::database::AskError> {
        // In a transaction that only reads, the server says so of any change before it looks for its tables.
        let lost = |_| crate::database::AskError::Lost;
        self.leave_reading().await.map_err(lost)?;
        let prepared = self.prepared(text).await.map_err(lost)?;
        self.go_on_reading().await.map_err(lost)?;
        Ok(match prepared {
            Ok(number) => {
                self.close(number);
                None
            }
            Err(failure) => Some(failure).filter(is_about_the_text),
        })
    }
}

/// Errors of syntax, names and rights. Not those that say the text cannot be prepared.
fn is_about_the_text(failure: &response::Failure) -> bool {
    // ER_UNSUPPORTED_PS
    failure.errno != 1295 && failure.sqlstate.starts_with("42")
}

/// What a statement left behind it.
#[derive(Debug, Default)]
pub(in crate::session) struct Left {
    pub conditions: Option<Vec<Condition>>,
    pub found_rows: Option<String>,
}

fn conditions(rows: Table) -> Vec<Condition> {
    let condition = |row: Vec<Option<String>>| {
        let mut cells = row.into_iter().flatten();
        let (level, code, message) = (cells.next()?, cells.next()?, cells.next()?);
        Some(Condition { level, code: code.parse().ok()?, message })
    };
    rows.into_iter().filter_map(condition).collect()
}
