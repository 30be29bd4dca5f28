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
use std::sync::atomic::{AtomicBool, Ordering};

/// The record. Shared by all threads; the lock is held for one `write` call, never for the `fdatasync`.
pub struct Sink {
    file: File,
    clock: Clock,
    chain: Mutex<Chain>,
    fails: AtomicBool,
}

impl Sink {
    pub fn open(path: &Path, clock: Clock) -> Result<Sink, OpenFailed> {
        let failed = |error: io::Error| OpenFailed::File { path: path.to_owned(), why: error.to_string() };
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(OpenFailed::NotAFile { path: path.to_owned() });
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenFailed::InUse { path: path.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let chain =
            Chain::carry_on(&file).map_err(failed)?.map_err(|why| OpenFailed::Broken { path: path.to_owned(), why })?;
        let sink = Sink { file, clock, chain: Mutex::new(chain), fails: AtomicBool::new(false) };
        sink.set_aside().map_err(|error| failed(io::Error::other(error.to_string())))?;
        Ok(sink)
    }

    /// Writes one event and returns its `seq`. Blocks for the write, and for the disk if the event is to be synced.
    pub fn write(&self, event: &Event<'_>) -> Result<u64, RecordFailed> {
        let written = self.write_through(event);
        self.fails.store(written.is_err(), Ordering::Relaxed);
        written
    }

    /// Whether the last event was taken.
    pub fn works(&self) -> bool {
        !self.fails.load(Ordering::Relaxed)
    }

    fn write_through(&self, event: &Event<'_>) -> Result<u64, RecordFailed> {
        let seq = {
            // A poisoned lock means a writer panicked half-way: what the file holds is not known, so nothing more is permitted.
            let mut chain = self.chain.lock().map_err(|_| RecordFailed("a writer of the record failed".to_owned()))?;
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
        let mut chain = self.chain.lock().map_err(|_| RecordFailed("a writer of the record failed".to_owned()))?;
        chain.set_torn_aside(&mut &self.file, &self.clock)
    }
}

impl Drop for Sink {
    /// Closing would do, were it not for a child process that is just being started and for an instant holds the file, too.
    fn drop(&mut self) {
        let _ = self.file.unlock();
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
        let ours = self.metadata().is_ok_and(|data| data.len() == end + written);
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
        file.take(2 * limits::AUDIT_LINE_BYTES_MAX as u64).read_to_end(&mut tail)?;
        Ok(last_whole(&tail, from == 0).map(|(last, whole)| Chain {
            seq: last.as_ref().map_or(0, |line| line.seq),
            prev: last.map_or_else(|| NO_HASH.to_owned(), |line| line.hash),
            end: from + whole as u64,
            torn: tail.split_off(whole),
            line: Vec::new(),
        }))
    }

    fn append(&mut self, disk: &mut impl Disk, event: &Event<'_>, clock: &Clock) -> Result<u64, RecordFailed> {
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

    fn append_line(&mut self, disk: &mut impl Disk, event: &Event<'_>, clock: &Clock) -> Result<u64, RecordFailed> {
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
            return Err(RecordFailed("the line is longer than a line may be".to_owned()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::sync::Arc;

    #[test]
    fn the_chain_is_carried_on_after_a_restart() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("audit.jsonl");
        for run in 0..3 {
            let sink = open(&path).expect("opens");
            assert_eq!(note(&sink, "one"), Ok(2 * run + 1));
            assert_eq!(note(&sink, "two"), Ok(2 * run + 2));
        }
        assert_eq!(chain(&path), ["service"; 6]);
        assert_eq!(std::fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_torn_last_line_is_set_aside_and_said() {
        // Cut at every byte of the last line, its first and last included: wherever the write stopped, the record goes on.
        let whole = three_lines();
        let last = line_end_before(&whole, whole.len() - 1);
        for cut in last + 1..whole.len() {
            let dir = tempfile::tempdir().expect("dir");
            let path = dir.path().join("audit.jsonl");
            std::fs::write(&path, &whole[..cut]).expect("writes");
            assert_eq!(note(&open(&path).expect("opens"), "after"), Ok(4), "cut at {cut}");
            let text = std::fs::read(&path).expect("reads");
            assert!(text.starts_with(&whole[..cut]), "nothing is taken away");
            assert_eq!(chain(&path), ["service", "service", "torn", "service"], "cut at {cut}");
        }
    }

    #[test]
    fn a_torn_torn_line_is_set_aside_too() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("audit.jsonl");
        let mut text = three_lines();
        text.truncate(text.len() - 10);
        std::fs::write(&path, &text).expect("writes");
        drop(open(&path).expect("opens"));
        let set_aside = std::fs::read(&path).expect("reads");
        for cut in text.len()..set_aside.len() {
            std::fs::write(&path, &set_aside[..cut]).expect("writes");
            assert_eq!(note(&open(&path).expect("opens"), "after"), Ok(4), "cut at {cut}");
            assert_eq!(chain(&path), ["service", "service", "torn", "service"], "cut at {cut}");
        }
    }

    #[test]
    fn a_record_that_somebody_changed_is_not_written_to() {
        let whole = String::from_utf8(three_lines()).expect("text");
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("audit.jsonl");
        for text in
            [whole.replace("\"three\"", "\"tree\""), format!("{whole}a remark\n"), "some other file\n".to_owned()]
        {
            std::fs::write(&path, &text).expect("writes");
            let refused = open(&path).expect_err("changed");
            assert!(matches!(refused, OpenFailed::Broken { .. }), "{refused}");
            assert_eq!(std::fs::read_to_string(&path).expect("reads"), text, "left as it was");
        }
        assert!(matches!(open(Path::new("/dev/full")), Err(OpenFailed::NotAFile { .. })));
    }

    #[test]
    fn two_writers_cannot_fork_the_chain() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("audit.jsonl");
        let first = open(&path).expect("opens");
        assert!(matches!(open(&path), Err(OpenFailed::InUse { .. })));
        drop(first);
        assert!(open(&path).is_ok());
    }

    #[test]
    fn many_threads_write_one_chain() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("audit.jsonl");
        let sink = Arc::new(open(&path).expect("opens"));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50).for_each(|n| assert!(note(&sink, "line").is_ok(), "{n}")));
            }
        });
        assert_eq!(chain(&path).len(), 200);
    }

    #[test]
    fn texts_without_end_are_cut_and_that_is_said() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("audit.jsonl");
        let sink = open(&path).expect("opens");
        let (long, control) =
            ("ü".repeat(limits::AUDIT_STATEMENT_BYTES_MAX), "\u{1}".repeat(limits::AUDIT_STATEMENT_BYTES_MAX * 2));
        for text in [&long, &control] {
            let event = Event { statement: Some(text), note: Some(text), fingerprint: Some(text), ..Event::default() };
            sink.write(&event).expect("writes");
        }
        drop(sink);
        assert_eq!(note(&open(&path).expect("reads its last line back"), "after"), Ok(3));
        let text = std::fs::read_to_string(&path).expect("reads");
        let line: serde_json::Value = serde_json::from_str(text.lines().next().expect("a line")).expect("json");
        assert_eq!(line["statement_bytes"], long.len());
        assert_eq!(line["statement"].as_str().map(str::len), Some(limits::AUDIT_STATEMENT_BYTES_MAX));
    }

    /// A disk that takes so many bytes and then fails, and may or may not let them be taken back.
    struct FullDisk {
        content: Vec<u8>,
        room: usize,
        takes_back: bool,
    }

    impl Write for FullDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.room -= taken;
            self.content.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Disk for FullDisk {
        fn take_back(&mut self, end: u64, written: u64) -> bool {
            assert_eq!(self.content.len() as u64, end + written);
            if self.takes_back {
                self.content.truncate(end as usize);
            }
            self.takes_back
        }
    }

    #[test]
    fn a_full_disk_leaves_no_half_line_before_the_next() {
        let line_bytes = three_lines().len() / 3;
        for takes_back in [true, false] {
            for room in 1..3 * line_bytes {
                let mut disk = FullDisk { content: Vec::new(), room, takes_back };
                let mut chain = Chain { seq: 0, prev: NO_HASH.into(), end: 0, torn: Vec::new(), line: Vec::new() };
                let mut append = |disk: &mut FullDisk| chain.append(disk, &note_event("x"), &Clock::System);
                // Two failures in a row, the second with a little room: what is torn may tear again while it is set aside.
                while append(&mut disk).is_ok() {}
                disk.room = 7;
                append(&mut disk).expect_err("full again");
                disk.room = usize::MAX;
                append(&mut disk).expect("there is room");
                append(&mut disk).expect("there is room");
                let kinds = kinds_of(&disk.content);
                assert_eq!(kinds.contains(&"torn".to_owned()), !takes_back, "{room}: {kinds:?}");
            }
        }
    }

    /// The same on a real file: the child's files may not grow beyond a limit, and it goes on after a failed write.
    #[test]
    fn a_file_at_its_limit_fails_and_stays_whole() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("audit.jsonl");
        let this = std::env::current_exe().expect("a test binary");
        let script =
            "trap '' XFSZ; ulimit -f 8; exec \"$0\" --exact audit::sink::tests::child_at_its_limit --nocapture";
        let output =
            Command::new("sh").arg("-c").arg(script).arg(this).env("SLUICE_TEST_AUDIT", &path).output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let before = chain(&path).len() as u64;
        assert!(before > 3);
        assert_eq!(note(&open(&path).expect("opens"), "after"), Ok(before + 1));
    }

    /// Not a story of its own: the child of the one above. Without its orders in the environment it does nothing.
    #[test]
    fn child_at_its_limit() {
        let Ok(path) = std::env::var("SLUICE_TEST_AUDIT") else {
            return;
        };
        let sink = open(Path::new(&path)).expect("opens");
        let fill = "some text, so that the limit falls into the middle of a line";
        while note(&sink, fill).is_ok() {}
        let long = "x".repeat(1_000);
        assert!(note(&sink, &long).is_err(), "a failed sink fails again");
        let length = std::fs::metadata(&path).expect("metadata").len();
        assert!(std::fs::read(&path).expect("reads").ends_with(b"\n"), "no half line at {length}");
    }

    fn open(path: &Path) -> Result<Sink, OpenFailed> {
        Sink::open(path, Clock::System)
    }

    fn note(sink: &Sink, text: &str) -> Result<u64, RecordFailed> {
        sink.write(&note_event(text))
    }

    fn note_event(text: &str) -> Event<'_> {
        Event { kind: Kind::Service, note: Some(text), ..Event::default() }
    }

    fn three_lines() -> Vec<u8> {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("audit.jsonl");
        let sink = open(&path).expect("opens");
        for text in ["one", "two", "three"] {
            note(&sink, text).expect("writes");
        }
        std::fs::read(&path).expect("reads")
    }

    fn chain(path: &Path) -> Vec<String> {
        kinds_of(&std::fs::read(path).expect("reads"))
    }

    /// The kinds of a record's lines, after checking the chain in the simplest way: what is no line must be torn, and be
    /// followed by a line that says so.
    fn kinds_of(content: &[u8]) -> Vec<String> {
        let (mut kinds, mut prev, mut torn) = (Vec::new(), NO_HASH.to_owned(), Vec::new());
        for text in content.split_inclusive(|&byte| byte == b'\n') {
            let Ok(line) = written::read_line(text.trim_ascii_end()) else {
                torn.extend_from_slice(text);
                continue;
            };
            assert_eq!(line.kind == "torn", !torn.is_empty());
            if let Some(torn) = torn.strip_suffix(written::TORN_END) {
                assert_eq!(line.torn_bytes, Some(torn.len() as u64));
                assert_eq!(line.torn_hash, Some(written::bytes_hash(torn)));
            }
            torn.clear();
            assert_eq!((line.prev.as_str(), line.seq), (prev.as_str(), kinds.len() as u64 + 1));
            prev = line.hash;
            kinds.push(line.kind);
        }
        assert!(torn.is_empty(), "torn and not set aside: {}", String::from_utf8_lossy(&torn));
        kinds
    }
}
