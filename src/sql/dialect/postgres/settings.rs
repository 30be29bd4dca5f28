//! Settings that a statement would change: SET, RESET, ALTER … SET, and calls of set_config.
//!
//! Invariant: a call of `set_config` whose arguments are not plain constants is listed under the name `*`: it could be any setting.

use crate::sql::facts::{Facts, SettingChange, SettingScope};
use crate::sql::lexer::{self, Kind, StringKind, Token};
use pg_query::NodeEnum;
use pg_query::protobuf::{Node, VariableSetKind, VariableSetStmt, a_const::Val};

pub fn gather(node: &NodeEnum, facts: &mut Facts) {
    let lasting = Some(SettingScope::Lasting);
    match node {
        NodeEnum::VariableSetStmt(set) => push(set, None, facts),
        NodeEnum::AlterSystemStmt(alter) => alter.setstmt.iter().for_each(|set| push(set, lasting, facts)),
        NodeEnum::AlterRoleSetStmt(alter) => alter.setstmt.iter().for_each(|set| push(set, lasting, facts)),
        NodeEnum::AlterDatabaseSetStmt(alter) => alter.setstmt.iter().for_each(|set| push(set, lasting, facts)),
        NodeEnum::AlterFunctionStmt(alter) => options(&alter.actions, facts),
        NodeEnum::CreateFunctionStmt(create) => options(&create.options, facts),
        _ => {}
    }
}

/// `CREATE FUNCTION … SET name = value`.
fn options(options: &[Node], facts: &mut Facts) {
    for node in options {
        if let Some(NodeEnum::DefElem(option)) = node.node.as_ref()
            && let Some(NodeEnum::VariableSetStmt(set)) =
                option.arg.as_ref().and_then(|argument| argument.node.as_ref())
        {
            push(set, Some(SettingScope::Lasting), facts);
        }
    }
}

fn push(set: &VariableSetStmt, scope: Option<SettingScope>, facts: &mut Facts) {
    let scope = scope.unwrap_or(if set.is_local { SettingScope::Transaction } else { SettingScope::Session });
    let kind = VariableSetKind::try_from(set.kind);
    if kind == Ok(VariableSetKind::VarSetMulti) {
        facts.settings.extend(set.args.iter().filter_map(|argument| mode(argument, &set.name)));
        return;
    }
    let name =
        if kind == Ok(VariableSetKind::VarResetAll) { String::from("all") } else { set.name.to_ascii_lowercase() };
    let values: Option<Vec<String>> = set.args.iter().map(constant).collect();
    let value = values
        .filter(|values| kind == Ok(VariableSetKind::VarSetValue) && !values.is_empty())
        .map(|values| values.join(", "));
    facts.settings.push(SettingChange { name, value, scope });
}

/// One mode of `SET TRANSACTION …` or `SET SESSION CHARACTERISTICS AS TRANSACTION …`.
fn mode(argument: &Node, statement: &str) -> Option<SettingChange> {
    let Some(NodeEnum::DefElem(option)) = argument.node.as_ref() else {
        return None;
    };
    let session = statement.eq_ignore_ascii_case("SESSION CHARACTERISTICS");
    let name = if session { format!("default_{}", option.defname) } else { option.defname.clone() };
    let scope = if session { SettingScope::Session } else { SettingScope::Transaction };
    Some(SettingChange { name, value: option.arg.as_deref().and_then(constant), scope })
}

fn constant(node: &Node) -> Option<String> {
    match node.node.as_ref()? {
        NodeEnum::AConst(constant) => match constant.val.as_ref()? {
            Val::Ival(integer) => Some(integer.ival.to_string()),
            Val::Fval(float) => Some(float.fval.clone()),
            Val::Boolval(boolean) => Some(boolean.boolval.to_string()),
            Val::Sval(string) => Some(string.sval.clone()),
            Val::Bsval(bits) => Some(bits.bsval.clone()),
        },
        NodeEnum::TypeCast(cast) => constant(cast.arg.as_deref()?),
        _ => None,
    }
}

/// Calls of `set_config`, wherever they stand.
pub fn from_calls(text: &str, tokens: &[Token], facts: &mut Facts) {
    let is_call = |name: &str| name.rsplit('.').next() == Some("set_config");
    if !facts.functions.iter().any(|name| is_call(name)) {
        return;
    }
    facts.changes_session = true;
    let calls = tokens.iter().enumerate().filter(|(_, token)| {
        matches!(token.kind, Kind::Word | Kind::QuotedName)
            && lexer::folded(token.text(text)).as_deref() == Some("set_config")
    });
    let before = facts.settings.len();
    facts.settings.extend(calls.map(|(index, _)| call(text, tokens.get(index + 1..).unwrap_or_default())));
    if facts.settings.len() == before {
        facts.settings.push(any_setting()); // spelled in a way that tokens do not show: U&"…"
    }
}

fn call(text: &str, tokens: &[Token]) -> SettingChange {
    let [open, name, comma, value, second, local, close, ..] = tokens else {
        return any_setting();
    };
    let shape = open.is(b'(') && comma.is(b',') && second.is(b',') && close.is(b')');
    let (Some(name), true) = (literal(text, name), shape) else {
        return any_setting();
    };
    let scope = match local.is_word(text, "true") {
        true => SettingScope::Transaction,
        false => SettingScope::Session,
    };
    SettingChange { name: name.to_ascii_lowercase(), value: literal(text, value), scope }
}

fn any_setting() -> SettingChange {
    SettingChange { name: String::from("*"), value: None, scope: SettingScope::Session }
}

/// The value of a plain literal in which nothing is escaped.
fn literal(text: &str, token: &Token) -> Option<String> {
    let written = token.text(text);
    let body = written.strip_prefix('\'')?.strip_suffix('\'')?;
    (token.kind == Kind::String(StringKind::Plain) && !body.contains(['\'', '\\'])).then(|| String::from(body))
}
