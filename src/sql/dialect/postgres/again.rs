//! What a second run of a change would do: set the same values again, or build on those of the first run.
//!
//! Invariant: a new value that reads its own old one counts as building on it unless the form is known to give the same again
//! (`lower(a)`, `COALESCE(a, 0)`), and a condition only excuses it where it is certainly false of a row that was changed.

use crate::sql::dialect::ends::ends_itself;
use crate::sql::dialect::postgres::names;
use crate::sql::dialect::postgres::term::{Scope, condition, value};
use crate::sql::facts::Again;
use crate::sql::predicate::Term;
use pg_query::NodeEnum;
use pg_query::protobuf::{AExpr, AExprKind, FuncCall, Node, ResTarget};

/// What an UPDATE, or the DO UPDATE of an upsert, does the second time.
pub fn of_update(targets: &[Node], restriction: Option<&Node>, scope: &Scope) -> Again {
    let targets: Vec<&ResTarget> = targets.iter().filter_map(as_target).collect();
    let builds = |target: &&&ResTarget| new_value(target).is_some_and(|new| is_built_on(new, &target.name));
    let mut columns: Vec<String> = targets.iter().filter(builds).map(|target| target.name.clone()).collect();
    columns.dedup();
    if columns.is_empty() {
        return Again::Same;
    }
    let find = |column: &str| targets.iter().find(|target| target.name == column);
    let assigned = |column: &str| Some(value(new_value(find(column)?)?, scope));
    let never_null = |column: &str| find(column).is_some_and(|target| is_never_null(target, scope));
    let ends = restriction.is_some_and(|node| ends_itself(&condition(node, scope), &columns, &assigned, &never_null));
    if ends { Again::Same } else { Again::BuildsOn(columns) }
}

fn as_target(node: &Node) -> Option<&ResTarget> {
    match node.node.as_ref()? {
        NodeEnum::ResTarget(target) => Some(target),
        _ => None,
    }
}

/// The expression that becomes the column's value; of `(a, b) = (x, y)` its own part.
fn new_value(target: &ResTarget) -> Option<&Node> {
    let new = target.val.as_deref()?;
    let Some(NodeEnum::MultiAssignRef(part)) = new.node.as_ref() else { return Some(new) };
    match part.source.as_deref()?.node.as_ref()? {
        NodeEnum::RowExpr(row) => row.args.get(usize::try_from(part.colno).ok()?.checked_sub(1)?),
        _ => None,
    }
}

/// Functions that give of their own result the same result.
#[rustfmt::skip] // one line a kind
const SETTLING: &[&str] = &[
    "lower", "upper", "initcap", "trim", "btrim", "ltrim", "rtrim", "normalize",
    "abs", "ceil", "ceiling", "floor", "round", "trunc", "sign", "date_trunc",
    "replace", "regexp_replace", "translate", "array_remove", "array_replace", "jsonb_set", "jsonb_strip_nulls",
];

/// Whether the new value of a column is made from its old one in a way that goes on and on.
fn is_built_on(node: &Node, column: &str) -> bool {
    let Some(inner) = node.node.as_ref() else { return false };
    let inside = |node: &Option<Box<Node>>| node.as_deref().is_some_and(|node| is_built_on(node, column));
    let any = |nodes: &[Node]| nodes.iter().any(|node| is_built_on(node, column));
    match inner {
        NodeEnum::AExpr(expression) => match AExprKind::try_from(expression.kind) {
            Ok(AExprKind::AexprOp) => operates_on(expression, column),
            Ok(AExprKind::AexprNullif) => inside(&expression.lexpr),
            _ => false,
        },
        NodeEnum::FuncCall(call) if is_settling(call) => any(&call.args),
        NodeEnum::FuncCall(call) => call.args.iter().any(|argument| reads(argument, column)),
        NodeEnum::TypeCast(cast) => inside(&cast.arg),
        NodeEnum::CollateClause(clause) => inside(&clause.arg),
        NodeEnum::CoalesceExpr(coalesce) => any(&coalesce.args),
        NodeEnum::MinMaxExpr(extreme) => any(&extreme.args),
        NodeEnum::CaseExpr(case) => {
            let result = |node: &Node| match node.node.as_ref() {
                Some(NodeEnum::CaseWhen(when)) => inside(&when.result),
                _ => false,
            };
            case.args.iter().any(result) || inside(&case.defresult)
        }
        _ => false,
    }
}

