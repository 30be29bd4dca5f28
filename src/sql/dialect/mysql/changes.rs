//! INSERT, REPLACE, UPDATE, DELETE and LOAD DATA: the changes they make, from the tokens.
//!
//! Invariant: each table whose rows a statement can change has a [`Change`] of its own. Where the text does not tell which of several
//! joined tables an assignment means, each of them has one.
//!
//! Sources: `insert_stmt`, `update_stmt`, `delete_stmt`, `load_stmt` in MySQL 9.7's `sql_yacc.yy`; MariaDB 10.11's for RETURNING and
//! FOR PORTION OF. Forms tried on both servers.

use crate::ground::limits;
use crate::sql::dialect::mysql::again;
use crate::sql::dialect::mysql::cursor::{Cursor, Read, Unread};
use crate::sql::dialect::mysql::facts::Reader;
use crate::sql::dialect::mysql::names;
use crate::sql::dialect::mysql::tables::{self, References, Table, partitions, references};
use crate::sql::dialect::mysql::term::{self, Other, Scope};
use crate::sql::facts::{Again, Assignment, Change, Clauses, Kind, Name, OnConflict, Restriction, Source, Verb};
use std::ops::Range;

/// One `column = value`.
pub struct Set {
    /// Before the column: `t.`, `db.t.`; without quotes.
    pub qualifier: Vec<String>,
    pub column: String,
    /// In tokens.
    pub value: Range<usize>,
}

/// What stands behind the tables of an UPDATE or DELETE.
#[derive(Default)]
struct Tail {
    condition: Option<Range<usize>>,
    order: Option<Range<usize>>,
    limit: Option<Range<usize>>,
    /// LIMIT as a number.
    most: Option<u64>,
}

/// Behind every condition of an UPDATE or DELETE.
const AFTER_CONDITION: &[&str] = &["order", "limit"];

