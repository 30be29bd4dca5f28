//! PostgreSQL's own grammar (libpg_query), asked safely.
//!
//! Invariant: a call never panics and never overflows a stack; what it cannot do is an error with its reason. Calls are made one at
//! a time: the library points the process's stderr at a pipe while it parses (seen in libpg_query 18.1, `pg_query_parse.c`), and two
//! threads doing that at once would lose stderr for good.

use crate::sql::statement::LexicalMode;
use pg_query::protobuf::RawStmt;
use pg_query::{FingerprintOptions, ParserOptions};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The raw statements of a text, positions in bytes.
pub fn parse(text: &str, mode: LexicalMode) -> Result<Vec<RawStmt>, String> {
    let options = options(mode);
    guarded(|| pg_query::parse(text, options)).map(|parsed| parsed.protobuf.stmts)
}

/// The same for all texts that differ in their literals only.
pub fn fingerprint(text: &str, mode: LexicalMode) -> Result<String, String> {
    let options = options(mode);
    guarded(|| pg_query::fingerprint(text, options, FingerprintOptions::FULL_RELNAME)).map(|found| found.hex)
}

fn options(mode: LexicalMode) -> ParserOptions {
    match mode.standard_conforming_strings() {
        true => ParserOptions::DEFAULT,
        false => ParserOptions::DISABLE_STANDARD_CONFORMING_STRINGS,
    }
}

fn guarded<T>(call: impl FnOnce() -> pg_query::Result<T>) -> Result<T, String> {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(message(error)),
        Err(_) => Err(String::from("the parser failed on this text")),
    }
}

/// The server's own words, without the library's.
fn message(error: pg_query::Error) -> String {
    match error {
        pg_query::Error::Parse(message) | pg_query::Error::Split(message) | pg_query::Error::Scan(message) => message,
        other => other.to_string(),
    }
}
