//! What was read stays read: an application sends the same statements over and over, and reading one costs as much as carrying ten
//! queries to and fro.
//!
//! Invariant: a reading is kept under all that it depends on, the exact text and the lexical mode; whether it may be believed
//! (settled, unambiguous) is asked anew each time, by the caller. What is kept is bounded by the bytes of the texts, one memory a
//! thread; a text that is used stays, one that is not is gone when as much again was kept since.

use crate::ground::limits;
use crate::sql::statement::LexicalMode;
use crate::sql::{self, Reading};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

thread_local! {
    static READINGS: RefCell<Kept<Arc<Reading>>> = RefCell::default();
    static FINGERPRINTS: RefCell<Kept<Arc<str>>> = RefCell::default();
}

/// As [`sql::read`], out of memory if it was read before.
pub(in crate::session) fn read(text: &str, mode: LexicalMode) -> Arc<Reading> {
    let read = || Arc::new(sql::read(text, mode));
    kept(&READINGS, text, mode, read)
}

/// What the record shows of a text's shape, and the text without its literals.
pub(in crate::session) fn noted(text: &str, mode: LexicalMode) -> (String, String) {
    let redacted = sql::redact(text, mode);
    // In these a literal is only ever a value, so texts that differ in nothing else have one shape.
    let first = redacted.split(' ').next().unwrap_or_default();
    let only_values = ["insert", "update", "delete", "merge"].iter().any(|verb| first.eq_ignore_ascii_case(verb));
    let key = if only_values { redacted.as_str() } else { text };
    let fingerprint = kept(&FINGERPRINTS, key, mode, || sql::fingerprint(text, mode).into());
    (redacted, fingerprint.to_string())
}

fn kept<T: Clone>(
    memory: &'static std::thread::LocalKey<RefCell<Kept<T>>>,
    text: &str,
    mode: LexicalMode,
    make: impl FnOnce() -> T,
) -> T {
    if text.len() > limits::READING_KEPT_BYTES_MAX {
        return make();
    }
    if let Some(found) = memory.with_borrow_mut(|memory| memory.get(text, mode)) {
        return found;
    }
    let made = make();
    memory.with_borrow_mut(|memory| memory.put(text, mode, made.clone()));
    made
}

/// Two generations: when the younger is full, the older goes.
struct Kept<T> {
    young: ByMode<T>,
    old: ByMode<T>,
    young_bytes: usize,
}

/// By the text, for each of the few modes that are met.
type ByMode<T> = Vec<(LexicalMode, HashMap<Box<str>, T>)>;

fn of<T>(by_mode: &mut ByMode<T>, mode: LexicalMode) -> &mut HashMap<Box<str>, T> {
    let at = by_mode.iter().position(|(kept, _)| *kept == mode).unwrap_or_else(|| {
        by_mode.push((mode, HashMap::new()));
        by_mode.len() - 1
    });
    &mut by_mode[at].1
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept { young: Default::default(), old: Default::default(), young_bytes: 0 }
    }
}

impl<T: Clone> Kept<T> {
    fn get(&mut self, text: &str, mode: LexicalMode) -> Option<T> {
        if let Some(found) = of(&mut self.young, mode).get(text) {
            return Some(found.clone());
        }
        let (text, found) = of(&mut self.old, mode).remove_entry(text)?;
        self.keep(text, mode, found.clone());
        Some(found)
    }

    fn put(&mut self, text: &str, mode: LexicalMode, value: T) {
        self.keep(text.into(), mode, value);
    }

    fn keep(&mut self, text: Box<str>, mode: LexicalMode, value: T) {
        if self.young_bytes + text.len() > limits::READINGS_BYTES_MAX {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += text.len();
        of(&mut self.young, mode).insert(text, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: LexicalMode = LexicalMode::Postgres { standard_conforming_strings: true };
    const OFF: LexicalMode = LexicalMode::Postgres { standard_conforming_strings: false };

    #[test]
    fn a_reading_is_kept_for_its_text_and_its_mode() {
        let text = "SELECT 'a\\'; DELETE FROM t; --'";
        let first = read(text, ON);
        assert!(Arc::ptr_eq(&first, &read(text, ON)), "it is not read again");
        assert_eq!(first.statements.len(), 2);
        assert_eq!(read(text, OFF).statements.len(), 1, "the other mode is another text");
        assert_eq!(*read(text, ON), sql::read(text, ON));
    }

    #[test]
    fn the_memory_is_bounded_and_what_is_used_stays() {
        let mut kept = Kept::default();
        let text = |number: usize| format!("{number:01000}");
        for number in 0..10 * limits::READINGS_BYTES_MAX / 1000 {
            kept.put(&text(number), ON, number);
            assert_eq!(kept.get(&text(0), ON), Some(0), "used all the while, after {number}");
        }
        assert_eq!(kept.get(&text(1), ON), None);
        let bytes: usize =
            kept.young.iter().chain(&kept.old).flat_map(|(_, map)| map.keys()).map(|text| text.len()).sum();
        assert!(bytes <= 2 * limits::READINGS_BYTES_MAX, "{bytes}");
    }

    #[test]
    fn texts_of_one_shape_are_noted_alike_and_others_are_not() {
        let of = |text: &str| noted(text, ON);
        let first = of("UPDATE t SET a = 1 WHERE b = 'x'");
        assert_eq!(
            first,
            (String::from("UPDATE t SET a = ? WHERE b = ?"), sql::fingerprint("UPDATE t SET a = 2 WHERE b = 3", ON))
        );
        assert_eq!(of("UPDATE t SET a = 7 WHERE b = 'y'"), first);
        assert_ne!(of("UPDATE t SET c = 7 WHERE b = 'y'").1, first.1);
        for text in ["COMMENT ON TABLE t IS 'x'", "COMMENT ON TABLE t IS 'y'", "/* a */ DROP TABLE t", "UPDATE 'open"] {
            assert_eq!(of(text).1, sql::fingerprint(text, ON), "{text}");
        }
    }
}
