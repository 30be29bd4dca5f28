//! `sluice audit verify FILE…`: walks a record's chain over all its files and says whether it is whole.
//!
//! Invariant: only reads. What it can show: an edited, removed, added or swapped line, lines cut off at the front, a file that is
//! missing. What it cannot show by the files alone: lines cut off at the end, and a record rewritten from some line on with all hashes
//! made anew. For those, keep the last hash elsewhere and give it back with `--expect-last`.

mod files;
mod walk;

use crate::cli::audit::walk::Walk;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::PathBuf;

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
    /// The files in their order, each with its whole lines.
    pub files: Vec<(PathBuf, u64)>,
    /// Torn writes that were set aside properly, with the line of the file they begin on and their length.
    pub set_aside: Vec<SetAside>,
    pub front: Front,
    pub broken: Option<Broken>,
    /// `--expect-last` was given, and what came of it.
    pub expected: Option<Expected>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    pub file: PathBuf,
    pub line: u64,
    pub bytes: u64,
}

/// The first line that does not hold, counted in lines of the file from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub file: PathBuf,
    pub line: u64,
    pub why: String,
}

/// What comes before the first line there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Front {
    /// Nothing: the record begins here.
    #[default]
    Whole,
    /// Older files, deleted as configured: a later line says so.
    Removed { lines: u64 },
    /// A file that is not here.
    Missing { lines: u64, file: Option<String> },
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
        let front = !matches!(self.front, Front::Missing { .. });
        self.broken.is_none() && front && self.expected != Some(Expected::Missing)
    }

    /// 0 whole, 1 not.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.whole())
    }
}

/// The command: prints what was found. Its exit code is 0 for a whole chain, 1 for a broken one, 2 for a file that cannot be read.
pub fn run(paths: &[PathBuf], expect_last: Option<&str>) -> u8 {
    match verify(paths, expect_last) {
        Ok(report) => {
            match writeln!(io::stdout().lock(), "{report}") {
                // Whoever reads it has seen enough.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    eprintln!("sluice: what was found cannot be written: {error}");
                    2
                }
                _ => report.exit_code(),
            }
        }
        Err(error) => {
            eprintln!("sluice: {error}");
            2
        }
    }
}

/// Walks each file once, a line at a time. Paths are files, or directories with a record's files in them; a file that carries
/// another on brings that one along, if it stands beside it under the name it then had.
pub fn verify(paths: &[PathBuf], expect_last: Option<&str>) -> io::Result<Report> {
    let mut walk = Walk::new(expect_last);
    for path in files::in_order(paths)? {
        let mut reader = BufReader::new(File::open(&path).map_err(|error| files::about(&path, error))?);
        walk.enter(path.clone());
        let mut line = Vec::new();
        while walk.goes_on() && walk::next_line(&mut reader, &mut line).map_err(|error| files::about(&path, error))? > 0
        {
            walk.step(&line);
        }
    }
    Ok(walk.finish())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.broken, &self.front) {
            (Some(broken), _) => {
                writeln!(
                    f,
                    "the chain is broken at line {} of {}: {}",
                    broken.line,
                    broken.file.display(),
                    broken.why
                )?;
                writeln!(f, "{} lines before it hold; nothing after it was looked at", self.lines)?;
            }
            (None, Front::Missing { .. }) => writeln!(f, "the chain is not whole: {} lines hold", self.lines)?,
            (None, _) if self.expected == Some(Expected::Missing) => writeln!(
                f,
                "the chain is not whole: {} lines hold, and the expected last line is not among them",
                self.lines
            )?,
            (None, _) => writeln!(f, "the chain is whole: {} lines", self.lines)?,
        }
        match &self.front {
            Front::Whole => {}
            Front::Removed { lines } => writeln!(
                f,
                "the {lines} lines before them were in files that were deleted as configured, and recorded as such"
            )?,
            Front::Missing { lines, file } => {
                let file = file.as_deref().unwrap_or("a file whose name is not known");
                writeln!(
                    f,
                    "the {lines} lines before them are missing: they were in {file}; give that file too, or its directory"
                )?
            }
        }
        if self.files.len() > 1 {
            for (file, lines) in &self.files {
                writeln!(f, "  {}: {lines} lines", file.display())?;
            }
        }
        if let (Some(first), Some(last)) = (&self.first_time, &self.last_time) {
            writeln!(f, "from {first} to {last}")?;
        }
        for (kind, count) in &self.kinds {
            writeln!(f, "  {kind:<10} {count}")?;
        }
        for torn in &self.set_aside {
            let (file, line, bytes) = (torn.file.display(), torn.line, torn.bytes);
            writeln!(f, "{file} line {line}: {bytes} bytes of a write that did not complete, set aside and recorded")?;
        }
        self.tell_expected(f)
    }
}

impl Report {
    fn tell_expected(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        assert!(report.to_string().starts_with("the chain is not whole: 3 lines hold"), "{report}");
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
        let report = verify(std::slice::from_ref(&path), None).expect("reads");
        assert_eq!((report.lines, report.exit_code()), (3, 0), "{report}");
        assert_eq!(report.set_aside.len(), 1);
        assert_eq!(report.set_aside[0].line, 3);

        let whole = std::fs::read_to_string(&path).expect("reads");
        let report = verify_text(&whole.replace("note 3", "note 9"), None);
        assert_eq!(report.broken.map(|broken| broken.line), Some(3), "torn bytes are guarded, too");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_and_not_a_broken_chain() {
        assert!(verify(&["/nowhere/audit.jsonl".into()], None).is_err());
        assert_eq!(run(&["/nowhere/audit.jsonl".into()], None), 2);
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
        verify(&[file.path().to_owned()], expect_last).expect("reads")
    }

    fn swap_last_digit(line: &mut String) {
        let place = line.len() - 4;
        let digit = if line[place..].starts_with('0') { "1" } else { "0" };
        line.replace_range(place..place + 1, digit);
    }
}
