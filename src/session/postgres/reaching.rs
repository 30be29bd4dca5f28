//! What a session knows of the names that lead to code of the users' own, and when it must ask again.
//!
//! All sessions of a database share what one of them learned. It is asked for again after [`limits::REACH_TTL`], and at once when any
//! session of this Sluice sends what may change the schema, and when that commits. A session that changed the schema itself keeps
//! what it then sees to itself until its transaction has ended: nobody else sees it yet.
//!
//! Invariant: where it could not be learned, every statement counts as leading there. A change of the schema that does not come
//! through this Sluice is noticed late, by at most twice the time above.

use crate::database::catalog;
use crate::database::effects::reach::{self, Reach, runs_a_text};
use crate::ground::limits;
use crate::policy::count::adds_only;
use crate::policy::settings::Mode;
use crate::session::End;
use crate::session::judgement::copies_in;
use crate::session::judgement::{Judgement, MERGE, Piece, words};
use crate::session::postgres::Session;
use crate::session::postgres::ask::{Asker, Ground};
use crate::session::postgres::look::unknown_state;
use crate::sql::facts::{Change, Facts, Kind, TransactionVerb, Verb};
use crate::sql::statement::LexicalMode;
use std::sync::Arc;
use std::time::Duration;

impl Session {
    /// Before a text is glanced at, or something prepared is run: what is known must not be stale. Asks nothing in a failed
    /// transaction, where the server refuses what comes.
    pub(in crate::session) async fn refresh_reach(&mut self) -> Result<(), End> {
        if self.reaching.is_fresh() {
            return Ok(());
        }
        let policy = self.desk.house.policy.load_full();
        if self.desk.standing.get(&policy, &self.desk.principal, self.desk.house.clock.now()).mode != Mode::Enforce {
            // Nothing is held back, so nothing is measured.
            self.reaching.keep(Arc::default(), 0, Duration::ZERO);
            return Ok(());
        }
        let before = self.reaching.own_epoch();
        if self.reaching.adopt() {
            if self.reaching.own_epoch() != before {
                self.desk.cache.clear();
            }
            return Ok(());
        }
        if self.talk.in_copy() {
            return Ok(());
        }
        self.drain().await?;
        if self.pipeline.discarding {
            return Ok(());
        }
        let Some(ground) = self.ground(&[]).filter(|ground| *ground != Ground::Failed) else { return Ok(()) };
        if ground == Ground::Own && self.pipeline.open {
            self.end_unexecuted_pipeline().await?;
        }
        let epoch = self.reaching.epoch();
        if epoch != self.reaching.own_epoch() {
            // Somebody changed the schema: what was seen of tables may not hold either.
            self.desk.cache.clear();
        }
        let (time, known, version) =
            (self.desk.house.ask_timeout, self.reaching.shared(), self.settings.server_version);
        let asker = Asker::begin(&mut self.link, &self.seat, &self.talk, ground, time, time).await;
        let mut asker = asker.map_err(unknown_state)?;
        let learned = learn(&mut asker, known, version).await;
        let ended = asker.end().await.map_err(unknown_state)?;
        self.pipeline.discarding |= ended.failed;
        match learned {
            Ok(reach) => {
                self.reaching.keep(reach, epoch, limits::REACH_TTL);
                // In another encoding names beyond ASCII are not what they are to the others.
                match self.settings.takes_utf8 {
                    true => self.reaching.publish(),
                    false => self.reaching.asked_in_vain(),
                }
            }
            Err(error) => {
                let why = catalog::reason(&error);
                tracing::warn!(session = %self.desk.id, why, "what runs behind the names of the schema could not be learned");
                // One session's cancel or deadline is no news for the others.
                self.reaching.keep(Arc::new(Reach::unknown(&why)), epoch, Duration::ZERO);
                self.reaching.asked_in_vain();
            }
        }
        Ok(())
    }

    /// What goes on may change the schema, and with it what names lead to.
    pub(in crate::session) fn note_schema_change(&mut self, judgement: &Judgement) {
        if judgement.pieces.iter().any(changes_schema) {
            self.reaching.touch();
        }
    }
}

