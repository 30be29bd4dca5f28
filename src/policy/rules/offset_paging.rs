//! `offset-paging`: batches cut by OFFSET.
//!
//! Invariant: judged by the text alone; OFFSET 0, which only fences the optimiser, is none.

use crate::policy::finding::{About, Finding, Level};
use crate::policy::rules::{Look, Rule, finding};

pub struct OffsetPaging;

impl Rule for OffsetPaging {
    fn code(&self) -> &'static str {
        "offset-paging"
    }
    fn title(&self) -> &'static str {
        "A change that pages with OFFSET"
    }
    fn page(&self) -> &'static str {
        include_str!("offset_paging.md")
    }
    fn standard(&self) -> Level {
        Level::Warn
    }
    fn strict(&self) -> Level {
        Level::Confirm
    }

    fn look(&self, look: &Look<'_>) -> Vec<Finding> {
        if !look.facts.pages_by_offset || look.facts.changes.is_empty() {
            return Vec::new();
        }
        let message = "its rows are paged by OFFSET: what the page before changed moves this one".to_owned();
        let instead = "Page by the key: WHERE id > (the last id of the page before) ORDER BY id LIMIT ….";
        vec![finding(self, About::Statement, message, instead)]
    }
}
