//! Does a condition keep rows out? Reasoned over a small tree that every dialect's parser is translated into.
//!
//! Invariant: [`Truth::True`] is only said of a condition that is true for every row of the target, given that the columns it names
//! are not NULL there. In doubt the answer is [`Truth::Unknown`], and the database is asked for a count instead.

mod values;

use crate::sql::facts::{Need, Restriction};
use std::collections::BTreeSet;
use values::{is_made, simple, span, within};

/// A condition, or a value in one.
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    Null,
    Bool(bool),
    Integer(i64),
    /// Any other constant, with its text. Two constants are only called equal when kind and text are.
    Constant(String),
    Parameter(u16),
    /// A column of the target.
    Column(String),
    /// A column of another relation of the FROM list, by its qualifier and name.
    Foreign {
        of: String,
        name: String,
    },
    And(Vec<Term>),
    Or(Vec<Term>),
    Not(Box<Term>),
    Compare(Comparison, Box<Term>, Box<Term>),
    IsNull(Box<Term>),
    /// IS NOT DISTINCT FROM
    Same(Box<Term>, Box<Term>),
    /// `x IS TRUE`, `x IS FALSE`
    Is(Box<Term>, bool),
    /// An arithmetic operator on strict, deterministic operands: NULL only if an operand is.
    Strict(String, Vec<Term>),
    Coalesce(Vec<Term>),
    /// CASE: the first arm whose condition is true gives the value, else the last.
    Case(Vec<(Term, Term)>, Box<Term>),
    /// The whole row of the target, by its name; if the target has a column of that name, that column.
    Row(String),
    /// A pattern that matches every string (`LIKE '%'`, `~ ''`).
    MatchesAny(Box<Term>),
    /// Always one row or more: `EXISTS (SELECT 1)`, an aggregate without GROUP BY, the target itself unfiltered.
    Inhabited,
    /// The value is among those of the same column of the target's own table: true unless it is NULL.
    AmongItself(Box<Term>),
    /// Anything else. `mentions_target` is false only when it certainly does not look at the target.
    Opaque {
        mentions_target: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

pub type Needs = BTreeSet<Need>;

/// What a condition comes to, whatever the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Truth {
    /// True if all of this holds.
    True(Needs),
    /// False if all of this holds.
    False(Needs),
    /// NULL for every row.
    Null,
    Unknown,
}

/// What the rows of the target meet: a condition, and whether the statement joins.
pub fn restriction(condition: Option<&Term>, joined: bool) -> Restriction {
    let Some(condition) = condition else {
        let why = if joined { "no WHERE: the joined tables keep no row of the target out" } else { "no WHERE" };
        return Restriction::Nothing { why: String::from(why) };
    };
    match truth(condition) {
        Truth::True(columns) if columns.is_empty() => {
            Restriction::AlwaysTrue { why: String::from("the condition is true for every row") }
        }
        Truth::True(needs) => {
            always_true_if(needs, |said| format!("the condition is true for every row in which {said}"))
        }
        Truth::False(_) | Truth::Null => Restriction::Restricts { pinned: pinned(condition) },
        // What could differ from row to row (`nextval('s') % 2 = 0`) restricts, though it looks at none.
        Truth::Unknown if !joined && !mentions_target(condition) && deterministic(condition) => {
            let why = String::from("the condition does not look at the rows: it keeps all of them or none");
            Restriction::Nothing { why }
        }
        Truth::Unknown => {
            spared_by_join(condition, joined).unwrap_or_else(|| Restriction::Restricts { pinned: pinned(condition) })
        }
    }
}

/// A joined form whose terms are about the other tables only, or true of every row of the target.
fn spared_by_join(condition: &Term, joined: bool) -> Option<Restriction> {
    if !joined {
        return None;
    }
    // Joined to itself, a row is met by itself only as long as nothing else is asked of the other side.
    if conjuncts(condition).iter().any(|term| matches!(term, Term::AmongItself(_))) {
        return None;
    }
    let mut needs = Needs::new();
    for term in conjuncts(condition) {
        match truth(term) {
            Truth::True(more) => needs.extend(more),
            _ if mentions_target(term) => return None,
            _ => {}
        }
    }
    let why = "the condition keeps no row of the target out, only rows of the joined tables";
    Some(match needs.is_empty() {
        true => Restriction::Nothing { why: String::from(why) },
        false => always_true_if(needs, |_| String::from(why)),
    })
}