impl Reader<'_> {
    /// INSERT and REPLACE, from behind the verb.
    pub fn insert(&mut self, replaces: bool) -> Read<()> {
        self.facts.kind = Kind::Insert;
        let mut ignores = false;
        while self.cursor.any(&["low_priority", "delayed", "high_priority", "ignore"]) {
            ignores |= self.cursor.word("ignore");
            self.cursor.at += 1;
        }
        self.cursor.eat("into");
        let name = self.cursor.object()?;
        partitions(&mut self.cursor)?;
        let (source, query) = self.inserted()?;
        let mut change = self.change(Verb::Insert, name);
        change.source = source;
        let mut sets = Vec::new();
        if self.cursor.eat_words(&["on", "duplicate", "key", "update"]) {
            if replaces {
                return Err(self.cursor.lost());
            }
            sets = self.sets(self.returning_words())?;
            change.on_conflict = OnConflict::Updates;
        } else if replaces {
            change.on_conflict = OnConflict::Replaces;
        } else if ignores {
            change.on_conflict = OnConflict::Nothing;
        }
        self.returning()?;
        change.assignments = sets.iter().map(|set| self.assignment(set)).collect();
        // Counted are only the rows that overwrite others.
        let counted = source == Source::Select && change.on_conflict.overwrites() && self.with.is_none();
        let target = query.filter(|_| counted).and_then(|query| self.span(&query));
        change.clauses = target.map(|target| Clauses { target, ..Clauses::default() });
        let again = match (change.on_conflict, source) {
            (OnConflict::Fails, Source::Values(_)) => Again::Adds,
            (OnConflict::Updates, _) => again::of_upsert(&self.cursor, &sets),
            _ => Again::Same,
        };
        self.push(change, again);
        Ok(())
    }

    /// The columns and the rows: how many there are, and of a query where it stands.
    fn inserted(&mut self) -> Read<(Source, Option<Range<usize>>)> {
        if self.cursor.eat("set") {
            self.sets(if self.cursor.is_mariadb() { &["on", "as", "returning"] } else { &["on", "as"] })?;
            self.row_alias()?;
            return Ok((Source::Values(1), None));
        }
        if self.cursor.mark("(") && !begins_query(&self.cursor) {
            self.columns()?;
        }
        let is_list = self.cursor.word("values") && !self.cursor.word_at(1, "row");
        if is_list || self.cursor.word("value") {
            self.cursor.at += 1;
            let mut rows = 0u64;
            loop {
                self.cursor.parenthesized()?;
                rows += 1;
                if !self.cursor.eat_mark(",") {
                    break;
                }
            }
            self.row_alias()?;
            return Ok((Source::Values(rows), None));
        }
        if self.cursor.words(&["values", "row"]) && !self.is_query_of_rows() {
            self.cursor.at += 1;
            let mut rows = 0u64;
            while self.cursor.eat("row") {
                self.cursor.parenthesized()?;
                rows += 1;
                if !self.cursor.eat_mark(",") {
                    break;
                }
            }
            self.row_alias()?;
            return Ok((Source::Values(rows), None));
        }
        if !begins_query(&self.cursor) {
            return Err(self.cursor.lost());
        }
        let returning = self.returning_words();
        let query = self.cursor.run(|here| here.words(&["on", "duplicate", "key"]) || here.keyword(returning))?;
        self.query(&query)?;
        Ok((Source::Select, Some(query)))
    }

    /// `VALUES ROW(1), ROW(2) UNION SELECT …`, `… ORDER BY`, `… LIMIT`: a query like any.
    fn is_query_of_rows(&self) -> bool {
        let mut ahead = self.cursor;
        let combining = ["union", "except", "intersect", "order", "limit"];
        ahead.run(|here| here.keyword(&combining)).is_ok() && ahead.any(&combining)
    }

    /// `(a, t.b, db.t.c)`
    fn columns(&mut self) -> Read<()> {
        self.cursor.expect_mark("(")?;
        while !self.cursor.mark(")") {
            self.cursor.object()?;
            if !self.cursor.eat_mark(",") {
                break;
            }
        }
        self.cursor.expect_mark(")")
    }

    /// `AS new (a, b)`: MySQL's name for the rows that are to be inserted.
    fn row_alias(&mut self) -> Read<()> {
        if self.cursor.eat("as") {
            self.cursor.identifier()?;
            if self.cursor.mark("(") {
                self.cursor.names_in_parentheses()?;
            }
        }
        Ok(())
    }

    /// UPDATE, from behind the verb.
    pub fn update(&mut self) -> Read<()> {
        self.facts.kind = Kind::Update;
        while self.cursor.eat_any(&["low_priority", "ignore"]) {}
        let found = references(&mut self.cursor)?;
        let portion = self.portion()?;
        self.cursor.expect("set")?;
        let begin = self.cursor.at;
        let sets = self.sets(self.behind_set())?;
        let set = self.span(&(begin..self.cursor.at));
        let tail = self.tail()?;
        self.returning()?;
        let candidates: Vec<&Table> = found.tables.iter().filter(|table| self.is_base(table)).collect();
        let mut reached = false;
        for table in &candidates {
            let meant = |set: &&Set| match set.qualifier.is_empty() {
                true => true,
                false => self.is_called(table, &set.qualifier),
            };
            let own: Vec<&Set> = sets.iter().filter(meant).collect();
            if own.is_empty() {
                continue;
            }
            reached = true;
            let scope = self.scope(Some(table), &found);
            let mut change = self.chosen(Verb::Update, table, &found, &tail, &scope);
            change.assignments = own.iter().map(|set| self.assignment(set)).collect();
            if let Some(clauses) = &mut change.clauses {
                clauses.set.clone_from(&set);
            }
            if portion {
                change.clauses = None;
            }
            let again = again::of_update(&self.cursor, &own, tail.condition.clone(), &scope);
            self.push(change, again);
        }
        let lost = sets.iter().any(|set| !set.qualifier.is_empty() && !self.names_one(&candidates, &set.qualifier));
        match reached && !lost {
            true => Ok(()),
            false => Err(Unread("which table it updates is not to be told".to_owned())),
        }
    }

    /// DELETE, from behind the verb, in its three forms.
    pub fn delete(&mut self) -> Read<()> {
        self.facts.kind = Kind::Delete;
        while self.cursor.eat_any(&["low_priority", "quick", "ignore"]) {}
        if self.cursor.is_mariadb() && self.cursor.eat_words(&["history", "from"]) {
            return self.delete_history();
        }
        if !self.cursor.eat("from") {
            let targets = self.targets()?;
            self.cursor.expect("from")?;
            return self.delete_joined(&targets);
        }
        let start = self.cursor.at;
        let several = self.targets().is_ok() && self.cursor.word("using");
        if several {
            self.cursor.at = start;
            let targets = self.targets()?;
            self.cursor.expect("using")?;
            return self.delete_joined(&targets);
        }
        self.cursor.at = start;
        let name = self.cursor.object()?;
        let mut partial = partitions(&mut self.cursor)?.is_some();
        let alias = tables::alias(&mut self.cursor)?;
        partial |= partitions(&mut self.cursor)?.is_some();
        let span = start..self.cursor.at;
        let portion = self.portion()?;
        let tail = self.tail()?;
        self.returning()?;
        let table = Table { name, alias, span: span.clone(), outer: false, derived: false, partial };
        let found = References { tables: vec![table.clone()], span, ..References::default() };
        let scope = self.scope(Some(&table), &found);
        let mut change = self.chosen(Verb::Delete, &table, &found, &tail, &scope);
        if portion {
            change.clauses = None;
        }
        self.push(change, Again::Same);
        Ok(())
    }

    /// MariaDB: `DELETE HISTORY FROM t BEFORE SYSTEM_TIME …`: what rows were before. Which these are is not to be asked for.
    fn delete_history(&mut self) -> Read<()> {
        let name = self.cursor.object()?;
        partitions(&mut self.cursor)?;
        let mut change = self.change(Verb::Delete, name);
        change.restriction = match self.cursor.eat("before") {
            true => Restriction::Restricts { pinned: Vec::new() },
            false => Restriction::Nothing { why: "all of its history".to_owned() },
        };
        self.cursor.rest()?;
        self.push(change, Again::Same);
        Ok(())
    }

    /// `a, db.b.*`: what a DELETE over several tables deletes from.
    fn targets(&mut self) -> Read<Vec<Vec<String>>> {
        let mut found = Vec::new();
        loop {
            let name = self.cursor.object()?;
            if self.cursor.mark(".") && self.cursor.mark_at(1, "*") {
                self.cursor.at += 2;
            }
            found.push(name.parts);
            if found.len() > limits::SQL_JOINED_TABLES_MAX {
                return Err(Unread("it deletes from more tables than a server joins".to_owned()));
            }
            if !self.cursor.eat_mark(",") {
                return Ok(found);
            }
        }
    }

    fn delete_joined(&mut self, targets: &[Vec<String>]) -> Read<()> {
        let found = references(&mut self.cursor)?;
        let tail = self.tail()?;
        self.returning()?;
        for target in targets {
            let meant = self.meant(&found, target);
            if meant.is_empty() {
                return Err(Unread(format!("which table {} is, is not to be told", target.join("."))));
            }
            for table in meant {
                let scope = self.scope(Some(table), &found);
                let mut change = self.chosen(Verb::Delete, table, &found, &tail, &scope);
                // In this form the list of tables is one, however short.
                if let Some(clauses) = &mut change.clauses {
                    clauses.tables = clauses.tables.take().or_else(|| self.span(&found.span));
                }
                self.push(change, Again::Same);
            }
        }
        Ok(())
    }

    /// The tables of a list that a target can mean: those written exactly so, else those of its name, in whatever case.
    fn meant<'f>(&self, found: &'f References, target: &[String]) -> Vec<&'f Table> {
        let exact = |table: &&Table| match &table.alias {
            Some(alias) => matches!(target, [name] if name == alias),
            None => table.name.parts == target,
        };
        let named =
            |table: &&Table| target.last().is_some_and(|name| name == table.called()) && self.is_called(table, target);
        let loose = |table: &&Table| self.is_called(table, target);
        let base = || found.tables.iter().filter(|table| self.is_base(table));
        let tiers: [Vec<&Table>; 3] =
            [base().filter(exact).collect(), base().filter(named).collect(), base().filter(loose).collect()];
        tiers.into_iter().find(|tier| !tier.is_empty()).unwrap_or_default()
    }

    /// LOAD DATA and LOAD XML, from behind both words.
    pub fn load(&mut self) -> Read<()> {
        self.facts.kind = Kind::Copy;
        self.cursor.eat_any(&["low_priority", "concurrent"]);
        let local = self.cursor.eat("local");
        self.cursor.eat("from");
        if !self.cursor.eat_any(&["infile", "url", "s3"]) {
            return Err(self.cursor.lost());
        }
        if !local {
            self.outside("LOAD DATA reads a file of the server");
        }
        if !self.cursor.string_at(0) {
            return Err(self.cursor.lost());
        }
        self.cursor.at += 1;
        self.cursor.run(|here| here.keyword(&["replace", "ignore", "into"]))?;
        let replaces = self.cursor.eat("replace");
        let ignores = self.cursor.eat("ignore");
        self.cursor.expect("into")?;
        self.cursor.expect("table")?;
        let name = self.cursor.object()?;
        partitions(&mut self.cursor)?;
        self.cursor.rest()?;
        let mut change = self.change(Verb::CopyIn, name);
        change.source = Source::Stream;
        change.on_conflict = match (replaces, ignores || local) {
            (true, _) => OnConflict::Replaces,
            (false, true) => OnConflict::Nothing,
            (false, false) => OnConflict::Fails,
        };
        self.push(change, Again::Same);
        Ok(())
    }

    /// `a = 1, t.b = DEFAULT`, up to one of these words.
    pub fn sets(&mut self, stops: &[&str]) -> Read<Vec<Set>> {
        let mut found = Vec::new();
        loop {
            let mut parts = self.cursor.object()?.parts;
            if !(self.cursor.eat_mark("=") || self.cursor.eat_mark(":=")) {
                return Err(self.cursor.lost());
            }
            let value = self.cursor.expression(stops)?;
            let column = parts.pop().map(|column| names::folded(&column)).unwrap_or_default();
            found.push(Set { qualifier: parts, column, value });
            if !self.cursor.eat_mark(",") {
                return Ok(found);
            }
        }
    }

    fn assignment(&self, set: &Set) -> Assignment {
        Assignment { column: set.column.clone(), value: self.cursor.slice(&set.value).map(str::to_owned) }
    }

    fn behind_set(&self) -> &'static [&'static str] {
        if self.cursor.is_mariadb() { &["where", "order", "limit", "returning"] } else { &["where", "order", "limit"] }
    }

    /// A reserved word in MariaDB, and a name like any in MySQL.
    fn returning_words(&self) -> &'static [&'static str] {
        if self.cursor.is_mariadb() { &["returning"] } else { &[] }
    }

    /// MariaDB: `FOR PORTION OF period FROM a TO b`. What lies outside of the portion is inserted anew.
    fn portion(&mut self) -> Read<bool> {
        if !self.cursor.eat_words(&["for", "portion", "of"]) {
            return Ok(false);
        }
        self.cursor.identifier()?;
        self.cursor.expect("from")?;
        self.cursor.expression(&["to"])?;
        self.cursor.expect("to")?;
        self.cursor.expression(&["set", "where", "order", "limit", "returning"])?;
        Ok(true)
    }

    /// WHERE, ORDER BY, LIMIT.
    fn tail(&mut self) -> Read<Tail> {
        let mut tail = Tail::default();
        let returning = self.returning_words();
        let with = |words: &[&'static str]| words.iter().chain(returning).copied().collect::<Vec<_>>();
        if self.cursor.eat("where") {
            let stops = with(AFTER_CONDITION);
            let condition = self.cursor.run(|here| here.keyword(&stops))?;
            if condition.is_empty() {
                return Err(self.cursor.lost());
            }
            tail.condition = Some(condition);
        }
        if self.cursor.eat_words(&["order", "by"]) {
            tail.order = Some(self.cursor.expressions(&with(&["limit"]))?);
        }
        if self.cursor.eat("limit") {
            let limit = self.cursor.run(|here| here.keyword(returning))?;
            if limit.len() != 1 {
                // `LIMIT 1, 2` and LIMIT with an OFFSET are of SELECT alone.
                return Err(Unread("a LIMIT that is not one number".to_owned()));
            }
            tail.most = self.cursor.slice(&limit).and_then(|written| written.parse().ok());
            tail.limit = Some(limit);
        }
        Ok(tail)
    }

    /// MariaDB: what it gives back is only read.
    fn returning(&mut self) -> Read<()> {
        if self.cursor.is_mariadb() && self.cursor.eat("returning") {
            self.cursor.expressions(&[])?;
        }
        Ok(())
    }

    /// Not a derived table, nor a name that WITH gives to a query.
    fn is_base(&self, table: &Table) -> bool {
        let hidden = match table.name.parts.as_slice() {
            [name] => self.hidden.iter().any(|hidden| hidden.eq_ignore_ascii_case(name)),
            _ => false,
        };
        !table.derived && !hidden
    }

    /// Whether `x` or `db.x` means this table. Whether case matters is for the server to say: too many tables are better than too few.
    fn is_called(&self, table: &Table, qualifier: &[String]) -> bool {
        let same = |a: &str, b: &str| names::folded(a) == names::folded(b);
        match qualifier {
            [name] => same(name, table.called()),
            [database, name] => {
                let fits = match table.name.parts.as_slice() {
                    [own, _] => same(database, own),
                    _ => true,
                };
                fits && same(name, table.called())
            }
            _ => false,
        }
    }

    fn names_one(&self, tables: &[&Table], qualifier: &[String]) -> bool {
        tables.iter().any(|table| self.is_called(table, qualifier))
    }

    fn scope(&self, target: Option<&Table>, found: &References) -> Scope {
        let others = found.tables.iter().filter(|table| target.is_none_or(|target| target.span != table.span));
        let other = |table: &Table| Other {
            called: table.called().to_owned(),
            is_target: target.is_some_and(|target| self.is_base(table) && target.name == table.name && !table.partial),
            outer: table.outer,
        };
        Scope {
            target: target.map(|table| table.name.parts.clone()).unwrap_or_default(),
            alias: target.and_then(|table| table.alias.clone()),
            others: others.map(other).collect(),
            hidden: self.hidden.clone(),
        }
    }

    /// A change of the rows that conditions choose.
    fn chosen(&self, verb: Verb, table: &Table, found: &References, tail: &Tail, scope: &Scope) -> Change {
        let mut change = self.change(verb, table.name.clone());
        change.called = match table.alias.as_deref() {
            Some(alias) => names::quoted(alias),
            // Tables of one name in two databases are called by both.
            None if found.tables.iter().filter(|other| other.called() == table.called()).count() > 1 => {
                table.name.written.clone()
            }
            None => names::quoted(table.called()),
        };
        let inner = found.conditions.iter().filter(|_| !table.outer);
        let conditions: Vec<&Range<usize>> = inner.chain(&tail.condition).collect();
        (change.restriction, change.pinned_if) = term::restriction(&self.cursor, &conditions, found.by_name, scope);
        change.limit = tail.most;
        if tail.limit.is_some() && !matches!(change.restriction, Restriction::Restricts { .. }) {
            // A limit keeps rows out, whatever the condition says of them.
            change.restriction = Restriction::Restricts { pinned: Vec::new() };
        }
        change.clauses = self.clauses(table, found, tail);
        change
    }

    fn clauses(&self, table: &Table, found: &References, tail: &Tail) -> Option<Clauses> {
        let spanned = |tokens: &Option<Range<usize>>| match tokens {
            Some(tokens) => self.span(tokens).map(Some),
            None => Some(None),
        };
        let joined = found.tables.len() > 1 || !found.conditions.is_empty();
        Some(Clauses {
            with: spanned(&self.with)?,
            target: self.span(&table.span)?,
            set: None,
            from: None,
            tables: spanned(&joined.then(|| found.span.clone()))?,
            condition: spanned(&tail.condition)?,
            order: spanned(&tail.order)?,
            limit: spanned(&tail.limit)?,
        })
    }

    /// In bytes; `None` where the span would cut a conditional comment (`/*! … */`) in two.
    fn span(&self, tokens: &Range<usize>) -> Option<Range<usize>> {
        let bytes = self.cursor.bytes(tokens)?;
        let text = self.cursor.text.get(bytes.clone())?;
        // A comment's marker in a string counts too: then there is no question, which is safe.
        let whole = text.matches("/*").count() == text.matches("*/").count();
        (whole && self.spans_hold).then_some(bytes)
    }

    fn change(&self, verb: Verb, target: Name) -> Change {
        let called = target.parts.last().map(|name| names::quoted(name)).unwrap_or_default();
        Change {
            verb,
            target,
            called,
            only: false,
            restriction: Restriction::NotApplicable,
            pinned_if: Vec::new(),
            limit: None,
            assignments: Vec::new(),
            source: Source::None,
            on_conflict: OnConflict::Fails,
            nesting: self.nesting,
            clauses: None,
        }
    }

    fn push(&mut self, change: Change, again: Again) {
        self.facts.changes.push(change);
        self.facts.again.push(again);
    }
}

