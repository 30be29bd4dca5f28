//! The texts of a DELETE in batches whose foreign keys carry it on: what lies below a batch's rows is archived and deleted with them, in the
//! same transaction, children first, so that the database's own cascade finds nothing left to do.
//!
//! ```text
//! keep        the batch's rows INTO the archive · below them, level by level, the rows that refer to archived ones
//! change      from the last level upwards: unlink what loses what it refers to, drop what was kept
//! ```
//!
//! Invariants: what is dropped is what was archived, by its key. Nothing that arrives meanwhile is lost: at REPEATABLE READ the database's own
//! cascade fails on a row that the transaction does not see ("could not serialize access"; `ri_PerformCheck` with `detectNewRows`, tried on 15
//! and 18). Columns are compared by `pg_catalog`'s operators, so only of ordinary types (`change/batch/family.rs`).

use super::{BATCH, KEY_INDEX, Link, Member, Piece, Place, UNDONE, Walk};
use crate::database::quote::ident;

/// One statement of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    pub sql: String,
    /// Its tag counts rows that went into the archive of this walk: 0 is the change's own.
    pub archives: Option<usize>,
}

/// A change with all that it carries along.
#[derive(Clone, Copy)]
pub struct Family<'a> {
    pub walk: &'a Walk,
    pub members: &'a [Member],
}

impl<'a> Family<'a> {
    /// The change's own, and those below it, none before those above it.
    pub fn walks(&self) -> impl Iterator<Item = &'a Walk> + use<'a> {
        std::iter::once(self.walk).chain(self.members.iter().map(|member| &member.walk))
    }

    fn above(&self, link: &Link) -> &'a Walk {
        let member = link.above.checked_sub(1).and_then(|at| self.members.get(at));
        member.map_or(self.walk, |member| &member.walk)
    }

    /// One batch, in order.
    pub fn change(&self, after: Option<&Place>, end: &Place, batch: u64) -> Vec<Text> {
        if self.members.is_empty() {
            return vec![Text { sql: self.walk.change(after, end, batch), archives: Some(0) }];
        }
        let mut texts = vec![Text { sql: self.walk.keep(after, end, batch), archives: Some(0) }];
        let numbered = || self.members.iter().enumerate().map(|(at, member)| (at + 1, member));
        for (at, member) in numbered().filter(|(_, member)| !member.walk.is_update()) {
            let keep = |link| Text { sql: member.walk.keep_below(link, self.above(link), batch), archives: Some(at) };
            texts.extend(member.links.iter().map(keep));
        }
        for (at, member) in numbered().collect::<Vec<_>>().into_iter().rev() {
            texts.push(match member.walk.is_update() {
                true => {
                    let links: Vec<_> = member.links.iter().map(|link| (link, self.above(link))).collect();
                    Text { sql: member.walk.unlink(&links, batch), archives: Some(at) }
                }
                false => Text { sql: member.walk.drop_kept(batch), archives: None },
            });
        }
        texts.push(Text { sql: self.walk.drop_kept(batch), archives: None });
        texts
    }

    /// One batch put back, or a piece of it: for each walk what puts it back and marks it, and what compares it. What refers to a row that
    /// is not back stays where it is.
    pub fn back(&self, batch: u64, piece: Option<&Piece>) -> Vec<[String; 2]> {
        let own = [self.walk.back(batch, piece), self.walk.not_as_it_was(batch)];
        let below = self.members.iter().map(|member| {
            let walk = &member.walk;
            let back = |link: &Link| {
                let above = self.above(link);
                let same = referred(link, "p", "a");
                // What another key refers to may have gone with a later batch, and be left.
                let from = if member.links.len() > 1 { ">=" } else { "=" };
                format!(
                    "NOT EXISTS (SELECT FROM {} AS p WHERE p.{BATCH} OPERATOR(pg_catalog.{from}) {batch} AND p.{UNDONE} IS NULL AND {same})",
                    above.archive_name()
                )
            };
            let within: Vec<String> = member.links.iter().map(back).collect();
            [walk.put_back(batch, &format!(" AND {}", within.join(" AND "))), walk.not_as_it_was(batch)]
        });
        std::iter::once(own).chain(below).collect()
    }

    /// The next batch of which something is not put back; the latest first.
    pub fn next_back(&self, below: Option<u64>) -> String {
        let each: Vec<String> = self.walks().map(|walk| format!("({})", walk.next_back(below))).collect();
        match &each[..] {
            [_] => self.walk.next_back(below),
            each => format!("SELECT GREATEST({})", each.join(", ")),
        }
    }

    /// Rows in all archives, the last batch, and how many of the rows were put back; one row.
    pub fn done_so_far(&self) -> String {
        let each: Vec<String> = self.walks().map(Walk::done_so_far).collect();
        match &each[..] {
            [_] => self.walk.done_so_far(),
            each => format!(
                "SELECT pg_catalog.sum(s.n), pg_catalog.max(s.b), pg_catalog.sum(s.u) FROM ({}) AS s (n, b, u)",
                each.join(" UNION ALL ")
            ),
        }
    }
}

