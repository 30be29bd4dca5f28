//! What a statement does besides changing rows and removing objects: rights, guards, files, programs, other servers.
//!
//! Invariant: only what the text itself tells is listed. What a statement of a kind that is not named here does is for other facts.
//!
//! Sources: PostgreSQL 18's grammar (`parsenodes.h`) and manual, "SQL Commands".

use crate::sql::dialect::postgres::{census, names, removals};
use crate::sql::facts::{Act, ActKind, Facts};
use crate::sql::reach;
use pg_query::NodeEnum;
use pg_query::protobuf::{
    AlterDatabaseStmt, AlterTableCmd, AlterTableStmt, AlterTableType, CopyStmt, CreateFunctionStmt, CreateRoleStmt,
    DropStmt, GrantStmt, Node, ObjectType, RoleSpec, RoleSpecType,
};

/// The acts of one statement that is neither a read nor a change of rows.
pub fn gather(node: &NodeEnum, facts: &mut Facts) {
    match node {
        NodeEnum::AlterTableStmt(alter) => altered(alter, facts),
        NodeEnum::DropStmt(drop) => dropped(drop, facts),
        NodeEnum::CreateSchemaStmt(create) => {
            create.schema_elts.iter().filter_map(|node| node.node.as_ref()).for_each(|node| gather(node, facts))
        }
        NodeEnum::AlterDomainStmt(alter) if matches!(alter.subtype.as_str(), "X" | "N") => {
            let what = if alter.subtype == "X" { "DROP CONSTRAINT" } else { "DROP NOT NULL" };
            push(facts, ActKind::GuardDropped, format!("{what} of a domain"));
        }
        NodeEnum::AlterEventTrigStmt(alter) if !matches!(alter.tgenabled.as_str(), "O" | "A") => {
            push(facts, ActKind::GuardDisabled, format!("event trigger {} disabled", names::quoted(&alter.trigname)));
        }
        NodeEnum::CopyStmt(copy) => copied(copy, facts),
        NodeEnum::CreateFunctionStmt(create) => function_made(create, facts),
        NodeEnum::AlterFunctionStmt(alter) => {
            if has_true(&alter.actions, "security") {
                push(facts, ActKind::Rights, "a function made SECURITY DEFINER".to_owned());
            }
        }
        NodeEnum::AlterDatabaseStmt(alter) => database_altered(alter, facts),
        other => {
            if let Some(words) = rights(other) {
                push(facts, ActKind::Rights, words);
            }
            if let Some(words) = outside(other) {
                push(facts, ActKind::Outside, words);
            }
        }
    }
}

/// The acts of the functions that a statement calls, wherever.
pub fn from_calls(facts: &mut Facts) {
    let acts =
        facts.functions.iter().filter_map(|name| Some(Act { kind: reach::of(name)?, words: format!("{name}()") }));
    let acts: Vec<Act> = acts.collect();
    facts.acts.extend(acts);
}

/// COPY is read apart from the other statements, because it can carry changes.
pub fn copied(copy: &CopyStmt, facts: &mut Facts) {
    if copy.filename.is_empty() {
        return;
    }
    let words = match (copy.is_program, copy.is_from) {
        (true, true) => "COPY … FROM PROGRAM runs a program on the server",
        (true, false) => "COPY … TO PROGRAM runs a program on the server",
        (false, true) => "COPY … FROM reads a file of the server",
        (false, false) => "COPY … TO writes a file of the server",
    };
    push(facts, ActKind::Outside, words.to_owned());
}

/// GRANT and REVOKE: of rights on objects.
pub fn granted(grant: &GrantStmt, facts: &mut Facts) {
    let words = match grant.is_grant {
        true => format!("GRANT to {}", roles(&grant.grantees)),
        false => format!("REVOKE from {}", roles(&grant.grantees)),
    };
    push(facts, ActKind::Rights, words);
}

/// GRANT and REVOKE: of membership in roles.
pub fn membership(is_grant: bool, grantees: &[Node], facts: &mut Facts) {
    let words = match is_grant {
        true => format!("GRANT of a role to {}", roles(grantees)),
        false => format!("REVOKE of a role from {}", roles(grantees)),
    };
    push(facts, ActKind::Rights, words);
}

pub fn push(facts: &mut Facts, kind: ActKind, words: String) {
    facts.acts.push(Act { kind, words });
}

