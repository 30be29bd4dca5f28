//! What a session knows of the names that lead to code of the users' own, and when it must ask again.
//!
//! All sessions of a database share what one of them learned. It is asked for again after its time, and at once when any session of this
//! Sluice sends what may change the schema, and when that commits. A session that changed the schema itself keeps what it then sees to
//! itself until its transaction has ended: nobody else sees it yet.
//!
//! Invariant: where it could not be learned, every statement counts as leading there. A change of the schema that does not come
//! through this Sluice is noticed late, by at most twice the time that what was learned lasts.

use crate::database::effects::reach::Reach;
use crate::ground::limits;
use arc_swap::ArcSwapOption;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What is known of the databases behind one listener.
#[derive(Debug, Default)]
pub struct Schemas {
    by_database: Mutex<HashMap<String, Arc<Schema>>>,
}

#[derive(Debug, Default)]
pub struct Schema {
    /// Goes up with every change of the schema that was seen.
    epoch: AtomicU64,
    learned: ArcSwapOption<Learned>,
    /// Somebody is asking again; the others go on with what they have.
    asking: AtomicBool,
    /// Sessions whose open transaction may have changed the schema, or holds tables that it may change yet.
    unsettled: AtomicUsize,
}

#[derive(Debug)]
struct Learned {
    reach: Arc<Reach>,
    epoch: u64,
    at: Instant,
    /// So long it is believed.
    lasting: Duration,
}

impl Schemas {
    /// Databases are few: only names that a login succeeded for come here.
    pub fn of(&self, database: &str) -> Arc<Schema> {
        let mut known = self.by_database.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        known.entry(database.to_owned()).or_default().clone()
    }
}

impl Schemas {
    /// What was learned for any of them may not hold: where what is known is kept by who may see it, one changes the schema of all.
    pub fn touch_all(&self) {
        let known = self.by_database.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for schema in known.values() {
            schema.epoch.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// One session's part.
#[derive(Debug)]
pub(in crate::session) struct Reaching {
    schema: Arc<Schema>,
    known: Arc<Reach>,
    generation: u64,
    leads: u64,
    epoch: u64,
    fresh_until: Option<Instant>,
    lasting: Duration,
    /// It changed the schema in a transaction that has not ended.
    changing: bool,
    /// It is one of those that the others count as unsettled.
    unsettled: bool,
}

impl Drop for Reaching {
    fn drop(&mut self) {
        self.settle();
    }
}

impl Reaching {
    pub fn new(schema: Arc<Schema>) -> Reaching {
        let known = Arc::new(Reach::unknown("nothing was asked yet"));
        Reaching {
            schema,
            known,
            generation: 0,
            leads: 0,
            epoch: 0,
            fresh_until: None,
            lasting: limits::REACH_TTL,
            changing: false,
            unsettled: false,
        }
    }

    pub fn known(&self) -> &Reach {
        &self.known
    }

    pub fn shared(&self) -> Arc<Reach> {
        self.known.clone()
    }

    /// Changes with what is known: a text that was looked at under another is looked at again.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Changes when names have come to lead elsewhere, and not with every change of the schema.
    pub fn leads(&self) -> u64 {
        self.leads
    }

    /// Goes up with every change of the schema that any session sends.
    pub fn epoch(&self) -> u64 {
        self.schema.epoch.load(Ordering::Acquire)
    }

    pub fn is_fresh(&self) -> bool {
        self.fresh_until.is_some_and(|until| Instant::now() < until)
            && self.epoch == self.schema.epoch.load(Ordering::Acquire)
    }

    /// Takes what another session learned.
    pub fn adopt(&mut self) -> bool {
        if self.changing {
            return false;
        }
        let Some(learned) = self.schema.learned.load_full() else { return false };
        let age = learned.at.elapsed();
        let current = learned.epoch == self.schema.epoch.load(Ordering::Acquire);
        let late = age >= learned.lasting;
        // Past its time one session asks, and the others wait for its answer no longer than the same time again.
        let good = current && (!late || age < 2 * learned.lasting && self.schema.asking.swap(true, Ordering::AcqRel));
        if good {
            self.keep(learned.reach.clone(), learned.epoch, if late { Duration::ZERO } else { learned.lasting - age });
        }
        good
    }

    pub fn keep(&mut self, reach: Arc<Reach>, epoch: u64, lasting: Duration) {
        if *reach != *self.known {
            // What was asked for the first time has not changed.
            self.leads += u64::from(self.generation > 0 && !reach.leads_as(&self.known));
            self.known = reach;
            self.generation += 1;
        }
        self.epoch = epoch;
        self.lasting = lasting;
        self.fresh_until = Some(Instant::now() + lasting.max(limits::REACH_TTL / 10));
    }

    pub fn publish(&self) {
        if !self.changing && self.epoch == self.schema.epoch.load(Ordering::Acquire) {
            let (reach, epoch) = (self.known.clone(), self.epoch);
            let learned = Learned { reach, epoch, at: Instant::now(), lasting: self.lasting };
            self.schema.learned.store(Some(Arc::new(learned)));
        }
        self.schema.asking.store(false, Ordering::Release);
    }

    /// The epoch of what it knows.
    pub fn own_epoch(&self) -> u64 {
        self.epoch
    }

    /// Somebody else may ask now.
    pub fn asked_in_vain(&self) {
        self.schema.asking.store(false, Ordering::Release);
    }

    pub fn is_changing(&self) -> bool {
        self.changing
    }

    /// Something was sent that may change the schema.
    pub fn touch(&mut self) {
        self.unsettle();
        self.changing = true;
        self.schema.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Something was sent that may hold tables until its transaction ends, and change them while others wait for them.
    pub fn unsettle(&mut self) {
        if !self.unsettled {
            self.unsettled = true;
            self.schema.unsettled.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Somebody else's transaction may change the schema under a statement that waits for it.
    pub fn others_are_unsettled(&self) -> bool {
        self.schema.unsettled.load(Ordering::Acquire) > usize::from(self.unsettled)
    }

    /// No transaction is open any more.
    pub fn settle(&mut self) {
        if self.unsettled {
            self.unsettled = false;
            self.schema.unsettled.fetch_sub(1, Ordering::AcqRel);
        }
        if self.changing {
            self.changing = false;
            self.schema.epoch.fetch_add(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_session_learned_another_takes_until_the_schema_changes() {
        let schema = Arc::new(Schema::default());
        let (mut one, mut two) = (Reaching::new(schema.clone()), Reaching::new(schema));
        assert!(!one.is_fresh() && !one.adopt());
        one.keep(Arc::default(), 0, limits::REACH_TTL);
        one.publish();
        assert!(one.is_fresh() && two.adopt() && two.is_fresh());
        two.touch();
        assert!(!one.is_fresh() && !one.adopt());
        // What it sees of its own change it keeps to itself.
        two.keep(Arc::new(Reach::unknown("x")), 1, limits::REACH_TTL);
        two.publish();
        assert!(!one.adopt());
        two.settle();
        assert!(!two.is_fresh() && !two.adopt());
    }
}
