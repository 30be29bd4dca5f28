//! Keeps the house as it is drawn: what a reader is promised of the layout is read from the sources and compared.
//!
//! Invariant: every check here has a bad sample beside it on which it complains, so a check that has gone blind fails too.
//! The scanner is deliberately simple: it blanks comments and literals and then looks at words. It need not understand Rust,
//! because what it looks for (`crate::room`, `super::super`, `pub use`, `unsafe`) cannot be spelled in another way that
//! `cargo fmt` would leave alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

// ---------------------------------------------------------------- the checks

#[test]
fn a_room_imports_only_from_floors_beneath_its_own() {
    let house = House::read();
    assert!(house.floors.len() > 8, "lib.rs names its rooms under `// Floor N:` comments");
    assert_clean(house.sources.iter().flat_map(|source| upward_imports(source, &house.floors)));
}

#[test]
fn a_bad_import_is_seen() {
    let floors = floors_of(
        "// Floor 0: a\npub mod ground;\n// Floor 1: b\npub mod protocol;\npub mod sql;\n// Floor 2: c\npub mod policy;\n",
    );
    let complaints = |path: &str, text: &str| upward_imports(&Source::new(path, text), &floors).len();
    assert_eq!(complaints("src/sql/facts.rs", "use crate::policy::finding::Level;"), 1, "upward");
    assert_eq!(complaints("src/sql/facts.rs", "use crate::protocol::frame::Frame;"), 1, "sideways");
    assert_eq!(complaints("src/sql/facts.rs", "use crate::{ground::ids, policy::finding};"), 1, "in a group");
    assert_eq!(complaints("src/sql/facts.rs", "fn f() -> crate::policy::verdict::Verdict {}"), 1, "without use");
    assert_eq!(complaints("src/sql/mod.rs", "use super::policy::verdict;"), 1, "by way of super");
    assert_eq!(complaints("src/sql/facts.rs", "use crate::attic::box_of_things;"), 1, "a room nobody drew");
    assert_eq!(complaints("src/policy/mod.rs", "use crate::sql::facts::Facts; use crate::policy::finding;"), 0);
    assert_eq!(complaints("src/sql/facts.rs", "// use crate::policy\nconst A: &str = \"crate::policy\";"), 0);
}

#[test]
fn nothing_reaches_two_floors_up_by_super() {
    assert_clean(House::read().sources.iter().flat_map(grandparents));
}

#[test]
fn a_grandparent_is_seen() {
    assert_eq!(grandparents(&Source::new("src/a/b.rs", "use super::super::c;")).len(), 1);
    assert_eq!(grandparents(&Source::new("src/a/b.rs", "use super :: super::c;")).len(), 1);
    assert_eq!(grandparents(&Source::new("src/a/b.rs", "use super::c; // super::super")).len(), 0);
}

#[test]
fn no_room_hands_on_what_belongs_to_another() {
    assert_clean(House::read().sources.iter().flat_map(foreign_reexports));
}

#[test]
fn a_foreign_reexport_is_seen() {
    let complaints = |text: &str| foreign_reexports(&Source::new("src/policy/mod.rs", text)).len();
    assert_eq!(complaints("pub use crate::sql::facts::Facts;"), 1);
    assert_eq!(complaints("pub(crate) use crate::sql::facts::Facts;"), 1);
    assert_eq!(complaints("pub use super::sql::facts::Facts;"), 1);
    assert_eq!(complaints("mod a;\npub use crate::sql::{\n    facts,\n    statement,\n};"), 1, "over several lines");
    assert_eq!(complaints("pub use sqlparser::ast::Statement;"), 1, "a library is another's room, too");
    assert_eq!(complaints("pub use finding::Level;\npub mod finding;"), 0);
    assert_eq!(complaints("pub use self::finding::Level; pub use crate::policy::finding::Finding;"), 0);
}

#[test]
fn every_file_opens_with_why_it_exists() {
    assert_clean(House::read().sources.iter().flat_map(missing_opening));
}

#[test]
fn a_file_without_an_opening_is_seen() {
    assert_eq!(missing_opening(&Source::new("src/a.rs", "use b;\n//! Late.")).len(), 1);
    assert_eq!(missing_opening(&Source::new("src/a.rs", "//!\n")).len(), 1, "an empty opening says nothing");
    assert_eq!(missing_opening(&Source::new("src/a.rs", "//! To come.\n")).len(), 1, "a placeholder says nothing");
    assert_eq!(missing_opening(&Source::new("src/a.rs", "//! Why it exists.\nuse b;")).len(), 0);
}

