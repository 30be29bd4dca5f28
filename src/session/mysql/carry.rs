//! A job on its way, on MySQL and MariaDB: from its lock to its end, batch by batch ([`super::batch`]).
//!
//! Invariants: as for PostgreSQL: where a job stands is what its archive holds; two never run it (a named lock of the server's). What the
//! session had set (lock waits, safe updates, its clock) is put back when the job ends.

use crate::database::batches::mysql::carried::Families;
use crate::database::batches::mysql::{self, Texts};
use crate::database::batches::{Place, Walk};
use crate::database::quote;
use crate::ground::limits;
use crate::policy::count::grouped;
use crate::policy::throttle::{Load, Throttle};
use crate::protocol::mysql::message::Script;
use crate::session::End;
use crate::session::braking::LOOKS_EVERY;
use crate::session::driving::{Ahead, Back, Drive, Driven, Turn, WAS_UNDONE, Way, taken_out};
use crate::session::link::Listen;
use crate::session::mysql::Session;
use crate::session::mysql::ask::{Heard, Line};
use crate::session::mysql::look::unknown_state;
use crate::sql::Product;
use crate::store::jobs::Job;
use std::time::{Duration, Instant};

/// What the client's session had, and has again when the job is over.
struct Had {
    lock_wait: String,
    /// For other definitions of tables, which nobody who waits for the job would see the end of; and the zone, which an undo has none of: in
    /// some hours two moments are written alike.
    definition_wait: String,
    zone: String,
    /// `sql_safe_updates`, `sql_big_selects`: what is sent here is bounded by ranges of a key, whichever way the server takes.
    careful: [bool; 2],
    /// `Some`: the client's own clock stood still at this.
    clock: Option<String>,
}

impl Session {
    /// Takes the job's lock, makes its archive if it has none yet, and carries it on until it is done or must stop.
    pub(in crate::session) async fn drive(&mut self, drive: &mut Drive) -> Result<Driven, End> {
        if !self.lock_job(&drive.job).await? {
            return Ok(self.desk.busy(drive).await);
        }
        if let Some(driven) = self.desk.begin_job(drive).await {
            self.unlock_job(&drive.job).await?;
            return Ok(driven);
        }
        let settled = self.settle_in(drive).await?;
        let mut driven = match &settled {
            Ok(_) => match self.stand(drive).await? {
                Ok(way) => self.go(drive, way).await?,
                Err(why) if why == WAS_UNDONE => Driven::Cancelled(why),
                Err(why) => Driven::Paused(why),
            },
            Err(why) => Driven::Paused(why.clone()),
        };
        let mut archived = None;
        if drive.is_over(&driven) {
            let told = self.tell_long(&Families::of(drive.plan.family()).done_so_far()).await?;
            archived = cell(&told, 0).and_then(|digits| digits.parse::<u64>().ok());
            driven = drive.reckoned(driven, archived);
        }
        if archived == Some(0) && drive.job.standing.rows == 0 {
            for walk in drive.plan.family().walks() {
                self.tell(&Texts::of(walk).drop_archive()).await?;
            }
        }
        drive.ended(&driven);
        if let Err(error) = self.desk.note_job(&drive.job).await {
            tracing::error!(job = %drive.job.id, %error, "how a job ended could not be kept");
        }
        match settled {
            Ok(had) => {
                self.own(&format!("SET SESSION sql_mode = '{}'", drive.modes[0])).await?;
                if matches!(driven, Driven::Done) {
                    // While it waits for locks no longer than a batch does.
                    self.drop_expired().await?;
                }
                self.settle_out(&drive.job, had, drive.plan.moment.is_some()).await?;
            }
            Err(_) => self.unlock_job(&drive.job).await?,
        }
        Ok(driven)
    }

