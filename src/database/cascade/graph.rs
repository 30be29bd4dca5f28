//! The foreign keys that can be reached downwards from one table, as the catalog lists them in one answer.
//!
//! Invariant: a key that the server copied to a partition stands in the walk once, by the copy nearest to the table asked about.

use crate::database::catalog::{foreign_key, list, texts};
use crate::policy::question::{ForeignKey, Table};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// One foreign key, with what a question about it needs.
pub(super) struct Edge {
    pub key: ForeignKey,
    pub child: u64,
    pub parent: u64,
    /// The child is partitioned: the key holds for its partitions. Otherwise it holds for the table alone, not for tables that inherit from it.
    pub partitioned: bool,
    /// Row security keeps rows of the child from this user.
    pub hidden: bool,
    /// Operators that compare the parent's columns with the child's, and the parent's with themselves.
    pub equals: Vec<String>,
    pub same: Vec<String>,
    id: u64,
    clone_of: u64,
}

pub(super) struct Graph {
    edges: Vec<Edge>,
    /// Partitions by their parent.
    partitions: HashMap<u64, Vec<u64>>,
    /// All children, partitions or not, by their parent.
    children: HashMap<u64, Vec<u64>>,
}

impl Graph {
    pub fn read(answer: &Value) -> Option<Graph> {
        let (mut partitions, mut children) = (HashMap::<u64, Vec<u64>>::new(), HashMap::<u64, Vec<u64>>::new());
        for pair in list(&answer["inherits"])? {
            let (child, parent) = (pair[0].as_u64()?, pair[1].as_u64()?);
            children.entry(parent).or_default().push(child);
            if pair[2].as_bool()? {
                partitions.entry(parent).or_default().push(child);
            }
        }
        let edges = list(&answer["keys"])?.iter().map(edge).collect::<Option<_>>()?;
        Some(Graph { edges, partitions, children })
    }

    /// The keys that point at the table a change names, or at tables that it stands for.
    pub fn below_start<'a>(&'a self, table: &Table) -> Vec<&'a Edge> {
        let stands_for = |edge: &&Edge| edge.key_is_one_of(&table.referenced_by);
        let mut seen = HashSet::new();
        self.edges.iter().filter(stands_for).filter(|edge| seen.insert((&edge.key.name, edge.child))).collect()
    }

    /// The keys that point at a table further down.
    pub fn below(&self, table: u64) -> impl Iterator<Item = &Edge> {
        let members = closure(table, &self.partitions);
        let here: Vec<&Edge> = self.edges.iter().filter(|edge| members.contains(&edge.parent)).collect();
        let ids: HashSet<u64> = here.iter().map(|edge| edge.id).collect();
        here.into_iter().filter(move |edge| !ids.contains(&edge.clone_of))
    }

    /// The table is the start's own, or one that its rows live in.
    pub fn is_start(&self, table: u64, start: u64) -> bool {
        closure(start, &self.children).contains(&table)
    }
}

impl Edge {
    fn key_is_one_of(&self, keys: &[ForeignKey]) -> bool {
        keys.iter().any(|key| {
            key.name == self.key.name && key.child == self.key.child && key.parent_columns == self.key.parent_columns
        })
    }
}

fn closure(table: u64, below: &HashMap<u64, Vec<u64>>) -> HashSet<u64> {
    let (mut members, mut open) = (HashSet::from([table]), vec![table]);
    while let Some(next) = open.pop() {
        open.extend(below.get(&next).into_iter().flatten().filter(|child| members.insert(**child)));
    }
    members
}

fn edge(value: &Value) -> Option<Edge> {
    let key = foreign_key(&value["key"])?;
    let (equals, same) = (texts(&value["equals"])?, texts(&value["same"])?);
    let complete = equals.len() == key.child_columns.len() && same.len() == key.child_columns.len();
    complete.then_some(())?;
    Some(Edge {
        child: value["key"]["child"].as_u64()?,
        parent: value["key"]["parent"].as_u64()?,
        partitioned: value["key"]["kind"].as_str()? == "p",
        hidden: value["hidden"].as_bool()?,
        equals,
        same,
        id: value["id"].as_u64()?,
        clone_of: value["clone_of"].as_u64()?,
        key,
    })
}
