//! Values in a condition: the same said in fewer words, and between which bounds they lie.
//!
//! Invariant: what is made of a value equals it, and is NULL where it is; a bound holds of every value that is not NULL.

use crate::sql::facts::Need;
use crate::sql::predicate::{Comparison, Needs, Term, deterministic};

/// Made from others in a way that may come to less.
pub(super) fn is_made(term: &Term) -> bool {
    matches!(term, Term::Strict(..) | Term::Coalesce(_))
}

/// What differs from zero by nothing: `id - id`. NULL where its operand is.
const ZERO: &str = "zero of";

/// The same value, said in fewer words: `id + 0`, `id * 1`, `2 + 3`, `COALESCE(id, id)`. Infinite values and NaN aside, which
/// subtracted from themselves are not zero.
pub(super) fn simple(term: &Term) -> Term {
    match term {
        Term::Coalesce(terms) => match terms.split_first() {
            Some((first, rest)) if deterministic(first) && rest.iter().all(|term| term == first) => simple(first),
            _ => term.clone(),
        },
        Term::Strict(operator, operands) => {
            let operands: Vec<Term> = operands.iter().map(simple).collect();
            let [left, right] = operands.as_slice() else { return Term::Strict(operator.clone(), operands) };
            if let (Term::Integer(a), Term::Integer(b)) = (left, right)
                && let Some(folded) = folded(operator, *a, *b)
            {
                return Term::Integer(folded);
            }
            let same = left == right && deterministic(left);
            match (operator.as_str(), left, right) {
                ("+" | "-", value, Term::Integer(0)) | ("+", Term::Integer(0), value) => value.clone(),
                ("*" | "/", value, Term::Integer(1)) | ("*", Term::Integer(1), value) => value.clone(),
                ("||", value, Term::Constant(empty)) | ("||", Term::Constant(empty), value) if empty == "s:" => {
                    value.clone()
                }
                ("-", value, _) if same => Term::Strict(String::from(ZERO), vec![value.clone()]),
                ("*", value, Term::Integer(0)) | ("*", Term::Integer(0), value) => {
                    Term::Strict(String::from(ZERO), vec![value.clone()])
                }
                _ => Term::Strict(operator.clone(), operands),
            }
        }
        other => other.clone(),
    }
}

fn folded(operator: &str, a: i64, b: i64) -> Option<i64> {
    match operator {
        "+" => a.checked_add(b),
        "-" => a.checked_sub(b),
        "*" => a.checked_mul(b),
        _ => None,
    }
}

/// Functions whose value is never below zero.
const NEVER_NEGATIVE: [&str; 8] =
    ["length", "char_length", "character_length", "octet_length", "bit_length", "abs", "cardinality", "strpos"];

/// The least and the greatest that a value can be, unless it is NULL; `None` when nothing is known of it.
pub(super) fn span(term: &Term) -> Option<(i64, Option<i64>)> {
    match term {
        Term::Integer(number) => Some((*number, Some(*number))),
        Term::Strict(operator, _) if operator == ZERO => Some((0, Some(0))),
        Term::Strict(function, _) if NEVER_NEGATIVE.contains(&function.as_str()) => Some((0, None)),
        _ => None,
    }
}

/// `x >= -2147483648`: true of every value of a type that has none below. Nearer to zero it is a condition like any other.
pub(super) fn within(comparison: Comparison, left: &Term, right: &Term) -> Option<Needs> {
    let (Term::Column(column), Term::Integer(bound)) = (left, right) else { return None };
    let need = |least, most| {
        Needs::from([Need::NotNull(column.clone()), Need::Within { column: column.clone(), least, most }])
    };
    let (low, high) = (i64::from(i16::MIN), i64::from(i16::MAX));
    match comparison {
        Comparison::GreaterOrEqual if *bound <= low => Some(need(Some(*bound), None)),
        Comparison::Greater if *bound < low => Some(need(Some(bound.checked_add(1)?), None)),
        Comparison::LessOrEqual if *bound >= high => Some(need(None, Some(*bound))),
        Comparison::Less if *bound > high => Some(need(None, Some(bound.checked_sub(1)?))),
        _ => None,
    }
}
