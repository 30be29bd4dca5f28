//! CREATE, ALTER, DROP, RENAME and TRUNCATE: what a statement would remove whole, and what it does besides.
//!
//! Invariants: every DROP gives at least one removal or leaves the statement unread. Each step of an ALTER TABLE is known by its first
//! words, or the statement is unread. Bodies of routines end where the statement ends.
//!
//! Sources: MySQL 9.7 manual, "Data Definition Statements", "Statements That Cause an Implicit Commit", and the `create`, `alter` and
//! `drop` of its `sql_yacc.yy`; MariaDB 10.11's for OR REPLACE, sequences, system versioning and CONVERT PARTITION.

use crate::sql::dialect::mysql::body;
use crate::sql::dialect::mysql::cursor::{Cursor, Read, Unread};
use crate::sql::dialect::mysql::facts::Reader;
use crate::sql::dialect::mysql::names;
use crate::sql::facts::{ActKind, Kind, Name, Removal, Removed};
use std::ops::Range;

impl Reader<'_> {
    /// From behind the first word, which stands at `start`.
    pub fn definition(&mut self, word: &str, start: usize) -> Read<()> {
        self.facts.changes_session = true;
        match word {
            "create" => self.create(start),
            "alter" => self.alter(),
            "drop" => self.drop(),
            "rename" => self.rename(),
            _ => self.truncate(),
        }
    }

    fn define(&mut self, kind: Kind) {
        self.facts.kind = kind;
        self.facts.commits_implicitly = true;
    }

    fn remove(&mut self, what: Removed, name: Name, if_exists: bool) {
        let nesting = self.nesting;
        self.facts.removals.push(Removal { what, name, cascade: false, if_exists, nesting });
    }

    fn truncate(&mut self) -> Read<()> {
        self.define(Kind::Truncate);
        self.cursor.eat("table");
        let name = self.cursor.object()?;
        self.waits()?;
        self.remove(Removed::Rows, name, false);
        Ok(())
    }

    /// MariaDB: `WAIT 10`, `NOWAIT`.
    fn waits(&mut self) -> Read<()> {
        if !self.cursor.is_mariadb() || self.cursor.eat("nowait") {
            return Ok(());
        }
        if self.cursor.eat("wait") {
            self.cursor.at += 1;
        }
        Ok(())
    }

    fn rename(&mut self) -> Read<()> {
        self.define(Kind::Alter);
        if self.cursor.eat("user") {
            self.act(ActKind::Rights, "RENAME USER");
            return self.cursor.rest().map(|_| ());
        }
        if !self.cursor.eat_any(&["table", "tables"]) {
            return Err(self.cursor.lost());
        }
        self.if_exists()?;
        loop {
            let name = self.cursor.object()?;
            self.waits()?;
            self.cursor.expect("to")?;
            let to = self.cursor.object()?;
            self.facts.redefines.extend([name, to]);
            if !self.cursor.eat_mark(",") {
                return Ok(());
            }
        }
    }

    fn if_exists(&mut self) -> Read<bool> {
        Ok(self.cursor.eat_words(&["if", "exists"]))
    }

    fn drop(&mut self) -> Read<()> {
        if self.cursor.word("prepare") {
            self.cursor.at += 1;
            self.cursor.identifier()?;
            self.facts.forgets_prepared = true;
            return self.other("DEALLOCATE PREPARE", true);
        }
        self.define(Kind::Drop);
        let temporary = self.cursor.eat("temporary");
        if self.cursor.eat_any(&["table", "tables"]) {
            self.facts.commits_implicitly = !temporary;
            self.facts.temporary = temporary;
            let what = if temporary { Removed::Other("temporary table".to_owned()) } else { Removed::Table };
            return self.dropped(&what);
        }
        if temporary && !self.cursor.word("sequence") {
            return Err(self.cursor.lost());
        }
        if self.cursor.eat_any(&["database", "schema"]) {
            let if_exists = self.if_exists()?;
            let name = names::name(vec![self.cursor.identifier()?]);
            self.remove(Removed::Database, name, if_exists);
            return Ok(());
        }
        if self.cursor.eat_words(&["undo", "tablespace"]) || self.cursor.eat("tablespace") {
            let name = names::name(vec![self.cursor.identifier()?]);
            self.remove(Removed::Tablespace, name, false);
            return self.cursor.rest().map(|_| ());
        }
        self.cursor.eat_any(&["online", "offline"]);
        let Some((words, object)) = OBJECTS.iter().find(|(words, _)| self.cursor.words(words)) else {
            return Err(self.cursor.lost());
        };
        self.cursor.at += words.len();
        self.dropped_object(object)
    }

    /// `IF EXISTS a, b CASCADE`
    fn dropped(&mut self, what: &Removed) -> Read<()> {
        let if_exists = self.if_exists()?;
        loop {
            let name = self.cursor.object()?;
            self.remove(what.clone(), name, if_exists);
            if !self.cursor.eat_mark(",") {
                break;
            }
        }
        self.waits()?;
        self.cursor.eat_any(&["restrict", "cascade"]);
        Ok(())
    }

    fn dropped_object(&mut self, object: &str) -> Read<()> {
        let what = Removed::Other(object.to_owned());
        if let "view" | "sequence" = object {
            return self.dropped(&what);
        }
        let if_exists = self.if_exists()?;
        if let "user" | "role" = object {
            self.remove(what, names::name(vec![self.account().unwrap_or_default()]), if_exists);
            self.act(ActKind::Rights, format!("DROP {}", object.to_uppercase()));
            return self.cursor.rest().map(|_| ());
        }
        if object == "spatial reference system" {
            self.remove(what, Name::default(), if_exists);
            return self.cursor.rest().map(|_| ());
        }
        let name = self.cursor.object()?;
        match object {
            "index" if name.parts.last().is_some_and(|name| name.eq_ignore_ascii_case("primary")) => {
                self.act(ActKind::GuardDropped, "DROP PRIMARY KEY");
            }
            "trigger" => self.act(ActKind::GuardDropped, format!("DROP TRIGGER {}", name.written)),
            "server" => self.outside(format!("DROP SERVER {}", name.written)),
            "resource group" => self.outside(format!("DROP RESOURCE GROUP {}", name.written)),
            _ => {}
        }
        self.remove(what, name, if_exists);
        self.cursor.rest().map(|_| ())
    }

    /// `name`, `'name'@'host'`: only the name, to be shown.
    fn account(&self) -> Option<String> {
        let name = self.cursor.ahead(0)?.text(self.cursor.text);
        Some(name.trim_matches(['\'', '"', '`']).to_owned())
    }

    fn create(&mut self, start: usize) -> Read<()> {
        self.define(Kind::Create);
        let replaces = self.cursor.eat_words(&["or", "replace"]);
        let temporary = self.cursor.eat("temporary");
        if self.cursor.eat("table") {
            return self.create_table(start, replaces, temporary);
        }
        if self.cursor.eat_any(&["database", "schema"]) {
            self.cursor.eat_words(&["if", "not", "exists"]);
            let name = names::name(vec![self.cursor.identifier()?]);
            if replaces {
                self.remove(Removed::Database, name, true);
            }
            return self.cursor.rest().map(|_| ());
        }
        if self.cursor.any(&["user", "role"]) {
            let word = self.cursor.written(0).to_ascii_uppercase();
            self.act(ActKind::Rights, format!("CREATE {word}"));
            return self.cursor.rest().map(|_| ());
        }
        // What stands before the object: who defines it, how a view is made, what kind of index.
        let modifiers: &[&str] = &[
            "event",
            "function",
            "procedure",
            "trigger",
            "package",
            "view",
            "index",
            "sequence",
            "server",
            "tablespace",
            "logfile",
            "resource",
            "spatial",
            "library",
            "undo",
        ];
        if !self.cursor.words(&["spatial", "reference"]) {
            self.cursor.eat_any(&["unique", "fulltext", "spatial", "vector", "online", "offline"]);
        }
        self.cursor.run(|here| here.keyword(modifiers))?;
        let object = self.cursor.written(0).to_ascii_lowercase();
        self.cursor.at += 1;
        match object.as_str() {
            "event" => self.event("CREATE EVENT"),
            "function" if self.is_loadable() => {
                self.outside("CREATE FUNCTION … SONAME loads a library into the server");
                self.cursor.rest().map(|_| ())
            }
            "function" | "procedure" | "trigger" | "package" => self.routine(&object),
            "sequence" => {
                self.cursor.eat_words(&["if", "not", "exists"]);
                let name = self.cursor.object()?;
                if replaces {
                    // One of that name may be a table, which goes.
                    self.remove(Removed::Table, name, true);
                }
                self.cursor.rest().map(|_| ())
            }
            "server" | "tablespace" | "logfile" | "undo" | "resource" => {
                self.outside(format!("CREATE {}", object.to_ascii_uppercase()));
                self.cursor.rest().map(|_| ())
            }
            "view" | "index" | "spatial" | "library" => {
                let all = self.cursor.rest()?;
                self.query(&all)
            }
            _ => Err(self.cursor.lost()),
        }
    }

    /// `CREATE TABLE t (…) ENGINE = … SELECT …`
    fn create_table(&mut self, start: usize, replaces: bool, temporary: bool) -> Read<()> {
        self.facts.temporary = temporary;
        self.facts.commits_implicitly = !temporary;
        let if_not_exists = self.cursor.eat_words(&["if", "not", "exists"]);
        let name = self.cursor.object()?;
        if replaces && !temporary {
            self.remove(Removed::Table, name.clone(), true);
        }
        let rest = self.cursor.rest()?;
        let mut options = self.cursor.within(rest.clone());
        // What is defined stands in parentheses; options stand outside of them.
        if options.mark("(") {
            options.parenthesized()?;
        }
        self.engine(&options, &name)?;
        let _ = if_not_exists;
        let all = start..rest.end;
        self.query(&all)
    }

    /// Engines that reach other servers or the server's files.
    fn engine(&mut self, options: &Cursor, name: &Name) -> Read<()> {
        if has_directory(options) {
            self.outside(format!("{}: its files in a directory of the server that is named", name.written));
        }
        let Some(engine) = engine(options) else { return Ok(()) };
        if REACHING.iter().any(|reaching| engine.eq_ignore_ascii_case(reaching)) {
            self.outside(format!("{}: the engine {engine} reaches out of the database", name.written));
        }
        Ok(())
    }

    fn event(&mut self, what: &str) -> Read<()> {
        self.cursor.eat_words(&["if", "not", "exists"]);
        let name = self.cursor.object()?;
        self.outside(format!("{what} {}: the server runs it by itself", name.written));
        let mut body = self.cursor.within(self.cursor.at..self.cursor.end);
        let before = body.run(|here| here.keyword(&["do"]) || here.mark(";"))?;
        if body.eat("do") {
            body::block(&mut body)?;
            body.expect_end()?;
            self.cursor.at = self.cursor.end;
            return Ok(());
        }
        self.cursor.at = before.end;
        self.cursor.rest().map(|_| ())
    }

    /// `CREATE FUNCTION f RETURNS STRING SONAME 'f.so'`
    fn is_loadable(&self) -> bool {
        let mut ahead = self.cursor;
        ahead.run(|here| here.keyword(&["soname"]) || here.mark(";")).is_ok() && ahead.word("soname")
    }

    /// Procedures, functions, triggers: the body stands last. It begins at the first token from which on the rest reads as one statement
    /// of code, which for what is no block is anything without a semicolon.
    fn routine(&mut self, object: &str) -> Read<()> {
        self.cursor.eat_words(&["if", "not", "exists"]);
        if object == "package" {
            return Err(Unread("a package: its body is not read".to_owned()));
        }
        let rest = self.cursor.at..self.cursor.end;
        let mut plain = self.cursor.within(rest.clone());
        if plain.rest().is_ok()
            && !plain.tokens.get(rest.clone()).is_some_and(|all| all.iter().any(|token| token.is(b';')))
        {
            self.cursor.at = self.cursor.end;
            return Ok(());
        }
        // Each try reads to the end: a head with more words that could begin a body is nothing that anybody writes.
        const MOST_TRIES: usize = 32;
        let mut head = self.cursor.within(rest.clone());
        let mut tries = 0;
        while !head.done() && !head.mark(";") && tries < MOST_TRIES {
            let is_begin = head.any(&["begin", "if", "case", "loop", "while", "repeat", "for"]) || head.mark_at(1, ":");
            if is_begin {
                tries += 1;
                let mut body = head;
                if body::block(&mut body).is_ok() && body.done() {
                    self.cursor.at = self.cursor.end;
                    return Ok(());
                }
            }
            head.at += 1;
        }
        Err(Unread("where the body ends is not to be told".to_owned()))
    }

    fn alter(&mut self) -> Read<()> {
        self.define(Kind::Alter);
        self.cursor.eat_any(&["online", "offline"]);
        let ignore = self.cursor.word("ignore") && self.cursor.word_at(1, "table");
        self.cursor.at += usize::from(ignore);
        if self.cursor.eat("table") {
            if ignore {
                return Err(Unread(
                    "ALTER IGNORE TABLE deletes rows that the new definition has no place for".to_owned(),
                ));
            }
            return self.alter_table();
        }
        if self.cursor.any(&["user", "role"]) {
            self.act(ActKind::Rights, "ALTER USER");
            return self.cursor.rest().map(|_| ());
        }
        let outside: &[(&str, &str)] = &[
            ("instance", "ALTER INSTANCE changes the whole server"),
            ("server", "ALTER SERVER"),
            ("tablespace", "ALTER TABLESPACE"),
            ("undo", "ALTER UNDO TABLESPACE"),
            ("logfile", "ALTER LOGFILE GROUP"),
            ("resource", "ALTER RESOURCE GROUP"),
        ];
        if let Some((_, words)) = outside.iter().find(|(word, _)| self.cursor.word(word)) {
            self.outside(*words);
            return self.cursor.rest().map(|_| ());
        }
        if self.cursor.any(&["database", "schema", "sequence", "procedure", "function", "library"]) {
            return self.cursor.rest().map(|_| ());
        }
        self.cursor.run(|here| here.keyword(&["event", "view"]))?;
        if self.cursor.eat("event") {
            return self.event("ALTER EVENT");
        }
        self.cursor.expect("view")?;
        self.cursor.rest().map(|_| ())
    }

    fn alter_table(&mut self) -> Read<()> {
        let if_exists = self.if_exists()?;
        let name = self.cursor.object()?;
        self.waits()?;
        self.facts.redefines.push(name.clone());
        let mut ordering = false;
        while !self.cursor.done() {
            let step = self.cursor.run(|here| here.mark(","))?;
            let mut inside = self.cursor.within(step.clone());
            match ordering && is_order(&inside) {
                true => {}
                false => {
                    ordering = inside.words(&["order", "by"]);
                    self.step(&mut inside, &name, if_exists)?;
                    // A list of partitions has commas of its own.
                    self.cursor.at = inside.at.max(step.end);
                }
            }
            if !self.cursor.eat_mark(",") {
                break;
            }
        }
        Ok(())
    }

    /// One step of an ALTER TABLE.
    fn step(&mut self, step: &mut Cursor, name: &Name, if_exists: bool) -> Read<()> {
        // `ADD PARTITION`, `DROP PARTITION p0, p1`: the names go on behind commas.
        let whole = Cursor { end: self.cursor.end, ..*step };
        match step.written(0).to_ascii_lowercase().as_str() {
            "drop" => self.drop_step(step, &whole, name, if_exists),
            "truncate" => self.partitions_gone(step, &whole, 1, name),
            "discard" if step.word_at(1, "partition") => self.partitions_gone(step, &whole, 1, name),
            "discard" => {
                self.remove(Removed::Table, name.clone(), if_exists);
                Ok(())
            }
            "import" => {
                self.outside(format!("{}: IMPORT takes its rows from a file of the server", name.written));
                skip_partitions(step, &whole)
            }
            "exchange" => {
                step.at += 2;
                let partition = step.identifier()?;
                self.remove(Removed::Partition(partition), name.clone(), if_exists);
                Ok(())
            }
            "convert" if step.word_at(1, "partition") => {
                step.at += 2;
                let partition = step.identifier()?;
                self.remove(Removed::Partition(partition), name.clone(), if_exists);
                Ok(())
            }
            "convert" if step.word_at(1, "table") => {
                step.at += 2;
                let table = step.object()?;
                self.remove(Removed::Table, table, if_exists);
                Ok(())
            }
            "alter" if step.any_at(1, &["check", "constraint"]) && step.ends_with(&["not", "enforced"]) => {
                self.act(ActKind::GuardDisabled, format!("{}: a constraint no longer enforced", name.written));
                Ok(())
            }
            "rename" => {
                step.at += 1;
                if !step.any(&["column", "index", "key"]) {
                    let _ = step.eat_any(&["to", "as"]) || step.eat_mark("=");
                    self.facts.redefines.push(step.object()?);
                }
                Ok(())
            }
            "disable" | "enable" | "coalesce" | "force" | "order" | "change" | "modify" | "alter" | "add"
            | "convert" | "lock" | "algorithm" | "partition" | "remove" | "with" | "without" | "secondary_load"
            | "secondary_unload" => Ok(()),
            "analyze" | "check" | "optimize" | "rebuild" | "repair" | "reorganize" => skip_partitions(step, &whole),
            word if OPTIONS.contains(&word) => self.options(step, name, if_exists),
            _ => Err(step.lost()),
        }
    }

    /// Options stand with or without commas between them.
    fn options(&mut self, step: &Cursor, name: &Name, if_exists: bool) -> Read<()> {
        if engine(step).is_some_and(|engine| engine.eq_ignore_ascii_case("blackhole")) {
            self.remove(Removed::Table, name.clone(), if_exists);
        }
        self.engine(step, name)
    }

    fn drop_step(&mut self, step: &mut Cursor, whole: &Cursor, name: &Name, if_exists: bool) -> Read<()> {
        step.at += 1;
        let guard = |words: &str| format!("{}: {words}", name.written);
        if step.eat_words(&["primary", "key"]) {
            self.act(ActKind::GuardDropped, guard("DROP PRIMARY KEY"));
            return step.expect_end();
        }
        if step.word("foreign") || (step.any(&["check", "constraint"]) && step.ahead(1).is_some()) {
            let what = step.written(0).to_ascii_uppercase();
            step.at += if step.word("foreign") { 2 } else { 1 };
            step.eat_words(&["if", "exists"]);
            let constraint = names::quoted(&step.identifier()?);
            let what = if what == "FOREIGN" { "FOREIGN KEY".to_owned() } else { what };
            self.act(ActKind::GuardDropped, guard(&format!("DROP {what} {constraint}")));
            return Ok(());
        }
        if step.any(&["index", "key"]) {
            step.at += 1;
            step.eat_words(&["if", "exists"]);
            if step.identifier()?.eq_ignore_ascii_case("primary") {
                self.act(ActKind::GuardDropped, guard("DROP PRIMARY KEY"));
            }
            return Ok(());
        }
        if step.word("partition") {
            return self.partitions_gone(step, whole, 0, name);
        }
        if self.cursor.is_mariadb() && step.words(&["system", "versioning"]) {
            return Err(Unread("DROP SYSTEM VERSIONING removes what every row was before".to_owned()));
        }
        if self.cursor.is_mariadb() && step.word("period") && step.any_at(1, &["for", "if"]) {
            return Ok(());
        }
        step.eat("column");
        let missing = step.eat_words(&["if", "exists"]);
        let column = step.column()?;
        step.eat_any(&["restrict", "cascade"]);
        self.remove(Removed::Column(column), name.clone(), if_exists || missing);
        step.expect_end()
    }

    /// `PARTITION p0, p1`, `PARTITION ALL`, from the word PARTITION on, which stands `by` tokens ahead.
    fn partitions_gone(&mut self, step: &mut Cursor, whole: &Cursor, by: usize, name: &Name) -> Read<()> {
        let mut list = Cursor { at: step.at + by, ..*whole };
        list.expect("partition")?;
        let if_exists = list.eat_words(&["if", "exists"]);
        loop {
            let partition = list.identifier()?;
            self.remove(Removed::Partition(partition), name.clone(), if_exists);
            if !list.eat_mark(",") {
                break;
            }
        }
        list.eat("tablespace");
        step.at = list.at;
        Ok(())
    }
}