fn rights(node: &NodeEnum) -> Option<String> {
    Some(match node {
        NodeEnum::GrantStmt(grant) if grant.is_grant => format!("GRANT to {}", roles(&grant.grantees)),
        NodeEnum::GrantStmt(grant) => format!("REVOKE from {}", roles(&grant.grantees)),
        NodeEnum::CreateRoleStmt(create) => role_made(create),
        NodeEnum::AlterRoleStmt(alter) => format!("ALTER ROLE {}", role(alter.role.as_ref())),
        NodeEnum::AlterRoleSetStmt(alter) => format!("a setting for every session of {}", role(alter.role.as_ref())),
        NodeEnum::AlterDatabaseSetStmt(alter) => {
            format!("a setting for every session in the database {}", names::quoted(&alter.dbname))
        }
        NodeEnum::DropRoleStmt(drop) => format!("DROP ROLE {}", roles(&drop.roles)),
        NodeEnum::AlterOwnerStmt(alter) => {
            let kind = removals::spoken(ObjectType::try_from(alter.object_type).unwrap_or_default());
            format!("{kind}: OWNER TO {}", role(alter.newowner.as_ref()))
        }
        NodeEnum::ReassignOwnedStmt(reassign) => {
            format!("REASSIGN OWNED BY {} TO {}", roles(&reassign.roles), role(reassign.newrole.as_ref()))
        }
        NodeEnum::DropOwnedStmt(drop) => format!("DROP OWNED BY {}", roles(&drop.roles)),
        NodeEnum::CreatePolicyStmt(create) => format!("CREATE POLICY {}", names::quoted(&create.policy_name)),
        NodeEnum::AlterPolicyStmt(alter) => format!("ALTER POLICY {}", names::quoted(&alter.policy_name)),
        NodeEnum::SecLabelStmt(_) => "SECURITY LABEL".to_owned(),
        NodeEnum::CreateUserMappingStmt(create) => format!("CREATE USER MAPPING for {}", role(create.user.as_ref())),
        NodeEnum::AlterUserMappingStmt(alter) => format!("ALTER USER MAPPING for {}", role(alter.user.as_ref())),
        NodeEnum::DropUserMappingStmt(drop) => format!("DROP USER MAPPING for {}", role(drop.user.as_ref())),
        NodeEnum::RenameStmt(rename) if ObjectType::try_from(rename.rename_type) == Ok(ObjectType::ObjectRole) => {
            format!("RENAME of the role {}", names::quoted(&rename.subname))
        }
        _ => return None,
    })
}

/// Extensions whose only use is to reach out of the database, and languages whose functions run with the server's own rights.
const REACHING: &[&str] = &[
    "adminpack",
    "aws_lambda",
    "aws_s3",
    "dblink",
    "file_fdw",
    "http",
    "mysql_fdw",
    "oracle_fdw",
    "pg_cron",
    "pg_net",
    "plperlu",
    "plsh",
    "pltclu",
    "postgres_fdw",
    "tds_fdw",
];

fn outside(node: &NodeEnum) -> Option<String> {
    Some(match node {
        NodeEnum::AlterSystemStmt(_) => "ALTER SYSTEM sets the whole server".to_owned(),
        NodeEnum::LoadStmt(_) => "LOAD runs a library in the server".to_owned(),
        NodeEnum::CreateFdwStmt(_) | NodeEnum::AlterFdwStmt(_) => "a foreign-data wrapper".to_owned(),
        NodeEnum::CreateForeignServerStmt(create) => format!("CREATE SERVER {}", names::quoted(&create.servername)),
        NodeEnum::AlterForeignServerStmt(alter) => format!("ALTER SERVER {}", names::quoted(&alter.servername)),
        NodeEnum::ImportForeignSchemaStmt(import) => {
            format!("IMPORT FOREIGN SCHEMA from {}", names::quoted(&import.server_name))
        }
        NodeEnum::CreatePublicationStmt(create) => format!("CREATE PUBLICATION {}", names::quoted(&create.pubname)),
        NodeEnum::AlterPublicationStmt(alter) => format!("ALTER PUBLICATION {}", names::quoted(&alter.pubname)),
        NodeEnum::CreateSubscriptionStmt(create) => format!("CREATE SUBSCRIPTION {}", names::quoted(&create.subname)),
        NodeEnum::AlterSubscriptionStmt(alter) => format!("ALTER SUBSCRIPTION {}", names::quoted(&alter.subname)),
        NodeEnum::DropSubscriptionStmt(drop) => format!("DROP SUBSCRIPTION {}", names::quoted(&drop.subname)),
        NodeEnum::CreateTableSpaceStmt(create) => {
            format!("CREATE TABLESPACE {}", names::quoted(&create.tablespacename))
        }
        NodeEnum::CreateEventTrigStmt(create) => {
            format!("event trigger {} runs at everybody's DDL", names::quoted(&create.trigname))
        }
        NodeEnum::CreateExtensionStmt(create) if reaches(&create.extname) => {
            format!("the extension {} reaches out of the database", names::quoted(&create.extname))
        }
        NodeEnum::CreatePlangStmt(create) => format!("CREATE LANGUAGE {}", names::quoted(&create.plname)),
        _ => return None,
    })
}

