//! Where statements end in MySQL's and MariaDB's texts, where a stored program's body may hold semicolons of its own.
//!
//! Invariant: a semicolon is taken for part of a body only where the server's grammar is certainly inside one. Where that is not certain
//! the piece reaches to the end of the text and says so ([`Piece::unclear`]); to see more statements than the server does costs nothing.
//!
//! Source: `sql_yacc.yy` of MySQL 9.7 and MariaDB 10.11; tried on both as texts of several statements. A server runs nothing that
//! follows a syntax error, so a text that it refuses may be cut in any way.
//!
//! A server reads the next statement when it has run the one before: `SET sql_mode = 'NO_BACKSLASH_ESCAPES'; SELECT 'a\'; …` is not what
//! its settings at the beginning make of it. Where that could matter, the rest is unclear too.

use crate::sql::lexer::{self, Kind, Lexer, Token};
use crate::sql::split::Piece;
use crate::sql::statement::{LexicalMode, MySqlMode, Product};

type Unclear = &'static str;

/// The statements of a text, empty ones left out.
pub(super) fn split(text: &str, mode: MySqlMode) -> Vec<Piece> {
    let tokens: Vec<Token> = Lexer::new(text, LexicalMode::MySql(mode)).collect();
    let code = Code::new(text, &tokens, mode.product == Product::MariaDb);
    let (mut pieces, mut at) = (Vec::new(), 0);
    while at < code.tokens.len() {
        if code.is(at, b';') {
            at += 1;
            continue;
        }
        let found = code.statement_end(at);
        let end = found.unwrap_or(code.tokens.len());
        let unclear = found.err().or_else(|| code.unclear_end(end)).or_else(|| code.unclear_rest(at, end));
        let end = if unclear.is_some() { code.tokens.len() } else { end };
        pieces.extend(code.piece(&tokens, at, end, unclear));
        at = end + 1;
    }
    pieces
}

/// The tokens of a text that are not comments.
struct Code<'t> {
    text: &'t str,
    tokens: Vec<Token>,
    /// Which of them stand inside an executable comment.
    executing: Vec<bool>,
    mariadb: bool,
    /// The last byte whose meaning depends on the session's settings.
    depends_until: Option<usize>,
}

/// What a body is inside of, and the label it must end with if it ends with one.
struct Block {
    kind: &'static str,
    label: Option<String>,
}

