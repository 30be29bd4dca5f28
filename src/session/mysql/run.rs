//! A statement that is carried out with its commit withheld, and held to what was agreed to.
//!
//! ```text
//! no transaction       START TRANSACTION · the statement · what it did → COMMIT, or ROLLBACK
//! in a transaction     SAVEPOINT · the statement · what it did → RELEASE, or ROLLBACK TO
//! ```
//!
//! Invariant: the packet that tells the client of its success leaves when it is kept, not before. If the connection is lost during COMMIT,
//! the client is told that the outcome is unknown.

use crate::audit::Recording;
use crate::audit::event::Action;
use crate::ground::ids::ChallengeId;
use crate::ground::secret::{fill_random, hex};
use crate::policy::question::Known;
use crate::protocol::mysql::message::Script;
use crate::protocol::mysql::response::{self, Answer, Event, Expected, status};
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::desk::{Desk, Entry};
use crate::session::held::{Agreed, Hold};
use crate::session::judgement::Judgement;
use crate::session::link::Listen;
use crate::session::mysql::Session;
use crate::session::mysql::act::{Form, touches_session};
use crate::session::mysql::aftermath::Condition;
use crate::session::mysql::ask::{Heard, Line};
use crate::session::mysql::hold::Before;
use crate::session::mysql::look::unknown_state;
use crate::session::mysql::recall::Left;
use crate::session::mysql::relay::misunderstood;
use crate::session::record;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

#[derive(Debug, Clone)]
pub(in crate::session) struct Run {
    pub form: Form,
    pub challenge: Option<ChallengeId>,
    pub agreed: Agreed,
}

/// How the statement is kept apart until it is known what it did.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Apart {
    /// In a transaction of our own.
    Own,
    /// Behind a savepoint in the client's, by a name that no procedure can know.
    Savepoint(String),
    /// Not at all: it commits by itself, which was said.
    Nothing,
}

/// What became of it, before it is kept.
#[derive(Debug)]
struct Ran {
    /// Rows by each result.
    each: Vec<u64>,
    end: response::End,
    /// The last packet, kept back.
    packet: Bytes,
}

impl Ran {
    fn changed(&self) -> u64 {
        self.each.iter().fold(0, |sum, rows| sum.saturating_add(*rows))
    }
}

impl Session {
    /// Not to be cancelled half-way. A client that asks to cancel reaches the server itself, whose error then ends the run.
    pub(in crate::session) async fn run_held(
        &mut self,
        command: Bytes,
        action: Action,
        judgement: Judgement,
        run: Run,
    ) -> Result<(), End> {
        let judgement = Arc::new(judgement);
        let by_itself = run.agreed == Agreed::Untried
            || judgement.pieces.iter().any(|piece| {
                piece.facts.outside_transaction_only
                    || piece.facts.commits_implicitly
                    || piece.facts.transaction.is_some()
            });
        let (permit, entry) = match self.permit_run(command, action, &judgement, &run) {
            Ok(permitted) => permitted,
            Err(refusal) => return self.refuse(&refusal).await,
        };
        if self.locked && !by_itself {
            let message = "sluice: the session has locked tables, and the transaction in which the statement would be held to its count releases them";
            let refusal = Refusal::new(Code::CannotKnow, message).hint("UNLOCK TABLES first.");
            return self.refuse(&refusal).await;
        }
        let apart = if by_itself { Apart::Nothing } else { self.set_apart().await? };
        let probe = match apart != Apart::Nothing && judgement.reaches() {
            true => Some(self.set_savepoint().await?),
            false => None,
        };
        let before = match apart {
            Apart::Nothing => Before::Told,
            _ => self.count_before(&judgement).await?,
        };
        self.link.forward(permit);
        let ran = self.hear_run(&apart).await?;
        // Before what is measured makes the server forget it.
        let left = match apart == Apart::Nothing && ran.end.failed().is_some() {
            true => Left::default(),
            false => self.what_it_left(&ran.end).await?,
        };
        let gone = match &probe {
            Some(name) => self.is_gone(name).await?,
            None => false,
        };
        // Behind rows that were passed on, what follows is numbered on.
        self.sequence = ran.packet.get(3).copied().unwrap_or(self.sequence);
        let hold = Hold {
            judgement: judgement.clone(),
            protocol: run.form.kind(),
            agreed: run.agreed.clone(),
            so_far: AtomicU64::new(0),
            measured: Default::default(),
            line: Default::default(),
        };
        if let Some(failure) = ran.end.failed().cloned() {
            self.prepared.failed();
            return self.run_failed((ran, left), failure, (apart, gone), entry, (&hold, before)).await;
        }
        if apart != Apart::Nothing && (gone || !self.in_transaction()) {
            return self.kept_itself(ran, left, entry).await;
        }
        let refusal = match &apart {
            Apart::Nothing => None,
            _ => self.weigh(&hold, before, ran.changed()).await?,
        };
        match refusal {
            Some(refusal) => self.refuse_run(&ran, apart, entry, (&hold, &refusal)).await,
            None => self.keep((ran, left), apart, entry, &hold).await,
        }
    }