fn is_settling(call: &FuncCall) -> bool {
    call.funcname.last().and_then(names::string).is_some_and(|name| SETTLING.contains(&name))
}

fn operates_on(expression: &AExpr, column: &str) -> bool {
    let reads = |side: &Option<Box<Node>>| side.as_deref().is_some_and(|side| reads(side, column));
    let (left, right) = (reads(&expression.lexpr), reads(&expression.rexpr));
    match expression.name.last().and_then(names::string) {
        // Comparisons give a truth value; `a & 7`, `a | 8` and `a % 7` the same when done again.
        Some("=" | "<>" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "!~" | "&" | "|") => false,
        Some("%") => right,
        _ => left || right,
    }
}

/// Whether an expression reads the column, as far as it is an expression that rules need to see through.
fn reads(node: &Node, column: &str) -> bool {
    let Some(inner) = node.node.as_ref() else { return false };
    let inside = |node: &Option<Box<Node>>| node.as_deref().is_some_and(|node| reads(node, column));
    let any = |nodes: &[Node]| nodes.iter().any(|node| reads(node, column));
    match inner {
        NodeEnum::ColumnRef(reference) => {
            let parts: Vec<&str> = reference.fields.iter().filter_map(names::string).collect();
            // `excluded.n` is the row that was to be inserted: the same each time.
            parts.last() == Some(&column) && parts.first() != Some(&"excluded")
        }
        NodeEnum::AExpr(expression) => inside(&expression.lexpr) || inside(&expression.rexpr),
        NodeEnum::FuncCall(call) => any(&call.args),
        NodeEnum::TypeCast(cast) => inside(&cast.arg),
        NodeEnum::CollateClause(clause) => inside(&clause.arg),
        NodeEnum::CoalesceExpr(coalesce) => any(&coalesce.args),
        NodeEnum::MinMaxExpr(extreme) => any(&extreme.args),
        NodeEnum::AIndirection(part) => inside(&part.arg),
        NodeEnum::AArrayExpr(array) => any(&array.elements),
        NodeEnum::RowExpr(row) => any(&row.args),
        NodeEnum::List(list) => any(&list.items),
        NodeEnum::CaseExpr(case) => {
            let when = |node: &Node| match node.node.as_ref() {
                Some(NodeEnum::CaseWhen(when)) => inside(&when.expr) || inside(&when.result),
                _ => false,
            };
            inside(&case.arg) || case.args.iter().any(when) || inside(&case.defresult)
        }
        _ => false,
    }
}

