//! The record's file as it is written, torn, filled and shared. Rotation has its stories in `tests/record.rs`.

use super::*;
use crate::audit::chain::{Disk, line_end_before};
use crate::audit::written::{self, NO_HASH};
use std::io::Write;
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
    for text in [whole.replace("\"three\"", "\"tree\""), format!("{whole}a remark\n"), "some other file\n".to_owned()] {
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
            let mut chain = Chain::at_start();
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
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" --exact audit::sink::tests::child_at_its_limit --nocapture";
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
