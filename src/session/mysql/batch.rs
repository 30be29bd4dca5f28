//! One batch of a job on MySQL and MariaDB: a transaction whose archived and changed rows are compared before it commits.
//!
//! ```text
//! READ COMMITTED · START TRANSACTION → the rows, locked and archived → the change → (their new values) → COMMIT · where the next one ends
//! ```
//!
//! Invariant: each statement is sent when the one before has succeeded and the transaction is known to be open: an error may have ended it,
//! and what came behind would commit by itself.

use crate::audit::Permit;
use crate::change::batch::Pace;
use crate::database::batches::mysql::Texts;
use crate::database::batches::mysql::carried::{Act, Families};
use crate::database::batches::{Piece, Place, Stride, Walk};
use crate::database::quote;
use crate::ground::limits;
use crate::policy::count::grouped;
use crate::protocol::mysql::message::Script;
use crate::protocol::mysql::response::{End as Said, Failure};
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::driving::{Ahead, Back, Drive, Failed, MORE_MATCH, Step, looked};
use crate::session::mysql::Session;
use crate::session::mysql::ask::Heard;
use crate::session::mysql::carry::{cell, row};

impl Session {
    /// One batch of the change.
    pub(in crate::session) async fn batch(
        &mut self,
        drive: &mut Drive,
        after: &mut Option<Place>,
        ahead: &mut Ahead,
        number: u64,
        pace: Pace,
    ) -> Result<Step, End> {
        drive.coming = 0;
        let Some(end) = drive.plan.end.clone() else { return Ok(Step::Over) };
        let (to, stride) = match std::mem::replace(ahead, Ahead::NotLooked) {
            Ahead::To(to, stride) => (to, stride),
            Ahead::Over => return Ok(Step::Over),
            Ahead::NotLooked => {
                let told =
                    self.tell_long(&Texts::of(&drive.plan.walk).next(after.as_ref(), &end, pace.stride())).await?;
                if let Some(failure) = told.end.failed() {
                    return Ok(not_kept(failure, false));
                }
                match looked(row(&told), after.as_ref(), &end, pace.stride()) {
                    Ahead::To(to, stride) => (to, stride),
                    _ => return Ok(Step::Over),
                }
            }
        };
        self.begin_batch().await?;
        let (own, together) = match self.change_batch(drive, (after.as_ref(), &to), number).await? {
            Ok(done) => done,
            Err(step) => return Ok(step),
        };
        let total = drive.job.standing.rows.saturating_add(together);
        let most = grouped(drive.job.rows_most);
        let more = (total > drive.job.rows_most).then(|| format!("{MORE_MATCH} the {most} that were agreed to"));
        if let Some(why) = more.or_else(|| drive.beyond_below(own, together - own)) {
            self.roll_back().await?;
            return Ok(Step::Stop(why));
        }
        drive.coming_below = together - own;
        let step = self.commit_batch(together, stride).await?;
        if let Step::Kept { .. } = step {
            if after.as_ref() == Some(&to) {
                return Ok(Step::Stop("its place in the key does not move".to_owned()));
            }
            if let Stride::Rows(_) = pace.stride() {
                let next = Texts::of(&drive.plan.walk).next(Some(&to), &end, pace.stride());
                let told = self.tell_long(&next).await?;
                if told.end.failed().is_none() {
                    *ahead = looked(row(&told), Some(&to), &end, pace.stride());
                }
            }
            *after = Some(to);
        }
        Ok(step)
    }

