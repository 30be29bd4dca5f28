//! What foreign keys carry on from a change: the tree of all levels, each counted on the client's own connection.
//!
//! A level's rows are found by a question that nests the one above it: child rows whose key is among the keys of the rows above,
//! and which no branch before has reached (so a diamond or a cycle is not counted twice). A key of a table to itself is closed
//! by one recursive question; a longer cycle is walked until a level adds no row, or to a bounded depth, which is then said.
//!
//! Invariants: keys are compared by the constraint's own operators, whatever the search path says; a level that the client may
//! not read in full (rights, row security) is unknown, and so is every level below it; nothing is left out silently.
//! The server carries ON DELETE and ON UPDATE out as the table's owner, past row security (`utils/adt/ri_triggers.c`).

mod graph;
pub(in crate::database) mod mysql;
mod reach;

use crate::database::Ask;
use crate::database::interview::Interview;
use crate::ground::limits;
use crate::policy::question::{Action, Cascade, Known, Rows, Table, TableKind};
use crate::sql::facts::{Change, OnConflict, Verb};
use crate::sql::statement::LexicalMode;
use graph::{Edge, Graph};
use reach::Reach;
use std::sync::Arc;

/// The change whose consequences are asked for.
pub(in crate::database) struct Start<'a> {
    pub text: &'a str,
    pub mode: LexicalMode,
    pub change: &'a Change,
    pub table: &'a Table,
    /// Why no question may be made from the change's own text, if so: the tree then stands without counts.
    pub unaskable: Option<String>,
}

/// The cascade tree below a change; empty when nothing is carried on.
pub(in crate::database) async fn walk<A: Ask>(
    interview: &mut Interview<'_, A>,
    start: &Start<'_>,
) -> Known<Vec<Cascade>> {
    if !carries(start.change, start.table) {
        return Known::Known(Vec::new());
    }
    let effects = effects(start.change, start.table);
    let graph = match interview.document(&crate::database::catalog::postgres::foreign_keys(start.table.id)).await {
        Ok(answer) => match Graph::read(&answer) {
            Some(graph) => graph,
            None => return Known::Unknown(crate::database::catalog::odd()),
        },
        Err(reason) => return Known::Unknown(reason),
    };
    let mut walk = Walk { graph: &graph, start, effects: &effects, nodes: Vec::new(), left_out: false };
    walk.root(&effects);
    let mut next = 0;
    while next < walk.nodes.len() {
        walk.count(interview, next).await;
        walk.expand(next);
        next += 1;
    }
    if walk.left_out {
        return Known::Unknown(format!("more than {} foreign keys carry it on", limits::CASCADE_BRANCHES));
    }
    Known::Known(walk.assemble())
}

/// Some foreign key carries this change on.
pub(in crate::database) fn carries(change: &Change, table: &Table) -> bool {
    let effects = effects(change, table);
    table.referenced_by.iter().any(|key| effects.iter().any(|effect| effect.carried_by(key).is_some()))
}

/// What happens to rows: they go, or these columns of them change.
#[derive(Debug, Clone, PartialEq)]
enum Effect {
    Delete,
    Set(Vec<String>),
}

impl Effect {
    /// What this effect on a parent does to the rows of a child, if the key carries it on.
    fn carried_by(&self, key: &crate::policy::question::ForeignKey) -> Option<(Action, Effect)> {
        let all = || Effect::Set(key.child_columns.clone());
        match self {
            Effect::Delete => match key.on_delete {
                Action::Cascade => Some((Action::Cascade, Effect::Delete)),
                action @ (Action::SetNull | Action::SetDefault) => Some((action, all())),
                Action::NoAction | Action::Restrict => None,
            },
            Effect::Set(columns) => {
                let touched = |(parent, child): (&String, &String)| columns.contains(parent).then(|| child.clone());
                let set: Vec<String> = key.parent_columns.iter().zip(&key.child_columns).filter_map(touched).collect();
                match key.on_update {
                    _ if set.is_empty() => None,
                    Action::Cascade => Some((Action::Cascade, Effect::Set(set))),
                    action @ (Action::SetNull | Action::SetDefault) => Some((action, all())),
                    Action::NoAction | Action::Restrict => None,
                }
            }
        }
    }

