//! The servers themselves say whether our lexer cuts their texts as they do: texts of several statements, each of which leaves a mark, are
//! sent as they are, and what has run is compared with what the text seems to hold.
//!
//! Invariant: of a text whose tokens are all sound, the marks that the server leaves are the first of those that we expect, all of them if
//! it found no error. The texts are made by chance, from a seed, so a failure fails again; `LEXING_TEXTS=200000 LEXING_CHANCE=7` tries more,
//! and others.

use crate::harness::mysql::my_stories;
use crate::harness::mysql::server::{MyDatabase, MyServer};
use crate::harness::mysql::wire::MyWire;
use sluice::sql::encoding;
use sluice::sql::facts::Kind as What;
use sluice::sql::lexer::{Kind, Lexer, Token};
use sluice::sql::split::{Piece, split};
use sluice::sql::statement::{LexicalMode, MySqlMode, Product};
use sluice::sql::{Glance, glance};

my_stories! {
    texts_are_cut_as_the_server_cuts_them, bodies_end_where_the_server_ends_them, what_hides_a_statement_is_unread,
}

const TEXTS: u64 = 4_000;
const BODIES_MUTATED: u64 = 250;
const SETUP: &str = "CREATE TABLE ran (n INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(2000) CHARACTER SET utf8mb4) ENGINE=MEMORY; \
    CREATE TABLE seen (a INT)";

/// Between any two tokens of a statement. A mark of 900 and more is never to be left.
#[rustfmt::skip]
const GAPS: &[&str] = &[
    "\n", "/* */", "/* ' */", "/* \" */", "/* ` */", "/* ; INSERT INTO ran (v) VALUES (900); */", "/*/ ' */", "/***/", "/*'*/",
    "-- ' \n", "-- ; INSERT INTO ran (v) VALUES (901)\n", "--\t'\n", "--\n", "--\u{1}'\n", "# '\n", "#\n",
    "#;INSERT INTO ran (v) VALUES (902)\n", "# '\r\n", "-- \r ; INSERT INTO ran (v) VALUES (903) \n", "/*! */", "/*!*/",
    "/*!50000*/", "/*!50000 */", "/*!050000 */", "/*!99999 ' */", "/*!99999 ; INSERT INTO ran (v) VALUES (904) ; */",
    "/*!99999 /* ' */ ' */", "/*!999999 ; */", "/*M! */", "/*M!100000 */", "/*M!999999 ; */", "/*!50701 */", "/*!100000 */",
    "/*!090704 */", "/*!90704 */", "/*! /* ' */ */", "/*! -- '\n */", "/*! # */ '\n */", "/*+ x */", "/*+ ` */", "/*+ `a` */",
    "/*!99999 /* */ */", "/*m! ' */", "/*!99999*/", "\u{c}", "\u{b}", "\r", "/* -- */", "/* # */", "--/**/\n", "-- /*\n",
];

#[rustfmt::skip]
const VALUES: &[&str] = &[
    "5", "0", "17", "'a'", "'a''b'", "'a\\'b'", "'a\\\\'", "'\\\\'", "\"a\"", "\"a'b\"", "'a\"b'", "\"a\"\"b\"", "'a' 'b'",
    "'a' \"b\"", "n'a'", "_utf8mb4'a'", "x'41'", "b'1'", "'; INSERT INTO ran (v) VALUES (905); -- '",
    "'a\\'; INSERT INTO ran (v) VALUES (906); -- '", "\"a\\\"; INSERT INTO ran (v) VALUES (907); -- \"", "'/*'", "'-- '", "'#'",
    "'*/'", "''", "'\n'", "'a\\", "1.5e", "1.5e3", "$$a$$", "@x", ".5", "1.", "1e5", "0x41", "0X41", "\\N", "NULL", "'\\n\\%'",
    "'\u{e9}\u{1f600}'", "'a'\n'b'", "'a'/* */'b'", "''''", "\"\"\"\"", "`v`", "1..5", "x'4'", "'a\\'", "\"\\\"",
];

