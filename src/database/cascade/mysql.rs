//! What foreign keys of MySQL and MariaDB carry on from a change: the tree of all levels, each counted on the client's own connection.
//!
//! InnoDB does it below the SQL layer, MySQL from 9.6 on above it; on both no trigger fires for the rows, and no right is asked for. Both stop
//! at 15 levels with an error (tried on MySQL 9.7 and MariaDB 10.11), so a key of a table to itself needs no recursive question here: levels
//! are walked until one adds no row, as in any longer cycle.
//!
//! Invariants: as in the twin above: no row is counted twice, a level that the client may not read is unknown and so is every level below it,
//! nothing is left out silently. Where keys may point here that the user is not shown, the tree is unknown.

use crate::database::Ask;
use crate::database::cascade::{Effect, carries, effects};
use crate::database::catalog::mysql::{self as catalog, Keys, Link};
use crate::database::catalog::odd;
use crate::database::interview::Interview;
use crate::database::quote::mysql::{dotted, ident};
use crate::ground::limits;
use crate::policy::question::{Action, Cascade, Known, Rows, Table, TableKind};
use crate::sql::Product;
use crate::sql::facts::Verb;
use crate::sql::rewrite::mysql::{Source, keys_text};
use std::collections::HashSet;
use std::sync::Arc;

