//! Settings that a statement would change: SET in all its forms.
//!
//! Invariant: each assignment of a system variable is listed by its lower-cased name, with its value if that is a constant. Variables of
//! the user's own (`@x`) are listed with their `@`: they change nothing that the server heeds.
//!
//! Sources: `set` in MySQL 9.7's `sql_yacc.yy`, and MariaDB 10.11's for SET STATEMENT.

use crate::sql::dialect::mysql::cursor::Read;
use crate::sql::dialect::mysql::facts::Reader;
use crate::sql::dialect::mysql::names;
use crate::sql::facts::{ActKind, Facts, Kind, SettingChange, SettingScope};
use crate::sql::lexer;
use std::ops::Range;

impl Reader<'_> {
    /// From behind SET; `start` is where SET stands.
    pub fn set_statement(&mut self, start: usize) -> Read<()> {
        self.facts.kind = Kind::Set;
        self.facts.changes_session = true;
        if self.cursor.is_mariadb() && self.cursor.word("statement") && !self.cursor.mark_at(1, "=") {
            return self.statement_with_settings();
        }
        if self.special()? {
            return Ok(());
        }
        let mut scope = SettingScope::Session;
        let mut only_own = true;
        loop {
            only_own &= self.assigned(&mut scope)?;
            if !self.cursor.eat_mark(",") {
                break;
            }
        }
        self.facts.changes_session = !only_own;
        let all = start..self.cursor.at;
        self.query(&all)
    }

    /// MariaDB: `SET STATEMENT a = 1, b = 2 FOR statement`.
    fn statement_with_settings(&mut self) -> Read<()> {
        self.cursor.at += 1;
        loop {
            let name = self.cursor.object()?.parts.join(".");
            self.cursor.expect_mark("=")?;
            let value = self.cursor.expression(&["for"])?;
            self.push_setting(&name, &value, SettingScope::Transaction);
            if !self.cursor.eat_mark(",") {
                break;
            }
        }
        self.cursor.expect("for")?;
        let settings = std::mem::take(&mut self.facts.settings);
        let read = self.statement();
        // What could not be read is run under them all the same.
        self.facts.settings.splice(0..0, settings);
        self.facts.changes_session = true;
        read
    }

    /// SET that sets no variable by its name.
    fn special(&mut self) -> Read<bool> {
        let follows = |by: usize, words: &[&str]| words.iter().any(|word| self.cursor.word_at(by, word));
        if self.cursor.word("password") {
            self.act(ActKind::Rights, "SET PASSWORD");
            self.facts.commits_implicitly = true;
            return self.cursor.rest().map(|_| true);
        }
        if self.cursor.words(&["default", "role"]) {
            self.act(ActKind::Rights, "SET DEFAULT ROLE");
            self.facts.commits_implicitly = true;
            return self.cursor.rest().map(|_| true);
        }
        if self.cursor.word("role") && !self.cursor.mark_at(1, "=") {
            self.cursor.at += 1;
            let role = self.cursor.rest()?;
            self.push_setting("role", &role, SettingScope::Session);
            return Ok(true);
        }
        if self.cursor.words(&["resource", "group"]) {
            self.push_setting("resource_group", &(0..0), SettingScope::Session);
            return self.cursor.rest().map(|_| true);
        }
        if self.cursor.words(&["session", "authorization"]) {
            self.push_setting("session_authorization", &(0..0), SettingScope::Session);
            return self.cursor.rest().map(|_| true);
        }
        let scoped = usize::from(follows(0, &["global", "session", "local"]));
        if follows(scoped, &["transaction"]) && !self.cursor.mark_at(scoped + 1, "=") {
            return self.isolation(scoped).map(|()| true);
        }
        Ok(false)
    }

    /// `SET SESSION TRANSACTION ISOLATION LEVEL …, READ ONLY`
    fn isolation(&mut self, scoped: usize) -> Read<()> {
        let scope = match (scoped, self.cursor.word("global")) {
            (0, _) => SettingScope::Transaction,
            (_, true) => SettingScope::Lasting,
            (_, false) => SettingScope::Session,
        };
        self.cursor.at += scoped + 1;
        loop {
            let start = self.cursor.at;
            let (name, value) = if self.cursor.eat_words(&["isolation", "level"]) {
                let level = self.cursor.run(|here| here.mark(","))?;
                ("transaction_isolation", self.cursor.slice(&level).unwrap_or_default().to_owned())
            } else if self.cursor.eat_words(&["read", "only"]) {
                ("transaction_read_only", "1".to_owned())
            } else if self.cursor.eat_words(&["read", "write"]) {
                ("transaction_read_only", "0".to_owned())
            } else {
                return Err(self.cursor.lost());
            };
            debug_assert!(self.cursor.at > start);
            self.facts.settings.push(SettingChange { name: name.to_owned(), value: Some(value), scope });
            if !self.cursor.eat_mark(",") {
                break;
            }
        }
        if scope == SettingScope::Lasting {
            self.outside("SET GLOBAL TRANSACTION sets the whole server");
        }
        Ok(())
    }

    /// One assignment; whether it is of a variable of the user's own. A scope holds for those behind it that name none.
    fn assigned(&mut self, scope: &mut SettingScope) -> Read<bool> {
        if self.cursor.word("names") && !self.cursor.mark_at(1, "=") {
            self.cursor.at += 1;
            return self.charset("names");
        }
        if self.cursor.words(&["character", "set"]) || self.cursor.words(&["char", "set"]) {
            self.cursor.at += 2;
            return self.charset("character_set");
        }
        if self.cursor.word("charset") && !self.cursor.mark_at(1, "=") {
            self.cursor.at += 1;
            return self.charset("character_set");
        }
        let mut here = *scope;
        let is_scope = |by: usize| {
            !self.cursor.mark_at(by, "=") && !self.cursor.mark_at(by, ":=") && !self.cursor.mark_at(by, ".")
        };
        if self.cursor.any(&["global", "persist", "persist_only"]) && is_scope(1) {
            self.cursor.at += 1;
            (here, *scope) = (SettingScope::Lasting, SettingScope::Lasting);
        } else if self.cursor.any(&["session", "local"]) && is_scope(1) {
            self.cursor.at += 1;
            (here, *scope) = (SettingScope::Session, SettingScope::Session);
        }
        let own = self.cursor.written(0).starts_with('@') && !self.cursor.written(0).starts_with("@@");
        let name = match self.cursor.written(0).starts_with('@') {
            true => self.cursor.variable()?,
            false => self.cursor.object()?.parts.join("."),
        };
        if !(self.cursor.eat_mark("=") || self.cursor.eat_mark(":=")) {
            return Err(self.cursor.lost());
        }
        let value = self.cursor.expression(&[])?;
        // MySQL takes `` @@`autocommit ` `` for the setting as well, quotes, space and all.
        let bare = |name: &str| match name.starts_with("@@") {
            true => name.chars().filter(|sign| !matches!(sign, '`' | '"' | ' ')).collect(),
            false => name.to_owned(),
        };
        let name = bare(&name);
        let name = match name.strip_prefix("@@").map(|rest| rest.split_once('.').unwrap_or(("", rest))) {
            None => name,
            Some((place, rest)) if is_place(place) => {
                here = match place.to_ascii_lowercase().as_str() {
                    "" => here,
                    "session" | "local" => SettingScope::Session,
                    _ => SettingScope::Lasting,
                };
                rest.to_owned()
            }
            // `@@hot_cache.key_buffer_size`: a part of a variable.
            Some((part, rest)) => format!("{part}.{rest}"),
        };
        let name = known(&name);
        self.push_setting(&name, &value, here);
        if here == SettingScope::Lasting && !own {
            self.outside(format!("SET GLOBAL {name} sets the whole server"));
        }
        if matches!(name.as_str(), "autocommit" | "*") {
            self.facts.commits_implicitly = true;
        }
        Ok(own)
    }

    fn charset(&mut self, name: &str) -> Read<bool> {
        let value = self.cursor.run(|here| here.mark(","))?;
        if value.is_empty() {
            return Err(self.cursor.lost());
        }
        self.push_setting(name, &(value.start..value.start + 1), SettingScope::Session);
        Ok(false)
    }

    fn push_setting(&mut self, name: &str, value: &Range<usize>, scope: SettingScope) {
        let value = self.constant(value);
        self.facts.settings.push(SettingChange { name: known(name), value, scope });
    }

    /// A word, a number, a string, with a sign perhaps; DEFAULT is none.
    fn constant(&self, tokens: &Range<usize>) -> Option<String> {
        let value = self.cursor.within(tokens.clone());
        let (sign, at) = if value.mark("-") && tokens.len() == 2 { ("-", 1) } else { ("", 0) };
        if tokens.len() != at + 1 || value.word("default") {
            return None;
        }
        let written = value.written(at);
        match value.ahead(at)?.kind {
            lexer::Kind::String(_) => names::literal(written, self.cursor.mode),
            lexer::Kind::Number | lexer::Kind::Word => Some(format!("{sign}{written}")),
            _ => None,
        }
    }
}

