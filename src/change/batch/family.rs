//! The tables that a DELETE goes on to by foreign keys: in which order their rows go, and why they cannot go in batches.
//!
//! Invariants: no table stands before one above it; whatever could make the rows of one batch depend on those of another (a circle of keys, a
//! key that only holds once all are gone) makes the change run whole. A table that had no such row when it was shown is left out: a batch that
//! changes rows of it is rolled back.

use super::key_of;
use super::objections::{is_named_as_an_archives, rights_objection};
use crate::database::batches::{Guard, KeyColumn, Link, Member, Walk, walked_by};
use crate::database::quote;
use crate::policy::question::{Action, Cascade, ChangeEvidence, ForeignKey, Known, Rows, Table, TableKind, Trigger};
use crate::sql::facts::{Change, Verb};
use crate::sql::statement::Product;

/// A table below the change's own.
#[derive(Debug)]
pub(super) struct Kin<'a> {
    table: &'a Table,
    /// What its rows lose; empty: they go.
    unlinked: Vec<String>,
    key: Vec<KeyColumn>,
    links: Vec<Link>,
}

impl<'a> Kin<'a> {
    /// What the user lacks to put its rows back.
    pub fn lacks_for_undo(&self) -> Option<String> {
        lacks_for_undo(self.table, !self.unlinked.is_empty())
    }

    /// What acts when its rows are put back.
    pub fn triggers_of_undo(&self) -> impl Iterator<Item = &'a Trigger> + use<'a> {
        let goes = self.unlinked.is_empty();
        self.table.triggers.iter().filter(move |trigger| if goes { trigger.on_insert } else { trigger.on_update })
    }
}

/// Rows that were deleted are inserted, others are set to what they were.
pub(super) fn lacks_for_undo(table: &Table, is_update: bool) -> Option<String> {
    let (lacks, right) = if is_update { (table.lacks.update, "UPDATE") } else { (table.lacks.insert, "INSERT") };
    lacks.then(|| format!("this user lacks {right} on {}", table.name))
}

pub(super) fn carries(change: &Change, table: &Table) -> bool {
    change.verb == Verb::Delete && table.referenced_by.iter().any(|key| acts(key.on_delete))
}

fn acts(action: Action) -> bool {
    !matches!(action, Action::NoAction | Action::Restrict)
}

/// Rows that one batch may unlink and a later one delete: they are changed twice, and were shown once.
pub(super) fn twice(tree: &[Cascade]) -> u64 {
    fn read<'a>(tree: &'a [Cascade], found: &mut Vec<(&'a [String], bool, u64)>) {
        for branch in tree {
            let rows = branch.rows.known().map_or(0, |rows| rows.number());
            found.push((&branch.key.child.parts, branch.action == Action::Cascade, rows));
            read(&branch.below, found);
        }
    }
    let mut found = Vec::new();
    read(tree, &mut found);
    let is_unlinked = |table: &[String]| found.iter().any(|(other, goes, _)| *other == table && !goes);
    let goes = found.iter().filter(|(table, goes, _)| *goes && is_unlinked(table));
    goes.fold(0, |sum, (_, _, rows)| sum.saturating_add(*rows))
}

