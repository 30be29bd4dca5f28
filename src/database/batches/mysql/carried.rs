//! The texts of a DELETE in batches whose foreign keys carry it on, for MySQL and MariaDB: as for PostgreSQL ([`crate::database::batches::carried`]).
//!
//! Invariants: a row is locked when it is archived, and nobody can refer to a locked row anew, so what is found below a batch's rows is all that
//! there is until it commits. The server does not count what keys carry on: tables that are left out are looked into, behind those locks
//! ([`Families::guard`]). What loses what it refers to keeps every other value, `ON UPDATE CURRENT_TIMESTAMP` ones too, as it does when the
//! engine itself sets them to NULL.

use super::{Texts, list};
use crate::database::batches::carried::Family;
use crate::database::batches::{BATCH, Guard, KeyColumn, Link, Member, UNDONE, Walk};
use crate::database::quote::mysql::{dotted, ident};

/// The texts for one change with all that it carries along.
pub struct Families<'a> {
    family: Family<'a>,
}

/// What one table of a batch undergoes; each statement is of so many rows as were archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Drop(String),
    /// Archived, unlinked, and archived as it is then.
    Unlink {
        keep: String,
        set: String,
        keep_new: String,
    },
}

impl<'a> Families<'a> {
    pub fn of(family: Family<'a>) -> Families<'a> {
        Families { family }
    }

    fn above(&self, link: &Link) -> &'a Walk {
        let member = link.above.checked_sub(1).and_then(|at| self.family.members.get(at));
        member.map_or(self.family.walk, |member| &member.walk)
    }

    pub fn print(&self) -> String {
        let parts: Vec<String> = self.family.walks().map(|walk| Texts::of(walk).print_parts()).collect();
        format!("SELECT CONCAT_WS(' ', {})", parts.join(", "))
    }

    /// A digest of the foreign keys that refer to these tables, as the engine knows them: of other databases too, which the user may not see.
    /// Only who has PROCESS is answered. `keys`: the view's name.
    pub fn engine_keys(&self, keys: &str) -> String {
        let name = |walk: &Walk| super::literal(&format!("{}/{}", walk.schema, walk.table));
        let names: Vec<String> = self.family.walks().map(name).collect();
        format!(
            "SELECT CONCAT(COUNT(*), ' ', COALESCE(SUM(CRC32(CONCAT_WS(',', ID, FOR_NAME, REF_NAME, TYPE))), 0)) FROM information_schema.{keys} WHERE REF_NAME IN ({})",
            names.join(", ")
        )
    }

    pub fn done_so_far(&self) -> String {
        let each: Vec<String> = self.family.walks().map(|walk| Texts::of(walk).done_so_far()).collect();
        format!(
            "SELECT CAST(SUM(n) AS CHAR), MAX(b), CAST(SUM(u) AS CHAR) FROM (SELECT 0 AS n, 0 AS b, 0 AS u UNION ALL {}) AS s",
            each.join(" UNION ALL ")
        )
    }

    pub fn next_back(&self, below: Option<u64>) -> String {
        let each: Vec<String> = self.family.walks().map(|walk| Texts::of(walk).next_back(below)).collect();
        format!("SELECT MAX(b) FROM (SELECT NULL AS b UNION ALL {}) AS s", each.join(" UNION ALL "))
    }

    /// Below the batch's rows, level by level: of which walk, and what archives and locks its rows.
    pub fn keep(&self, batch: u64) -> Vec<(usize, String)> {
        let mut texts = Vec::new();
        for (at, member) in self.family.members.iter().enumerate().filter(|(_, member)| !member.walk.is_update()) {
            for (nth, link) in member.links.iter().enumerate() {
                let walk = &member.walk;
                let mut text = keep_those(walk, &self.refers(link, batch), batch);
                if nth > 0 {
                    // Another key has brought it.
                    let (archive, same) = (archive(walk), same(walk));
                    text.push_str(&format!(
                        " AND NOT EXISTS (SELECT 1 FROM {archive} AS a WHERE a.{BATCH} = {batch} AND {same})"
                    ));
                }
                texts.push((at + 1, format!("{text} FOR UPDATE")));
            }
        }
        texts
    }

    /// A row `t` refers to one that was archived in this batch.
    fn refers(&self, link: &Link, batch: u64) -> String {
        format!(
            "({}) IN (SELECT {} FROM {} AS p WHERE p.{BATCH} = {batch})",
            list("t.", &link.child),
            list("p.", &link.parent),
            archive(self.above(link))
        )
    }