    /// Rows that met this effect need not be counted again for the other.
    fn covers(&self, other: &Effect) -> bool {
        match (self, other) {
            (Effect::Delete, _) => true,
            (Effect::Set(_), Effect::Delete) => false,
            (Effect::Set(mine), Effect::Set(theirs)) => theirs.iter().all(|column| mine.contains(column)),
        }
    }
}

/// A MERGE can have both. Generated columns follow the ones that are set, which ones is not looked up: all of them count.
fn effects(change: &Change, table: &Table) -> Vec<Effect> {
    let set = || {
        let generated = table.columns.iter().filter(|column| column.generated).map(|column| column.name.clone());
        // A view's columns can have other names than those below it, which the keys are made of: any of them may be set.
        let below = table.referenced_by.iter().filter(|_| table.kind == TableKind::View);
        let below = below.flat_map(|key| key.parent_columns.iter().cloned());
        let assigned = change.assignments.iter().map(|assignment| assignment.column.clone());
        Effect::Set(assigned.chain(generated).chain(below).collect())
    };
    match change.verb {
        Verb::Delete => vec![Effect::Delete],
        Verb::Update => vec![set()],
        Verb::Merge { updates, deletes } => {
            let deleted = deletes.then_some(Effect::Delete);
            deleted.into_iter().chain(updates.then(set)).collect()
        }
        Verb::Insert if change.on_conflict == OnConflict::Updates => vec![set()],
        Verb::Insert | Verb::CopyIn if change.on_conflict == OnConflict::Replaces => vec![Effect::Delete],
        Verb::Insert | Verb::CopyIn => Vec::new(),
    }
}

struct Node<'a> {
    above: Option<usize>,
    level: usize,
    edge: &'a Edge,
    action: Action,
    effect: Effect,
    /// How to ask for its rows; or why that cannot be.
    reach: Result<Arc<Reach<'a>>, String>,
    rows: Known<Rows>,
    stopped: Option<String>,
}

struct Walk<'a> {
    graph: &'a Graph,
    start: &'a Start<'a>,
    effects: &'a [Effect],
    nodes: Vec<Node<'a>>,
    left_out: bool,
}

impl<'a> Walk<'a> {
    fn root(&mut self, effects: &'a [Effect]) {
        let target = match &self.start.unaskable {
            Some(why) => Err(why.clone()),
            None => {
                Ok(Arc::new(Reach::Target { text: self.start.text, mode: self.start.mode, change: self.start.change }))
            }
        };
        for effect in effects {
            for edge in self.graph.below_start(self.start.table) {
                self.add(None, edge, effect, &target);
            }
        }
    }

    /// The branches below a counted node; a level without rows has none.
    fn expand(&mut self, at: usize) {
        let Some(node) = self.nodes.get(at) else {
            return;
        };
        if node.rows == Known::Known(Rows::Exact(0)) {
            return;
        }
        let counted = matches!(node.rows, Known::Known(Rows::Exact(_) | Rows::AtMost(_) | Rows::AtLeast(_)));
        let reach = match &node.rows {
            // Its reason stands there.
            Known::Unknown(_) => Err("the level above is not known".to_owned()),
            _ => node.reach.clone(),
        };
        let (effect, level, own) = (node.effect.clone(), node.level, node.edge);
        let closed = node.reach.as_ref().is_ok_and(|reach| reach.is_closure());
        let below: Vec<&'a Edge> = self
            .graph
            .below(own.child)
            .filter(|edge| effect.carried_by(&edge.key).is_some() && !(closed && std::ptr::eq(*edge, own)))
            .collect();
        let stop = if below.is_empty() {
            None
        } else if level >= limits::CASCADE_LEVELS {
            Some(format!("{} levels", limits::CASCADE_LEVELS))
        } else if self.nodes.len() + below.len() > limits::CASCADE_BRANCHES {
            Some(format!("{} branches", limits::CASCADE_BRANCHES))
        } else {
            None
        };
        if stop.is_some() {
            return self.stop(at, stop);
        }
        for edge in below {
            // Uncounted levels never come to an end by themselves.
            if !counted && self.on_path(at, edge) {
                self.stop(at, Some("cycle".to_owned()));
            } else {
                self.add(Some(at), edge, &effect, &reach);
            }
        }
    }

