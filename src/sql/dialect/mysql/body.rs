//! Code: the bodies of procedures, functions, triggers and events, and what MariaDB runs of it at once.
//!
//! Invariant: a body ends where the server's grammar ends it. Nothing in it is judged (what code does is for the database to tell), but
//! a statement that stood behind its end would be hidden in it; so blocks are told from names that look like them (`BEGIN` can be a
//! column, IF a function) by where they stand: at the beginning of a statement or not.
//!
//! Sources: `sp_proc_stmt` in MySQL 9.7's `sql_yacc.yy`, `sp_proc_stmt` and `sp_for_loop_index_and_bounds` in MariaDB 10.11's.

use crate::ground::limits;
use crate::sql::dialect::mysql::cursor::{Cursor, Read, Unread};

/// One statement of code, a block most often; not the semicolon behind it.
pub fn block(cursor: &mut Cursor) -> Read<()> {
    statement(cursor, 0)
}

fn statement(cursor: &mut Cursor, depth: usize) -> Read<()> {
    if depth > limits::SQL_BLOCK_DEPTH_MAX {
        return Err(Unread("blocks nested too deeply".to_owned()));
    }
    if cursor.name_at(0) && cursor.mark_at(1, ":") {
        cursor.at += 2;
    }
    if cursor.mark_at(0, "<<") {
        return Err(cursor.lost());
    }
    if cursor.eat("begin") {
        if cursor.eat("not") {
            cursor.expect("atomic")?;
        }
        statements(cursor, depth, &["end"])?;
        cursor.expect("end")?;
        return label(cursor);
    }
    if cursor.eat("if") {
        loop {
            condition(cursor, "then")?;
            statements(cursor, depth, &["elseif", "else", "end"])?;
            if !cursor.eat("elseif") {
                break;
            }
        }
        if cursor.eat("else") {
            statements(cursor, depth, &["end"])?;
        }
        cursor.expect("end")?;
        return cursor.expect("if");
    }
    if cursor.eat("case") {
        return case(cursor, depth);
    }
    if cursor.eat("loop") {
        statements(cursor, depth, &["end"])?;
        return ends(cursor, "loop");
    }
    if cursor.eat("while") {
        condition(cursor, "do")?;
        statements(cursor, depth, &["end"])?;
        return ends(cursor, "while");
    }
    if cursor.eat("repeat") {
        statements(cursor, depth, &["until"])?;
        cursor.expect("until")?;
        condition(cursor, "end")?;
        cursor.at -= 1;
        return ends(cursor, "repeat");
    }
    if cursor.is_mariadb() && cursor.eat("for") {
        condition(cursor, "do")?;
        statements(cursor, depth, &["end"])?;
        return ends(cursor, "for");
    }
    if cursor.word("declare") && is_handler(cursor) {
        cursor.run(|here| here.keyword(&["for"]))?;
        cursor.expect("for")?;
        conditions(cursor)?;
        return statement(cursor, depth + 1);
    }
    simple(cursor)
}

/// `DECLARE CONTINUE HANDLER FOR …`
fn is_handler(cursor: &Cursor) -> bool {
    ["continue", "exit", "undo"].iter().any(|word| cursor.word_at(1, word)) && cursor.word_at(2, "handler")
}

/// `NOT FOUND, SQLSTATE VALUE '23000', 1062, a_name`
fn conditions(cursor: &mut Cursor) -> Read<()> {
    loop {
        if cursor.eat("not") {
            cursor.expect("found")?;
        } else if cursor.eat("sqlstate") {
            cursor.eat("value");
            if !cursor.string_at(0) {
                return Err(cursor.lost());
            }
            cursor.at += 1;
        } else if cursor.number_at(0) {
            cursor.at += 1;
        } else {
            cursor.identifier()?;
        }
        if !cursor.eat_mark(",") {
            return Ok(());
        }
    }
}

fn case(cursor: &mut Cursor, depth: usize) -> Read<()> {
    if !cursor.word("when") {
        condition(cursor, "when")?;
        cursor.at -= 1;
    }
    while cursor.eat("when") {
        condition(cursor, "then")?;
        statements(cursor, depth, &["when", "else", "end"])?;
    }
    if cursor.eat("else") {
        statements(cursor, depth, &["end"])?;
    }
    cursor.expect("end")?;
    cursor.expect("case")
}

fn ends(cursor: &mut Cursor, word: &str) -> Read<()> {
    cursor.expect("end")?;
    cursor.expect(word)?;
    label(cursor)
}

fn label(cursor: &mut Cursor) -> Read<()> {
    if cursor.name_at(0) {
        cursor.at += 1;
    }
    Ok(())
}

/// Statements, each with its semicolon, up to one of these words where a statement would begin.
fn statements(cursor: &mut Cursor, depth: usize, ends: &[&str]) -> Read<()> {
    while !cursor.any(ends) {
        statement(cursor, depth + 1)?;
        cursor.expect_mark(";")?;
    }
    Ok(())
}

/// An expression up to a word that ends it, this word included. CASE has THEN, WHEN and END of its own.
fn condition(cursor: &mut Cursor, until: &str) -> Read<()> {
    let mut cases = 0usize;
    let mut parentheses = 0usize;
    while !cursor.done() && !cursor.mark(";") {
        if cursor.mark("(") {
            parentheses += 1;
        } else if cursor.mark(")") {
            parentheses = parentheses.checked_sub(1).ok_or_else(|| cursor.lost())?;
        } else if parentheses == 0 && cases == 0 && cursor.keyword(&[until]) {
            cursor.at += 1;
            return Ok(());
        } else if cursor.keyword(&["case"]) {
            cases += 1;
        } else if cursor.keyword(&["end"]) {
            cases = cases.checked_sub(1).ok_or_else(|| cursor.lost())?;
        }
        cursor.at += 1;
    }
    Err(cursor.lost())
}

/// A statement without a body: up to its semicolon, or the end of the code.
fn simple(cursor: &mut Cursor) -> Read<()> {
    let found = cursor.run(|here| here.mark(";"))?;
    if found.is_empty() { Err(cursor.lost()) } else { Ok(()) }
}