async fn learn(
    asker: &mut Asker<'_>,
    known: Arc<Reach>,
    version: u32,
) -> Result<Arc<Reach>, crate::database::AskError> {
    let fingerprint = reach::fingerprint(asker).await?;
    if !fingerprint.is_empty() && fingerprint == known.fingerprint {
        return Ok(known);
    }
    Ok(Arc::new(reach::learn(asker, fingerprint, version).await?))
}

/// What takes tables for itself, and keeps them until its transaction ends.
pub(in crate::session) fn locks(facts: &Facts) -> bool {
    const LOCKING: &[&str] = &["LockStmt", "ReindexStmt", "ClusterStmt", "VacuumStmt", "RefreshMatViewStmt"];
    matches!(&facts.kind, Kind::Truncate)
        || matches!(&facts.kind, Kind::Other(name) if LOCKING.contains(&name.as_str()))
}

/// Anything that could give a name code to run. A temporary table without code of its own is its session's alone.
pub(in crate::session) fn changes_schema(piece: &Piece) -> bool {
    let facts = &piece.facts;
    if facts.prepares.is_some() {
        return false;
    }
    if matches!(facts.transaction, Some(TransactionVerb::CommitPrepared | TransactionVerb::RollbackTo)) {
        return true;
    }
    match &facts.kind {
        Kind::Create => !is_plain_temporary_table(&piece.text),
        Kind::Alter | Kind::Drop | Kind::Do | Kind::Call | Kind::Unread => true,
        Kind::Other(name) => !QUIET.contains(&name.as_str()),
        _ => facts.unread.is_some(),
    }
}

/// CREATE TEMP TABLE with nothing that runs when it is written to. (Where a type of the users' own runs code, every statement is
/// watched.)
fn is_plain_temporary_table(text: &str) -> bool {
    const RUNS: &[&str] = &["default", "check", "generated", "like", "inherits", "of", "constraint", "exclude"];
    let words: Vec<String> = words(text, LexicalMode::default()).collect();
    let opens =
        matches!(&words[..], [_, temp, table, ..] if matches!(temp.as_str(), "temp" | "temporary") && table == "table");
    let from_query = words.iter().take_while(|word| *word != "(").any(|word| word == "as");
    opens && (from_query || !words.iter().any(|word| RUNS.contains(&word.as_str())))
}

/// Statements under other names that leave the schema as it is.
const QUIET: &[&str] = &[
    "VacuumStmt",
    "LockStmt",
    "CheckPointStmt",
    "CommentStmt",
    "ReindexStmt",
    "ClusterStmt",
    "DiscardStmt",
    "ListenStmt",
    "UnlistenStmt",
    "NotifyStmt",
    "RefreshMatViewStmt",
    "ConstraintsSetStmt",
    "DeallocateStmt",
    "ClosePortalStmt",
    "FetchStmt",
    "ExplainStmt",
    "VariableShowStmt",
];

/// What one statement leads to; empty: nothing. `Err`: why that cannot be tried out before it is kept.
pub(in crate::session) fn reached(
    piece: &Piece,
    reach: &Reach,
    mode: LexicalMode,
    block: Block,
) -> Result<Vec<String>, String> {
    let facts = &piece.facts;
    if facts.prepares.is_some() || facts.transaction.is_some() || facts.unread.is_some() {
        return Ok(Vec::new());
    }
    let found = match &facts.kind {
        Kind::Do => vec!["DO".to_owned()],
        Kind::Call => vec!["CALL".to_owned()],
        Kind::Empty | Kind::Set | Kind::Transaction | Kind::Sluice => Vec::new(),
        Kind::Other(name) if STILL.contains(&name.as_str()) => Vec::new(),
        // What an EXECUTE stands for is still called a PREPARE.
        Kind::Read | Kind::Prepare if facts.changes.is_empty() => {
            let met = reach.reads.met(&piece.text, mode);
            if met.is_empty() { runs_a_text().met(&piece.text, mode) } else { met }
        }
        Kind::Grant if !reach.writes.is_empty() => {
            reach.writes.watches_schema_changes().map(str::to_owned).into_iter().collect()
        }
        Kind::Other(name) if reach.in_tables && looks_after_many(name, &piece.text) => {
            vec!["all tables that it looks after".to_owned()]
        }
        Kind::Create | Kind::Alter | Kind::Drop | Kind::Other(_) => {
            let met = reach.writes.met(&piece.text, mode).into_iter();
            met.chain(reach.writes.watches_schema_changes().map(str::to_owned)).collect()
        }
        _ => {
            let mut met = reach.writes.met(&piece.text, mode);
            if met.is_empty() {
                met = runs_a_text().met(&piece.text, mode);
            }
            if met.is_empty() && facts.changes.iter().any(merges) {
                met.push(MERGE.to_owned());
            }
            if met.is_empty() && reach.own_equality && !facts.changes.is_empty() && piece.text.contains('=') {
                met.push("=".to_owned());
            }
            met
        }
    };
    if let Some(name) = found.first().and_then(|_| reach.outside.met(&piece.text, mode).into_iter().next()) {
        return Err(format!("it leads to {name}, which does what no rollback takes back, so it cannot be tried"));
    }
    match found.first() {
        None => Ok(found),
        Some(name) => untriable(facts, &piece.text, block)
            .map_or(Ok(found.clone()), |why| Err(format!("it leads to {name}, and {why}"))),
    }
}

