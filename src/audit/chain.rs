//! Where the record's chain of hashes stands, and how a line is added to it.
//!
//! Invariants: a line is in the file whole, or not at all as far as the next line is concerned; every line carries on from the one
//! before, over files too. What a crash or a full disk left half written is set aside by a `torn` line, which says how much it was
//! and hashes it. A last line that is whole but does not hold is somebody's work: then the chain is not carried on at all.

use crate::audit::event::{Event, Kind, TornTail};
use crate::audit::sink::RecordFailed;
use crate::audit::written::{self, NO_HASH, ReadLine};
use crate::ground::clock::Clock;
use crate::ground::limits;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};

/// Where the chain stands.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Of the last whole line; 0 before the first.
    pub seq: u64,
    /// The hash of the last whole line.
    pub prev: String,
    /// The file's length after the last whole line.
    pub end: u64,
    /// What stands in the file after `end`: the half of a line that could not be taken back.
    pub torn: Vec<u8>,
    /// Of the last whole line, in UTC.
    pub day: Option<Date>,
    /// Reused for every line.
    line: Vec<u8>,
}

/// What the chain needs of a file; a test's may fail when it likes.
pub trait Disk: Write {
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
    pub fn at_start() -> Chain {
        Chain { seq: 0, prev: NO_HASH.to_owned(), end: 0, torn: Vec::new(), day: None, line: Vec::new() }
    }

    /// Reads the end of the file: where the chain stands, and what is torn. The inner error says what does not hold.
    pub fn carry_on(mut file: &File) -> io::Result<Result<Chain, String>> {
        let length = file.seek(SeekFrom::End(0))?;
        let from = length.saturating_sub(2 * limits::AUDIT_LINE_BYTES_MAX as u64);
        file.seek(SeekFrom::Start(from))?;
        let mut tail = Vec::new();
        file.take(2 * limits::AUDIT_LINE_BYTES_MAX as u64).read_to_end(&mut tail)?;
        Ok(last_whole(&tail, from == 0).map(|(last, whole)| Chain {
            seq: last.as_ref().map_or(0, |line| line.seq),
            day: last.as_ref().and_then(|line| line.time.parse().ok()).map(day),
            prev: last.map_or_else(|| NO_HASH.to_owned(), |line| line.hash),
            end: from + whole as u64,
            torn: tail.split_off(whole),
            line: Vec::new(),
        }))
    }

    pub fn append(&mut self, disk: &mut impl Disk, event: &Event<'_>, clock: &Clock) -> Result<u64, RecordFailed> {
        self.set_torn_aside(disk, clock)?;
        self.append_line(disk, event, clock)
    }

    pub fn set_torn_aside(&mut self, disk: &mut impl Disk, clock: &Clock) -> Result<(), RecordFailed> {
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

    /// The first line of another file, and the chain as it stands behind it. This one stays as it is: the file may not come to be.
    pub fn in_another_file(&self, event: &Event<'_>, clock: &Clock) -> Result<(Vec<u8>, Chain), RecordFailed> {
        let mut chain = Chain { end: 0, torn: Vec::new(), ..self.clone() };
        let mut content = Content(Vec::new());
        chain.append_line(&mut content, event, clock)?;
        Ok((content.0, chain))
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
        let now = clock.now();
        let hash = written::write_line(&mut line, event, seq, now, &self.prev)
            .map_err(|error| RecordFailed(error.to_string()))?;
        if line.len() > limits::AUDIT_LINE_BYTES_MAX {
            return Err(RecordFailed("the line is longer than a line may be".to_owned()));
        }
        line.splice(..0, before.iter().copied());
        let written = self.write_whole(disk, &line);
        self.line = line;
        written?;
        (self.seq, self.prev, self.day) = (seq, hash, Some(day(now)));
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

/// The days that files are for are UTC's, as the times in them are.
pub fn day(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

/// A file that is still to be written.
struct Content(Vec<u8>);

impl Write for Content {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for Content {
    fn take_back(&mut self, _: u64, _: u64) -> bool {
        false
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
pub fn line_end_before(tail: &[u8], end: usize) -> usize {
    memchr::memrchr(b'\n', &tail[..end]).map_or(0, |place| place + 1)
}
