//! What a statement and its transaction are held to before they are kept.
//!
//! Invariant: what changed more than was agreed to, or could not be measured, does not commit.

use crate::audit::Recording;
use crate::policy::question::{Effects, Evidence, Known, TableEffect};
use crate::policy::rules::Caller;
use crate::policy::settings::Mode;
use crate::policy::{self, count};
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::desk::{Desk, note_unrecorded};
use crate::session::held::Hold;
use crate::session::judgement::Judgement;
use crate::session::mysql::Session;
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
#[derive(Debug, Default)]
pub(in crate::session) struct Before;

impl Session {
    /// No transaction is open any more.
    pub(in crate::session) fn transaction_ended(&mut self) {
        self.tally = Tally::default();
        self.savepoints &= !self.autocommits();
    }

    pub(in crate::session) async fn count_before<A>(&mut self, _: &Judgement, _: A) -> Result<Before, End> {
        Ok(Before)
    }

    /// After the statement: `Some`, it must not be kept.
    pub(in crate::session) async fn weigh(
        &mut self,
        hold: &Hold,
        _before: Before,
        changed: u64,
    ) -> Result<Option<Refusal>, End> {
        // An upsert counts a row that was there twice.
        let overwrites = |change: &Change| change.on_conflict.overwrites();
        let mut changes = hold.judgement.pieces.iter().flat_map(|piece| &piece.facts.changes);
        let changed = if changes.any(overwrites) { changed.div_ceil(2) } else { changed };
        let name = "all tables".to_owned();
        let effects = Effects {
            tables: vec![TableEffect { name, updated: changed, ..TableEffect::default() }],
            ..Effects::default()
        };
        match hold.exceeded_by(&effects) {
            None if hold.is_frozen(&effects) => self.weigh_anew(hold, Known::Known(effects), None).await,
            None => Ok(None),
            Some(how) => self.weigh_anew(hold, Known::Known(effects), Some(how)).await,
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
        let caller = match self.tally.unshown > effective.sizes.max_affected {
            true => Caller { max_affected: self.stated_limit().await?, ..Caller::default() },
            false => Caller::default(),
        };
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
