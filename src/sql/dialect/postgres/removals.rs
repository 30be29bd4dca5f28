//! What a statement would remove whole: TRUNCATE, DROP, DROP COLUMN, DETACH PARTITION.
//!
//! Invariant: every DROP gives at least one removal or leaves the statement unread; the name of an unknown kind of object is kept.

use crate::sql::dialect::postgres::names;
use crate::sql::facts::{Facts, Name, Nesting, Removal, Removed};
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableStmt, AlterTableType, DropBehavior, DropStmt, Node, ObjectType};

pub fn gather(node: &NodeEnum, facts: &mut Facts) {
    match node {
        NodeEnum::TruncateStmt(truncate) => {
            let cascade = cascades(truncate.behavior);
            for relation in &truncate.relations {
                if let Some(NodeEnum::RangeVar(relation)) = relation.node.as_ref() {
                    push(facts, Removed::Rows, names::relation(relation), cascade, false);
                }
            }
        }
        NodeEnum::DropStmt(drop) => dropped(drop, facts),
        NodeEnum::AlterTableStmt(alter) => altered(alter, facts),
        NodeEnum::DropdbStmt(drop) => push(facts, Removed::Database, named(&drop.dbname), false, drop.missing_ok),
        NodeEnum::DropTableSpaceStmt(drop) => {
            push(facts, Removed::Tablespace, named(&drop.tablespacename), false, drop.missing_ok)
        }
        NodeEnum::DropSubscriptionStmt(drop) => {
            push(facts, other("subscription"), named(&drop.subname), cascades(drop.behavior), drop.missing_ok)
        }
        NodeEnum::DropUserMappingStmt(drop) => {
            push(facts, other("user mapping"), named(&drop.servername), false, drop.missing_ok)
        }
        NodeEnum::DropRoleStmt(drop) => {
            for role in &drop.roles {
                if let Some(NodeEnum::RoleSpec(role)) = role.node.as_ref() {
                    push(facts, other("role"), named(&role.rolename), false, drop.missing_ok);
                }
            }
        }
        NodeEnum::DropOwnedStmt(_) => {
            facts.unread = Some(String::from(
                "DROP OWNED removes whatever the role owns, tables included: the text does not name it",
            ));
        }
        _ => {}
    }
}

fn push(facts: &mut Facts, what: Removed, name: Name, cascade: bool, if_exists: bool) {
    facts.removals.push(Removal { what, name, cascade, if_exists, nesting: Nesting::Outer });
}

fn named(name: &str) -> Name {
    names::name(vec![String::from(name)])
}

fn other(what: &str) -> Removed {
    Removed::Other(String::from(what))
}

fn cascades(behavior: i32) -> bool {
    DropBehavior::try_from(behavior) == Ok(DropBehavior::DropCascade)
}

fn dropped(drop: &DropStmt, facts: &mut Facts) {
    let kind = ObjectType::try_from(drop.remove_type).unwrap_or_default();
    for object in &drop.objects {
        let what = match kind {
            ObjectType::ObjectTable => Removed::Table,
            ObjectType::ObjectSchema => Removed::Schema,
            ObjectType::ObjectMatview => Removed::MaterializedView,
            other_kind => other(&spoken(other_kind)),
        };
        push(facts, what, object_name(object), cascades(drop.behavior), drop.missing_ok);
    }
    if facts.removals.is_empty() {
        facts.unread = Some(String::from("a DROP without an object"));
    }
}

/// `OBJECT_FOREIGN_TABLE` as "foreign table".
pub fn spoken(kind: ObjectType) -> String {
    kind.as_str_name().trim_start_matches("OBJECT_").replace('_', " ").to_ascii_lowercase()
}

/// The parts of an object's name, however the grammar keeps them for its kind.
fn object_name(object: &Node) -> Name {
    let strings = |nodes: &[Node]| nodes.iter().filter_map(names::string).map(String::from).collect();
    let parts = match object.node.as_ref() {
        Some(NodeEnum::List(list)) => list.items.iter().flat_map(|node| object_name(node).parts).collect(),
        Some(NodeEnum::String(string)) => vec![string.sval.clone()],
        Some(NodeEnum::TypeName(name)) => strings(&name.names),
        Some(NodeEnum::ObjectWithArgs(object)) => strings(&object.objname),
        _ => Vec::new(),
    };
    names::name(parts)
}

fn altered(alter: &AlterTableStmt, facts: &mut Facts) {
    let Some(relation) = &alter.relation else {
        return;
    };
    for node in &alter.cmds {
        let Some(NodeEnum::AlterTableCmd(command)) = node.node.as_ref() else {
            continue;
        };
        if AlterTableType::try_from(command.subtype) == Ok(AlterTableType::AtDropInherit) {
            // Said of the child: the parent loses its rows.
            if let Some(NodeEnum::RangeVar(parent)) = command.def.as_ref().and_then(|node| node.node.as_ref()) {
                let child = Removed::Partition(names::relation(relation).written);
                push(facts, child, names::relation(parent), false, alter.missing_ok);
            }
            continue;
        }
        let what = match AlterTableType::try_from(command.subtype) {
            Ok(AlterTableType::AtDropColumn) => Removed::Column(command.name.clone()),
            Ok(AlterTableType::AtDetachPartition) => match command.def.as_ref().and_then(|node| node.node.as_ref()) {
                Some(NodeEnum::PartitionCmd(partition)) => Removed::Partition(
                    partition.name.as_ref().map(|name| names::relation(name).written).unwrap_or_default(),
                ),
                _ => Removed::Partition(String::new()),
            },
            _ => continue,
        };
        push(
            facts,
            what,
            names::relation(relation),
            cascades(command.behavior),
            command.missing_ok || alter.missing_ok,
        );
    }
}
