//! The file that the record is written to: append-only, private, one line an event, one writer.
//!
//! Invariants: a line is in the file before `write` returns, whole or not at all as far as the next line is concerned; every line
//! carries on the chain of the one before, over restarts; nothing is repaired silently. What a crash or a full disk left half
//! written is set aside by a `torn` line, which says how much it was and hashes it. A last line that is whole but does not
//! hold is somebody's work: then the file is not opened at all.
//!
//! A second process on the same file would fork the chain, so the file is locked while it is open.

use crate::audit::event::{Durability, Event, Kind, TornTail};
use crate::audit::written::{self, NO_HASH, ReadLine};
use crate::ground::clock::Clock;
use crate::ground::limits;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The record. Shared by all threads; the lock is held for one `write` call, never for the `fdatasync`.
pub struct Sink {
    file: File,
    clock: Clock,
    chain: Mutex<Chain>,
}

impl Sink {
    pub fn open(path: &Path, clock: Clock) -> Result<Sink, OpenFailed> {
        let failed = |error: io::Error| OpenFailed::File {
            path: path.to_owned(),
            why: error.to_string(),
        };
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(OpenFailed::NotAFile {
                path: path.to_owned(),
            });
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenFailed::InUse {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_permissions(std::fs::Permissions::from_mode(0o600))
            .map_err(failed)?;
        let chain = Chain::carry_on(&file)
            .map_err(failed)?
            .map_err(|why| OpenFailed::Broken {
                path: path.to_owned(),
                why,
            })?;
        let sink = Sink {
            file,
            clock,
            chain: Mutex::new(chain),
        };
        sink.set_aside()
            .map_err(|error| failed(io::Error::other(error.to_string())))?;
        Ok(sink)
    }

    /// Writes one event and returns its `seq`. Blocks for the write, and for the disk if the event is to be synced.
    pub fn write(&self, event: &Event<'_>) -> Result<u64, RecordFailed> {
        let seq = {
            // A poisoned lock means a writer panicked half-way: what the file holds is not known, so nothing more is permitted.
            let mut chain = self
                .chain
                .lock()
                .map_err(|_| RecordFailed("a writer of the record failed".to_owned()))?;
            chain.append(&mut &self.file, event, &self.clock)?
        };
        if event.durability == Durability::Synced {
            self.file.sync_data()?;
        }
        Ok(seq)
    }

    /// The hash of the last line: kept elsewhere, it shows later that nothing was cut off before it.
    pub fn last_hash(&self) -> Option<String> {
        self.chain.lock().ok().map(|chain| chain.prev.clone())
    }

    /// What an earlier run left torn is recorded at once, not only with the next event.
    fn set_aside(&self) -> Result<(), RecordFailed> {
        let mut chain = self
            .chain
            .lock()
            .map_err(|_| RecordFailed("a writer of the record failed".to_owned()))?;
        chain.set_torn_aside(&mut &self.file, &self.clock)
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
            OpenFailed::InUse { path } => write!(
                f,
                "record {}: another process is writing to it",
                path.display()
            ),
            OpenFailed::Broken { path, why } => write!(
                f,
                "record {}: {why}; look at it with `sluice audit verify`, then move it away to start a new one",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenFailed {}

/// Where the chain stands.
#[derive(Debug)]
struct Chain {
    /// Of the last whole line; 0 before the first.
    seq: u64,
    prev: String,
    /// The file's length after the last whole line.
    end: u64,
    /// What stands in the file after `end`: the half of a line that could not be taken back.
    torn: Vec<u8>,
    /// Reused for every line.
    line: Vec<u8>,
}

/// What the chain needs of a file; a test's may fail when it likes.
trait Disk: Write {
    /// Takes back what a failed write left after `end`, if it is certain that nothing else stands there.
    fn take_back(&mut self, end: u64, written: u64) -> bool;
}

impl Disk for &File {
    fn take_back(&mut self, end: u64, written: u64) -> bool {
        // If somebody cut or grew the file meanwhile, its length is not ours to set.
        let ours = self
            .metadata()
            .is_ok_and(|data| data.len() == end + written);
        ours && self.set_len(end).is_ok()
    }
}

impl Chain {
    /// Reads the end of the file: where the chain stands, and what is torn. The inner error says what does not hold.
    fn carry_on(mut file: &File) -> io::Result<Result<Chain, String>> {
        let length = file.seek(SeekFrom::End(0))?;
        let from = length.saturating_sub(2 * limits::AUDIT_LINE_BYTES_MAX as u64);
        file.seek(SeekFrom::Start(from))?;
        let mut tail = Vec::new();
        file.take(2 * limits::AUDIT_LINE_BYTES_MAX as u64)
            .read_to_end(&mut tail)?;
        Ok(last_whole(&tail, from == 0).map(|(last, whole)| Chain {
            seq: last.as_ref().map_or(0, |line| line.seq),
            prev: last.map_or_else(|| NO_HASH.to_owned(), |line| line.hash),
            end: from + whole as u64,
            torn: tail.split_off(whole),
            line: Vec::new(),
        }))
    }

    fn append(
        &mut self,
        disk: &mut impl Disk,
        event: &Event<'_>,
        clock: &Clock,
    ) -> Result<u64, RecordFailed> {
        self.set_torn_aside(disk, clock)?;
        self.append_line(disk, event, clock)
    }

    fn set_torn_aside(&mut self, disk: &mut impl Disk, clock: &Clock) -> Result<(), RecordFailed> {
        if self.torn.is_empty() {
            return Ok(());
        }
        let torn = std::mem::take(&mut self.torn);
        let event = Event {
            kind: Kind::Torn,
            note: Some("set aside: the end of an earlier write that did not complete"),
            torn: Some(TornTail { bytes: &torn }),
            ..Event::default()
        };
        let end_before = self.end;
        self.end += torn.len() as u64;
        let written = self.append_after(disk, written::TORN_END, &event, clock);
        if written.is_err() {
            // The same bytes are still torn, and whatever this write added to them.
            self.end = end_before;
            let added = std::mem::replace(&mut self.torn, torn);
            self.torn.extend_from_slice(&added);
        }
        written.map(|_| ())
    }

    fn append_line(
        &mut self,
        disk: &mut impl Disk,
        event: &Event<'_>,
        clock: &Clock,
    ) -> Result<u64, RecordFailed> {
        self.append_after(disk, b"", event, clock)
    }

    fn append_after(
        &mut self,
        disk: &mut impl Disk,
        before: &[u8],
        event: &Event<'_>,
        clock: &Clock,
    ) -> Result<u64, RecordFailed> {
        let seq = self.seq + 1;
        let mut line = std::mem::take(&mut self.line);
        let hash = written::write_line(&mut line, event, seq, clock.now(), &self.prev)
            .map_err(|error| RecordFailed(error.to_string()))?;
        if line.len() > limits::AUDIT_LINE_BYTES_MAX {
            return Err(RecordFailed(
                "the line is longer than a line may be".to_owned(),
            ));
        }
        line.splice(..0, before.iter().copied());
        let written = self.write_whole(disk, &line);
        self.line = line;
        written?;
        (self.seq, self.prev) = (seq, hash);
        Ok(seq)
    }

    /// All of the line, or none of it; if even that fails, what stands there is remembered as torn.
    fn write_whole(&mut self, disk: &mut impl Disk, line: &[u8]) -> Result<(), RecordFailed> {
        let mut written = 0;
        while let Some(rest) = line.get(written..).filter(|rest| !rest.is_empty()) {
            match disk.write(rest) {
                Ok(0) => {
                    return Err(self.give_up(disk, &line[..written], ErrorKind::WriteZero.into()));
                }
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.give_up(disk, &line[..written], error)),
            }
        }
        self.end += line.len() as u64;
        Ok(())
    }

    fn give_up(&mut self, disk: &mut impl Disk, written: &[u8], error: io::Error) -> RecordFailed {
        if !written.is_empty() && !disk.take_back(self.end, written.len() as u64) {
            self.torn = written.to_vec();
        }
        error.into()
    }
}

/// The last line that holds and where it ends; what follows is torn. Torn bytes may hold line ends (a `torn` line may itself be
/// torn), but do not end with one: a whole line at the end that does not hold was changed by somebody.
fn last_whole(tail: &[u8], from_start: bool) -> Result<(Option<ReadLine>, usize), String> {
    let mut end = tail.len();
    let torn = !tail.is_empty() && (!tail.ends_with(b"\n") || tail.ends_with(written::TORN_END));
    if !tail.ends_with(b"\n") {
        end = line_end_before(tail, end);
    }
    while end > 0 {
        let start = line_end_before(tail, end - 1);
        if start == 0 && !from_start {
            break;
        }
        match written::read_line(&tail[start..end - 1]) {
            Ok(line) => return Ok((Some(line), end)),
            Err(_) if torn => end = start,
            Err(why) => return Err(format!("its last line does not hold: {why}")),
        }
    }
    match from_start {
        true => Ok((None, 0)),
        false => Err("no whole line was found at its end".to_owned()),
    }
}

/// Just after the last line end in `tail[..end]`; 0 if there is none.
fn line_end_before(tail: &[u8], end: usize) -> usize {
    memchr::memrchr(b'\n', &tail[..end]).map_or(0, |place| place + 1)
}
