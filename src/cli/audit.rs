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
                writeln!(
                    f,
                    "the chain is broken at line {}: {}",
                    broken.line, broken.why
                )?;
                writeln!(
                    f,
                    "{} lines before it hold; nothing after it was looked at",
                    self.lines
                )?;
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
            Some(Expected::Since { lines }) => {
                writeln!(f, "the expected line is there, with {lines} lines after it")?
            }
            Some(Expected::Missing) => writeln!(
                f,
                "the expected line is missing: the end was cut off, or this is another record"
            )?,
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
            report: Report {
                expected: expect_last.map(|_| Expected::Missing),
                ..Report::default()
            },
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
        self.report.set_aside.push(SetAside {
            line: self.torn_line,
            bytes: torn.len() as u64,
        });
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
            return self
                .break_here("it does not follow the line before it (prev differs)".to_owned());
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
            (Some(Expected::Since { lines }), _) => {
                report.expected = Some(Expected::Since { lines: lines + 1 })
            }
            _ => {}
        }
        report.last_hash = Some(read.hash.clone());
        self.prev = read.hash;
    }

    fn break_here(&mut self, why: String) {
        self.report.broken.get_or_insert(Broken {
            line: self.read,
            why,
        });
    }

    fn break_at_torn(&mut self) {
        let why = self.torn_why.clone();
        self.report.broken.get_or_insert(Broken {
            line: self.torn_line,
            why,
        });
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
    reader
        .take(limits::AUDIT_LINE_BYTES_MAX as u64 + 1)
        .read_until(b'\n', line)
}