/// `say` is given what must hold, in words.
fn always_true_if(needs: Needs, say: impl Fn(&str) -> String) -> Restriction {
    let column = |need: &Need| match need {
        Need::NotNull(column) => Some(column.clone()),
        _ => None,
    };
    let columns: Option<Vec<String>> = needs.iter().map(column).collect();
    match columns {
        Some(columns) => {
            let why = say(&format!("{} is not NULL", columns.join(" and ")));
            Restriction::AlwaysTrueIfNotNull { columns, why }
        }
        None => {
            let needs: Vec<Need> = needs.into_iter().collect();
            let words: Vec<String> = needs.iter().map(in_words).collect();
            let why = say(&words.join(" and "));
            Restriction::AlwaysTrueIf { needs, why }
        }
    }
}

fn in_words(need: &Need) -> String {
    match need {
        Need::NotNull(column) => format!("{column} is not NULL"),
        Need::Within { column, .. } => format!("{column} is within its own type"),
        Need::WholeRow => String::from("no column is NULL"),
    }
}

fn conjuncts(condition: &Term) -> &[Term] {
    match condition {
        Term::And(terms) => terms.as_slice(),
        other => std::slice::from_ref(other),
    }
}

/// Three-valued folding, with the columns that must not be NULL for the answer to hold.
pub fn truth(term: &Term) -> Truth {
    match term {
        Term::Bool(true) | Term::Inhabited => yes(),
        Term::Bool(false) => no(),
        Term::Null => Truth::Null,
        Term::And(terms) => all(terms),
        Term::Or(terms) => any(terms),
        Term::Not(inner) => not(truth(inner)),
        Term::IsNull(inner) => is_null(inner),
        Term::Is(inner, wanted) => is(inner, *wanted),
        Term::Same(left, right) => same(left, right),
        Term::Compare(comparison, left, right) => compare(*comparison, left, right),
        Term::MatchesAny(inner) | Term::AmongItself(inner) => needs(inner).map_or(Truth::Unknown, Truth::True),
        Term::Coalesce(terms) => coalesce(terms),
        Term::Case(arms, last) => case(arms, last),
        _ => Truth::Unknown,
    }
}

/// Whatever arm is taken: all that can be are true, or all are false. An arm whose condition is never true is passed over, and
/// behind one that is always true nothing is reached.
fn case(arms: &[(Term, Term)], last: &Term) -> Truth {
    let mut reached = Vec::new();
    let mut falls_through = true;
    for (condition, result) in arms {
        match truth(condition) {
            Truth::Null => continue,
            Truth::False(needs) if needs.is_empty() => continue,
            Truth::True(needs) if needs.is_empty() => {
                reached.push(truth(result));
                falls_through = false;
                break;
            }
            _ => reached.push(truth(result)),
        }
    }
    if falls_through {
        reached.push(truth(last));
    }
    let mut needs = Needs::new();
    let (mut all_true, mut all_false) = (true, true);
    for truth in reached {
        all_true &= matches!(truth, Truth::True(_));
        all_false &= matches!(truth, Truth::False(_));
        if let Truth::True(more) | Truth::False(more) = truth {
            needs.extend(more);
        }
    }
    match (all_true, all_false) {
        (true, _) => Truth::True(needs),
        (_, true) => Truth::False(needs),
        _ => Truth::Unknown,
    }
}

fn coalesce(terms: &[Term]) -> Truth {
    for term in terms {
        match truth(term) {
            Truth::Null => {}
            // A first argument that may be NULL would hand on to the next one.
            Truth::True(columns) if columns.is_empty() => return yes(),
            Truth::False(columns) if columns.is_empty() => return no(),
            _ => return Truth::Unknown,
        }
    }
    Truth::Null
}

fn yes() -> Truth {
    Truth::True(Needs::new())
}

fn no() -> Truth {
    Truth::False(Needs::new())
}

fn not(truth: Truth) -> Truth {
    match truth {
        Truth::True(columns) => Truth::False(columns),
        Truth::False(columns) => Truth::True(columns),
        other => other,
    }
}

/// AND: every term must be true. One that is certainly never true decides, whatever the others.
fn all(terms: &[Term]) -> Truth {
    let mut columns = BTreeSet::new();
    let mut answer = None;
    for term in terms {
        match truth(term) {
            Truth::True(more) => columns.extend(more),
            Truth::False(more) if more.is_empty() => return no(),
            // "False unless NULL" and NULL alike are never true; but NOT of them differs, so say no more than is known.
            other => {
                answer = Some(if matches!((&answer, &other), (None, Truth::Null)) { other } else { Truth::Unknown })
            }
        }
    }
    match answer {
        None => Truth::True(columns),
        Some(Truth::Null) if columns.is_empty() => Truth::Null,
        Some(_) => Truth::Unknown,
    }
}

