//! `sluice audit verify FILE`: walks a record's chain and says whether it is whole.
//!
//! Invariant: only reads. What it can show: an edited, removed, added or swapped line, and lines cut off at the front. What it cannot
//! show by the file alone: lines cut off at the end, and a record rewritten from some line on with all hashes made anew. For those, keep the
//! last hash elsewhere and give it back with `--expect-last`.

use crate::audit::written::{NO_HASH, ReadLine, TORN_END, bytes_hash, read_line};
use crate::ground::limits;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// What the walk found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Whole lines, up to the first that does not hold.
    pub lines: u64,
    pub kinds: BTreeMap<String, u64>,
    pub first_time: Option<String>,
    pub last_time: Option<String>,
    /// The last whole line's hash: keep it elsewhere, and what is cut off later can be seen.
    pub last_hash: Option<String>,
    /// Torn writes that were set aside properly, with the line of the file they begin on and their length.
    pub set_aside: Vec<SetAside>,
    pub broken: Option<Broken>,
    /// `--expect-last` was given, and what came of it.
    pub expected: Option<Expected>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    pub line: u64,
    pub bytes: u64,
}

/// The first line that does not hold, counted in lines of the file from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub line: u64,
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    IsLast,
    /// It is there, and more was recorded since: nothing before it was cut off.
    Since {
        lines: u64,
    },
    Missing,
}

impl Report {
    pub fn whole(&self) -> bool {
        self.broken.is_none() && self.expected != Some(Expected::Missing)
    }

    /// 0 whole, 1 not.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.whole())
    }
}

/// The command: prints what was found. Its exit code is 0 for a whole chain, 1 for a broken one, 2 for a file that cannot be read.
pub fn run(path: &Path, expect_last: Option<&str>) -> u8 {
    match verify(path, expect_last) {
        Ok(report) => {
            println!("{report}");
            report.exit_code()
        }
        Err(error) => {
            eprintln!("sluice: {}: {error}", path.display());
            2
        }
    }
}

/// Walks the file once, a line at a time.
pub fn verify(path: &Path, expect_last: Option<&str>) -> io::Result<Report> {
    let mut walk = Walk::new(expect_last);
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    while walk.report.broken.is_none() && next_line(&mut reader, &mut line)? > 0 {
        walk.step(&line);
    }
    Ok(walk.finish())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.broken {
            None => writeln!(f, "the chain is whole: {} lines", self.lines)?,
            Some(broken) => {
                writeln!(f, "the chain is broken at line {}: {}", broken.line, broken.why)?;
                writeln!(f, "{} lines before it hold; nothing after it was looked at", self.lines)?;
            }
        }
        if let (Some(first), Some(last)) = (&self.first_time, &self.last_time) {
            writeln!(f, "from {first} to {last}")?;
        }
        for (kind, count) in &self.kinds {
            writeln!(f, "  {kind:<10} {count}")?;
        }
        for torn in &self.set_aside {
            writeln!(
                f,
                "line {}: {} bytes of a write that did not complete, set aside and recorded",
                torn.line, torn.bytes
            )?;
        }
        match self.expected {
            Some(Expected::IsLast) => writeln!(f, "the last line is the expected one")?,
            Some(Expected::Since { lines }) => writeln!(f, "the expected line is there, with {lines} lines after it")?,
            Some(Expected::Missing) => {
                writeln!(f, "the expected line is missing: the end was cut off, or this is another record")?
            }
            None => {}
        }
        match &self.last_hash {
            Some(hash) => write!(f, "last hash: {hash}"),
            None => write!(f, "no line, no hash"),
        }?;
        match self.expected {
            None => write!(
                f,
                "\n(lines cut off after it cannot be seen: keep this hash elsewhere and give it to --expect-last)"
            ),
            Some(_) => Ok(()),
        }
    }
}

struct Walk<'a> {
    report: Report,
    expect_last: Option<&'a str>,
    prev: String,
    /// Lines of the file read so far.
    read: u64,
    /// Bytes since the last whole line that are no lines, and where they began.
    torn: Vec<u8>,
    torn_line: u64,
    torn_why: String,
}

