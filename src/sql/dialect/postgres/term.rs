//! Conditions of PostgreSQL's parse tree, translated into the small tree that [`crate::sql::predicate`] reasons over.
//!
//! Invariant: a node that is not understood exactly becomes [`Term::Opaque`]; a column that could belong to another relation is
//! never taken for one of the target.

use crate::sql::dialect::postgres::{census, names};
use crate::sql::predicate::{self, Comparison, Term, Truth};
use pg_query::NodeEnum;
use pg_query::protobuf::{
    AConst, AExpr, AExprKind, BoolExprType, BoolTestType, CaseExpr, ColumnRef, FuncCall, Node, NullTestType, RangeVar,
    SelectStmt, SetOperation, SubLink, SubLinkType, TypeCast, TypeName, a_const::Val,
};
use std::collections::BTreeSet;

/// What names mean where a condition stands.
#[derive(Debug, Clone)]
pub struct Scope<'t> {
    pub target: &'t RangeVar,
    /// Other relations are in reach of unqualified names.
    pub joined: bool,
    pub from: Vec<Other>,
    /// Names of common table expressions: they hide tables of the same name.
    pub hidden: BTreeSet<String>,
    /// Other names for the row that is looked at: those of a subquery over its own table, in which it is found.
    pub also: Vec<String>,
}

/// Another relation of the FROM or USING list.
#[derive(Debug, Clone)]
pub struct Other {
    pub called: String,
    /// The target's own table, unfiltered and not under a join: it holds the very row that is looked at.
    pub is_target: bool,
}

const UNKNOWN: Term = Term::Opaque { mentions_target: true };

impl Scope<'_> {
    fn called(&self) -> &str {
        names::alias(self.target)
    }

    fn is_self(&self, name: &str) -> bool {
        name == self.called() || self.also.iter().any(|also| also == name)
    }

    /// The same table, read at least as wide as the target is.
    pub fn is_target(&self, relation: &RangeVar) -> bool {
        let same = relation.catalogname == self.target.catalogname
            && relation.schemaname == self.target.schemaname
            && relation.relname == self.target.relname;
        let hidden = relation.schemaname.is_empty() && self.hidden.contains(&relation.relname);
        same && !hidden
            && (relation.inh || !self.target.inh)
            && relation.alias.as_ref().is_none_or(|alias| alias.colnames.is_empty())
    }
}

/// A node where a truth value is wanted: a bare string literal there is read as one.
pub fn condition(node: &Node, scope: &Scope) -> Term {
    match value(node, scope) {
        Term::Constant(text) => text.strip_prefix("s:").and_then(boolean).map_or(UNKNOWN, Term::Bool),
        term => term,
    }
}