/// Over the names of `ANALYZE PARTITION p0, p1 …` and what stands behind them.
fn skip_partitions(step: &mut Cursor, whole: &Cursor) -> Read<()> {
    let mut list = *whole;
    list.at += 1;
    if !list.eat("partition") {
        return Ok(());
    }
    loop {
        list.identifier()?;
        if !list.eat_mark(",") {
            break;
        }
    }
    list.run(|here| here.mark(","))?;
    step.at = list.at;
    Ok(())
}

/// `ORDER BY a, b DESC`: a column behind a comma is no step.
fn is_order(step: &Cursor) -> bool {
    let mut ahead = *step;
    let named = ahead.object().is_ok_and(|name| !matches!(name.parts.as_slice(), [word] if names::is_reserved(word)));
    ahead.eat_any(&["asc", "desc"]);
    named && ahead.done()
}

/// `DATA DIRECTORY = '/x'` outside of parentheses: where on the server its files are put.
fn has_directory(options: &Cursor) -> bool {
    let mut here = *options;
    while !here.done() {
        if here.mark("(") && here.parenthesized().is_ok() {
            continue;
        }
        if here.keyword(&["data", "index"]) && here.word_at(1, "directory") {
            return true;
        }
        here.at += 1;
    }
    false
}

/// The last `ENGINE = x` outside of parentheses.
fn engine<'t>(options: &Cursor<'t>) -> Option<&'t str> {
    let mut here = *options;
    let mut found = None;
    while !here.done() {
        if here.mark("(") {
            here.parenthesized().ok()?;
            continue;
        }
        if here.keyword(&["engine", "type"]) {
            found = Some(here.written(if here.mark_at(1, "=") { 2 } else { 1 }).trim_matches(['\'', '"', '`']));
        }
        here.at += 1;
    }
    found
}

