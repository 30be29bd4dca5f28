//! The corpus's text format: cases as they stand in `tests/corpus/`, described for writers in `tests/corpus/README.md`.
//!
//! Invariant: a line that is not understood stops the run with its file and line; nothing is skipped in silence, so a case that
//! is written down is a case that is run.

use crate::harness::message::{self, query};
use std::fs;
use std::path::{Path, PathBuf};

/// One file: cases that share a template database.
pub struct File {
    pub name: String,
    /// SQL that makes the file's template from the common one; empty when the common one will do.
    pub base: String,
    pub cases: Vec<Case>,
}

pub struct Case {
    pub name: String,
    /// What it destroys, or what is tricky about it: for people.
    pub about: String,
    /// Who the session logs in as, and who runs the setup.
    pub user: Option<String>,
    pub versions: Versions,
    /// Messages sent straight to the server before anything is measured.
    pub setup: Vec<String>,
    pub steps: Vec<Step>,
}

/// The server versions that a case is for.
#[derive(Clone, Copy)]
pub struct Versions {
    pub from: u32,
    pub until: u32,
}

#[derive(Debug)]
pub enum Step {
    /// A Query message.
    Simple { text: Vec<u8>, times: usize },
    /// One statement through the unnamed prepared statement, with values in text form.
    Extended { text: String, values: Vec<String> },
    /// Messages by hand.
    Wire(Vec<Action>),
    /// Another connection, with parameters of the startup packet; the one before is closed.
    Connect(Vec<(String, String)>),
    /// Go on with the connection of this name; made when it is first named.
    Session(String),
    /// Straight on the server, in both runs: what somebody else does meanwhile.
    Straight(String),
    /// psql, with this on its standard input.
    Psql { arguments: Vec<String>, script: String },
    /// Another of the server's programs (`pg_dump -Fc`); each line of its block is one run.
    Tool(Vec<Vec<String>>),
    /// A script of `tests/corpus/scripts/`, run by the tests' Python.
    Python(String),
}

#[derive(Debug)]
pub enum Action {
    Send(Vec<u8>),
    /// Send what is gathered, and read up to this message (or an error, or the end).
    Await(u8),
}

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// All files of `destructive` or `everyday`, in the order of their names.
pub fn read(kind: &str) -> Vec<File> {
    let entries = fs::read_dir(folder().join(kind)).expect("the corpus stands beside the tests");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    let files: Vec<File> = paths.iter().map(|path| parse(path)).collect();
    assert_names_are_unique(&files);
    files
}

fn assert_names_are_unique(files: &[File]) {
    let mut names: Vec<&str> = files.iter().flat_map(|file| &file.cases).map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None, "two cases of one name");
}

/// A block: its directive, what stands beside it on the line, and the lines below it.
struct Block {
    directive: String,
    argument: String,
    lines: Vec<String>,
    place: String,
}

fn parse(path: &Path) -> File {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let name = path.file_stem().expect("a file's name").to_string_lossy().into_owned();
    let mut file = File { name: name.clone(), base: String::new(), cases: Vec::new() };
    let mut blocks: Vec<Block> = Vec::new();
    let mut header: Option<String> = None;
    for (number, line) in text.lines().enumerate() {
        let place = format!("{name}:{}", number + 1);
        if line.starts_with("# ") || line == "#" {
            continue;
        }
        if let Some(next) = line.strip_prefix("== ") {
            finish(&mut file, header.replace(next.to_owned()), std::mem::take(&mut blocks));
        } else if let Some(directive) = line.strip_prefix('@') {
            let (directive, argument) = directive.split_once(' ').unwrap_or((directive, ""));
            let (directive, argument) = (directive.to_owned(), argument.trim().to_owned());
            blocks.push(Block { directive, argument, lines: Vec::new(), place });
        } else if let Some(block) = blocks.last_mut().filter(|block| takes_lines(&block.directive)) {
            block.lines.push(line.to_owned());
        } else if !line.trim().is_empty() {
            let (directive, argument) = ("send".to_owned(), String::new());
            blocks.push(Block { directive, argument, lines: vec![line.to_owned()], place });
        }
    }
    finish(&mut file, header, blocks);
    file
}

fn takes_lines(directive: &str) -> bool {
    !["as", "from", "until", "session", "python"].contains(&directive)
}

fn finish(file: &mut File, header: Option<String>, blocks: Vec<Block>) {
    let Some(header) = header else {
        for block in blocks {
            assert_eq!(block.directive, "base", "{}: only @base stands before the first case", block.place);
            file.base.push_str(&block.text());
        }
        return;
    };
    let (name, about) = header.split_once(": ").unwrap_or((&header, ""));
    let versions = Versions { from: 0, until: u32::MAX };
    let (name, about) = (name.to_owned(), about.to_owned());
    let mut case = Case { name, about, user: None, versions, setup: Vec::new(), steps: Vec::new() };
    for block in blocks {
        case.take(block);
    }
    assert!(!case.steps.is_empty(), "{}: {} does nothing", file.name, case.name);
    file.cases.push(case);
}