/// `Err`: why it cannot be cut.
pub(super) fn kin<'a>(
    product: Product,
    change: &Change,
    table: &'a Table,
    known: &'a ChangeEvidence,
) -> Result<(Vec<Kin<'a>>, Vec<Guard>), String> {
    if !carries(change, table) {
        return Ok((Vec::new(), Vec::new()));
    }
    if table.kind != TableKind::Table {
        return Err("foreign keys of a partitioned table carry it on".to_owned());
    }
    let Some(tree) = known.cascade.known() else {
        return Err("what foreign keys carry on is not known".to_owned());
    };
    let mut found = Found::default();
    for branch in tree {
        found.read(branch)?;
    }
    if found.gone.is_empty() && found.unlinked.is_empty() {
        return Ok((Vec::new(), guards(product, table, &[])));
    }
    tree.iter().try_for_each(|branch| found.read_counted(branch))?;
    let tables = match &known.carried {
        Known::Known(tables) => tables,
        Known::Unknown(why) => return Err(format!("the tables below it are not known: {why}")),
        Known::NotAsked => return Err("the tables below it are not known".to_owned()),
    };
    let nodes = found.nodes(tables)?;
    let order = order(product, table, nodes)?;
    let guards = guards(product, table, &order);
    let shown = quote::shown_by(product);
    let kin: Result<Vec<Kin<'a>>, String> = order
        .into_iter()
        .map(|(node, links)| {
            let kin = node.table;
            let of = |why: String| format!("of {}, {why}", shown(&kin.schema, &kin.name).written);
            objection(product, &node).map_or(Ok(()), Err).map_err(of)?;
            let set: Vec<&String> = node.unlinked.iter().collect();
            let key = key_of(kin, walked_by(product), &set).map_err(of)?;
            if product.either(false, true) && !key.iter().map(|column| &column.name).eq(&kin.primary_key) {
                return Err(of("it has no primary key that can be walked".to_owned()));
            }
            Ok(Kin { table: kin, unlinked: node.unlinked, key, links })
        })
        .collect();
    Ok((kin?, guards))
}

/// Where the server does not count what keys carry on: those that lead to tables which are left out.
fn guards(product: Product, root: &Table, placed: &[(Node<'_>, Vec<Link>)]) -> Vec<Guard> {
    let below = placed.iter().enumerate().map(|(at, (node, _))| (at + 1, node));
    let gone = below.filter(|(_, node)| node.unlinked.is_empty()).map(|(at, node)| (at, node.table));
    let mut guards = Vec::new();
    for (above, table) in std::iter::once((0, root)).chain(gone).filter(|_| product.either(false, true)) {
        for key in table.referenced_by.iter().filter(|key| acts(key.on_delete)) {
            let followed = placed.iter().any(|(node, links)| {
                node.is_reached_by(key)
                    && links.iter().any(|link| link.above == above && link.child == key.child_columns)
            });
            if let ([schema, table], false) = (&key.child.parts[..], followed) {
                let link = Link { above, parent: key.parent_columns.clone(), child: key.child_columns.clone() };
                guards.push(Guard { schema: schema.clone(), table: table.clone(), link });
            }
        }
    }
    guards
}

/// What the tree tells of the tables in it.
#[derive(Default)]
struct Found {
    /// By schema and name.
    gone: Vec<Vec<String>>,
    unlinked: Vec<(Vec<String>, Vec<String>)>,
}

impl Found {
    fn read(&mut self, branch: &Cascade) -> Result<(), String> {
        let name = &branch.key.name;
        match branch.rows.known() {
            Some(Rows::Exact(0)) => return Ok(()),
            Some(Rows::Exact(_) | Rows::AtMost(_) | Rows::Estimate(_)) if branch.stopped.is_none() => {}
            _ => return Err(format!("how many rows the foreign key {name} reaches is not known")),
        }
        let child = branch.key.child.parts.clone();
        match branch.action {
            Action::Cascade => {
                if !self.gone.contains(&child) {
                    self.gone.push(child);
                }
                branch.below.iter().try_for_each(|below| self.read(below))
            }
            Action::SetNull if branch.below.iter().all(|below| below.rows == Known::Known(Rows::Exact(0))) => {
                self.unlink(branch)
            }
            _ => Err(format!("the foreign key {name} carries it on by setting values")),
        }
    }

    /// A branch without rows of its own may reach rows that were counted elsewhere: those that go by another key, and lose this one before.
    fn read_counted(&mut self, branch: &Cascade) -> Result<(), String> {
        let goes = self.gone.contains(&branch.key.child.parts);
        if branch.rows == Known::Known(Rows::Exact(0)) && branch.action == Action::SetNull && goes {
            self.unlink(branch)?;
        }
        branch.below.iter().try_for_each(|below| self.read_counted(below))
    }

    fn unlink(&mut self, branch: &Cascade) -> Result<(), String> {
        let one = (branch.key.child.parts.clone(), branch.key.child_columns.clone());
        if self.unlinked.iter().any(|(table, columns)| *table == one.0 && *columns != one.1) {
            return Err(format!("{} loses what it refers to by two keys", branch.key.child.written));
        }
        if !self.unlinked.contains(&one) {
            self.unlinked.push(one);
        }
        Ok(())
    }

    fn nodes<'a>(&self, tables: &'a [Table]) -> Result<Vec<Node<'a>>, String> {
        let table = |parts: &Vec<String>| {
            let is = |table: &&Table| parts[..] == [table.schema.clone(), table.name.clone()];
            tables.iter().find(is).ok_or_else(|| "the tables below it are not known".to_owned())
        };
        let unlinked = self.unlinked.iter().map(|(parts, columns)| (parts, columns.clone()));
        let all = unlinked.chain(self.gone.iter().map(|parts| (parts, Vec::new())));
        all.map(|(parts, unlinked)| Ok(Node { table: table(parts)?, unlinked })).collect()
    }
}