impl<'t> Code<'t> {
    fn new(text: &'t str, tokens: &[Token], mariadb: bool) -> Code<'t> {
        let depends_until = text.bytes().rposition(|byte| !byte.is_ascii() || b"\\\"[".contains(&byte));
        let mut code = Code { text, tokens: Vec::new(), executing: Vec::new(), mariadb, depends_until };
        let mut executing = false;
        for token in tokens {
            match token.kind {
                Kind::ExecutableOpen => executing = true,
                Kind::ExecutableClose => executing = false,
                _ if token.is_comment() => {}
                _ => {
                    code.tokens.push(*token);
                    code.executing.push(executing);
                }
            }
        }
        code
    }

    fn is(&self, at: usize, punctuation: u8) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is(punctuation))
    }

    fn is_kind(&self, at: usize, wanted: impl Fn(Kind) -> bool) -> bool {
        self.tokens.get(at).is_some_and(|token| wanted(token.kind))
    }

    /// The bare word here, in lower case; nothing where a dot makes it a name.
    fn word(&self, at: usize) -> Option<String> {
        let token = self.tokens.get(at).filter(|token| token.kind == Kind::Word)?;
        let dot = |other: Option<&Token>, touches: fn(&Token, &Token) -> bool| {
            other.is_some_and(|other| other.is(b'.') && touches(token, other))
        };
        let before = at.checked_sub(1).and_then(|before| self.tokens.get(before));
        let named = dot(before, |token, dot| dot.end == token.start);
        let naming = dot(self.tokens.get(at + 1), |token, dot| token.end == dot.start);
        (!named && !naming).then(|| token.text(self.text).to_ascii_lowercase())
    }

    fn is_word(&self, at: usize, word: &str) -> bool {
        self.word(at).as_deref() == Some(word)
    }

    fn are_words(&self, at: usize, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(ahead, word)| self.is_word(at + ahead, word))
    }

    fn is_name(&self, at: usize) -> bool {
        self.is_kind(at, |kind| matches!(kind, Kind::Word | Kind::QuotedName))
    }

    /// The next semicolon, or the end of the text.
    fn semicolon(&self, from: usize) -> usize {
        (from..self.tokens.len()).find(|at| self.is(*at, b';')).unwrap_or(self.tokens.len())
    }

    fn piece(&self, tokens: &[Token], first: usize, end: usize, unclear: Option<Unclear>) -> Option<Piece> {
        let code = self.tokens.get(first)?.start..self.tokens.get(end.checked_sub(1)?)?.end;
        let after = first.checked_sub(1).and_then(|before| self.tokens.get(before)).map_or(0, |before| before.end);
        let before = self.tokens.get(end).map_or(self.text.len(), |semicolon| semicolon.start);
        let from = tokens.partition_point(|token| token.start < after);
        let to = tokens.partition_point(|token| token.end <= before);
        let span = tokens.get(from)?.start..tokens.get(to.checked_sub(1)?)?.end;
        Some(Piece { span, code, unclear })
    }

    /// Both servers refuse a statement that ends inside an executable comment, but older ones may not.
    fn unclear_end(&self, end: usize) -> Option<Unclear> {
        let executing = self.executing.get(end).is_some_and(|executing| *executing);
        executing.then_some("a statement ends inside an executable comment")
    }

    /// The statement may change how the server reads what follows it, and what follows depends on that.
    fn unclear_rest(&self, at: usize, end: usize) -> Option<Unclear> {
        let depends = self.depends_until.is_some_and(|last| self.tokens.get(end).is_some_and(|end| end.end <= last));
        let changes = match self.word(at).as_deref() {
            Some("set") => (at..end).any(|at| self.may_name_a_lexical_setting(at)),
            Some("execute") => true,
            Some("begin") => self.is_word(at + 1, "not"),
            Some("if" | "case" | "loop" | "while" | "repeat" | "for") => true,
            // Routines put back what they have set; tried with sql_mode and with SET NAMES.
            _ => false,
        };
        (depends && changes).then_some("a statement before it may change how it is read")
    }

    /// `sql_mode`, `character_set_client`, SET NAMES, SET CHARSET. MySQL finds a variable regardless of accents.
    fn may_name_a_lexical_setting(&self, at: usize) -> bool {
        let named = self.is_name(at) || self.is_kind(at, |kind| kind == Kind::Variable);
        let written = self.tokens.get(at).map_or("", |token| token.text(self.text)).to_ascii_lowercase();
        let listed = ["sql_mode", "charact", "charset", "names"].iter().any(|part| written.contains(part));
        named && (listed || !written.is_ascii())
    }

    /// The semicolon after the statement that begins here, or the end of the text.
    fn statement_end(&self, at: usize) -> Result<usize, Unclear> {
        let body = match self.word(at).as_deref() {
            Some("create") => self.created_body(at + 1)?,
            Some("alter") => self.altered_body(at + 1)?,
            Some("begin") if self.mariadb && self.is_word(at + 1, "not") => Some(at),
            Some("if" | "case" | "loop" | "while" | "repeat" | "for") if self.mariadb => Some(at),
            _ => None,
        };
        match body {
            Some(body) => self.body_end(body),
            None => Ok(self.semicolon(at)),
        }
    }

    /// Where the body begins that a CREATE statement may have.
    fn created_body(&self, mut at: usize) -> Result<Option<usize>, Unclear> {
        if self.are_words(at, &["or", "replace"]) {
            at += 2;
        }
        at = self.after_definer(at);
        if self.is_word(at, "aggregate") {
            at += 1;
        }
        match self.word(at).as_deref() {
            Some("procedure") => Ok(self.after_parameters(at + 1).map(|at| self.after_characteristics(at))),
            Some("function") => Ok(self.function_body(at + 1)),
            Some("trigger") => Ok(self.trigger_body(at + 1)),
            Some("event") => self.event_body(at + 1),
            Some("package") if self.mariadb => Err("the body of a package is not read"),
            _ => Ok(None),
        }
    }

    fn altered_body(&self, at: usize) -> Result<Option<usize>, Unclear> {
        let at = self.after_definer(at);
        if !self.is_word(at, "event") {
            return Ok(None);
        }
        self.event_body(at + 1)
    }

    /// `DEFINER = 'user'@'host'`, or a function that names the user.
    fn after_definer(&self, at: usize) -> usize {
        if !self.is_word(at, "definer") || !self.is(at + 1, b'=') {
            return at;
        }
        let mut at = at + 3;
        if self.is(at, b'(') && self.is(at + 1, b')') {
            at += 2;
        }
        // `@'host'`, or `@ host` with a token of its own for the name.
        if self.is_kind(at, |kind| kind == Kind::Variable) {
            let bare = self.tokens.get(at).is_some_and(|token| token.text(self.text) == "@");
            at += 1 + usize::from(bare);
        }
        at
    }

    /// After `IF NOT EXISTS` and a name, dotted or not.
    fn after_name(&self, at: usize) -> Option<usize> {
        let at = if self.are_words(at, &["if", "not", "exists"]) { at + 3 } else { at };
        if !self.is_name(at) {
            return None;
        }
        match self.is(at + 1, b'.') {
            true => self.is_name(at + 2).then_some(at + 3),
            false => Some(at + 1),
        }
    }

    fn after_parameters(&self, at: usize) -> Option<usize> {
        let at = self.after_name(at)?;
        self.is(at, b'(').then(|| self.after_parentheses(at))
    }

    /// After the parenthesis that closes the one here.
    fn after_parentheses(&self, from: usize) -> usize {
        let mut depth = 0usize;
        for at in from..self.tokens.len() {
            if self.is(at, b'(') {
                depth += 1;
            } else if self.is(at, b')') {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
        }
        self.tokens.len()
    }

    fn function_body(&self, at: usize) -> Option<usize> {
        let at = self.after_parameters(at)?;
        self.is_word(at, "returns").then(|| self.after_characteristics(self.after_type(at + 1)))
    }

    /// After the name of a type and all that may belong to it.
    fn after_type(&self, at: usize) -> usize {
        const PARTS: &[&str] = &[
            "unsigned",
            "signed",
            "zerofill",
            "binary",
            "ascii",
            "unicode",
            "byte",
            "precision",
            "varying",
            "varchar",
            "varcharacter",
            "char",
            "character",
            "varbinary",
        ];
        let mut at = at + 1;
        loop {
            let word = self.word(at);
            let word = word.as_deref();
            if self.is(at, b'(') {
                at = self.after_parentheses(at);
            } else if matches!(word, Some("charset" | "collate")) {
                at += 2;
            } else if matches!(word, Some("character" | "char")) && self.is_word(at + 1, "set") {
                at += 3;
            } else if word.is_some_and(|word| PARTS.contains(&word)) {
                at += 1;
            } else {
                return at;
            }
        }
    }

    /// After what a routine says of itself before its body.
    fn after_characteristics(&self, mut at: usize) -> usize {
        const WHOLE: &[&[&str]] = &[
            &["deterministic"],
            &["not", "deterministic"],
            &["contains", "sql"],
            &["no", "sql"],
            &["reads", "sql", "data"],
            &["modifies", "sql", "data"],
            &["sql", "security", "definer"],
            &["sql", "security", "invoker"],
            &["language", "sql"],
        ];
        loop {
            if let Some(words) = WHOLE.iter().find(|words| self.are_words(at, words)) {
                at += words.len();
            } else if self.is_word(at, "comment") && self.is_kind(at + 1, |kind| matches!(kind, Kind::String(_))) {
                at += 2;
            } else {
                return at;
            }
        }
    }

    fn trigger_body(&self, at: usize) -> Option<usize> {
        let at = self.after_name(at)?;
        let each = (at..self.semicolon(at)).find(|at| self.are_words(*at, &["for", "each", "row"]))?;
        let body = each + 3;
        let ordered = matches!(self.word(body).as_deref(), Some("follows" | "precedes")) && !self.is(body + 1, b':');
        Some(if ordered { body + 2 } else { body })
    }

    /// After the DO of an event. The word may also be a name, where an operand is wanted.
    fn event_body(&self, at: usize) -> Result<Option<usize>, Unclear> {
        const ENDS: &[&str] = &[
            "microsecond",
            "second",
            "minute",
            "hour",
            "day",
            "week",
            "month",
            "quarter",
            "year",
            "minute_second",
            "hour_second",
            "hour_minute",
            "day_second",
            "day_minute",
            "day_hour",
            "year_month",
            "preserve",
            "enable",
            "disable",
            "slave",
            "replica",
            "current_timestamp",
            "current_date",
            "null",
        ];
        let Some(mut at) = self.after_name(at) else { return Ok(None) };
        let end = self.semicolon(at);
        let mut after_name = true;
        while at < end {
            let word = self.word(at);
            match word.as_deref() {
                Some("do") => {
                    let operand = self.is_kind(at - 1, is_value) || self.is(at - 1, b')');
                    let known = self.word(at - 1).is_some_and(|word| ENDS.contains(&word.as_str()));
                    let certain = after_name || operand || known;
                    return if certain {
                        Ok(Some(at + 1))
                    } else {
                        Err("where the body of an event begins is not clear")
                    };
                }
                Some("case") => return Err("where the body of an event begins is not clear"),
                Some("rename") if self.is_word(at + 1, "to") => {
                    let Some(after) = self.after_name(at + 2) else { return Ok(None) };
                    (at, after_name) = (after, true);
                    continue;
                }
                _ if self.is(at, b'(') => at = self.after_parentheses(at),
                _ => at += 1,
            }
            after_name = false;
        }
        Ok(None)
    }

    /// The semicolon after the body that begins here. Every statement in it begins where the one before it has ended, so that words
    /// like BEGIN and END, which may also be names, are only looked at where they can be nothing else.
    fn body_end(&self, mut at: usize) -> Result<usize, Unclear> {
        let mut open: Vec<Block> = Vec::new();
        loop {
            match self.step(at, &mut open)? {
                Step::Opened(next) => at = next,
                Step::Ended(next) if open.is_empty() => {
                    let ends = next >= self.tokens.len() || self.is(next, b';');
                    return if ends { Ok(next) } else { Err("what follows the body of a stored program is not clear") };
                }
                Step::Ended(next) if self.is(next, b';') => at = next + 1,
                Step::Ended(_) => return Err("the body of a stored program does not end"),
            }
        }
    }

    /// One statement of a body, or what opens a block.
    fn step(&self, at: usize, open: &mut Vec<Block>) -> Result<Step, Unclear> {
        let (label, at) = match self.is_name(at) && self.is(at + 1, b':') {
            true => (Some(self.name(at)), at + 2),
            false => (None, at),
        };
        let labelled = label.is_some();
        let push = |kind| open.push(Block { kind, label });
        let word = self.word(at);
        let next = match word.as_deref() {
            Some("begin") => {
                push("begin");
                if self.mariadb && self.are_words(at + 1, &["not", "atomic"]) { at + 3 } else { at + 1 }
            }
            Some("loop") => {
                push("loop");
                at + 1
            }
            Some("repeat") => {
                push("repeat");
                at + 1
            }
            Some("while") => {
                push("while");
                self.after(at + 1, "do")?
            }
            Some("for") if self.mariadb => {
                push("for");
                self.after(at + 1, "do")?
            }
            _ if labelled => return Err("a label stands before something else than a block"),
            Some("if") => {
                push("if");
                self.after(at + 1, "then")?
            }
            Some("case") => {
                push("case");
                let when = if self.is_word(at + 1, "when") { at + 2 } else { self.after(at + 1, "when")? };
                self.after(when, "then")?
            }
            Some("declare") => match self.handled(at + 1)? {
                Some(statement) => statement,
                None => return Ok(Step::Ended(self.semicolon(at))),
            },
            other => return self.inner(at, other, open),
        };
        Ok(Step::Opened(next))
    }

    /// The words that only mean something inside the block they belong to, and every other statement.
    fn inner(&self, at: usize, word: Option<&str>, open: &mut Vec<Block>) -> Result<Step, Unclear> {
        let inside = open.last().map_or("", |block| block.kind);
        match (inside, word) {
            ("if" | "case", Some("else")) => Ok(Step::Opened(at + 1)),
            ("if", Some("elseif")) | ("case", Some("when")) => Ok(Step::Opened(self.after(at + 1, "then")?)),
            ("repeat", Some("until")) => {
                let end = self.after(at + 1, "end")?;
                self.closed(end, open)
            }
            ("repeat", Some("end")) => Err("a REPEAT ends without its UNTIL"),
            (_, Some("end")) => self.closed(at + 1, open),
            (_, Some("else" | "elseif" | "when" | "until" | "then" | "do")) => {
                Err("a part of a block stands outside it")
            }
            ("", _) => Ok(Step::Ended(self.semicolon(at))),
            _ => match self.semicolon(at) {
                end if end < self.tokens.len() => Ok(Step::Ended(end)),
                _ => Err("the body of a stored program does not end"),
            },
        }
    }

    /// After END and what belongs to it: the word of the block, its label.
    fn closed(&self, mut at: usize, open: &mut Vec<Block>) -> Result<Step, Unclear> {
        let block = open.pop().ok_or("END stands where no block is open")?;
        if block.kind != "begin" {
            if !self.is_word(at, block.kind) {
                return Err("END closes another block than the one that is open");
            }
            at += 1;
        }
        if self.is_name(at) {
            if block.label.as_ref() != Some(&self.name(at)) {
                return Err("END closes another block than the one that is open");
            }
            at += 1;
        }
        Ok(Step::Ended(at))
    }

    fn name(&self, at: usize) -> String {
        let written = self.tokens.get(at).map_or("", |token| token.text(self.text));
        lexer::unquoted(written).unwrap_or_default().to_lowercase()
    }

    /// `DECLARE EXIT HANDLER FOR conditions`: where its statement begins.
    fn handled(&self, at: usize) -> Result<Option<usize>, Unclear> {
        let is_handler = matches!(self.word(at).as_deref(), Some("continue" | "exit" | "undo"))
            && self.are_words(at + 1, &["handler", "for"]);
        if !is_handler {
            return Ok(None);
        }
        let mut at = at + 3;
        loop {
            at = match self.word(at).as_deref() {
                Some("sqlstate") if self.is_word(at + 1, "value") => at + 3,
                Some("sqlstate") => at + 2,
                Some("not") => at + 2,
                _ if self.is_name(at) || self.is_kind(at, |kind| kind == Kind::Number) => at + 1,
                _ => return Err("what a handler is for is not clear"),
            };
            if !self.is(at, b',') {
                return Ok(Some(at));
            }
            at += 1;
        }
    }

    /// After the word that ends the expression which begins here: THEN, WHEN, DO or END. CASE expressions within it have words of
    /// their own; DO and END may be names, and are not where an operand has just ended.
    fn after(&self, from: usize, wanted: &str) -> Result<usize, Unclear> {
        const UNSURE: Unclear = "where an expression ends is not clear";
        let mut depth = 0usize;
        // The depths at which a CASE waits for its END.
        let mut cases: Vec<usize> = Vec::new();
        // The END that closed the last of them: it ends an operand.
        let mut closed = None;
        for at in from..self.tokens.len() {
            if self.is(at, b';') {
                return Err(UNSURE);
            } else if self.is(at, b'(') {
                depth += 1;
            } else if self.is(at, b')') {
                depth = depth.checked_sub(1).ok_or(UNSURE)?;
            }
            let Some(word) = self.word(at) else { continue };
            let outside = depth == 0 && cases.is_empty();
            match word.as_str() {
                "case" => cases.push(depth),
                "end" if cases.last() == Some(&depth) => {
                    if closed != Some(at - 1) && !self.ends_operand(at - 1) {
                        return Err(UNSURE);
                    }
                    cases.pop();
                    closed = Some(at);
                }
                word if word == wanted && outside => {
                    let certain = matches!(word, "then" | "when") || closed == Some(at - 1);
                    return if certain || self.ends_operand(at - 1) { Ok(at + 1) } else { Err(UNSURE) };
                }
                _ => {}
            }
        }
        Err(UNSURE)
    }

    /// Whether an expression may end with this token.
    fn ends_operand(&self, at: usize) -> bool {
        const OPERATORS: &[&str] = &[
            "and", "or", "xor", "not", "div", "mod", "like", "regexp", "rlike", "in", "is", "between", "binary",
            "interval", "collate", "escape", "sounds", "member", "of", "exists", "any", "all", "some", "case", "when",
            "then", "else", "if", "elseif", "while", "until", "do", "for", "over", "distinct", "reverse", "end", "at",
        ];
        match self.word(at) {
            Some(word) => !OPERATORS.contains(&word.as_str()),
            None => self.is_kind(at, is_value) || self.is_name(at) || self.is(at, b')'),
        }
    }
}

