//! What a statement and its transaction are held to before they are kept.
//!
//! Invariant: what changed more than was agreed to, or could not be measured, does not commit.

use crate::audit::Recording;
use crate::database::catalog;
use crate::database::effects::mysql::measure::{self, Did, Reaches, Snapshot};
use crate::policy::question::{ChangeEvidence, Effects, Evidence, Known, TableEffect, TableKind};
use crate::policy::rules::Caller;
use crate::policy::settings::Mode;
use crate::policy::{self, count};
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::desk::{Desk, note_unrecorded};
use crate::session::held::{Agreed, Hold, unmeasured};
use crate::session::judgement::Judgement;
use crate::session::mysql::Session;
use crate::session::mysql::ask::{Asker, Ground};
use crate::session::mysql::look::unknown_state;
use crate::sql::facts::{Change, Facts, Kind, TransactionVerb};

/// The transaction that is open.
#[derive(Debug, Default)]
pub(in crate::session) struct Tally {
    /// Rows updated and deleted that nobody was shown.
    pub unshown: u64,
}

impl Tally {
    pub fn note(&mut self, rows: u64, shown: bool) {
        if !shown {
            self.unshown = self.unshown.saturating_add(rows);
        }
    }
}

/// What the database counted before a statement.
#[derive(Debug)]
pub(in crate::session) enum Before {
    /// The affected rows say all there is: one table, nothing fires and nothing is carried on.
    Told,
    Counted(Snapshot),
    /// It could not be asked: why.
    Unknown(String),
}

impl Session {
    /// No transaction is open any more.
    pub(in crate::session) fn transaction_ended(&mut self) {
        self.tally = Tally::default();
        self.savepoints &= !self.autocommits();
        if self.reaching.is_changing() {
            // Who asked meanwhile may have seen what was before.
            self.desk.house.schemas.touch_all();
        }
        self.reaching.settle();
    }

    /// The counts before a statement, where its affected rows do not tell all that it does.
    pub(in crate::session) async fn count_before(&mut self, judgement: &Judgement) -> Result<Before, End> {
        if is_told(judgement) {
            return Ok(Before::Told);
        }
        self.keep_aftermath().await?;
        Ok(match self.snapshot().await? {
            Ok(counted) => Before::Counted(counted),
            Err(why) => Before::Unknown(why),
        })
    }

    pub(in crate::session) async fn snapshot(&mut self) -> Result<Result<Snapshot, String>, End> {
        let (time, mode) = (self.desk.house.ask_timeout, self.settings.own_mode());
        let asker = Asker::begin(&mut self.link, self.server, mode, Ground::Block, time, time).await;
        let mut asker = asker.map_err(unknown_state)?;
        let counted = measure::snapshot(&mut asker, mode.product).await;
        asker.end().await.map_err(unknown_state)?;
        Ok(counted.map_err(|error| catalog::reason(&error)))
    }

    /// After the statement: `Some`, it must not be kept.
    pub(in crate::session) async fn weigh(
        &mut self,
        hold: &Hold,
        before: Before,
        changed: u64,
    ) -> Result<Option<Refusal>, End> {
        let effects = match before {
            Before::Told => Ok(told(changed)),
            Before::Unknown(why) => Err(why),
            Before::Counted(before) => match self.snapshot().await? {
                Ok(after) => {
                    self.tell_blind(&hold.judgement, after.reaches());
                    match self.untold(&hold.judgement, &before, &after) {
                        Some(why) => Err(why),
                        None => measure::between(&before, &after, did(&hold.judgement), changed),
                    }
                }
                Err(why) => Err(why),
            },
        };
        let effects = match effects {
            Ok(effects) => effects,
            Err(_) if hold.agreed == Agreed::Untried => return Ok(None),
            Err(why) if hold.was_confirmed() => return Ok(Some(unmeasured(&why))),
            Err(why) => return self.weigh_anew(hold, Known::Unknown(why), None).await,
        };
        let _ = hold.measured.set(effects.changed());
        match hold.exceeded_by(&effects) {
            None if hold.is_frozen(&effects) => self.weigh_anew(hold, Known::Known(effects), None).await,
            None => {
                self.tally.note(effects.destroyed(), hold.was_confirmed());
                Ok(None)
            }
            Some(how) => self.weigh_anew(hold, Known::Known(effects), Some(how)).await,
        }
    }

    /// Why what it did may be more than is counted: it leads to what this user is not shown, and a DELETE ran there that no counter tells of.
    pub(in crate::session) fn untold(
        &self,
        judgement: &Judgement,
        before: &Snapshot,
        after: &Snapshot,
    ) -> Option<String> {
        let unshown = &self.reaching.known().unshown;
        let leads = || judgement.pieces.iter().any(|piece| !unshown.met(&piece.text, judgement.lexical).is_empty());
        (measure::may_have_emptied(before, after) && leads()).then(|| {
            "a DELETE ran in code that this user is not shown, and it may have emptied a table that knows no transactions".to_owned()
        })
    }

    /// How far the counts reach, in words.
    pub(in crate::session) async fn counts(&mut self) -> Result<String, End> {
        self.keep_aftermath().await?;
        let counted = self.snapshot().await?;
        if !self.in_transaction() {
            self.ended_asking(Ground::Own).await?;
        }
        Ok(match counted.map(|counted| counted.reaches()) {
            Ok(Reaches::Everything) => "counted by the database, cascades and triggers included".to_owned(),
            Ok(Reaches::NotCascades) => BLIND.trim_start_matches("sluice: ").to_owned(),
            Err(why) => format!("not counted: {why}"),
        })
    }

