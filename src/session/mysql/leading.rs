//! What names lead to: code of the users' own, whose effect only the database knows; and engines whose changes cannot be taken back.
//!
//! Invariant: a statement that leads to such code is run with its commit withheld and held to what it did; where that cannot be, it is
//! asked about as what it is. Where it could not be learned what names lead to, every statement counts as leading there.

use crate::database::catalog;
use crate::database::effects::mysql::reach;
use crate::database::effects::reach::Reach;
use crate::ground::limits;
use crate::policy::count::adds_only;
use crate::policy::question::{ChangeEvidence, Evidence, Known, Rows};
use crate::policy::settings::{Effective, Mode};
use crate::policy::{self, Asked};
use crate::session::End;
use crate::session::judgement::{Judgement, Piece, words};
use crate::session::mysql::Session;
use crate::session::mysql::ask::Asker;
use crate::session::mysql::look::unknown_state;
use crate::sql::facts::{Facts, Kind, Verb};
use crate::sql::lexer::Lexer;
use crate::sql::statement::{LexicalMode, MySqlMode, Product};
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Session {
    /// Before a text is glanced at, or something prepared is run: what is known must not be stale.
    pub(in crate::session) async fn refresh_reach(&mut self) -> Result<(), End> {
        if self.reaching.is_fresh() || self.once {
            return Ok(());
        }
        let policy = self.desk.house.policy.load_full();
        let now = self.desk.house.clock.now();
        if self.desk.standing.get(&policy, &self.desk.principal, now).mode != Mode::Enforce {
            // Nothing is held back, so nothing is measured.
            self.reaching.keep(Arc::default(), 0, Duration::ZERO);
            return Ok(());
        }
        self.know_settings().await?;
        let before = self.reaching.own_epoch();
        if self.reaching.adopt() {
            if self.reaching.own_epoch() != before {
                self.desk.cache.clear();
            }
            return Ok(());
        }
        self.keep_aftermath().await?;
        let ground = self.ground();
        let epoch = self.reaching.epoch();
        if epoch != self.reaching.own_epoch() {
            self.desk.cache.clear();
        }
        let (time, known, mode) = (self.desk.house.ask_timeout, self.reaching.shared(), self.settings.own_mode());
        let asker = Asker::begin(&mut self.link, self.server, mode, ground, time, time).await;
        let mut asker = asker.map_err(unknown_state)?;
        let started = Instant::now();
        let learned = learn(&mut asker, known, mode).await;
        asker.end().await.map_err(unknown_state)?;
        self.ended_asking(ground).await?;
        match learned {
            Ok(reach) => {
                // Asking costs what the schema is large: never more than a hundredth of the time.
                let lasting = (started.elapsed() * 100).clamp(limits::REACH_TTL, limits::REACH_TTL_MAX);
                self.reaching.keep(reach, epoch, lasting);
                self.reaching.publish();
            }
            Err(error) => {
                let why = catalog::reason(&error);
                tracing::warn!(session = %self.desk.id, why, "what runs behind the names of the schema could not be learned");
                self.reaching.keep(Arc::new(Reach::unknown(&why)), epoch, Duration::ZERO);
                self.reaching.asked_in_vain();
            }
        }
        Ok(())
    }

    /// What is to be known of a statement, for the rules and for what it may fire.
    pub(in crate::session) fn asked_of(piece: &Piece, standing: &Effective, blind: bool) -> Asked {
        let mut asked = policy::questions(&piece.facts, standing);
        if blind && piece.facts.kind == Kind::Insert {
            for (change, questions) in piece.facts.changes.iter().zip(&mut asked.changes) {
                questions.table |= change.verb == Verb::Insert;
            }
        }
        asked
    }

    /// Which statements lead to code of the users' own, and which of those cannot be tried.
    pub(in crate::session) fn lead(&self, pieces: &[Piece], evidence: &mut [Evidence]) {
        let reach = self.reaching.known();
        let mode = self.settings.mode();
        // With these in one message nothing of it can be held back.
        let mixed = pieces.len() > 1 && pieces.iter().any(|piece| stands_alone(&piece.facts));
        let unknown = Reach::unknown("a statement before it in the message changes the schema");
        let mut changed = false;
        for (piece, known) in pieces.iter().zip(evidence) {
            let reach = if changed { &unknown } else { reach };
            changed |= pieces.len() > 1 && changes_schema(piece);
            if let Some(why) = not_taken_back(piece, known) {
                known.effects = Known::Unknown(why);
                continue;
            }
            let blocked = blocked(piece, reach, mode, &self.desk.principal.database);
            match blocked.map_or_else(|| reached(piece, reach, mode, mixed), Err) {
                Ok(names) if names.is_empty() && reach.blind && !mixed => known.reaches = fires_unseen(piece, known),
                Ok(names) => known.reaches = names,
                Err(why) => known.effects = Known::Unknown(why),
            }
        }
    }

    /// What goes on may change the schema, and with it what names lead to.
    pub(in crate::session) fn note_schema_change(&mut self, judgement: &Judgement) {
        if judgement.pieces.iter().any(changes_schema) {
            self.reaching.touch();
            self.desk.house.schemas.touch_all();
        }
    }
}

