//! Conditions, read from tokens into the small tree that [`crate::sql::predicate`] reasons over.
//!
//! Invariant: what is not understood exactly becomes [`Term::Opaque`]; a column that could belong to another table is never taken for
//! one of the target. No column counts as pinned by itself: MySQL compares a text with a number as numbers, so `name = 0` is true of
//! every name that begins with no digit. What a column is compared with is kept, for those who know its type.
//!
//! Sources: `expr`, `bool_pri`, `predicate`, `bit_expr` and `simple_expr` in MySQL 9.7's `sql_yacc.yy`, "Operator Precedence" and "Type
//! Conversion in Expression Evaluation" in its manual.

use crate::ground::limits;
use crate::sql::dialect::mysql::cursor::{Cursor, Read, Unread};
use crate::sql::dialect::mysql::names;
use crate::sql::facts::{Constant, PinnedIf, Restriction};
use crate::sql::lexer::{Kind, StringKind};
use crate::sql::predicate::{self, Comparison, Term};
use std::collections::BTreeSet;
use std::ops::Range;

/// What names mean where a condition stands.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The target's name in its parts.
    pub target: Vec<String>,
    pub alias: Option<String>,
    pub others: Vec<Other>,
    /// Names that WITH gives to queries.
    pub hidden: BTreeSet<String>,
}

/// Another table of the list.
#[derive(Debug, Clone)]
pub struct Other {
    pub called: String,
    /// The target's own table once more: it holds the very row that is looked at.
    pub is_target: bool,
    /// Joined by LEFT or RIGHT JOIN: a condition on it keeps rows of the target out by way of the join's own condition.
    pub outer: bool,
}

const UNKNOWN: Term = Term::Opaque { mentions_target: true };
const CONSTANT: Term = Term::Opaque { mentions_target: false };

/// What these conditions together, which must all hold, leave of the target's rows; and which columns they pin, given the right types.
pub fn restriction(
    cursor: &Cursor,
    conditions: &[&Range<usize>],
    by_name: bool,
    scope: &Scope,
) -> (Restriction, Vec<PinnedIf>) {
    let mut terms: Vec<Term> = conditions.iter().map(|tokens| condition(cursor, tokens, scope)).collect();
    if by_name {
        terms.push(UNKNOWN);
    }
    let term = if terms.len() == 1 {
        terms.pop()
    } else {
        Some(Term::And(terms)).filter(|_| !conditions.is_empty() || by_name)
    };
    let joined = !scope.others.is_empty();
    match predicate::restriction(term.as_ref(), joined) {
        Restriction::Restricts { .. } => {
            let mut pinned = term.as_ref().map(pinned).unwrap_or_default();
            pinned.sort();
            pinned.dedup();
            (Restriction::Restricts { pinned: Vec::new() }, pinned)
        }
        other => (other, Vec::new()),
    }
}

/// A condition in some tokens; [`Term::Opaque`] if it is not understood.
pub fn condition(cursor: &Cursor, tokens: &Range<usize>, scope: &Scope) -> Term {
    value(cursor, tokens, scope).map_or(UNKNOWN, truth_value)
}

/// A value in some tokens.
pub fn value(cursor: &Cursor, tokens: &Range<usize>, scope: &Scope) -> Option<Term> {
    let mut reader = Expression { cursor: cursor.within(tokens.clone()), scope, depth: 0, nodes: 0 };
    let term = reader.or().ok()?;
    reader.cursor.done().then_some(term)
}

