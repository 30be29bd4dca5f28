//! Takes a TOML document apart, key by key, and remembers everything that was wrong instead of stopping at the first.
//!
//! Invariant: a key that nobody asked for is a problem, so nothing a person wrote is silently without effect.

use crate::config::errors::Problem;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What came to light while a document was read.
pub struct Reader<'t> {
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
    left_out: RefCell<BTreeSet<String>>,
    written: RefCell<BTreeSet<String>>,
}

/// A table of the document and the keys that were asked of it.
pub struct Section<'r, 't> {
    reader: &'r Reader<'t>,
    path: String,
    span: Range<usize>,
    table: Option<&'r DeTable<'t>>,
    known: BTreeSet<&'static str>,
}

/// A text with the place where it stands.
#[derive(Clone)]
pub struct Word<'r> {
    pub text: &'r str,
    pub span: Range<usize>,
}

impl<'t> Reader<'t> {
    pub fn new(text: &'t str) -> Reader<'t> {
        Reader { text, problems: RefCell::default(), left_out: RefCell::default(), written: RefCell::default() }
    }

    pub fn problem(&self, span: Range<usize>, message: impl Into<String>, help: Option<String>) {
        let problem = Problem { message: message.into(), span: Some(span), help };
        self.problems.borrow_mut().push(problem);
    }

    /// Counted from 1, as editors do.
    pub fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
    }

    pub fn root<'r>(&'r self, table: &'r DeTable<'t>) -> Section<'r, 't> {
        self.section(String::new(), 0..0, Some(table))
    }

    /// Problems, and keys that no table of their kind has.
    pub fn into_parts(self) -> (Vec<Problem>, Vec<String>) {
        let (left_out, written) = (self.left_out.into_inner(), self.written.into_inner());
        (self.problems.into_inner(), left_out.difference(&written).cloned().collect())
    }

    fn section<'r>(&'r self, path: String, span: Range<usize>, table: Option<&'r DeTable<'t>>) -> Section<'r, 't> {
        Section { reader: self, path, span, table, known: BTreeSet::new() }
    }

    fn wrong_type(&self, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let found = value.get_ref().type_str();
        self.problem(value.span(), format!("expected {wanted}, found {found}"), None);
    }
}