/// Names in it lead to code of the users' own.
pub(in crate::session) fn leads_on(reach: &Reach, mode: LexicalMode, text: &str, kind: &Kind) -> bool {
    let list = match kind {
        Kind::Read => &reach.reads,
        Kind::Insert if reach.blind => return true,
        Kind::Insert => &reach.writes,
        _ => return false,
    };
    !list.is_empty() && !list.met(text, mode).is_empty()
}

/// Some name does.
pub(in crate::session) fn leads_anywhere(reach: &Reach) -> bool {
    !reach.writes.is_empty() || reach.blind
}

/// Anything that could give a name code to run.
fn changes_schema(piece: &Piece) -> bool {
    let facts = &piece.facts;
    facts.prepares.is_none()
        && (facts.unread.is_some()
            || matches!(facts.kind, Kind::Create | Kind::Alter | Kind::Drop | Kind::Do | Kind::Call))
}

async fn learn(
    asker: &mut Asker<'_>,
    known: Arc<Reach>,
    mode: MySqlMode,
) -> Result<Arc<Reach>, crate::database::AskError> {
    let fingerprint = reach::fingerprint(asker).await?;
    if !fingerprint.is_empty() && fingerprint == known.fingerprint {
        return Ok(known);
    }
    Ok(Arc::new(reach::learn(asker, fingerprint, mode).await?))
}

/// It commits, or begins something, by itself.
fn stands_alone(facts: &Facts) -> bool {
    facts.transaction.is_some()
        || facts.prepares.is_some()
        || facts.commits_implicitly
        || facts.outside_transaction_only
        || crate::session::judgement::copies_in(facts)
}

/// A block of statements (MariaDB) is tried as a whole: not one that names what no rollback takes back, or the server's own tables, where a
/// row can be an account.
fn blocked(piece: &Piece, reach: &Reach, mode: LexicalMode, database: &str) -> Option<String> {
    if piece.facts.kind != Kind::Do {
        return None;
    }
    if database.eq_ignore_ascii_case("mysql") || reach::names_catalog(&piece.text, mode) {
        return Some("it names the server's own tables, so it cannot be tried".to_owned());
    }
    let met = reach.careless.met(&piece.text, mode);
    met.first().map(|name| format!("it names {name}, which does what no rollback takes back, so it cannot be tried"))
}