/// OR: the term that asks least decides; two terms that are each other's opposite leave only NULL.
fn any(terms: &[Term]) -> Truth {
    let truths: Vec<Truth> = terms.iter().map(truth).collect();
    let mut ways: Vec<Needs> = truths
        .iter()
        .filter_map(|truth| if let Truth::True(columns) = truth { Some(columns.clone()) } else { None })
        .collect();
    // Pairs are compared only where there are few: a long list of alternatives is a list of values, not a tautology.
    if terms.len() <= MOST_ALTERNATIVES {
        for (index, term) in terms.iter().enumerate() {
            ways.extend(terms.iter().skip(index + 1).filter_map(|other| opposites(term, other)));
        }
    }
    // What is true unless x is NULL, or x IS NULL, is true.
    let null_is_kept: BTreeSet<&String> = terms.iter().filter_map(tested_for_null).collect();
    for way in &mut ways {
        way.retain(|need| !matches!(need, Need::NotNull(column) if null_is_kept.contains(column)));
    }
    if let Some(least) = ways.into_iter().min_by_key(BTreeSet::len) {
        return Truth::True(least);
    }
    if truths.iter().all(|truth| matches!(truth, Truth::False(_))) {
        return Truth::False(
            truths
                .into_iter()
                .flat_map(|truth| if let Truth::False(columns) = truth { columns } else { BTreeSet::new() })
                .collect(),
        );
    }
    match truths.iter().all(|truth| matches!(truth, Truth::Null) || *truth == no()) {
        true => Truth::Null,
        false => Truth::Unknown,
    }
}

const MOST_ALTERNATIVES: usize = 32;

fn tested_for_null(term: &Term) -> Option<&String> {
    match term {
        Term::IsNull(inner) => match &**inner {
            Term::Column(name) => Some(name),
            _ => None,
        },
        _ => None,
    }
}

/// `a > 1` and `a <= 1`, `x` and `NOT x`, `a > 0` and `a < 10`: one of them is true unless something is NULL.
fn opposites(left: &Term, right: &Term) -> Option<Needs> {
    match (left, right) {
        (Term::Not(inner), other) | (other, Term::Not(inner)) if **inner == *other && deterministic(other) => {
            needs_truth(other)
        }
        (Term::Compare(first, a, b), Term::Compare(second, c, d)) => {
            let (second, c, d) = if a == c { (*second, c, d) } else { (second.turned(), d, c) };
            let covered = a == c && if b == d { first.or_covers(second) } else { ranges_meet(*first, b, second, d) };
            (covered && deterministic(a) && deterministic(b)).then(|| union(needs(a), needs(b))).flatten()
        }
        _ => None,
    }
}