/// Columns that top-level AND terms equate with constants.
fn pinned(term: &Term) -> Vec<PinnedIf> {
    match term {
        Term::And(terms) => terms.iter().flat_map(pinned).collect(),
        Term::Compare(Comparison::Equal, left, right) | Term::Same(left, right) => match (&**left, &**right) {
            (Term::Column(column), value) | (value, Term::Column(column)) => {
                constant(value).map(|constant| PinnedIf { column: column.clone(), constant }).into_iter().collect()
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn constant(term: &Term) -> Option<Constant> {
    match term {
        Term::Integer(_) | Term::Bool(_) => Some(Constant::Integer),
        Term::Parameter(number) => Some(Constant::Parameter(*number)),
        // Beyond ASCII the characters of the column and of the connection may be compared in a third way.
        Term::Constant(text) if text.starts_with("s:") && text.is_ascii() => Some(Constant::Text),
        Term::Constant(text) if text.starts_with("x:") => Some(Constant::Bytes),
        _ => None,
    }
}

/// A value where a truth value is wanted: numbers but 0 are true, texts by the number they begin with.
fn truth_value(term: Term) -> Term {
    match term {
        Term::Integer(number) => Term::Bool(number != 0),
        Term::Constant(text) => match text.split_once(':') {
            Some(("s" | "n", digits)) => leading_number(digits).map_or(CONSTANT, |number| Term::Bool(number != 0.0)),
            _ => CONSTANT,
        },
        term => term,
    }
}

/// `12abc` is 12, `abc` is 0; `None` where it cannot be told easily.
fn leading_number(text: &str) -> Option<f64> {
    let text = text.trim_start();
    let digits = text.trim_start_matches(['+', '-']);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '\\')) {
        return Some(0.0);
    }
    if text.contains(['\\', 'e', 'E']) {
        return text.parse().ok();
    }
    let end = text.char_indices().find(|(at, c)| !(c.is_ascii_digit() || *c == '.' || (*at == 0 && "+-".contains(*c))));
    let number = text.get(..end.map_or(text.len(), |(at, _)| at))?;
    if number.trim_start_matches(['+', '-', '.']).is_empty() { Some(0.0) } else { number.parse().ok() }
}

/// Conservative: only what is certainly about other tables, or about none, does not mention the target.
fn mentions(term: &Term) -> bool {
    match term {
        Term::Foreign { .. } | Term::Integer(_) | Term::Constant(_) | Term::Bool(_) | Term::Null => false,
        Term::Opaque { mentions_target } => *mentions_target,
        Term::Strict(_, operands) | Term::Coalesce(operands) => operands.iter().any(mentions),
        Term::Compare(_, left, right) | Term::Same(left, right) => mentions(left) || mentions(right),
        _ => true,
    }
}

fn opaque(terms: &[&Term]) -> Term {
    Term::Opaque { mentions_target: terms.iter().any(|term| mentions(term)) }
}

fn negated(term: Term) -> Term {
    Term::Not(Box::new(term))
}

fn is_condition(term: &Term) -> bool {
    use Term::{And, Compare, Inhabited, Is, IsNull, Not, Or, Same};
    matches!(term, And(_) | Or(_) | Not(_) | Compare(..) | IsNull(_) | Same(..) | Is(..) | Inhabited)
}

struct Expression<'t, 's> {
    cursor: Cursor<'t>,
    scope: &'s Scope,
    depth: usize,
    nodes: usize,
}

impl Expression<'_, '_> {
    /// A step deeper; beyond a bound nothing is reasoned over.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        self.depth += 1;
        if self.depth > limits::SQL_EXPRESSION_DEPTH_MAX {
            return Err(Unread("nested too deeply".to_owned()));
        }
        let found = read(self);
        self.depth -= 1;
        found
    }

    /// One operator more in a chain, each of which makes the tree a level deeper.
    fn longer(&mut self) -> Read<()> {
        self.nodes += 1;
        match self.nodes > limits::SQL_EXPRESSION_DEPTH_MAX {
            true => Err(Unread("too long a chain of operators".to_owned())),
            false => Ok(()),
        }
    }

    fn or(&mut self) -> Read<Term> {
        let first = self.xor()?;
        let mut terms = vec![first];
        while self.cursor.eat("or") || (!self.cursor.mode.pipes_as_concat && self.cursor.eat_mark("||")) {
            terms.push(self.xor()?);
        }
        Ok(one_or(terms, Term::Or))
    }

    fn xor(&mut self) -> Read<Term> {
        let mut left = self.and()?;
        while self.cursor.eat("xor") {
            self.longer()?;
            let right = self.and()?;
            left = opaque(&[&left, &right]);
        }
        Ok(left)
    }

    fn and(&mut self) -> Read<Term> {
        let first = self.not()?;
        let mut terms = vec![first];
        while self.cursor.eat("and") || self.cursor.eat_mark("&&") {
            terms.push(self.not()?);
        }
        Ok(one_or(terms, Term::And))
    }

    fn not(&mut self) -> Read<Term> {
        if self.cursor.eat("not") {
            let inner = self.deeper(Self::not)?;
            return Ok(negated(truth_value(inner)));
        }
        self.comparison()
    }

    /// `bool_pri`, and IS TRUE behind it.
    fn comparison(&mut self) -> Read<Term> {
        let mut left = self.predicate()?;
        loop {
            if self.cursor.eat("is") {
                self.longer()?;
                let not = self.cursor.eat("not");
                let inner = Box::new(left);
                let tested = if self.cursor.eat("null") {
                    Term::IsNull(inner)
                } else if self.cursor.eat("true") {
                    Term::Is(Box::new(truth_value(*inner)), true)
                } else if self.cursor.eat("false") {
                    Term::Is(Box::new(truth_value(*inner)), false)
                } else if self.cursor.eat("unknown") {
                    Term::IsNull(inner)
                } else {
                    return Err(self.cursor.lost());
                };
                left = if not { negated(tested) } else { tested };
                continue;
            }
            let Some(operator) = COMPARISONS.iter().find(|operator| self.cursor.mark(operator)) else {
                return Ok(left);
            };
            self.cursor.at += 1;
            self.longer()?;
            if self.cursor.any(&["all", "any", "some"]) && self.cursor.mark_at(1, "(") {
                self.cursor.at += 1;
                self.cursor.parenthesized()?;
                left = UNKNOWN;
                continue;
            }
            let right = self.predicate()?;
            left = self.compared(operator, left, right);
        }
    }

    fn compared(&self, operator: &str, left: Term, right: Term) -> Term {
        let comparison = match operator {
            "=" => Comparison::Equal,
            "<>" | "!=" => Comparison::NotEqual,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            _ => return Term::Same(Box::new(left), Box::new(right)),
        };
        let (left, right) = alike(left, right);
        if comparison == Comparison::Equal {
            match (&left, &right) {
                (Term::Column(column), Term::Foreign { of, name })
                | (Term::Foreign { of, name }, Term::Column(column))
                    if column == name
                        && self.scope.others.iter().any(|other| other.is_target && other.called == *of) =>
                {
                    return Term::AmongItself(Box::new(Term::Column(column.clone())));
                }
                _ => {}
            }
        }
        Term::Compare(comparison, Box::new(left), Box::new(right))
    }

    fn predicate(&mut self) -> Read<Term> {
        let left = self.bits()?;
        let not = self.cursor.word("not")
            && ["in", "between", "like", "regexp", "rlike"].iter().any(|word| self.cursor.word_at(1, word));
        self.cursor.at += usize::from(not);
        let found = if self.cursor.eat("in") {
            self.one_of(left)?
        } else if self.cursor.eat("between") {
            let low = self.bits()?;
            self.cursor.expect("and")?;
            let high = self.deeper(Self::predicate)?;
            let side = |comparison, bound| Term::Compare(comparison, Box::new(left.clone()), Box::new(bound));
            Term::And(vec![side(Comparison::GreaterOrEqual, low), side(Comparison::LessOrEqual, high)])
        } else if self.cursor.eat("like") {
            let pattern = self.simple()?;
            let escape = self.cursor.eat("escape");
            if escape {
                self.simple()?;
            }
            matched(left, &pattern, |text| !escape && !text.is_empty() && text.bytes().all(|byte| byte == b'%'))
        } else if self.cursor.eat_any(&["regexp", "rlike"]) {
            let pattern = self.bits()?;
            matched(left, &pattern, |text| matches!(text, "^" | "$" | ".*" | "^.*" | ".*$" | "^.*$" | "(.*)"))
        } else if self.cursor.eat_words(&["member", "of"]) || self.cursor.eat_words(&["sounds", "like"]) {
            let right = self.bits()?;
            opaque(&[&left, &right])
        } else {
            left
        };
        Ok(if not { negated(found) } else { found })
    }

    /// IN with a list. Long lists are values to look for, not something to reason over.
    fn one_of(&mut self, left: Term) -> Read<Term> {
        const MOST_VALUES: usize = 64;
        if self.is_query() {
            let inside = self.cursor.parenthesized()?;
            return Ok(self.among(&left, &inside).unwrap_or(UNKNOWN));
        }
        self.cursor.expect_mark("(")?;
        let mut terms = Vec::new();
        let mut count = 0usize;
        loop {
            count += 1;
            if count > MOST_VALUES {
                self.cursor.run(|_| false)?;
                break;
            }
            let value = self.deeper(Self::or)?;
            terms.push(self.compared("=", left.clone(), value));
            if !self.cursor.eat_mark(",") {
                break;
            }
        }
        self.cursor.expect_mark(")")?;
        Ok(if count > MOST_VALUES { opaque(&[&left]) } else { one_or(terms, Term::Or) })
    }

    /// `|`, `&`, `<<`, `>>`, `+`, `-`, `*`, `/`, `%`, DIV, MOD, `^`. How tightly they bind among each other does not matter where what comes
    /// of them is not reasoned over: only `+`, `-` and `*` of two operands are.
    fn bits(&mut self) -> Read<Term> {
        let left = self.simple()?;
        let Some(operator) = self.operator() else { return Ok(left) };
        let operand = |this: &mut Self| -> Read<Term> {
            if this.cursor.eat("interval") {
                this.deeper(Self::or)?;
                this.cursor.identifier()?; // the unit
                return Ok(CONSTANT);
            }
            this.simple()
        };
        let right = operand(self)?;
        let mut all = vec![left, right];
        while self.operator().is_some() {
            all.push(operand(self)?);
        }
        match (operator, all.as_slice()) {
            ("+" | "-" | "*", [left, right]) if !matches!(right, Term::Opaque { .. }) => {
                Ok(Term::Strict(operator.to_owned(), vec![left.clone(), right.clone()]))
            }
            // By zero it is NULL.
            ("/", [left, Term::Integer(by)]) if *by != 0 => {
                Ok(Term::Strict("/".to_owned(), vec![left.clone(), Term::Integer(*by)]))
            }
            _ => Ok(opaque(&all.iter().collect::<Vec<_>>())),
        }
    }

    fn operator(&mut self) -> Option<&'static str> {
        const OPERATORS: &[&str] = &["+", "-", "*", "/", "%", "^", "&", "|", "<<", ">>"];
        let concat = self.cursor.mode.pipes_as_concat && self.cursor.eat_mark("||");
        let found = OPERATORS.iter().find(|operator| self.cursor.eat_mark(operator)).copied();
        found.or_else(|| (concat || self.cursor.eat_any(&["div", "mod"])).then_some("other"))
    }

    fn simple(&mut self) -> Read<Term> {
        let mut term = self.deeper(Self::primary)?;
        loop {
            if self.cursor.eat("collate") {
                // Under another collation equality may join what the column's own keeps apart.
                self.cursor.at += 1;
                term = opaque(&[&term]);
            } else if self.cursor.eat_mark("->") || self.cursor.eat_mark("->>") {
                self.cursor.at += 1;
                term = opaque(&[&term]);
            } else {
                return Ok(term);
            }
        }
    }

    fn primary(&mut self) -> Read<Term> {
        if self.cursor.eat_mark("-") {
            return Ok(match self.simple()? {
                Term::Integer(number) => number.checked_neg().map_or(UNKNOWN, Term::Integer),
                Term::Constant(text) if text.starts_with("n:") => Term::Constant(format!("-{text}")),
                inner => opaque(&[&inner]),
            });
        }
        if self.cursor.eat_mark("+") {
            return self.simple();
        }
        if self.cursor.eat_mark("!") {
            return self.simple().map(|inner| negated(truth_value(inner)));
        }
        if self.cursor.eat_mark("~") || self.cursor.eat("binary") {
            return self.simple().map(|inner| opaque(&[&inner]));
        }
        let Some(token) = self.cursor.ahead(0) else { return Err(self.cursor.lost()) };
        let written = self.cursor.written(0);
        match token.kind {
            Kind::String(_) => self.text(),
            Kind::Number => {
                self.cursor.at += 1;
                Ok(number(written))
            }
            Kind::Parameter => {
                self.cursor.at += 1;
                Ok(self.parameter())
            }
            Kind::Variable => {
                self.cursor.variable()?;
                Ok(CONSTANT)
            }
            Kind::Punctuation(b'(') => self.parenthesis(),
            Kind::Punctuation(b'{') => Err(self.cursor.lost()),
            Kind::QuotedName => self.named(),
            Kind::Word => self.worded(),
            _ => Err(self.cursor.lost()),
        }
    }

    /// Of the `?` just passed, which one it is.
    fn parameter(&self) -> Term {
        let before = self.cursor.tokens.iter().take(self.cursor.at);
        let number = before.filter(|token| token.kind == Kind::Parameter).count();
        u16::try_from(number).map_or(CONSTANT, Term::Parameter)
    }

    /// One string or several, which are joined.
    fn text(&mut self) -> Read<Term> {
        let Some(Kind::String(kind)) = self.cursor.ahead(0).map(|token| token.kind) else {
            return Err(self.cursor.lost());
        };
        let written = self.cursor.written(0);
        self.cursor.at += 1;
        let mut several = false;
        while self.cursor.string_at(0) {
            self.cursor.at += 1;
            several = true;
        }
        let inner = written.get(1..written.len().saturating_sub(1)).unwrap_or_default();
        Ok(match kind {
            StringKind::Plain if !several => Term::Constant(format!("s:{inner}")),
            StringKind::Hex | StringKind::Bits if !several => Term::Constant(format!("x:{written}")),
            _ => CONSTANT,
        })
    }

    /// A row, a query, or an expression in parentheses.
    fn parenthesis(&mut self) -> Read<Term> {
        if self.is_query() {
            let inside = self.cursor.parenthesized()?;
            return Ok(self.scalar(&inside).unwrap_or(UNKNOWN));
        }
        self.cursor.expect_mark("(")?;
        let first = self.deeper(Self::or)?;
        if !self.cursor.mark(",") {
            self.cursor.expect_mark(")")?;
            return Ok(first);
        }
        let mut terms = vec![first];
        while self.cursor.eat_mark(",") {
            terms.push(self.deeper(Self::or)?);
        }
        self.cursor.expect_mark(")")?;
        self.rows(terms)
    }

    /// `(a, b) = (1, 2)`
    fn rows(&mut self, left: Vec<Term>) -> Read<Term> {
        if !(self.cursor.mark("=") && self.cursor.mark_at(1, "(")) {
            return Ok(opaque(&left.iter().collect::<Vec<_>>()));
        }
        let mut ahead = Expression { cursor: self.cursor, ..*self };
        ahead.cursor.at += 1;
        if ahead.is_query() {
            return Ok(UNKNOWN);
        }
        ahead.cursor.at += 1;
        let mut right = vec![ahead.deeper(Self::or)?];
        while ahead.cursor.eat_mark(",") {
            right.push(ahead.deeper(Self::or)?);
        }
        ahead.cursor.expect_mark(")")?;
        if left.len() != right.len() {
            return Ok(UNKNOWN);
        }
        self.cursor = ahead.cursor;
        Ok(Term::And(left.into_iter().zip(right).map(|(left, right)| self.compared("=", left, right)).collect()))
    }

    fn is_query(&self) -> bool {
        let mut ahead = self.cursor;
        while ahead.eat_mark("(") {}
        self.cursor.mark("(") && ahead.any(&["select", "with", "values", "table"])
    }

    fn worded(&mut self) -> Read<Term> {
        let word = self.cursor.written(0).to_ascii_lowercase();
        if self.cursor.string_at(1) {
            // `_utf8mb4 'x'`, `N'x'`, `DATE '…'`
            let is_prefix = word.starts_with('_') || matches!(word.as_str(), "n" | "date" | "time" | "timestamp");
            if !is_prefix {
                return Err(self.cursor.lost());
            }
            self.cursor.at += 1;
            self.text()?;
            return Ok(Term::Constant(format!("{word}:{}", self.cursor.at)));
        }
        match word.as_str() {
            "null" => self.constant(Term::Null),
            "true" => self.constant(Term::Bool(true)),
            "false" => self.constant(Term::Bool(false)),
            "case" => self.case(),
            "exists" if self.cursor.mark_at(1, "(") => {
                self.cursor.at += 1;
                let inside = self.cursor.parenthesized()?;
                Ok(self.exists(&inside))
            }
            "row" if self.cursor.mark_at(1, "(") => {
                self.cursor.at += 1;
                self.parenthesis()
            }
            "match" => {
                self.cursor.run(|here| here.keyword(&["against"]))?;
                self.cursor.expect("against")?;
                self.cursor.parenthesized()?;
                Ok(UNKNOWN)
            }
            "interval" if !self.cursor.mark_at(1, "(") => {
                self.cursor.at += 1;
                self.deeper(Self::bits)?;
                self.cursor.identifier()?;
                self.cursor.expect_mark("+")?;
                self.simple().map(|inner| opaque(&[&inner]))
            }
            "current_date" | "current_time" | "current_timestamp" | "current_user" | "localtime" | "localtimestamp"
            | "utc_date" | "utc_time" | "utc_timestamp"
                if !self.cursor.mark_at(1, "(") =>
            {
                self.constant(Term::Strict(word, Vec::new()))
            }
            _ => self.named(),
        }
    }

    fn constant(&mut self, term: Term) -> Read<Term> {
        self.cursor.at += 1;
        Ok(term)
    }

    /// A column or a call.
    fn named(&mut self) -> Read<Term> {
        let bare = self.cursor.ahead(0).is_some_and(|token| token.kind == Kind::Word);
        let name = self.cursor.object()?;
        if self.cursor.mark("(") {
            return match name.parts.as_slice() {
                [function] if bare => self.call(&function.to_ascii_lowercase()),
                _ => {
                    self.cursor.parenthesized()?;
                    Ok(UNKNOWN)
                }
            };
        }
        if let ([word], true) = (name.parts.as_slice(), bare)
            && names::is_reserved(word)
        {
            return Err(self.cursor.lost());
        }
        Ok(self.column(&name.parts))
    }

    fn column(&self, parts: &[String]) -> Term {
        let scope = self.scope;
        let same = |a: &str, b: &str| names::folded(a) == names::folded(b);
        let own = scope.alias.as_deref().or(scope.target.last().map(String::as_str)).unwrap_or_default();
        let column = |name: &String| Term::Column(names::folded(name));
        match parts {
            // With other tables around, a bare name could be any of theirs.
            [_] if !scope.others.is_empty() => UNKNOWN,
            [name] => column(name),
            [qualifier, name] => {
                // Names that differ in their case only may mean different tables.
                let exact: Vec<&Other> = scope.others.iter().filter(|other| same(&other.called, qualifier)).collect();
                match (same(qualifier, own), exact.as_slice()) {
                    (true, []) => column(name),
                    (false, [other]) if !other.outer => {
                        Term::Foreign { of: other.called.clone(), name: names::folded(name) }
                    }
                    _ => UNKNOWN,
                }
            }
            [database, table, name] => match scope.target.as_slice() {
                [own_database, own_table]
                    if scope.alias.is_none() && own_database == database && own_table == table =>
                {
                    column(name)
                }
                _ => UNKNOWN,
            },
            _ => UNKNOWN,
        }
    }

    /// A function of the server's own, unless a user's hides it: those are called by their database's name, or their name is not taken.
    fn call(&mut self, function: &str) -> Read<Term> {
        let start = self.cursor.at;
        let inside = self.cursor.parenthesized()?;
        let after = self.cursor.at;
        if self.cursor.word("over") {
            return Err(self.cursor.lost());
        }
        let known = STEADY.contains(&function) || PURE.contains(&function) || CHOOSING.contains(&function);
        if !known {
            return Ok(self.unknown_call(inside));
        }
        self.cursor.at = start + 1;
        let mut arguments = Vec::new();
        while self.cursor.at < inside.end {
            arguments.push(self.deeper(Self::or)?);
            if self.cursor.at < inside.end {
                self.cursor.expect_mark(",")?;
            }
        }
        self.cursor.at = after;
        Ok(match (function, arguments.as_slice()) {
            ("coalesce" | "ifnull", [_, ..]) => Term::Coalesce(arguments),
            ("isnull", [inner]) => Term::IsNull(Box::new(inner.clone())),
            ("if", [condition, then, otherwise]) if !is_case(then) && !is_case(otherwise) => {
                Term::Case(vec![(truth_value(condition.clone()), then.clone())], Box::new(otherwise.clone()))
            }
            (name, []) if STEADY.contains(&name) => Term::Strict(name.to_owned(), Vec::new()),
            (name, [_, ..]) if PURE.contains(&name) => Term::Strict(name.to_owned(), arguments),
            _ => opaque(&arguments.iter().collect::<Vec<_>>()),
        })
    }

    /// Whatever it gives, it looks at the target if a name stands in it, and may differ from row to row if nothing does.
    fn unknown_call(&self, inside: Range<usize>) -> Term {
        let named = |token: &crate::sql::lexer::Token| matches!(token.kind, Kind::Word | Kind::QuotedName);
        let mentions_target =
            inside.is_empty() || self.cursor.tokens.get(inside).is_none_or(|all| all.iter().any(named));
        Term::Opaque { mentions_target }
    }

    /// Arms beyond a few, and a CASE in the result of another, are not reasoned over.
    fn case(&mut self) -> Read<Term> {
        const MOST_ARMS: usize = 16;
        self.cursor.expect("case")?;
        let subject = if self.cursor.word("when") { None } else { Some(self.deeper(Self::or)?) };
        let mut arms = Vec::new();
        while self.cursor.eat("when") {
            let wanted = self.deeper(Self::or)?;
            self.cursor.expect("then")?;
            let result = self.deeper(Self::or)?;
            let test = match &subject {
                None => truth_value(wanted),
                Some(subject) => self.compared("=", subject.clone(), wanted),
            };
            arms.push((test, result));
        }
        let last = if self.cursor.eat("else") { self.deeper(Self::or)? } else { Term::Null };
        self.cursor.expect("end")?;
        let simple = arms.len() <= MOST_ARMS && !is_case(&last) && !arms.iter().any(|(_, result)| is_case(result));
        Ok(if simple { Term::Case(arms, Box::new(last)) } else { UNKNOWN })
    }

    /// EXISTS: always, of a query without tables, or of one that gives one row whatever there is.
    fn exists(&self, inside: &Range<usize>) -> Term {
        let mut query = self.cursor.within(inside.clone());
        if !query.eat("select") {
            return UNKNOWN;
        }
        let start = query.at;
        let cut = ["from", "where", "group", "having", "limit", "union", "except", "intersect", "into", "window"];
        let Ok(list) = query.run(|here| here.keyword(&cut)) else { return UNKNOWN };
        if query.done() && list.start == start {
            return Term::Inhabited;
        }
        if query.eat("from") && self.is_aggregate(&list) {
            let plain = query.run(|here| here.keyword(&["group", "having", "limit", "union", "except", "intersect"]));
            if plain.is_ok() && query.done() {
                return Term::Inhabited;
            }
        }
        let mut whole = self.cursor.within(query.at..inside.end);
        match whole.object() {
            Ok(name) if whole.done() && self.is_target(&name.parts) => Term::Inhabited,
            _ => UNKNOWN,
        }
    }

    fn is_aggregate(&self, list: &Range<usize>) -> bool {
        let mut list = self.cursor.within(list.clone());
        let starts = list.eat_any(&["count", "sum", "min", "max", "avg"]);
        starts && list.parenthesized().is_ok() && list.done()
    }

    fn is_target(&self, parts: &[String]) -> bool {
        let hidden = matches!(parts, [name] if self.scope.hidden.contains(name));
        parts == self.scope.target && !hidden
    }

    /// `id IN (SELECT id FROM the same table)`, also by way of a derived table.
    fn among(&self, left: &Term, inside: &Range<usize>) -> Option<Term> {
        let Term::Column(column) = left else { return None };
        let mut query = self.cursor.within(inside.clone());
        query.expect("select").ok()?;
        let selected = query.object().ok()?;
        query.expect("from").ok()?;
        if query.mark("(") {
            let derived = query.parenthesized().ok()?;
            query.eat("as");
            query.identifier().ok()?;
            let mut deeper = self.cursor.within(derived);
            deeper.expect("select").ok()?;
            let same = deeper.mark("*") || deeper.word(column);
            deeper.at += 1;
            deeper.expect("from").ok()?;
            let name = deeper.object().ok()?;
            return (same
                && deeper.done()
                && query.done()
                && self.is_target(&name.parts)
                && self.selects(&selected.parts, column))
            .then(|| Term::AmongItself(Box::new(left.clone())));
        }
        let name = query.object().ok()?;
        let found = query.done() && self.is_target(&name.parts) && self.selects(&selected.parts, column);
        found.then(|| Term::AmongItself(Box::new(left.clone())))
    }

    fn selects(&self, selected: &[String], column: &str) -> bool {
        selected.last().is_some_and(|name| names::folded(name) == column)
    }

    /// `(SELECT expression)` without a FROM is its expression.
    fn scalar(&self, inside: &Range<usize>) -> Option<Term> {
        let mut query = self.cursor.within(inside.clone());
        query.expect("select").ok()?;
        value(&query, &(query.at..inside.end), self.scope)
    }
}