/// Behind a value that is a number.
#[rustfmt::skip]
const ADDED: &[&str] = &[
    "+ 1", "/*! + 2 */", "/*!50000 + 3 */", "/*!50701 + 4 */", "/*!50699 +5*/", "/*!99999 + 6 */", "/*!100000 + 7 */",
    "/*M! + 8 */", "/*M!50701 + 9 */", "/*M!999999 + 10 */", "/*!080000 + 11 */", "/*!101100 + 12 */", "--1", "-- 1\n",
    "--/**/1", "-/**/-1", "/*!1234567 + 1 */", "/*!50000+1*/", "/*!50000 + 1 /* ' */ + 1 */", "/*! + 1 /*!99999 + 5 */ + 1 */",
    "/*! + 1 /*! + 1 */", "/*!99997 + 1 */", "- -1", "/*!90704+1*/", "/*!90705+1*/", "/*!51000+1*/", "/*!100000+1*/", "#\n+2",
    "-- \n+3", "/*!*/+4", "/*M!100000+1*/", "/*!99999+1/**/+1*/", "/*!5000 + 1*/", "/*!! 1*/",
];

/// What a mutation puts in.
#[rustfmt::skip]
const BITS: &[&str] = &[
    "'", "\"", "`", "\\", ";", "/*", "*/", "/*!", "/*!99999", "--", "-- ", "#", "\n", "$$", "1.5e", "x'", "(", ")", "@", "*", "/",
    "!", "M", "5", " ", ".", "N'",
];