    /// The batch, up to its commit: how many rows of the table, and with those below them. `Err`: it was rolled back.
    async fn change_batch(
        &mut self,
        drive: &mut Drive,
        (after, to): (Option<&Place>, &Place),
        number: u64,
    ) -> Result<Result<(u64, u64), Step>, End> {
        let plan = drive.plan.clone();
        let (texts, families) = (Texts::of(&plan.walk), Families::of(plan.family()));
        self.copy_exactly(drive, true).await?;
        let mut keeps = vec![(0, texts.keep(after, to, number))];
        keeps.extend(families.keep(number));
        let mut kept = vec![0u64; plan.members.len() + 1];
        for (at, text) in keeps {
            match self.archived(drive, (at, &text), (number, false)).await? {
                Ok(rows) => kept[at] += rows,
                Err(step) => return Ok(Err(step)),
            }
        }
        self.copy_exactly(drive, false).await?;
        let own = kept[0];
        // What hangs on one row goes with it.
        let lone = own == 1 && !plan.members.is_empty();
        if kept.iter().sum::<u64>() > plan.batch_rows && !lone {
            self.roll_back().await?;
            return Ok(Err(Step::TooMany));
        }
        if let Some(step) = self.changed_since(drive).await? {
            return Ok(Err(step));
        }
        if own == 0 {
            return Ok(Ok((0, 0)));
        }
        if let Some(step) = self.something_else_below(drive, &families, number).await? {
            return Ok(Err(step));
        }
        let step = match plan.members.is_empty() {
            true => self.change_kept(drive, &texts, (after, to), number, own).await?,
            false => self.drop_kept(drive, &families, number, &mut kept).await?,
        };
        Ok(step.map_or_else(|| Ok((own, kept.iter().sum())), Err))
    }

    /// Under some of the client's modes the server writes other dates than it reads: once that was seen, what archives runs under a mode of
    /// its own.
    async fn copy_exactly(&mut self, drive: &Drive, on: bool) -> Result<(), End> {
        if drive.copies_exactly {
            self.own(&format!("SET SESSION sql_mode = '{}'", drive.modes[usize::from(on)])).await?;
        }
        Ok(())
    }

    /// A statement that writes into the archive of this walk: its rows. Where the server warns or refuses, they are held against the table's,
    /// `new`: against what they became. `Err`: the batch was rolled back.
    async fn archived(
        &mut self,
        drive: &mut Drive,
        (at, text): (usize, &str),
        (number, new): (u64, bool),
    ) -> Result<Result<u64, Step>, End> {
        let why = match self.step(&drive.permit, text, false).await? {
            Ok(said) => {
                let rows = if new { said.matched.unwrap_or_default() } else { said.affected() };
                if said.warnings() == 0 {
                    return Ok(Ok(rows));
                }
                let walk = at.checked_sub(1).map_or(&drive.plan.walk, |at| &drive.plan.members[at].walk);
                let told = self.tell_long(&Texts::of(walk).archived_otherwise(number, new)).await?;
                if cell(&told, 0) == Some("0") {
                    return Ok(Ok(rows));
                }
                self.roll_back().await?;
                Step::Stop("the archive does not hold the rows as they are".to_owned())
            }
            Err(Step::Failed(why, failed)) => Step::Failed(why, failed),
            Err(step) => return Ok(Err(step)),
        };
        if drive.copies_exactly {
            self.own(&format!("SET SESSION sql_mode = '{}'", drive.modes[0])).await?;
            return Ok(Err(why));
        }
        drive.copies_exactly = true;
        Ok(Err(Step::Again("the archive does not hold the rows as they are under this sql_mode".to_owned())))
    }

    /// Rows of a table that had none when it was shown: the server would take them along uncounted.
    async fn something_else_below(
        &mut self,
        drive: &Drive,
        families: &Families<'_>,
        number: u64,
    ) -> Result<Option<Step>, End> {
        let Some(question) = families.guard(&drive.plan.guards, number) else { return Ok(None) };
        let told = self.tell_long(&question).await?;
        let found = (0..drive.plan.guards.len()).find(|at| cell(&told, *at) != Some("0"));
        let Some(guard) = found.map(|at| &drive.plan.guards[at]) else { return Ok(None) };
        self.roll_back().await?;
        let name = quote::mysql::shown(&guard.schema, &guard.table).written;
        let why = match told.end.failed() {
            Some(failure) => format!("whether rows of {name} hang on them cannot be read: {}", failure.message),
            None => format!("rows of {name} hang on them by now, which were not shown"),
        };
        Ok(Some(Step::Stop(why)))
    }

