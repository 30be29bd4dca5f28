//! The facts of one statement, from PostgreSQL's parse tree.
//!
//! Invariant: a kind of statement that is not named here is [`Kind::Other`] with the authority's own name, and a change that the walk
//! did not meet but the census did makes the statement unread.

use crate::sql::dialect::postgres::changes::Found;
use crate::sql::dialect::postgres::clauses::Source;
use crate::sql::dialect::postgres::{census, removals, settings};
use crate::sql::facts::{Execution, Facts, Kind, Nesting, TransactionVerb};
use crate::sql::lexer::{self, Token};
use pg_query::NodeEnum;
use pg_query::protobuf::{DiscardMode, ExplainStmt, Node, RawStmt, TransactionStmtKind};
use std::collections::BTreeSet;

/// Reads one statement: `text` is the statement's, `offset` where it begins in the text that was parsed.
pub fn gather(raw: &RawStmt, text: &str, tokens: &[Token], offset: usize) -> Facts {
    let found = Found { source: Source { text, tokens }, offset, changes: Vec::new(), hidden: BTreeSet::new() };
    let mut reader = Reader { found, facts: Facts::default(), excused: 0 };
    if let Some(node) = &raw.stmt {
        reader.statement(node, Nesting::Outer);
    }
    let counted = census::take(raw);
    let mut facts = reader.finish(&counted);
    facts.parameters = tokens.iter().filter(|token| token.kind == lexer::Kind::Parameter).filter_map(|token| token.text(text).get(1..)?.parse().ok()).max().unwrap_or(0);
    settings::from_calls(text, tokens, &mut facts);
    facts
}

struct Reader<'t> {
    found: Found<'t>,
    facts: Facts,
    /// Changes in parts that do not run now: bodies of rules, views and functions, plain EXPLAIN.
    excused: usize,
}

