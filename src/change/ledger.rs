//! Scripts and their ledger: what a statement of a script is known by, whether it has run, and how a run of it ends.
//!
//! ```text
//! consult ─▶ nothing, or rolled back ─▶ begin ─▶ sent ─▶ end: ran · undone
//!         └▶ ran, or nobody knows    ─▶ the rule `already-ran`
//! ```
//!
//! What stands in a transaction of the client's has run when that is committed, which the database knows best: the entry keeps the
//! transaction's number, and whoever looks at it later asks (`pg_xact_status`, PostgreSQL manual, "Transaction ID and Snapshot
//! Information Functions"; tried on 15).
//!
//! Invariant: an entry is "not run" only if there is none, or if its transaction is known to have been rolled back.

use crate::database::{Ask, AskError};
use crate::ground::limits;
use crate::policy::rules::Ledger;
use crate::protocol::Parameters;
use crate::sql::statement::LexicalMode;
use crate::sql::{essence, hints};
use crate::store::ledger::{Beginning, Begun, Ending, Entry, Key, State};
use crate::store::{Store, StoreError};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// A statement of a script that is about to be sent: what was found when it was looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    key: Key,
    runs: u64,
    transaction: Option<String>,
}

/// A run that was begun, until it is known how it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    key: Key,
    number: u64,
    in_transaction: bool,
    /// It was carried out: the rows that it told of.
    done: Option<Option<u64>>,
}

/// What a statement of a script is known by: what its texts say, its values, and its step.
pub struct Part<'a> {
    pub listener: &'a str,
    pub database: &'a str,
    pub script: &'a str,
    pub step: &'a str,
    pub texts: Vec<&'a str>,
    pub mode: LexicalMode,
    pub parameters: Option<&'a Parameters>,
}

impl Part<'_> {
    /// By what the texts say, however they are laid out.
    fn key(&self) -> Key {
        self.keyed(b"tokens", |text, take| essence::each(text, self.mode, take))
    }

    /// As entries were known up to the store's version 2: by the text as it was written. What ran then has run.
    fn key_before(&self) -> Key {
        self.keyed(b"", |text, take| {
            take(hints::without(text, self.mode).trim_end_matches(';').trim_end().as_bytes());
        })
    }

    fn keyed(&self, manner: &[u8], words: impl Fn(&str, &mut dyn FnMut(&[u8]))) -> Key {
        let mut digest = Sha256::new();
        digest.update(manner);
        let mut take = |bytes: &[u8]| {
            digest.update((bytes.len() as u64).to_be_bytes());
            digest.update(bytes);
        };
        take(self.step.as_bytes());
        for (at, text) in self.texts.iter().enumerate() {
            if at > 0 && !manner.is_empty() {
                take(b";");
            }
            words(text, &mut take);
        }
        for value in self.parameters.iter().flat_map(|parameters| &parameters.values) {
            take(&[u8::from(value.is_some())]);
            take(value.as_deref().unwrap_or_default());
        }
        let (listener, database) = (self.listener.to_owned(), self.database.to_owned());
        Key { listener, database, script: self.script.to_owned(), digest: digest.finalize().into() }
    }
}

/// What the ledger says of it, and what it takes to begin it. `own`: it will run in a transaction of its own, so that its
/// outcome is seen here.
pub async fn consult(store: &Store, asker: &mut impl Ask, part: &Part<'_>, own: bool) -> (Ledger, Option<Claim>) {
    if part.script.len() > limits::SQL_HINT_VALUE_BYTES_MAX {
        let why = format!("a script's name has at most {} bytes", limits::SQL_HINT_VALUE_BYTES_MAX);
        return (Ledger::Unknown(why), None);
    }
    let (key, entry) = match store.ledger_find(vec![part.key(), part.key_before()]).await {
        Ok(Some((key, entry))) => (key, Some(entry)),
        Ok(None) => (part.key(), None),
        Err(error) => return (Ledger::Unknown(error.to_string()), None),
    };
    let transaction = match own {
        true => None,
        false => match current(asker).await {
            Some(number) => Some(number),
            None => return (Ledger::Unknown("its transaction has no number".to_owned()), None),
        },
    };
    let said = match &entry {
        None => Ledger::New,
        Some(entry) => told(entry, ended(asker, entry).await),
    };
    let runs = entry.map_or(0, |entry| entry.runs);
    (said, Some(Claim { key, runs, transaction }))
}