    async fn refuse_run(
        &mut self,
        ran: &Ran,
        apart: Apart,
        entry: Entry,
        (hold, refusal): (&Hold, &Refusal),
    ) -> Result<(), End> {
        let did = hold.measured.get().copied().unwrap_or_else(|| ran.changed());
        let complete = self.take_back(apart).await?;
        let note = match complete {
            true => "changed more rows than were agreed to; rolled back",
            false => "changed more rows than were agreed to; some of them could not be rolled back",
        };
        self.desk.record_outcome(entry, Some(did), Some(refusal.code.sqlstate()), Some(note));
        self.desk.cache.clear();
        if complete {
            return self.refuse(refusal).await;
        }
        let rows = match did {
            0 => "rows that no counter tells of".to_owned(),
            did => format!("{} rows", crate::policy::count::grouped(did)),
        };
        let message = format!(
            "sluice: {rows} were changed, and the database could not roll all of them back: a table that knows no transactions is among them"
        );
        let told = Refusal::new(Code::ExceedsConfirmed, message).hint("Look at what it left before going on.");
        self.refuse(&Refusal { detail: refusal.detail.clone(), ..told }).await
    }

    /// It ended the transaction that it was to be held in, and what it did stays: that is said, and nothing else.
    async fn kept_itself(&mut self, ran: Ran, left: Left, entry: Entry) -> Result<(), End> {
        let note = "it committed by itself, so it could not be held to anything";
        tracing::warn!(session = %self.desk.id, "a statement that was held committed by itself");
        if !self.in_transaction() {
            self.transaction_ended();
        }
        self.settings.forget();
        self.desk.cache.clear();
        self.aftermath.warn(format!("sluice: {note}: what it changed stays"));
        self.desk.record_outcome(entry, None, None, Some(note));
        self.desk.close_runs(true);
        let coming = self.aftermath.coming();
        self.keep_what_it_left(&ran.end, left);
        let packet = self.with_status(ran.packet, &ran.end, coming);
        self.reply(packet);
        Ok(())
    }

    fn permit_run(
        &mut self,
        command: Bytes,
        action: Action,
        judgement: &Judgement,
        run: &Run,
    ) -> Result<(crate::audit::Permit, Entry), Refusal> {
        let promised = self.desk.agreed(judgement).iter().copied().sum::<Option<u64>>();
        let noted = self.desk.noted(judgement);
        let about = Recording {
            challenge: run.challenge,
            promised_rows: promised,
            statement: noted.text.as_deref(),
            fingerprint: noted.fingerprint.as_deref(),
            parameters: noted.parameters.as_deref(),
            plain: record::plain(judgement),
            reason: judgement.told.reason.as_deref(),
            ..self.desk.recording()
        };
        match self.desk.house.recorder.record(&judgement.verdict, action, about, command) {
            Ok(permit) => {
                let entry = Entry { line: permit.line(), challenge: run.challenge, rows_max: promised };
                Ok((permit, entry))
            }
            Err(error) => Err(record::unrecorded(&error)),
        }
    }