#[test]
fn a_rule_is_a_pair_of_files_and_two_lines() {
    let house = House::read();
    let folder = root().join("src/policy/rules");
    let names = fs::read_dir(&folder)
        .expect("src/policy/rules exists")
        .map(|entry| entry.expect("a readable folder").file_name().into_string().expect("file names are text"));
    let list =
        house.sources.iter().find(|source| source.path == "src/policy/rules/mod.rs").expect("the list of rules exists");
    let files: BTreeSet<String> = names.collect();
    assert!(files.len() > 20, "the rules stand in {}", folder.display());
    assert_clean(incomplete_rules(&files, &list.code));
}

#[test]
fn an_incomplete_rule_is_seen() {
    let complaints =
        |files: &[&str], list: &str| incomplete_rules(&files.iter().map(|file| file.to_string()).collect(), list).len();
    let listed = "mod truncate;\nstatic ALL: &[&dyn Rule] = &[&truncate::Truncate];";
    assert_eq!(complaints(&["mod.rs", "truncate.rs", "truncate.md"], listed), 0);
    assert_eq!(complaints(&["mod.rs", "truncate.rs"], listed), 1, "no page");
    assert_eq!(complaints(&["mod.rs", "truncate.md"], ""), 1, "a page without its rule");
    assert_eq!(complaints(&["mod.rs", "truncate.rs", "truncate.md"], "mod truncate;"), 1, "declared, not listed");
    assert_eq!(complaints(&["mod.rs", "truncate.rs", "truncate.md"], "&truncate::Truncate"), 1, "listed, not declared");
}

#[test]
fn only_some_rooms_know_the_databases_by_name() {
    assert_clean(House::read().sources.iter().flat_map(product_names));
}

#[test]
fn a_product_name_in_the_wrong_room_is_seen() {
    let complaints = |path: &str, text: &str| product_names(&Source::new(path, text)).len();
    assert_eq!(complaints("src/policy/verdict.rs", "use crate::protocol::postgres::frame;"), 1);
    assert_eq!(complaints("src/change/preview.rs", "if protocol == Protocol::MySql {}"), 1);
    assert_eq!(complaints("src/protocol/postgres/frame.rs", "pub struct PostgresFrame;"), 0);
    assert_eq!(complaints("src/policy/verdict.rs", "// as PostgreSQL does\n"), 0, "comments may explain");
    assert_eq!(
        complaints("src/policy/verdict.rs", "const A: &str = \"on PostgreSQL, use COPY\";"),
        0,
        "and texts advise"
    );
}

#[test]
fn nothing_is_unsafe() {
    assert_clean(House::read().sources.iter().flat_map(unsafe_code));
}

#[test]
fn unsafe_code_is_seen() {
    assert_eq!(unsafe_code(&Source::new("src/a.rs", "fn f() { unsafe { g() } }")).len(), 1);
    assert_eq!(
        unsafe_code(&Source::new("src/a.rs", "#![forbid(unsafe_code)] // unsafe\nconst A: &str = \"unsafe\";")).len(),
        0
    );
}