/// SELECT, WITH, VALUES, TABLE, however many parentheses stand before it.
pub fn begins_query(cursor: &Cursor) -> bool {
    let mut ahead = *cursor;
    while ahead.eat_mark("(") {}
    ahead.any(&["select", "with", "values", "table"])
}

#[cfg(test)]
mod tests {
    use crate::sql::facts::{Change, Facts, Verb};
    use crate::sql::statement::{LexicalMode, MySqlMode};
    use crate::sql::{Product, read};
    use std::collections::BTreeSet;

    fn facts(text: &str, product: Product) -> Facts {
        let version = if product == Product::MySql { 90_704 } else { 101_119 };
        let mut reading = read(text, LexicalMode::MySql(MySqlMode::of(product, version)));
        assert_eq!(reading.statements.len(), 1, "{text}");
        reading.statements.remove(0).facts
    }

    /// `target | tables | condition | order | limit`, as they stand in the text; `none` without clauses.
    fn spans(text: &str, change: &Change) -> String {
        let Some(clauses) = &change.clauses else { return "none".to_owned() };
        let part = |span: &Option<std::ops::Range<usize>>| {
            span.clone().map(|span| format!(" | {}", &text[span])).unwrap_or_else(|| " |".to_owned())
        };
        let with = clauses.with.clone().map(|span| format!("{} : ", &text[span])).unwrap_or_default();
        let rest = [&clauses.tables, &clauses.condition, &clauses.order, &clauses.limit].map(part).concat();
        format!("{with}{}{rest}", &text[clauses.target.clone()])
    }

