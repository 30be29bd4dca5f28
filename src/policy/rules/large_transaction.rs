//! `large-transaction`: changes that are small each, and large together when their transaction commits.
//!
//! Invariant: rows that somebody was shown and agreed to are not counted again; everything else that the transaction updated or
//! deleted is.

use crate::policy::count::grouped;
use crate::policy::finding::{About, Finding, Level};
use crate::policy::rules::{Look, Rule, finding};

pub struct LargeTransaction;

impl Rule for LargeTransaction {
    fn code(&self) -> &'static str {
        "large-transaction"
    }
    fn title(&self) -> &'static str {
        "Small changes that add up in one transaction"
    }
    fn page(&self) -> &'static str {
        include_str!("large_transaction.md")
    }
    fn standard(&self) -> Level {
        Level::Warn
    }
    fn strict(&self) -> Level {
        Level::Warn
    }

    fn look(&self, look: &Look<'_>) -> Vec<Finding> {
        let Some(unshown) = look.evidence.unshown.filter(|rows| *rows > look.sizes.batch_rows) else {
            return Vec::new();
        };
        let message = format!("{} rows changed > {}", grouped(unshown), grouped(look.sizes.batch_rows));
        vec![finding(self, About::Statement, message, "Commit more often.")]
    }
}
