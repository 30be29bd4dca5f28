//! The record's file, shared by all who write to it: append-only, private, one line an event, one writer.
//!
//! Invariants: a line is in the file before `write` returns; nothing is repaired silently. While the record fails, every write tries
//! anew, and the first that succeeds is preceded by a `gap` line that says what is missing. Before each line the file must still be
//! the one at its path: what is written to a file that was deleted is no record.
//!
//! A sync that failed makes its file suspect: the kernel may have dropped what it could not write, and calls the next sync of the same
//! file a success (<https://wiki.postgresql.org/wiki/Fsync_Errors>). So nothing more is written to it, and the record goes on in
//! another file, whose first line says so.
//!
//! A second process on the same file would fork the chain, so the file is locked while it is open.

use crate::audit::chain::Chain;
use crate::audit::event::{Durability, Event, Kind, TornTail};
use crate::audit::rotation::{self, Identity, Moved, Rotation};
use crate::ground::clock::Clock;
use crate::ground::limits;
use crate::ground::metrics::RECORD_FAILING;
use jiff::Timestamp;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// The record. Shared by all threads; the lock is held for one line (and while files change), never for a line's `fdatasync`.
pub struct Sink {
    path: PathBuf,
    clock: Clock,
    rotation: Rotation,
    writing: Mutex<Writing>,
    /// One sync at a time: the kernel tells of an error once, and whoever syncs next must not take its silence for success.
    syncing: Mutex<()>,
    fails: Arc<AtomicBool>,
}

impl Sink {
    pub fn open(path: &Path, clock: Clock) -> Result<Sink, OpenFailed> {
        Sink::open_rotated(path, clock, Rotation::default())
    }

    pub fn open_rotated(path: &Path, clock: Clock, rotation: Rotation) -> Result<Sink, OpenFailed> {
        let failed = |error: io::Error| OpenFailed::File { path: path.to_owned(), why: error.to_string() };
        // Through a symbolic link the file itself: names are given and taken in its own directory.
        let path = &fs::canonicalize(path).or_else(|_| std::path::absolute(path)).map_err(failed)?;
        let standing = match existing(path) {
            Err(OpenFailed::File { .. }) if !path.exists() => None,
            found => Some(found?),
        };
        let file = match (rotation::finish(path, standing.as_ref()).map_err(failed)?, standing) {
            (Moved::No, Some(file)) => file,
            _ => open_locked(path, OpenOptions::new().create(true))?,
        };
        file.set_permissions(fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let chain =
            Chain::carry_on(&file).map_err(failed)?.map_err(|why| OpenFailed::Broken { path: path.clone(), why })?;
        let writing = Writing::new(file, chain).map_err(failed)?;
        let sink = Sink {
            path: path.clone(),
            clock,
            rotation,
            writing: Mutex::new(writing),
            syncing: Mutex::default(),
            fails: Arc::default(),
        };
        // What an earlier run left torn is recorded at once, not only with the next event.
        sink.tend().map_err(|error| failed(io::Error::other(error.to_string())))?;
        Ok(sink)
    }

    /// Writes one event and returns its `seq`. Blocks for the write, and for the disk if the event is to be synced.
    pub fn write(&self, event: &Event<'_>) -> Result<u64, RecordFailed> {
        let (file, number, seq) = {
            let mut writing = self.lock()?;
            let taken = writing.ready(self).and_then(|()| writing.append(event, &self.clock));
            let seq = taken.inspect_err(|error| writing.miss(self, error, 1))?;
            (writing.file.clone(), writing.number, seq)
        };
        if event.durability == Durability::Synced {
            self.sync(&file, number, seq)?;
        }
        Ok(seq)
    }

    /// Whether the last event was taken.
    pub fn works(&self) -> bool {
        !self.fails.load(Ordering::Relaxed)
    }

    /// True while the record fails, for those who only look.
    pub fn fails(&self) -> Arc<AtomicBool> {
        self.fails.clone()
    }

    /// Since when it fails, and why.
    pub fn trouble(&self) -> Option<String> {
        let writing = self.writing.lock().ok()?;
        writing.missed.as_ref().map(|missed| format!("since {}: {}", missed.since, missed.why))
    }

    /// What is to be done without an event: to try again where it fails, to begin another file where one is due or the one at the
    /// path was moved away. Nobody has to send a statement for it.
    pub fn tend(&self) -> Result<(), RecordFailed> {
        self.make_ready(0)
    }

    /// For an event that needs no line of its own but a record that works; it counts as missed where it does not.
    pub fn try_again(&self) -> Result<(), RecordFailed> {
        self.make_ready(1)
    }

    /// The hash of the last line: kept elsewhere, it shows later that nothing was cut off before it.
    pub fn last_hash(&self) -> Option<String> {
        self.writing.lock().ok().map(|writing| writing.chain.prev.clone())
    }

    fn make_ready(&self, events: u64) -> Result<(), RecordFailed> {
        let mut writing = self.lock()?;
        let ready = writing.ready(self);
        ready.inspect_err(|error| writing.miss(self, error, events))
    }

    fn lock(&self) -> Result<MutexGuard<'_, Writing>, RecordFailed> {
        // A poisoned lock means a writer panicked half-way: what the file holds is not known, so nothing more is permitted.
        self.writing.lock().map_err(|_| RecordFailed("a writer of the record failed".to_owned()))
    }

