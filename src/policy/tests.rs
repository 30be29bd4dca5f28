//! What the policy as a whole does with statements: modes, evidence that does not fit, what is put off, what is unknown.
//!
//! Invariant: facts and evidence here are made by hand, so that nothing but the policy can fail.

use super::*;
use crate::policy::levels::Preset;
use crate::policy::question::{Rows, Table, TableKind, Trigger};
use crate::policy::scope::{Principal, effective};
use crate::policy::settings::Policy;
use crate::sql::facts::{Change, Execution, Kind, OnConflict, Restriction, Source, Verb};

fn delete() -> Facts {
    let target = Name { written: "t".to_owned(), parts: vec!["t".to_owned()] };
    let change = Change {
        verb: Verb::Delete,
        target,
        called: "t".to_owned(),
        only: false,
        restriction: Restriction::Restricts { pinned: Vec::new() },
        pinned_if: Vec::new(),
        limit: None,
        assignments: Vec::new(),
        source: Source::None,
        on_conflict: OnConflict::Fails,
        nesting: Nesting::Outer,
        clauses: None,
    };
    Facts { kind: Kind::Delete, changes: vec![change], ..Facts::default() }
}

fn answer(rows: Rows) -> ChangeEvidence {
    ChangeEvidence {
        verb: Verb::Delete,
        table: Known::Known(question::Table::default()),
        rows: Known::Known(rows),
        cascade: Known::Known(Vec::new()),
        carried: Known::NotAsked,
        reads: Known::NotAsked,
        sample: Known::NotAsked,
        scan: Known::NotAsked,
    }
}

fn evidence(changes: Vec<ChangeEvidence>) -> Evidence {
    Evidence { changes, ..Evidence::default() }
}

fn standard() -> Effective {
    of(Policy::default())
}

fn of(policy: Policy) -> Effective {
    effective(&policy, &Principal::default(), &[], jiff::Timestamp::UNIX_EPOCH)
}

fn level(facts: &Facts, evidence: &Evidence, effective: &Effective) -> Level {
    judge(facts, evidence, effective, &Caller::default()).in_force()
}

#[test]
fn a_read_asks_nothing_and_is_allowed() {
    let facts = Facts { kind: Kind::Read, ..Facts::default() };
    assert!(questions(&facts, &standard()).none());
    let verdict = judge(&facts, &Evidence::default(), &standard(), &Caller::default());
    assert_eq!(verdict, harmless(&standard()));
}

#[test]
fn evidence_that_does_not_fit_counts_as_unknown() {
    let few = answer(Rows::Exact(1));
    let other_verb = ChangeEvidence { verb: Verb::Update, ..few.clone() };
    assert_eq!(level(&delete(), &evidence(vec![few.clone()]), &standard()), Level::Allow);
    for wrong in [vec![], vec![few.clone(), few], vec![other_verb]] {
        assert_eq!(level(&delete(), &evidence(wrong), &standard()), Level::Confirm);
    }
}

#[test]
fn observe_finds_and_lets_through_and_off_does_not_even_ask() {
    let many = evidence(vec![answer(Rows::Exact(60_000))]);
    assert_eq!(level(&delete(), &many, &standard()), Level::Deny);
    let observe = of(Policy::preset(Preset::Observe));
    assert!(!questions(&delete(), &observe).none());
    let verdict = judge(&delete(), &many, &observe, &Caller::default());
    assert_eq!((verdict.level(), verdict.in_force()), (Level::Deny, Level::Warn));
    let off = of(Policy { mode: Mode::Off, ..Policy::default() });
    assert!(questions(&delete(), &off).none());
    assert_eq!(level(&delete(), &Evidence::default(), &off), Level::Allow);
}

#[test]
fn a_prepare_is_put_off_until_its_execute() {
    let mut facts = delete();
    facts.changes[0].restriction = Restriction::Nothing { why: "no WHERE".to_owned() };
    facts.changes[0].nesting = Nesting::Prepare;
    facts.prepares = Some("p".to_owned());
    assert!(questions(&facts, &standard()).none());
    assert_eq!(level(&facts, &Evidence::default(), &standard()), Level::Allow);
    let strict = of(Policy::preset(Preset::Strict));
    assert_eq!(level(&facts, &Evidence::default(), &strict), Level::Deny);
    let executed = executed(&facts);
    assert!(!questions(&executed, &standard()).none());
    assert_eq!(level(&executed, &Evidence::default(), &standard()), Level::Confirm);
}

