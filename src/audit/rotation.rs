//! The record's way from one file to the next, so that the chain is never without a place and never in two.
//!
//! ```text
//! FILE.next is written whole and synced: one line, which names the old file, with the old file's last hash as its `prev`
//!   └ FILE gets a second name, by its time           (a hard link: no name is ever written over)
//!       └ FILE.next takes the place of FILE          (one rename: at each instant there is a file at FILE)
//! ```
//!
//! Invariant: whatever instant a crash comes at, opening the record again finishes the step or takes it back ([`finish`]), and the
//! files that are left hold every line once. Whoever holds the lock on the file at FILE is the only one to move it.

use crate::audit::chain::{self, Chain};
use crate::audit::written::{self, ReadLine};
use crate::ground::limits;
use jiff::Timestamp;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::num::{NonZeroU64, NonZeroUsize};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// When a file is full, and how many full ones are kept: `[audit] rotate`, `rotate_bytes`, `keep`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rotation {
    pub every: Every,
    /// `None`: however large it is.
    pub bytes: Option<NonZeroU64>,
    /// `None`: all of them.
    pub keep: Option<NonZeroUsize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Every {
    #[default]
    Never,
    /// With the first line of another day, in UTC.
    Day,
}

impl Rotation {
    /// Is another file due before the next line?
    pub fn is_due(&self, chain: &Chain, now: Timestamp) -> bool {
        let another_day = || chain.day.is_some_and(|day| chain::day(now) > day);
        self.bytes.is_some_and(|bytes| chain.end >= bytes.get()) || self.every == Every::Day && another_day()
    }
}

/// Which file a name stands for: the names change, this does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity(u64, u64);

pub fn identity(data: &fs::Metadata) -> Identity {
    Identity(data.dev(), data.ino())
}

/// The name of a file that is full: by its time, and the `seq` of its last line, so that no two are the same.
pub fn full_name(path: &Path, now: Timestamp, seq: u64) -> String {
    let (stem, extension) = parts(path);
    format!("{stem}.{}-{seq:012}{extension}", now.strftime(TIME))
}

/// Makes FILE.next, locked and on the disk; whatever is left of an attempt before is written over.
pub fn write_next(path: &Path, line: &[u8]) -> io::Result<File> {
    let next = next_of(path);
    match fs::remove_file(&next) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(&next)?;
    lock(&file)?;
    file.write_all(line)?;
    file.sync_all()?;
    Ok(file)
}

/// FILE.next takes the place of FILE, which goes on under another name.
pub fn put_behind(path: &Path, name: &str) -> io::Result<()> {
    let full = path.with_file_name(name);
    fs::hard_link(path, &full)?;
    fs::rename(next_of(path), path).inspect_err(|_| {
        let _ = fs::remove_file(&full);
    })
}

/// FILE.next comes to stand at FILE, where nothing stands.
pub fn put_first(path: &Path) -> io::Result<()> {
    let next = next_of(path);
    match fs::hard_link(&next, path) {
        Ok(()) => fs::remove_file(next),
        // A file system without hard links.
        Err(_) if !path.exists() => fs::rename(next, path),
        Err(error) => Err(error),
    }
}

/// FILE.next takes the place of an empty file that some tool made at FILE. The tool's file stays locked while it is replaced.
pub fn put_over_empty(path: &Path) -> io::Result<()> {
    let made = File::open(path)?;
    lock(&made)?;
    let data = made.metadata()?;
    if !data.is_file() || data.len() > 0 {
        return Err(io::Error::other("another file, which is not empty, stands in the record's place"));
    }
    fs::rename(next_of(path), path)
}

/// Names are on the disk when their directory is. What cannot be opened for it, or knows no such thing, is passed over, as
/// PostgreSQL does (`fsync_fname_ext` in src/common/file_utils.c).
pub fn sync_directory(path: &Path) -> io::Result<()> {
    match File::open(directory(path)).and_then(|directory| directory.sync_all()) {
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::InvalidInput) => Ok(()),
        synced => synced,
    }
}

/// Brings what a crash interrupted to its end, or takes it back. `at_path` is the file at FILE, locked by us, if there is one.
/// Tells whether another file stands at FILE now.
pub fn finish(path: &Path, at_path: Option<&File>) -> io::Result<Moved> {
    let next = match File::open(next_of(path)) {
        Ok(next) => next,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Moved::No),
        Err(error) => return Err(error),
    };
    if let Some(at_path) = at_path
        && identity(&at_path.metadata()?) == identity(&next.metadata()?)
    {
        return fs::remove_file(next_of(path)).map(|()| Moved::No);
    }
    lock(&next)?;
    let first = first_line(&next)?;
    let Some(at_path) = at_path else {
        return match first {
            Some(_) => put_first(path).map(|()| Moved::Yes),
            None => fs::remove_file(next_of(path)).map(|()| Moved::No),
        };
    };
    let standing = at_path.metadata()?;
    if standing.len() == 0 && first.is_some() {
        return fs::rename(next_of(path), path).map(|()| Moved::Yes);
    }
    if let Some(name) = first.and_then(|line| line.file) {
        take_name_back(path, &name, identity(&standing))?;
    }
    fs::remove_file(next_of(path)).map(|()| Moved::No)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    Yes,
    No,
}