    /// What was kept goes, or is unlinked, from the last level upwards. `Some`: it was rolled back.
    async fn drop_kept(
        &mut self,
        drive: &mut Drive,
        families: &Families<'_>,
        number: u64,
        kept: &mut [u64],
    ) -> Result<Option<Step>, End> {
        for (at, act) in families.acts(number) {
            let (did, expected) = match &act {
                Act::Drop(text) => match self.step(&drive.permit, text, false).await? {
                    Ok(said) => (Some(said.affected()), kept[at]),
                    Err(step) => return Ok(Some(step)),
                },
                Act::Unlink { keep, set, keep_new } => {
                    self.copy_exactly(drive, true).await?;
                    kept[at] = match self.archived(drive, (at, keep), (number, false)).await? {
                        Ok(rows) => rows,
                        Err(step) => return Ok(Some(step)),
                    };
                    let set = match self.step(&drive.permit, set, false).await? {
                        Ok(said) => said.matched,
                        Err(step) => return Ok(Some(step)),
                    };
                    let new = match self.archived(drive, (at, keep_new), (number, true)).await? {
                        Ok(rows) => Some(rows),
                        Err(step) => return Ok(Some(step)),
                    };
                    self.copy_exactly(drive, false).await?;
                    let did = if set == Some(kept[at]) { new } else { set };
                    (did, kept[at])
                }
            };
            if did != Some(expected) {
                self.roll_back().await?;
                let did = did.map_or_else(|| "an unknown number".to_owned(), grouped);
                let why = format!("an archive has {} rows where the database changed {did}", grouped(expected));
                return Ok(Some(Step::Again(why)));
            }
        }
        Ok(None)
    }

    /// What a batch meets is not what was confirmed.
    async fn changed_since(&mut self, drive: &Drive) -> Result<Option<Step>, End> {
        if self.print(drive).await?.as_ref() == Some(&drive.print) {
            return Ok(None);
        }
        self.roll_back().await?;
        let below = if drive.plan.members.is_empty() { "" } else { ", a table below it," };
        let relation = &drive.job.relation;
        let why =
            format!("{relation}{below} or its archive is not what it was when the job began: somebody changed it");
        Ok(Some(Step::Stop(why)))
    }

    /// The change itself, behind its archive. `Some`: it was rolled back.
    async fn change_kept(
        &mut self,
        drive: &mut Drive,
        texts: &Texts<'_>,
        (after, to): (Option<&Place>, &Place),
        number: u64,
        kept: u64,
    ) -> Result<Option<Step>, End> {
        let said = match self.step(&drive.permit, &texts.change(after, to), false).await? {
            Ok(said) => said,
            Err(step) => return Ok(Some(step)),
        };
        let is_update = drive.plan.walk.is_update();
        let changed = if is_update { said.matched } else { Some(said.affected()) };
        if changed != Some(kept) {
            self.roll_back().await?;
            // A row that came to match in between: the next try archives it too.
            return Ok(Some(Step::Again(format!(
                "the archive has {} rows where the database changed {}",
                grouped(kept),
                changed.map_or_else(|| "an unknown number".to_owned(), grouped)
            ))));
        }
        if is_update {
            self.copy_exactly(drive, true).await?;
            let new = self.archived(drive, (0, &texts.keep_new(after, to, number)), (number, true)).await?;
            self.copy_exactly(drive, false).await?;
            match new {
                Ok(new) if new == kept => {}
                Ok(_) => {
                    self.roll_back().await?;
                    return Ok(Some(Step::Stop("what the rows became could not be archived".to_owned())));
                }
                Err(step) => return Ok(Some(step)),
            }
        }
        drive.coming = said.affected();
        Ok(None)
    }