struct Node<'a> {
    table: &'a Table,
    unlinked: Vec<String>,
}

impl Node<'_> {
    /// This key of a table above carries it on to this.
    fn is_reached_by(&self, key: &ForeignKey) -> bool {
        key.child.parts == [self.table.schema.clone(), self.table.name.clone()]
            && match self.unlinked.is_empty() {
                true => key.on_delete == Action::Cascade,
                false => key.on_delete == Action::SetNull && key.child_columns == self.unlinked,
            }
    }
}

/// None before those above it, each with the keys that lead to it.
fn order<'a>(product: Product, root: &Table, nodes: Vec<Node<'a>>) -> Result<Vec<(Node<'a>, Vec<Link>)>, String> {
    let gone = || nodes.iter().filter(|node| node.unlinked.is_empty()).map(|node| node.table);
    let is = |key: &ForeignKey, table: &Table| key.child.parts == [table.schema.clone(), table.name.clone()];
    for key in gone().flat_map(|table| &table.referenced_by) {
        if is(key, root) {
            return Err("foreign keys lead in a circle".to_owned());
        }
    }
    for key in gone().chain([root]).flat_map(|table| &table.referenced_by).filter(|key| !acts(key.on_delete)) {
        if gone().any(|table| is(key, table)) {
            return Err(format!("the foreign key {} holds only once the rows of all batches are gone", key.name));
        }
    }
    let mut open = nodes;
    let mut placed: Vec<(Node<'a>, Vec<Link>)> = Vec::new();
    while !open.is_empty() {
        let is_free = |node: &Node<'_>| {
            open.iter().all(|other| {
                let above =
                    other.unlinked.is_empty() && other.table.referenced_by.iter().any(|key| node.is_reached_by(key));
                let before =
                    node.unlinked.is_empty() && !other.unlinked.is_empty() && std::ptr::eq(node.table, other.table);
                !above && !before
            })
        };
        let Some(at) = open.iter().position(is_free) else {
            return Err("foreign keys lead in a circle".to_owned());
        };
        let node = open.remove(at);
        let above = std::iter::once((0, root)).chain(
            placed
                .iter()
                .enumerate()
                .filter(|(_, (node, _))| node.unlinked.is_empty())
                .map(|(at, (node, _))| (at + 1, node.table)),
        );
        let mut links = Vec::new();
        for (above, table) in above {
            for key in table.referenced_by.iter().filter(|key| node.is_reached_by(key)) {
                let ordinary = is_ordinary(product, table, &key.parent_columns)
                    && is_ordinary(product, node.table, &key.child_columns);
                if !ordinary {
                    return Err(format!("the foreign key {} is of other types than batches can follow", key.name));
                }
                let (parent, child) = (key.parent_columns.clone(), key.child_columns.clone());
                links.push(Link { above, parent, child });
            }
        }
        placed.push((node, links));
    }
    match placed.iter().all(|(_, links)| !links.is_empty()) {
        true => Ok(placed),
        false => Err("what foreign keys carry on is not known".to_owned()),
    }
}