#[test]
fn a_prepare_is_not_denied_for_what_only_the_catalog_can_tell() {
    let mut facts = delete();
    facts.changes[0].restriction =
        Restriction::AlwaysTrueIfNotNull { columns: vec!["id".to_owned()], why: "id = id".to_owned() };
    facts.prepares = Some("p".to_owned());
    let strict = of(Policy::preset(Preset::Strict));
    assert_eq!(level(&facts, &Evidence::default(), &strict), Level::Allow);
    assert_eq!(level(&executed(&facts), &Evidence::default(), &strict), Level::Deny);
}

#[test]
fn what_is_free_is_not_asked_about_however_small_a_batch_is() {
    let mut policy = Policy::default();
    (policy.sizes.free_rows, policy.sizes.batch_rows) = (50, 10);
    let effective = of(policy);
    assert_eq!(level(&delete(), &evidence(vec![answer(Rows::Exact(50))]), &effective), Level::Allow);
    assert_eq!(level(&delete(), &evidence(vec![answer(Rows::Exact(51))]), &effective), Level::Confirm);
}

#[test]
fn what_a_rewrite_rule_or_a_trigger_makes_of_a_change_is_unknown_even_for_no_rows_and_temporary_tables() {
    let mut facts = delete();
    facts.changes[0].restriction = Restriction::Nothing { why: "no WHERE".to_owned() };
    let instead = Trigger {
        name: String::new(),
        when: String::new(),
        on_insert: true,
        on_update: true,
        on_delete: true,
        each_row: true,
        instead: true,
        function: String::new(),
        columns: Vec::new(),
    };
    let known = |kind, has_rules, triggers| {
        let table = Table { kind, has_rules, triggers, ..Table::default() };
        let found = ChangeEvidence { table: Known::Known(table), ..answer(Rows::Exact(0)) };
        let verdict = judge(&facts, &evidence(vec![found]), &standard(), &Caller::default());
        verdict.judged().iter().any(|judged| judged.finding.rule == "missing-where")
    };
    for kind in [TableKind::Table, TableKind::Partitioned, TableKind::Temporary] {
        assert!(!known(kind, false, vec![]), "{kind:?}");
        assert!(known(kind, true, vec![]), "{kind:?}");
    }
    assert!(known(TableKind::Table, false, vec![instead]),);
    for kind in [TableKind::View, TableKind::Foreign, TableKind::MaterializedView, TableKind::Other] {
        assert!(known(kind, false, vec![]), "{kind:?}");
    }
}

#[test]
fn an_unread_prepare_and_an_execute_nobody_looked_up_are_confirmed() {
    let mut facts = Facts { prepares: Some("p".to_owned()), unread: Some("why".to_owned()), ..Facts::default() };
    assert_eq!(level(&facts, &Evidence::default(), &standard()), Level::Confirm);
    facts = Facts {
        kind: Kind::Execute,
        executes: Some(Execution { name: "p".to_owned(), arguments: vec![] }),
        ..Facts::default()
    };
    assert_eq!(level(&facts, &Evidence::default(), &standard()), Level::Confirm);
}

#[test]
fn a_door_is_denied_in_every_mode() {
    assert_eq!(refuse_door("the replication protocol").in_force(), Level::Deny);
}

#[test]
fn a_rule_without_a_level_is_denied() {
    let mut effective = standard();
    effective.levels = effective.levels.iter().take(1).cloned().collect();
    let unknown = evidence(vec![]);
    assert_eq!(level(&delete(), &unknown, &effective), Level::Deny);
}

#[test]
fn names_come_from_the_catalog_where_it_answered() {
    let mut known = answer(Rows::Exact(1));
    known.table =
        Known::Known(question::Table { schema: "shop".to_owned(), name: "t".to_owned(), ..Default::default() });
    assert_eq!(names(&delete(), &evidence(vec![known]))[0].parts, ["shop", "t"]);
    assert_eq!(names(&delete(), &Evidence::default())[0].parts, ["t"]);
}