impl Cursor<'_> {
    fn any_at(&self, by: usize, words: &[&str]) -> bool {
        words.iter().any(|word| self.word_at(by, word))
    }

    fn ends_with(&self, words: &[&str]) -> bool {
        let tokens: Range<usize> = self.end.saturating_sub(words.len())..self.end;
        tokens.zip(words).all(|(at, word)| self.tokens.get(at).is_some_and(|token| token.is_word(self.text, word)))
    }
}

/// Engines whose tables are files or tables elsewhere.
const REACHING: &[&str] = &["federated", "federatedx", "connect", "spider", "s3", "oqgraph", "sphinx"];

/// What DROP can drop besides tables, databases and tablespaces.
const OBJECTS: &[(&[&str], &str)] = &[
    (&["view"], "view"),
    (&["index"], "index"),
    (&["procedure"], "procedure"),
    (&["function"], "function"),
    (&["trigger"], "trigger"),
    (&["event"], "event"),
    (&["sequence"], "sequence"),
    (&["temporary", "sequence"], "sequence"),
    (&["user"], "user"),
    (&["role"], "role"),
    (&["server"], "server"),
    (&["logfile", "group"], "logfile group"),
    (&["resource", "group"], "resource group"),
    (&["spatial", "reference", "system"], "spatial reference system"),
    (&["package", "body"], "package body"),
    (&["package"], "package"),
    (&["library"], "library"),
];

/// Options of a table, in ALTER TABLE.
#[rustfmt::skip]
const OPTIONS: &[&str] = &[
    "engine", "type", "auto_increment", "avg_row_length", "default", "character", "charset", "collate", "checksum",
    "comment", "compression", "connection", "data", "delay_key_write", "encryption", "encrypted", "encryption_key_id",
    "ietf_quotes", "index", "insert_method", "itef_quotes", "key_block_size", "max_rows", "min_rows", "pack_keys",
    "page_checksum", "page_compressed", "page_compression_level", "password", "row_format", "stats_auto_recalc",
    "stats_persistent", "stats_sample_pages", "tablespace", "storage", "transactional", "union", "engine_attribute",
    "secondary_engine", "secondary_engine_attribute", "sequence", "autoextend_size", "start",
];
