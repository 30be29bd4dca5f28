//! `guard-off`: a setting that takes the database's own guards away.
//!
//! `session_replication_role = replica` keeps triggers and foreign keys from firing (PostgreSQL manual, "Client Connection
//! Defaults"). `row_security = off` on a session takes nothing away: the server then raises an error where a row policy would
//! have filtered, and `pg_dump` sends it before everything else; only a lasting one is found here. Seen on PostgreSQL 15.
//!
//! Invariant: a value that is not written as a constant is held to be the dangerous one.

use crate::policy::count::table;
use crate::policy::finding::{About, Finding, Level};
use crate::policy::question::Questions;
use crate::policy::rules::{Look, Rule, acts, finding};
use crate::policy::settings::Effective;
use crate::sql::facts::{ActKind, Change, Facts, Name, SettingChange, SettingScope};

pub struct GuardOff;

impl Rule for GuardOff {
    fn code(&self) -> &'static str {
        "guard-off"
    }
    fn title(&self) -> &'static str {
        "A setting that takes the database's own guards away"
    }
    fn page(&self) -> &'static str {
        include_str!("guard_off.md")
    }
    fn standard(&self) -> Level {
        Level::Deny
    }
    fn strict(&self) -> Level {
        Level::Deny
    }
    fn reads_text(&self) -> bool {
        true
    }

    /// A name that may be one of PostgreSQL's catalogs: a superuser may add rows to them.
    fn ask_of_change(&self, change: &Change, facts: &Facts, _effective: &Effective) -> Questions {
        let name = change.target.parts.last().map(String::as_str).unwrap_or_default();
        Questions { table: facts.product.either(name.starts_with("pg_"), false), ..Questions::default() }
    }

    fn look(&self, look: &Look<'_>) -> Vec<Finding> {
        let settings = look.facts.settings.iter();
        let takes = look.facts.product.either(takes_guard_away as fn(&SettingChange) -> bool, unguards);
        let matching = settings.filter(|setting| takes(setting));
        let mut found: Vec<Finding> = matching.map(|setting| found(self, setting)).collect();
        found.extend(acts(
            self,
            look,
            ActKind::GuardDisabled,
            "Load children after parents instead of turning checks off.",
        ));
        let is_catalog = |schema: &str| {
            let catalogs = look.facts.product.either(&["pg_catalog"][..], &["mysql", "sys", "performance_schema"][..]);
            catalogs.iter().any(|one| schema.eq_ignore_ascii_case(one))
        };
        // By its name too: of what only adds rows nothing is asked, and a row can be an account.
        let by_name = |name: &Name| match &name.parts[..] {
            [name] => {
                let database = look.caller.database.as_deref().filter(|database| is_catalog(database))?;
                Some(format!("{database}.{name}"))
            }
            [.., schema, name] => is_catalog(schema).then(|| format!("{schema}.{name}")),
            [] => None,
        };
        for (at, change, evidence) in look.changes() {
            let known = table(evidence)
                .map(|table| is_catalog(&table.schema).then(|| format!("{}.{}", table.schema, table.name)));
            if let Some(name) = known.flatten().or_else(|| by_name(&change.target)) {
                let message = format!("a change of the catalog itself, {name}");
                found.push(finding(self, About::Change(at), message, INSTEAD));
            }
        }
        if let Some(name) = look.facts.redefines.iter().find_map(by_name) {
            found.push(finding(self, About::Statement, format!("a change of the catalog itself, {name}"), INSTEAD));
        }
        found
    }
}

const INSTEAD: &str = "Use the statements made for it.";

fn found(rule: &dyn Rule, setting: &SettingChange) -> Finding {
    let name = match setting.name.as_str() {
        ANY_SETTING => "a setting not named by a constant",
        name => name,
    };
    let value = setting.value.as_deref().unwrap_or("a value not written as a constant");
    let instead = match setting.name.as_str() {
        "foreign_key_checks" | "unique_checks" | "check_constraint_checks" | "session_replication_role" => {
            "Load children after parents instead of turning checks off; a restore gets a role with a scope of its own in the policy."
        }
        "sql_log_bin" => "Let replicas and restores see the change.",
        "sql_safe_updates" => "Leave it as it is: Sluice looks at every change all the same.",
        _ => "Have the one who keeps the policy give this role a scope in which it is allowed.",
    };
    finding(rule, About::Statement, format!("{name} = {value}"), instead)
}

fn takes_guard_away(setting: &SettingChange) -> bool {
    let value = setting.value.as_deref().map(str::trim);
    let is = |name: &str| setting.name.eq_ignore_ascii_case(name);
    let any_of = |words: &[&str]| value.is_some_and(|value| words.iter().any(|word| value.eq_ignore_ascii_case(word)));
    // Lets a superuser change the catalog itself, where one row is a table.
    if is("track_counts") {
        // What a statement changed is measured by it.
        return !value.is_some_and(is_on);
    }
    if is("allow_system_table_mods") {
        return !any_of(&["off", "false", "no", "0"]);
    }
    if is("session_replication_role") {
        return !any_of(&["origin", "local"]);
    }
    if is(ANY_SETTING) {
        return value.is_none() || any_of(&["replica"]);
    }
    is("row_security") && setting.scope == SettingScope::Lasting && !value.is_some_and(is_on)
}

/// The same for MySQL and MariaDB, where guards are settings of their own: keys and checks not looked at, changes that replicas and
/// restores never see, history that can be made up, and the client's own guard against a forgotten WHERE.
fn unguards(setting: &SettingChange) -> bool {
    const ON: &[&str] =
        &["foreign_key_checks", "unique_checks", "check_constraint_checks", "sql_log_bin", "sql_safe_updates"];
    const OFF: &[&str] = &["system_versioning_insert_history"];
    let value = setting.value.as_deref().map(str::trim);
    let is_off = value.is_some_and(|value| ["off", "false", "0"].iter().any(|word| value.eq_ignore_ascii_case(word)));
    setting.name == ANY_SETTING
        || (ON.contains(&setting.name.as_str()) && !value.is_some_and(is_on))
        || (OFF.contains(&setting.name.as_str()) && !is_off)
}

/// How facts list a call of `set_config` whose first argument is no constant. A constant second one still tells: `pg_dump` sends
/// `set_config(name, 'view, foreign-table', false)`, which is no value that `session_replication_role` can have.
const ANY_SETTING: &str = "*";

/// The server takes any unambiguous beginning of a Boolean word; what is not clearly on is held to be off.
fn is_on(value: &str) -> bool {
    ["on", "true", "yes", "1"].iter().any(|word| value.eq_ignore_ascii_case(word))
}
