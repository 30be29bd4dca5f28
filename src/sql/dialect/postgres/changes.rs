//! The changes a statement carries, nested ones included, from PostgreSQL's parse tree.
//!
//! Invariant: every INSERT, UPDATE, DELETE and MERGE that the server would run is either in [`Found::changes`] or makes the statement
//! unread: what is found here is counted against the census of the whole tree.

use crate::sql::dialect::postgres::again;
use crate::sql::dialect::postgres::clauses::{Source, Wanted};
use crate::sql::dialect::postgres::names;
use crate::sql::dialect::postgres::term::{Other, Scope, condition};
use crate::sql::facts::{Again, Change, Clauses, Nesting, OnConflict, Restriction, Source as Rows, Verb};
use crate::sql::predicate;
use pg_query::NodeEnum;
use pg_query::protobuf::{
    CmdType, DeleteStmt, InsertStmt, MergeMatchKind, MergeStmt, MergeWhenClause, Node, OnConflictAction, RangeVar,
    SelectStmt, UpdateStmt, WithClause,
};
use std::collections::BTreeSet;
use std::ops::Range;

/// What a walk over a statement found.
pub struct Found<'t> {
    pub source: Source<'t>,
    /// Where the statement begins in the text that was parsed.
    pub offset: usize,
    /// With the place of each in the text, to sort by.
    pub changes: Vec<(usize, Change)>,
    /// What a second run of each would do, with the same places.
    pub again: Vec<(usize, Again)>,
    /// Names of all common table expressions in the statement.
    pub hidden: BTreeSet<String>,
}