    /// Nothing that is sent next is kept before we say so.
    async fn set_apart(&mut self) -> Result<Apart, End> {
        if self.in_transaction() || !self.autocommits() {
            let name = self.set_savepoint().await?;
            // The answer tells whether there still is a transaction: an error before may have ended it.
            if self.in_transaction() || !self.autocommits() {
                return Ok(Apart::Savepoint(name));
            }
        }
        self.own("START TRANSACTION").await?;
        match self.in_transaction() {
            true => Ok(Apart::Own),
            false => Err(End::Refused(Refusal::new(
                Code::CannotKnow,
                "sluice: START TRANSACTION of Sluice's own did not begin one; the session cannot go on",
            ))),
        }
    }

    /// By a name that no procedure can know.
    async fn set_savepoint(&mut self) -> Result<String, End> {
        let mut random = [0u8; 12];
        fill_random(&mut random).map_err(|_| {
            End::Refused(Refusal::new(Code::CannotKnow, "sluice: no randomness for a savepoint's name"))
        })?;
        let name = format!("sluice_{}", hex(&random));
        self.own(&format!("SAVEPOINT {name}")).await?;
        Ok(name)
    }

    /// The transaction that this savepoint was set in has ended: by a commit within the statement, or by a deadlock.
    async fn is_gone(&mut self, name: &str) -> Result<bool, End> {
        // ER_SP_DOES_NOT_EXIST
        const MISSING: u16 = 1305;
        let heard = self.words(&format!("RELEASE SAVEPOINT {name}")).await?;
        match heard.end.failed() {
            None => Ok(false),
            Some(failure) if failure.errno == MISSING => Ok(true),
            Some(failure) => {
                let message = format!("sluice: a savepoint of Sluice's own is lost: {}", failure.message);
                Err(End::Refused(Refusal::new(Code::CannotKnow, message)))
            }
        }
    }

    /// It is not kept. `false`: the server says that some of it could not be rolled back.
    async fn take_back(&mut self, apart: Apart) -> Result<bool, End> {
        let undo = match &apart {
            Apart::Own => "ROLLBACK".to_owned(),
            Apart::Savepoint(name) => format!("ROLLBACK TO SAVEPOINT {name}"),
            Apart::Nothing => return Ok(true),
        };
        let complete = self.rolled_back(&undo).await?;
        match apart {
            Apart::Savepoint(name) => {
                self.own(&format!("RELEASE SAVEPOINT {name}")).await?;
            }
            _ => self.transaction_ended(),
        }
        Ok(complete)
    }

    /// Whether all of it was.
    pub(in crate::session) async fn rolled_back(&mut self, undo: &str) -> Result<bool, End> {
        // ER_WARNING_NOT_COMPLETE_ROLLBACK: a table that knows no transactions was changed.
        const NOT_ALL: &str = "1196";
        let heard = self.own(undo).await?;
        if heard.end.warnings() == 0 {
            return Ok(true);
        }
        let told = self.words("SHOW WARNINGS").await?.answer.rows;
        Ok(!told.iter().any(|row| row.get(1).and_then(Option::as_deref) == Some(NOT_ALL)))
    }