/// What one statement leads to; empty: nothing. `Err`: why that cannot be tried out before it is kept.
fn reached(piece: &Piece, reach: &Reach, mode: LexicalMode, mixed: bool) -> Result<Vec<String>, String> {
    let facts = &piece.facts;
    if facts.prepares.is_some() || facts.transaction.is_some() || facts.unread.is_some() {
        return Ok(Vec::new());
    }
    let found = match &facts.kind {
        Kind::Do => vec!["a block of statements".to_owned()],
        Kind::Call => vec![called(&piece.text, mode)],
        Kind::Empty | Kind::Transaction | Kind::Sluice | Kind::Prepare => Vec::new(),
        Kind::Read if only_shows(&piece.text, mode) => Vec::new(),
        Kind::Read | Kind::Set => reach.reads.met(&piece.text, mode),
        // What is created from a query runs it; a routine or a view only names it.
        Kind::Create => match makes_of_a_query(&piece.text, mode) {
            true => reach.reads.met(&piece.text, mode),
            false => Vec::new(),
        },
        Kind::Alter | Kind::Drop | Kind::Grant | Kind::Truncate | Kind::Other(_) => Vec::new(),
        _ => reach.writes.met(&piece.text, mode),
    };
    let Some(name) = found.first() else { return Ok(found) };
    if let Some(outside) = reach.outside.met(&piece.text, mode).first() {
        if reach.unshown.met(&piece.text, mode).contains(outside) {
            return Err(not_shown(outside, mode.product()));
        }
        return Err(format!("it leads to {outside}, which does what no rollback takes back, so it cannot be tried"));
    }
    if shows_status(&piece.text, mode) {
        return Err(format!(
            "it leads to {name}, and SHOW STATUS leaves no trace in the counters that it is measured by"
        ));
    }
    if facts.commits_implicitly || facts.outside_transaction_only {
        return Err(format!("it leads to {name}, and it commits by itself, so it cannot be tried"));
    }
    if mixed {
        return Err(format!("it leads to {name}, and its message begins or ends a transaction: send it alone"));
    }
    if crate::session::judgement::copies_in(facts) {
        return Err(format!("it leads to {name}, and what it loads cannot be held back"));
    }
    Ok(found)
}

/// The table that it inserts into, where triggers that are not shown may change others.
fn fires_unseen(piece: &Piece, known: &Evidence) -> Vec<String> {
    if piece.facts.kind != Kind::Insert
        || piece.facts.prepares.is_some()
        || crate::session::judgement::copies_in(&piece.facts)
    {
        return Vec::new();
    }
    let quiet = |known: Option<&ChangeEvidence>| {
        known.and_then(|known| known.table.known()).is_some_and(|table| table.unseen_triggers.is_none())
    };
    let mut changes = piece.facts.changes.iter().enumerate();
    let fires = changes.find(|(at, change)| change.verb == Verb::Insert && !quiet(known.changes.get(*at)));
    fires.map(|(_, change)| change.target.written.clone()).into_iter().collect()
}

/// The procedure that a CALL names, as it is written.
fn called(text: &str, mode: LexicalMode) -> String {
    let tokens = Lexer::new(text, mode).filter(|token| !token.is_comment()).skip(1);
    let name: String =
        tokens.take_while(|token| !token.is(b'(') && !token.is(b';')).map(|token| token.text(text)).collect();
    format!("CALL {}", name.chars().take(200).collect::<String>()).trim_end().to_owned()
}

/// A SHOW names things and runs nothing, but for the condition that it may have: MySQL 9.7 and MariaDB 10.11 both run a function there.
fn only_shows(text: &str, mode: LexicalMode) -> bool {
    let mut words = words(text, mode);
    words.next().is_some_and(|first| first == "show") && !words.any(|word| word == "where")
}

fn not_shown(name: &str, product: Product) -> String {
    let rights = match product {
        Product::MariaDb => "SHOW VIEW, for a routine SELECT on mysql.proc",
        _ => "SHOW VIEW, for a routine SHOW_ROUTINE",
    };
    format!("it leads to {name}, and this user is not shown what that is ({rights}), so it cannot be tried")
}

/// Both servers put the session's counters back behind it.
fn shows_status(text: &str, mode: LexicalMode) -> bool {
    let mut words = words(text, mode);
    words.next().is_some_and(|first| first == "show") && words.take(2).any(|word| word == "status")
}

/// CREATE TABLE … SELECT.
fn makes_of_a_query(text: &str, mode: LexicalMode) -> bool {
    let mut words = words(text, mode);
    words.find(|word| !matches!(word.as_str(), "create" | "or" | "replace" | "temporary")).as_deref() == Some("table")
}

/// A change of a table whose engine knows no transactions stays, whatever it did: only one that is bounded by a key is let pass.
fn not_taken_back(piece: &Piece, known: &Evidence) -> Option<String> {
    let mut changes = piece.facts.changes.iter().zip(&known.changes);
    changes.find_map(|(change, known)| {
        let table = known.table.known()?;
        let bounded = matches!(known.rows, Known::Known(Rows::AtMost(_)));
        let engine = table.keeps_no_transactions.as_ref().filter(|_| !adds_only(change) && !bounded)?;
        let (schema, name) = (&table.schema, &table.name);
        Some(format!(
            "{schema}.{name} is kept by {engine}, which knows no transactions: nothing of it can be rolled back"
        ))
    })
}
