//! What holds of MySQL's and MariaDB's texts whatever is in them: the promises of `tests/fuzz/targets.rs`, over texts put together from
//! pieces; and that long ones take time by their length alone. Whether the tokens are the servers' own is for `tests/live/mysql/lexing.rs`.

#[path = "fuzz/targets.rs"]
#[allow(dead_code, reason = "one of the targets is used here")]
mod targets;

use proptest::prelude::*;
use sluice::sql::facts::Kind;
use sluice::sql::lexer::Lexer;
use sluice::sql::split::split;
use sluice::sql::statement::{LexicalMode, MySqlMode, Product};
use sluice::sql::{Glance, essence, fingerprint, glance, hints, redact};
use std::time::{Duration, Instant};

fn modes() -> [LexicalMode; 2] {
    [(Product::MySql, 90_704), (Product::MariaDb, 101_119)]
        .map(|(product, version)| LexicalMode::MySql(MySqlMode::of(product, version)))
}

/// Pieces that texts are made of: where they meet is where readers part.
#[rustfmt::skip]
const PIECES: &[&str] = &[
    "SELECT ", "DELETE FROM t", "INSERT INTO t VALUES (1)", "ROLLBACK ", "TO ", "SAVEPOINT x", "a", "1", ";", ";", "'", "''", "\"", "`",
    "``", "\\", "\\'", "\n", "\r", "\t", " ", "--", "-- ", "#", "/*", "/*!", "/*!50000", "/*!50701 ", "/*!090704 ", "/*!99999 ", "/*M!",
    "/*M!100000 ", "/*+ ", "*/", "/", "*", "-", "+", "@", "@@", "$$", "$a$", "$", "?", "(", ")", ",", ".", "..", ":", ":=", "<=>", "->>",
    "=!", "||", "0x1F", "0b1", "x'", "b'", "n'", "_utf8'", "1e", "1.5e", "1e5", "1a", "\\N", "é", "sluice: a=1 ", "create procedure p() ",
    "create function f() returns int ", "create event e on schedule every 1 day ", "for each row ", "begin ", "end", "end if", "if ",
    "case ", "when ", "then ", "else ", "loop ", "while ", "do ", "repeat ", "until ", "declare exit handler for ", "not atomic ", "l: ",
    "[", "{", "\u{b}", "\u{1}",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn promises_are_kept(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
        targets::mysql_lexer(pieces.concat().as_bytes());
    }
}

/// What takes time by the square of a text's length would take minutes for these.
#[test]
fn long_texts_take_time_by_their_length() {
    const BYTES: usize = 1 << 16;
    let again = |piece: &str| piece.repeat(BYTES / piece.len());
    let mut long: Vec<String> = PIECES.iter().map(|piece| again(piece)).collect();
    long.extend(PIECES.iter().map(|piece| format!("create procedure p() begin {}", again(piece))));
    for piece in [
        "/*!99999 /* */ ",
        "$a$ $b$ ",
        "$a",
        "'a' ",
        "SELECT 1;",
        "case end ",
        "if case when 1 then 1 end then ",
        "begin end; ",
        "while a do ",
        "declare exit handler for 1, ",
        "x.`y`.1",
        "/*+ `` */",
        "/*! ",
        "/*! */",
        "-- sluice: a=1\n",
        "(1, ?), ",
    ] {
        long.push(again(piece));
        long.push(format!("create procedure p() begin {}", again(piece)));
    }
    for mode in modes() {
        for text in &long {
            let begun = Instant::now();
            let _any_answer = (Lexer::new(text, mode).count(), split(text, mode), glance(text, mode));
            let _any_answer = (hints::hints(text, mode), hints::without(text, mode), hints::wrong(text, mode));
            let _any_answer = (fingerprint(text, mode), redact(text, mode));
            essence::each(text, mode, |_| {});
            let taken = begun.elapsed();
            assert!(taken < Duration::from_secs(3), "{taken:?} for {:?}", &text[..40]);
        }
    }
}

#[test]
fn a_huge_insert_is_glanced_at() {
    let text = format!("INSERT INTO t VALUES {}(0, 'x')", "(1, 'it\\'s; DELETE FROM t', \"y\"), ".repeat(200_000));
    for mode in modes() {
        assert!(matches!(glance(&text, mode), Glance::Harmless { kind: Kind::Insert, .. }));
    }
}