impl Cursor<'_> {
    /// `@a`, `@'a b'`, `@@global.a.b`
    pub fn variable(&mut self) -> Read<String> {
        if self.ahead(0).is_none_or(|token| token.kind != Kind::Variable) {
            return Err(self.lost());
        }
        let mut found = self.written(0).to_owned();
        self.at += 1;
        while found.starts_with("@@") && self.mark(".") && self.name_at(1) {
            found.push('.');
            found.push_str(self.written(1));
            self.at += 2;
        }
        Ok(found)
    }
}

const COMPARISONS: &[&str] = &["=", "<=>", "<>", "!=", "<=", ">=", "<", ">"];

/// The same throughout a statement, whatever the row.
const STEADY: &[&str] = &[
    "now",
    "curdate",
    "curtime",
    "current_date",
    "current_time",
    "current_timestamp",
    "current_user",
    "localtime",
    "localtimestamp",
    "utc_date",
    "utc_time",
    "utc_timestamp",
    "version",
    "database",
    "schema",
    "user",
    "connection_id",
    "unix_timestamp",
];

/// NULL where an argument is, else not, and the same for the same.
const PURE: &[&str] = &[
    "length",
    "char_length",
    "character_length",
    "octet_length",
    "bit_length",
    "abs",
    "lower",
    "upper",
    "lcase",
    "ucase",
    "trim",
    "ltrim",
    "rtrim",
    "md5",
    "sha1",
    "reverse",
    "round",
    "floor",
    "ceil",
    "ceiling",
    "sign",
    "concat",
];

