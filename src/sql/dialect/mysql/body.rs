//! Code: the bodies of procedures, functions, triggers and events, and what MariaDB runs of it at once.
//!
//! Invariant: a body ends where the server's grammar ends it, or it is not read. A statement that stood behind its end would be hidden in
//! it; so blocks are told from names that look like them (`BEGIN` can be a column, IF a function) by where they stand: at the beginning
//! of a statement or not. The splitter, which has its own way of telling, must have come to the same end.
//!
//! Sources: `sp_proc_stmt` in MySQL 9.7's `sql_yacc.yy`, `sp_proc_stmt` and `sp_for_loop_index_and_bounds` in MariaDB 10.11's.

use crate::ground::limits;
use crate::sql::dialect::mysql::cursor::{Cursor, Read, Unread};
use std::ops::Range;

/// One statement of code, a block most often; not the semicolon behind it. Gives its plain statements, in tokens.
pub fn block(cursor: &mut Cursor) -> Read<Vec<Range<usize>>> {
    let mut code = Code { at: *cursor, plain: Vec::new() };
    code.statement(0)?;
    *cursor = code.at;
    Ok(code.plain)
}

struct Code<'t> {
    at: Cursor<'t>,
    plain: Vec<Range<usize>>,
}

impl Code<'_> {
    fn statement(&mut self, depth: usize) -> Read<()> {
        if depth > limits::SQL_BLOCK_DEPTH_MAX {
            return Err(Unread("blocks nested too deeply".to_owned()));
        }
        if self.at.name_at(0) && self.at.mark_at(1, ":") {
            self.at.at += 2;
        }
        let Some(word) = self.at.ahead(0).map(|token| token.text(self.at.text).to_ascii_lowercase()) else {
            return Err(self.at.lost());
        };
        match word.as_str() {
            "begin" => self.begin(depth),
            "if" => self.branches(depth),
            "case" => self.case(depth),
            "loop" => {
                self.at.at += 1;
                self.looped("loop", depth)
            }
            "while" => {
                self.at.at += 1;
                self.condition("do")?;
                self.looped("while", depth)
            }
            "for" if self.at.is_mariadb() => {
                self.at.at += 1;
                self.condition("do")?;
                self.looped("for", depth)
            }
            "repeat" => self.repeat(depth),
            "declare" if self.is_handler() => {
                self.at.run(|here| here.keyword(&["for"]))?;
                self.at.expect("for")?;
                self.conditions()?;
                self.statement(depth + 1)
            }
            _ => self.simple(),
        }
    }

    fn begin(&mut self, depth: usize) -> Read<()> {
        self.at.at += 1;
        if self.at.eat("not") {
            self.at.expect("atomic")?;
        }
        self.statements(depth, &["end"])?;
        self.at.expect("end")?;
        self.label()
    }

    fn branches(&mut self, depth: usize) -> Read<()> {
        self.at.at += 1;
        loop {
            self.condition("then")?;
            self.statements(depth, &["elseif", "else", "end"])?;
            if !self.at.eat("elseif") {
                break;
            }
        }
        if self.at.eat("else") {
            self.statements(depth, &["end"])?;
        }
        self.at.expect("end")?;
        self.at.expect("if")
    }

    fn case(&mut self, depth: usize) -> Read<()> {
        self.at.at += 1;
        if !self.at.word("when") {
            self.condition("when")?;
            self.at.at -= 1;
        }
        while self.at.eat("when") {
            self.condition("then")?;
            self.statements(depth, &["when", "else", "end"])?;
        }
        if self.at.eat("else") {
            self.statements(depth, &["end"])?;
        }
        self.at.expect("end")?;
        self.at.expect("case")
    }

    fn repeat(&mut self, depth: usize) -> Read<()> {
        self.at.at += 1;
        self.statements(depth, &["until"])?;
        self.at.expect("until")?;
        self.condition("end")?;
        self.at.expect("repeat")?;
        self.label()
    }

    fn looped(&mut self, word: &str, depth: usize) -> Read<()> {
        self.statements(depth, &["end"])?;
        self.at.expect("end")?;
        self.at.expect(word)?;
        self.label()
    }

    fn label(&mut self) -> Read<()> {
        self.at.at += usize::from(self.at.name_at(0));
        Ok(())
    }

    /// `DECLARE CONTINUE HANDLER FOR …`
    fn is_handler(&self) -> bool {
        ["continue", "exit", "undo"].iter().any(|word| self.at.word_at(1, word)) && self.at.word_at(2, "handler")
    }

    /// `NOT FOUND, SQLSTATE VALUE '23000', 1062, a_name`
    fn conditions(&mut self) -> Read<()> {
        loop {
            if self.at.eat("not") {
                self.at.expect("found")?;
            } else if self.at.eat("sqlstate") {
                self.at.eat("value");
                if !self.at.string_at(0) {
                    return Err(self.at.lost());
                }
                self.at.at += 1;
            } else if self.at.number_at(0) {
                self.at.at += 1;
            } else {
                self.at.identifier()?;
            }
            if !self.at.eat_mark(",") {
                return Ok(());
            }
        }
    }

    /// Statements, each with its semicolon, up to one of these words where a statement would begin.
    fn statements(&mut self, depth: usize, ends: &[&str]) -> Read<()> {
        while !self.at.any(ends) {
            self.statement(depth + 1)?;
            self.at.expect_mark(";")?;
        }
        Ok(())
    }

    /// An expression up to a word that ends it, this word included. CASE has THEN, WHEN and END of its own.
    fn condition(&mut self, until: &str) -> Read<()> {
        let (mut cases, mut parentheses) = (0usize, 0usize);
        while !self.at.done() && !self.at.mark(";") {
            if self.at.mark("(") {
                parentheses += 1;
            } else if self.at.mark(")") {
                parentheses = parentheses.checked_sub(1).ok_or_else(|| self.at.lost())?;
            } else if parentheses == 0 && cases == 0 && self.at.keyword(&[until]) {
                self.at.at += 1;
                return Ok(());
            } else if self.at.keyword(&["case"]) {
                cases += 1;
            } else if self.at.keyword(&["end"]) {
                cases = cases.checked_sub(1).ok_or_else(|| self.at.lost())?;
            }
            self.at.at += 1;
        }
        Err(self.at.lost())
    }

    /// A statement without a body: up to its semicolon, or the end of the code.
    fn simple(&mut self) -> Read<()> {
        let found = self.at.run(|here| here.mark(";"))?;
        if found.is_empty() {
            return Err(self.at.lost());
        }
        self.plain.push(found);
        Ok(())
    }
}