fn is_never_null(target: &ResTarget, scope: &Scope) -> bool {
    let Some(new) = new_value(target) else { return false };
    match new.node.as_ref() {
        Some(NodeEnum::SqlvalueFunction(_)) => true,
        Some(NodeEnum::FuncCall(call)) => {
            let name = call.funcname.last().and_then(names::string);
            matches!(
                name,
                Some(
                    "now"
                        | "clock_timestamp"
                        | "statement_timestamp"
                        | "transaction_timestamp"
                        | "gen_random_uuid"
                        | "nextval"
                )
            )
        }
        _ => matches!(value(new, scope), Term::Bool(_) | Term::Integer(_) | Term::Constant(_)),
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::facts::Again;
    use crate::sql::read;
    use crate::sql::statement::LexicalMode;

    /// `=` the same again, `+` the same rows added, else the columns that build on themselves.
    fn short(text: &str) -> String {
        let reading = read(text, LexicalMode::default());
        let facts = &reading.statements.first().expect("one statement").facts;
        assert_eq!(facts.unread, None, "{text}");
        assert_eq!(facts.again.len(), facts.changes.len(), "{text}");
        let each = facts.again.iter().map(|again| match again {
            Again::Same => String::from("="),
            Again::Adds => String::from("+"),
            Again::BuildsOn(columns) => columns.join(","),
        });
        each.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_builds_on_itself_is_told_from_what_does_not() {
        let cases = [
            ("UPDATE t SET n = n + 1", "n"),
            ("UPDATE t SET n = 1 - t.n, b = 2", "n"),
            ("UPDATE t AS x SET n = x.n * 2 WHERE id = 1", "n"),
            ("UPDATE t SET s = s || 'x'", "s"),
            ("UPDATE t SET s = concat(s, 'x')", "s"),
            ("UPDATE t SET a = array_append(a, 1)", "a"),
            ("UPDATE t SET n = COALESCE(n, 0) + 1", "n"),
            ("UPDATE t SET n = COALESCE(n + 1, 0)", "n"),
            ("UPDATE t SET n = CASE WHEN b THEN n + 1 ELSE n END", "n"),
            ("UPDATE t SET (n, m) = (n + 1, n + 1)", "n"),
            ("UPDATE t SET n = my_function(n)", "n"),
            ("UPDATE t SET n = m + 1", "="),
            ("UPDATE t SET n = 5", "="),
            ("UPDATE t SET n = n", "="),
            ("UPDATE t SET n = COALESCE(n, 0)", "="),
            ("UPDATE t SET s = lower(s), u = trim(upper(u))", "="),
            ("UPDATE t SET n = GREATEST(n, 5)", "="),
            ("UPDATE t SET n = n & 7, m = m % 5, s = NULLIF(s, '')", "="),
            ("UPDATE t SET n = n + 1 WHERE n = 5", "="),
            ("UPDATE t SET n = n + 1 WHERE id = 7 AND version = 3", "n"),
            ("UPDATE t SET n = n + 1, version = version + 1 WHERE id = 7 AND version = 3", "="),
            ("UPDATE t SET n = n + 1, done = true WHERE NOT done", "="),
            ("UPDATE t SET n = n + 1, done = true WHERE done = false", "="),
            ("UPDATE t SET n = n + 1, done = true WHERE done IS NOT TRUE", "n"),
            ("UPDATE t SET n = n + 1, state = 'paid' WHERE state = 'open'", "="),
            ("UPDATE t SET n = n + 1, state = '01' WHERE state = '1'", "n"),
            ("UPDATE t SET n = n + 1, state = 'paid' WHERE state <> 'paid'", "="),
            ("UPDATE t SET n = n + 1, state = 'paid' WHERE state IS DISTINCT FROM 'paid'", "="),
            ("UPDATE t SET n = n + 1, at = now() WHERE at IS NULL", "="),
            ("UPDATE t SET n = n + 1, at = now() WHERE at IS NULL OR b", "n"),
            ("DELETE FROM t WHERE n = 1", "="),
            ("INSERT INTO t VALUES (1, 2)", "+"),
            ("INSERT INTO t VALUES (1, 2) ON CONFLICT DO NOTHING", "="),
            ("INSERT INTO t VALUES (1, 2) ON CONFLICT (a) DO UPDATE SET n = t.n + 1", "n"),
            ("INSERT INTO t VALUES (1, 2) ON CONFLICT (a) DO UPDATE SET n = excluded.n + 1", "="),
            ("INSERT INTO t SELECT * FROM u", "="),
            ("MERGE INTO t USING u ON t.id = u.id WHEN MATCHED THEN UPDATE SET n = t.n + u.n", "n"),
            ("WITH d AS (UPDATE t SET n = n + 1 RETURNING *) INSERT INTO u VALUES (1)", "n +"),
        ];
        for (text, expected) in cases {
            assert_eq!(short(text), expected, "{text}");
        }
    }
}