#[test]
fn the_scanner_sees_code_and_nothing_else() {
    let blanked = |text: &str| blank(text).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(blanked("a /* b /* c */ d */ e // f\ng"), "a e g");
    assert_eq!(blanked(r#"a "b \" c" d"#), "a d");
    assert_eq!(blanked("a r#\"b \" c\"# d"), "a d");
    assert_eq!(blanked("a b\"b\" br\"c\" d"), "a d");
    assert_eq!(blanked("a '\"' b '\\'' c"), "a b c");
    assert_eq!(blanked("fn f<'a>(x: &'a str) { \"b\" }"), "fn f<'a>(x: &'a str) { }");
    assert_eq!(blanked("number // a 'quote' that opens\nb"), "number b");
}

// ---------------------------------------------------------------- what the checks look for

fn upward_imports(source: &Source, floors: &BTreeMap<String, u32>) -> Vec<String> {
    let Some(home) = source.room(floors) else {
        return Vec::new();
    };
    let floor = floors[&home];
    let wrong = |room: &String| match floors.get(room) {
        Some(other) => *room != home && *other >= floor,
        None => true,
    };
    let rooms = source.rooms_named(floors);
    rooms
        .into_iter()
        .filter(wrong)
        .map(|room| format!("{}: {home} (floor {floor}) names {room}", source.path))
        .collect()
}

fn grandparents(source: &Source) -> Vec<String> {
    let found = source.tight.contains("super::super");
    found.then(|| format!("{}: super::super", source.path)).into_iter().collect()
}

/// A `pub use` may lift what lies in the room's own folders, and nothing else.
fn foreign_reexports(source: &Source) -> Vec<String> {
    let home = source.path.split('/').nth(1).unwrap_or_default();
    let own: BTreeSet<&str> = words_after(&source.code, &["mod"]).into_iter().collect();
    let mut complaints = Vec::new();
    for (at, _) in source.tight.match_indices("pub") {
        let before = source.tight[..at].chars().next_back();
        let rest = source.tight[at + "pub".len()..].trim_start();
        let rest = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')).map_or(rest, |split| split.1);
        let Some(path) = rest.trim_start().strip_prefix("use ").and_then(|path| path.split(';').next()) else {
            continue;
        };
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let mut parts = path.trim().split("::");
        let first = parts.next().unwrap_or_default();
        let lifted = first == "self" || own.contains(first) || (first == "crate" && parts.next() == Some(home));
        if !lifted {
            complaints.push(format!("{}: pub use {path}", source.path));
        }
    }
    complaints
}

fn missing_opening(source: &Source) -> Vec<String> {
    let first = source.text.lines().next().unwrap_or_default();
    let says = first.strip_prefix("//!").map(str::trim).unwrap_or_default();
    let empty = says.is_empty() || says == "To come.";
    empty
        .then(|| format!("{}: does not open with a `//!` sentence that says why it exists", source.path))
        .into_iter()
        .collect()
}

fn incomplete_rules(files: &BTreeSet<String>, list: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let declared: BTreeSet<&str> = words_after(list, &["mod"]).into_iter().collect();
    for file in files {
        if let Some(name) = file.strip_suffix(".rs").filter(|name| *name != "mod") {
            if !files.contains(&format!("{name}.md")) {
                complaints.push(format!("the rule {name} has no page {name}.md"));
            }
            if !declared.contains(name) {
                complaints.push(format!("the rule {name} is not declared in rules/mod.rs"));
            }
            if !list.contains(&format!("{name}::")) {
                complaints.push(format!("the rule {name} is not listed in rules/mod.rs"));
            }
        }
        if let Some(name) = file.strip_suffix(".md")
            && !files.contains(&format!("{name}.rs"))
        {
            complaints.push(format!("the page {file} has no rule {name}.rs"));
        }
    }
    complaints
}

/// The two languages, the databases as we ask them, the written configuration, and the demo that starts one.
const KNOWS_PRODUCTS: &[&str] = &[
    "src/protocol/",
    "src/sql/",
    "src/database/",
    "src/config/",
    "src/cli/demo",
    "src/session/postgres/",
    "src/session/mysql/",
    // Which conversation a listener's connections get, and what both share that is kept by one of them.
    "src/session/mod",
    "src/session/door",
    "src/session/readings",
    "src/session/upstream",
    "src/serve/tls",
    // Which listener speaks what.
    "src/cli/run",
];

fn product_names(source: &Source) -> Vec<String> {
    if KNOWS_PRODUCTS.iter().any(|room| source.path.starts_with(room)) {
        return Vec::new();
    }
    let named = words(&source.code).filter(|word| {
        let word = word.to_ascii_lowercase();
        word.contains("postgres") || word.contains("mysql") || word.contains("mariadb")
    });
    named.map(|word| format!("{}: {word}", source.path)).collect::<BTreeSet<_>>().into_iter().collect()
}

fn unsafe_code(source: &Source) -> Vec<String> {
    let found = words(&source.code).any(|word| word == "unsafe");
    found.then(|| format!("{}: unsafe", source.path)).into_iter().collect()
}

fn assert_clean(complaints: impl IntoIterator<Item = String>) {
    let complaints: Vec<String> = complaints.into_iter().collect();
    assert!(complaints.is_empty(), "the house is not as drawn:\n  {}", complaints.join("\n  "));
}

// ---------------------------------------------------------------- the sources

struct House {
    sources: Vec<Source>,
    /// Room → floor, as lib.rs draws them.
    floors: BTreeMap<String, u32>,
}

impl House {
    fn read() -> House {
        let mut paths = Vec::new();
        collect(&root().join("src"), &mut paths);
        assert!(paths.len() > 10, "the sources are found");
        let relative =
            |path: &Path| path.strip_prefix(root()).expect("under the root").to_str().expect("text").to_owned();
        let sources = paths
            .iter()
            .map(|path| Source::new(&relative(path), &fs::read_to_string(path).expect("a readable source")));
        let lib = fs::read_to_string(root().join("src/lib.rs")).expect("lib.rs");
        House { sources: sources.collect(), floors: floors_of(&lib) }
    }
}

struct Source {
    /// From the root, with `/`.
    path: String,
    text: String,
    /// Without comments and literals.
    code: String,
    /// `code` with single spaces, and none around `::`.
    tight: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        let code = blank(text);
        let tight = code.split_whitespace().collect::<Vec<_>>().join(" ");
        let tight = tight.replace(" ::", "::").replace(":: ", "::");
        Source { path: path.into(), text: text.into(), code, tight }
    }

    /// The room this file belongs to; none for lib.rs and main.rs, which see everything.
    fn room(&self, floors: &BTreeMap<String, u32>) -> Option<String> {
        let first = self.path.strip_prefix("src/")?.split('/').next()?;
        let room = first.trim_end_matches(".rs");
        floors.contains_key(room).then(|| room.to_owned())
    }

    /// Every room that some path in this file begins with: `crate::x`, `crate::{x, y}`, and `super::x` at the room's door.
    fn rooms_named(&self, floors: &BTreeMap<String, u32>) -> BTreeSet<String> {
        let mut rooms = BTreeSet::new();
        for (at, _) in self.tight.match_indices("crate::") {
            // `$crate::` and `my_crate::` end the same way: only a word of its own counts.
            if self.tight[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            rooms.extend(first_parts(&self.tight[at + "crate::".len()..]));
        }
        let door = self.path.ends_with("/mod.rs") && self.path.matches('/').count() == 2;
        if door {
            let named = self
                .tight
                .match_indices("super::")
                .flat_map(|(at, found)| first_parts(&self.tight[at + found.len()..]));
            rooms.extend(named.filter(|part| floors.contains_key(part)));
        }
        rooms
    }
}

/// `a::b` gives a; `{a::b, c::{d, e}}` gives a and c.
fn first_parts(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else {
        return words(path).take(1).map(str::to_owned).collect();
    };
    let (mut depth, mut fresh, mut parts) = (0, true, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            _ if fresh => {
                parts.extend(words(&group[at..]).take(1).map(str::to_owned));
                fresh = false;
            }
            _ => {}
        }
    }
    parts
}

fn floors_of(lib: &str) -> BTreeMap<String, u32> {
    let (mut floor, mut floors) = (None, BTreeMap::new());
    for line in lib.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("// Floor ") {
            floor = rest.split(':').next().and_then(|number| number.parse().ok());
        } else if let Some(room) = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) {
            floors.insert(room.to_owned(), floor.unwrap_or_else(|| panic!("{room} stands on no floor")));
        }
    }
    floors
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

