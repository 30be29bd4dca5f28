//! Asks a session how it wants its refusals (`SET sluice.format = 'json'`).
//!
//! Invariant: the server is asked what is set, never a SET read; where it cannot be asked, what was last known holds.

use crate::database::Ask;
use crate::protocol::Refusal;
use crate::session::End;
use crate::session::format::Format;
use crate::session::postgres::Session;
use crate::session::postgres::ask::{Asker, Ground};
use crate::session::postgres::look::unknown_state;

impl Session {
    /// The refusal as this session wants it.
    pub(in crate::session) async fn formatted(&mut self, refusal: &Refusal) -> Result<Refusal, End> {
        if self.desk.format.is_none() {
            self.desk.format = self.ask_format().await?;
        }
        Ok(self.desk.format.unwrap_or(Format::Text).of_refusal(refusal))
    }

    async fn ask_format(&mut self) -> Result<Option<Format>, End> {
        if self.talk.in_copy() || !self.talk.is_quiet() {
            return Ok(None);
        }
        // What is open in a pipeline is left as it is.
        let idle = !self.pipeline.open && !self.pipeline.executed && !self.pipeline.bound;
        let ground = match self.ground(&[]) {
            Some(ground @ (Ground::Own | Ground::Savepoint)) if idle && !self.pipeline.transacted => ground,
            _ => return Ok(None),
        };
        let time = self.desk.house.ask_timeout;
        let asker = Asker::begin(&mut self.link, &self.seat, &self.talk, ground, time, time).await;
        let mut asker = asker.map_err(unknown_state)?;
        let answer = asker.ask("SELECT pg_catalog.current_setting('sluice.format', true)", None).await;
        asker.end().await.map_err(unknown_state)?;
        let answer = answer.unwrap_or_default();
        Ok(Some(Format::of(answer.rows.first().and_then(|row| row.first()?.as_deref()))))
    }
}