/// Functions that hand on one of their arguments, or test it.
const CHOOSING: &[&str] = &["coalesce", "ifnull", "isnull", "if"];

fn is_case(term: &Term) -> bool {
    matches!(term, Term::Case(..))
}

fn number(written: &str) -> Term {
    if written.starts_with("0x") || written.starts_with("0X") || written.starts_with("0b") {
        return Term::Constant(format!("x:{written}"));
    }
    written.parse().map_or_else(|_| Term::Constant(format!("n:{written}")), Term::Integer)
}

/// Truth values are the numbers 1 and 0; compared with a condition, those are truth values.
fn alike(left: Term, right: Term) -> (Term, Term) {
    let fitted = |one: Term, other: &Term| match one {
        Term::Bool(truth) if !is_condition(other) => Term::Integer(i64::from(truth)),
        Term::Integer(number @ (0 | 1)) if is_condition(other) => Term::Bool(number == 1),
        one => one,
    };
    let (fitted_left, fitted_right) = (fitted(left.clone(), &right), fitted(right, &left));
    (fitted_left, fitted_right)
}

fn matched(left: Term, pattern: &Term, is_any: impl Fn(&str) -> bool) -> Term {
    match pattern {
        Term::Constant(text) if text.strip_prefix("s:").is_some_and(is_any) => Term::MatchesAny(Box::new(left)),
        pattern => opaque(&[&left, pattern]),
    }
}

fn one_or(mut terms: Vec<Term>, many: fn(Vec<Term>) -> Term) -> Term {
    match terms.len() {
        1 => terms.remove(0),
        _ => many(terms.into_iter().map(truth_value).collect()),
    }
}