fn is_ordinary(product: Product, table: &Table, columns: &[String]) -> bool {
    let of = |name: &String| table.columns.iter().find(|column| &column.name == name);
    columns.iter().map(of).all(|column| {
        column.is_some_and(|column| {
            walked_by(product)(&KeyColumn { name: String::new(), kind: column.kind.clone(), letters: None })
        })
    })
}

/// As for the change's own table.
fn objection(product: Product, node: &Node<'_>) -> Option<String> {
    let table = node.table;
    if table.kind != TableKind::Table || table.children > 0 {
        return Some("rows stand in partitions, or in tables that inherit from it".to_owned());
    }
    if table.has_rules {
        return Some("rewrite rules decide what happens".to_owned());
    }
    if table.row_security {
        return Some("row security may hide rows".to_owned());
    }
    if let Some(engine) = &table.keeps_no_transactions {
        return Some(format!("{engine} knows no transactions"));
    }
    if table.versioned {
        return Some("the table keeps its rows as they were itself".to_owned());
    }
    if let Some(why) = table.unseen_triggers.as_ref().or(table.unseen_keys.as_ref()) {
        return Some(why.clone());
    }
    let goes = node.unlinked.is_empty();
    if if goes { table.lacks.delete } else { table.lacks.update } {
        return Some("this user may not change its rows itself".to_owned());
    }
    if let Some(why) = rights_objection(table, !node.unlinked.is_empty()) {
        return Some(why);
    }
    let fires = |trigger: &&Trigger| if goes { trigger.on_delete } else { trigger.on_update };
    if let Some(trigger) = table.triggers.iter().filter(fires).find(|trigger| !trigger.each_row || trigger.instead) {
        return Some(format!("the trigger {} fires once a statement", trigger.name));
    }
    // By a foreign key it runs as the table's owner, one level deeper; it may keep the row, or refuse what comes by no key.
    let before = |trigger: &&Trigger| fires(trigger) && trigger.when.starts_with("BEFORE");
    if let Some(trigger) = table.triggers.iter().filter(|_| product.either(true, false)).find(before) {
        return Some(format!(
            "the trigger {} runs before its rows go, and would run otherwise than by the foreign key",
            trigger.name
        ));
    }
    // What a key carries on fires none there, and what is changed in its stead would.
    if let Some(trigger) = table.triggers.iter().filter(|_| product.either(false, true)).find(fires) {
        return Some(format!("the trigger {} would fire, which the foreign key does not", trigger.name));
    }
    is_named_as_an_archives(table)
}

/// `own`: the archive of the change's own table; `named`: how one for a table is called.
pub(super) fn members(kin: &[Kin<'_>], own: String, product: Product, named: impl Fn(&str) -> String) -> Vec<Member> {
    let ident = quote::ident_by(product);
    let mut taken = vec![own];
    let mut members = Vec::with_capacity(kin.len());
    for (at, kin) in kin.iter().enumerate() {
        let table = kin.table;
        let mut archive = named(&table.name);
        if taken.contains(&archive) {
            archive = named(&format!("{}_{}", at + 1, table.name));
        }
        taken.push(archive.clone());
        let set: Vec<String> = kin.unlinked.iter().map(|column| format!("{} = NULL", ident(column))).collect();
        let written: Vec<String> = table
            .columns
            .iter()
            .filter(|column| !(column.generated || column.always && !kin.unlinked.is_empty()))
            .map(|column| column.name.clone())
            .collect();
        let walk = Walk {
            schema: table.schema.clone(),
            table: table.name.clone(),
            target: String::new(),
            called: "t".to_owned(),
            only: false,
            set: (!set.is_empty()).then(|| set.join(", ")),
            condition: None,
            key: kin.key.clone(),
            columns: table.columns.iter().map(|column| column.name.clone()).collect(),
            written,
            archive,
            letters: Vec::new(),
        };
        members.push(Member {
            walk,
            links: kin.links.clone(),
            oid: table.id,
            unique: table.unique_keys.clone(),
            unlinked: kin.unlinked.clone(),
        });
    }
    members
}