fn merges(change: &Change) -> bool {
    matches!(change.verb, Verb::Merge { .. }) && !adds_only(change)
}

/// VACUUM, ANALYZE and CLUSTER without a table's name, REINDEX of anything but a table.
fn looks_after_many(kind: &str, text: &str) -> bool {
    let told: Vec<String> = words(text, LexicalMode::default()).filter(|word| word != ";").collect();
    match kind {
        "ReindexStmt" => !told.iter().take(6).any(|word| word == "table"),
        "VacuumStmt" | "ClusterStmt" => {
            const OPTIONS: &[&str] = &["vacuum", "analyze", "analyse", "cluster", "full", "freeze", "verbose"];
            let mut depth = 0i32;
            !told.iter().any(|word| {
                depth += i32::from(word == "(") - i32::from(word == ")");
                depth == 0 && word != ")" && !OPTIONS.contains(&word.as_str())
            })
        }
        _ => false,
    }
}

/// Kinds that run nothing of a table's or a function's.
const STILL: &[&str] =
    &["LockStmt", "ListenStmt", "UnlistenStmt", "NotifyStmt", "CheckPointStmt", "DiscardStmt", "DeallocateStmt"];

/// Where a statement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Block {
    /// Alone, or with others, outside a transaction block.
    Outside,
    Inside,
    /// In a message that begins or ends transactions of its own.
    Mixed,
}

fn untriable(facts: &Facts, text: &str, block: Block) -> Option<&'static str> {
    if facts.outside_transaction_only {
        return Some("it may not stand in a transaction, so it cannot be tried");
    }
    if block == Block::Mixed {
        return Some("its message begins or ends a transaction, so it cannot be tried: send it alone");
    }
    if declares(text) == Declared::WithHold {
        return Some("a cursor WITH HOLD runs it when its transaction commits");
    }
    if copies_in(facts) && block == Block::Outside {
        return Some("what COPY brings is kept at once: send it between BEGIN and COMMIT, where it is measured");
    }
    None
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Declared {
    Nothing,
    /// A cursor: what it reads is run as it is fetched.
    Cursor,
    WithHold,
}

pub(in crate::session) fn declares(text: &str) -> Declared {
    let mut words = words(text, LexicalMode::default());
    match words.next().as_deref() {
        Some("declare") if words.take_while(|word| word != "for").any(|word| word == "hold") => Declared::WithHold,
        Some("declare") => Declared::Cursor,
        _ => Declared::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_that_is_held_is_told_from_others() {
        for (text, declared) in [
            ("DECLARE c CURSOR FOR SELECT 1", Declared::Cursor),
            ("declare c no scroll cursor with hold for select 1", Declared::WithHold),
            ("DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1", Declared::WithHold),
            ("DECLARE c CURSOR FOR SELECT hold FROM t", Declared::Cursor),
            ("SELECT 1", Declared::Nothing),
        ] {
            assert_eq!(declares(text), declared, "{text}");
        }
    }
}