    /// One batch of the archive, or a piece of it, put back.
    pub(in crate::session) async fn batch_back(&mut self, drive: &mut Drive, back: &mut Back) -> Result<Step, End> {
        let plan = drive.plan.clone();
        let (texts, families) = (Texts::of(&plan.walk), Families::of(plan.family()));
        let piece = back.next_piece();
        let next = self.tell(&families.next_back(back.below)).await?;
        if let Some(failure) = next.end.failed() {
            return Ok(Step::Stop(failure.message.clone()));
        }
        let next = cell(&next, 0).and_then(|digits| digits.parse::<u64>().ok());
        let Some(number) = back.apart.or(next) else { return Ok(Step::Over) };
        self.begin_batch().await?;
        let mark = self.desk.house.clock.now().strftime("%Y-%m-%d %H:%M:%S%.6f").to_string();
        let mut marks = vec![(&plan.walk, texts.mark(number, piece.as_ref(), &mark, &plan.unique))];
        marks.extend(plan.members.iter().map(|member| (&member.walk, families.mark(member, number, &mark))));
        let mut rows = 0u64;
        for (at, (walk, text)) in marks.iter().enumerate() {
            let put = match self.put_back(drive, walk, text, (number, &mark), at == 0).await? {
                Ok(put) => put,
                Err(Step::Apart) => return self.take_apart(&texts, back, number, piece).await,
                Err(step) => {
                    back.pieces.extend(piece);
                    return Ok(step);
                }
            };
            rows = rows.saturating_add(put);
        }
        if drive.job.standing.rows.saturating_add(rows) > drive.job.rows_most {
            self.roll_back().await?;
            let most = grouped(drive.job.rows_most);
            return Ok(Step::Stop(format!("more rows were changed than the {most} that were shown")));
        }
        drive.coming = rows;
        let kept = self.commit_batch(rows, Stride::Matching(rows)).await?;
        match kept {
            Step::Kept { rows, .. } => back.kept(number, rows),
            // It is tried again as it is.
            _ => back.pieces.extend(piece),
        }
        Ok(kept)
    }

    /// One table's rows of a batch, as far as they can be. `Err`: the batch is rolled back.
    async fn put_back(
        &mut self,
        drive: &Drive,
        walk: &Walk,
        mark: &str,
        (number, when): (u64, &str),
        is_first: bool,
    ) -> Result<Result<u64, Step>, End> {
        let texts = Texts::of(walk);
        let marked = match self.step(&drive.permit, mark, false).await? {
            Ok(said) => said.affected(),
            Err(step) => return Ok(Err(step)),
        };
        if is_first && let Some(step) = self.changed_since(drive).await? {
            return Ok(Err(step));
        }
        if marked == 0 {
            return Ok(Ok(0));
        }
        let said = match self.step(&drive.permit, &texts.back(number, when), true).await? {
            Ok(said) => said,
            Err(step) => return Ok(Err(step)),
        };
        let put = if walk.is_update() { said.matched } else { Some(said.affected()) };
        let differ = self.tell_long(&texts.not_as_it_was(number, when)).await?;
        let why = match (put == Some(marked), cell(&differ, 0)) {
            (true, Some("0")) => return Ok(Ok(marked)),
            (true, Some(other)) => format!("{other} rows would not be what they were"),
            _ => "what was put back could not be compared".to_owned(),
        };
        self.roll_back().await?;
        Ok(Err(Step::Stop(why)))
    }

    /// Some of its rows cannot be put back: a key is taken, what they refer to is gone, a condition was added.
    async fn take_apart(
        &mut self,
        texts: &Texts<'_>,
        back: &mut Back,
        number: u64,
        piece: Option<Piece>,
    ) -> Result<Step, End> {
        back.apart = Some(number);
        let whole = match piece {
            Some(piece) => piece,
            None => {
                let rows = self.tell(&texts.at(number, None, 0)[0]).await?;
                let rows = cell(&rows, 0).and_then(|digits| digits.parse::<u64>().ok()).unwrap_or_default();
                if rows == 0 {
                    // What fails lies below rows that are back: it is left.
                    return Ok(Step::Apart);
                }
                let last = self.tell(&texts.at(number, None, rows.saturating_sub(1))[1]).await?;
                let Some(to) = row(&last) else {
                    return Ok(Step::Stop("its archive cannot be read".to_owned()));
                };
                Piece { after: None, to, rows }
            }
        };
        if whole.rows > 1 {
            let middle = self.tell(&texts.at(number, Some(&whole), whole.rows / 2 - 1)[1]).await?;
            let Some(middle) = row(&middle) else {
                return Ok(Step::Stop("its archive cannot be read".to_owned()));
            };
            back.halve(whole, middle);
        }
        Ok(Step::Apart)
    }