impl Reader<'_> {
    fn finish(self, counted: &census::Census) -> Facts {
        let Reader { mut found, mut facts, excused } = self;
        found.changes.sort_by_key(|(place, _)| *place);
        facts.changes = found.changes.into_iter().map(|(_, change)| change).collect();
        let met = facts.changes.iter().filter(|change| change.verb != crate::sql::facts::Verb::CopyIn).count();
        if met + excused != counted.changes() {
            let words = format!("{} changes counted in the statement, {} understood", counted.changes(), met + excused);
            facts.unread.get_or_insert(words);
        }
        facts.functions = counted.functions.iter().cloned().collect();
        facts
    }

    /// The text's own statement, or one that a wrapper runs.
    fn statement(&mut self, node: &Node, nesting: Nesting) {
        let Some(inner) = node.node.as_ref() else { return };
        match inner {
            NodeEnum::SelectStmt(select) => {
                self.found.statement(node, nesting);
                let into = select.into_clause.is_some() || select.larg.as_ref().is_some_and(|left| leftmost_into(left));
                self.facts.kind = if into { Kind::Create } else { self.kind_of_changes() };
                self.facts.changes_session |= into;
            }
            NodeEnum::InsertStmt(_) => self.change(node, nesting, Kind::Insert),
            NodeEnum::UpdateStmt(_) => self.change(node, nesting, Kind::Update),
            NodeEnum::DeleteStmt(_) => self.change(node, nesting, Kind::Delete),
            NodeEnum::MergeStmt(_) => self.change(node, nesting, Kind::Merge),
            NodeEnum::ExplainStmt(explain) => self.explain(explain),
            NodeEnum::DeclareCursorStmt(declare) => self.inside(declare.query.as_deref(), nesting),
            NodeEnum::PrepareStmt(prepare) => {
                self.inside(prepare.query.as_deref(), Nesting::Prepare);
                (self.facts.kind, self.facts.prepares) = (Kind::Prepare, Some(prepare.name.clone()));
                self.facts.changes_session = true;
            }
            NodeEnum::ExecuteStmt(execute) => {
                let arguments = self.execution_arguments();
                self.facts.executes = Some(Execution { name: execute.name.clone(), arguments });
                self.set(Kind::Execute, true);
            }
            NodeEnum::CreateTableAsStmt(create) => {
                self.inside(create.query.as_deref(), if nesting == Nesting::Outer { Nesting::Cte } else { nesting });
                self.set(Kind::Create, true);
            }
            NodeEnum::CopyStmt(copy) => {
                match &copy.relation {
                    Some(relation) if copy.is_from => self.found.copy_in(relation, nesting),
                    _ => self.inside(copy.query.as_deref(), Nesting::Copy),
                }
                self.facts.kind = Kind::Copy;
            }
            NodeEnum::TransactionStmt(transaction) => {
                self.facts.kind = Kind::Transaction;
                self.facts.transaction = verb(transaction.kind);
                let prepared = matches!(self.facts.transaction, Some(TransactionVerb::CommitPrepared | TransactionVerb::RollbackPrepared));
                self.facts.outside_transaction_only = prepared;
                if self.facts.transaction.is_none() {
                    self.facts.unread = Some(String::from("an unknown transaction command"));
                }
            }
            NodeEnum::FetchStmt(_) | NodeEnum::ClosePortalStmt(_) | NodeEnum::VariableShowStmt(_) => self.facts.kind = Kind::Read,
            NodeEnum::DeallocateStmt(_) => {
                self.facts.forgets_prepared = true;
                self.set(Kind::Other(String::from("DeallocateStmt")), true);
            }
            NodeEnum::DiscardStmt(discard) => {
                self.facts.forgets_prepared = true;
                self.facts.outside_transaction_only = DiscardMode::try_from(discard.target) == Ok(DiscardMode::DiscardAll);
                self.set(Kind::Other(String::from("DiscardStmt")), true);
            }
            NodeEnum::DoStmt(_) => self.set(Kind::Do, true),
            NodeEnum::CallStmt(_) => self.set(Kind::Call, true),
            NodeEnum::GrantStmt(_) | NodeEnum::GrantRoleStmt(_) | NodeEnum::AlterDefaultPrivilegesStmt(_) => self.set(Kind::Grant, true),
            other => self.definition(other),
        }
    }

    fn set(&mut self, kind: Kind, changes_session: bool) {
        (self.facts.kind, self.facts.changes_session) = (kind, changes_session);
    }

    fn change(&mut self, node: &Node, nesting: Nesting, kind: Kind) {
        self.found.statement(node, nesting);
        self.facts.kind = kind;
    }

    fn inside(&mut self, query: Option<&Node>, nesting: Nesting) {
        if let Some(query) = query {
            self.statement(query, nesting);
        }
    }

    /// A SELECT that carries changes is called by the first of them, so that nobody takes it for a read.
    fn kind_of_changes(&self) -> Kind {
        use crate::sql::facts::Verb;
        match self.found.changes.first().map(|(_, change)| change.verb) {
            None => Kind::Read,
            Some(Verb::Insert | Verb::CopyIn) => Kind::Insert,
            Some(Verb::Update) => Kind::Update,
            Some(Verb::Delete) => Kind::Delete,
            Some(Verb::Merge { .. }) => Kind::Merge,
        }
    }

    /// EXPLAIN only plans, unless ANALYZE runs the statement.
    fn explain(&mut self, explain: &ExplainStmt) {
        if runs(explain) {
            self.inside(explain.query.as_deref(), Nesting::Explain);
        } else {
            self.excused += explain.query.as_deref().map_or(0, |query| census::take(query).changes());
            self.facts.kind = Kind::Read;
        }
    }

    /// EXECUTE name (…), also under EXPLAIN and CREATE TABLE … AS: the arguments behind the last EXECUTE.
    fn execution_arguments(&self) -> Vec<String> {
        let Source { text, tokens } = &self.found.source;
        let execute = tokens.iter().rposition(|token| token.is_word(text, "execute"));
        execute.map_or_else(Vec::new, |index| self.found.source.arguments(index + 2))
    }

    /// Everything else: settings, removals and definitions. Changes in it belong to bodies that do not run now.
    fn definition(&mut self, node: &NodeEnum) {
        self.excused += census::take(node).changes();
        let name = census::kind(node);
        settings::gather(node, &mut self.facts);
        removals::gather(node, &mut self.facts);
        self.facts.outside_transaction_only = outside_transaction_only(node);
        let reads_nothing_else = matches!(node, NodeEnum::NotifyStmt(_) | NodeEnum::ListenStmt(_) | NodeEnum::UnlistenStmt(_));
        let kind = kind_by_name(node, name);
        self.set(kind, !reads_nothing_else);
    }
}