/// `x > 0 OR x < 10`, `x <> 1 OR x <> 2`: different integers on either side that leave no value between.
fn ranges_meet(first: Comparison, low: &Term, second: Comparison, high: &Term) -> bool {
    use Comparison::{Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    let (Term::Integer(a), Term::Integer(b)) = (low, high) else {
        return false;
    };
    match (first, second) {
        (NotEqual, NotEqual) => a != b,
        (Greater | GreaterOrEqual, Less | LessOrEqual) => a < b,
        (Less | LessOrEqual, Greater | GreaterOrEqual) => b < a,
        _ => false,
    }
}

fn is_null(inner: &Term) -> Truth {
    if *inner == Term::Null {
        return yes();
    }
    match inner {
        // A row is NULL where each of its columns is, and is not where none is.
        Term::Row(_) => Truth::False(Needs::from([Need::WholeRow])),
        Term::And(_) | Term::Or(_) | Term::Not(_) | Term::Compare(..) => match truth(inner) {
            Truth::Null => yes(),
            Truth::True(columns) | Truth::False(columns) => Truth::False(columns),
            Truth::Unknown => needs_truth(inner).map_or(Truth::Unknown, Truth::False),
        },
        _ => needs(inner).map_or(Truth::Unknown, Truth::False),
    }
}

/// `x IS TRUE` and `x IS FALSE` are never NULL themselves.
fn is(inner: &Term, wanted: bool) -> Truth {
    match truth(inner) {
        Truth::True(columns) if wanted => Truth::True(columns),
        Truth::True(columns) => Truth::False(columns),
        Truth::False(columns) if wanted => Truth::False(columns),
        Truth::False(columns) => Truth::True(columns),
        Truth::Null => no(),
        Truth::Unknown => Truth::Unknown,
    }
}

fn same(left: &Term, right: &Term) -> Truth {
    if left == right && deterministic(left) {
        return yes();
    }
    match (left, right) {
        (Term::Null, other) | (other, Term::Null) => is_null(other),
        _ => constants_differ(left, right).map_or(Truth::Unknown, |differ| if differ { no() } else { Truth::Unknown }),
    }
}

fn compare(comparison: Comparison, left: &Term, right: &Term) -> Truth {
    if *left == Term::Null || *right == Term::Null {
        return Truth::Null;
    }
    // A CASE on one side: the comparison holds of each of its values.
    let each = |arms: &[(Term, Term)], last: &Term, with: &dyn Fn(&Term) -> Term| {
        let arms: Vec<_> = arms.iter().map(|(condition, result)| (condition.clone(), with(result))).collect();
        case(&arms, &with(last))
    };
    let pair = |left: &Term, right: &Term| Term::Compare(comparison, Box::new(left.clone()), Box::new(right.clone()));
    match (left, right) {
        (Term::Case(arms, last), other) => return each(arms, last, &|value| pair(value, other)),
        (other, Term::Case(arms, last)) => return each(arms, last, &|value| pair(other, value)),
        _ => {}
    }
    if is_made(left) || is_made(right) {
        let (made, other) = (simple(left), simple(right));
        if made != *left || other != *right {
            return compare(comparison, &made, &other);
        }
    }
    if left == right && deterministic(left) {
        let holds = comparison.holds_for_equals();
        return needs(left).map_or(
            Truth::Unknown,
            |columns| {
                if holds { Truth::True(columns) } else { Truth::False(columns) }
            },
        );
    }
    if let (Some(a), Some(b)) = (span(left), span(right))
        && let Some(holds) = comparison.over(a, b)
        && let Some(needs) = union(needs(left), needs(right))
    {
        return if holds { Truth::True(needs) } else { Truth::False(needs) };
    }
    if let Some(need) = within(comparison, left, right).or_else(|| within(comparison.turned(), right, left)) {
        return Truth::True(need);
    }
    if let (Term::Bool(a), Term::Bool(b)) = (left, right) {
        return if comparison.holds(a.cmp(b)) { yes() } else { no() };
    }
    // `(x > 1) = TRUE` is `x > 1`; `= FALSE` its opposite.
    match (comparison, left, right) {
        (Comparison::Equal, inner, Term::Bool(wanted)) | (Comparison::Equal, Term::Bool(wanted), inner)
            if is_condition(inner) =>
        {
            if *wanted {
                truth(inner)
            } else {
                not(truth(inner))
            }
        }
        _ => Truth::Unknown,
    }
}

fn is_condition(term: &Term) -> bool {
    matches!(
        term,
        Term::And(_)
            | Term::Or(_)
            | Term::Not(_)
            | Term::Compare(..)
            | Term::IsNull(_)
            | Term::Same(..)
            | Term::Is(..)
            | Term::Inhabited
    )
}

fn constants_differ(left: &Term, right: &Term) -> Option<bool> {
    match (left, right) {
        (Term::Integer(a), Term::Integer(b)) => Some(a != b),
        (Term::Bool(a), Term::Bool(b)) => Some(a != b),
        _ => None,
    }
}

/// The columns that must not be NULL for the value to be certainly not NULL; `None` when that cannot be said.
fn needs(term: &Term) -> Option<Needs> {
    match term {
        Term::Bool(_) | Term::Integer(_) | Term::Constant(_) | Term::Inhabited => Some(Needs::new()),
        Term::IsNull(_) | Term::Is(..) | Term::Same(..) => Some(Needs::new()),
        Term::Column(name) if NEVER_NULL.contains(&name.as_str()) => Some(Needs::new()),
        // Rows are compared column by column, and two NULLs count as equal; the row itself is never NULL.
        Term::Column(name) | Term::Row(name) => Some(Needs::from([Need::NotNull(name.clone())])),
        Term::Strict(_, operands) => {
            operands.iter().try_fold(Needs::new(), |sum, operand| union(Some(sum), needs(operand)))
        }
        Term::Coalesce(terms) => terms.iter().filter_map(needs).min_by_key(BTreeSet::len),
        _ => None,
    }
}

/// The same for a condition: what must not be NULL for it to be true or false.
fn needs_truth(term: &Term) -> Option<Needs> {
    match term {
        Term::Compare(_, left, right) => union(needs(left), needs(right)),
        Term::Not(inner) => needs_truth(inner),
        Term::And(terms) | Term::Or(terms) => {
            terms.iter().try_fold(Needs::new(), |sum, term| union(Some(sum), needs_truth(term)))
        }
        Term::MatchesAny(inner) => needs(inner),
        _ => needs(term),
    }
}

/// System columns of a table; a view has none, and a user's column cannot be called so.
const NEVER_NULL: [&str; 6] = ["ctid", "tableoid", "xmin", "xmax", "cmin", "cmax"];

fn union(left: Option<Needs>, right: Option<Needs>) -> Option<Needs> {
    let mut left = left?;
    left.extend(right?);
    Some(left)
}

/// The same value each time it is asked for within one row.
fn deterministic(term: &Term) -> bool {
    match term {
        Term::Opaque { .. } => false,
        Term::And(terms) | Term::Or(terms) | Term::Coalesce(terms) | Term::Strict(_, terms) => {
            terms.iter().all(deterministic)
        }
        Term::Not(inner)
        | Term::IsNull(inner)
        | Term::Is(inner, _)
        | Term::MatchesAny(inner)
        | Term::AmongItself(inner) => deterministic(inner),
        Term::Compare(_, left, right) | Term::Same(left, right) => deterministic(left) && deterministic(right),
        Term::Case(arms, last) => {
            deterministic(last)
                && arms.iter().all(|(condition, result)| deterministic(condition) && deterministic(result))
        }
        _ => true,
    }
}

fn mentions_target(term: &Term) -> bool {
    match term {
        Term::Column(_) | Term::Row(_) | Term::AmongItself(_) => true,
        Term::Case(arms, last) => {
            mentions_target(last)
                || arms.iter().any(|(condition, result)| mentions_target(condition) || mentions_target(result))
        }
        Term::Opaque { mentions_target } => *mentions_target,
        Term::And(terms) | Term::Or(terms) | Term::Coalesce(terms) | Term::Strict(_, terms) => {
            terms.iter().any(mentions_target)
        }
        Term::Not(inner) | Term::IsNull(inner) | Term::Is(inner, _) | Term::MatchesAny(inner) => mentions_target(inner),
        Term::Compare(_, left, right) | Term::Same(left, right) => mentions_target(left) || mentions_target(right),
        _ => false,
    }
}

/// Columns of the target that a top-level AND term equates with a constant or a parameter.
fn pinned(condition: &Term) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for term in conjuncts(condition) {
        match term {
            Term::And(_) => columns.extend(pinned(term)),
            Term::Compare(Comparison::Equal, left, right) => match (&**left, &**right) {
                (Term::Column(name), value) | (value, Term::Column(name)) if is_fixed(value) => {
                    columns.push(name.clone())
                }
                _ => {}
            },
            _ => {}
        }
    }
    columns.sort();
    columns.dedup();
    columns
}