fn reaches(extension: &str) -> bool {
    REACHING.contains(&extension) || is_untrusted(extension)
}

/// Functions in it run with the rights of the server itself: C and the server's own, and by the manual's custom every name that
/// ends in u.
fn is_untrusted(language: &str) -> bool {
    matches!(language, "c" | "internal" | "plsh") || (language.starts_with("pl") && language.ends_with('u'))
}

fn function_made(create: &CreateFunctionStmt, facts: &mut Facts) {
    let option = |name: &str| {
        create.options.iter().filter_map(element).find(|(found, _)| *found == name).and_then(|(_, value)| value)
    };
    let language = option("language").and_then(names::string).map(str::to_ascii_lowercase);
    if let Some(language) = language.filter(|language| is_untrusted(language)) {
        push(
            facts,
            ActKind::Outside,
            format!("a function in the language {language}, which runs as the server itself"),
        );
    }
    let schema = (create.funcname.len() > 1).then(|| create.funcname.first().and_then(names::string)).flatten();
    if schema == Some("pg_catalog") {
        push(facts, ActKind::GuardDisabled, "a function among the server's own, in pg_catalog".to_owned());
    }
    if has_true(&create.options, "security") {
        push(facts, ActKind::Rights, "a function with its owner's rights (SECURITY DEFINER)".to_owned());
    }
}

fn database_altered(alter: &AlterDatabaseStmt, facts: &mut Facts) {
    let admits = |name: &str| matches!(name, "allow_connections" | "connection_limit" | "is_template");
    if alter.options.iter().filter_map(element).any(|(name, _)| admits(name)) {
        push(facts, ActKind::Rights, format!("who may connect to the database {}", names::quoted(&alter.dbname)));
    }
}

fn dropped(drop: &DropStmt, facts: &mut Facts) {
    let kind = ObjectType::try_from(drop.remove_type).unwrap_or_default();
    let (act, what) = match kind {
        ObjectType::ObjectTrigger => (ActKind::GuardDropped, "DROP TRIGGER"),
        ObjectType::ObjectEventTrigger => (ActKind::GuardDropped, "DROP EVENT TRIGGER"),
        ObjectType::ObjectRule => (ActKind::GuardDropped, "DROP RULE"),
        ObjectType::ObjectPolicy => (ActKind::Rights, "DROP POLICY"),
        ObjectType::ObjectPublication => (ActKind::Outside, "DROP PUBLICATION"),
        ObjectType::ObjectForeignServer => (ActKind::Outside, "DROP SERVER"),
        ObjectType::ObjectFdw => (ActKind::Outside, "DROP FOREIGN DATA WRAPPER"),
        _ => return,
    };
    let objects: Vec<String> = drop.objects.iter().map(last_name).collect();
    push(facts, act, format!("{what} {}", objects.join(", ")));
}

fn last_name(object: &Node) -> String {
    match object.node.as_ref() {
        Some(NodeEnum::List(list)) => {
            // A trigger, rule or policy stands last, behind the table's name.
            let parts: Vec<&str> = list.items.iter().filter_map(names::string).collect();
            match parts.as_slice() {
                [.., table, name] => format!("{} of {}", names::quoted(name), names::quoted(table)),
                [name] => names::quoted(name),
                [] => String::new(),
            }
        }
        Some(NodeEnum::String(string)) => names::quoted(&string.sval),
        _ => String::new(),
    }
}

fn altered(alter: &AlterTableStmt, facts: &mut Facts) {
    let table = alter.relation.as_ref().map(|relation| names::relation(relation).written).unwrap_or_default();
    for node in &alter.cmds {
        if let Some(NodeEnum::AlterTableCmd(command)) = node.node.as_ref()
            && let Some((kind, words)) = step(command)
        {
            push(facts, kind, format!("{table}: {words}"));
        }
    }
}