    async fn begin_batch(&mut self) -> Result<(), End> {
        self.own("SET TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
        self.own("START TRANSACTION").await?;
        self.must_be_in_transaction()
    }

    fn must_be_in_transaction(&self) -> Result<(), End> {
        match self.in_transaction() {
            true => Ok(()),
            false => Err(End::Refused(Refusal::new(
                Code::CannotKnow,
                "sluice: a transaction of a job's is not open any more; the session cannot go on",
            ))),
        }
    }

    /// A statement of a batch. `Err`: it failed, and the batch is rolled back.
    async fn step(&mut self, permit: &Permit, text: &str, putting_back: bool) -> Result<Result<Did, Step>, End> {
        self.must_be_in_transaction()?;
        let bytes = self.written(text)?;
        self.link.carry(permit, Script::new(self.server).query_bytes(&bytes));
        let heard = self.hear_for(limits::BATCH_ANSWER).await?;
        match heard.end.failed().cloned() {
            None => Ok(Ok(Did { matched: matched(&heard), end: heard.end })),
            Some(failure) => {
                self.roll_back().await?;
                Ok(Err(not_kept(&failure, putting_back)))
            }
        }
    }

    async fn commit_batch(&mut self, rows: u64, stride: Stride) -> Result<Step, End> {
        let heard = self.tell_long("COMMIT").await?;
        self.transaction_ended();
        match heard.end.failed() {
            None => Ok(Step::Kept { rows, stride }),
            Some(failure) => {
                let failure = failure.clone();
                self.roll_back().await?;
                Ok(not_kept(&failure, false))
            }
        }
    }

    async fn roll_back(&mut self) -> Result<(), End> {
        self.own("ROLLBACK").await?;
        self.transaction_ended();
        Ok(())
    }
}

/// What a statement of a batch did.
struct Did {
    end: Said,
    /// Rows that an UPDATE found, changed or not.
    matched: Option<u64>,
}

impl Did {
    fn affected(&self) -> u64 {
        self.end.affected()
    }

    fn warnings(&self) -> u16 {
        match &self.end {
            Said::Okay(okay) => okay.warnings,
            _ => 0,
        }
    }
}

/// The first number of `Rows matched: 5  Changed: 3  Warnings: 0`, in whatever language.
fn matched(heard: &Heard) -> Option<u64> {
    let info = heard.info.as_deref()?;
    let digits = info.split(|c: char| !c.is_ascii_digit()).find(|part| !part.is_empty())?;
    digits.parse().ok()
}

fn not_kept(failure: &Failure, putting_back: bool) -> Step {
    // ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK, ER_CHECKREAD: somebody else was in the way, and will not be for ever.
    match failure.errno {
        1205 | 1213 | 1020 => Step::Again(failure.message.clone()),
        _ if putting_back && is_of_a_row(failure.errno) => Step::Apart,
        _ => {
            let (number, state, message) = (failure.errno, failure.sqlstate.clone(), failure.message.clone());
            Step::Failed(format!("{number} {message}"), Failed::Told { number, state, message })
        }
    }
}

/// ER_BAD_NULL_ERROR, ER_DUP_ENTRY, foreign keys (by either side), check constraints of MySQL and of MariaDB: others may go on.
fn is_of_a_row(errno: u16) -> bool {
    matches!(errno, 1048 | 1062 | 1216 | 1217 | 1451 | 1452 | 1586 | 3819 | 4025)
}