impl Found<'_> {
    /// Takes in a statement that may carry changes; others carry none.
    pub fn statement(&mut self, node: &Node, nesting: Nesting) {
        match node.node.as_ref() {
            Some(NodeEnum::SelectStmt(select)) => self.select(select, nesting),
            Some(NodeEnum::InsertStmt(insert)) => self.insert(insert, nesting),
            Some(NodeEnum::UpdateStmt(update)) => self.update(update, nesting),
            Some(NodeEnum::DeleteStmt(delete)) => self.delete(delete, nesting),
            Some(NodeEnum::MergeStmt(merge)) => self.merge(merge, nesting),
            _ => {}
        }
    }

    fn select(&mut self, select: &SelectStmt, nesting: Nesting) {
        self.with(select.with_clause.as_ref(), nesting);
        for side in [&select.larg, &select.rarg].into_iter().flatten() {
            self.select(side, nesting);
        }
    }

    fn with(&mut self, with: Option<&WithClause>, nesting: Nesting) {
        let inner = if nesting == Nesting::Outer { Nesting::Cte } else { nesting };
        for node in with.iter().flat_map(|with| &with.ctes) {
            if let Some(NodeEnum::CommonTableExpr(table)) = node.node.as_ref() {
                self.hidden.insert(table.ctename.clone());
            }
        }
        for node in with.iter().flat_map(|with| &with.ctes) {
            if let Some(NodeEnum::CommonTableExpr(table)) = node.node.as_ref()
                && let Some(query) = &table.ctequery
            {
                self.statement(query, inner);
            }
        }
    }

    fn place(&self, relation: &RangeVar) -> usize {
        usize::try_from(relation.location).unwrap_or_default().saturating_sub(self.offset)
    }

    fn push(&mut self, verb: Verb, relation: &RangeVar, nesting: Nesting) -> Option<&mut Change> {
        let change = Change {
            verb,
            target: names::relation(relation),
            called: names::quoted(names::alias(relation)),
            only: !relation.inh,
            restriction: Restriction::NotApplicable,
            pinned_if: Vec::new(),
            limit: None,
            assignments: Vec::new(),
            source: Rows::None,
            on_conflict: OnConflict::Fails,
            nesting,
            clauses: None,
        };
        let place = self.place(relation);
        self.changes.push((place, change));
        self.again.push((place, Again::Same));
        self.changes.last_mut().map(|(_, change)| change)
    }

    /// Of the change that was found last.
    fn again(&mut self, found: Again) {
        if let Some((_, again)) = self.again.last_mut() {
            *again = found;
        }
    }

    pub fn copy_in(&mut self, relation: &RangeVar, nesting: Nesting) {
        if let Some(change) = self.push(Verb::CopyIn, relation, nesting) {
            change.source = Rows::Stream;
        }
    }

    fn insert(&mut self, insert: &InsertStmt, nesting: Nesting) {
        let alone = insert.with_clause.is_none() && nesting == Nesting::Outer && self.hidden.is_empty();
        self.with(insert.with_clause.as_ref(), nesting);
        let rows = match insert.select_stmt.as_ref().and_then(|node| node.node.as_ref()) {
            None => Rows::Values(1), // DEFAULT VALUES
            Some(NodeEnum::SelectStmt(select)) if !select.values_lists.is_empty() => {
                Rows::Values(select.values_lists.len() as u64)
            }
            Some(_) => Rows::Select,
        };
        if let Some(select) = &insert.select_stmt {
            self.statement(select, nesting);
        }
        let Some(relation) = &insert.relation else {
            return;
        };
        let conflict = insert.on_conflict_clause.as_deref();
        let action = match conflict.map(|clause| OnConflictAction::try_from(clause.action)) {
            None | Some(Ok(OnConflictAction::OnconflictNone)) => OnConflict::Fails,
            Some(Ok(OnConflictAction::OnconflictNothing)) => OnConflict::Nothing,
            Some(_) => OnConflict::Updates,
        };
        let conflict_at = conflict
            .and_then(|clause| usize::try_from(clause.location).ok())
            .and_then(|at| self.source.at(at.checked_sub(self.offset)?));
        let set = conflict_at.and_then(|index| self.source.conflict_set(index));
        let assignments = conflict.map_or_else(Vec::new, |clause| self.source.assignments(set, &clause.target_list));
        let again = match (action, rows) {
            (OnConflict::Fails, Rows::Values(_)) => Again::Adds,
            (OnConflict::Updates, _) => conflict.map_or(Again::Same, |clause| {
                again::of_update(&clause.target_list, clause.where_clause.as_deref(), &self.scope(relation, &[]))
            }),
            _ => Again::Same,
        };
        // Counted are only the rows of an upsert: what only adds is not asked about.
        let wanted = alone && rows == Rows::Select && action == OnConflict::Updates;
        let query = conflict_at
            .filter(|_| wanted)
            .and_then(|end| self.source.inserted_query(self.place(relation), !insert.cols.is_empty(), end))
            .map(|target| Clauses { target, ..Clauses::default() });
        if let Some(change) = self.push(Verb::Insert, relation, nesting) {
            (change.source, change.on_conflict, change.assignments) = (rows, action, assignments);
            change.clauses = query;
        }
        self.again(again);
    }

    fn delete(&mut self, delete: &DeleteStmt, nesting: Nesting) {
        self.with(delete.with_clause.as_ref(), nesting);
        let Some(relation) = &delete.relation else {
            return;
        };
        let wanted = self.wanted(relation, "delete", &delete.using_clause, delete.where_clause.as_deref());
        let restriction = self.restriction(relation, &delete.using_clause, delete.where_clause.as_deref());
        let parts = self.source.parts(&wanted);
        let clauses =
            parts.and_then(|parts| self.clauses(parts.clauses, parts.verb, delete.with_clause.as_ref(), &restriction));
        if let Some(change) = self.push(Verb::Delete, relation, nesting) {
            (change.restriction, change.clauses) = (restriction, clauses);
        }
    }

    fn update(&mut self, update: &UpdateStmt, nesting: Nesting) {
        self.with(update.with_clause.as_ref(), nesting);
        let Some(relation) = &update.relation else {
            return;
        };
        let wanted = self.wanted(relation, "update", &update.from_clause, update.where_clause.as_deref());
        let restriction = self.restriction(relation, &update.from_clause, update.where_clause.as_deref());
        let parts = self.source.parts(&wanted);
        let assignments =
            self.source.assignments(parts.as_ref().and_then(|parts| parts.set.clone()), &update.target_list);
        let clauses =
            parts.and_then(|parts| self.clauses(parts.clauses, parts.verb, update.with_clause.as_ref(), &restriction));
        let scope = self.scope(relation, &update.from_clause);
        let again = again::of_update(&update.target_list, update.where_clause.as_deref(), &scope);
        if let Some(change) = self.push(Verb::Update, relation, nesting) {
            (change.restriction, change.clauses, change.assignments) = (restriction, clauses, assignments);
        }
        self.again(again);
    }

    fn wanted(&self, relation: &RangeVar, verb: &'static str, from: &[Node], condition: Option<&Node>) -> Wanted {
        Wanted { relation: self.place(relation), verb, joined: !from.is_empty(), conditional: condition.is_some() }
    }

    /// The WITH a change stands under is a part of every question about its rows; where it holds changes itself, or the change is
    /// one of its own members, no question can be built.
    fn clauses(
        &self,
        clauses: Clauses,
        verb: usize,
        with: Option<&WithClause>,
        restriction: &Restriction,
    ) -> Option<Clauses> {
        if matches!(restriction, Restriction::CurrentOf { .. }) {
            return None;
        }
        let inside = self.hidden.len() > with.map_or(0, |with| with.ctes.len());
        let Some(with) = with else {
            return if inside { self.beside_tables(clauses) } else { Some(clauses) };
        };
        let first = self.source.at(usize::try_from(with.location).ok()?.checked_sub(self.offset)?)?;
        let span: Range<usize> = self.source.bytes(first..verb)?;
        let holds_change = self.changes.iter().any(|(place, _)| span.contains(place));
        (!inside && !holds_change).then_some(Clauses { with: Some(span), ..clauses })
    }

    /// A change inside a WITH: fine as long as it does not read one of the WITH's other tables.
    fn beside_tables(&self, clauses: Clauses) -> Option<Clauses> {
        let spans = [Some(&clauses.target), clauses.from.as_ref(), clauses.condition.as_ref()];
        let names_one = spans.into_iter().flatten().any(|span| {
            let within = self.source.tokens.iter().filter(|token| span.contains(&token.start));
            within
                .filter_map(|token| crate::sql::lexer::folded(token.text(self.source.text)))
                .any(|name| self.hidden.contains(&name))
        });
        (!names_one).then_some(clauses)
    }

    fn restriction(&self, relation: &RangeVar, from: &[Node], inner: Option<&Node>) -> Restriction {
        if let Some(NodeEnum::CurrentOfExpr(current)) = inner.and_then(|node| node.node.as_ref()) {
            return Restriction::CurrentOf { cursor: current.cursor_name.clone() };
        }
        let scope = self.scope(relation, from);
        predicate::restriction(inner.map(|inner| condition(inner, &scope)).as_ref(), scope.joined)
    }

    fn scope<'r>(&self, relation: &'r RangeVar, from: &[Node]) -> Scope<'r> {
        let mut scope = Scope {
            target: relation,
            joined: !from.is_empty(),
            from: Vec::new(),
            hidden: self.hidden.clone(),
            also: Vec::new(),
        };
        scope.from = from.iter().flat_map(|node| others(node, &scope)).collect();
        scope
    }

    fn merge(&mut self, merge: &MergeStmt, nesting: Nesting) {
        self.with(merge.with_clause.as_ref(), nesting);
        let Some(relation) = &merge.relation else {
            return;
        };
        let clauses: Vec<&MergeWhenClause> = merge.merge_when_clauses.iter().filter_map(|node| as_when(node)).collect();
        let may = |wanted: CmdType| clauses.iter().any(|clause| CmdType::try_from(clause.command_type) == Ok(wanted));
        let verb = Verb::Merge { updates: may(CmdType::CmdUpdate), deletes: may(CmdType::CmdDelete) };
        let from = merge.source_relation.as_deref().map(std::slice::from_ref).unwrap_or_default();
        let restriction = self.merge_restriction(relation, from, merge.join_condition.as_deref(), &clauses);
        let assignments =
            clauses.iter().filter(|clause| CmdType::try_from(clause.command_type) == Ok(CmdType::CmdUpdate));
        let assignments = assignments.flat_map(|clause| self.source.assignments(None, &clause.target_list)).collect();
        let again = self.merge_again(relation, from, &clauses);
        if let Some(change) = self.push(verb, relation, nesting) {
            (change.restriction, change.assignments, change.source) = (restriction, assignments, Rows::Select);
        }
        self.again(again);
    }

    /// What any of its UPDATE clauses builds on.
    fn merge_again(&self, relation: &RangeVar, from: &[Node], clauses: &[&MergeWhenClause]) -> Again {
        let scope = self.scope(relation, from);
        let each =
            clauses.iter().map(|clause| again::of_update(&clause.target_list, clause.condition.as_deref(), &scope));
        each.into_iter().find(|again| *again != Again::Same).unwrap_or_default()
    }

    /// The least restricted of its clauses that update or delete: a matched row is chosen by ON and the clause's own condition, a
    /// row that the source does not match by the latter alone.
    fn merge_restriction(
        &self,
        relation: &RangeVar,
        from: &[Node],
        on: Option<&Node>,
        clauses: &[&MergeWhenClause],
    ) -> Restriction {
        let harmful = clauses.iter().filter(|clause| {
            matches!(CmdType::try_from(clause.command_type), Ok(CmdType::CmdUpdate | CmdType::CmdDelete))
        });
        let scope = self.scope(relation, from);
        let each = harmful.map(|clause| {
            let own = clause.condition.as_deref().map(|inner| condition(inner, &scope));
            if MergeMatchKind::try_from(clause.match_kind) == Ok(MergeMatchKind::MergeWhenNotMatchedBySource) {
                return match predicate::restriction(own.as_ref(), true) {
                    Restriction::Nothing { .. } => Restriction::Nothing {
                        why: String::from("WHEN NOT MATCHED BY SOURCE reaches every row without a match"),
                    },
                    other => other,
                };
            }
            let both: Vec<predicate::Term> = on.map(|on| condition(on, &scope)).into_iter().chain(own).collect();
            predicate::restriction(Some(&predicate::Term::And(both)), true)
        });
        each.min_by_key(strength).unwrap_or(Restriction::NotApplicable)
    }
}