impl Block {
    fn text(&self) -> String {
        self.lines.join("\n").trim_end().to_owned()
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str).filter(|line| !line.trim().is_empty())
    }

    fn number<N: std::str::FromStr>(&self) -> N {
        self.argument.parse().unwrap_or_else(|_| panic!("{}: not a number", self.place))
    }
}

impl Case {
    fn take(&mut self, block: Block) {
        match block.directive.as_str() {
            "as" => self.user = Some(block.argument),
            "from" => self.versions.from = block.number(),
            "until" => self.versions.until = block.number(),
            "setup" => self.setup.push(block.text()),
            "setup-each" => self.setup.extend(block.lines().map(str::to_owned)),
            "send" => self.steps.push(Step::Simple { text: block.text().into_bytes(), times: 1 }),
            "repeat" => self.steps.push(Step::Simple { text: block.text().into_bytes(), times: block.number() }),
            "bytes" => self.steps.push(Step::Simple { text: unescape(&block.text(), &block.place), times: 1 }),
            "each" => {
                let messages = block.lines().map(|line| Step::Simple { text: line.as_bytes().to_vec(), times: 1 });
                self.steps.extend(messages);
            }
            "extended" => {
                let values = block.argument.split('|').filter(|value| !value.is_empty()).map(str::to_owned).collect();
                self.steps.push(Step::Extended { text: block.text(), values });
            }
            "wire" => {
                let actions = block.lines().map(|line| action(line, &block.place)).collect();
                self.steps.push(Step::Wire(actions));
            }
            "connect" => {
                let pairs = block.lines().map(|line| line.split_once('=').expect("name=value"));
                let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                self.steps.push(Step::Connect(pairs));
            }
            "session" => self.steps.push(Step::Session(block.argument)),
            "straight" => self.steps.push(Step::Straight(block.text())),
            "psql" => {
                let (arguments, script) = (Block::words(&block.argument), block.text() + "\n");
                self.steps.push(Step::Psql { arguments, script });
            }
            "tool" => self.steps.push(Step::Tool(block.lines().map(Block::words).collect())),
            "python" => self.steps.push(Step::Python(block.argument)),
            other => panic!("{}: no directive is called @{other}", block.place),
        }
    }
}

/// One line of a `@wire` block. `-` stands for the unnamed statement or portal.
fn action(line: &str, place: &str) -> Action {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut parts = rest.splitn(2, ' ');
    let name = |text: Option<&str>| match text.unwrap_or("-") {
        "-" => String::new(),
        name => name.to_owned(),
    };
    let bytes = match word {
        "query" => query(rest),
        "parse" => message::parse(&name(parts.next()), parts.next().unwrap_or_default(), &[]),
        "bind" => {
            let portal = name(parts.next());
            let mut rest = parts.next().unwrap_or("-").splitn(2, ' ');
            let statement = name(rest.next());
            let values = rest.next().unwrap_or_default();
            let values: Vec<_> =
                values.split('|').filter(|value| !value.is_empty()).map(|value| Some(value.as_bytes())).collect();
            message::bind(&portal, &statement, 0, &values)
        }
        "execute" => {
            let portal = name(parts.next());
            message::execute(&portal, parts.next().map_or(0, |limit| limit.parse().expect("a limit")))
        }
        "describe-statement" => message::describe(b'S', &name(Some(rest))),
        "describe-portal" => message::describe(b'P', &name(Some(rest))),
        "close-statement" => message::close(b'S', &name(Some(rest))),
        "close-portal" => message::close(b'P', &name(Some(rest))),
        "sync" => message::sync(),
        "flush" => message::flush(),
        "copy-data" => message::copy_data(&unescape(rest, place)),
        "copy-done" => message::copy_done(),
        "copy-fail" => message::copy_fail(rest),
        "message" => {
            let (tag, body) = rest.split_once(' ').unwrap_or((rest, ""));
            message::message(tag.as_bytes()[0], &unescape(body, place))
        }
        "await" => return Action::Await(rest.as_bytes()[0]),
        other => panic!("{place}: no message is called {other}"),
    };
    Action::Send(bytes)
}

/// `\xHH`, `\n` and `\\`.
fn unescape(text: &str, place: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        match rest.first() {
            Some(b'x') => {
                let digits = rest.get(1..3).and_then(|digits| std::str::from_utf8(digits).ok());
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                bytes.push(byte.unwrap_or_else(|| panic!("{place}: \\x wants two digits")));
                rest = &rest[3..];
            }
            Some(b'n') => {
                bytes.push(b'\n');
                rest = &rest[1..];
            }
            Some(b'\\') => {
                bytes.push(b'\\');
                rest = &rest[1..];
            }
            _ => panic!("{place}: a backslash stands before x, n or a backslash"),
        }
    }
    bytes
}