const MODES: &[&str] =
    &["", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES", "PIPES_AS_CONCAT,IGNORE_SPACE"];

fn texts_are_cut_as_the_server_cuts_them(server: &'static MyServer) {
    let database = server.database(SETUP);
    let mut chance = Chance(number("LEXING_CHANCE", 1));
    let mut tally = Tally::default();
    for sql_mode in MODES {
        let mut asker = Asker::new(&database, sql_mode);
        for _ in 0..number("LEXING_TEXTS", TEXTS) / MODES.len() as u64 {
            let mut text = made(&mut chance);
            if chance.below(2) == 0 {
                text = mutated(&text, &mut chance);
            }
            asker.compare(&text, &mut tally);
        }
    }
    println!("{tally:?}");
    tally.is_worth_something();
}

/// Each runs a statement that stands, to who reads it under the settings of its beginning, inside a string, or is swallowed by a number.
fn what_hides_a_statement_is_unread(server: &'static MyServer) {
    const TEXTS: &[&str] = &[
        "SET sql_mode = 'NO_BACKSLASH_ESCAPES'; SELECT 'a\\'; INSERT INTO ran (v) VALUES (1); -- '",
        "SET sql_mode = 'ANSI_QUOTES'; SELECT 1 AS \"a\\\"; INSERT INTO ran (v) VALUES (1); -- \"",
        "SET `sql_mode` = 'NO_BACKSLASH_ESCAPES'; SELECT 'a\\'; INSERT INTO ran (v) VALUES (1); -- '",
        "PREPARE s FROM 'SET sql_mode = ''NO_BACKSLASH_ESCAPES'''; EXECUTE s; SELECT 'a\\'; INSERT INTO ran (v) VALUES (1); -- '",
    ];
    const MYSQL: &[&str] = &[
        "SET sql_mod\u{e9} = 'NO_BACKSLASH_ESCAPES'; SELECT 'a\\'; INSERT INTO ran (v) VALUES (1); -- '",
        "SELECT 1 1.5e; INSERT INTO ran (v) VALUES (1)",
    ];
    const MARIADB: &[&str] = &["SET sql_mode = 'MSSQL'; SELECT 1 AS [a']; INSERT INTO ran (v) VALUES (1); -- ]'"];
    let database = server.database(SETUP);
    for text in TEXTS.iter().chain(server.either(MARIADB, MYSQL)) {
        let mut asker = Asker::new(&database, "");
        assert_eq!(asker.run(text).marks, ["1"], "{text}");
        assert_eq!(asker.expected(text), None, "{text}");
        assert_eq!(glance(text, asker.mode), Glance::NeedsReading, "{text}");
    }
    let mut asker = Asker::new(&database, "");
    let hidden = "SELECT 1 AS x\u{e0}INTO @y";
    asker.wire.query("SET NAMES latin1").expect_fine("a character set");
    asker.wire.query(hidden).expect_fine(hidden);
    assert_eq!(asker.wire.query("SELECT @y").value(), "1", "a keyword behind what is white space to latin1");
    assert!(encoding::mysql_reads_otherwise("latin1", hidden.as_bytes()));
}

/// A body that holds together leaves no mark, what stands behind it does; and however it is damaged, nothing runs that we thought of as
/// part of it.
fn bodies_end_where_the_server_ends_them(server: &'static MyServer) {
    const BODIES: &[&str] = &[
        "CREATE PROCEDURE p() BEGIN INSERT INTO ran (v) VALUES (1); INSERT INTO ran (v) VALUES (2); END",
        "CREATE PROCEDURE p() l: BEGIN IF 1 THEN INSERT INTO ran (v) VALUES (1); ELSE LEAVE l; END IF; END l",
        "CREATE PROCEDURE p() IF CASE WHEN 1 THEN 2 END THEN INSERT INTO ran (v) VALUES (1); END IF",
        "CREATE PROCEDURE p(a INT) COMMENT 'x' CASE a WHEN 1 THEN INSERT INTO ran (v) VALUES (1); ELSE BEGIN END; END CASE",
        "CREATE PROCEDURE p() REPEAT INSERT INTO ran (v) VALUES (1); UNTIL 1 END REPEAT",
        "CREATE PROCEDURE p() BEGIN DECLARE begin, end INT; DECLARE EXIT HANDLER FOR NOT FOUND, 1051 BEGIN SET end = 1; END; \
         WHILE begin DO INSERT INTO ran (v) VALUES (begin); END WHILE; SELECT CASE WHEN end THEN 1 END; END",
        "CREATE PROCEDURE p() SELECT begin FROM ran",
        "CREATE FUNCTION f() RETURNS VARCHAR(20) CHARSET utf8mb4 DETERMINISTIC BEGIN INSERT INTO ran (v) VALUES (1); RETURN 1; END",
        "CREATE FUNCTION f() RETURNS INT DETERMINISTIC RETURN CASE WHEN 1 THEN 2 END",
        "CREATE TRIGGER r BEFORE INSERT ON seen FOR EACH ROW BEGIN SET @a = 1; INSERT INTO ran (v) VALUES (1); END",
        "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DISABLE DO BEGIN INSERT INTO ran (v) VALUES (1); END",
        "/*!50003 CREATE*/ /*!50020 DEFINER=CURRENT_USER*/ /*!50003 PROCEDURE p() BEGIN INSERT INTO ran (v) VALUES (1); END */",
        "CREATE PROCEDURE p() BEGIN INSERT INTO ran (v) VALUES (1); /*! INSERT INTO ran (v) VALUES (2); */ END",
        "CREATE PROCEDURE p() BEGIN XA BEGIN 'x'; BEGIN END; XA END 'x'; END",
    ];
    let database = server.database(SETUP);
    let mut asker = Asker::new(&database, "");
    let mut chance = Chance(number("LEXING_CHANCE", 1));
    let mut tally = Tally::default();
    for body in BODIES {
        let text = format!("{body}; INSERT INTO ran (v) VALUES (7)");
        let ran = asker.run(&text);
        assert_eq!(ran, Ran { marks: vec!["7".to_owned()], failed: false }, "{text}");
        assert_eq!(asker.expected(&text), Some(vec![Mark::Value("7".to_owned())]), "{text}");
    }
    for _ in 0..number("LEXING_BODIES", BODIES_MUTATED) {
        let body = BODIES[chance.below(BODIES.len())];
        let text = format!("{body}; INSERT INTO ran (v) VALUES (7); INSERT INTO ran (v) VALUES (8)");
        asker.compare(&mutated(&text, &mut chance), &mut tally);
    }
    println!("{tally:?}");
    assert!(tally.compared > 20, "{tally:?}");
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// How much was learnt.
#[derive(Default, Debug)]
struct Tally {
    compared: usize,
    unsound: usize,
    whole: usize,
    marks: usize,
}

impl Tally {
    /// A comparison of texts that all fail, or that we all refuse to read, would prove nothing.
    fn is_worth_something(&self) {
        let all = self.compared + self.unsound;
        assert!(self.compared * 2 > all && self.whole * 3 > all && self.marks > all / 2, "{self:?}");
    }
}

struct Asker<'s> {
    database: &'s MyDatabase,
    sql_mode: &'static str,
    wire: MyWire,
    mode: LexicalMode,
    asked: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Ran {
    marks: Vec<String>,
    failed: bool,
}

/// What a statement that was found is expected to leave behind.
#[derive(Debug, PartialEq, Eq)]
enum Mark {
    Value(String),
    /// A mark whose value is not worked out here.
    Some,
    /// None, and an error: something stands behind the statement's end.
    Refused,
    /// Anything: another statement than those that were made.
    Whatever,
}

impl<'s> Asker<'s> {
    fn new(database: &'s MyDatabase, sql_mode: &'static str) -> Asker<'s> {
        let version = database.value("SELECT version()");
        let digits = version.split(['.', '-']).take(3).map(|part| part.parse::<u32>().expect("a version"));
        let number = digits.fold(0, |number, part| number * 100 + part);
        let product = if database.server.is_mariadb() { Product::MariaDb } else { Product::MySql };
        let mode = LexicalMode::MySql(MySqlMode::of(product, number).with_sql_mode(sql_mode));
        Asker { database, sql_mode, wire: connected(database, sql_mode), mode, asked: 0 }
    }

    fn run(&mut self, text: &str) -> Ran {
        self.asked += 1;
        if self.asked.is_multiple_of(500) {
            self.wire = connected(self.database, self.sql_mode);
        }
        let failed = self.wire.query(text).error().is_some();
        let marks = self.wire.query("SELECT v FROM ran ORDER BY n");
        marks.expect_fine(text);
        let marks = marks.rows().into_iter().map(|row| row[0].clone().unwrap_or("NULL".to_owned())).collect();
        let clear = "DELETE FROM ran; DROP PROCEDURE IF EXISTS p; DROP FUNCTION IF EXISTS f; DROP TRIGGER IF EXISTS r; DROP EVENT IF EXISTS e";
        let clear = if text.contains("CREATE") { clear } else { "DELETE FROM ran" };
        self.wire.query(clear).expect_fine(clear);
        Ran { marks, failed }
    }

    /// The marks that our reading of the text foretells; `None` where the text counts as unread.
    fn expected(&self, text: &str) -> Option<Vec<Mark>> {
        let unsound = |token: Token| matches!(token.kind, Kind::Broken(_) | Kind::Junk | Kind::Stray);
        let pieces = split(text, self.mode);
        if Lexer::new(text, self.mode).any(unsound) || pieces.iter().any(|piece| piece.unclear.is_some()) {
            return None;
        }
        Some(pieces.iter().flat_map(|piece| self.mark(text, piece)).collect())
    }

    fn mark(&self, text: &str, piece: &Piece) -> Option<Mark> {
        let tokens: Vec<Token> = Lexer::new(text, self.mode)
            .filter(|token| !token.is_comment() && token.start >= piece.code.start && token.end <= piece.code.end)
            .collect();
        let words: Vec<String> = tokens.iter().map(|token| token.text(text).to_lowercase()).collect();
        if words[0] == "create" {
            return None;
        }
        let opening = ["insert", "into", "ran", "(", "v", ")", "values", "("];
        let values = words.strip_prefix(opening.map(str::to_owned).as_slice());
        let Some(values) = values.filter(|values| !values.iter().any(|word| word == "," || word == "(")) else {
            return Some(Mark::Whatever);
        };
        let Some(end) = values.iter().position(|word| word == ")") else { return Some(Mark::Refused) };
        if end + 1 < values.len() {
            return Some(Mark::Refused);
        }
        let value = value(text, &tokens[opening.len()..opening.len() + end], self.mode);
        Some(value.map_or(Mark::Some, Mark::Value))
    }

    fn compare(&mut self, text: &str, tally: &mut Tally) {
        let ran = self.run(text);
        let shown = format!("{text:?} under {:?}: {ran:?}", self.mode);
        match glance(text, self.mode) {
            Glance::Harmless { kind: What::Insert, .. } => {
                assert!(ran.marks.len() <= 1, "at a glance one insert: {shown}")
            }
            Glance::Harmless { .. } => assert!(ran.marks.is_empty(), "harmless at a glance: {shown}"),
            _ => {}
        }
        let Some(expected) = self.expected(text) else {
            tally.unsound += 1;
            return;
        };
        tally.compared += 1;
        tally.whole += usize::from(!ran.failed);
        tally.marks += ran.marks.len();
        for (at, mark) in ran.marks.iter().enumerate() {
            match expected.get(at) {
                Some(Mark::Value(value)) => assert_eq!(mark, value, "the {at}th mark of {shown}"),
                Some(Mark::Some) => {}
                Some(Mark::Whatever) => return,
                Some(Mark::Refused) => panic!("a statement ran that should have been refused: {shown}"),
                None => panic!("a statement ran that was not found: {shown}"),
            }
        }
        if !ran.failed && !expected.contains(&Mark::Whatever) {
            assert_eq!(
                ran.marks.len(),
                expected.len(),
                "a statement was found that did not run: {shown}, {expected:?}"
            );
        }
    }
}

fn connected(database: &MyDatabase, sql_mode: &str) -> MyWire {
    let mut wire = database.connect();
    wire.query("SET NAMES utf8mb4").expect_fine("a character set");
    wire.query(&format!("SET SESSION sql_mode = '{sql_mode}'")).expect_fine("a mode");
    wire
}

/// The value of sums of whole numbers, and of strings side by side.
fn value(text: &str, tokens: &[Token], mode: LexicalMode) -> Option<String> {
    let is_string = |token: &Token| matches!(token.kind, Kind::String(sluice::sql::lexer::StringKind::Plain));
    if !tokens.is_empty() && tokens.iter().all(is_string) {
        return Some(tokens.iter().map(|token| unescaped(token.text(text), mode)).collect());
    }
    let (mut sum, mut sign, mut operand) = (0i64, 1i64, true);
    for token in tokens {
        match (token.kind, operand) {
            (Kind::Punctuation(b'-'), true) => sign = -sign,
            (Kind::Punctuation(b'+'), true) => {}
            (Kind::Punctuation(b'-'), false) => (sign, operand) = (-1, true),
            (Kind::Punctuation(b'+'), false) => (sign, operand) = (1, true),
            (Kind::Number, true) if token.text(text).len() < 10 => {
                sum += sign * token.text(text).parse::<i64>().ok()?;
                operand = false;
            }
            _ => return None,
        }
    }
    (!operand).then(|| sum.to_string())
}

fn unescaped(written: &str, mode: LexicalMode) -> String {
    let quote = written.chars().next().expect("a quote");
    let mut inner = written[1..written.len() - 1].chars();
    let mut value = String::new();
    while let Some(character) = inner.next() {
        if character == '\\' && !mode.standard_conforming_strings() {
            match inner.next().expect("an escaped character") {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                'b' => value.push('\u{8}'),
                '0' => value.push('\0'),
                'Z' => value.push('\u{1a}'),
                wildcard @ ('%' | '_') => value.extend(['\\', wildcard]),
                other => value.push(other),
            }
        } else {
            value.push(character);
            if character == quote {
                inner.next();
            }
        }
    }
    value
}

/// One to three statements with odd things between their tokens.
fn made(chance: &mut Chance) -> String {
    let mut text = String::new();
    for _ in 0..=chance.below(3) {
        let value = chance.one_of(VALUES);
        let added = if value.bytes().all(|byte| byte.is_ascii_digit()) { chance.one_of(ADDED) } else { "" };
        for token in ["INSERT", "INTO", "ran", "(", "v", ")", "VALUES", "(", value, added, ")", ";"] {
            text.push_str(token);
            text.push_str(if chance.below(12) == 0 { chance.one_of(GAPS) } else { " " });
        }
    }
    text
}

/// One or two edits.
fn mutated(text: &str, chance: &mut Chance) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for _ in 0..=chance.below(2) {
        let at = chance.below(characters.len());
        match chance.below(4) {
            0 => drop(characters.remove(at)),
            1 => characters.insert(at, characters[at]),
            2 => {
                let end = (at + chance.below(6)).min(characters.len());
                drop(characters.drain(at..end));
            }
            _ => drop(characters.splice(at..at, chance.one_of(BITS).chars()).collect::<Vec<_>>()),
        }
        if characters.is_empty() {
            characters.push(';');
        }
    }
    characters.into_iter().collect()
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    fn one_of(&mut self, choices: &[&'static str]) -> &'static str {
        choices[self.below(choices.len())]
    }
}
