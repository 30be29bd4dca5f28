//! Conditions that a change makes false of the rows it changed: `UPDATE t SET n = n + 1, done = 1 WHERE done = 0` finds none of them again.
//!
//! Invariant: in doubt a condition ends nothing, and the change counts as one that goes on.

use crate::sql::predicate::{Comparison, Term};

/// A term that every row had to meet is false of a row that was changed: nothing is left to be changed again.
///
/// `assigned` gives a column's new value, `never_null` whether that is certainly none.
pub fn ends_itself(
    restriction: &Term,
    built: &[String],
    assigned: &dyn Fn(&str) -> Option<Term>,
    never_null: &dyn Fn(&str) -> bool,
) -> bool {
    let terms = match restriction {
        Term::And(terms) => terms.as_slice(),
        other => std::slice::from_ref(other),
    };
    terms.iter().any(|term| match term {
        Term::Compare(Comparison::Equal, left, right) => match (&**left, &**right) {
            (Term::Column(column), old) | (old, Term::Column(column)) if is_constant(old) => {
                built.contains(column) || assigned(column).is_some_and(|new| differ(old, &new))
            }
            _ => false,
        },
        Term::Compare(Comparison::NotEqual, left, right) => match (&**left, &**right) {
            (Term::Column(column), old) | (old, Term::Column(column)) => {
                assigned(column).is_some_and(|new| is_constant(&new) && new == *old)
            }
            _ => false,
        },
        Term::IsNull(inner) => {
            matches!(&**inner, Term::Column(column) if never_null(column))
        }
        Term::Column(column) => assigned(column) == Some(Term::Bool(false)),
        Term::Not(inner) => match &**inner {
            Term::Column(column) => assigned(column) == Some(Term::Bool(true)),
            Term::Same(left, right) => match (&**left, &**right) {
                (Term::Column(column), old) | (old, Term::Column(column)) => {
                    assigned(column).is_some_and(|new| is_constant(&new) && new == *old)
                }
                _ => false,
            },
            _ => false,
        },
        Term::Is(inner, wanted) => {
            matches!(&**inner, Term::Column(column) if assigned(column) == Some(Term::Bool(!wanted)))
        }
        _ => false,
    })
}

fn is_constant(term: &Term) -> bool {
    matches!(term, Term::Bool(_) | Term::Integer(_) | Term::Constant(_) | Term::Parameter(_))
}

/// Certainly not equal: constants of one kind that are written differently. Two texts may be one value of another type ('1', '01').
fn differ(old: &Term, new: &Term) -> bool {
    match (old, new) {
        (Term::Integer(old), Term::Integer(new)) => old != new,
        (Term::Bool(old), Term::Bool(new)) => old != new,
        (Term::Constant(old), Term::Constant(new)) => {
            old.to_lowercase().trim() != new.to_lowercase().trim() && is_word(old) && is_word(new)
        }
        (_, Term::Null) => true,
        _ => false,
    }
}

/// `'open'` and `'done'` are different values of whatever type: no number, no time and no truth value is written so.
fn is_word(constant: &str) -> bool {
    let word = constant.strip_prefix("s:").unwrap_or_default();
    let is_truth = ["t", "f", "y", "n", "on", "of"].iter().any(|start| word.eq_ignore_ascii_case(start))
        || ["tr", "fa", "ye", "no", "off"].iter().any(|start| word.to_ascii_lowercase().starts_with(start));
    word.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic()) && !is_truth
}