impl<'r, 't> Section<'r, 't> {
    pub fn reader(&self) -> &'r Reader<'t> {
        self.reader
    }

    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    pub fn word(&mut self, key: &'static str) -> Option<Word<'r>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Word { text, span: value.span() }),
            _ => {
                self.reader.wrong_type(value, "a string");
                None
            }
        }
    }

    /// Two keys of which one at the most is written. The other is then not left out.
    pub fn either(&mut self, one: &'static str, other: &'static str) -> (Option<Word<'r>>, Option<Word<'r>>) {
        self.known.extend([one, other]);
        match (self.has(one), self.has(other)) {
            (true, false) => (self.word(one), None),
            (false, true) => (None, self.word(other)),
            _ => (self.word(one), self.word(other)),
        }
    }

    /// A string that something is made of, or says why not.
    pub fn parsed<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let word = self.word(key)?;
        self.understood(&word, parse)
    }

    /// As [`Section::parsed`], and its absence is a problem.
    pub fn required<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        if !self.has(key) {
            self.known.insert(key);
            self.reader.problem(self.span(), format!("`{key}` is missing"), None);
        }
        self.parsed(key, parse)
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let word = self.word(key)?;
        self.chosen(&word, choices)
    }

    pub fn chosen<T: Copy>(&self, word: &Word<'_>, choices: &[(&str, T)]) -> Option<T> {
        let found = choices.iter().find(|(name, _)| *name == word.text);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            let help = did_you_mean(word.text, &names).unwrap_or_else(|| format!("one of: {}", names.join(", ")));
            self.reader.problem(word.span.clone(), format!("`{}` is not known here", word.text), Some(help));
        }
        found.map(|(_, choice)| *choice)
    }

    /// A whole number within bounds.
    pub fn number(&mut self, key: &'static str, bounds: Range<u64>) -> Option<u64> {
        let value = self.value(key)?;
        let DeValue::Integer(integer) = value.get_ref() else {
            self.reader.wrong_type(value, "a whole number");
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.filter(|number| bounds.contains(number));
        if number.is_none() {
            let (least, most) = (bounds.start, bounds.end.saturating_sub(1));
            self.reader.problem(value.span(), format!("expected a number from {least} to {most}"), None);
        }
        number
    }

    /// As [`Section::number`], or a word that stands for none.
    pub fn number_or(&mut self, key: &'static str, none: &str, bounds: Range<u64>) -> Option<u64> {
        match self.value(key)?.get_ref() {
            DeValue::String(text) if text.as_ref() == none => None,
            _ => self.number(key, bounds),
        }
    }

    /// A number of per cent, whole or not.
    pub fn per_cent(&mut self, key: &'static str) -> Option<f64> {
        let value = self.value(key)?;
        let number: Option<f64> = match value.get_ref() {
            DeValue::Integer(integer) => integer.as_str().parse().ok(),
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| (0.0..=100.0).contains(number));
        if number.is_none() {
            self.reader.problem(value.span(), "expected a number of per cent from 0 to 100", None);
        }
        number
    }

    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.reader.wrong_type(value, "true or false");
        }
        found
    }

    /// "2s", "10min", within bounds.
    pub fn duration(&mut self, key: &'static str, bounds: Range<Duration>) -> Option<Duration> {
        self.parsed(key, |text| {
            let duration = parse_duration(text)?;
            match bounds.contains(&duration) {
                true => Ok(duration),
                false => Err(format!("expected a duration from {:?} to below {:?}", bounds.start, bounds.end)),
            }
        })
    }

    /// A string or a list of strings, each understood; empty when the key is not there.
    /// It is there, and this word.
    pub fn word_is(&mut self, key: &'static str, word: &str) -> bool {
        self.value(key).is_some_and(|value| matches!(value.get_ref(), DeValue::String(text) if text.as_ref() == word))
    }

    /// The outer `None`: it is not there; the inner: it is this word.
    #[allow(clippy::option_option)]
    pub fn duration_or(&mut self, key: &'static str, none: &str, bounds: Range<Duration>) -> Option<Option<Duration>> {
        match self.value(key)?.get_ref() {
            DeValue::String(text) if text.as_ref() == none => Some(None),
            _ => self.duration(key, bounds).map(Some),
        }
    }

    pub fn list<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let items: Vec<&Spanned<DeValue<'t>>> = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            _ => vec![value],
        };
        if items.is_empty() {
            self.reader.problem(value.span(), "an empty list matches nobody: leave the key out to match all", None);
        }
        let words = items.into_iter().filter_map(|item| match item.get_ref() {
            DeValue::String(text) => Some(Word { text, span: item.span() }),
            _ => {
                self.reader.wrong_type(item, "a string");
                None
            }
        });
        words.filter_map(|word| self.understood(&word, &parse)).collect()
    }

    /// A table within this one; an empty one when it is not there.
    pub fn table(&mut self, key: &'static str) -> Section<'r, 't> {
        self.optional_table(key).unwrap_or_else(|| self.reader.section(self.path_of(key), self.span(), None))
    }

    pub fn optional_table(&mut self, key: &'static str) -> Option<Section<'r, 't>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(self.reader.section(self.path_of(key), value.span(), Some(table))),
            _ => {
                self.reader.wrong_type(value, "a table");
                None
            }
        }
    }

    /// `[[key]]`, as often as it is written.
    pub fn tables(&mut self, key: &'static str) -> Vec<Section<'r, 't>> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            self.reader.problem(value.span(), format!("write [[{key}]], with two brackets"), None);
            return Vec::new();
        };
        let tables = items.iter().filter_map(|item| match item.get_ref() {
            DeValue::Table(table) => Some(self.reader.section(self.path_of(key), item.span(), Some(table))),
            _ => {
                self.reader.wrong_type(item, "a table");
                None
            }
        });
        tables.collect()
    }

    /// All keys, whatever they are called, with their values as words.
    pub fn free_words(self) -> Vec<(Word<'r>, Word<'r>)> {
        let entries = self.table.into_iter().flat_map(|table| table.iter());
        let words = entries.filter_map(|(key, value)| match value.get_ref() {
            DeValue::String(text) => {
                Some((Word { text: key.get_ref(), span: key.span() }, Word { text, span: value.span() }))
            }
            _ => {
                self.reader.wrong_type(value, "a string");
                None
            }
        });
        words.collect()
    }

    /// Every key must have been asked for by now.
    pub fn finish(self) {
        let known: Vec<&str> = self.known.iter().copied().collect();
        for (key, _) in self.table.into_iter().flat_map(|table| table.iter()) {
            let name: &str = key.get_ref();
            if !self.known.contains(name) {
                let help = did_you_mean(name, &known).unwrap_or_else(|| format!("known: {}", known.join(", ")));
                self.reader.problem(key.span(), format!("unknown key `{name}`"), Some(help));
            }
        }
    }

    fn understood<T>(&self, word: &Word<'_>, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        match parse(word.text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.reader.problem(word.span.clone(), why, None);
                None
            }
        }
    }

    fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.iter().any(|(name, _)| name.get_ref() == key))
    }

    fn value(&mut self, key: &'static str) -> Option<&'r Spanned<DeValue<'t>>> {
        self.known.insert(key);
        let entry = self.table.and_then(|table| table.iter().find(|(name, _)| name.get_ref() == key));
        let list = if entry.is_none() { &self.reader.left_out } else { &self.reader.written };
        list.borrow_mut().insert(self.path_of(key));
        entry.map(|(_, value)| value)
    }

    fn path_of(&self, key: &str) -> String {
        match self.path.is_empty() {
            true => key.to_owned(),
            false => format!("{}.{key}", self.path),
        }
    }
}

/// The nearest of the names, if one is near enough to be meant.
pub fn did_you_mean(word: &str, names: &[&str]) -> Option<String> {
    let distance = |name: &&&str| strsim::damerau_levenshtein(word, name);
    let nearest = names.iter().min_by_key(distance)?;
    let near = distance(&nearest) <= (nearest.len() / 3).max(1) || nearest.starts_with(word) && word.len() >= 3;
    near.then(|| format!("did you mean `{nearest}`?"))
}

/// A whole number and a unit: ms, s, min, h, d.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as \"200ms\", \"2s\", \"10min\", \"1h\" or \"30d\"");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit.trim_start() {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let pairs =
            [("0s", 0), ("200ms", 200), ("2s", 2_000), ("10 min", 600_000), ("1h", 3_600_000), ("1d", 86_400_000)];
        for (text, milliseconds) in pairs {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "2", "s", "-1s", "1.5s", "2 weeks", "99999999999999999999s", "18446744073709551615d", "2S"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_nearest_name_is_offered_only_when_near() {
        let names = ["listen", "upstream", "upstream_tls"];
        assert_eq!(did_you_mean("lisen", &names).as_deref(), Some("did you mean `listen`?"));
        assert_eq!(did_you_mean("upstraem", &names).as_deref(), Some("did you mean `upstream`?"));
        assert_eq!(did_you_mean("colour", &names), None);
        assert_eq!(did_you_mean("x", &[]), None);
    }
}
