//! Where the parts of one change stand in its text, found from tokens and held against the parse tree.
//!
//! Invariant: a span is only given when the tree says that such a part exists, and begins and ends with a token. What does not fit
//! gives no clauses at all: a question about rows is then not asked, rather than asked wrongly.

use crate::sql::facts::{Assignment, Clauses};
use crate::sql::lexer::{Kind, Token};
use pg_query::NodeEnum;
use pg_query::protobuf::Node;
use std::ops::Range;

/// A statement's text with its tokens, comments left out.
pub struct Source<'t> {
    pub text: &'t str,
    pub tokens: &'t [Token],
}

/// What the tree says of the change whose parts are wanted.
pub struct Wanted {
    /// Where the target's name begins, in bytes of the statement.
    pub relation: usize,
    pub verb: &'static str,
    pub joined: bool,
    pub conditional: bool,
}

/// The parts of an UPDATE or DELETE, by token numbers.
pub struct Parts {
    /// The verb itself.
    pub verb: usize,
    pub clauses: Clauses,
    /// UPDATE: what stands between SET and the next clause.
    pub set: Option<Range<usize>>,
}

impl Source<'_> {
    fn word(&self, index: usize, word: &str) -> bool {
        self.tokens.get(index).is_some_and(|token| token.is_word(self.text, word))
    }

    fn is(&self, index: usize, punctuation: u8) -> bool {
        self.tokens.get(index).is_some_and(|token| token.is(punctuation))
    }

    /// The token that begins at a byte.
    pub fn at(&self, byte: usize) -> Option<usize> {
        self.tokens.binary_search_by_key(&byte, |token| token.start).ok()
    }

    /// From the first to the last of some tokens, in bytes.
    pub fn bytes(&self, tokens: Range<usize>) -> Option<Range<usize>> {
        let first = self.tokens.get(tokens.start)?;
        let last = self.tokens.get(tokens.end.checked_sub(1)?)?;
        (tokens.start < tokens.end).then_some(first.start..last.end)
    }

    fn slice(&self, tokens: Range<usize>) -> Option<String> {
        self.text.get(self.bytes(tokens)?).map(String::from)
    }

    /// The next token from `from` at this depth of parentheses that is one of these words as a keyword; else where the change ends.
    fn next_clause(&self, from: usize, words: &[&str]) -> usize {
        let mut depth = 0usize;
        let mut index = from;
        while let Some(token) = self.tokens.get(index) {
            match token.kind {
                Kind::Punctuation(b'(' | b'[') => depth += 1,
                Kind::Punctuation(b')' | b']') if depth == 0 => return index,
                Kind::Punctuation(b')' | b']') => depth -= 1,
                Kind::Word
                    if depth == 0 && self.is_keyword(index) && words.iter().any(|word| self.word(index, word)) =>
                {
                    return index;
                }
                _ => {}
            }
            index += 1;
        }
        index
    }

    /// Neither a part of a dotted name, nor a name after AS, nor the FROM of IS DISTINCT FROM.
    fn is_keyword(&self, index: usize) -> bool {
        let Some(before) = index.checked_sub(1) else {
            return true;
        };
        if self.is(before, b'.') || self.word(before, "as") {
            return false;
        }
        let distinct_is_keyword = before.checked_sub(1).is_none_or(|further| !self.is(further, b'.'));
        !(self.word(index, "from") && self.word(before, "distinct") && distinct_is_keyword)
    }

    /// The parts of the UPDATE or DELETE whose target stands at a known place.
    pub fn parts(&self, wanted: &Wanted) -> Option<Parts> {
        let relation = self.at(wanted.relation)?;
        let target_start = self.target_start(relation);
        let verb = match wanted.verb {
            "delete" => target_start.checked_sub(2).filter(|_| self.word(target_start.saturating_sub(1), "from"))?,
            _ => target_start.checked_sub(1)?,
        };
        if !self.word(verb, wanted.verb) {
            return None;
        }
        let (target_ends, list) = if wanted.verb == "delete" { ("using", "using") } else { ("set", "from") };
        // The search begins after the name, and after `AS alias`, so that neither is taken for a clause.
        let name_end = self.name_end(relation);
        let target_end = self.next_clause(name_end, &[target_ends, "where", "returning"]);
        let set_end = match wanted.verb {
            "update" => self.next_clause(target_end + 1, &["from", "where", "returning"]),
            _ => target_end,
        };
        let from =
            self.word(set_end, list).then(|| set_end + 1..self.next_clause(set_end + 1, &["where", "returning"]));
        let after_from = from.as_ref().map_or(set_end, |range| range.end);
        let condition =
            self.word(after_from, "where").then(|| after_from + 1..self.next_clause(after_from + 1, &["returning"]));
        if from.is_some() != wanted.joined || condition.is_some() != wanted.conditional {
            return None;
        }
        let set = (wanted.verb == "update").then_some(target_end + 1..set_end);
        let clauses = Clauses {
            target: self.bytes(target_start..target_end)?,
            set: match &set {
                Some(range) => Some(self.bytes(range.clone())?),
                None => None,
            },
            from: match from {
                Some(range) => Some(self.bytes(range)?),
                None => None,
            },
            condition: match condition {
                Some(range) => Some(self.bytes(range)?),
                None => None,
            },
            ..Clauses::default()
        };
        Some(Parts { verb, clauses, set })
    }

    /// Back over `ONLY` and `ONLY (`.
    fn target_start(&self, relation: usize) -> usize {
        let mut start = relation;
        if start > 0 && self.is(start - 1, b'(') {
            start -= 1;
        }
        match start > 0 && self.word(start - 1, "only") {
            true => start - 1,
            false => relation,
        }
    }

    /// After a dotted name, its closing parenthesis and star.
    fn name_end(&self, relation: usize) -> usize {
        let mut end = relation + 1;
        while self.is(end, b'.') {
            end += 2;
        }
        if self.is(end, b'*') || self.is(end, b')') {
            end += 1;
        }
        if self.word(end, "as") { end + 2 } else { end }
    }

    /// The SET list's assignments, held against the tree's.
    pub fn assignments(&self, set: Option<Range<usize>>, targets: &[Node]) -> Vec<Assignment> {
        let values = set.and_then(|set| self.values(set, targets));
        let targets = targets.iter().filter_map(|node| match node.node.as_ref() {
            Some(NodeEnum::ResTarget(target)) => Some(target),
            _ => None,
        });
        let mut values = values.unwrap_or_default().into_iter();
        targets
            .map(|target| {
                let value = values.next().flatten();
                // `a[1] = …` and `a.b = …` set a part of the column: the expression is not its new value.
                Assignment { column: target.name.clone(), value: value.filter(|_| target.indirection.is_empty()) }
            })
            .collect()
    }

    /// One entry a target column: the expression's text, or `None` for each column of `(a, b) = …`.
    fn values(&self, set: Range<usize>, targets: &[Node]) -> Option<Vec<Option<String>>> {
        let mut values = Vec::new();
        for piece in self.split(set, b',') {
            let equals = self.split(piece.clone(), b'=').first()?.end;
            if self.is(piece.start, b'(') {
                let width = self.split(piece.start + 1..equals.checked_sub(1)?, b',').len();
                values.extend(std::iter::repeat_n(None, width));
            } else {
                values.push(Some(self.slice(equals + 1..piece.end)?));
            }
        }
        (values.len() == targets.len()).then_some(values)
    }

    /// Tokens between separators at this depth of parentheses.
    pub fn split(&self, tokens: Range<usize>, separator: u8) -> Vec<Range<usize>> {
        let (mut pieces, mut depth, mut start) = (Vec::new(), 0usize, tokens.start);
        for index in tokens.clone() {
            match self.tokens.get(index).map(|token| token.kind) {
                Some(Kind::Punctuation(b'(' | b'[')) => depth += 1,
                Some(Kind::Punctuation(b')' | b']')) => depth = depth.saturating_sub(1),
                Some(Kind::Punctuation(found)) if found == separator && depth == 0 => {
                    pieces.push(start..index);
                    start = index + 1;
                }
                _ => {}
            }
        }
        pieces.push(start..tokens.end);
        pieces
    }

    /// The query of INSERT INTO t (…) OVERRIDING … VALUE query ON CONFLICT, whose target and ON stand at known places.
    pub fn inserted_query(&self, relation: usize, has_columns: bool, conflict: usize) -> Option<Range<usize>> {
        let mut start = self.name_end(self.at(relation)?);
        if has_columns {
            start = self.is(start, b'(').then(|| self.next_clause(start + 1, &[]))? + 1;
        }
        if self.word(start, "overriding") {
            start += 3;
        }
        self.word(conflict, "on").then_some(())?;
        self.bytes(start..conflict)
    }

    /// The SET list of ON CONFLICT … DO UPDATE, from somewhere before it.
    pub fn conflict_set(&self, from: usize) -> Option<Range<usize>> {
        let update = (from..self.tokens.len())
            .find(|index| self.word(*index, "update") && *index > 0 && self.word(*index - 1, "do"))?;
        let start = update + 2;
        Some(start..self.next_clause(start, &["where", "returning"]))
    }

    /// The arguments of `name (a, b)`, as written, from the token after the name.
    pub fn arguments(&self, open: usize) -> Vec<String> {
        if !self.is(open, b'(') {
            return Vec::new();
        }
        let close = self.next_clause(open + 1, &[]);
        self.split(open + 1..close, b',').into_iter().filter_map(|piece| self.slice(piece)).collect()
    }
}
