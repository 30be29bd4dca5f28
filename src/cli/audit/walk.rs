//! The walk along the chain, a line at a time, over the borders of files.
//!
//! Invariant: a line counts only if its own hash holds, it follows the one before by number and by hash, and what stands between them
//! is accounted for.

use crate::audit::written::{NO_HASH, ReadLine, TORN_END, bytes_hash, read_line};
use crate::cli::audit::{Broken, Expected, Front, Report, SetAside};
use crate::ground::limits;
use std::io::{self, BufRead, Read};
use std::path::PathBuf;

pub struct Walk<'a> {
    report: Report,
    expect_last: Option<&'a str>,
    /// Of the last whole line.
    seq: u64,
    prev: String,
    file: PathBuf,
    /// Lines of the file read so far.
    read: u64,
    /// Bytes since the last whole line that are no lines, and where they began.
    torn: Vec<u8>,
    torn_at: (PathBuf, u64),
    torn_why: String,
    /// The hash that the record's first line follows, if its beginning is not here.
    front_hash: Option<String>,
}

impl<'a> Walk<'a> {
    pub fn new(expect_last: Option<&'a str>) -> Walk<'a> {
        Walk {
            report: Report { expected: expect_last.map(|_| Expected::Missing), ..Report::default() },
            expect_last,
            seq: 0,
            prev: NO_HASH.to_owned(),
            file: PathBuf::new(),
            read: 0,
            torn: Vec::new(),
            torn_at: (PathBuf::new(), 0),
            torn_why: String::new(),
            front_hash: None,
        }
    }

    /// The lines that follow are another file's.
    pub fn enter(&mut self, file: PathBuf) {
        if self.goes_on() {
            self.report.files.push((file.clone(), 0));
            (self.file, self.read) = (file, 0);
        }
    }

    pub fn goes_on(&self) -> bool {
        self.report.broken.is_none()
    }

    pub fn step(&mut self, line: &[u8]) {
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

    pub fn finish(mut self) -> Report {
        if !self.torn.is_empty() {
            self.break_at_torn();
        }
        self.report
    }

    /// A line that is none may be torn bytes, if the next line that is one sets them aside.
    fn put_aside(&mut self, line: &[u8], why: &str) {
        if self.torn.is_empty() {
            self.torn_at = (self.file.clone(), self.read);
            self.torn_why = why.to_owned();
        }
        self.torn.extend_from_slice(line);
        if self.torn.len() > 2 * limits::AUDIT_LINE_BYTES_MAX {
            self.break_at_torn();
        }
    }

    fn close_torn(&mut self, read: ReadLine) {
        // What a file ends with when it is left is closed by nothing: the next file's first line tells of it as it is.
        let torn = match read.kind.as_str() {
            "rotated" if self.read == 1 => self.torn.as_slice(),
            "torn" => self.torn.strip_suffix(TORN_END).unwrap_or_default(),
            _ => return self.break_at_torn(),
        };
        let bytes = torn.len() as u64;
        if read.torn_bytes != Some(bytes) || read.torn_hash.as_deref() != Some(&bytes_hash(torn)) {
            return self.break_at_torn();
        }
        let (file, line) = self.torn_at.clone();
        self.report.set_aside.push(SetAside { file, line, bytes });
        self.torn.clear();
        self.follow(read);
    }

    fn follow(&mut self, read: ReadLine) {
        if self.report.lines == 0 && read.kind == "rotated" && read.seq > 1 {
            self.begin_late(&read);
        }
        if read.seq != self.seq + 1 {
            let why = self.out_of_order(&read);
            return self.break_here(why);
        }
        if read.prev != self.prev {
            return self.break_here("it does not follow the line before it (prev differs)".to_owned());
        }
        self.note_removed(&read);
        let report = &mut self.report;
        report.lines += 1;
        if let Some((_, lines)) = report.files.last_mut() {
            *lines += 1;
        }
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
        (self.seq, self.prev) = (read.seq, read.hash);
    }

    /// The record's beginning is in another file. It counts as missing until a line says that it was deleted as configured.
    fn begin_late(&mut self, first: &ReadLine) {
        self.report.front = Front::Missing { lines: first.seq - 1, file: first.file.clone() };
        self.front_hash = Some(first.prev.clone());
        (self.seq, self.prev) = (first.seq - 1, first.prev.clone());
    }

    fn note_removed(&mut self, read: &ReadLine) {
        if read.kind == "removed"
            && read.file_hash.is_some()
            && read.file_hash == self.front_hash
            && let Front::Missing { lines, .. } = self.report.front
        {
            self.report.front = Front::Removed { lines };
        }
    }

    fn out_of_order(&self, read: &ReadLine) -> String {
        let next = self.seq + 1;
        match read.kind.as_str() {
            "rotated" if self.read == 1 && read.seq > next => format!(
                "lines {next} to {} are missing: they were in {}, which is not among the files",
                read.seq - 1,
                read.file.as_deref().unwrap_or("a file whose name is not known")
            ),
            _ if self.read == 1 && read.seq == 1 => "another record begins here: verify it by itself".to_owned(),
            _ => format!("seq is {} where {next} was to come: a line is missing, added or moved", read.seq),
        }
    }

    fn break_here(&mut self, why: String) {
        let (file, line) = (self.file.clone(), self.read);
        self.report.broken.get_or_insert(Broken { file, line, why });
    }

    fn break_at_torn(&mut self) {
        let ((file, line), why) = (self.torn_at.clone(), self.torn_why.clone());
        self.report.broken.get_or_insert(Broken { file, line, why });
    }
}

/// Reads one line, its end included; a longer one than a record holds comes in pieces, which are then no lines.
pub fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    line.clear();
    reader.take(limits::AUDIT_LINE_BYTES_MAX as u64 + 1).read_until(b'\n', line)
}