/// The cascade tree below a change; empty when nothing is carried on. `others`: what else the statement deletes. `unaskable`: why no question may be made of the change's own text.
pub(in crate::database) async fn walk<A: Ask>(
    interview: &mut Interview<'_, A>,
    source: &Source<'_>,
    table: &Table,
    others: &[(Source<'_>, &Table)],
    unaskable: Option<String>,
) -> Known<Vec<Cascade>> {
    let effects = effects(source.change, table);
    if effects.is_empty() || table.kind == TableKind::Temporary {
        return Known::Known(Vec::new());
    }
    if table.kind == TableKind::View {
        return match no_key_acts(interview, &effects).await {
            true => Known::Known(Vec::new()),
            false => Known::Unknown("what lies below a view is not followed".to_owned()),
        };
    }
    if let Some(why) = &table.unseen_keys {
        return Known::Unknown(why.clone());
    }
    if !carries(source.change, table) {
        return Known::Known(Vec::new());
    }
    let links = match graph(interview, table).await {
        Ok(links) => links,
        Err(why) => return Known::Unknown(why),
    };
    let inserts = source.change.verb == Verb::Insert;
    let unaskable = unaskable.or(inserts.then(|| "which rows an INSERT would meet is not looked up".to_owned()));
    let target = unaskable.map_or_else(|| Ok(Arc::new(Reach::Target(*source))), Err);
    // Without a key its rows could not be told apart from others: they are counted twice then.
    let told_apart = others.iter().filter(|(other, _)| !other.key.is_empty() && target.is_ok());
    let others: Vec<_> =
        told_apart.map(|(other, table)| ((table.schema.clone(), table.name.clone()), Reach::Target(*other))).collect();
    let mut walk =
        Walk { links: &links, table, effects: &effects, others: &others, nodes: Vec::new(), left_out: false };
    let start = (table.schema.clone(), table.name.clone());
    for effect in &effects {
        for link in links.iter().filter(|link| same(&link.parent, &start)) {
            walk.add(None, link, effect, &target);
        }
    }
    if walk.nodes.is_empty() && !walk.left_out {
        return Known::Unknown(odd());
    }
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

/// No foreign key of the whole server does anything of its own to rows when others are changed so. Only who may see all keys is told.
async fn no_key_acts<A: Ask>(interview: &mut Interview<'_, A>, effects: &[Effect]) -> bool {
    // DICT_FOREIGN_ON_DELETE_CASCADE and SET_NULL, DICT_FOREIGN_ON_UPDATE_CASCADE and SET_NULL.
    let bits = effects.iter().fold(0, |bits, effect| bits | if *effect == Effect::Delete { 3 } else { 12 });
    let keys = if interview.product == Product::MariaDb { "INNODB_SYS_FOREIGN" } else { "INNODB_FOREIGN" };
    let question =
        format!("SELECT CAST(COUNT(*) AS CHAR) AS n FROM information_schema.{keys} f WHERE f.TYPE & {bits} <> 0");
    let answer = interview.ask(&question, None).await;
    answer.is_ok_and(|answer| answer.rows.first().and_then(|row| row.first()?.as_deref()) == Some("0"))
}

/// All keys that can be reached downwards, level by level.
async fn graph<A: Ask>(interview: &mut Interview<'_, A>, table: &Table) -> Result<Vec<Link>, String> {
    interview.open()?;
    let rights = catalog::rights(interview.asker).await;
    let keys = if rights.process() { Keys::Engine } else { Keys::Shown };
    let (mut all, mut seen) = (Vec::new(), HashSet::new());
    let mut open = vec![(table.schema.clone(), table.name.clone())];
    while !open.is_empty() {
        seen.extend(open.iter().cloned());
        let found = catalog::links(interview.asker, interview.product, keys, &open).await?;
        let blind = |link: &&Link| !rights.process() && !rights.sees_database(&link.child.0);
        if let Some(link) = found.iter().find(blind) {
            return Err(format!("this user is not shown all foreign keys of the database {}", link.child.0));
        }
        open = found.iter().map(|link| link.child.clone()).filter(|child| !seen.contains(child)).collect();
        open.sort();
        open.dedup();
        all.extend(found);
        if all.len() > limits::REMOVED_TABLES {
            return Err(format!("more than {} foreign keys carry it on", limits::REMOVED_TABLES));
        }
    }
    Ok(all)
}

/// A set of rows.
enum Reach<'a> {
    /// The rows that the client's change names.
    Target(Source<'a>),
    /// Child rows whose foreign key is among the parent's rows.
    Below { parent: Arc<Reach<'a>>, link: &'a Link },
}

struct Aliases(usize);

impl Aliases {
    fn next(&mut self) -> String {
        self.0 += 1;
        format!("sluice_{}", self.0)
    }
}

impl Reach<'_> {
    /// Counts the rows that none of the earlier sets holds, to one more than the bound. `itself`: nor the change's own rows.
    fn count(&self, earlier: &[&Reach<'_>], itself: bool, bound: u64) -> Option<String> {
        let Reach::Below { link, .. } = self else { return None };
        let mut aliases = Aliases(0);
        let row = aliases.next();
        let mut conditions = vec![self.holds(&row, &mut aliases)?];
        let mut length = 0;
        for other in earlier {
            length += conditions.last().map_or(0, String::len);
            if length > limits::QUESTION_BYTES {
                return None;
            }
            conditions.push(format!("({}) IS NOT TRUE", other.holds(&row, &mut aliases)?));
        }
        if itself {
            conditions.push(format!("({}) IS NOT TRUE", self.is_target(&row, &mut aliases)?));
        }
        let sql = format!(
            "SELECT COUNT(*) FROM (SELECT 1 FROM {} AS {row} WHERE {} LIMIT {}) AS sluice_counted",
            child(link),
            conditions.join(" AND "),
            bound.saturating_add(1)
        );
        (sql.len() <= limits::QUESTION_BYTES).then_some(sql)
    }

    /// A query for these columns of the set's rows, called k1, k2…
    fn keys(&self, columns: &[String], aliases: &mut Aliases) -> Option<String> {
        match self {
            Reach::Target(source) => keys_text(source, columns),
            Reach::Below { link, .. } => {
                let row = aliases.next();
                let each =
                    columns.iter().enumerate().map(|(at, column)| format!("{row}.{} AS k{}", ident(column), at + 1));
                let each = each.collect::<Vec<_>>().join(", ");
                Some(format!("SELECT {each} FROM {} AS {row} WHERE {}", child(link), self.holds(&row, aliases)?))
            }
        }
    }

    /// A condition that is true when the row by this alias, of the link's child table, is in the set.
    fn holds(&self, row: &str, aliases: &mut Aliases) -> Option<String> {
        match self {
            Reach::Target(_) => self.is_target(row, aliases),
            Reach::Below { parent, link } => {
                let keys = parent.keys(&link.key.parent_columns, aliases)?;
                Some(among(row, &link.key.child_columns, &keys, aliases))
            }
        }
    }

    fn is_target(&self, row: &str, aliases: &mut Aliases) -> Option<String> {
        match self {
            Reach::Target(source) if source.key.is_empty() => None,
            Reach::Target(source) => Some(among(row, source.key, &keys_text(source, source.key)?, aliases)),
            Reach::Below { parent, .. } => parent.is_target(row, aliases),
        }
    }
}

fn among(row: &str, columns: &[String], keys: &str, aliases: &mut Aliases) -> String {
    let mine: Vec<String> = columns.iter().map(|column| format!("{row}.{}", ident(column))).collect();
    let names: Vec<String> = (1..=columns.len()).map(|n| format!("k{n}")).collect();
    format!("({}) IN (SELECT {} FROM ({keys}) AS {})", mine.join(", "), names.join(", "), aliases.next())
}

/// One server tells tables apart by case, another writes one table in two ways; to follow one key too many only counts too much.
fn same(one: &(String, String), other: &(String, String)) -> bool {
    one.0.to_lowercase() == other.0.to_lowercase() && one.1.to_lowercase() == other.1.to_lowercase()
}

fn child(link: &Link) -> String {
    dotted(&[link.child.0.clone(), link.child.1.clone()])
}

struct Node<'a> {
    above: Option<usize>,
    level: usize,
    link: &'a Link,
    action: Action,
    effect: Effect,
    /// How to ask for its rows; or why that cannot be.
    reach: Result<Arc<Reach<'a>>, String>,
    rows: Known<Rows>,
    stopped: Option<String>,
}

struct Walk<'a> {
    links: &'a [Link],
    table: &'a Table,
    effects: &'a [Effect],
    /// Tables of which the statement deletes rows itself, and which rows.
    others: &'a [((String, String), Reach<'a>)],
    nodes: Vec<Node<'a>>,
    left_out: bool,
}