fn kind_by_name(node: &NodeEnum, name: &'static str) -> Kind {
    match node {
        NodeEnum::TruncateStmt(_) => Kind::Truncate,
        NodeEnum::VariableSetStmt(_) | NodeEnum::ConstraintsSetStmt(_) => Kind::Set,
        NodeEnum::DefineStmt(_) | NodeEnum::ViewStmt(_) | NodeEnum::IndexStmt(_) | NodeEnum::RuleStmt(_) | NodeEnum::CompositeTypeStmt(_) => Kind::Create,
        NodeEnum::RenameStmt(_) => Kind::Alter,
        _ if name.starts_with("Create") => Kind::Create,
        _ if name.starts_with("Alter") => Kind::Alter,
        _ if name.starts_with("Drop") => Kind::Drop,
        _ => Kind::Other(String::from(name)),
    }
}

/// ANALYZE without a value, or with one that PostgreSQL's `defGetBoolean` does not take for false. Given twice, the last counts for
/// the server; any that is true counts here.
fn runs(explain: &ExplainStmt) -> bool {
    explain.options.iter().any(|node| match node.node.as_ref() {
        Some(NodeEnum::DefElem(option)) if option.defname == "analyze" => !is_false(option.arg.as_deref()),
        _ => false,
    })
}

fn is_false(value: Option<&Node>) -> bool {
    match value.and_then(|node| node.node.as_ref()) {
        Some(NodeEnum::Integer(number)) => number.ival == 0,
        Some(NodeEnum::Boolean(boolean)) => !boolean.boolval,
        Some(NodeEnum::String(word)) => word.sval.eq_ignore_ascii_case("false") || word.sval.eq_ignore_ascii_case("off"),
        _ => false,
    }
}

fn leftmost_into(select: &pg_query::protobuf::SelectStmt) -> bool {
    let mut select = select;
    loop {
        if select.into_clause.is_some() {
            return true;
        }
        match &select.larg {
            Some(left) => select = left,
            None => return false,
        }
    }
}

fn verb(kind: i32) -> Option<TransactionVerb> {
    use TransactionStmtKind as K;
    Some(match K::try_from(kind).ok()? {
        K::TransStmtBegin | K::TransStmtStart => TransactionVerb::Begin,
        K::TransStmtCommit => TransactionVerb::Commit,
        K::TransStmtRollback => TransactionVerb::Rollback,
        K::TransStmtSavepoint => TransactionVerb::Savepoint,
        K::TransStmtRelease => TransactionVerb::Release,
        K::TransStmtRollbackTo => TransactionVerb::RollbackTo,
        K::TransStmtPrepare => TransactionVerb::PrepareTransaction,
        K::TransStmtCommitPrepared => TransactionVerb::CommitPrepared,
        K::TransStmtRollbackPrepared => TransactionVerb::RollbackPrepared,
        K::Undefined => return None,
    })
}

/// What `PreventInTransactionBlock` guards in PostgreSQL 18's `utility.c` and the commands it calls.
fn outside_transaction_only(node: &NodeEnum) -> bool {
    let option = |options: &[Node], name: &str| {
        options.iter().any(|node| matches!(node.node.as_ref(), Some(NodeEnum::DefElem(option)) if option.defname == name && !is_false(option.arg.as_deref())))
    };
    match node {
        NodeEnum::VacuumStmt(vacuum) => vacuum.is_vacuumcmd,
        NodeEnum::CreatedbStmt(_) | NodeEnum::DropdbStmt(_) | NodeEnum::CreateTableSpaceStmt(_) | NodeEnum::DropTableSpaceStmt(_) => true,
        NodeEnum::AlterSystemStmt(_) | NodeEnum::CreateSubscriptionStmt(_) | NodeEnum::DropSubscriptionStmt(_) => true,
        NodeEnum::IndexStmt(index) => index.concurrent,
        NodeEnum::DropStmt(drop) => drop.concurrent,
        NodeEnum::ReindexStmt(reindex) => reindex.relation.is_none() || option(&reindex.params, "concurrently"),
        NodeEnum::ClusterStmt(cluster) => cluster.relation.is_none(),
        NodeEnum::AlterDatabaseStmt(alter) => option(&alter.options, "tablespace"),
        NodeEnum::AlterTableStmt(alter) => alter.cmds.iter().any(|node| match node.node.as_ref() {
            Some(NodeEnum::AlterTableCmd(command)) => {
                matches!(command.def.as_ref().and_then(|node| node.node.as_ref()), Some(NodeEnum::PartitionCmd(partition)) if partition.concurrent)
            }
            _ => false,
        }),
        _ => false,
    }
}
