//! The facts of one statement, from PostgreSQL's parse tree.
//!
//! Invariant: a kind of statement that is not named here is [`Kind::Other`] with the authority's own name, and a change that the walk
//! did not meet but the census did makes the statement unread.

use crate::sql::dialect::postgres::changes::Found;
use crate::sql::dialect::postgres::clauses::Source;
use crate::sql::dialect::postgres::{acts, census, names, removals, settings};
use crate::sql::facts::{ActKind, Execution, Facts, Kind, Nesting, TransactionVerb, Verb};
use crate::sql::lexer::{self, Token};
use pg_query::NodeEnum;
use pg_query::protobuf::{DiscardMode, ExplainStmt, Node, RangeVar, RawStmt, TransactionStmtKind};
use std::collections::BTreeSet;

/// Reads one statement: `text` is the statement's, `offset` where it begins in the text that was parsed.
pub fn gather(raw: &RawStmt, text: &str, tokens: &[Token], offset: usize) -> Facts {
    let found = Found {
        source: Source { text, tokens },
        offset,
        changes: Vec::new(),
        again: Vec::new(),
        hidden: BTreeSet::new(),
    };
    let mut reader = Reader { found, facts: Facts::default(), excused: 0 };
    if let Some(node) = &raw.stmt {
        reader.statement(node, Nesting::Outer);
    }
    let counted = census::take(raw);
    let mut facts = reader.finish(&counted);
    facts.parameters = tokens
        .iter()
        .filter(|token| token.kind == lexer::Kind::Parameter)
        .filter_map(|token| token.text(text).get(1..)?.parse().ok())
        .max()
        .unwrap_or(0);
    settings::from_calls(text, tokens, &mut facts);
    acts::from_calls(&mut facts);
    facts.pages_by_offset = acts::pages(&counted, fences(text, tokens));
    facts
}

/// Said so, or put into the schema of the session's own tables.
fn is_temporary(relation: Option<&RangeVar>) -> bool {
    relation.is_some_and(|relation| relation.relpersistence == "t" || relation.schemaname == "pg_temp")
}