    #[test]
    fn the_parts_of_a_change_are_found() {
        let cases = [
            ("DELETE FROM t", "t | | | |"),
            (
                "DELETE FROM d.`t` AS x WHERE x.a = 1 ORDER BY a, b DESC LIMIT 5",
                "d.`t` AS x | | x.a = 1 | a, b DESC | 5",
            ),
            ("DELETE FROM t PARTITION (p0) WHERE a = 1", "t PARTITION (p0) | | a = 1 | |"),
            ("UPDATE t FORCE INDEX (i) SET a = 1 WHERE b LIMIT ?", "t | | b | | ?"),
            (
                "UPDATE a JOIN b AS y USING (id) SET y.c = 1 WHERE a.d = 2",
                "b AS y | a JOIN b AS y USING (id) | a.d = 2 | |",
            ),
            ("DELETE x FROM t x WHERE x.a = 1", "t x | t x | x.a = 1 | |"),
            ("DELETE FROM a USING a, b WHERE a.id = b.id", "a | a, b | a.id = b.id | |"),
            (
                "WITH c AS (SELECT 1 AS id) UPDATE t, c SET t.a = 1 WHERE t.id = c.id",
                "WITH c AS (SELECT 1 AS id) : t | t, c | t.id = c.id | |",
            ),
            ("INSERT INTO t (a) SELECT b FROM u ON DUPLICATE KEY UPDATE a = 1", "SELECT b FROM u | | | |"),
            ("REPLACE INTO t (SELECT b FROM u)", "(SELECT b FROM u) | | | |"),
            ("INSERT INTO t SELECT b FROM u", "none"),
            ("DELETE FROM t /*! WHERE a = 1 */ AND b = 2", "none"),
            ("DELETE FROM t /*! WHERE a = 1 AND b = 2 */", "t | | a = 1 AND b = 2 | |"),
        ];
        for (text, expected) in cases {
            let facts = facts(text, Product::MySql);
            assert_eq!(facts.unread, None, "{text}");
            assert_eq!(spans(text, &facts.changes[0]), expected, "{text}");
        }
    }

