//! Statements with their facts, built by hand from their parts.

use sluice::sql::facts::*;

/// A statement with its facts.
pub struct Said {
    pub text: String,
    pub facts: Facts,
}

pub fn name(written: &str) -> Name {
    let parts = written.split('.').map(|part| match part.strip_prefix('"') {
        Some(quoted) => quoted.trim_end_matches('"').to_owned(),
        None => part.to_lowercase(),
    });
    Name { written: written.to_owned(), parts: parts.collect() }
}

/// `with` DELETE FROM / UPDATE `target` [AS called] SET … USING/FROM `from` WHERE `condition`.
pub struct Build<'a> {
    pub verb: Verb,
    pub with: &'a str,
    pub only: bool,
    pub target: &'a str,
    pub called: &'a str,
    pub set: &'a [(&'a str, &'a str)],
    pub from: &'a str,
    pub condition: &'a str,
    pub pinned: &'a [&'a str],
    pub functions: &'a [&'a str],
    pub parameters: u16,
}

impl Default for Build<'_> {
    fn default() -> Self {
        Build {
            verb: Verb::Delete,
            with: "",
            only: false,
            target: "t",
            called: "",
            set: &[],
            from: "",
            condition: "",
            pinned: &[],
            functions: &[],
            parameters: 0,
        }
    }
}

impl Build<'_> {
    pub fn said(self) -> Said {
        let mut text = String::new();
        let mut put = |before: &str, part: &str| {
            text.push_str(before);
            let start = text.len();
            text.push_str(part);
            start..text.len()
        };
        let deletes = self.verb == Verb::Delete;
        let with = (!self.with.is_empty()).then(|| put("", self.with));
        let only = if self.only { "ONLY " } else { "" };
        let alias = if self.called.is_empty() { String::new() } else { format!(" AS {}", self.called) };
        let target = put(if deletes { " DELETE FROM " } else { " UPDATE " }, &format!("{only}{}{alias}", self.target));
        for (at, (column, value)) in self.set.iter().enumerate() {
            put(if at == 0 { " SET " } else { ", " }, &format!("{column} = {value}"));
        }
        let from = (!self.from.is_empty()).then(|| put(if deletes { " USING " } else { " FROM " }, self.from));
        let condition = (!self.condition.is_empty()).then(|| put(" WHERE ", self.condition));
        let restriction = match condition {
            None => Restriction::Nothing { why: "there is no WHERE".to_owned() },
            Some(_) => Restriction::Restricts { pinned: owned(self.pinned) },
        };
        let last = self.target.rsplit('.').next().unwrap_or_default();
        let assignments = self
            .set
            .iter()
            .map(|(column, value)| Assignment { column: column.to_string(), value: Some(value.to_string()) });
        let change = Change {
            verb: self.verb,
            target: name(self.target),
            called: if self.called.is_empty() { last.to_owned() } else { self.called.to_owned() },
            only: self.only,
            restriction,
            pinned_if: Vec::new(),
            limit: None,
            assignments: assignments.collect(),
            source: Source::None,
            on_conflict: OnConflict::Fails,
            nesting: Nesting::Outer,
            clauses: Some(Clauses { with, target, from, condition, ..Clauses::default() }),
        };
        let functions = owned(self.functions);
        Said {
            text,
            facts: Facts { changes: vec![change], functions, parameters: self.parameters, ..Facts::default() },
        }
    }
}

fn owned(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|part| part.to_string()).collect()
}

pub fn delete(target: &str, condition: &str) -> Said {
    Build { target, condition, ..Build::default() }.said()
}

pub fn removal(what: Removed, target: &str, cascade: bool) -> Said {
    let removal = Removal { what, name: name(target), cascade, if_exists: false, nesting: Nesting::Outer };
    Said { text: String::new(), facts: Facts { removals: vec![removal], ..Facts::default() } }
}