    /// Whether there is anything that the keys would carry it on to, beside what was kept.
    pub fn guard(&self, guards: &[Guard], batch: u64) -> Option<String> {
        let any = |guard: &Guard| {
            let table = dotted(&[guard.schema.clone(), guard.table.clone()]);
            format!("EXISTS (SELECT 1 FROM {table} AS t WHERE {})", self.refers(&guard.link, batch))
        };
        let each: Vec<String> = guards.iter().map(any).collect();
        (!each.is_empty()).then(|| format!("SELECT {}", each.join(", ")))
    }

    /// What is done to what was kept, from the last level upwards, and last to the change's own rows: of which walk, and how.
    pub fn acts(&self, batch: u64) -> Vec<(usize, Act)> {
        let below = self.family.members.iter().enumerate().rev().map(|(at, member)| {
            let act = match member.walk.is_update() {
                false => Act::Drop(drop_kept(&member.walk, batch)),
                true => {
                    let within: Vec<String> = member.links.iter().map(|link| self.refers(link, batch)).collect();
                    let keep = format!("{} FOR UPDATE", keep_those(&member.walk, &within.join(" OR "), batch));
                    Act::Unlink { keep, set: unlink(member, batch), keep_new: keep_new(&member.walk, batch) }
                }
            };
            (at + 1, act)
        });
        below.chain([(0, Act::Drop(drop_kept(self.family.walk, batch)))]).collect()
    }

    /// Marks the rows of a member that can be put back: as for a table alone, and what they refer to is back.
    pub fn mark(&self, member: &Member, batch: u64, mark: &str) -> String {
        let back = |link: &Link| {
            let pairs = link.parent.iter().zip(&link.child);
            let same: Vec<String> = pairs.map(|(p, c)| format!("p.{} = a.{}", ident(p), ident(c))).collect();
            let (above, same) = (archive(self.above(link)), same.join(" AND "));
            // What another key refers to may have gone with a later batch, and be left: of those there are few, and they are looked for once.
            let left = match member.links.len() > 1 {
                true => format!(
                    " AND NOT EXISTS (SELECT 1 FROM (SELECT {} FROM {above} AS q WHERE q.{BATCH} > {batch} AND q.{UNDONE} IS NULL LIMIT 18446744073709551615) AS p WHERE {same})",
                    list("q.", &link.parent)
                ),
                false => String::new(),
            };
            format!(
                " AND NOT EXISTS (SELECT 1 FROM {above} AS p WHERE p.{BATCH} = {batch} AND p.{UNDONE} IS NULL AND {same}){left}"
            )
        };
        let texts = Texts::of(&member.walk);
        let within: String = member.links.iter().map(back).collect();
        texts.mark_those(&format!("{}{within}", texts.of_batch(batch, None)), mark, &member.unique)
    }
}

fn table(walk: &Walk) -> String {
    dotted(&[walk.schema.clone(), walk.table.clone()])
}

fn archive(walk: &Walk) -> String {
    dotted(&[walk.schema.clone(), walk.archive.clone()])
}

fn same(walk: &Walk) -> String {
    let one = |column: &KeyColumn| format!("a.{0} = t.{0}", ident(&column.name));
    walk.key.iter().map(one).collect::<Vec<_>>().join(" AND ")
}

fn keep_those(walk: &Walk, within: &str, batch: u64) -> String {
    format!(
        "INSERT INTO {} ({BATCH}, {}) SELECT {batch}, {} FROM {} AS t WHERE ({within})",
        archive(walk),
        list("", &walk.columns),
        list("t.", &walk.columns),
        table(walk)
    )
}

fn drop_kept(walk: &Walk, batch: u64) -> String {
    format!(
        "DELETE t FROM {} AS t JOIN {} AS a ON {} WHERE a.{BATCH} = {batch}",
        table(walk),
        archive(walk),
        same(walk)
    )
}

fn unlink(member: &Member, batch: u64) -> String {
    let walk = &member.walk;
    let is_key = |name: &String| walk.key.iter().any(|key| key.name.eq_ignore_ascii_case(name));
    let set =
        walk.written.iter().filter(|column| !is_key(column)).map(|column| match member.unlinked.contains(column) {
            true => format!("t.{} = NULL", ident(column)),
            false => format!("t.{0} = t.{0}", ident(column)),
        });
    format!(
        "UPDATE {} AS t JOIN {} AS a ON {} SET {} WHERE a.{BATCH} = {batch}",
        table(walk),
        archive(walk),
        same(walk),
        set.collect::<Vec<_>>().join(", ")
    )
}

fn keep_new(walk: &Walk, batch: u64) -> String {
    let texts = Texts::of(walk);
    let set = |column: &String| format!("a.{} = t.{}", ident(&texts.new_name(column)), ident(column));
    format!(
        "UPDATE {} AS a JOIN {} AS t ON {} SET {} WHERE a.{BATCH} = {batch}",
        archive(walk),
        table(walk),
        same(walk),
        walk.columns.iter().map(set).collect::<Vec<_>>().join(", ")
    )
}