impl Walk {
    /// The batch's rows go into the archive, and stay where they are as yet.
    fn keep(&self, after: Option<&Place>, end: &Place, batch: u64) -> String {
        format!(
            "INSERT INTO {} ({BATCH}, {}) SELECT {batch}, {} FROM {} WHERE {}",
            self.archive_name(),
            self.listed(""),
            self.listed(&format!("{}.", self.called)),
            self.target,
            self.where_(after, end)
        )
    }

    /// The rows that refer to archived ones, by one key; another may have brought them before.
    fn keep_below(&self, link: &Link, above: &Walk, batch: u64) -> String {
        format!(
            "INSERT INTO {} ({BATCH}, {}) SELECT {batch}, {} FROM {} AS t WHERE {} ON CONFLICT DO NOTHING",
            self.archive_name(),
            self.listed(""),
            self.listed("t."),
            self.table_name(),
            refers(link, above, batch)
        )
    }

    /// What the archive has of this batch goes.
    fn drop_kept(&self, batch: u64) -> String {
        let same: Vec<String> = self.key.iter().map(|column| super::same("t", "a", &column.name)).collect();
        format!(
            "DELETE FROM {}{} AS t USING {} AS a WHERE a.{BATCH} OPERATOR(pg_catalog.=) {batch} AND {}",
            self.only(),
            self.table_name(),
            self.archive_name(),
            same.join(" AND ")
        )
    }

    /// What refers to archived rows refers to none; archived as it was and as it is.
    fn unlink(&self, links: &[(&Link, &Walk)], batch: u64) -> String {
        let within: Vec<String> = links.iter().map(|(link, above)| refers(link, above, batch)).collect();
        let within = within.join(" OR ");
        let new: Vec<String> = self.columns.iter().map(|column| ident(&self.new_name(column))).collect();
        let same: Vec<String> =
            self.key.iter().map(|column| super::same("sluice_was", "sluice_now", &column.name)).collect();
        let (table, set) = (self.table_name(), self.set.as_deref().unwrap_or_default());
        format!(
            "WITH sluice_now AS (UPDATE {table} AS t SET {set} WHERE {within} RETURNING t.*), \
             sluice_was AS (SELECT t.* FROM {table} AS t WHERE {within}) \
             INSERT INTO {} ({BATCH}, {}, {}) SELECT {batch}, {}, {} FROM sluice_now JOIN sluice_was ON {}",
            self.archive_name(),
            self.listed(""),
            new.join(", "),
            self.listed("sluice_was."),
            self.listed("sluice_now."),
            same.join(" AND ")
        )
    }

    /// For what is archived below a batch's rows: they are found by their batch, and a row that came back and went again is kept twice.
    pub fn key_archive_by_batch(&self) -> String {
        let key: Vec<String> = self.key.iter().map(|column| ident(&column.name)).collect();
        let name = ident(&format!("{}{KEY_INDEX}", self.archive));
        format!("ALTER TABLE {} ADD CONSTRAINT {name} PRIMARY KEY ({BATCH}, {})", self.archive_name(), key.join(", "))
    }

    fn listed(&self, of: &str) -> String {
        self.columns.iter().map(|column| format!("{of}{}", ident(column))).collect::<Vec<_>>().join(", ")
    }
}

/// A row `t` refers to one that was archived in this batch.
fn refers(link: &Link, above: &Walk, batch: u64) -> String {
    format!(
        "EXISTS (SELECT FROM {} AS p WHERE p.{BATCH} OPERATOR(pg_catalog.=) {batch} AND {})",
        above.archive_name(),
        referred(link, "p", "t")
    )
}

fn referred(link: &Link, parent: &str, child: &str) -> String {
    let pairs = link.parent.iter().zip(&link.child);
    let same = |(above, below): (&String, &String)| {
        format!("{parent}.{} OPERATOR(pg_catalog.=) {child}.{}", ident(above), ident(below))
    };
    pairs.map(same).collect::<Vec<_>>().join(" AND ")
}