fn words_after<'a>(code: &'a str, keywords: &[&str]) -> Vec<&'a str> {
    let all: Vec<&str> = words(code).collect();
    all.windows(2).filter(|pair| keywords.contains(&pair[0])).map(|pair| pair[1]).collect()
}

/// The text with comments, strings and character literals made blank; lines stay where they are.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after_word = out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let length = literal_or_comment(rest, after_word);
        if length == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    out
}

/// How many bytes of comment or literal `rest` begins with.
fn literal_or_comment(rest: &str, after_word: bool) -> usize {
    let bytes = rest.as_bytes();
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return nested_comment(rest);
    }
    if bytes[0] == b'\'' {
        return character(rest);
    }
    let prefix = if after_word {
        0
    } else {
        ["br", "cr", "b", "c", "r"].iter().find(|p| rest.starts_with(**p)).map_or(0, |p| p.len())
    };
    let raw = rest[..prefix].contains('r');
    let hashes = if raw { rest[prefix..].bytes().take_while(|b| *b == b'#').count() } else { 0 };
    if bytes.get(prefix + hashes) != Some(&b'"') {
        return 0;
    }
    let start = prefix + hashes + 1;
    if raw {
        let close = format!("\"{}", "#".repeat(hashes));
        return rest[start..].find(&close).map_or(rest.len(), |at| start + at + close.len());
    }
    let mut at = start;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn nested_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest.as_bytes()[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.as_bytes()[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// `'x'` and `'\n'` are literals, `'a` of a lifetime is not.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(rest.len(), |at| at + 4),
        Some((at, c)) if rest[at + c.len_utf8()..].starts_with('\'') => at + c.len_utf8() + 1,
        _ => 0,
    }
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).expect("a readable folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