impl<'a> Walk<'a> {
    fn add(&mut self, above: Option<usize>, link: &'a Link, effect: &Effect, from: &Result<Arc<Reach<'a>>, String>) {
        let Some((action, effect)) = effect.carried_by(&link.key) else { return };
        if self.nodes.len() >= limits::CASCADE_BRANCHES {
            self.left_out = true;
            return;
        }
        let reach = from.clone().map(|parent| Arc::new(Reach::Below { parent, link }));
        let level = above.and_then(|above| self.nodes.get(above)).map_or(1, |node| node.level + 1);
        self.nodes.push(Node { above, level, link, action, effect, reach, rows: Known::NotAsked, stopped: None });
    }

    async fn count<A: Ask>(&mut self, interview: &mut Interview<'_, A>, at: usize) {
        let Some(node) = self.nodes.get(at) else { return };
        let rows = match self.question(node, at, interview.count_bound) {
            // An UPDATE that leaves a key's value as it is carries nothing on: the count is then a bound.
            Ok((question, sure)) => match (interview.rows(&question).await, &node.effect) {
                (Known::Known(Rows::Exact(n)), effect)
                    if n > 0 && (!sure || matches!(effect, Effect::Set(_)) && !self.below_delete(node)) =>
                {
                    Known::Known(Rows::AtMost(n))
                }
                (rows, _) => rows,
            },
            Err(why) => Known::Unknown(why),
        };
        if let Some(node) = self.nodes.get_mut(at) {
            node.rows = rows;
        }
    }