fn step(command: &AlterTableCmd) -> Option<(ActKind, String)> {
    use AlterTableType as T;
    let name = names::quoted(&command.name);
    let kind = T::try_from(command.subtype).ok()?;
    Some(match kind {
        T::AtDisableTrig => (ActKind::GuardDisabled, format!("trigger {name} disabled")),
        T::AtEnableReplicaTrig => (ActKind::GuardDisabled, format!("trigger {name} fires on replicas only")),
        T::AtDisableTrigAll => (ActKind::GuardDisabled, "all triggers and foreign keys disabled".to_owned()),
        T::AtDisableTrigUser => (ActKind::GuardDisabled, "all triggers disabled".to_owned()),
        T::AtDisableRule => (ActKind::GuardDisabled, format!("rule {name} disabled")),
        T::AtEnableReplicaRule => (ActKind::GuardDisabled, format!("rule {name} acts on replicas only")),
        T::AtAlterConstraint if no_longer_enforced(command) => {
            (ActKind::GuardDisabled, "a constraint no longer enforced".to_owned())
        }
        T::AtDropConstraint => (ActKind::GuardDropped, format!("DROP CONSTRAINT {name}")),
        T::AtDropNotNull => (ActKind::GuardDropped, format!("DROP NOT NULL on {name}")),
        T::AtSetUnLogged => (ActKind::GuardDropped, "SET UNLOGGED: a crash empties the rows".to_owned()),
        T::AtDisableRowSecurity => (ActKind::Rights, "DISABLE ROW LEVEL SECURITY".to_owned()),
        T::AtNoForceRowSecurity => (ActKind::Rights, "NO FORCE ROW LEVEL SECURITY".to_owned()),
        T::AtEnableRowSecurity => (ActKind::Rights, "ENABLE ROW LEVEL SECURITY".to_owned()),
        T::AtForceRowSecurity => (ActKind::Rights, "FORCE ROW LEVEL SECURITY".to_owned()),
        T::AtChangeOwner => (ActKind::Rights, format!("OWNER TO {}", role(command.newowner.as_ref()))),
        _ => return None,
    })
}

fn no_longer_enforced(command: &AlterTableCmd) -> bool {
    match command.def.as_ref().and_then(|node| node.node.as_ref()) {
        Some(NodeEnum::AtalterConstraint(alter)) => alter.alter_enforceability && !alter.is_enforced,
        _ => false,
    }
}

fn role_made(create: &CreateRoleStmt) -> String {
    format!("CREATE ROLE {}", names::quoted(&create.role))
}

fn roles(nodes: &[Node]) -> String {
    let each = nodes.iter().map(|node| match node.node.as_ref() {
        Some(NodeEnum::RoleSpec(spec)) => role(Some(spec)),
        _ => String::new(),
    });
    each.collect::<Vec<_>>().join(", ")
}

fn role(spec: Option<&RoleSpec>) -> String {
    let Some(spec) = spec else { return "every role".to_owned() };
    match RoleSpecType::try_from(spec.roletype) {
        Ok(RoleSpecType::RolespecPublic) => "PUBLIC".to_owned(),
        Ok(RoleSpecType::RolespecCurrentUser | RoleSpecType::RolespecCurrentRole) => "CURRENT_USER".to_owned(),
        Ok(RoleSpecType::RolespecSessionUser) => "SESSION_USER".to_owned(),
        _ => names::quoted(&spec.rolename),
    }
}

fn element(node: &Node) -> Option<(&str, Option<&Node>)> {
    match node.node.as_ref()? {
        NodeEnum::DefElem(element) => Some((element.defname.as_str(), element.arg.as_deref())),
        _ => None,
    }
}

/// The option is there and its value is true, or not one that can be read.
fn has_true(options: &[Node], name: &str) -> bool {
    let is_true = |value: Option<&Node>| match value.and_then(|node| node.node.as_ref()) {
        Some(NodeEnum::Boolean(boolean)) => boolean.boolval,
        Some(NodeEnum::Integer(number)) => number.ival != 0,
        _ => true,
    };
    options.iter().filter_map(element).any(|(found, value)| found == name && is_true(value))
}

/// How many queries in a statement page with OFFSET, one of nothing (an optimiser's fence) aside.
pub fn pages(counted: &census::Census, fences: usize) -> bool {
    counted.offsets > fences
}
