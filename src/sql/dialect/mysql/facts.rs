//! The facts of one statement, read from its tokens.
//!
//! Invariant: every token of the statement was taken in a form that is known here; else the statement is unread, with the place where
//! it went beyond what is known. What a statement of a known kind says of definitions (columns, options, bodies) is taken in balance.
//!
//! Sources: MySQL 9.7 manual, "SQL Statements", and its `sql_yacc.yy`; MariaDB 10.11's `sql_yacc.yy`.

use crate::sql::dialect::mysql::changes::begins_query;
use crate::sql::dialect::mysql::cursor::{Cursor, Read, Unread};
use crate::sql::dialect::mysql::{self, acts, body, names, tables};
use crate::sql::facts::{Act, ActKind, Execution, Facts, Kind, Nesting, TransactionVerb};
use crate::sql::lexer::{self, Token};
use crate::sql::statement::MySqlMode;
use std::collections::BTreeSet;
use std::ops::Range;

/// Reads one statement: `tokens` without comments.
pub fn gather(text: &str, tokens: &[Token], mode: MySqlMode) -> Facts {
    let mut reader = Reader {
        cursor: Cursor::new(text, tokens, mode),
        facts: Facts::default(),
        nesting: Nesting::Outer,
        hidden: BTreeSet::new(),
        with: None,
        spans_hold: true,
    };
    let read = reader.statement().and_then(|()| reader.cursor.expect_end());
    let mut facts = reader.facts;
    if let Err(Unread(why)) = read {
        facts.unread = Some(why);
        facts.changes_session = true;
        if facts.kind == Kind::Empty {
            facts.kind = Kind::Unread;
        }
    }
    let parameters = tokens.iter().filter(|token| token.kind == lexer::Kind::Parameter).count();
    facts.parameters = facts.parameters.max(u16::try_from(parameters).unwrap_or(u16::MAX));
    facts
}

pub struct Reader<'t> {
    pub cursor: Cursor<'t>,
    pub facts: Facts,
    pub nesting: Nesting,
    /// Names that WITH gives to queries.
    pub hidden: BTreeSet<String>,
    /// The WITH before the statement, in tokens.
    pub with: Option<Range<usize>>,
    /// The text read is the one that is sent: spans into it can be used.
    pub spans_hold: bool,
}