    /// Said once a session: what this user's rights do not let be counted.
    fn tell_blind(&mut self, judgement: &Judgement, reaches: Reaches) {
        let mut known = judgement.evidence.iter().flat_map(|known| &known.changes);
        let carries =
            judgement.reaches() || known.any(|change| change.cascade.known().is_none_or(|tree| !tree.is_empty()));
        if reaches == Reaches::Everything || !carries {
            return;
        }
        if !std::mem::replace(&mut self.told_blind, true) {
            self.aftermath.warn(BLIND.to_owned());
        }
    }

    /// Before a statement that begins or ends a transaction, found at a glance: `Some`, what it would keep must not be.
    pub(in crate::session) async fn before_transaction(
        &mut self,
        verb: Option<TransactionVerb>,
    ) -> Result<Option<Refusal>, End> {
        match verb {
            Some(TransactionVerb::Savepoint) => {
                self.savepoints = true;
                Ok(None)
            }
            Some(TransactionVerb::Commit | TransactionVerb::Begin) => {
                // Beginning one releases locked tables.
                self.locked &= verb == Some(TransactionVerb::Commit);
                let refusal = self.hold_commit().await?;
                self.savepoints = false;
                Ok(refusal)
            }
            Some(TransactionVerb::Rollback) => {
                self.savepoints = false;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Before what commits the open transaction is sent: `Some`, it must not be.
    pub(in crate::session) async fn hold_commit(&mut self) -> Result<Option<Refusal>, End> {
        if self.tally.unshown == 0 || !self.in_transaction() {
            return Ok(None);
        }
        let policy = self.desk.house.policy.load_full();
        let effective = self.desk.standing.get(&policy, &self.desk.principal, self.desk.house.clock.now()).clone();
        if self.tally.unshown <= effective.sizes.batch_rows || effective.mode != Mode::Enforce {
            return Ok(None);
        }
        let mut caller = Caller { product: self.settings.own_mode().product, ..Caller::default() };
        if self.tally.unshown > effective.sizes.max_affected {
            caller.max_affected = self.stated_limit().await?;
        }
        let unshown = self.tally.unshown;
        let facts = Facts { kind: Kind::Transaction, ..Facts::default() };
        let evidence = Evidence { unshown: Some(unshown), ..Evidence::default() };
        let verdict = policy::judge(&facts, &evidence, &effective, &caller);
        if Desk::passes(verdict.in_force()) {
            for judged in verdict.warnings() {
                let text = format!("sluice: {}: {}", judged.finding.rule, judged.finding.message);
                let words = self.said(&Refusal::new(Code::Denied, text));
                self.aftermath.warn(words.message);
            }
            return Ok(None);
        }
        let about = Recording { promised_rows: Some(unshown), ..self.desk.recording() };
        if let Err(error) = self.desk.house.recorder.refusal(&verdict, Code::Denied.sqlstate(), about) {
            note_unrecorded(&error);
        }
        let rules: Vec<&str> = verdict.judged().iter().map(|judged| judged.finding.rule).collect();
        let message = format!(
            "sluice: denied: the transaction changed {} rows that nobody was shown; it was rolled back",
            count::grouped(unshown)
        );
        let hint = "Say it in one statement, which is counted and shown before it runs; or commit more often.";
        Ok(Some(Refusal::new(Code::Denied, message).detail(format!("rules: {}", rules.join(", "))).hint(hint)))
    }

    /// `SET @sluice_max_affected`, asked of the session.
    async fn stated_limit(&mut self) -> Result<Option<u64>, End> {
        let heard = self.words("SELECT @sluice_max_affected").await?;
        Ok(heard.answer.rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok()))
    }
}

/// What is said where InnoDB's own count may not be read.
pub(in crate::session) const BLIND: &str = "sluice: this user does not have the right PROCESS: rows that foreign keys carry a change on to are not in the count \
     that a statement is held to";

/// Its affected rows are all that it does.
fn is_told(judgement: &Judgement) -> bool {
    let known = judgement.evidence.iter().flat_map(|known| &known.changes);
    let facts = judgement.pieces.iter().flat_map(|piece| &piece.facts.changes);
    let plain = |(fact, known): (&Change, &ChangeEvidence)| {
        let quiet = known.table.known().is_some_and(|table| {
            table.triggers.is_empty() && table.kind != TableKind::View && table.unseen_triggers.is_none()
        });
        let alone = known.cascade.known().is_some_and(Vec::is_empty)
            || known.table.known().is_some_and(|table| table.referenced_by.is_empty() && table.unseen_keys.is_none());
        quiet && alone && !fact.on_conflict.overwrites()
    };
    !judgement.reaches()
        && judgement.pieces.iter().all(|piece| piece.facts.unread.is_none())
        && facts.clone().count() == known.clone().count()
        && facts.zip(known).all(plain)
}

fn told(changed: u64) -> Effects {
    let name = "all tables".to_owned();
    Effects { tables: vec![TableEffect { name, updated: changed, ..TableEffect::default() }], ..Effects::default() }
}

pub(in crate::session) fn did(judgement: &Judgement) -> Did {
    let mut changes = judgement.pieces.iter().flat_map(|piece| &piece.facts.changes);
    let (Some(change), None) = (changes.next(), changes.next()) else { return Did::Ran };
    if judgement.reaches() || judgement.pieces.len() > 1 {
        return Did::Ran;
    }
    let known = judgement.evidence.iter().flat_map(|known| &known.changes).next();
    Did::of(change, known.and_then(|known| known.table.known()))
}