/// A node where any value is wanted.
pub fn value(node: &Node, scope: &Scope) -> Term {
    let Some(node) = node.node.as_ref() else {
        return UNKNOWN;
    };
    match node {
        NodeEnum::AConst(constant) => literal(constant),
        NodeEnum::ParamRef(parameter) => u16::try_from(parameter.number).map_or(UNKNOWN, Term::Parameter),
        NodeEnum::ColumnRef(column) => column_of(column, scope),
        NodeEnum::BoolExpr(expression) => {
            let mut terms: Vec<Term> = expression.args.iter().map(|argument| condition(argument, scope)).collect();
            match BoolExprType::try_from(expression.boolop) {
                Ok(BoolExprType::AndExpr) => Term::And(terms),
                Ok(BoolExprType::OrExpr) => Term::Or(terms),
                Ok(BoolExprType::NotExpr) => terms.pop().map_or(UNKNOWN, |term| Term::Not(Box::new(term))),
                _ => UNKNOWN,
            }
        }
        NodeEnum::AExpr(expression) => operation(expression, scope),
        NodeEnum::NullTest(test) => {
            let inner = child(&test.arg, scope);
            let is_null = Term::IsNull(Box::new(inner));
            match NullTestType::try_from(test.nulltesttype) {
                Ok(NullTestType::IsNull) => is_null,
                Ok(NullTestType::IsNotNull) => Term::Not(Box::new(is_null)),
                _ => UNKNOWN,
            }
        }
        NodeEnum::BooleanTest(test) => {
            let inner = Box::new(test.arg.as_ref().map_or(UNKNOWN, |inner| condition(inner, scope)));
            let negated = |term| Term::Not(Box::new(term));
            match BoolTestType::try_from(test.booltesttype) {
                Ok(BoolTestType::IsTrue) => Term::Is(inner, true),
                Ok(BoolTestType::IsNotTrue) => negated(Term::Is(inner, true)),
                Ok(BoolTestType::IsFalse) => Term::Is(inner, false),
                Ok(BoolTestType::IsNotFalse) => negated(Term::Is(inner, false)),
                Ok(BoolTestType::IsUnknown) => Term::IsNull(inner),
                Ok(BoolTestType::IsNotUnknown) => negated(Term::IsNull(inner)),
                _ => UNKNOWN,
            }
        }
        NodeEnum::TypeCast(cast) => cast_of(cast, scope),
        // Under another collation equality may join what the column's own keeps apart: `name COLLATE ci = 'x'` pins nothing.
        NodeEnum::CollateClause(clause) => Term::Opaque { mentions_target: mentions(&child(&clause.arg, scope)) },
        NodeEnum::CoalesceExpr(expression) => {
            Term::Coalesce(expression.args.iter().map(|argument| value(argument, scope)).collect())
        }
        NodeEnum::SubLink(link) => subquery(link, scope),
        NodeEnum::FuncCall(call) => function(call, scope),
        // Without a schema to create in, CURRENT_SCHEMA is NULL; so any of them may be.
        NodeEnum::SqlvalueFunction(steady) => {
            Term::Strict(format!("value function {}", steady.op), vec![Term::Parameter(0)])
        }
        NodeEnum::CaseExpr(case) => case_of(case, scope),
        _ => UNKNOWN,
    }
}

/// Functions that are strict and give the same for the same, so that two calls can be compared.
const PURE: &[&str] = &[
    "length",
    "char_length",
    "character_length",
    "octet_length",
    "bit_length",
    "abs",
    "cardinality",
    "strpos",
    "lower",
    "upper",
    "btrim",
    "ltrim",
    "rtrim",
    "md5",
    "initcap",
    "reverse",
    "round",
    "floor",
    "ceil",
    "sign",
];

/// The same throughout a statement, whatever the row.
const STEADY: &[&str] =
    &["now", "statement_timestamp", "transaction_timestamp", "version", "current_database", "pg_backend_pid"];

fn function(call: &FuncCall, scope: &Scope) -> Term {
    let plain = call.agg_filter.is_none() && call.over.is_none() && !call.agg_star && !call.agg_distinct;
    match built_in(&call.funcname).filter(|_| plain) {
        Some(name) if PURE.contains(&name) && !call.args.is_empty() => {
            Term::Strict(String::from(name), call.args.iter().map(|argument| value(argument, scope)).collect())
        }
        // No parameter has this number: a value that may be NULL whatever it is made from.
        Some("current_setting") => {
            let arguments = call.args.iter().map(|argument| value(argument, scope));
            Term::Strict(String::from("current_setting"), arguments.chain([Term::Parameter(0)]).collect())
        }
        Some(name) if STEADY.contains(&name) && call.args.is_empty() => Term::Strict(String::from(name), Vec::new()),
        _ => {
            let mentions_target =
                call.args.is_empty() || call.args.iter().any(|argument| mentions(&value(argument, scope)));
            Term::Opaque { mentions_target }
        }
    }
}

/// Arms beyond a few, and a CASE in the result of another, are not reasoned over: they would have to be compared each with each.
fn case_of(case: &CaseExpr, scope: &Scope) -> Term {
    const MOST_ARMS: usize = 16;
    let subject = case.arg.as_deref().map(|subject| value(subject, scope));
    let arm = |node: &Node| {
        let Some(NodeEnum::CaseWhen(when)) = node.node.as_ref() else { return None };
        let wanted = when.expr.as_deref()?;
        let test = match &subject {
            None => condition(wanted, scope),
            Some(subject) => compared(Comparison::Equal, subject.clone(), value(wanted, scope), scope),
        };
        let result = value(when.result.as_deref()?, scope);
        (!matches!(result, Term::Case(..))).then_some((test, result))
    };
    let arms: Option<Vec<(Term, Term)>> = case.args.iter().map(arm).collect();
    let last = case.defresult.as_deref().map_or(Term::Null, |last| value(last, scope));
    match arms {
        Some(arms) if arms.len() <= MOST_ARMS && !matches!(last, Term::Case(..)) => Term::Case(arms, Box::new(last)),
        _ => UNKNOWN,
    }
}