    fn stop(&mut self, at: usize, why: Option<String>) {
        if let Some(node) = self.nodes.get_mut(at) {
            node.stopped = why;
        }
    }

    fn on_path(&self, from: usize, edge: &Edge) -> bool {
        let mut at = Some(from);
        while let Some(node) = at.and_then(|at| self.nodes.get(at)) {
            if std::ptr::eq(node.edge, edge) {
                return true;
            }
            at = node.above;
        }
        false
    }

    fn add(&mut self, above: Option<usize>, edge: &'a Edge, effect: &Effect, from: &Result<Arc<Reach<'a>>, String>) {
        let Some((action, carried)) = effect.carried_by(&edge.key) else {
            return;
        };
        if self.nodes.len() >= limits::CASCADE_BRANCHES {
            self.left_out = true;
            return;
        }
        let closure = edge.child == edge.parent && *effect == Effect::Delete && carried == Effect::Delete;
        let reach = from.clone().map(|parent| Arc::new(Reach::Below { parent, edge, closure }));
        let level = above.and_then(|above| self.nodes.get(above)).map_or(1, |node| node.level + 1);
        self.nodes.push(Node {
            above,
            level,
            edge,
            action,
            effect: carried,
            reach,
            rows: Known::NotAsked,
            stopped: None,
        });
    }

    async fn count<A: Ask>(&mut self, interview: &mut Interview<'_, A>, at: usize) {
        let Some(node) = self.nodes.get(at) else {
            return;
        };
        let rows = match self.question(node, at, interview.count_bound) {
            Ok(question) => {
                // An UPDATE that leaves a key's value as it is carries nothing on: the count is then a bound.
                match (interview.rows(&question).await, &node.effect, node.action) {
                    (Known::Known(Rows::Exact(n)), Effect::Set(_), _) if n > 0 && !self.below_delete(node) => {
                        Known::Known(Rows::AtMost(n))
                    }
                    (rows, _, _) => rows,
                }
            }
            Err(why) => Known::Unknown(why),
        };
        if let Some(node) = self.nodes.get_mut(at) {
            node.rows = rows;
        }
    }

    /// The keys above go away for certain: every child row is touched.
    fn below_delete(&self, node: &Node<'_>) -> bool {
        match node.above.and_then(|above| self.nodes.get(above)) {
            Some(above) => above.effect == Effect::Delete,
            None => self.effects == [Effect::Delete],
        }
    }

    fn question(&self, node: &Node<'a>, at: usize, bound: u64) -> Result<String, String> {
        let reach = node.reach.as_ref().map_err(Clone::clone)?;
        if node.edge.hidden {
            return Err(format!("row security may hide rows of {} from this user", node.edge.key.child.written));
        }
        let earlier: Vec<&Reach<'a>> = self
            .nodes
            .iter()
            .take(at)
            .filter(|other| other.edge.child == node.edge.child && other.effect.covers(&node.effect))
            .filter_map(|other| other.reach.as_deref().ok())
            .collect();
        let itself = self.graph.is_start(node.edge.child, self.start.table.id)
            && self.effects.iter().all(|effect| effect.covers(&node.effect));
        reach.count(&earlier, itself, bound).ok_or_else(|| "the question would grow too long".to_owned())
    }

    /// Nodes come after the one above them, so the tree folds from the end.
    fn assemble(self) -> Vec<Cascade> {
        let mut below: Vec<Vec<Cascade>> = self.nodes.iter().map(|_| Vec::new()).collect();
        let mut top = Vec::new();
        for (at, node) in self.nodes.into_iter().enumerate().rev() {
            let mut mine = below.get_mut(at).map(std::mem::take).unwrap_or_default();
            mine.reverse();
            let cascade = Cascade {
                key: node.edge.key.clone(),
                action: node.action,
                rows: node.rows,
                below: mine,
                stopped: node.stopped,
            };
            match node.above.and_then(|above| below.get_mut(above)) {
                Some(siblings) => siblings.push(cascade),
                None => top.push(cascade),
            }
        }
        top.reverse();
        top
    }
}