    /// The question, and whether it leaves out all that other branches count.
    fn question(&self, node: &Node<'a>, at: usize, bound: u64) -> Result<(String, bool), String> {
        let reach = node.reach.as_ref().map_err(Clone::clone)?;
        let covered = |other: &&Node<'a>| other.link.child == node.link.child && other.effect.covers(&node.effect);
        let before = self.nodes.iter().take(at).filter(covered);
        let deleted = self.others.iter().filter(|(table, _)| same(table, &node.link.child)).map(|(_, reach)| reach);
        let earlier: Vec<&Reach<'a>> = before.filter_map(|other| other.reach.as_deref().ok()).chain(deleted).collect();
        let here = (&self.table.schema, &self.table.name) == (&node.link.child.0, &node.link.child.1);
        let own = here && self.effects.iter().all(|effect| effect.covers(&node.effect));
        let itself = own && !self.table.primary_key.is_empty();
        let question =
            reach.count(&earlier, itself, bound).ok_or_else(|| "the question would grow too long".to_owned())?;
        Ok((question, itself || !own))
    }

    /// The keys above go away for certain: every child row is touched.
    fn below_delete(&self, node: &Node<'_>) -> bool {
        match node.above.and_then(|above| self.nodes.get(above)) {
            Some(above) => above.effect == Effect::Delete,
            None => self.effects == [Effect::Delete],
        }
    }

    /// The branches below a counted node; a level without rows has none.
    fn expand(&mut self, at: usize) {
        let Some(node) = self.nodes.get(at) else { return };
        if node.rows == Known::Known(Rows::Exact(0)) {
            return;
        }
        let counted = matches!(node.rows, Known::Known(Rows::Exact(_) | Rows::AtMost(_) | Rows::AtLeast(_)));
        let reach = match &node.rows {
            Known::Unknown(_) => Err("the level above is not known".to_owned()),
            _ => node.reach.clone(),
        };
        let (effect, level, own) = (node.effect.clone(), node.level, node.link);
        let carried = |link: &&Link| same(&link.parent, &own.child) && effect.carried_by(&link.key).is_some();
        let below: Vec<&'a Link> = self.links.iter().filter(carried).collect();
        let stop = match () {
            () if below.is_empty() => return,
            () if level >= limits::CASCADE_LEVELS => Some(format!("{} levels", limits::CASCADE_LEVELS)),
            () if self.nodes.len() + below.len() > limits::CASCADE_BRANCHES => {
                Some(format!("{} branches", limits::CASCADE_BRANCHES))
            }
            // Uncounted levels never come to an end by themselves.
            () if !counted && below.iter().any(|link| self.on_path(at, link)) => Some("cycle".to_owned()),
            () => None,
        };
        if let (Some(_), Some(node)) = (&stop, self.nodes.get_mut(at)) {
            node.stopped = stop;
            return;
        }
        for link in below {
            self.add(Some(at), link, &effect, &reach);
        }
    }

    fn on_path(&self, from: usize, link: &Link) -> bool {
        let mut at = Some(from);
        while let Some(node) = at.and_then(|at| self.nodes.get(at)) {
            if std::ptr::eq(node.link, link) {
                return true;
            }
            at = node.above;
        }
        false
    }

    /// Nodes come after the one above them, so the tree folds from the end.
    fn assemble(self) -> Vec<Cascade> {
        let mut below: Vec<Vec<Cascade>> = self.nodes.iter().map(|_| Vec::new()).collect();
        let mut top = Vec::new();
        for (at, node) in self.nodes.into_iter().enumerate().rev() {
            let mut mine = below.get_mut(at).map(std::mem::take).unwrap_or_default();
            mine.reverse();
            let (key, action, rows, stopped) = (node.link.key.clone(), node.action, node.rows, node.stopped);
            let cascade = Cascade { key, action, rows, below: mine, stopped };
            match node.above.and_then(|above| below.get_mut(above)) {
                Some(siblings) => siblings.push(cascade),
                None => top.push(cascade),
            }
        }
        top.reverse();
        top
    }
}