/// Settings for one statement that stand in its optimizer hints: `DELETE /*+ SET_VAR(foreign_key_checks = OFF) */ FROM …`. Whatever looks
/// like one counts, in a string too: a setting too many is asked about, one that is overlooked is not.
pub fn hinted(text: &str, facts: &mut Facts) {
    let folded = text.to_ascii_lowercase();
    if !folded.contains("/*+") {
        return;
    }
    for rest in folded.split("set_var").skip(1) {
        let Some(inside) = rest.trim_start().strip_prefix('(') else { continue };
        let inside = inside.split(')').next().unwrap_or_default();
        let (name, value) = inside.split_once('=').unwrap_or((inside, ""));
        let bare = |part: &str| part.trim().trim_matches(['`', '"', '\'']).trim().to_owned();
        let value = Some(bare(value)).filter(|value| !value.is_empty());
        facts.settings.push(SettingChange { name: known(&bare(name)), value, scope: SettingScope::Transaction });
    }
}

/// The name by which rules know a setting. MySQL finds one regardless of accents and of spaces behind it (`SET foreign_kéy_checks = 0`, tried on
/// 9.7): what is not plain ASCII can be any, which is listed as `*`.
fn known(name: &str) -> String {
    let name = names::folded(name.trim_end());
    if name.is_ascii() || name.starts_with('@') { name } else { "*".to_owned() }
}

fn is_place(place: &str) -> bool {
    ["", "global", "session", "local", "persist", "persist_only"].iter().any(|known| place.eq_ignore_ascii_case(known))
}