    /// What is written between two words changes nothing; nor does how a name is written.
    #[test]
    fn no_way_of_writing_hides_a_table() {
        let fillers =
            [" ", "\t\n", " /* DELETE */ ", " -- x\n", " # ' \n", "/*! */ ", " /*!99999 a */ ", " /*!40000 */ "];
        let forms: &[(&str, &[&str])] = &[
            ("DELETE FROM {t} WHERE a = 1", &["t"]),
            ("DELETE QUICK IGNORE FROM {t}", &["t"]),
            ("DELETE {t} , {u}.* FROM {t} JOIN {u} ON {t}.a = {u}.a", &["t", "u"]),
            ("DELETE FROM {t} , {u} USING {t} , {u} WHERE 1", &["t", "u"]),
            ("DELETE x FROM {t} AS x LEFT JOIN ( {u} , v ) ON x.a = v.a", &["t"]),
            ("DELETE x FROM ( SELECT 1 ) AS y , {t} x", &["t"]),
            ("UPDATE {t} SET a = 1 LIMIT 1", &["t"]),
            ("UPDATE IGNORE {t} , {u} SET b = 1", &["t", "u"]),
            ("UPDATE {t} x STRAIGHT_JOIN {u} y SET x.a = y.a , y.b = 2", &["t", "u"]),
            ("UPDATE ( {t} NATURAL JOIN {u} ) SET {u}.a = 1", &["u"]),
            ("REPLACE {t} VALUES ( 1 )", &["t"]),
            ("REPLACE INTO {t} SET a = 1", &["t"]),
            ("INSERT INTO {t} SELECT * FROM {u} ON DUPLICATE KEY UPDATE a = 1", &["t"]),
            ("EXPLAIN ANALYZE DELETE FROM {t}", &["t"]),
            ("PREPARE p FROM 'DELETE FROM t'", &["t"]),
        ];
        for (form, expected) in forms {
            let expected: BTreeSet<&str> = expected.iter().copied().collect();
            for (t, u) in [("t", "u"), ("`t`", "`u`")] {
                for filler in fillers {
                    let words: Vec<&str> = form.split(' ').collect();
                    let text = words.join(filler).replace("{t}", t).replace("{u}", u);
                    let text = if form.contains('\'') { form.to_string() } else { text };
                    for product in [Product::MySql, Product::MariaDb] {
                        if product == Product::MariaDb && form.starts_with("EXPLAIN") {
                            continue;
                        }
                        let facts = facts(&text, product);
                        let found: BTreeSet<&str> = facts
                            .changes
                            .iter()
                            .filter(|change| change.verb != Verb::Insert || change.on_conflict.overwrites())
                            .map(|change| change.target.written.as_str())
                            .collect();
                        assert!(facts.unread.is_some() || found == expected, "{text}: {found:?}");
                        assert_eq!(facts.unread, None, "{text}");
                    }
                }
            }
        }
    }
}