impl Reader<'_> {
    /// The statement, or one that a wrapper runs; to its end.
    pub fn statement(&mut self) -> Read<()> {
        let start = self.cursor.at;
        if self.cursor.done() {
            return Ok(());
        }
        if begins_query(&self.cursor) && !self.cursor.word("with") {
            return self.read_only(start);
        }
        let Some(first) = self.cursor.ahead(0).filter(|token| token.kind == lexer::Kind::Word) else {
            return Err(self.cursor.lost());
        };
        let word = first.text(self.cursor.text).to_ascii_lowercase();
        self.cursor.at += 1;
        match word.as_str() {
            "with" => self.with(start),
            "insert" => self.changing(start, |reader| reader.insert(false)),
            "replace" => self.changing(start, |reader| reader.insert(true)),
            "update" => self.changing(start, Reader::update),
            "delete" => self.changing(start, Reader::delete),
            "load" => self.loading(start),
            "do" => self.read_only(start),
            "handler" => {
                self.cursor.object()?;
                self.read_only(start)
            }
            "show" | "help" => self.read_only(start),
            "explain" | "describe" | "desc" => self.explain(start),
            "call" => self.call(start),
            "set" => self.set_statement(start),
            "use" => {
                self.cursor.identifier()?;
                self.other("USE", true)
            }
            "begin" | "start" | "commit" | "rollback" | "savepoint" | "release" | "xa" => self.transaction(&word),
            "prepare" => self.prepare(),
            "execute" => self.execute(),
            "deallocate" => self.deallocate(),
            "create" | "alter" | "drop" | "rename" | "truncate" => self.definition(&word, start),
            "grant" | "revoke" => self.grant(&word),
            "analyze" if !self.cursor.any(&["table", "tables", "no_write_to_binlog", "local"]) => self.analyze(),
            "signal" | "resignal" | "get" => {
                let rest = self.cursor.rest()?;
                self.calls(&rest);
                self.other("a condition", false)
            }
            _ => self.administration(&word),
        }
    }

    fn read_only(&mut self, start: usize) -> Read<()> {
        self.facts.kind = Kind::Read;
        self.cursor.at = start;
        let all = self.cursor.rest()?;
        self.query(&all)
    }

    /// What a query does besides reading, and which functions it calls.
    pub fn query(&mut self, tokens: &Range<usize>) -> Read<()> {
        acts::of_query(&self.cursor.within(tokens.clone()), &mut self.facts);
        self.calls(tokens);
        Ok(())
    }

    /// Functions called in these tokens, and what they do.
    pub fn calls(&mut self, tokens: &Range<usize>) {
        let known: BTreeSet<String> = self.facts.functions.iter().cloned().collect();
        let found = acts::functions(&self.cursor.within(tokens.clone()));
        for name in found.difference(&known) {
            acts::of_call(name, &mut self.facts);
            self.facts.functions.push(name.clone());
        }
    }

    /// A change of rows, whose functions are looked for in all of it.
    fn changing(&mut self, start: usize, read: impl FnOnce(&mut Self) -> Read<()>) -> Read<()> {
        read(self)?;
        let all = start..self.cursor.at;
        self.facts.reads = tables::read_by_queries(&self.cursor.within(all.clone()));
        acts::of_query(&self.cursor.within(all.clone()), &mut self.facts);
        self.calls(&all);
        Ok(())
    }

    fn loading(&mut self, start: usize) -> Read<()> {
        if self.cursor.eat("data") || self.cursor.eat("xml") {
            return self.changing(start, Reader::load);
        }
        self.cursor.expect("index")?;
        self.cursor.rest()?;
        self.facts.commits_implicitly = true;
        self.other("LOAD INDEX INTO CACHE", false)
    }

    /// `WITH a AS (…) SELECT`, and in MySQL UPDATE and DELETE.
    fn with(&mut self, start: usize) -> Read<()> {
        self.cursor.eat("recursive");
        loop {
            let name = self.cursor.identifier()?;
            self.hidden.insert(name);
            if self.cursor.mark("(") {
                self.cursor.names_in_parentheses()?;
            }
            self.cursor.expect("as")?;
            self.cursor.parenthesized()?;
            if self.cursor.eat("cycle") {
                self.cursor.run(|here| here.keyword(&["restrict"]))?;
                self.cursor.expect("restrict")?;
            }
            if !self.cursor.eat_mark(",") {
                break;
            }
        }
        self.with = Some(start..self.cursor.at);
        if self.cursor.eat("update") {
            return self.changing(start, Reader::update);
        }
        if self.cursor.eat("delete") {
            return self.changing(start, Reader::delete);
        }
        match begins_query(&self.cursor) {
            true => self.read_only(start),
            false => Err(self.cursor.lost()),
        }
    }

    /// `EXPLAIN statement` plans it, `EXPLAIN ANALYZE` runs it; `DESCRIBE table`.
    fn explain(&mut self, start: usize) -> Read<()> {
        let mut runs = false;
        loop {
            if self.cursor.eat("analyze") {
                runs = true;
            } else if self.cursor.any(&["extended", "partitions"]) && self.cursor.ahead(1).is_some() {
                self.cursor.at += 1;
            } else if self.cursor.word("format") && self.cursor.mark_at(1, "=") {
                self.cursor.at += 3;
            } else if self.cursor.word("into") {
                self.cursor.at += 1;
                self.cursor.variable()?;
            } else if self.cursor.word("for")
                && (self.cursor.word_at(1, "schema") || self.cursor.word_at(1, "database"))
            {
                self.cursor.at += 2;
                self.cursor.identifier()?;
            } else {
                break;
            }
        }
        let changes = self.cursor.any(&["insert", "replace", "update", "delete", "with"]);
        if !changes || (self.cursor.word("with") && !runs) {
            return self.read_only(start);
        }
        if runs {
            self.nesting = Nesting::Explain;
            return self.statement();
        }
        // Planned, not run: it must be understood all the same, so that nothing else hides in it.
        self.statement()?;
        self.facts.changes.clear();
        self.facts.again.clear();
        self.facts.kind = Kind::Read;
        Ok(())
    }

    /// MariaDB's `ANALYZE [FORMAT=JSON] statement` runs it.
    fn analyze(&mut self) -> Read<()> {
        if self.cursor.word("format") && self.cursor.mark_at(1, "=") {
            self.cursor.at += 3;
        }
        self.nesting = Nesting::Explain;
        self.statement()
    }

    fn call(&mut self, start: usize) -> Read<()> {
        self.facts.kind = Kind::Call;
        self.facts.changes_session = true;
        let name = self.cursor.object()?;
        if self.cursor.mark("(") {
            self.cursor.parenthesized()?;
        }
        let all = start + 1..self.cursor.at;
        self.calls(&all);
        let name = name.parts.join(".").to_lowercase();
        if !self.facts.functions.contains(&name) {
            self.facts.functions.push(name);
        }
        Ok(())
    }

    fn transaction(&mut self, word: &str) -> Read<()> {
        use TransactionVerb::{Begin, Commit, Release, Rollback, RollbackTo, Savepoint};
        self.facts.kind = Kind::Transaction;
        let verb = match word {
            "begin" if self.cursor.is_mariadb() && self.cursor.words(&["not", "atomic"]) => return self.code(1),
            "begin" => {
                self.cursor.eat("work");
                Begin
            }
            "start" if self.cursor.eat("transaction") => {
                self.characteristics()?;
                Begin
            }
            "start" => return self.administration(word),
            "commit" => {
                self.cursor.eat("work");
                self.completion()?;
                Commit
            }
            "rollback" => {
                self.cursor.eat("work");
                if self.cursor.eat("to") {
                    self.cursor.eat("savepoint");
                    self.cursor.identifier()?;
                    RollbackTo
                } else {
                    self.completion()?;
                    Rollback
                }
            }
            "savepoint" => {
                self.cursor.identifier()?;
                Savepoint
            }
            "release" => {
                self.cursor.expect("savepoint")?;
                self.cursor.identifier()?;
                Release
            }
            _ => return self.distributed(),
        };
        self.facts.commits_implicitly = verb == Begin;
        self.facts.transaction = Some(verb);
        Ok(())
    }

    /// `WITH CONSISTENT SNAPSHOT, READ ONLY`
    fn characteristics(&mut self) -> Read<()> {
        while !self.cursor.done() {
            let known = self.cursor.eat_words(&["with", "consistent", "snapshot"])
                || self.cursor.eat_words(&["read", "only"])
                || self.cursor.eat_words(&["read", "write"]);
            if !known {
                return Err(self.cursor.lost());
            }
            self.cursor.eat_mark(",");
        }
        Ok(())
    }

    /// `AND NO CHAIN RELEASE`
    fn completion(&mut self) -> Read<()> {
        if self.cursor.eat("and") {
            self.cursor.eat("no");
            self.cursor.expect("chain")?;
        }
        self.cursor.eat("no");
        self.cursor.eat("release");
        Ok(())
    }

    /// XA: transactions over several servers.
    fn distributed(&mut self) -> Read<()> {
        let Some(word) = self.cursor.ahead(0).map(|token| token.text(self.cursor.text).to_ascii_lowercase()) else {
            return Err(self.cursor.lost());
        };
        self.cursor.at += 1;
        self.facts.transaction = match word.as_str() {
            "start" | "begin" => Some(TransactionVerb::Begin),
            "prepare" => Some(TransactionVerb::PrepareTransaction),
            "commit" => Some(TransactionVerb::CommitPrepared),
            "rollback" => Some(TransactionVerb::RollbackPrepared),
            "end" => {
                self.facts.kind = Kind::Other("XA END".to_owned());
                None
            }
            "recover" => {
                self.facts.kind = Kind::Read;
                None
            }
            _ => return Err(self.cursor.lost()),
        };
        self.cursor.rest().map(|_| ())
    }

    /// `PREPARE name FROM 'text'`, `FROM @variable`.
    fn prepare(&mut self) -> Read<()> {
        self.facts.kind = Kind::Prepare;
        self.facts.changes_session = true;
        let name = self.prepared_name()?;
        self.facts.prepares = Some(name);
        self.cursor.expect("from")?;
        self.text(Nesting::Prepare)?;
        self.facts.kind = Kind::Prepare;
        Ok(())
    }

    /// `EXECUTE name USING @a, @b`, MariaDB's `EXECUTE IMMEDIATE 'text' USING …`.
    fn execute(&mut self) -> Read<()> {
        self.facts.kind = Kind::Execute;
        self.facts.changes_session = true;
        if self.cursor.is_mariadb() && self.cursor.eat("immediate") {
            self.text(Nesting::Outer)?;
            self.arguments()?;
            self.facts.changes_session = true;
            return Ok(());
        }
        let name = self.prepared_name()?;
        let arguments = self.arguments()?;
        self.facts.executes = Some(Execution { name, arguments });
        Ok(())
    }

    /// The name of a prepared statement, folded. MySQL finds `cafe` by `café` and by `` `cafe ` `` too (tried on 9.7): what could be taken
    /// for another name may run or replace that one.
    fn prepared_name(&mut self) -> Read<String> {
        let name = self.cursor.identifier()?;
        if name.is_ascii() && !name.ends_with(' ') {
            return Ok(names::folded(&name));
        }
        self.facts.forgets_prepared = true;
        Err(Unread(format!("the server may take the name {name} for another")))
    }

    fn arguments(&mut self) -> Read<Vec<String>> {
        let mut found = Vec::new();
        if self.cursor.eat("using") {
            loop {
                let argument = self.cursor.expression(&[])?;
                self.calls(&argument);
                found.extend(self.cursor.slice(&argument).map(str::to_owned));
                if !self.cursor.eat_mark(",") {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// The text that is prepared or run: a literal is read as the server will read it, anything else the server must be asked for.
    fn text(&mut self, nesting: Nesting) -> Read<()> {
        let expression = self.cursor.expression(&["using"])?;
        let alone = expression.len() == 1;
        let literal = self.cursor.within(expression.clone());
        let decoded = match alone && literal.string_at(0) {
            true => names::literal(literal.written(0), self.cursor.mode),
            false => None,
        };
        let Some(text) = decoded else {
            self.calls(&expression);
            self.facts.text_in = self.cursor.slice(&expression).map(str::to_owned);
            return Err(Unread("the text that it runs stands elsewhere".to_owned()));
        };
        if self.nesting == Nesting::Prepare || !self.spans_hold {
            return Err(Unread("a text within a text within a text".to_owned()));
        }
        let (lexed, _) = lexer::tokens(&text, self.cursor.lexical());
        if let Some(why) = mysql::flaw(&lexed) {
            return Err(Unread(why.to_owned()));
        }
        // A semicolon may end it.
        let closing = lexed.iter().rev().take_while(|token| token.is(b';')).count();
        let lexed = lexed.get(..lexed.len() - closing).unwrap_or_default();
        let facts = std::mem::take(&mut self.facts);
        let mut inner = Reader {
            cursor: Cursor::new(&text, lexed, self.cursor.mode),
            facts,
            nesting,
            hidden: BTreeSet::new(),
            with: None,
            spans_hold: false,
        };
        let read = inner.statement().and_then(|()| inner.cursor.expect_end());
        self.facts = inner.facts;
        for removal in &mut self.facts.removals {
            removal.nesting = nesting;
        }
        let parameters = lexed.iter().filter(|token| token.kind == lexer::Kind::Parameter).count();
        self.facts.parameters = u16::try_from(parameters).unwrap_or(u16::MAX);
        self.facts.changes_session = true;
        if nesting == Nesting::Prepare {
            // Nothing of it happens now.
            self.facts.commits_implicitly = false;
            self.facts.transaction = None;
        }
        self.facts.prepared_text = Some(text);
        read
    }

    fn deallocate(&mut self) -> Read<()> {
        self.cursor.expect("prepare")?;
        self.cursor.identifier()?;
        self.facts.forgets_prepared = true;
        self.other("DEALLOCATE PREPARE", true)
    }

    /// Code that runs at once: MariaDB's compound statements. `back`: how many tokens of it were passed.
    pub fn code(&mut self, back: usize) -> Read<()> {
        self.facts.kind = Kind::Do;
        self.facts.changes_session = true;
        self.facts.transaction = None;
        self.cursor.at -= back;
        let start = self.cursor.at;
        let simple = body::block(&mut self.cursor)?;
        let all = start..self.cursor.at;
        self.calls(&all);
        simple.into_iter().try_for_each(|tokens| self.step_of_code(tokens))
    }

    /// One plain statement of code that runs at once. Its changes of rows are for the database to tell, for nobody knows how often it
    /// runs; but what no ROLLBACK takes back is listed: settings, what is removed, what is done besides.
    fn step_of_code(&mut self, tokens: Range<usize>) -> Read<()> {
        const OF_CODE: &[&str] = &["declare", "leave", "iterate", "open", "fetch", "close", "return", "null"];
        let cursor = self.cursor.within(tokens);
        if cursor.any(OF_CODE) {
            return Ok(());
        }
        let mut inner = Reader {
            cursor,
            facts: Facts::default(),
            nesting: Nesting::Outer,
            hidden: BTreeSet::new(),
            with: None,
            spans_hold: false,
        };
        inner.statement().and_then(|()| inner.cursor.expect_end())?;
        let Facts { removals, settings, acts, commits_implicitly, transaction, executes, .. } = inner.facts;
        if executes.is_some() {
            return Err(Unread("code that runs a text which is not known".to_owned()));
        }
        self.facts.removals.extend(removals);
        self.facts.settings.extend(settings);
        // Functions were looked for in all of it.
        self.facts.acts.extend(acts.into_iter().filter(|act| !act.words.ends_with("()")));
        self.facts.commits_implicitly |= commits_implicitly || transaction.is_some();
        Ok(())
    }

    pub fn other(&mut self, name: &str, changes_session: bool) -> Read<()> {
        self.facts.kind = Kind::Other(name.to_owned());
        self.facts.changes_session = changes_session;
        Ok(())
    }

    pub fn act(&mut self, kind: ActKind, words: impl Into<String>) {
        self.facts.acts.push(Act { kind, words: words.into() });
    }

    pub fn outside(&mut self, words: impl Into<String>) {
        self.act(ActKind::Outside, words);
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::Product;
    use crate::sql::facts::{Constant, Facts, Nesting, Removed, Restriction, SettingScope, Verb};
    use crate::sql::read;
    use crate::sql::statement::{LexicalMode, MySqlMode};

    const BOTH: [(Product, u32); 2] = [(Product::MySql, 90_704), (Product::MariaDb, 101_119)];

    fn mode((product, version): (Product, u32)) -> LexicalMode {
        LexicalMode::MySql(MySqlMode::of(product, version))
    }

    fn facts_of(text: &str, server: (Product, u32)) -> Facts {
        let reading = read(text, mode(server));
        assert_eq!(reading.statements.len(), 1, "{text}");
        reading.statements.into_iter().next().expect("one statement").facts
    }

    /// `Delete: delete db.t called x if a=Text,b=Integer limit 5 explain`
    fn short(facts: &Facts) -> String {
        if let Some(why) = &facts.unread {
            return format!("unread: {why}");
        }
        let changes = facts.changes.iter().map(|change| {
            let mut said = format!("{:?} {}", change.verb, change.target.written).to_lowercase();
            let last = change.target.parts.last().map(String::as_str).unwrap_or_default();
            if change.called != last {
                said.push_str(&format!(" called {}", change.called));
            }
            match &change.restriction {
                Restriction::Nothing { .. } => said.push_str(" nothing"),
                Restriction::AlwaysTrue { .. } => said.push_str(" always"),
                Restriction::AlwaysTrueIfNotNull { columns, .. } => {
                    said.push_str(&format!(" unless null {}", columns.join(",")))
                }
                Restriction::AlwaysTrueIf { .. } => said.push_str(" always if"),
                Restriction::Restricts { pinned } => assert!(pinned.is_empty()),
                Restriction::CurrentOf { .. } | Restriction::NotApplicable => {}
            }
            let sets: Vec<&str> = change.assignments.iter().map(|set| set.column.as_str()).collect();
            if !sets.is_empty() {
                said.push_str(&format!(" sets {}", sets.join(",")));
            }
            let pins = change.pinned_if.iter().map(|pin| match pin.constant {
                Constant::Parameter(number) => format!("{}=?{number}", pin.column),
                constant => format!("{}={constant:?}", pin.column),
            });
            let pins: Vec<String> = pins.collect();
            if !pins.is_empty() {
                said.push_str(&format!(" if {}", pins.join(",")));
            }
            if let Some(limit) = change.limit {
                said.push_str(&format!(" limit {limit}"));
            }
            if change.nesting != Nesting::Outer {
                said.push_str(&format!(" {:?}", change.nesting).to_lowercase());
            }
            if change.verb == Verb::Insert || change.verb == Verb::CopyIn {
                said.push_str(&format!(" {:?} {:?}", change.source, change.on_conflict));
            }
            said
        });
        let removals = facts.removals.iter().map(|removal| match &removal.what {
            Removed::Column(name) => format!("-column {name} {}", removal.name.written),
            Removed::Partition(name) => format!("-partition {name} {}", removal.name.written),
            Removed::Other(name) => format!("-({name}) {}", removal.name.written),
            what => format!("-{what:?} {}", removal.name.written).to_lowercase(),
        });
        let settings = facts.settings.iter().map(|setting| {
            let mark = match setting.scope {
                SettingScope::Session => "",
                SettingScope::Transaction => " once",
                SettingScope::Lasting => " lasting",
            };
            format!("{}={}{mark}", setting.name, setting.value.as_deref().unwrap_or("-"))
        });
        let acts = facts.acts.iter().map(|act| format!("!{:?}", act.kind).to_lowercase());
        let parts: Vec<String> = changes.chain(removals).chain(settings).chain(acts).collect();
        format!("{:?}: {}", facts.kind, parts.join(", "))
    }

    fn both(cases: &[(&str, &str)]) {
        let mut wrong = Vec::new();
        for (text, expected) in cases {
            for server in BOTH {
                let got = short(&facts_of(text, server));
                if got != *expected {
                    wrong.push(format!("{:?}: {text}\n  expected {expected}\n  got      {got}", server.0));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn deletes() {
        both(&[
            ("DELETE FROM t", "Delete: delete t nothing"),
            ("delete low_priority quick ignore from `d b`.`t` where id = 5", "Delete: delete `d b`.t if id=Integer"),
            ("DELETE FROM t AS x WHERE x.a = 'v' AND t2 = 1", "Delete: delete t called x if a=Text,t2=Integer"),
            ("DELETE FROM t WHERE id = ? AND k = x'00'", "Delete: delete t if id=?1,k=Bytes"),
            ("DELETE FROM t WHERE id = 5 OR 1=1", "Delete: delete t always"),
            ("DELETE FROM t WHERE id = 5 || 1=1", "Delete: delete t always"),
            ("DELETE FROM t WHERE 1", "Delete: delete t always"),
            ("DELETE FROM t WHERE 'a'", "Delete: delete t"),
            ("DELETE FROM t WHERE id = id", "Delete: delete t unless null id"),
            ("DELETE FROM t WHERE id <=> id", "Delete: delete t always"),
            ("DELETE FROM t WHERE id = '5' COLLATE utf8mb4_bin", "Delete: delete t"),
            ("DELETE FROM t WHERE !0", "Delete: delete t always"),
            ("DELETE FROM t WHERE NOT FALSE", "Delete: delete t always"),
            ("DELETE FROM t WHERE name LIKE '%'", "Delete: delete t unless null name"),
            ("DELETE FROM t WHERE @x", "Delete: delete t"),
            ("DELETE FROM t LIMIT 10", "Delete: delete t limit 10"),
            ("DELETE FROM t WHERE a > 1 ORDER BY b DESC, c LIMIT 10", "Delete: delete t limit 10"),
            ("DELETE FROM t WHERE a > 1 ORDER BY b LIMIT ?", "Delete: delete t"),
            ("DELETE FROM t PARTITION (p0, p1) WHERE a > 1", "Delete: delete t"),
            ("DELETE a, b FROM a JOIN b ON a.id = b.id WHERE b.x = 1", "Delete: delete a, delete b if x=Integer"),
            ("DELETE a FROM a JOIN b", "Delete: delete a nothing"),
            ("DELETE a.* FROM t a LEFT JOIN b ON a.id = b.a_id WHERE b.id IS NULL", "Delete: delete t called a"),
            ("DELETE FROM a.*, db.b USING a INNER JOIN db.b USING (id)", "Delete: delete a, delete db.b"),
            ("DELETE FROM x USING t AS x WHERE x.a = 1", "Delete: delete t called x if a=Integer"),
            ("DELETE x FROM t x, t y WHERE x.id = y.id", "Delete: delete t called x unless null id"),
            ("DELETE d2.t FROM t JOIN d2.t USING (id)", "Delete: delete d2.t called d2.t"),
            ("DELETE d1.t FROM d1.t, d2.t WHERE d1.t.id = 3", "Delete: delete d1.t called d1.t if id=Integer"),
            ("DELETE FROM t WHERE id IN (SELECT id FROM u WHERE x = 1)", "Delete: delete t"),
            ("DELETE FROM t WHERE EXISTS (SELECT 1)", "Delete: delete t always"),
            ("DELETE FROM t WHERE (a, b) = (1, 'x')", "Delete: delete t if a=Integer,b=Text"),
            ("DELETE FROM t WHERE id IN (7)", "Delete: delete t if id=Integer"),
            ("DELETE FROM t WHERE id BETWEEN 1 AND 5 AND k = 3", "Delete: delete t if k=Integer"),
            ("/*!50000 DELETE */ FROM t /*!40000 WHERE id = 1 */", "Delete: delete t if id=Integer"),
        ]);
    }

    #[test]
    fn updates() {
        both(&[
            ("UPDATE t SET a = 1", "Update: update t nothing sets a"),
            (
                "UPDATE LOW_PRIORITY IGNORE t x SET x.`A` = DEFAULT, b = (SELECT 1) WHERE id = 1",
                "Update: update t called x sets a,b if id=Integer",
            ),
            ("UPDATE t USE INDEX (i) SET a = 1 ORDER BY id LIMIT 3", "Update: update t sets a limit 3"),
            ("UPDATE a, b SET a.x = 1, b.y = 2 WHERE a.id = b.id", "Update: update a sets x, update b sets y"),
            ("UPDATE a JOIN b ON a.id = b.id SET x = 1", "Update: update a sets x, update b sets x"),
            ("UPDATE (a, b) SET a.x = 1", "Update: update a nothing sets x"),
            (
                "UPDATE a LEFT JOIN (SELECT 1 AS id) AS d ON a.id = d.id SET a.x = 1 WHERE d.id IS NULL",
                "Update: update a sets x",
            ),
            ("UPDATE t SET a = b WHERE CASE WHEN a = 1 THEN TRUE ELSE TRUE END", "Update: update t always sets a"),
            ("UPDATE t SET a = 1 WHERE `limit` = 3", "Update: update t sets a if limit=Integer"),
        ]);
    }

    #[test]
    fn inserts() {
        both(&[
            ("INSERT INTO t VALUES (1), (2)", "Insert: insert t Values(2) Fails"),
            ("INSERT INTO t () VALUES ()", "Insert: insert t Values(1) Fails"),
            ("INSERT t (a, b) VALUE (1, 2)", "Insert: insert t Values(1) Fails"),
            ("INSERT IGNORE INTO d.t SET a = 1, b = DEFAULT", "Insert: insert d.t Values(1) Nothing"),
            ("INSERT INTO t SELECT * FROM u", "Insert: insert t Select Fails"),
            (
                "INSERT INTO t (a) (SELECT 1) ON DUPLICATE KEY UPDATE a = VALUES(a), b = 2",
                "Insert: insert t sets a,b Select Updates",
            ),
            ("INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE n = n + 1", "Insert: insert t sets n Values(1) Updates"),
            (
                "INSERT INTO t VALUES (1) AS new ON DUPLICATE KEY UPDATE n = new.n",
                "Insert: insert t sets n Values(1) Updates",
            ),
            ("INSERT INTO t TABLE u", "Insert: insert t Select Fails"),
            ("INSERT INTO t VALUES ROW(1), ROW(2)", "Insert: insert t Values(2) Fails"),
            ("INSERT INTO t WITH c AS (SELECT 1) SELECT * FROM c", "Insert: insert t Select Fails"),
            ("REPLACE INTO t VALUES (1)", "Insert: insert t Values(1) Replaces"),
            ("REPLACE t SELECT * FROM u", "Insert: insert t Select Replaces"),
            ("REPLACE DELAYED t SET a = 1", "Insert: insert t Values(1) Replaces"),
            ("LOAD DATA LOCAL INFILE 'x' INTO TABLE t", "Copy: copyin t Stream Nothing"),
            (
                "LOAD DATA INFILE 'x' REPLACE INTO TABLE t FIELDS TERMINATED BY ',' (a, @b) SET c = @b",
                "Copy: copyin t Stream Replaces, !outside",
            ),
            ("LOAD XML LOCAL INFILE 'x' INTO TABLE t ROWS IDENTIFIED BY '<r>'", "Copy: copyin t Stream Nothing"),
        ]);
    }

    #[test]
    fn hints_that_set_are_settings() {
        both(&[
            (
                "DELETE /*+ SET_VAR(foreign_key_checks=0) */ FROM t WHERE id = 1",
                "Delete: delete t if id=Integer, foreign_key_checks=0 once",
            ),
            (
                "UPDATE /*+ BKA(t) set_var ( `Unique_Checks` = 'off' ) */ t SET a = 1",
                "Update: update t nothing sets a, unique_checks=off once",
            ),
            ("SELECT /*+ NO_ICP(t) */ 'set_var(a=1)' FROM t", "Read: a=1 once"),
            ("SELECT 'set_var(a=1)'", "Read: "),
        ]);
    }

    #[test]
    fn removals() {
        both(&[
            ("TRUNCATE t", "Truncate: -rows t"),
            ("TRUNCATE TABLE d.t", "Truncate: -rows d.t"),
            ("DROP TABLE IF EXISTS a, d.b CASCADE", "Drop: -table a, -table d.b"),
            ("DROP TEMPORARY TABLE a", "Drop: -(temporary table) a"),
            ("DROP SCHEMA s", "Drop: -database s"),
            ("DROP VIEW v", "Drop: -(view) v"),
            ("DROP INDEX i ON t", "Drop: -(index) i"),
            ("DROP TRIGGER g", "Drop: -(trigger) g, !guarddropped"),
            ("DROP USER 'a'@'%'", "Drop: -(user) a, !rights"),
            ("DROP TABLESPACE x", "Drop: -tablespace x"),
            ("ALTER TABLE t DROP COLUMN a, ADD b INT, DROP c", "Alter: -column a t, -column c t"),
            ("ALTER TABLE t DROP PARTITION p0, p1", "Alter: -partition p0 t, -partition p1 t"),
            ("ALTER TABLE t TRUNCATE PARTITION ALL", "Alter: -partition ALL t"),
            ("ALTER TABLE t EXCHANGE PARTITION p0 WITH TABLE u", "Alter: -partition p0 t"),
            ("ALTER TABLE t DISCARD TABLESPACE", "Alter: -table t"),
            ("ALTER TABLE t ENGINE = BLACKHOLE", "Alter: -table t"),
            ("ALTER TABLE t COMMENT 'x' ENGINE=InnoDB, ORDER BY a, b DESC, ADD INDEX (a)", "Alter: "),
            ("ALTER TABLE t DROP FOREIGN KEY f, DROP PRIMARY KEY, DROP INDEX i", "Alter: !guarddropped, !guarddropped"),
            ("ALTER TABLE t DROP INDEX `PRIMARY`, DROP KEY k", "Alter: !guarddropped"),
            ("DROP INDEX `Primary` ON t", "Drop: -(index) `Primary`, !guarddropped"),
            ("ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4", "Alter: "),
            ("ALTER TABLE t RENAME TO u", "Alter: "),
            ("RENAME TABLE a TO b, c TO d.c", "Alter: "),
        ]);
    }

    #[test]
    fn settings_and_transactions() {
        both(&[
            ("SET foreign_key_checks = 0", "Set: foreign_key_checks=0"),
            ("SET foreign_k\u{e9}y_checks = 0, `unique_checks ` = 0", "Set: *=0, unique_checks=0"),
            ("SET @old = @@foreign_key_checks, FOREIGN_KEY_CHECKS=0", "Set: @old=-, foreign_key_checks=0"),
            ("SET GLOBAL a = 'x', b = -1", "Set: a=x lasting, b=-1 lasting, !outside, !outside"),
            ("SET @@session.sql_mode := 'ANSI'", "Set: sql_mode=ANSI"),
            ("SET @@global.sql_log_bin = OFF", "Set: sql_log_bin=OFF lasting, !outside"),
            ("SET NAMES utf8mb4 COLLATE utf8mb4_bin", "Set: names=utf8mb4"),
            ("SET CHARACTER SET 'latin1'", "Set: character_set=latin1"),
            ("SET autocommit=0", "Set: autocommit=0"),
            (
                "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY",
                "Set: transaction_isolation=READ COMMITTED, transaction_read_only=1",
            ),
            ("SET PASSWORD = 'x'", "Set: !rights"),
            ("SET ROLE r", "Set: role=r"),
            ("SET @sluice_max_affected = 20000", "Set: @sluice_max_affected=20000"),
            ("BEGIN", "Transaction: "),
            ("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY", "Transaction: "),
            ("COMMIT AND CHAIN", "Transaction: "),
            ("ROLLBACK WORK TO SAVEPOINT s", "Transaction: "),
            ("XA COMMIT 'a', 'b' ONE PHASE", "Transaction: "),
        ]);
    }

    #[test]
    fn the_rest() {
        both(&[
            ("", "Empty: "),
            ("-- x", "Empty: "),
            ("SELECT 1", "Read: "),
            ("(SELECT a FROM t) UNION SELECT 2 LIMIT 1", "Read: "),
            ("WITH c (a) AS (SELECT 1) SELECT * FROM c", "Read: "),
            ("SELECT * INTO OUTFILE '/x' FROM t", "Read: !outside"),
            ("SELECT LOAD_FILE('/x')", "Read: !outside"),
            ("EXPLAIN DELETE FROM t", "Read: "),
            ("DESC t", "Read: "),
            ("SHOW TABLES", "Read: "),
            ("DO SLEEP(1)", "Read: "),
            ("CALL p(1)", "Call: "),
            ("PREPARE p FROM 'DELETE FROM t WHERE id = ?'", "Prepare: delete t if id=?1 prepare"),
            ("EXECUTE p USING @a", "Execute: "),
            ("GRANT ALL ON *.* TO 'a'@'%' WITH GRANT OPTION", "Grant: !rights"),
            ("CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO DELETE FROM t", "Create: !outside"),
            ("CREATE TABLE t (a INT) ENGINE=InnoDB SELECT 1", "Create: "),
            ("CREATE TABLE t (a INT) DATA DIRECTORY = '/x'", "Create: !outside"),
            ("CREATE PROCEDURE p() DELETE FROM t", "Create: "),
            ("CREATE PROCEDURE p() BEGIN DELETE FROM t; IF a THEN SELECT 1; END IF; END", "Create: "),
            ("CREATE EVENT e ON SCHEDULE AT NOW() DO BEGIN DELETE FROM t; END", "Create: !outside"),
            ("CREATE DEFINER=`a`@`%` TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1", "Create: "),
            ("CREATE VIEW v AS SELECT 1", "Create: "),
            ("KILL 5", "Other(\"KILL\"): "),
            ("FLUSH TABLES", "Other(\"FLUSH\"): "),
            ("PURGE BINARY LOGS TO 'x'", "Other(\"PURGE BINARY LOGS\"): !outside"),
            ("OPTIMIZE TABLE t", "Other(\"OPTIMIZE TABLE\"): "),
            ("HANDLER t OPEN", "Read: "),
            ("USE db", "Other(\"USE\"): "),
        ]);
    }

    #[test]
    fn what_only_one_of_them_knows() {
        let cases = [
            ("EXECUTE IMMEDIATE 'DELETE FROM t WHERE id = ?' USING 5", "Delete: delete t if id=?1"),
            (
                "SET STATEMENT max_statement_time = 1 FOR DELETE FROM t",
                "Delete: delete t nothing, max_statement_time=1 once",
            ),
            ("ANALYZE FORMAT=JSON UPDATE t SET a = 1", "Update: update t nothing sets a explain"),
            ("DELETE FROM t WHERE id = 1 RETURNING id, a", "Delete: delete t if id=Integer"),
            ("INSERT INTO t VALUES (1) RETURNING id", "Insert: insert t Values(1) Fails"),
            (
                "DELETE FROM t FOR PORTION OF p FROM '2020-01-01' TO '2021-01-01' WHERE id = 1",
                "Delete: delete t if id=Integer",
            ),
            ("DELETE HISTORY FROM t", "Delete: delete t nothing"),
            ("DELETE HISTORY FROM t BEFORE SYSTEM_TIME '2020-01-01'", "Delete: delete t"),
            ("BEGIN NOT ATOMIC DELETE FROM t; END", "Do: "),
            (
                "BEGIN NOT ATOMIC SET foreign_key_checks = 0; IF 1 THEN DROP TABLE t; END IF; END",
                "Do: -table t, foreign_key_checks=0",
            ),
            ("IF (SELECT 1) THEN TRUNCATE t; END IF", "Do: -rows t"),
            ("BEGIN NOT ATOMIC DECLARE a INT DEFAULT 1; WHILE a < 3 DO SET a = a + 1; END WHILE; END", "Do: a=-"),
            ("CREATE OR REPLACE TABLE t (a INT)", "Create: -table t"),
            ("CREATE OR REPLACE DATABASE d", "Create: -database d"),
            ("ALTER TABLE t CONVERT PARTITION p0 TO TABLE u", "Alter: -partition p0 t"),
        ];
        for (text, expected) in cases {
            assert_eq!(short(&facts_of(text, BOTH[1])), expected, "{text}");
        }
        for text in [
            "BEGIN NOT ATOMIC PREPARE p FROM @x; EXECUTE p; END",
            "BEGIN NOT ATOMIC EXECUTE p; END",
            "BEGIN NOT ATOMIC EXECUTE IMMEDIATE @x; END",
            "ALTER IGNORE TABLE t ADD UNIQUE (a)",
            "ALTER TABLE t DROP SYSTEM VERSIONING",
        ] {
            assert!(facts_of(text, BOTH[1]).unread.is_some(), "{text}");
        }
        let mysql = [("WITH c AS (SELECT 1 AS id) DELETE FROM t WHERE id IN (SELECT id FROM c)", "Delete: delete t")];
        for (text, expected) in mysql {
            assert_eq!(short(&facts_of(text, BOTH[0])), expected, "{text}");
        }
    }

    #[test]
    fn what_commits_by_itself_is_told() {
        for text in [
            "CREATE TABLE t (a INT)",
            "TRUNCATE t",
            "BEGIN",
            "SET autocommit = 1",
            "LOCK TABLES t READ",
            "GRANT ALL ON *.* TO a",
            "FLUSH TABLES",
        ] {
            assert!(BOTH.iter().all(|server| facts_of(text, *server).commits_implicitly), "{text}");
        }
        for text in [
            "CREATE TEMPORARY TABLE t (a INT)",
            "DROP TEMPORARY TABLE t",
            "DELETE FROM t",
            "SELECT 1",
            "SET @a = 1",
            "PREPARE p FROM 'DROP TABLE t'",
        ] {
            assert!(BOTH.iter().all(|server| !facts_of(text, *server).commits_implicitly), "{text}");
        }
        let code = "BEGIN NOT ATOMIC DELETE FROM t; COMMIT; END";
        assert!(facts_of(code, BOTH[1]).commits_implicitly);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for text in [
            "SELEC 1",
            "DELETE FROM t WHERE",
            "DELETE FROM t WHERE a = 1 b",
            "DELETE FROM t x y",
            "DELETE z FROM a JOIN b",
            "UPDATE t SET a",
            "UPDATE a, b SET c.x = 1",
            "INSERT INTO t",
            "ALTER TABLE t FROB x",
            "PREPARE p FROM @v",
            "PREPARE caf\u{e9} FROM 'SELECT 1'",
            "EXECUTE caf\u{e9}",
            "EXECUTE `cafe `",
            "DELETE FROM t LIMIT 1, 2",
            "DROP FROB x",
            "SELECT 'open",
            "SELECT (1",
        ] {
            for server in BOTH {
                let found = facts_of(text, server);
                assert!(found.unread.is_some() || text.contains(" b"), "{text}: {found:?}");
            }
        }
    }
}