    /// An error of the server's, which the client gets as it came. What ran before it, in a message of several statements or in a
    /// procedure, stays as without us, if it is no more than was agreed to.
    async fn run_failed(
        &mut self,
        (ran, mut left): (Ran, Left),
        failure: response::Failure,
        (apart, gone): (Apart, bool),
        entry: Entry,
        (hold, before): (&Hold, Before),
    ) -> Result<(), End> {
        if apart != Apart::Nothing {
            // An error does not tell whether there still is a transaction: a deadlock has ended it.
            self.own("DO 0").await?;
        }
        if apart != Apart::Nothing
            && !gone
            && self.in_transaction()
            && let Some(refusal) = self.weigh(hold, before, ran.changed()).await?
        {
            return self.refuse_run(&ran, apart, entry, (hold, &refusal)).await;
        }
        let ended_within = apart != Apart::Nothing && (gone || !self.in_transaction());
        let note = ended_within.then_some("its transaction ended within it: what it changed is not known");
        self.desk.record_outcome(entry, (!ended_within).then(|| ran.changed()), Some(&failure.sqlstate), note);
        // ER_LOCK_DEADLOCK takes everything back.
        if let (true, Some(note), true) = (ended_within, note, failure.errno != 1213) {
            let (level, message) = ("Warning".to_owned(), format!("sluice: {note}"));
            left.conditions.get_or_insert_default().push(Condition {
                level,
                code: Code::ExceedsConfirmed.errno(),
                message,
            });
        }
        match apart {
            // What goes on is the statement's own.
            _ if gone => {}
            Apart::Own => {
                self.own("COMMIT").await?;
            }
            // With the transaction its savepoint is gone.
            Apart::Savepoint(name) => {
                let _ = self.words(&format!("RELEASE SAVEPOINT {name}")).await?;
            }
            Apart::Nothing => {}
        }
        if !self.in_transaction() {
            self.transaction_ended();
        }
        self.aftermath.failed(&failure, left.conditions);
        self.desk.cache.clear();
        self.reply(ran.packet);
        Ok(())
    }

    /// It did what was agreed to: it is kept, and the client is told.
    async fn keep(&mut self, (ran, left): (Ran, Left), apart: Apart, entry: Entry, hold: &Hold) -> Result<(), End> {
        let coming = self.aftermath.coming();
        self.keep_what_it_left(&ran.end, left);
        let told = match apart {
            Apart::Own => {
                self.link.say(Script::new(self.server).query("COMMIT"));
                let heard = self.hear_own().await.map_err(|_| {
                    let message =
                        "sluice: the connection was lost during COMMIT: whether the change was made is unknown";
                    End::Refused(Refusal::new(Code::Upstream, message).hint("Look at the data before trying again."))
                })?;
                heard.end
            }
            Apart::Savepoint(name) => self.own(&format!("RELEASE SAVEPOINT {name}")).await?.end,
            Apart::Nothing => ran.end.clone(),
        };
        if let Some(failure) = told.failed() {
            self.desk.record_outcome(entry, Some(ran.changed()), Some(&failure.sqlstate), Some("at commit"));
            let failure = failure.clone();
            self.answer_failure(failure);
            return Ok(());
        }
        if !self.in_transaction() {
            self.transaction_ended();
        }
        if touches_session(&hold.judgement) {
            self.settings.forget();
        }
        self.desk.record_outcome(entry, hold.outcome_rows(ran.changed()), None, None);
        let committed = !self.in_transaction();
        self.desk.close_runs(committed);
        let packet = self.with_status(ran.packet, &ran.end, coming);
        self.reply(packet);
        Ok(())
    }

    /// The packet as it would be had nothing been sent around the statement.
    fn with_status(&mut self, packet: Bytes, end: &response::End, coming: u16) -> Bytes {
        let kept = status::MORE_RESULTS
            | status::CURSOR
            | status::LAST_ROW
            | status::NO_INDEX
            | status::NO_GOOD_INDEX
            | status::SLOW
            | status::OUT_PARAMETERS
            | status::STATE_CHANGED
            | status::METADATA_CHANGED;
        let told = end.status().unwrap_or_default();
        let now = (told & kept) | (self.status & !kept);
        let mut patched = BytesMut::from(&packet[..]);
        response::patch_status(&mut patched, self.server, now);
        if coming > 0 {
            response::patch_warnings(&mut patched, self.server, end.warnings().saturating_add(coming));
        }
        self.as_the_client_can(patched.freeze(), end)
    }

