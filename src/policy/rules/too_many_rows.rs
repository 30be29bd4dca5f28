//! `too-many-rows`: more rows than anybody may change in one statement.
//!
//! Invariant: a caller's own number can lower the limit freely, and raise it only as far as the policy says.

use crate::policy::count::grouped;
use crate::policy::finding::{About, Finding, Level};
use crate::policy::question::{Effects, Questions};
use crate::policy::rules::{Caller, Look, Rule, counting, finding};
use crate::policy::settings::{Effective, Sizes};
use crate::sql::facts::{Change, Facts};

pub struct TooManyRows;

impl Rule for TooManyRows {
    fn code(&self) -> &'static str {
        "too-many-rows"
    }
    fn title(&self) -> &'static str {
        "More rows than one statement may ever change"
    }
    fn page(&self) -> &'static str {
        include_str!("too_many_rows.md")
    }
    fn standard(&self) -> Level {
        Level::Deny
    }
    fn strict(&self) -> Level {
        Level::Deny
    }

    fn ask_of_change(&self, change: &Change, _: &Facts, _: &Effective) -> Questions {
        counting(change)
    }

    fn look(&self, look: &Look<'_>) -> Vec<Finding> {
        let limit = limit(look.sizes, look.caller);
        // What was measured counts whatever the text says.
        let measured = look.evidence.effects.known().map(Effects::destroyed).max(look.evidence.unshown);
        if let Some(rows) = measured.filter(|rows| *rows > limit) {
            let message = format!("{} rows changed > {}", grouped(rows), grouped(limit));
            return vec![finding(self, About::Statement, message, &instead(look.sizes, look.caller))];
        }
        if look.facts.changes.is_empty() {
            return Vec::new();
        }
        let tally = look.tally();
        let parts = [(&tally.direct, ""), (&tally.cascaded, " by cascade")];
        let mut over = parts.into_iter().filter(|(count, _)| count.exceeds(limit));
        let Some((count, how)) = over.next() else { return Vec::new() };
        let message = format!("{count}{how} > {}", grouped(limit));
        vec![finding(self, About::Statement, message, &instead(look.sizes, look.caller))]
    }
}

/// The limit that holds for this caller.
pub fn limit(sizes: &Sizes, caller: &Caller) -> u64 {
    match caller.max_affected {
        Some(stated) if stated <= sizes.max_affected_limit.max(sizes.max_affected) => stated,
        _ => sizes.max_affected,
    }
}

fn instead(sizes: &Sizes, caller: &Caller) -> String {
    let pieces = "Change the rows in pieces, each a range of the key";
    if limit(sizes, caller) >= sizes.max_affected_limit {
        return format!("{pieces}.");
    }
    let most = grouped(sizes.max_affected_limit);
    let name = caller.product.either("sluice.max_affected", "@sluice_max_affected");
    format!("{pieces}, or state the number you mean: SET {name} = … (up to {most}).")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_lowers_freely_and_raises_within_the_policy() {
        let sizes = Sizes { max_affected: 50, max_affected_limit: 200, ..Sizes::default() };
        let pairs = [(None, 50), (Some(10), 10), (Some(0), 0), (Some(150), 150), (Some(200), 200), (Some(9_999), 50)];
        for (stated, expected) in pairs {
            assert_eq!(limit(&sizes, &Caller { max_affected: stated, ..Caller::default() }), expected, "{stated:?}");
        }
    }

    #[test]
    fn a_limit_below_the_default_does_not_lower_it() {
        let sizes = Sizes { max_affected: 50, max_affected_limit: 20, ..Sizes::default() };
        assert_eq!(limit(&sizes, &Caller { max_affected: Some(60), ..Caller::default() }), 50);
    }
}