fn is_fixed(term: &Term) -> bool {
    matches!(term, Term::Bool(_) | Term::Integer(_) | Term::Constant(_) | Term::Parameter(_))
}

impl Comparison {
    /// The comparison with its sides exchanged.
    fn turned(self) -> Comparison {
        use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        match self {
            Equal | NotEqual => self,
            Less => Greater,
            LessOrEqual => GreaterOrEqual,
            Greater => Less,
            GreaterOrEqual => LessOrEqual,
        }
    }

    /// Whether it holds of every two values of these ranges; `None` if of some.
    fn over(self, (a, a_most): (i64, Option<i64>), (b, b_most): (i64, Option<i64>)) -> Option<bool> {
        let less = a_most.is_some_and(|most| most < b);
        let less_or_equal = a_most.is_some_and(|most| most <= b);
        let greater = b_most.is_some_and(|most| a > most);
        let greater_or_equal = b_most.is_some_and(|most| a >= most);
        let equal = less_or_equal && greater_or_equal;
        let (holds, fails) = match self {
            Comparison::Equal => (equal, less || greater),
            Comparison::NotEqual => (less || greater, equal),
            Comparison::Less => (less, greater_or_equal),
            Comparison::LessOrEqual => (less_or_equal, greater),
            Comparison::Greater => (greater, less_or_equal),
            Comparison::GreaterOrEqual => (greater_or_equal, less),
        };
        (holds || fails).then_some(holds)
    }

    pub fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }

    fn holds_for_equals(self) -> bool {
        self.holds(std::cmp::Ordering::Equal)
    }

    /// Every two values that can be ordered satisfy one of the two.
    fn or_covers(self, other: Comparison) -> bool {
        use std::cmp::Ordering::{Equal, Greater, Less};
        [Less, Equal, Greater].into_iter().all(|order| self.holds(order) || other.holds(order))
    }
}

#[cfg(test)]
mod tests;
