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
use crate::database::batches::{Piece, Place, Stride};
use crate::ground::limits;
use crate::policy::count::grouped;
use crate::protocol::mysql::message::Script;
use crate::protocol::mysql::response::{End as Said, Failure};
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::driving::{Ahead, Back, Drive, MORE_MATCH, Step, looked};
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
                    return Ok(Step::Stop(failure.message.clone()));
                }
                match looked(row(&told), after.as_ref(), &end, pace.stride()) {
                    Ahead::To(to, stride) => (to, stride),
                    _ => return Ok(Step::Over),
                }
            }
        };
        self.begin_batch().await?;
        let walk = drive.plan.walk.clone();
        let texts = Texts::of(&walk);
        let kept = match self.step(&drive.permit, &texts.keep(after.as_ref(), &to, number), false).await? {
            Ok(said) => said.affected(),
            Err(step) => return Ok(step),
        };
        if kept > drive.plan.batch_rows {
            self.roll_back().await?;
            return Ok(Step::TooMany);
        }
        if let Some(step) = self.changed_since(drive, &texts).await? {
            return Ok(step);
        }
        if kept > 0
            && let Some(step) = self.change_kept(drive, &texts, (after.as_ref(), &to), number, kept).await?
        {
            return Ok(step);
        }
        let total = drive.job.standing.rows.saturating_add(kept);
        if total > drive.job.rows_most {
            self.roll_back().await?;
            let most = grouped(drive.job.rows_most);
            return Ok(Step::Stop(format!("{MORE_MATCH} the {most} that were agreed to")));
        }
        let step = self.commit_batch(kept, stride).await?;
        if let Step::Kept { .. } = step {
            if after.as_ref() == Some(&to) {
                return Ok(Step::Stop("its place in the key does not move".to_owned()));
            }
            if let Stride::Rows(_) = pace.stride() {
                let told = self.tell_long(&texts.next(Some(&to), &end, pace.stride())).await?;
                if told.end.failed().is_none() {
                    *ahead = looked(row(&told), Some(&to), &end, pace.stride());
                }
            }
            *after = Some(to);
        }
        Ok(step)
    }

    /// What a batch meets is not what was confirmed.
    async fn changed_since(&mut self, drive: &Drive, texts: &Texts<'_>) -> Result<Option<Step>, End> {
        let print = self.tell(&texts.print()).await?;
        if cell(&print, 0) == Some(&drive.print) {
            return Ok(None);
        }
        self.roll_back().await?;
        let relation = &drive.job.relation;
        let why = format!("{relation} or its archive is not what it was when the job began: somebody changed it");
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
            match self.step(&drive.permit, &texts.keep_new(after, to, number), false).await? {
                Ok(new) if new.matched == Some(kept) => {}
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
        let walk = drive.plan.walk.clone();
        let texts = Texts::of(&walk);
        let piece = back.pieces.pop();
        if piece.is_none()
            && let Some(number) = back.apart.take()
        {
            back.below = Some(number);
        }
        let next = self.tell(&texts.next_back(back.below)).await?;
        if let Some(failure) = next.end.failed() {
            return Ok(Step::Stop(failure.message.clone()));
        }
        let next = cell(&next, 0).and_then(|digits| digits.parse::<u64>().ok());
        let Some(number) = back.apart.or(next) else { return Ok(Step::Over) };
        self.begin_batch().await?;
        let mark = self.desk.house.clock.now().strftime("%Y-%m-%d %H:%M:%S%.6f").to_string();
        let marked = match self
            .step(&drive.permit, &texts.mark(number, piece.as_ref(), &mark, &drive.plan.unique), false)
            .await?
        {
            Ok(said) => said.affected(),
            Err(step) => {
                back.pieces.extend(piece);
                return Ok(step);
            }
        };
        if let Some(step) = self.changed_since(drive, &texts).await? {
            return Ok(step);
        }
        let total = drive.job.standing.rows.saturating_add(marked);
        if total > drive.job.rows_most {
            self.roll_back().await?;
            let most = grouped(drive.job.rows_most);
            return Ok(Step::Stop(format!("more rows were changed than the {most} that were shown")));
        }
        if marked > 0 {
            let said = match self.step(&drive.permit, &texts.back(number, &mark), true).await? {
                Ok(said) => said,
                Err(Step::Apart) => return self.take_apart(&texts, back, number, piece).await,
                Err(step) => {
                    back.pieces.extend(piece);
                    return Ok(step);
                }
            };
            let put = if walk.is_update() { said.matched } else { Some(said.affected()) };
            let differ = self.tell_long(&texts.not_as_it_was(number)).await?;
            let why = match (put == Some(marked), cell(&differ, 0)) {
                (true, Some("0")) => None,
                (true, Some(other)) => Some(format!("{other} rows would not be what they were")),
                _ => Some("what was put back could not be compared".to_owned()),
            };
            if let Some(why) = why {
                self.roll_back().await?;
                return Ok(Step::Stop(why));
            }
            drive.coming = marked;
        }
        let kept = self.commit_batch(marked, Stride::Matching(marked)).await?;
        match kept {
            Step::Kept { .. } if back.apart.is_none() => back.below = Some(number),
            Step::Kept { .. } => {}
            // It is tried again as it is.
            _ => back.pieces.extend(piece),
        }
        Ok(kept)
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
        _ => Step::Stop(format!("{} {}", failure.errno, failure.message)),
    }
}

/// ER_BAD_NULL_ERROR, ER_DUP_ENTRY, foreign keys (by either side), check constraints of MySQL and of MariaDB: others may go on.
fn is_of_a_row(errno: u16) -> bool {
    matches!(errno, 1048 | 1062 | 1216 | 1217 | 1451 | 1452 | 1586 | 3819 | 4025)
}
