//! Which files a record is in, and in which order: by the number of each one's first line, never by name or time.
//!
//! Invariant: a file that was named is never left out, even if no line of it can be read: then the walk says so.

use crate::audit::written::{ReadLine, read_line};
use crate::cli::audit::walk::next_line;
use crate::ground::limits;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The record's files, the oldest first.
pub fn in_order(paths: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut found = Found::default();
    for path in paths {
        if fs::metadata(path).map_err(|error| about(path, error))?.is_dir() {
            found.add_directory(path)?;
        } else {
            found.add(path)?;
        }
    }
    found.sort();
    while found.add_what_comes_before()? {}
    Ok(found.files.into_iter().map(|file| file.path).collect())
}

/// An error with the file it is about.
pub fn about(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[derive(Default)]
struct Found {
    files: Vec<Start>,
    /// A file may have two names while it is rotated.
    seen: BTreeSet<(u64, u64)>,
}

struct Start {
    path: PathBuf,
    /// Its first line that is one.
    first: Option<ReadLine>,
}

impl Found {
    fn add(&mut self, path: &Path) -> io::Result<()> {
        let data = fs::metadata(path).map_err(|error| about(path, error))?;
        if self.seen.insert((data.dev(), data.ino())) {
            let first = first_line(path).map_err(|error| about(path, error))?;
            self.files.push(Start { path: path.to_owned(), first });
        }
        Ok(())
    }

    /// What begins like a record; other files may stand there too.
    fn add_directory(&mut self, directory: &Path) -> io::Result<()> {
        for entry in fs::read_dir(directory).map_err(|error| about(directory, error))? {
            let path = entry.map_err(|error| about(directory, error))?.path();
            let is_draft = path.extension().is_some_and(|extension| extension == "next");
            if is_draft || !fs::metadata(&path).is_ok_and(|data| data.is_file()) {
                continue;
            }
            if first_line(&path).map_err(|error| about(&path, error))?.is_some() {
                self.add(&path)?;
            }
        }
        Ok(())
    }

    fn sort(&mut self) {
        self.files.sort_by_key(|file| file.first.as_ref().map(|line| line.seq));
    }

    /// The file that the first one carries on, if it stands beside it.
    fn add_what_comes_before(&mut self) -> io::Result<bool> {
        let Some(Start { path, first: Some(first) }) = self.files.first() else { return Ok(false) };
        let named = first.file.as_deref().filter(|name| first.kind == "rotated" && !name.contains('/'));
        let Some(before) = named.map(|name| path.with_file_name(name)) else { return Ok(false) };
        let seq = first.seq;
        // Another tool may have given the name to another file since.
        match first_line(&before) {
            Ok(Some(line)) if line.seq < seq => {}
            _ => return Ok(false),
        }
        let count = self.files.len();
        self.add(&before)?;
        self.sort();
        Ok(self.files.len() > count)
    }
}

/// The first line that is one; torn bytes may stand before it.
fn first_line(path: &Path) -> io::Result<Option<ReadLine>> {
    let mut reader = BufReader::new(File::open(path)?);
    let (mut line, mut read) = (Vec::new(), 0);
    while read <= 2 * limits::AUDIT_LINE_BYTES_MAX {
        match next_line(&mut reader, &mut line)? {
            0 => break,
            bytes => read += bytes,
        }
        if let Ok(found) = read_line(line.strip_suffix(b"\n").unwrap_or(&line)) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