fn child(node: &Option<Box<Node>>, scope: &Scope) -> Term {
    node.as_ref().map_or(UNKNOWN, |node| value(node, scope))
}

/// Conservative: only what is certainly about other relations does not mention the target.
fn mentions(term: &Term) -> bool {
    if let Term::Strict(_, operands) = term {
        return operands.iter().any(mentions);
    }
    !matches!(
        term,
        Term::Foreign { .. }
            | Term::Opaque { mentions_target: false }
            | Term::Integer(_)
            | Term::Constant(_)
            | Term::Bool(_)
    )
}

fn literal(constant: &AConst) -> Term {
    if constant.isnull {
        return Term::Null;
    }
    match &constant.val {
        Some(Val::Ival(integer)) => Term::Integer(i64::from(integer.ival)),
        Some(Val::Fval(float)) => {
            float.fval.parse().map_or_else(|_| Term::Constant(format!("n:{}", float.fval)), Term::Integer)
        }
        Some(Val::Boolval(boolean)) => Term::Bool(boolean.boolval),
        Some(Val::Sval(string)) => Term::Constant(format!("s:{}", string.sval)),
        Some(Val::Bsval(bits)) => Term::Constant(format!("b:{}", bits.bsval)),
        None => UNKNOWN,
    }
}

/// What `boolin` accepts: white space around, any case, unique prefixes.
fn boolean(text: &str) -> Option<bool> {
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace()).to_ascii_lowercase();
    let prefix_of = |word: &str| !text.is_empty() && word.starts_with(&text);
    if text == "1" || text == "on" || prefix_of("true") || prefix_of("yes") {
        return Some(true);
    }
    (text == "0" || text == "of" || text == "off" || prefix_of("false") || prefix_of("no")).then_some(false)
}

fn column_of(column: &ColumnRef, scope: &Scope) -> Term {
    let parts: Vec<&str> = column.fields.iter().filter_map(names::string).collect();
    if parts.len() != column.fields.len() {
        return match (parts.as_slice(), column.fields.len()) {
            ([name], 2) if scope.is_self(name) => Term::Row(String::from(*name)), // `t.*`
            _ => UNKNOWN,
        };
    }
    match parts.as_slice() {
        // A relation's own name alone is its whole row, unless a column has that name: then it is that column.
        [name] if scope.is_self(name) && !scope.joined => Term::Row(String::from(*name)),
        // Of another relation; a column of the target's that has its name would be meant instead, and is what must not be NULL.
        [name] if scope.joined && scope.from.iter().any(|other| other.called == *name) => {
            Term::Column(String::from(*name))
        }
        // With other relations around, a bare name could be any of theirs.
        [name] if scope.joined => UNKNOWN,
        [name] => Term::Column(String::from(*name)),
        [qualifier, name] if scope.is_self(qualifier) => Term::Column(String::from(*name)),
        [qualifier, name] if scope.from.iter().any(|other| other.called == *qualifier) => {
            Term::Foreign { of: String::from(*qualifier), name: String::from(*name) }
        }
        [schema, table, name]
            if scope.target.alias.is_none() && *schema == scope.target.schemaname && *table == scope.target.relname =>
        {
            Term::Column(String::from(*name))
        }
        _ => UNKNOWN,
    }
}