/// OFFSET 0 skips nothing.
fn fences(text: &str, tokens: &[Token]) -> usize {
    tokens.windows(2).filter(|pair| pair[0].is_word(text, "offset") && pair[1].text(text) == "0").count()
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
        found.again.sort_by_key(|(place, _)| *place);
        facts.again = found.again.into_iter().map(|(_, again)| again).collect();
        facts.changes = found.changes.into_iter().map(|(_, change)| change).collect();
        let met = facts.changes.iter().filter(|change| change.verb != Verb::CopyIn).count();
        if met + excused != counted.changes() {
            let words = format!("{} changes counted in the statement, {} understood", counted.changes(), met + excused);
            facts.unread.get_or_insert(words);
        }
        facts.functions = counted.functions.iter().cloned().collect();
        if let [change] = &facts.changes[..]
            && matches!(change.verb, Verb::Update | Verb::Delete)
        {
            let parts = |relation: &[String; 3]| -> Vec<String> {
                relation.iter().filter(|part| !part.is_empty()).cloned().collect()
            };
            let mut named: Vec<_> = counted.relations.iter().map(|relation| names::name(parts(relation))).collect();
            if let Some(own) = named.iter().position(|name| name.parts == change.target.parts) {
                named.remove(own);
                facts.reads = Some(named);
            }
        }
        facts
    }

    /// The text's own statement, or one that a wrapper runs.
    fn statement(&mut self, node: &Node, nesting: Nesting) {
        let Some(inner) = node.node.as_ref() else {
            return;
        };
        match inner {
            NodeEnum::SelectStmt(select) => {
                self.found.statement(node, nesting);
                let into = select.into_clause.is_some() || select.larg.as_ref().is_some_and(|left| leftmost_into(left));
                self.facts.kind = if into { Kind::Create } else { self.kind_of_changes() };
                self.facts.temporary = select.into_clause.as_ref().is_some_and(|into| is_temporary(into.rel.as_ref()));
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
                self.facts.temporary = create.into.as_ref().is_some_and(|into| is_temporary(into.rel.as_ref()));
                self.inside(create.query.as_deref(), if nesting == Nesting::Outer { Nesting::Cte } else { nesting });
                self.set(Kind::Create, true);
            }
            NodeEnum::CopyStmt(copy) => {
                match &copy.relation {
                    Some(relation) if copy.is_from => self.found.copy_in(relation, nesting),
                    _ => self.inside(copy.query.as_deref(), Nesting::Copy),
                }
                acts::copied(copy, &mut self.facts);
                self.facts.kind = Kind::Copy;
            }
            NodeEnum::TransactionStmt(transaction) => {
                self.facts.kind = Kind::Transaction;
                self.facts.transaction = verb(transaction.kind);
                let prepared = matches!(
                    self.facts.transaction,
                    Some(TransactionVerb::CommitPrepared | TransactionVerb::RollbackPrepared)
                );
                self.facts.outside_transaction_only = prepared;
                if self.facts.transaction.is_none() {
                    self.facts.unread = Some(String::from("an unknown transaction command"));
                }
            }
            NodeEnum::FetchStmt(_) | NodeEnum::ClosePortalStmt(_) | NodeEnum::VariableShowStmt(_) => {
                self.facts.kind = Kind::Read
            }
            NodeEnum::DeallocateStmt(_) => {
                self.facts.forgets_prepared = true;
                self.set(Kind::Other(String::from("DeallocateStmt")), true);
            }
            NodeEnum::DiscardStmt(discard) => {
                self.facts.forgets_prepared = true;
                self.facts.outside_transaction_only =
                    DiscardMode::try_from(discard.target) == Ok(DiscardMode::DiscardAll);
                self.set(Kind::Other(String::from("DiscardStmt")), true);
            }
            NodeEnum::DoStmt(_) => self.set(Kind::Do, true),
            NodeEnum::CallStmt(_) => self.set(Kind::Call, true),
            NodeEnum::GrantStmt(grant) => {
                acts::granted(grant, &mut self.facts);
                self.set(Kind::Grant, true)
            }
            NodeEnum::GrantRoleStmt(grant) => {
                acts::membership(grant.is_grant, &grant.grantee_roles, &mut self.facts);
                self.set(Kind::Grant, true)
            }
            NodeEnum::AlterDefaultPrivilegesStmt(_) => {
                let words = String::from("the rights on every object to come (ALTER DEFAULT PRIVILEGES)");
                acts::push(&mut self.facts, ActKind::Rights, words);
                self.set(Kind::Grant, true)
            }
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

    /// Everything else: settings, removals and definitions. Changes are only excused in bodies that do not run now.
    fn definition(&mut self, node: &NodeEnum) {
        if matches!(
            node,
            NodeEnum::RuleStmt(_)
                | NodeEnum::CreateFunctionStmt(_)
                | NodeEnum::ViewStmt(_)
                | NodeEnum::CreateSchemaStmt(_)
        ) {
            self.excused += census::take(node).changes();
        }
        let name = census::kind(node);
        settings::gather(node, &mut self.facts);
        removals::gather(node, &mut self.facts);
        acts::gather(node, &mut self.facts);
        self.facts.outside_transaction_only = outside_transaction_only(node);
        self.facts.temporary |= matches!(node, NodeEnum::CreateStmt(create) if is_temporary(create.relation.as_ref()));
        let reads_nothing_else =
            matches!(node, NodeEnum::NotifyStmt(_) | NodeEnum::ListenStmt(_) | NodeEnum::UnlistenStmt(_));
        let kind = kind_by_name(node, name);
        self.set(kind, !reads_nothing_else);
    }
}

fn kind_by_name(node: &NodeEnum, name: &'static str) -> Kind {
    match node {
        NodeEnum::TruncateStmt(_) => Kind::Truncate,
        NodeEnum::VariableSetStmt(_) | NodeEnum::ConstraintsSetStmt(_) => Kind::Set,
        NodeEnum::DefineStmt(_)
        | NodeEnum::ViewStmt(_)
        | NodeEnum::IndexStmt(_)
        | NodeEnum::RuleStmt(_)
        | NodeEnum::CompositeTypeStmt(_) => Kind::Create,
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
        Some(NodeEnum::String(word)) => {
            word.sval.eq_ignore_ascii_case("false") || word.sval.eq_ignore_ascii_case("off")
        }
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

#[cfg(test)]
mod tests {
    use crate::sql::facts::{Facts, Kind, Nesting, OnConflict, Removed, SettingScope, Source, Verb};
    use crate::sql::read;
    use crate::sql::statement::LexicalMode;

    fn facts(text: &str) -> Facts {
        let reading = read(text, LexicalMode::default());
        assert_eq!(reading.statements.len(), 1, "{text}");
        reading.statements.into_iter().next().expect("one statement").facts
    }

    /// Kind and changes in short: `Delete: delete t cte`.
    fn short(text: &str) -> String {
        let facts = facts(text);
        assert_eq!(facts.unread, None, "{text}");
        let changes = facts.changes.iter().map(|change| {
            let verb = match change.verb {
                Verb::Merge { updates, deletes } => {
                    format!("merge{}{}", if updates { "+u" } else { "" }, if deletes { "+d" } else { "" })
                }
                verb => format!("{verb:?}").to_lowercase(),
            };
            let place = match change.nesting {
                Nesting::Outer => String::new(),
                nesting => format!(" {nesting:?}").to_lowercase(),
            };
            format!("{verb} {}{place}", change.target.written)
        });
        format!("{:?}: {}", facts.kind, changes.collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn kinds_and_changes() {
        let cases = [
            ("", "Empty: "),
            ("-- x", "Empty: "),
            ("SLUICE PREVIEW DELETE FROM t; x 'open", "unread"),
            ("SLUICE PREVIEW DELETE FROM t", "Sluice: "),
            ("SELECT 1", "Read: "),
            ("WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d", "Delete: delete t cte"),
            (
                "WITH d AS (DELETE FROM s.\"T\" RETURNING *), u AS (UPDATE x SET a = 1) INSERT INTO y SELECT * FROM d",
                "Insert: delete s.\"T\" cte, update x cte, insert y",
            ),
            ("DELETE FROM t", "Delete: delete t"),
            (
                "MERGE INTO t USING u ON a = b WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (1)",
                "Merge: merge+d t",
            ),
            ("EXPLAIN DELETE FROM t", "Read: "),
            ("EXPLAIN (ANALYZE false) DELETE FROM t", "Read: "),
            ("EXPLAIN (ANALYZE off) DELETE FROM t", "Read: "),
            ("EXPLAIN ANALYZE DELETE FROM t", "Delete: delete t explain"),
            ("EXPLAIN (ANALYZE) DELETE FROM t", "Delete: delete t explain"),
            ("EXPLAIN (ANALYZE 1) DELETE FROM t", "Delete: delete t explain"),
            ("EXPLAIN (ANALYZE true, ANALYZE false) DELETE FROM t", "Delete: delete t explain"),
            (
                "EXPLAIN ANALYZE CREATE TABLE x AS WITH d AS (DELETE FROM t RETURNING 1) SELECT * FROM d",
                "Create: delete t explain",
            ),
            ("PREPARE p AS DELETE FROM t", "Prepare: delete t prepare"),
            ("DECLARE c CURSOR FOR WITH d AS (DELETE FROM t RETURNING 1) SELECT * FROM d", "Delete: delete t cte"),
            ("DECLARE c CURSOR FOR SELECT 1", "Read: "),
            ("COPY (DELETE FROM t RETURNING *) TO STDOUT", "Copy: delete t copy"),
            ("COPY t FROM STDIN", "Copy: copyin t"),
            ("COPY t TO STDOUT", "Copy: "),
            ("CREATE TABLE x AS WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d", "Create: delete t cte"),
            ("SELECT 1 INTO x", "Create: "),
            ("SELECT 1 INTO x UNION SELECT 2", "Create: "),
            ("CREATE RULE r AS ON DELETE TO t DO INSTEAD (DELETE FROM u; UPDATE v SET a = 1)", "Create: "),
            ("CREATE VIEW v AS SELECT 1", "Create: "),
            ("CREATE PROCEDURE p() BEGIN ATOMIC DELETE FROM t; END", "Create: "),
            ("DO 'x'", "Do: "),
            ("CALL p()", "Call: "),
            ("TRUNCATE t", "Truncate: "),
            ("DROP TABLE t", "Drop: "),
            ("ALTER TABLE t RENAME TO u", "Alter: "),
            ("ALTER TABLE t ADD COLUMN a int", "Alter: "),
            ("VACUUM", "Other(\"VacuumStmt\"): "),
            ("GRANT DELETE ON t TO r", "Grant: "),
            ("SET a = 1", "Set: "),
            ("EXECUTE p", "Execute: "),
            ("BEGIN", "Transaction: "),
        ];
        for (text, expected) in cases {
            if expected == "unread" {
                assert_eq!(facts(text).kind, Kind::Unread, "{text}");
            } else {
                assert_eq!(short(text), expected, "{text}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for text in
            ["SELEC 1", "SELECT 'open", "SELECT \0", "DELETE FROM t; DELETE FROM", "SELECT 1a", "DROP OWNED BY r"]
        {
            let facts = facts(text);
            assert!(facts.unread.is_some(), "{text}");
        }
        // Our own cut and the authority's differ here (a bare END for a label): better unread than misread.
        let label = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 end; DELETE FROM t; END";
        assert!(facts(label).unread.is_some_and(|why| why.contains("told apart")));
        // A change where the server would refuse it is still not passed over in silence.
        let nested = facts("SELECT * FROM (WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d) x");
        assert!(nested.unread.is_some());
    }

    #[test]
    fn inserts_say_where_rows_come_from() {
        let cases = [
            ("INSERT INTO t VALUES (1), (2)", Source::Values(2), OnConflict::Fails),
            ("INSERT INTO t DEFAULT VALUES", Source::Values(1), OnConflict::Fails),
            ("INSERT INTO t SELECT 1 ON CONFLICT DO NOTHING", Source::Select, OnConflict::Nothing),
            ("INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 1", Source::Values(1), OnConflict::Updates),
        ];
        for (text, source, on_conflict) in cases {
            let change = &facts(text).changes[0];
            assert_eq!((change.source, change.on_conflict), (source, on_conflict), "{text}");
        }
    }

    #[test]
    fn assignments_are_listed() {
        let cases = [
            ("UPDATE t SET a = b + 1, (c, \"D\") = (SELECT 1, 2), e[1] = 3", "a=b + 1 c=- D=- e=-"),
            (
                "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = EXCLUDED.b, c = f(1, 2) WHERE t.d RETURNING 1",
                "b=EXCLUDED.b c=f(1, 2)",
            ),
            ("MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN UPDATE SET b = u.b", "b=-"),
        ];
        for (text, expected) in cases {
            let facts = facts(text);
            let found = facts.changes[0]
                .assignments
                .iter()
                .map(|one| format!("{}={}", one.column, one.value.as_deref().unwrap_or("-")));
            assert_eq!(found.collect::<Vec<_>>().join(" "), expected, "{text}");
        }
    }

    #[test]
    fn removals_are_listed() {
        let cases = [
            ("TRUNCATE a, ONLY s.\"B\" CASCADE", "Rows a! Rows s.\"B\"!"),
            ("DROP TABLE IF EXISTS a, s.b CASCADE", "Table a!? Table s.b!?"),
            ("DROP SCHEMA s", "Schema s"),
            ("DROP DATABASE d", "Database d"),
            ("DROP MATERIALIZED VIEW m", "MaterializedView m"),
            ("DROP VIEW v", "Other(\"view\") v"),
            ("DROP FUNCTION s.f(int)", "Other(\"function\") s.f"),
            ("DROP TYPE s.y", "Other(\"type\") s.y"),
            ("DROP TRIGGER g ON s.t", "Other(\"trigger\") s.t.g"),
            ("DROP ROLE r", "Other(\"role\") r"),
            ("DROP TABLESPACE x", "Tablespace x"),
            (
                "ALTER TABLE s.t DROP COLUMN \"A\" CASCADE, ADD COLUMN b int, DROP COLUMN IF EXISTS c",
                "Column(\"A\") s.t! Column(\"c\") s.t?",
            ),
            ("ALTER TABLE t DETACH PARTITION s.p", "Partition(\"s.p\") t"),
            ("ALTER TABLE s.p NO INHERIT s.t", "Partition(\"s.p\") s.t"),
            ("ALTER TABLE t RENAME a TO b", ""),
        ];
        for (text, expected) in cases {
            let facts = facts(text);
            assert_eq!(facts.unread, None, "{text}");
            let found = facts.removals.iter().map(|one| {
                let marks = [("!", one.cascade), ("?", one.if_exists)];
                let marks: String = marks.into_iter().filter(|(_, set)| *set).map(|(mark, _)| mark).collect();
                let what: &Removed = &one.what;
                format!("{what:?} {}{marks}", one.name.written)
            });
            assert_eq!(found.collect::<Vec<_>>().join(" "), expected, "{text}");
        }
    }

    #[test]
    fn settings_are_listed() {
        use SettingScope::{Lasting, Session, Transaction};
        let cases = [
            ("SET session_replication_role = 'replica'", "session_replication_role", Some("replica"), Session),
            ("SET SESSION_Replication_Role TO replica", "session_replication_role", Some("replica"), Session),
            ("SET LOCAL search_path TO a, \"B\"", "search_path", Some("a, B"), Transaction),
            ("SET row_security = off", "row_security", Some("off"), Session),
            ("SET x.y = 5", "x.y", Some("5"), Session),
            ("SET a TO DEFAULT", "a", None, Session),
            ("RESET a", "a", None, Session),
            ("RESET ALL", "all", None, Session),
            ("SET ROLE r", "role", Some("r"), Session),
            ("SET SESSION AUTHORIZATION r", "session_authorization", Some("r"), Session),
            ("SET TRANSACTION READ WRITE", "transaction_read_only", Some("0"), Transaction),
            (
                "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
                "default_transaction_read_only",
                Some("1"),
                Session,
            ),
            ("ALTER ROLE r SET a = 'b'", "a", Some("b"), Lasting),
            ("ALTER DATABASE d SET a = 'b'", "a", Some("b"), Lasting),
            ("ALTER SYSTEM SET a = 'b'", "a", Some("b"), Lasting),
            ("CREATE FUNCTION f() RETURNS int LANGUAGE sql SET a = 'b' AS ''", "a", Some("b"), Lasting),
            ("SELECT set_config('A.b', 'c', true)", "a.b", Some("c"), Transaction),
            ("SELECT pg_catalog.\"set_config\"('a', 'b', false)", "a", Some("b"), Session),
            ("SELECT set_config('a' || 'b', 'c', false)", "*", None, Session),
            ("SELECT set_config(name, 'c', false) FROM pg_settings", "*", Some("c"), Session),
            ("SELECT U&\"set\\005fconfig\"('a', 'b', false)", "*", None, Session),
            ("DELETE FROM t WHERE set_config($1, 'b', false) = 'b'", "*", Some("b"), Session),
        ];
        for (text, name, value, scope) in cases {
            let facts = facts(text);
            let [setting] = facts.settings.as_slice() else { panic!("{text}: {:?}", facts.settings) };
            assert_eq!(
                (setting.name.as_str(), setting.value.as_deref(), setting.scope),
                (name, value, scope),
                "{text}"
            );
            assert!(facts.changes_session, "{text}");
        }
    }

    #[test]
    fn the_rest_of_the_facts() {
        let execution = facts("EXECUTE \"P\"(1, 'a,b', f(1, 2), ARRAY[1,2])").executes.expect("an execution");
        assert_eq!(
            (execution.name.as_str(), execution.arguments.join("|").as_str()),
            ("P", "1|'a,b'|f(1, 2)|ARRAY[1,2]")
        );
        assert_eq!(
            facts("EXPLAIN ANALYZE EXECUTE p(7)").executes.map(|one| one.arguments),
            Some(vec![String::from("7")])
        );
        assert_eq!(facts("CREATE TABLE x AS EXECUTE p").executes.map(|one| one.name), Some(String::from("p")));
        assert_eq!(facts("PREPARE p AS SELECT 1").prepares.as_deref(), Some("p"));
        assert_eq!(facts("SELECT $2, $1, '$9'").parameters, 2);
        assert_eq!(facts("SELECT lower(x), S.\"F\"(max(y)) FROM t").functions, ["lower", "max", "s.F"]);
        assert_eq!(facts("DELETE FROM t /* sluice: script=a */").hints, [(String::from("script"), String::from("a"))]);
        assert!(facts("DISCARD ALL").forgets_prepared && facts("DEALLOCATE p").forgets_prepared);
        for text in [
            "VACUUM t",
            "CREATE DATABASE d",
            "CREATE INDEX CONCURRENTLY i ON t (a)",
            "REINDEX TABLE CONCURRENTLY t",
            "COMMIT PREPARED 'x'",
            "CLUSTER",
        ] {
            assert!(facts(text).outside_transaction_only, "{text}");
        }
        for text in ["ANALYZE t", "CREATE INDEX i ON t (a)", "REINDEX TABLE t", "TRUNCATE t", "COMMIT"] {
            assert!(!facts(text).outside_transaction_only, "{text}");
        }
    }
}