impl<'a> Walk<'a> {
    fn new(expect_last: Option<&'a str>) -> Walk<'a> {
        Walk {
            report: Report { expected: expect_last.map(|_| Expected::Missing), ..Report::default() },
            expect_last,
            prev: NO_HASH.to_owned(),
            read: 0,
            torn: Vec::new(),
            torn_line: 0,
            torn_why: String::new(),
        }
    }

    fn step(&mut self, line: &[u8]) {
        self.read += 1;
        let Some(text) = line.strip_suffix(b"\n") else {
            return self.put_aside(line, "it is cut off before its end");
        };
        match read_line(text) {
            Ok(read) if self.torn.is_empty() => self.follow(read),
            Ok(read) => self.close_torn(read),
            Err(why) => self.put_aside(line, &why.to_string()),
        }
    }

    /// A line that is none may be torn bytes, if the next line that is one sets them aside.
    fn put_aside(&mut self, line: &[u8], why: &str) {
        if self.torn.is_empty() {
            self.torn_line = self.read;
            self.torn_why = why.to_owned();
        }
        self.torn.extend_from_slice(line);
        if self.torn.len() > 2 * limits::AUDIT_LINE_BYTES_MAX {
            self.break_at_torn();
        }
    }

    fn close_torn(&mut self, read: ReadLine) {
        let torn = self.torn.strip_suffix(TORN_END).unwrap_or_default();
        let set_aside = read.kind == "torn"
            && read.torn_bytes == Some(torn.len() as u64)
            && read.torn_hash.as_deref() == Some(&bytes_hash(torn));
        if !set_aside {
            return self.break_at_torn();
        }
        self.report.set_aside.push(SetAside { line: self.torn_line, bytes: torn.len() as u64 });
        self.torn.clear();
        self.follow(read);
    }

    fn follow(&mut self, read: ReadLine) {
        if read.seq != self.report.lines + 1 {
            return self.break_here(format!(
                "seq is {} where {} was to come: a line is missing, added or moved",
                read.seq,
                self.report.lines + 1
            ));
        }
        if read.prev != self.prev {
            return self.break_here("it does not follow the line before it (prev differs)".to_owned());
        }
        let report = &mut self.report;
        report.lines += 1;
        *report.kinds.entry(read.kind).or_default() += 1;
        report.first_time.get_or_insert_with(|| read.time.clone());
        report.last_time = Some(read.time);
        match (report.expected, self.expect_last) {
            (Some(Expected::Missing), Some(hash)) if hash.eq_ignore_ascii_case(&read.hash) => {
                report.expected = Some(Expected::IsLast)
            }
            (Some(Expected::IsLast), _) => report.expected = Some(Expected::Since { lines: 1 }),
            (Some(Expected::Since { lines }), _) => report.expected = Some(Expected::Since { lines: lines + 1 }),
            _ => {}
        }
        report.last_hash = Some(read.hash.clone());
        self.prev = read.hash;
    }

    fn break_here(&mut self, why: String) {
        self.report.broken.get_or_insert(Broken { line: self.read, why });
    }

    fn break_at_torn(&mut self) {
        let why = self.torn_why.clone();
        self.report.broken.get_or_insert(Broken { line: self.torn_line, why });
    }

    fn finish(mut self) -> Report {
        if !self.torn.is_empty() {
            self.break_at_torn();
        }
        self.report
    }
}

/// Reads one line, its end included; a longer one than a record holds comes in pieces, which are then no lines.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    line.clear();
    reader.take(limits::AUDIT_LINE_BYTES_MAX as u64 + 1).read_until(b'\n', line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::event::{Event, Kind};
    use crate::audit::sink::Sink;
    use crate::ground::clock::Clock;

    #[test]
    fn a_whole_record_is_found_whole() {
        let record = record(5);
        let report = verify_text(&record.concat(), None);
        assert_eq!((report.lines, report.exit_code()), (5, 0));
        assert_eq!(report.kinds, BTreeMap::from([("service".to_owned(), 5)]));
        assert!(report.to_string().starts_with("the chain is whole: 5 lines\n"), "{report}");
        assert_eq!(verify_text("", None).exit_code(), 0, "a record without lines is whole");
    }

    #[test]
    fn tampering_is_found_at_its_line() {
        type Tamper = fn(&mut Vec<String>);
        let cases: &[(&str, Tamper, u64, &str)] = &[
            ("edited", |r| r[2] = r[2].replace("note 3", "note 9"), 3, "the hash differs"),
            ("edited by a blank", |r| r[2] = r[2].replace("\"kind\"", " \"kind\""), 3, "the hash differs"),
            ("hash edited", |r| swap_last_digit(&mut r[2]), 3, "the hash differs"),
            ("first removed", |r| drop(r.remove(0)), 1, "seq is 2 where 1 was to come"),
            ("removed", |r| drop(r.remove(2)), 3, "seq is 4 where 3 was to come"),
            ("swapped", |r| r.swap(1, 2), 2, "seq is 3 where 2 was to come"),
            ("doubled", |r| r.insert(2, r[1].clone()), 3, "seq is 2 where 3 was to come"),
            ("added", |r| r.insert(2, "{}\n".into()), 3, "not a line"),
            ("an empty line", |r| r.insert(2, "\n".into()), 3, "not a line"),
            ("end cut in a line", |r| r[4].truncate(40), 5, "cut off before its end"),
            ("end cut by a byte", |r| r[4] = r[4].trim_end().to_owned(), 5, "cut off before its end"),
            ("another record's line", |r| r[2] = record(5).remove(2), 3, "prev differs"),
            ("a line hidden as torn", |r| r[2] = r[2].replace('\n', "~\n"), 3, "not a line"),
            ("something after the last", |r| r.push("# end\n".into()), 6, "not a line"),
        ];
        for (story, tamper, line, why) in cases {
            let mut lines = record(5);
            tamper(&mut lines);
            let report = verify_text(&lines.concat(), None);
            let broken = report.broken.clone().unwrap_or_else(|| panic!("{story}: not found"));
            assert_eq!((broken.line, report.exit_code()), (*line, 1), "{story}: {report}");
            assert!(broken.why.contains(why), "{story}: {}", broken.why);
        }
    }

    #[test]
    fn an_end_cut_off_is_seen_with_the_last_hash_kept_elsewhere() {
        let lines = record(5);
        let last = verify_text(&lines.concat(), None).last_hash.expect("a hash");
        let cut = lines[..3].concat();
        assert_eq!(verify_text(&cut, None).exit_code(), 0, "the file alone cannot show it");
        let report = verify_text(&cut, Some(&last));
        assert_eq!((report.expected, report.exit_code()), (Some(Expected::Missing), 1));
        assert_eq!(verify_text(&lines.concat(), Some(&last.to_uppercase())).expected, Some(Expected::IsLast));
        let third = verify_text(&cut, None).last_hash.expect("a hash");
        let report = verify_text(&lines.concat(), Some(&third));
        assert_eq!((report.expected, report.exit_code()), (Some(Expected::Since { lines: 2 }), 0));
    }

    #[test]
    fn a_torn_write_that_was_set_aside_is_told_and_does_not_break_the_chain() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("audit.jsonl");
        let mut text = record(3).concat();
        text.truncate(text.len() - 20);
        std::fs::write(&path, &text).expect("writes");
        drop(Sink::open(&path, Clock::System).expect("opens"));
        let report = verify(&path, None).expect("reads");
        assert_eq!((report.lines, report.exit_code()), (3, 0), "{report}");
        assert_eq!(report.set_aside.len(), 1);
        assert_eq!(report.set_aside[0].line, 3);

        let whole = std::fs::read_to_string(&path).expect("reads");
        let report = verify_text(&whole.replace("note 3", "note 9"), None);
        assert_eq!(report.broken.map(|broken| broken.line), Some(3), "torn bytes are guarded, too");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_and_not_a_broken_chain() {
        assert!(verify(Path::new("/nowhere/audit.jsonl"), None).is_err());
        assert_eq!(run(Path::new("/nowhere/audit.jsonl"), None), 2);
    }

    fn record(lines: usize) -> Vec<String> {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("audit.jsonl");
        let sink = Sink::open(&path, Clock::System).expect("opens");
        for n in 1..=lines {
            let note = format!("note {n}");
            sink.write(&Event { kind: Kind::Service, note: Some(&note), ..Event::default() }).expect("writes");
        }
        let text = std::fs::read_to_string(&path).expect("reads");
        text.split_inclusive('\n').map(str::to_owned).collect()
    }

    fn verify_text(text: &str, expect_last: Option<&str>) -> Report {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), text).expect("writes");
        verify(file.path(), expect_last).expect("reads")
    }

    fn swap_last_digit(line: &mut String) {
        let place = line.len() - 4;
        let digit = if line[place..].starts_with('0') { "1" } else { "0" };
        line.replace_range(place..place + 1, digit);
    }
}