fn operation(expression: &AExpr, scope: &Scope) -> Term {
    let Some(operator) = built_in(&expression.name) else {
        return UNKNOWN;
    };
    let left = || Box::new(child(&expression.lexpr, scope));
    let right = || Box::new(child(&expression.rexpr, scope));
    let negated = |term: Term| Term::Not(Box::new(term));
    match AExprKind::try_from(expression.kind) {
        Ok(AExprKind::AexprOp) => binary(operator, expression, scope),
        Ok(AExprKind::AexprNotDistinct) => Term::Same(left(), right()),
        Ok(AExprKind::AexprDistinct) => negated(Term::Same(left(), right())),
        Ok(AExprKind::AexprIn) if operator == "=" => one_of(expression, scope),
        Ok(AExprKind::AexprIn) if operator == "<>" => negated(one_of(expression, scope)),
        Ok(AExprKind::AexprOpAny) if operator == "=" => one_of(expression, scope),
        Ok(AExprKind::AexprOpAll) if operator == "<>" => negated(one_of(expression, scope)),
        Ok(AExprKind::AexprLike | AExprKind::AexprIlike) if matches!(operator, "~~" | "~~*") => {
            pattern(expression, scope, is_any_like)
        }
        Ok(AExprKind::AexprLike | AExprKind::AexprIlike) if matches!(operator, "!~~" | "!~~*") => {
            negated(pattern(expression, scope, is_any_like))
        }
        Ok(AExprKind::AexprSimilar) if operator == "~" => similar(expression, scope),
        Ok(AExprKind::AexprSimilar) if operator == "!~" => negated(similar(expression, scope)),
        Ok(AExprKind::AexprBetween) => between(expression, scope, false),
        Ok(AExprKind::AexprNotBetween) => negated(between(expression, scope, false)),
        Ok(AExprKind::AexprBetweenSym) => between(expression, scope, true),
        Ok(AExprKind::AexprNotBetweenSym) => negated(between(expression, scope, true)),
        _ => Term::Opaque { mentions_target: mentions(&left()) || mentions(&right()) },
    }
}

/// `=`, or `OPERATOR(pg_catalog.=)`, and so for types and functions: another schema's may mean anything.
fn built_in(name: &[Node]) -> Option<&str> {
    match name {
        [operator] => names::string(operator),
        [schema, operator] if names::string(schema) == Some("pg_catalog") => names::string(operator),
        _ => None,
    }
}