fn strength(restriction: &Restriction) -> u8 {
    match restriction {
        Restriction::Nothing { .. } => 0,
        Restriction::AlwaysTrue { .. } => 1,
        Restriction::AlwaysTrueIfNotNull { .. } | Restriction::AlwaysTrueIf { .. } => 2,
        Restriction::Restricts { .. } => 3,
        Restriction::CurrentOf { .. } | Restriction::NotApplicable => 4,
    }
}

fn as_when(node: &Node) -> Option<&MergeWhenClause> {
    match node.node.as_ref()? {
        NodeEnum::MergeWhenClause(clause) => Some(clause),
        _ => None,
    }
}

/// The relations of one FROM item by the names expressions call them.
fn others(node: &Node, scope: &Scope) -> Vec<Other> {
    let named = |called: &str| vec![Other { called: String::from(called), is_target: false }];
    match node.node.as_ref() {
        Some(NodeEnum::RangeVar(relation)) => {
            vec![Other { called: String::from(names::alias(relation)), is_target: scope.is_target(relation) }]
        }
        Some(NodeEnum::RangeSubselect(subselect)) => {
            subselect.alias.as_ref().map_or_else(Vec::new, |alias| named(&alias.aliasname))
        }
        Some(NodeEnum::RangeFunction(function)) => {
            function.alias.as_ref().map_or_else(Vec::new, |alias| named(&alias.aliasname))
        }
        Some(NodeEnum::JoinExpr(join)) => {
            // Below a join a relation may have lost rows, so it no longer stands for the whole table.
            let sides = [&join.larg, &join.rarg].into_iter().flatten().flat_map(|side| others(side, scope));
            let mut all: Vec<Other> = sides.map(|other| Other { is_target: false, ..other }).collect();
            all.extend(join.alias.iter().flat_map(|alias| named(&alias.aliasname)));
            all
        }
        _ => Vec::new(),
    }
}