/// Enters the run before it is sent. `Ok(None)`: somebody else began it in the meantime.
pub async fn begin(
    store: &Store,
    claim: &Claim,
    by: &str,
    statement: &str,
    now: Timestamp,
) -> Result<Option<Run>, StoreError> {
    let beginning = Beginning {
        key: claim.key.clone(),
        runs_seen: claim.runs,
        by: by.to_owned(),
        transaction: claim.transaction.clone(),
        statement: statement.chars().take(200).collect(),
        now,
    };
    Ok(match store.ledger_begin(beginning).await? {
        Begun::Now(number) => {
            let in_transaction = claim.transaction.is_some();
            Some(Run { key: claim.key.clone(), number, in_transaction, done: None })
        }
        Begun::Taken => None,
    })
}

/// The runs of one session that are under way, in the order in which they were sent.
#[derive(Debug, Default)]
pub struct Runs(Vec<Run>);

impl Runs {
    pub fn push(&mut self, run: Run) {
        self.0.push(run);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next one was carried out.
    pub fn done(&mut self, rows: Option<u64>) {
        if let Some(run) = self.0.iter_mut().find(|run| run.done.is_none()) {
            run.done = Some(rows);
        }
    }

    /// What was under way was rolled back. A transaction of the client's may go on behind a savepoint: its end tells.
    pub fn failed(&mut self, store: &Store) {
        for run in self.0.drain(..).filter(|run| !run.in_transaction) {
            store.ledger_end(run.key, run.number, Ending::Undone);
        }
    }

    /// Everything was answered. `committed`: no transaction is open, so what was carried out stands, and what was not never will be.
    pub fn answered(&mut self, store: &Store, committed: bool) {
        for run in self.0.drain(..).filter(|run| committed && !run.in_transaction) {
            let how = run.done.map_or(Ending::Undone, |rows| Ending::Ran { rows });
            store.ledger_end(run.key, run.number, how);
        }
    }
}

/// Asks the database how the transactions of open entries ended, and enters it: for `SLUICE SCRIPTS`.
pub async fn settle(store: &Store, asker: &mut impl Ask, listener: &str, database: &str) -> Result<(), StoreError> {
    let open = store.ledger_open(listener, database).await?;
    let mut known: HashMap<String, Option<Ended>> = HashMap::new();
    for (key, entry) in open {
        let Some(number) = entry.transaction.clone() else { continue };
        let how = match known.get(&number) {
            Some(how) => *how,
            None => {
                let how = ended(asker, &entry).await;
                known.insert(number, how);
                how
            }
        };
        match how {
            Some(Ended::Committed) => store.ledger_end(key, entry.runs, Ending::Ran { rows: None }),
            Some(Ended::Aborted) => store.ledger_end(key, entry.runs, Ending::Undone),
            Some(Ended::NotYet) | None => {}
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Committed,
    Aborted,
    NotYet,
}

fn told(entry: &Entry, ended: Option<Ended>) -> Ledger {
    let ran =
        |when: Timestamp, by: &str| Ledger::Ran(format!("on {} by {}", when.strftime("%Y-%m-%d %H:%M UTC"), short(by)));
    match (entry.state, ended) {
        (State::Ran, _) => ran(entry.ran.unwrap_or(entry.begun), entry.ran_by.as_deref().unwrap_or(&entry.begun_by)),
        (State::Begun, Some(Ended::Committed)) => ran(entry.begun, &entry.begun_by),
        (State::Begun, Some(Ended::Aborted)) => match entry.ran {
            Some(when) => ran(when, entry.ran_by.as_deref().unwrap_or_default()),
            None => Ledger::New,
        },
        (State::Begun, _) => {
            Ledger::Begun(format!("on {} by {}", entry.begun.strftime("%Y-%m-%d %H:%M UTC"), short(&entry.begun_by)))
        }
    }
}

fn short(name: &str) -> String {
    name.chars().take(20).collect()
}

/// How the transaction of an entry ended; `None` where that is not known any more, or was never asked.
async fn ended(asker: &mut impl Ask, entry: &Entry) -> Option<Ended> {
    let number = entry.transaction.as_deref().filter(|_| entry.state == State::Begun)?;
    let number: u64 = number.parse().ok()?;
    let question = format!("SELECT pg_catalog.pg_xact_status('{number}'::pg_catalog.xid8)");
    match first(asker, &question).await.ok()??.as_str() {
        "committed" => Some(Ended::Committed),
        "aborted" => Some(Ended::Aborted),
        "in progress" => Some(Ended::NotYet),
        _ => None,
    }
}

/// The number of the client's transaction, which it is given by this if it had none.
async fn current(asker: &mut impl Ask) -> Option<String> {
    let number = first(asker, "SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text").await.ok()??;
    number.parse::<u64>().ok().map(|_| number)
}

async fn first(asker: &mut impl Ask, question: &str) -> Result<Option<String>, AskError> {
    let answer = asker.ask(question, None).await?;
    Ok(answer.rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Answer;
    use crate::ground::secret::hex;

    /// Answers what it was given, in turn.
    struct Told(Vec<&'static str>);

    impl Ask for Told {
        async fn ask(&mut self, _: &str, _: Option<&Parameters>) -> Result<Answer, AskError> {
            let cell = (!self.0.is_empty()).then(|| self.0.remove(0).to_owned());
            Ok(Answer { rows: vec![vec![cell]], ..Answer::default() })
        }
    }

    fn part<'a>(text: &'a str, step: &'a str) -> Part<'a> {
        Part {
            listener: "l",
            database: "d",
            script: "s",
            step,
            texts: vec![text],
            mode: LexicalMode::default(),
            parameters: None,
        }
    }

    async fn begun(store: &Store, part: &Part<'_>, transaction: Option<&'static str>) -> Run {
        let mut asker = Told(transaction.into_iter().collect());
        let (said, claim) = consult(store, &mut asker, part, transaction.is_none()).await;
        assert_eq!(said, Ledger::New);
        let run = begin(store, &claim.expect("a claim"), "anna", "DELETE", Timestamp::UNIX_EPOCH).await;
        run.expect("the store answers").expect("nobody was faster")
    }

    async fn said(store: &Store, part: &Part<'_>, answers: &[&'static str]) -> Ledger {
        consult(store, &mut Told(answers.to_vec()), part, true).await.0
    }

    #[tokio::test]
    async fn a_statement_runs_once_whatever_is_said_beside_it() {
        let store = Store::open("sqlite::memory:").expect("a store");
        let (one, other) = (part("DELETE FROM t", ""), part("DELETE FROM t", "2"));
        let mut runs = Runs::default();
        runs.push(begun(&store, &one, None).await);
        assert!(matches!(said(&store, &one, &[]).await, Ledger::Begun(_)), "nobody knows yet");
        runs.done(Some(3));
        runs.answered(&store, true);
        let ran = Ledger::Ran("on 1970-01-01 00:00 UTC by anna".to_owned());
        assert_eq!(said(&store, &one, &[]).await, ran);
        assert_eq!(said(&store, &part("/* sluice: script=s rerun=x */ DELETE FROM t;", ""), &[]).await, ran);
        assert_eq!(said(&store, &other, &[]).await, Ledger::New, "another step");
        assert_eq!(said(&store, &part("DELETE FROM u", ""), &[]).await, Ledger::New, "another statement");
    }

    #[tokio::test]
    async fn another_layout_is_the_same_statement_and_another_value_is_not() {
        let store = Store::open("sqlite::memory:").expect("a store");
        let one = part("DELETE FROM t WHERE a = 'x'", "");
        let mut runs = Runs::default();
        runs.push(begun(&store, &one, None).await);
        runs.done(Some(3));
        runs.answered(&store, true);
        for text in ["delete from t\n  where a='x' -- again", "/* v2 */ DELETE FROM t WHERE a = 'x';"] {
            assert!(matches!(said(&store, &part(text, ""), &[]).await, Ledger::Ran(_)), "{text}");
        }
        for text in ["DELETE FROM t WHERE a = 'X'", "DELETE FROM t WHERE a = 'x '", "DELETE FROM \"T\" WHERE a = 'x'"] {
            assert_eq!(said(&store, &part(text, ""), &[]).await, Ledger::New, "{text}");
        }
        let (mut two, mut moved) = (part("", ""), part("", ""));
        (two.texts, moved.texts) = (vec!["DELETE FROM a", "b"], vec!["DELETE FROM", "a b"]);
        assert_ne!(two.key(), moved.key(), "where one statement ends is part of it");
        let long = "s".repeat(limits::SQL_HINT_VALUE_BYTES_MAX + 1);
        let long = Part { script: &long, ..part("DELETE FROM t", "") };
        assert!(matches!(said(&store, &long, &[]).await, Ledger::Unknown(_)));
    }

    #[tokio::test]
    async fn what_ran_under_an_older_sluice_has_run() {
        let store = Store::open("sqlite::memory:").expect("a store");
        let one = part("DELETE FROM t  -- all", "7");
        // Made by the version before this one.
        let digest = "674e82a8ddbc3117137d50633fce893a9e9c6e038191f627bd29c6ba0b41b781";
        assert_eq!(hex(&one.key_before().digest), digest);
        let claim = Claim { key: one.key_before(), runs: 0, transaction: None };
        let run = begin(&store, &claim, "anna", "DELETE", Timestamp::UNIX_EPOCH).await.expect("answered");
        let mut runs = Runs::default();
        runs.push(run.expect("first"));
        runs.done(None);
        runs.answered(&store, true);
        let (ledger, again) = consult(&store, &mut Told(vec![]), &one, true).await;
        assert!(matches!(ledger, Ledger::Ran(_)));
        let rerun = begin(&store, &again.expect("a claim"), "eve", "", Timestamp::MAX).await;
        assert!(rerun.expect("answered").is_some(), "it goes on in the same entry");
    }

    #[tokio::test]
    async fn what_failed_or_was_never_carried_out_has_not_run() {
        let store = Store::open("sqlite::memory:").expect("a store");
        let (one, other) = (part("DELETE FROM t", ""), part("DELETE FROM u", ""));
        let mut runs = Runs::default();
        runs.push(begun(&store, &one, None).await);
        runs.failed(&store);
        runs.push(begun(&store, &other, None).await);
        runs.answered(&store, true);
        assert_eq!(said(&store, &one, &[]).await, Ledger::New);
        assert_eq!(said(&store, &other, &[]).await, Ledger::New);
    }

    #[tokio::test]
    async fn the_database_says_how_a_transaction_ended() {
        let store = Store::open("sqlite::memory:").expect("a store");
        let one = part("DELETE FROM t", "");
        let mut runs = Runs::default();
        runs.push(begun(&store, &one, Some("742")).await);
        runs.done(Some(3));
        runs.answered(&store, false);
        assert!(matches!(said(&store, &one, &["in progress"]).await, Ledger::Begun(_)));
        assert!(matches!(said(&store, &one, &[]).await, Ledger::Begun(_)), "too old to be known");
        assert_eq!(said(&store, &one, &["aborted"]).await, Ledger::New);
        assert!(matches!(said(&store, &one, &["committed"]).await, Ledger::Ran(_)));
        settle(&store, &mut Told(vec!["committed"]), "l", "d").await.expect("settled");
        assert!(matches!(said(&store, &one, &[]).await, Ledger::Ran(_)), "kept");
    }

    #[tokio::test]
    async fn of_two_who_begin_one_gets_it_and_a_rerun_that_fails_leaves_what_ran() {
        let store = Store::open("sqlite::memory:").expect("a store");
        let one = part("DELETE FROM t", "");
        let (_, claim) = consult(&store, &mut Told(vec![]), &one, true).await;
        let claim = claim.expect("a claim");
        let begin_it = || begin(&store, &claim, "anna", "", Timestamp::UNIX_EPOCH);
        let mut runs = Runs::default();
        runs.push(begin_it().await.expect("answered").expect("first"));
        assert_eq!(begin_it().await, Ok(None), "taken");
        runs.done(None);
        runs.answered(&store, true);
        let (_, again) = consult(&store, &mut Told(vec![]), &one, true).await;
        let rerun = begin(&store, &again.expect("a claim"), "eve", "", Timestamp::MAX).await;
        runs.push(rerun.expect("answered").expect("nobody else"));
        runs.failed(&store);
        assert_eq!(said(&store, &one, &[]).await, Ledger::Ran("on 1970-01-01 00:00 UTC by anna".to_owned()));
    }
}