fn comparison(operator: &str) -> Option<Comparison> {
    Some(match operator {
        "=" => Comparison::Equal,
        "<>" | "!=" => Comparison::NotEqual,
        "<" => Comparison::Less,
        "<=" => Comparison::LessOrEqual,
        ">" => Comparison::Greater,
        ">=" => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

fn binary(operator: &str, expression: &AExpr, scope: &Scope) -> Term {
    let Some(right_node) = expression.rexpr.as_deref() else {
        return UNKNOWN;
    };
    let right = value(right_node, scope);
    let Some(left_node) = expression.lexpr.as_deref() else {
        return match (operator, right) {
            ("-", Term::Integer(number)) => number.checked_neg().map_or(UNKNOWN, Term::Integer),
            // The least number of eight bytes has no positive.
            ("-", Term::Constant(text)) if text == "n:9223372036854775808" => Term::Integer(i64::MIN),
            ("-" | "+", Term::Constant(text)) => Term::Constant(format!("{operator}{text}")),
            ("+", term) => term,
            _ => UNKNOWN,
        };
    };
    if let (Some(NodeEnum::RowExpr(left)), Some(NodeEnum::RowExpr(right)), "=") =
        (&left_node.node, &right_node.node, operator)
    {
        let pairs = left.args.iter().zip(&right.args);
        let equal = |(a, b)| compared(Comparison::Equal, value(a, scope), value(b, scope), scope);
        return if left.args.len() == right.args.len() { Term::And(pairs.map(equal).collect()) } else { UNKNOWN };
    }
    let left = value(left_node, scope);
    if let Some(comparison) = comparison(operator) {
        return compared(comparison, left, right, scope);
    }
    match operator {
        "~~" | "~~*" => pattern(expression, scope, is_any_like),
        "~" | "~*" => pattern(expression, scope, is_any_regex),
        "^@" => pattern(expression, scope, str::is_empty),
        "!~" | "!~*" => Term::Not(Box::new(pattern(expression, scope, is_any_regex))),
        "!~~" | "!~~*" => Term::Not(Box::new(pattern(expression, scope, is_any_like))),
        "+" | "-" | "*" | "/" | "%" | "||" => Term::Strict(String::from(operator), vec![left, right]),
        _ => Term::Opaque { mentions_target: mentions(&left) || mentions(&right) },
    }
}

/// A comparison; equality with the same column of the target's own table, joined to itself, is met by the row itself.
fn compared(comparison: Comparison, left: Term, right: Term, scope: &Scope) -> Term {
    if comparison == Comparison::Equal {
        match (&left, &right) {
            (Term::Column(column), Term::Foreign { of, name }) | (Term::Foreign { of, name }, Term::Column(column))
                if column == name && scope.from.iter().any(|other| other.is_target && other.called == *of) =>
            {
                return Term::AmongItself(Box::new(Term::Column(column.clone())));
            }
            _ => {}
        }
    }
    Term::Compare(comparison, Box::new(left), Box::new(right))
}

/// IN with a list, `= ANY (ARRAY[…])`. Long lists are values to look for, not something to reason over.
fn one_of(expression: &AExpr, scope: &Scope) -> Term {
    const MOST_VALUES: usize = 64;
    let elements = match expression.rexpr.as_ref().and_then(|node| node.node.as_ref()) {
        Some(NodeEnum::List(list)) => &list.items,
        Some(NodeEnum::AArrayExpr(array)) => &array.elements,
        _ => return UNKNOWN,
    };
    let left = child(&expression.lexpr, scope);
    if elements.is_empty() || elements.len() > MOST_VALUES {
        return Term::Opaque { mentions_target: mentions(&left) };
    }
    let mut terms: Vec<Term> = elements
        .iter()
        .map(|element| compared(Comparison::Equal, left.clone(), value(element, scope), scope))
        .collect();
    match terms.len() {
        1 => terms.remove(0),
        _ => Term::Or(terms),
    }
}

fn between(expression: &AExpr, scope: &Scope, symmetric: bool) -> Term {
    let bounds = match expression.rexpr.as_ref().and_then(|node| node.node.as_ref()) {
        Some(NodeEnum::List(list)) => list.items.as_slice(),
        _ => return UNKNOWN,
    };
    let [low, high] = bounds else { return UNKNOWN };
    let side = |comparison, bound: &Node| {
        Term::Compare(comparison, Box::new(child(&expression.lexpr, scope)), Box::new(value(bound, scope)))
    };
    let within =
        |low, high| Term::And(vec![side(Comparison::GreaterOrEqual, low), side(Comparison::LessOrEqual, high)]);
    match symmetric {
        true => Term::Or(vec![within(low, high), within(high, low)]),
        false => within(low, high),
    }
}

fn pattern(expression: &AExpr, scope: &Scope, is_any: fn(&str) -> bool) -> Term {
    let left = child(&expression.lexpr, scope);
    match child(&expression.rexpr, scope) {
        Term::Constant(text) if text.strip_prefix("s:").is_some_and(is_any) => Term::MatchesAny(Box::new(left)),
        right => Term::Opaque { mentions_target: mentions(&left) || mentions(&right) },
    }
}

/// SIMILAR TO hands its pattern to a function.
fn similar(expression: &AExpr, scope: &Scope) -> Term {
    let left = child(&expression.lexpr, scope);
    let pattern = match expression.rexpr.as_ref().and_then(|node| node.node.as_ref()) {
        Some(NodeEnum::FuncCall(call)) if call.args.len() == 1 => call.args.first().map(|node| value(node, scope)),
        _ => None,
    };
    match pattern {
        Some(Term::Constant(text)) if text.strip_prefix("s:").is_some_and(is_any_like) => {
            Term::MatchesAny(Box::new(left))
        }
        _ => Term::Opaque { mentions_target: true },
    }
}

fn is_any_like(pattern: &str) -> bool {
    !pattern.is_empty() && pattern.bytes().all(|byte| byte == b'%')
}

fn is_any_regex(pattern: &str) -> bool {
    matches!(pattern, "" | "^" | "$" | ".*" | "^.*" | ".*$" | "^.*$" | "(.*)")
}

/// Casts change values and comparisons (`'x'::citext` equals what text keeps apart), so only those are looked through that cannot.
fn cast_of(cast: &TypeCast, scope: &Scope) -> Term {
    let inner = child(&cast.arg, scope);
    if let (Term::Constant(text), Some("interval")) =
        (&inner, cast.type_name.as_ref().and_then(|kind| built_in(&kind.names)))
    {
        return Term::Constant(format!("interval:{text}"));
    }
    let Some(kind) = cast.type_name.as_ref().and_then(plain_type).filter(|kind| EXACT_TYPES.contains(kind)) else {
        return Term::Opaque { mentions_target: mentions(&inner) };
    };
    let is_text = matches!(kind, "text" | "varchar");
    match inner {
        Term::Null => Term::Null,
        Term::Parameter(number) => Term::Parameter(number),
        Term::Bool(truth) if kind == "bool" => Term::Bool(truth),
        Term::Integer(number) if kind == "bool" => Term::Bool(number != 0),
        Term::Integer(number) if matches!(kind, "int2" | "int4" | "int8" | "numeric") => Term::Integer(number),
        Term::Constant(text) if kind == "bool" => text.strip_prefix("s:").and_then(boolean).map_or(UNKNOWN, Term::Bool),
        Term::Constant(text) if is_text => Term::Constant(text),
        Term::Constant(text) if matches!(kind, "int2" | "int4" | "int8") => {
            whole_number(&text).map_or(UNKNOWN, Term::Integer)
        }
        Term::Constant(text) => Term::Constant(format!("{kind}:{text}")),
        Term::Integer(number) => Term::Constant(format!("{kind}:{number}")),
        inner if is_text && mentions(&inner) && !matches!(inner, Term::Opaque { .. }) => {
            Term::Strict(String::from("text"), vec![inner])
        }
        inner => Term::Opaque { mentions_target: mentions(&inner) },
    }
}

/// Types whose equality with a column is no wider than the column's own. Not float4 and float8: a numeric or a bigint compared with one
/// becomes one first, and many become the same.
const EXACT_TYPES: &[&str] = &[
    "bool",
    "int2",
    "int4",
    "int8",
    "numeric",
    "text",
    "varchar",
    "uuid",
    "date",
    "timestamp",
    "timestamptz",
    "time",
    "timetz",
    "oid",
    "bytea",
];

fn whole_number(text: &str) -> Option<i64> {
    text.strip_prefix("s:")?.trim().parse().ok()
}

/// A built-in type's name when nothing else (length, array) is said of it.
fn plain_type(kind: &TypeName) -> Option<&str> {
    let bare = kind.typmods.is_empty() && kind.array_bounds.is_empty() && !kind.setof && !kind.pct_type;
    if bare { built_in(&kind.names) } else { None }
}

fn subquery(link: &SubLink, scope: &Scope) -> Term {
    let Some(NodeEnum::SelectStmt(select)) = link.subselect.as_ref().and_then(|node| node.node.as_ref()) else {
        return UNKNOWN;
    };
    match SubLinkType::try_from(link.sub_link_type) {
        Ok(SubLinkType::ExistsSublink) => exists(select, scope),
        Ok(SubLinkType::AnySublink) if link.oper_name.is_empty() || built_in(&link.oper_name) == Some("=") => {
            among(link, select, scope).unwrap_or(UNKNOWN)
        }
        Ok(SubLinkType::ExprSublink) => scalar(select, scope).unwrap_or(UNKNOWN),
        _ => UNKNOWN,
    }
}

/// Neither grouped, nor cut, nor combined: as many rows as its FROM and WHERE give.
fn is_plain(select: &SelectStmt) -> bool {
    let op = SetOperation::try_from(select.op);
    matches!(op, Ok(SetOperation::SetopNone | SetOperation::Undefined))
        && select.group_clause.is_empty()
        && select.having_clause.is_none()
        && select.limit_offset.is_none()
        && select.with_clause.is_none()
        && select.locking_clause.is_empty()
        && select.limit_count.as_ref().is_none_or(|limit| is_positive(limit))
}

fn is_positive(limit: &Node) -> bool {
    match limit.node.as_ref() {
        Some(NodeEnum::AConst(constant)) => {
            constant.isnull || matches!(literal(constant), Term::Integer(number) if number > 0)
        }
        _ => false,
    }
}

fn exists(select: &SelectStmt, scope: &Scope) -> Term {
    if !is_plain(select) {
        return UNKNOWN;
    }
    if !select.values_lists.is_empty() || is_aggregate(select) {
        return Term::Inhabited;
    }
    // A set-returning function in the list could give no row at all.
    if !census::take(&select.target_list).functions.is_empty() {
        return UNKNOWN;
    }
    match select.from_clause.as_slice() {
        // A row comes out if the condition is true; where it is NULL, EXISTS is false.
        [] => select
            .where_clause
            .as_ref()
            .map_or(Term::Inhabited, |inner| Term::Is(Box::new(condition(inner, scope)), true)),
        [only] => exists_in(only, select, scope).unwrap_or(UNKNOWN),
        _ => UNKNOWN,
    }
}

/// EXISTS over the target's own table: the row that is looked at is in it.
fn exists_in(relation: &Node, select: &SelectStmt, scope: &Scope) -> Option<Term> {
    let Some(NodeEnum::RangeVar(relation)) = relation.node.as_ref() else {
        return None;
    };
    if !scope.is_target(relation) {
        return None;
    }
    let Some(inner) = &select.where_clause else {
        return Some(Term::Inhabited);
    };
    // The row that is looked at is among the inner ones: where the condition holds of it beside itself, EXISTS is true.
    let also = scope
        .also
        .iter()
        .cloned()
        .chain([String::from(names::alias(relation)), String::from(scope.called())])
        .collect();
    let term = condition(inner, &Scope { also, joined: false, from: Vec::new(), ..scope.clone() });
    matches!(predicate::truth(&term), Truth::True(_)).then(|| Term::Is(Box::new(term), true))
}

/// Every target is an aggregate, and nothing groups: exactly one row, whatever WHERE says.
fn is_aggregate(select: &SelectStmt) -> bool {
    const AGGREGATES: &[&str] =
        &["count", "sum", "min", "max", "avg", "bool_and", "bool_or", "every", "array_agg", "string_agg"];
    !select.target_list.is_empty()
        && select.target_list.iter().all(|target| {
            let Some(NodeEnum::ResTarget(target)) = target.node.as_ref() else {
                return false;
            };
            match target.val.as_ref().and_then(|value| value.node.as_ref()) {
                Some(NodeEnum::FuncCall(call)) => {
                    call.over.is_none()
                        && built_in(&call.funcname).is_some_and(|name| AGGREGATES.contains(&name))
                        && census::take(&call.args).functions.is_empty()
                }
                _ => false,
            }
        })
}

/// `id IN (SELECT id FROM the same table)`.
fn among(link: &SubLink, select: &SelectStmt, scope: &Scope) -> Option<Term> {
    let Term::Column(column) = child(&link.testexpr, scope) else {
        return None;
    };
    let [Some(NodeEnum::RangeVar(relation))] =
        select.from_clause.iter().map(|node| node.node.as_ref()).collect::<Vec<_>>()[..]
    else {
        return None;
    };
    let whole = is_plain(select)
        && select.limit_count.is_none()
        && select.distinct_clause.is_empty()
        && scope.is_target(relation);
    let inner_scope =
        Scope { joined: false, from: Vec::new(), target: relation, hidden: scope.hidden.clone(), also: Vec::new() };
    // Under its own name the condition must hold of the row that is looked at, and without leaning on the outer row.
    let filter = select.where_clause.as_ref().map(|inner| condition(inner, &inner_scope));
    let holds = |filter: &Term| {
        let same_name = names::alias(relation) != scope.called() || scope.target.alias.is_none();
        same_name && matches!(predicate::truth(filter), Truth::True(_))
    };
    let unfiltered = filter.as_ref().is_none_or(holds);
    let [target] = select.target_list.as_slice() else {
        return None;
    };
    let Some(NodeEnum::ResTarget(target)) = target.node.as_ref() else {
        return None;
    };
    let same = matches!(value(target.val.as_ref()?, &inner_scope), Term::Column(name) if name == column);
    if !(whole && unfiltered && same) {
        return None;
    }
    let among = Term::AmongItself(Box::new(Term::Column(column)));
    Some(match filter {
        Some(filter) if predicate::truth(&filter) != Truth::True(predicate::Needs::new()) => {
            Term::And(vec![among, Term::Is(Box::new(filter), true)])
        }
        _ => among,
    })
}

/// `(SELECT expression)` without a FROM is its expression.
fn scalar(select: &SelectStmt, scope: &Scope) -> Option<Term> {
    let [target] = select.target_list.as_slice() else {
        return None;
    };
    let Some(NodeEnum::ResTarget(target)) = target.node.as_ref() else {
        return None;
    };
    let plain = is_plain(select)
        && select.from_clause.is_empty()
        && select.where_clause.is_none()
        && select.limit_count.is_none();
    if plain { target.val.as_ref().map(|inner| value(inner, scope)) } else { None }
}