enum Step {
    /// A statement of the body begins here.
    Opened(usize),
    /// A statement has ended here.
    Ended(usize),
}

fn is_value(kind: Kind) -> bool {
    matches!(kind, Kind::String(_) | Kind::Number | Kind::QuotedName | Kind::Variable | Kind::Parameter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str, product: Product) -> Vec<String> {
        let mode = MySqlMode::of(product, if product == Product::MySql { 90_704 } else { 101_119 });
        let shown = |piece: &Piece| {
            let mark = if piece.unclear.is_some() { "?" } else { "" };
            format!("{mark}{}", &text[piece.span.clone()])
        };
        split(text, mode).iter().map(shown).collect()
    }

    fn check(text: &str, expected: &[&str]) {
        for product in [Product::MySql, Product::MariaDb] {
            assert_eq!(pieces(text, product), expected, "{text} on {product:?}");
        }
    }

    /// The body holds together, and what follows it does not belong to it.
    fn holds(body: &str) {
        let text = format!("{body}; SELECT 3");
        check(&text, &[body, "SELECT 3"]);
    }

    fn unclear(text: &str) {
        check(text, &[&format!("?{text}")]);
    }

    #[test]
    fn plain_statements_end_at_semicolons() {
        check(" ; -- x\n;", &[]);
        check("SELECT 1;", &["SELECT 1"]);
        check(
            "SELECT 1;;/* a */ SELECT ';' # b;\n; SELECT `;`",
            &["SELECT 1", "/* a */ SELECT ';' # b;", "SELECT `;`"],
        );
        check("BEGIN; DELETE FROM t; END", &["BEGIN", "DELETE FROM t", "END"]);
        check("XA BEGIN 'x'; XA END 'x'", &["XA BEGIN 'x'", "XA END 'x'"]);
        check("SELECT 1 /*! + 1 */; SELECT 2", &["SELECT 1 /*! + 1 */", "SELECT 2"]);
        check("SELECT begin FROM t; DELETE FROM t", &["SELECT begin FROM t", "DELETE FROM t"]);
    }

    #[test]
    fn bodies_hold_their_semicolons() {
        for body in [
            "CREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2; END",
            "CREATE DEFINER=root@localhost PROCEDURE p() BEGIN SELECT 1; END",
            "CREATE DEFINER = 'a' @ 'b' PROCEDURE d.p() BEGIN SELECT 1; END",
            "CREATE DEFINER=CURRENT_USER() PROCEDURE IF NOT EXISTS p() BEGIN END",
            "CREATE OR REPLACE PROCEDURE p(a INT, b DECIMAL(10,2)) NOT DETERMINISTIC COMMENT 'x' l: BEGIN SELECT 1; END L",
            "CREATE PROCEDURE p() `a b`: BEGIN SELECT 1; END `A B`",
            "CREATE PROCEDURE p() IF 1 THEN SELECT 1; ELSEIF 2 THEN SELECT 2; ELSE SELECT 3; END IF",
            "CREATE PROCEDURE p() CASE 1 WHEN 1 THEN SELECT 1; ELSE BEGIN END; END CASE",
            "CREATE PROCEDURE p() CASE WHEN 1 THEN SELECT 1; WHEN 2 THEN SELECT 2; END CASE",
            "CREATE PROCEDURE p() WHILE a AND done DO SELECT 1; END WHILE",
            "CREATE PROCEDURE p() l: LOOP LEAVE l; END LOOP l",
            "CREATE PROCEDURE p() REPEAT SELECT 1; UNTIL a > 1 END REPEAT",
            "CREATE PROCEDURE p() BEGIN IF CASE WHEN a THEN b END THEN SELECT 1; END IF; END",
            "CREATE PROCEDURE p() BEGIN WHILE CASE WHEN CASE 1 WHEN a THEN b END THEN 1 END DO SELECT 1; END WHILE; END",
            "CREATE PROCEDURE p() BEGIN IF IF(1, 2, 3) THEN SELECT 1; END IF; END",
            "CREATE PROCEDURE p() BEGIN DECLARE begin INT; SET begin = 1; SELECT begin; SELECT t.end; END",
            "CREATE PROCEDURE p() BEGIN DECLARE CONTINUE HANDLER FOR NOT FOUND BEGIN END; SELECT CASE 1 WHEN 1 THEN 2 END; END",
            "CREATE PROCEDURE p() BEGIN DECLARE EXIT HANDLER FOR SQLSTATE VALUE '02000', c, 1051 BEGIN SELECT 1; END; END",
            "CREATE PROCEDURE p() BEGIN DECLARE c CURSOR FOR SELECT 1; XA BEGIN 'x'; XA END 'x'; END",
            "CREATE FUNCTION f(a INT) RETURNS VARCHAR(20) CHARSET utf8mb4 COLLATE x DETERMINISTIC BEGIN RETURN 1; END",
            "CREATE FUNCTION f() RETURNS INT UNSIGNED READS SQL DATA BEGIN RETURN 1; END",
            "CREATE TRIGGER t BEFORE INSERT ON u FOR EACH ROW BEGIN SET @a = 1; SET @b = 2; END",
            "CREATE TRIGGER t AFTER DELETE ON d.u FOR EACH ROW FOLLOWS v BEGIN SET @a = 1; END",
            "CREATE EVENT e ON SCHEDULE EVERY 1 DAY STARTS '2026-01-01' ON COMPLETION PRESERVE DO BEGIN SELECT 1; END",
            "CREATE EVENT e ON SCHEDULE AT CURRENT_TIMESTAMP + INTERVAL 1 HOUR DO BEGIN SELECT 1; END",
            "ALTER EVENT e RENAME TO f DO BEGIN SELECT 1; END",
            "ALTER EVENT e DO BEGIN SELECT 1; END",
            "/*!50003 CREATE*/ /*!50017 DEFINER=`root`@`localhost`*/ /*!50003 TRIGGER t AFTER UPDATE ON u FOR EACH ROW BEGIN SELECT 1; END */",
            "CREATE PROCEDURE p() BEGIN SELECT 1; /*! SELECT 2; */ END",
        ] {
            holds(body);
        }
        let maria = |text: &str, expected: &[&str]| assert_eq!(pieces(text, Product::MariaDb), expected, "{text}");
        for body in [
            "BEGIN NOT ATOMIC SELECT 1; DELETE FROM t; END",
            "IF 1 THEN SELECT 1; END IF",
            "FOR i IN 1..2 DO SELECT i; END FOR",
            "WHILE 0 DO SELECT 1; END WHILE",
            "CREATE PROCEDURE p() BEGIN FOR i IN (SELECT 1) DO SELECT 1; END FOR; END",
        ] {
            maria(&format!("{body}; SELECT 3"), &[body, "SELECT 3"]);
        }
        assert_eq!(pieces("IF 1 THEN SELECT 1; END IF", Product::MySql).len(), 2);
    }

    #[test]
    fn what_only_looks_like_a_body_holds_nothing() {
        for first in [
            "CREATE PROCEDURE p() SELECT begin FROM t",
            "CREATE PROCEDURE p() SELECT 1 COMMENT 'x'",
            "CREATE FUNCTION f() RETURNS INT RETURN CASE WHEN 1 THEN 2 END",
            "CREATE FUNCTION f RETURNS STRING SONAME 'x.so'",
            "CREATE TABLE begin (a INT)",
            "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO DELETE FROM u",
            "CREATE TRIGGER t AFTER DELETE ON u FOR EACH ROW DELETE FROM v",
            "ALTER EVENT e ENABLE",
            "CREATE PROCEDURE p() LANGUAGE JAVASCRIPT AS 'begin'",
            "CREATE VIEW v AS SELECT CASE WHEN a THEN b END",
        ] {
            let text = format!("{first}; DELETE FROM t; END");
            check(&text, &[first, "DELETE FROM t", "END"]);
        }
    }

    #[test]
    fn a_statement_may_change_how_the_next_is_read() {
        for text in [
            "SET sql_mode = 'NO_BACKSLASH_ESCAPES'; SELECT 'a\\'; DELETE FROM t; -- '",
            "SET @@SESSION.SQL_MODE = ''; SELECT \"a\"",
            "SET @a = 1, `sql_mode` = 'ANSI_QUOTES'; SELECT \"a\"",
            "SET sql_mod\u{e9} = 'ANSI_QUOTES'; SELECT \"a\"",
            "SET NAMES gbk; SELECT '\u{e9}'",
            "/*!40101 SET character_set_client = latin1 */; SELECT '\u{e9}'",
            "EXECUTE s; SELECT [a]",
        ] {
            unclear(text);
        }
        check("SET sql_mode = ''; SELECT 'a'; SELECT 1", &["SET sql_mode = ''", "SELECT 'a'", "SELECT 1"]);
        check("SET autocommit = 0; SELECT 'a\\b'", &["SET autocommit = 0", "SELECT 'a\\b'"]);
        check("CALL p(); SELECT \"a\"; SET NAMES gbk", &["CALL p()", "SELECT \"a\"", "SET NAMES gbk"]);
    }

    #[test]
    fn where_it_is_not_certain_the_rest_is_unclear() {
        for text in [
            "CREATE PROCEDURE p() BEGIN SELECT 1; DELETE FROM t",
            "CREATE PROCEDURE p() BEGIN SELECT 1; END x; DELETE FROM t",
            "CREATE PROCEDURE p() BEGIN SELECT 1; END SELECT 3; DELETE FROM t",
            "CREATE PROCEDURE p() BEGIN IF 1 THEN SELECT 1; END; DELETE FROM t",
            "CREATE PROCEDURE p() BEGIN IF CASE WHEN a OR end THEN 1 END THEN SELECT 1; END IF; END; DELETE FROM t",
            "CREATE PROCEDURE p() l: SELECT 1; DELETE FROM t",
            "CREATE EVENT e ON SCHEDULE AT do DO BEGIN SELECT 1; END; DELETE FROM t",
            "SELECT 1 /*! ; DELETE FROM t; */",
            "CREATE PROCEDURE p() /*! BEGIN SELECT 1; END; */ DELETE FROM t",
        ] {
            unclear(text);
        }
        let package = "CREATE PACKAGE p AS FUNCTION f() RETURNS INT; END; DELETE FROM t";
        assert_eq!(pieces(package, Product::MariaDb), [format!("?{package}")]);
    }
}
