//! The corpus's text format: sessions as they stand in `tests/corpus/mysql/`, described for writers in `tests/corpus/README.md`.
//!
//! Invariant: a line that is not understood stops the run with its file and line; nothing is skipped in silence.

use crate::harness::mysql::packet::{self, body, command, query};
use crate::harness::mysql::server::Product;
use std::fs;
use std::path::{Path, PathBuf};

/// A destructive session.
pub struct Case {
    pub name: String,
    pub only: Option<Product>,
    pub is_root: bool,
    /// Straight to the server, before anything is measured.
    pub setup: Vec<String>,
    pub steps: Vec<Step>,
}

#[derive(Debug)]
pub enum Step {
    /// A command and what it is, for people.
    Send(Vec<u8>, String),
    /// One statement prepared and run with these values.
    Prepared(String, Vec<String>),
    /// What the next LOCAL INFILE is answered with.
    File(Vec<u8>),
    /// A new connection.
    Connect,
}

/// A step of an everyday session, and the only product it is for.
pub struct Everyday {
    pub only: Option<Product>,
    pub step: Step,
}

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/mysql")
}

/// All cases of `destructive/`. `name> statement` is a case by itself (`name@mariadb@root> …`); `== name` begins one of several lines.
pub fn destructive() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (place, line) in lines("destructive") {
        if let Some(name) = line.strip_prefix("== ") {
            cases.push(Case::new(name));
        } else if let Some((name, flags, statement)) = one_line(&line) {
            let mut case = Case::new(name);
            flags.for_each(|flag| case.take(&format!("@{flag}"), &place));
            case.steps.push(send(statement));
            cases.push(case);
            // What follows begins another.
            cases.push(Case::new(""));
        } else {
            let case = cases.last_mut().unwrap_or_else(|| panic!("{place}: before the first case"));
            assert!(!case.name.is_empty(), "{place}: a line of no case: {line}");
            case.take(&line, &place);
        }
    }
    cases.retain(|case| !case.name.is_empty());
    let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None, "two cases of one name");
    cases
}

/// The files of `everyday/`, each a session.
pub fn everyday() -> Vec<(String, Vec<Everyday>)> {
    let mut files: Vec<(String, Vec<Everyday>)> = Vec::new();
    let mut only = None;
    let mut prepared = None;
    for (place, line) in lines("everyday") {
        let file = place.split(':').next().expect("a name").to_owned();
        if files.last().is_none_or(|(name, _)| *name != file) {
            files.push((file, Vec::new()));
        }
        match line.as_str() {
            "@mariadb" => only = Some(Product::MariaDb),
            "@mysql" => only = Some(Product::MySql),
            _ if line.starts_with("@prepared") => prepared = Some(values(&line)),
            _ => {
                let step = match prepared.take() {
                    Some(values) => Step::Prepared(line, values),
                    None => step(&line, &place),
                };
                files.last_mut().expect("just pushed").1.push(Everyday { only: only.take(), step });
            }
        }
    }
    files
}

/// The names that a list has for this product: alone on their line, or with the product's name behind them.
pub fn known(list: &str, product: Product) -> Vec<String> {
    let text = fs::read_to_string(folder().join(list)).expect("the list stands beside the cases");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let of_this = |line: &str| match line.split_once(" | ") {
        None => Some(line.to_owned()),
        Some((name, only)) => (only == product.name()).then(|| name.to_owned()),
    };
    lines.filter_map(of_this).collect()
}

impl Case {
    fn new(name: &str) -> Case {
        let name = name.split_once(": ").map_or(name, |(name, _)| name).to_owned();
        Case { name, only: None, is_root: false, setup: Vec::new(), steps: Vec::new() }
    }

    fn take(&mut self, line: &str, place: &str) {
        match line {
            "@root" => self.is_root = true,
            "@mariadb" => self.only = Some(Product::MariaDb),
            "@mysql" => self.only = Some(Product::MySql),
            _ if line.starts_with("@setup ") => self.setup.push(line["@setup ".len()..].to_owned()),
            _ if line.starts_with("@prepared") => {
                let (head, statement) =
                    line.split_once("> ").unwrap_or_else(|| panic!("{place}: @prepared a|b> statement"));
                self.steps.push(Step::Prepared(statement.to_owned(), values(head)));
            }
            _ => self.steps.push(step(line, place)),
        }
    }
}

impl Product {
    pub fn name(self) -> &'static str {
        match self {
            Product::MariaDb => "mariadb",
            Product::MySql => "mysql",
        }
    }
}

/// `name> statement`, `name@mariadb@root> statement`.
fn one_line(line: &str) -> Option<(&str, std::str::Split<'_, char>, &str)> {
    let (head, statement) = line.split_once("> ")?;
    let mut flags = head.split('@');
    let name = flags.next().filter(|name| is_name(name))?;
    Some((name, flags, statement))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn values(line: &str) -> Vec<String> {
    let values = line["@prepared".len()..].trim();
    values.split('|').filter(|value| !value.is_empty()).map(str::to_owned).collect()
}

fn send(statement: &str) -> Step {
    Step::Send(query(statement), statement.to_owned())
}

fn step(line: &str, place: &str) -> Step {
    let Some(directive) = line.strip_prefix('@') else { return send(line) };
    let (word, rest) = directive.split_once(' ').unwrap_or((directive, ""));
    let command = |number: u8, rest: &[u8]| Step::Send(body(number, rest), line.to_owned());
    match word {
        "connect" => Step::Connect,
        "file" => Step::File(unescape(rest, place)),
        "bytes" => Step::Send(body(command::QUERY, &unescape(rest, place)), rest.to_owned()),
        "ping" => command(command::PING, &[]),
        "reset" => command(command::RESET_CONNECTION, &[]),
        "database" => command(command::INIT_DB, rest.as_bytes()),
        "fields" => command(command::FIELD_LIST, &packet::nul_terminated(rest)),
        "option" => command(command::SET_OPTION, &[u8::from(rest == "off"), 0]),
        // `@`name: a statement that begins with a variable is none; so this is a word misspelt.
        other => panic!("{place}: no directive is called @{other}"),
    }
}

/// Without comments and empty lines; a line that ends with a backslash goes on in the next.
fn lines(kind: &str) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder().join(kind)).expect("the corpus stands beside the tests");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_stem().expect("a file's name").to_string_lossy().into_owned();
        let mut held = String::new();
        for (number, line) in text.lines().enumerate() {
            if held.is_empty() && (line.trim().is_empty() || line.starts_with("# ") || line == "#") {
                continue;
            }
            held.push_str(line);
            if held.ends_with(" \\") {
                held.truncate(held.len() - 1);
                held.push('\n');
                continue;
            }
            all.push((format!("{name}:{}", number + 1), std::mem::take(&mut held)));
        }
    }
    all
}

/// `\xHH`, `\n`, `\t` and `\\`.
fn unescape(text: &str, place: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (byte, taken) = match rest.first() {
            Some(b'x') => {
                let digits = rest.get(1..3).and_then(|digits| std::str::from_utf8(digits).ok());
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                (byte.unwrap_or_else(|| panic!("{place}: \\x wants two digits")), 3)
            }
            Some(b'n') => (b'\n', 1),
            Some(b't') => (b'\t', 1),
            Some(b'\\') => (b'\\', 1),
            _ => panic!("{place}: a backslash stands before x, n, t or a backslash"),
        };
        bytes.push(byte);
        rest = &rest[taken..];
    }
    bytes
}