    /// The answer to a statement whose commit is withheld: rows go on to the client, its last packet is kept back.
    async fn hear_run(&mut self, apart: &Apart) -> Result<Ran, End> {
        let mut answer = Answer::new(Expected::Results, self.server);
        let mut each = Vec::new();
        loop {
            let step = answer.step(self.link.answers()).map_err(misunderstood)?;
            let passed = self.link.answers().split_to(step.pass).freeze();
            let packet = self.link.answers().split_to(step.packet).freeze();
            let nothing = passed.is_empty() && packet.is_empty();
            self.link.client.send(passed);
            match step.event {
                Some(Event::End { end, over }) => {
                    if end.failed().is_none() {
                        each.push(end.affected());
                    }
                    self.note_status(&end, &packet);
                    if over {
                        return Ok(Ran { each, end, packet });
                    }
                    let mut patched = BytesMut::from(&packet[..]);
                    if *apart == Apart::Own {
                        let told = end.status().unwrap_or_default() & !status::IN_TRANSACTION;
                        response::patch_status(&mut patched, self.server, told);
                    }
                    let packet = self.as_the_client_can(patched.freeze(), &end);
                    self.link.client.send(packet);
                }
                Some(Event::FileWanted) => {
                    let message = "sluice: a guarded statement asked for a file of the client's";
                    return Err(End::Refused(Refusal::new(Code::CannotKnow, message)));
                }
                Some(Event::Prepared { .. } | Event::Over) | None => {}
            }
            if nothing {
                if self.link.upstream_ended() {
                    return Err(End::Upstream);
                }
                let woke = self.link.wait(Listen::Upstream).await;
                self.woke(woke)?;
            }
        }
    }

    /// A statement of ours that must succeed.
    pub(in crate::session) async fn own(&mut self, text: &str) -> Result<Heard, End> {
        let heard = self.words(text).await?;
        match heard.end.failed() {
            None => Ok(heard),
            Some(failure) => {
                let message = format!(
                    "sluice: {text} of Sluice's own failed ({} {}); the session cannot go on",
                    failure.errno, failure.message
                );
                Err(End::Refused(Refusal::new(Code::CannotKnow, message)))
            }
        }
    }

    /// A text of ours, and what came back.
    pub(in crate::session) async fn words(&mut self, text: &str) -> Result<Heard, End> {
        self.link.say(Script::new(self.server).query(text));
        self.hear_own().await
    }

    pub(in crate::session) async fn hear_own(&mut self) -> Result<Heard, End> {
        let deadline = Instant::now() + self.desk.house.ask_timeout;
        let mut line = Line { link: &mut self.link, server: self.server, deadline };
        let heard = line.hear().await.map_err(unknown_state)?;
        if let Some(told) = heard.end.status() {
            self.take_status(told);
        }
        Ok(heard)
    }

    /// Judged again, now that it is known what it did: the policy may let it pass, a token may already be there, or it is shown.
    pub(in crate::session) async fn weigh_anew(
        &mut self,
        hold: &Hold,
        effects: Known<crate::policy::question::Effects>,
        how: Option<String>,
    ) -> Result<Option<Refusal>, End> {
        let judgement = hold.judgement.with_effects(effects);
        let level = judgement.verdict.in_force();
        let was_unknown = hold.judgement.reaches() && !hold.was_confirmed();
        if was_unknown && Desk::passes(level) {
            self.warn(&judgement);
            return Ok(None);
        }
        if was_unknown && level < crate::policy::finding::Level::Deny {
            match self.desk.redeem_by_hint(&judgement, level).await {
                Some(Ok(_)) => return Ok(None),
                Some(Err(refusal)) => return Ok(Some(refusal)),
                None => {}
            }
        }
        let mut refusal = self.desk.refusal(&judgement, hold.protocol).await;
        if !was_unknown && level < crate::policy::finding::Level::Deny {
            refusal.code = Code::ExceedsConfirmed;
            let how = how.unwrap_or_else(|| "could not be measured".to_owned());
            refusal.message = format!("sluice: the statement {how}; it was rolled back");
            let table = crate::session::held::comparison(&hold.agreed, judgement.effects());
            refusal.detail = Some(format!("{table}{}", refusal.detail.unwrap_or_default()));
        }
        Ok(Some(refusal))
    }
}
