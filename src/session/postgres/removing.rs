//! Tables that are about to go are locked as the statement itself locks them, and counted again behind the lock: while a statement waits
//! for whoever writes to them, they fill, or another table takes their name.
//!
//! Invariant: what is removed was counted when nobody else could add to it any more. What cannot be locked beforehand (foreign tables,
//! several statements in one message) is only counted before. Source: PostgreSQL manual, "Explicit Locking": TRUNCATE and DROP TABLE
//! take ACCESS EXCLUSIVE; tried on 15 and 18.

use crate::change::promise::{self, Moved};
use crate::database::{Ask, AskError, catalog, quote};
use crate::ground::limits;
use crate::policy::question::RemovedTable;
use crate::protocol::postgres::message::Script;
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::desk::Desk;
use crate::session::held::Hold;
use crate::session::judgement::{Depth, Judgement, Subjected};
use crate::session::postgres::Session;
use crate::session::postgres::ask::{Asker, Ground};
use crate::session::postgres::look::{Looked, unknown_state};
use bytes::Bytes;

impl Session {
    /// In the transaction that the statement will run in, right before it. `Some`: it may not run.
    pub(in crate::session) async fn count_behind_the_lock(&mut self, hold: &Hold) -> Result<Option<Refusal>, End> {
        if !takes_tables(&hold.judgement) {
            return Ok(None);
        }
        if let Some(refusal) = self.lock_what_goes(&hold.judgement).await? {
            return Ok(Some(refusal));
        }
        let judgement = &hold.judgement;
        let source = self.source(&Bytes::from(judgement.source.clone()));
        let now = match Box::pin(self.look_at(Subjected::Source(source), None, Depth::WhatRulesNeed)).await? {
            Looked::At(now) => now,
            Looked::Not(refusal) => return Ok(Some(refusal)),
            Looked::Wrong(_) | Looked::Discarded | Looked::Missing => {
                let message = "sluice: what the statement would remove could not be counted again; it was not run";
                return Ok(Some(Refusal::new(Code::CannotKnow, message)));
            }
        };
        let moved = promise::within(&judgement.promise, &now.promise, judgement.sizes.tolerance);
        let agreed = matches!(moved, Moved::No) || !hold.was_confirmed() && Desk::passes(now.verdict.in_force());
        if agreed {
            return Ok(None);
        }
        let mut refusal = self.desk.refusal(&now, hold.protocol).await;
        if hold.was_confirmed() && refusal.code != Code::CannotKnow {
            refusal.code = Code::ExceedsConfirmed;
            let now = refusal.message.trim_start_matches("sluice: ").to_owned();
            refusal.message = format!("sluice: more would go than was confirmed, so it was not run: {now}");
        }
        Ok(Some(refusal))
    }

    /// Waits for the locks as the statement would: the client's own timeouts and cancel requests end it.
    async fn lock_what_goes(&mut self, judgement: &Judgement) -> Result<Option<Refusal>, End> {
        let named = judgement.removed_tables().map(|table| quote::literal(&quote::dotted(&table.name.parts)));
        let named: Vec<String> = named.take(limits::REMOVED_TABLES).collect();
        let (time, block) = (limits::LOCK_WAIT_MAX, self.talk.status() == b'T');
        let asker = Asker::begin(&mut self.link, &self.seat, &self.talk, Ground::Implicit, time, time).await;
        let mut asker = asker.map_err(unknown_state)?;
        let locked = lock(&mut asker, &named, block).await;
        let ended = asker.end().await.map_err(unknown_state)?;
        if ended.failed {
            // The server skips everything up to a Sync, and none is on its way.
            self.link.say(Script::default().sync());
            let status = self.hear_ready().await?;
            self.talk.set_status(status);
        }
        Ok(locked.err().map(|error| {
            let why = catalog::reason(&error);
            let message = format!("sluice: the tables that would go could not be locked, so nothing was run: {why}");
            Refusal::new(if ended.cancelled { Code::Cancelled } else { Code::CannotKnow }, message)
        }))
    }
}

async fn lock(asker: &mut impl Ask, named: &[String], block: bool) -> Result<(), AskError> {
    let question = quote::catalog(&LOCKABLE.replace("{named}", &named.join(", ")));
    let answer = asker.ask(&question, None).await?;
    let lockable: Vec<String> = answer.rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
    if lockable.is_empty() {
        return Ok(());
    }
    let lock = format!("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE", lockable.join(", ONLY "));
    // By itself it wants a transaction block, though a pipeline's implicit transaction would keep the lock as well.
    let lock = if block { lock } else { format!("DO {}", quote::literal(&format!("BEGIN {lock}; END"))) };
    asker.ask(&lock, None).await?;
    Ok(())
}

/// LOCK takes tables only, and only with a right to change them.
const LOCKABLE: &str = "SELECT pg_catalog.concat(pg_catalog.quote_ident(n.nspname), '.', pg_catalog.quote_ident(c.relname)) \
 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
 WHERE c.oid = ANY (ARRAY[{named}]::pg_catalog.regclass[]::pg_catalog.oid[]) AND c.relkind = ANY ('{r,p}'::\"char\"[]) \
  AND pg_catalog.has_table_privilege(c.oid, 'TRUNCATE')";

/// One statement that removes tables, or all their rows, which are known and others can see.
pub(in crate::session) fn takes_tables(judgement: &Judgement) -> bool {
    let temporary = |table: &RemovedTable| table.name.parts.first().is_some_and(|schema| schema.starts_with("pg_temp"));
    let waits = |piece: &crate::session::judgement::Piece| !piece.facts.outside_transaction_only;
    judgement.pieces.len() == 1
        && judgement.pieces.iter().all(waits)
        && !judgement.source.is_empty()
        && judgement.removed_tables().any(|table| !temporary(table))
}