/// The full files beside FILE, by their own names, the oldest first.
pub fn full_files(path: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory(path))? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        if let Some(seq) = seq_in(path, name) {
            found.push((seq, name.to_owned()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, name)| name).collect())
}

/// The name under which a file that is open goes now: as the system tells, or as it is found beside FILE. What has no name any more
/// was deleted; what went to another directory may be found by the system alone.
pub fn name_now(file: &File, path: &Path) -> Option<String> {
    let ours = identity(&file.metadata().ok()?);
    let told = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok();
    let beside = fs::read_dir(directory(path)).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_it = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|data| identity(&data) == ours);
    let found = told.into_iter().chain(beside).find(is_it)?;
    Some(found.file_name()?.to_str()?.to_owned())
}

fn next_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".next");
    path.with_file_name(name)
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn parts(path: &Path) -> (String, String) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().map_or_else(String::new, |extension| format!(".{}", extension.to_string_lossy()));
    (stem, extension)
}

const TIME: &str = "%Y%m%dT%H%M%SZ";
const TIME_CHARS: usize = "20260102T030405Z".len();

/// The `seq` in a full file's name; none if the name is not one that [`full_name`] gives.
fn seq_in(path: &Path, name: &str) -> Option<u64> {
    let (stem, extension) = parts(path);
    let middle = name.strip_prefix(&stem)?.strip_prefix('.')?.strip_suffix(&extension)?;
    let (time, seq) = middle.split_once('-')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_time = time.len() == TIME_CHARS && time.ends_with('Z') && time.replace(['T', 'Z'], "").len() == 14;
    (is_time && digits(&time.replace(['T', 'Z'], "")) && digits(seq)).then(|| seq.parse().ok())?
}

/// The crash came between the second name and the rename: the file at FILE goes on, and by that name alone.
fn take_name_back(path: &Path, name: &str, standing: Identity) -> io::Result<()> {
    // The name is out of a file: it must be one of ours before anything of that name is touched.
    if seq_in(path, name).is_none() {
        return Ok(());
    }
    let full = path.with_file_name(name);
    match fs::symlink_metadata(&full) {
        Ok(data) if identity(&data) == standing => fs::remove_file(full),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The first line, if it is whole and carries another file on.
fn first_line(file: &File) -> io::Result<Option<ReadLine>> {
    let mut head = Vec::new();
    file.take(limits::AUDIT_LINE_BYTES_MAX as u64).read_to_end(&mut head)?;
    let Some(end) = memchr::memchr(b'\n', &head) else { return Ok(None) };
    let line = head.get(..end).and_then(|line| written::read_line(line).ok());
    Ok(line.filter(|line| line.kind == "rotated"))
}

fn lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::new(ErrorKind::ResourceBusy, "another process is writing to it"),
        TryLockError::Error(error) => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_time_and_order_and_are_known_again() {
        let path = Path::new("/var/log/sluice-audit.jsonl");
        let time: Timestamp = "2026-03-01T23:59:58Z".parse().expect("a time");
        let name = full_name(path, time, 1_234);
        assert_eq!(name, "sluice-audit.20260301T235958Z-000000001234.jsonl");
        assert_eq!(seq_in(path, &name), Some(1_234));
        let bare = full_name(Path::new("record"), time, 7);
        assert_eq!(
            (bare.as_str(), seq_in(Path::new("record"), &bare)),
            ("record.20260301T235958Z-000000000007", Some(7))
        );
        for other in [
            "sluice-audit.jsonl",
            "sluice-audit.jsonl.next",
            "sluice-audit.jsonl.1",
            "other.20260301T235958Z-000000001234.jsonl",
            "sluice-audit.20260301T235958Z-.jsonl.gz",
            "sluice-audit.2026-03-01-12.jsonl",
            "sluice-audit.20260301T235958Z-../../x.jsonl",
        ] {
            assert_eq!(seq_in(path, other), None, "{other}");
        }
    }

    #[test]
    fn a_file_is_full_by_its_size_or_its_day() {
        let at = |text: &str| -> Timestamp { text.parse().expect("a time") };
        let written = chain::day(at("2026-03-01T12:00:00Z"));
        let mut chain = Chain::at_start();
        (chain.end, chain.day) = (100, Some(written));
        let (same, next, before) = (at("2026-03-01T23:59:59Z"), at("2026-03-02T00:00:00Z"), at("2026-02-28T00:00:00Z"));
        let rotation = |bytes, every| Rotation { bytes: NonZeroU64::new(bytes), every, keep: None };
        for (bytes, every, now, due) in [
            (0, Every::Never, next, false),
            (100, Every::Never, same, true),
            (101, Every::Never, next, false),
            (0, Every::Day, same, false),
            (0, Every::Day, next, true),
            // A clock that was set back is no new day.
            (0, Every::Day, before, false),
        ] {
            assert_eq!(rotation(bytes, every).is_due(&chain, now), due, "{bytes} {every:?} {now}");
        }
        assert!(!rotation(0, Every::Day).is_due(&Chain::at_start(), next), "an empty file is of no day");
    }
}