    async fn settle_in(&mut self, drive: &mut Drive) -> Result<Result<Had, String>, End> {
        let asked = "SELECT @@SESSION.innodb_lock_wait_timeout, @@SESSION.timestamp, @@SESSION.sql_safe_updates, @@SESSION.sql_big_selects, @@SESSION.foreign_key_checks, @@SESSION.sql_mode, @@SESSION.lock_wait_timeout, @@SESSION.time_zone";
        let asked = self.tell(asked).await?;
        if drive.plan.carries && cell(&asked, 4) != Some("1") {
            return Ok(Err("foreign_key_checks is off here, and its foreign keys carry nothing on".to_owned()));
        }
        let again = self.tell("SELECT @@SESSION.timestamp").await?;
        let had = Had {
            lock_wait: cell(&asked, 0).unwrap_or_default().to_owned(),
            definition_wait: cell(&asked, 6).unwrap_or_default().to_owned(),
            zone: cell(&asked, 7).unwrap_or_default().to_owned(),
            careful: [2, 3].map(|at| cell(&asked, at) == Some("1")),
            clock: cell(&asked, 1).filter(|clock| Some(*clock) == cell(&again, 0)).map(str::to_owned),
        };
        let is_mode =
            |mode: &&str| mode.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b',');
        let Some(mode) = cell(&asked, 5).filter(is_mode) else {
            return Ok(Err("its session's sql_mode cannot be read".to_owned()));
        };
        drive.modes = [mode.to_owned(), copying(mode)];
        let wait = limits::BATCH_LOCK_WAIT.as_secs();
        let mut set = format!(
            "SET SESSION innodb_lock_wait_timeout = {wait}, lock_wait_timeout = {wait}, sql_safe_updates = 0, sql_big_selects = 1"
        );
        if let Some(moment) = &drive.plan.moment {
            set.push_str(&format!(", timestamp = {moment}"));
        }
        // Nothing of the client's own stands in an undo: all of it is copying.
        if drive.job.of.is_some() {
            set.push_str(&format!(", sql_mode = '{}', time_zone = '+00:00'", drive.modes[1]));
        }
        match self.tell(&set).await?.end.failed() {
            None => Ok(Ok(had)),
            Some(failure) => Ok(Err(format!("its session cannot be set: {}", failure.message))),
        }
    }

    async fn settle_out(&mut self, job: &Job, had: Had, clock: bool) -> Result<(), End> {
        let is_number = |text: &String| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let wait = if is_number(&had.lock_wait) { had.lock_wait } else { "DEFAULT".to_owned() };
        let definition = if is_number(&had.definition_wait) { had.definition_wait } else { "DEFAULT".to_owned() };
        let zone = quote::mysql::literal(&had.zone);
        let [safe, big] = had.careful.map(u8::from);
        let mut set = format!(
            "SET SESSION innodb_lock_wait_timeout = {wait}, lock_wait_timeout = {definition}, time_zone = {zone}, sql_safe_updates = {safe}, sql_big_selects = {big}"
        );
        if clock {
            let clock = had.clock.filter(is_number).unwrap_or_else(|| "DEFAULT".to_owned());
            set.push_str(&format!(", timestamp = {clock}"));
        }
        self.own(&set).await?;
        self.unlock_job(job).await
    }

    /// By a lock that the server lets go of when the connection is gone.
    pub(in crate::session) async fn lock_job(&mut self, job: &Job) -> Result<bool, End> {
        let wait = limits::JOB_LOCK_PAUSE.as_secs_f64() * f64::from(limits::JOB_LOCK_TRIES);
        let locked = self.tell(&format!("SELECT GET_LOCK('{}', {wait})", lock_of(job))).await?;
        Ok(cell(&locked, 0) == Some("1"))
    }

    pub(in crate::session) async fn unlock_job(&mut self, job: &Job) -> Result<(), End> {
        self.own(&format!("DO RELEASE_LOCK('{}')", lock_of(job))).await.map(|_| ())
    }

    /// Where the archive says that it stands.
    async fn stand(&mut self, drive: &mut Drive) -> Result<Result<Way, String>, End> {
        if let Some(why) = self.hidden(drive).await? {
            return Ok(Err(why));
        }
        for (at, walk) in drive.plan.family().walks().enumerate() {
            if let Err(why) = self.ready_archive(drive, walk, at > 0).await? {
                return Ok(Err(why));
            }
        }
        let (texts, families) = (Texts::of(&drive.plan.walk), Families::of(drive.plan.family()));
        let born = self.tell(&texts.born()).await?;
        // An undo may come long after the table was rebuilt, and compares the rows themselves.
        if drive.job.of.is_none() && drive.plan.oid.is_some() && cell(&born, 0) != drive.plan.oid.as_deref() {
            return Ok(Err(format!("{} was exchanged or rebuilt since the job was confirmed", drive.job.relation)));
        }
        let Some(print) = self.print(drive).await? else {
            return Ok(Err("what its table is cannot be read".to_owned()));
        };
        let numbers = self.tell_long(&families.done_so_far()).await?;
        let own = self.tell_long(&texts.done_so_far()).await?;
        let done = self.tell(&texts.done()).await?;
        if let Some(failure) = numbers.end.failed().or(own.end.failed()).or(done.end.failed()) {
            return Ok(Err(format!("its archive cannot be read: {}", failure.message)));
        }
        let number = |at: usize| cell(&numbers, at).and_then(|digits| digits.parse::<u64>().ok());
        let own = cell(&own, 0).and_then(|digits| digits.parse::<u64>().ok());
        let (Some(rows), Some(batches), Some(undone), Some(own)) = (number(0), number(1), number(2), own) else {
            return Ok(Err("its archive cannot be read".to_owned()));
        };
        (drive.print, drive.carried) = (print, rows.saturating_sub(own));
        let way = match drive.job.of {
            Some(_) => {
                // An undo before it may have put others back.
                let left = rows.saturating_sub(undone);
                let back = drive.job.rows_shown.unwrap_or_default().saturating_sub(left);
                drive.job.standing.rows = drive.job.standing.rows.max(back);
                Way::Back(Back::default())
            }
            None if undone > 0 => return Ok(Err(WAS_UNDONE.to_owned())),
            None if rows < drive.job.standing.rows => {
                let (rows, kept) = (grouped(rows), grouped(drive.job.standing.rows));
                return Ok(Err(taken_out(&rows, &kept)));
            }
            None => {
                (drive.job.standing.rows, drive.job.standing.batches) = (rows, batches);
                Way::There { after: row(&done), number: batches + 1, ahead: Ahead::NotLooked }
            }
        };
        drive.stands();
        Ok(Ok(way))
    }

    /// What is called by the names of a job must not be a temporary table, which only this session sees.
    async fn hidden(&mut self, drive: &Drive) -> Result<Option<String>, End> {
        let own =
            drive.plan.family().walks().flat_map(|walk| [&walk.table, &walk.archive].map(|name| [&walk.schema, name]));
        let read = drive.plan.reads.iter().map(|other| other.parts.each_ref());
        for name in own.chain(read) {
            {
                let dotted = quote::mysql::dotted(&name.map(String::clone));
                let shown = self.tell(&format!("SHOW CREATE TABLE {dotted}")).await?;
                let is_temporary = |definition: &str| {
                    definition.get(..16).is_some_and(|start| start.eq_ignore_ascii_case("CREATE TEMPORARY"))
                };
                if cell(&shown, 1).is_some_and(is_temporary) {
                    return Ok(Some(format!("{dotted}: a temporary table of this session hides it")));
                }
            }
        }
        Ok(None)
    }

    /// What the tables of a job are, and what refers to them.
    pub(in crate::session) async fn print(&mut self, drive: &Drive) -> Result<Option<String>, End> {
        let families = Families::of(drive.plan.family());
        let print = self.tell(&families.print()).await?;
        let is_mariadb = self.settings.own_mode().product == Product::MariaDb;
        let keys = if is_mariadb { "INNODB_SYS_FOREIGN" } else { "INNODB_FOREIGN" };
        let keys = self.tell(&families.engine_keys(keys)).await?;
        let keys = cell(&keys, 0).unwrap_or("not shown");
        Ok(cell(&print, 0).map(|print| format!("{print} {keys}")))
    }

    /// Makes an archive of a job that has none yet, and the index of one that is put back. `is_below`: not the change's own.
    async fn ready_archive(&mut self, drive: &Drive, walk: &Walk, is_below: bool) -> Result<Result<(), String>, End> {
        let job = &drive.job;
        let name = quote::mysql::shown(&walk.schema, &walk.archive).written;
        let texts = Texts::of(walk);
        let there = self.tell(&texts.has_archive()).await?;
        if cell(&there, 2).is_some_and(|triggers| triggers != "0") {
            return Ok(Err(format!("{name} is not the archive as it was made: it has triggers")));
        }
        // Where others hang on its rows, they are found by their batch from the start.
        let needs_index = !is_below && (job.of.is_some() || drive.plan.carries);
        let mut made = Vec::new();
        match (cell(&there, 0), cell(&there, 1)) {
            (Some("1"), Some("0")) if needs_index => made.push(texts.index_archive()),
            (Some("1"), Some(_)) => {}
            (Some(_), _) if job.of.is_some() || job.standing.rows > 0 => {
                return Ok(Err(format!("its archive {name} is not there")));
            }
            (Some(_), _) => {
                let asked = self.tell(&mysql::ask_definitions(&walk.schema, &walk.table)).await?;
                let Some(columns) = mysql::definitions(&asked.answer.rows) else {
                    return Ok(Err("the table's columns cannot be read".to_owned()));
                };
                let about = format!("Rows as they were before Sluice job {} changed them", job.id);
                made.push(texts.make_archive(&about, &columns, is_below));
                made.extend(needs_index.then(|| texts.index_archive()));
            }
            (None, _) => return Ok(Err("it is not known whether its archive is there".to_owned())),
        }
        if !made.is_empty() {
            self.own(&format!("SET SESSION sql_mode = '{}'", drive.modes[1])).await?;
        }
        let mut failed = None;
        for text in made {
            if let Some(failure) = self.tell_long(&text).await?.end.failed() {
                failed = Some(format!("its archive cannot be made: {}", failure.message));
                break;
            }
        }
        self.own(&format!("SET SESSION sql_mode = '{}'", drive.modes[usize::from(job.of.is_some())])).await?;
        Ok(failed.map_or(Ok(()), Err))
    }

    async fn go(&mut self, drive: &mut Drive, mut way: Way) -> Result<Driven, End> {
        let mut pace = drive.pace(self.desk.house.policy.load().jobs.batch_time);
        let mut failed = 0u32;
        loop {
            if let Some(why) = self.must_stop().await {
                return Ok(Driven::Paused(why));
            }
            let throttle = match self.make_way(drive).await? {
                Ok(throttle) => throttle,
                Err(driven) => return Ok(driven),
            };
            let began = Instant::now();
            pace = pace.held_to(drive.rate(&throttle));
            let step = match &mut way {
                Way::There { after, number, ahead } => self.batch(drive, after, ahead, *number, pace).await?,
                Way::Back(back) => self.batch_back(drive, back).await?,
            };
            match drive.turn(step, began, &mut pace, &mut failed, &mut way) {
                Turn::Ended(driven) => return Ok(driven),
                Turn::On => {}
                Turn::Wait(time) => tokio::time::sleep(time).await,
            }
            if let Some(driven) = self.desk.wanted(drive).await {
                return Ok(driven);
            }
        }
    }

    /// Waits, before a batch, for what the policy says has to go first. `Err`: the job ends while it does. `Ok`:
    /// by what it goes on: a policy may come into force meanwhile.
    async fn make_way(&mut self, drive: &mut Drive) -> Result<Result<Throttle, Driven>, End> {
        loop {
            let throttle = self.desk.house.policy.load_full().jobs.clone();
            if drive.brake.is_due(&throttle) {
                let load = self.load(drive, &throttle).await?;
                drive.brake.measured(&throttle, &load);
            }
            if !drive.waits(&throttle, self.desk.house.clock.now()) {
                return Ok(Ok(throttle));
            }
            if let Some(driven) = self.desk.wanted(drive).await {
                return Ok(Err(driven));
            }
            if let Some(why) = self.must_stop().await {
                return Ok(Err(Driven::Paused(why)));
            }
            tokio::time::sleep(LOOKS_EVERY).await;
        }
    }

    /// How busy the server is, as far as it tells: of its replicas it does not know.
    async fn load(&mut self, _drive: &Drive, throttle: &Throttle) -> Result<Load, End> {
        let mut running = Ok(0);
        if throttle.running.is_some() {
            let told = self.tell("SHOW GLOBAL STATUS LIKE 'Threads_running'").await?;
            let threads = cell(&told, 1).and_then(|digits| digits.parse::<u64>().ok());
            // One of them asks.
            running =
                threads.map(|threads| threads.saturating_sub(1)).ok_or_else(|| "the server does not say".to_owned());
        }
        let unknown = || "on MySQL and MariaDB it is not asked of replicas yet".to_owned();
        Ok(Load { replicas: Err(unknown()), running, backlog: Err(unknown()), vacuumed: false })
    }

    /// Between two batches: whoever waits for the job may have left.
    async fn must_stop(&mut self) -> Option<String> {
        if *self.desk.house.draining.borrow() {
            return Some("Sluice is going down".to_owned());
        }
        if self.link.client.inbox.len() < limits::AHEAD_BYTES_MAX {
            // What is there to be read is read; nothing is waited for.
            let _ = tokio::time::timeout(Duration::ZERO, self.link.wait(Listen::Both)).await;
        }
        self.link.client.ended.then(|| "its client has left".to_owned())
    }

    /// A text of ours outside any batch.
    pub(in crate::session) async fn tell(&mut self, text: &str) -> Result<Heard, End> {
        let bytes = self.written(text)?;
        self.link.say(Script::new(self.server).query_bytes(&bytes));
        self.hear_own().await
    }

    /// One that may take as long as a batch.
    pub(in crate::session) async fn tell_long(&mut self, text: &str) -> Result<Heard, End> {
        let bytes = self.written(text)?;
        self.link.say(Script::new(self.server).query_bytes(&bytes));
        self.hear_for(limits::BATCH_ANSWER).await
    }

    pub(in crate::session) async fn hear_for(&mut self, time: Duration) -> Result<Heard, End> {
        let deadline = Instant::now() + time;
        let mut line = Line { link: &mut self.link, server: self.server, deadline };
        let heard = line.hear().await.map_err(unknown_state)?;
        if let Some(told) = heard.end.status() {
            self.take_status(told);
        }
        Ok(heard)
    }

    /// In the session's character set: parts of the client's own text stand in it.
    pub(in crate::session) fn written(&self, text: &str) -> Result<Vec<u8>, End> {
        match text.is_ascii() {
            true => Ok(text.as_bytes().to_vec()),
            false => Ok(self.source_of(text).map_err(End::Refused)?.text.to_vec()),
        }
    }
}

/// As the session reads texts, and every value is taken as it is: dates that are none, and a 0 where the server would give a number.
fn copying(mode: &str) -> String {
    // TRADITIONAL brings the first two along.
    // Under MAXDB a new TIMESTAMP column is a DATETIME.
    const CHANGE_VALUES: [&str; 4] = ["NO_ZERO_DATE", "NO_ZERO_IN_DATE", "TRADITIONAL", "MAXDB"];
    let kept = mode.split(',').filter(|word| !word.is_empty() && !CHANGE_VALUES.contains(word));
    kept.chain(["ALLOW_INVALID_DATES", "NO_AUTO_VALUE_ON_ZERO"]).collect::<Vec<_>>().join(",")
}

pub(in crate::session) fn cell(heard: &Heard, column: usize) -> Option<&str> {
    heard.answer.rows.first()?.get(column)?.as_deref()
}

pub(in crate::session) fn row(heard: &Heard) -> Option<Place> {
    heard.answer.rows.first()?.iter().cloned().collect()
}

/// The same for a job and for what takes it back.
fn lock_of(job: &Job) -> String {
    format!("sluice_{}", job.of.unwrap_or(job.id))
}