    fn sync(&self, file: &File, number: u64, seq: u64) -> Result<(), RecordFailed> {
        let _one = self.syncing.lock().map_err(|_| RecordFailed("a writer of the record failed".to_owned()))?;
        let synced = file.sync_data();
        let mut writing = self.lock()?;
        if let Err(error) = synced {
            writing.suspect(number, seq, &error);
        }
        // Also if another's sync of the same file failed: the kernel says so to one of them only.
        match writing.suspect.as_ref().filter(|suspect| suspect.number >= number) {
            None => Ok(()),
            Some(suspect) => {
                let error = RecordFailed(suspect.why.clone());
                writing.miss(self, &error, 1);
                Err(error)
            }
        }
    }
}

impl Drop for Sink {
    /// Closing would do, were it not for a child process that is just being started and for an instant holds the file, too.
    fn drop(&mut self) {
        if let Ok(writing) = self.writing.get_mut() {
            let _ = writing.file.unlock();
        }
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink(…)")
    }
}

/// The record was not written. Whoever asked refuses what it was about (`SL007`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFailed(pub(in crate::audit) String);

impl fmt::Display for RecordFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the record could not be written: {}", self.0)
    }
}

impl std::error::Error for RecordFailed {}

impl From<io::Error> for RecordFailed {
    fn from(error: io::Error) -> RecordFailed {
        RecordFailed(error.to_string())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenFailed {
    File {
        path: PathBuf,
        why: String,
    },
    /// A device or a pipe cannot be read back, so the chain could not be carried on.
    NotAFile {
        path: PathBuf,
    },
    /// Another Sluice writes to it.
    InUse {
        path: PathBuf,
    },
    /// Its last whole line does not hold.
    Broken {
        path: PathBuf,
        why: String,
    },
}

impl fmt::Display for OpenFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenFailed::File { path, why } => write!(f, "record {}: {why}", path.display()),
            OpenFailed::NotAFile { path } => {
                write!(f, "record {}: not a regular file", path.display())
            }
            OpenFailed::InUse { path } => write!(f, "record {}: another process is writing to it", path.display()),
            OpenFailed::Broken { path, why } => write!(
                f,
                "record {}: {why}; look at it with `sluice audit verify`, then move it away to start a new one",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenFailed {}

/// What is behind the lock.
struct Writing {
    file: Arc<File>,
    identity: Identity,
    /// Counts the files since the start.
    number: u64,
    chain: Chain,
    /// What was not recorded since the record fails.
    missed: Option<Missed>,
    /// The last file whose sync failed; perhaps the one in use.
    suspect: Option<Suspect>,
    /// The last change of names is not known to be on the disk.
    names: Names,
    /// A rotation failed: not before this time again.
    rotate_after: Option<Timestamp>,
}

struct Missed {
    events: u64,
    since: Timestamp,
    why: String,
}

struct Suspect {
    number: u64,
    why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Synced,
    Changed,
}

/// Where the file in use is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    AtPath,
    /// Nothing stands at the path: it was renamed, or deleted.
    Left,
    /// Another file stands there.
    Taken,
}

impl Writing {
    fn new(file: File, chain: Chain) -> io::Result<Writing> {
        let identity = rotation::identity(&file.metadata()?);
        Ok(Writing {
            file: Arc::new(file),
            identity,
            number: 0,
            chain,
            missed: None,
            suspect: None,
            // The file may have been made just now.
            names: Names::Changed,
            rotate_after: None,
        })
    }

    fn append(&mut self, event: &Event<'_>, clock: &Clock) -> Result<u64, RecordFailed> {
        self.chain.append(&mut &*self.file, event, clock)
    }

    /// Whatever comes before a line: the right file, nothing torn, what was missed, another file if one is due.
    fn ready(&mut self, sink: &Sink) -> Result<(), RecordFailed> {
        let place = self.place(&sink.path)?;
        if place != Place::AtPath || self.is_suspect() {
            self.begin_anew(place, sink)?;
        }
        if self.names == Names::Changed {
            rotation::sync_directory(&sink.path)?;
            self.names = Names::Synced;
        }
        self.chain.set_torn_aside(&mut &*self.file, &sink.clock)?;
        self.close_gap(sink)?;
        let now = sink.clock.now();
        if sink.rotation.is_due(&self.chain, now) && self.rotate_after.is_none_or(|after| now >= after) {
            self.rotate_if_possible(sink, now)?;
        }
        Ok(())
    }

    fn place(&self, path: &Path) -> io::Result<Place> {
        match fs::metadata(path) {
            Ok(data) if rotation::identity(&data) == self.identity => Ok(Place::AtPath),
            Ok(_) => Ok(Place::Taken),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Place::Left),
            Err(error) => Err(error),
        }
    }

    /// The file in use cannot be gone on with: another takes the chain over.
    fn begin_anew(&mut self, place: Place, sink: &Sink) -> Result<(), RecordFailed> {
        let full = rotation::full_name(&sink.path, sink.clock.now(), self.chain.seq);
        let (name, why) = match (&self.suspect, place) {
            (Some(suspect), Place::AtPath) => (Some(full.clone()), suspect.why.clone()),
            _ => match rotation::name_now(&self.file, &sink.path) {
                Some(name) => (Some(name), "the file was renamed".to_owned()),
                None => {
                    (None, "the file was deleted, or moved to where it was not found, while it was in use".to_owned())
                }
            },
        };
        self.change_files(name.as_deref(), &why, sink, || match place {
            Place::AtPath => rotation::put_behind(&sink.path, &full),
            Place::Left => rotation::put_first(&sink.path),
            Place::Taken => rotation::put_over_empty(&sink.path),
        })?;
        tracing::warn!(why, "the record goes on in another file");
        Ok(())
    }

    /// Another file is due. Where it cannot be had the old one goes on, unless what it holds has become doubtful.
    fn rotate_if_possible(&mut self, sink: &Sink, now: Timestamp) -> Result<(), RecordFailed> {
        if let Err(error) = self.file.sync_data() {
            self.suspect(self.number, self.chain.seq, &error);
            return Err(error.into());
        }
        let full = rotation::full_name(&sink.path, now, self.chain.seq);
        let rotated = self.change_files(Some(&full), "rotated", sink, || rotation::put_behind(&sink.path, &full));
        if let Err(error) = rotated.and_then(|()| self.remove_old(sink)) {
            tracing::warn!(%error, "the record could not be rotated as configured");
            self.rotate_after = now.checked_add(limits::AUDIT_ROTATE_AGAIN).ok();
        }
        match self.suspect.as_ref().filter(|_| self.is_suspect()) {
            Some(suspect) => Err(RecordFailed(suspect.why.clone())),
            None => Ok(()),
        }
    }

    /// A sync of the file in use failed.
    fn is_suspect(&self) -> bool {
        self.suspect.as_ref().is_some_and(|suspect| suspect.number == self.number)
    }

    /// The chain goes over to another file, which `put` puts in its place.
    fn change_files(
        &mut self,
        name: Option<&str>,
        why: &str,
        sink: &Sink,
        put: impl FnOnce() -> io::Result<()>,
    ) -> Result<(), RecordFailed> {
        let torn = Some(TornTail { bytes: &self.chain.torn }).filter(|torn| !torn.bytes.is_empty());
        let event = Event { kind: Kind::Rotated, file: name, note: Some(why), torn, ..Event::default() };
        let (line, chain) = self.chain.in_another_file(&event, &sink.clock)?;
        let file = rotation::write_next(&sink.path, &line)?;
        let identity = rotation::identity(&file.metadata()?);
        put()?;
        let _ = self.file.unlock();
        self.file = Arc::new(file);
        (self.identity, self.chain) = (identity, chain);
        self.number += 1;
        self.names = Names::Changed;
        rotation::sync_directory(&sink.path)?;
        self.names = Names::Synced;
        Ok(())
    }

    /// Deletes the oldest full files but for as many as are kept; each only when a line that says so is on the disk.
    fn remove_old(&mut self, sink: &Sink) -> Result<(), RecordFailed> {
        let Some(keep) = sink.rotation.keep else { return Ok(()) };
        let full = rotation::full_files(&sink.path)?;
        for name in full.iter().take(full.len().saturating_sub(keep.get())) {
            let old = sink.path.with_file_name(name);
            let last = Chain::carry_on(&File::open(&old)?)?.map_err(RecordFailed)?;
            let note = format!("its lines end with number {}", last.seq);
            let event = Event {
                kind: Kind::Removed,
                file: Some(name),
                file_hash: Some(&last.prev),
                note: Some(&note),
                ..Event::default()
            };
            self.append(&event, &sink.clock)?;
            if let Err(error) = self.file.sync_data() {
                self.suspect(self.number, self.chain.seq, &error);
                return Err(error.into());
            }
            fs::remove_file(old)?;
        }
        Ok(())
    }

    /// The record works again: what it lacks is said before anything else.
    fn close_gap(&mut self, sink: &Sink) -> Result<(), RecordFailed> {
        let Some(missed) = &self.missed else { return Ok(()) };
        let (events, note) = (missed.events, format!("not recorded since {}: {}", missed.since, missed.why));
        let event = Event { kind: Kind::Gap, count: Some(events), note: Some(&note), ..Event::default() };
        self.append(&event, &sink.clock)?;
        self.missed = None;
        sink.fails.store(false, Ordering::Relaxed);
        metrics::gauge!(RECORD_FAILING).set(0.0);
        tracing::info!(missed = events, "the record works again");
        Ok(())
    }

    fn miss(&mut self, sink: &Sink, error: &RecordFailed, events: u64) {
        if let Some(missed) = &mut self.missed {
            missed.events += events;
            return;
        }
        self.missed = Some(Missed { events, since: sink.clock.now(), why: error.0.clone() });
        sink.fails.store(true, Ordering::Relaxed);
        metrics::gauge!(RECORD_FAILING).set(1.0);
        tracing::error!(%error, "the record fails: what it cannot take is refused");
    }

    fn suspect(&mut self, number: u64, seq: u64, error: &io::Error) {
        let why = format!(
            "a sync of the file failed ({error}): lines of it may be missing on the disk, and what was to be synced as line {seq} \
             or after it was refused"
        );
        if self.suspect.as_ref().is_none_or(|suspect| suspect.number < number) {
            self.suspect = Some(Suspect { number, why });
        }
    }
}

/// The file at the path, locked.
fn existing(path: &Path) -> Result<File, OpenFailed> {
    open_locked(path, &mut OpenOptions::new())
}

fn open_locked(path: &Path, options: &mut OpenOptions) -> Result<File, OpenFailed> {
    let failed = |error: io::Error| OpenFailed::File { path: path.to_owned(), why: error.to_string() };
    let file = options.read(true).append(true).mode(0o600).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(OpenFailed::NotAFile { path: path.to_owned() });
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenFailed::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    // Between opening and locking, whoever held the lock may have given the file another name.
    let (ours, there) = (file.metadata().map_err(failed)?, fs::metadata(path).map_err(failed)?);
    if (ours.dev(), ours.ino()) != (there.dev(), there.ino()) {
        return Err(OpenFailed::InUse { path: path.to_owned() });
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
