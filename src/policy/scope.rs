//! Who acts, and to whom, what and when a part of the policy applies.
//!
//! Scopes are read from top to bottom and the last that names a rule or a size decides. A scope that asks for a table is held
//! to each table that a statement touches, and the strictest result holds: otherwise a statement that also touches a table of
//! a lenient scope would take its leniency along.
//!
//! Invariant: where it is not known whether a scope applies (a name without its schema, a statement that was not read), it can
//! only make the policy stricter.

use crate::policy::finding::Level;
use crate::policy::pattern::{Addresses, Glob, Window};
use crate::policy::settings::{Effective, Origin, Policy, Sizes};
use crate::sql::facts::Name;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// Who is on the client's end of a session. What the client states of itself (`application`) is not proof of anything and may
/// only tighten or explain, which is for whoever writes the policy to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Principal {
    pub user: String,
    pub database: String,
    /// IP address, or "local" for a unix socket.
    pub address: String,
    pub application: String,
}

/// One `[[scope]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Scope {
    pub name: String,
    /// Where it stands: `sluice.toml:31 [[scope]] "night jobs"`.
    pub origin: Origin,
    pub matches: Match,
    /// Places in `policy::rules::all()`, each with its level and the line that gives it.
    pub levels: Vec<(usize, Level, Origin)>,
    pub sizes: SizeChanges,
}

/// What must hold for a scope to apply; an empty list asks for nothing, and of a list one entry must match.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Match {
    pub user: Vec<Glob>,
    pub address: Vec<Addresses>,
    pub application: Vec<Glob>,
    pub database: Vec<Glob>,
    /// `schema.table`.
    pub table: Vec<(Glob, Glob)>,
    pub time: Vec<Window>,
}

/// The sizes that a scope gives anew.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SizeChanges {
    pub free_rows: Option<u64>,
    pub batch_rows: Option<u64>,
    pub sample_rows: Option<u64>,
    pub max_affected: Option<u64>,
    pub max_affected_limit: Option<u64>,
    pub tolerance: Option<f64>,
    pub preview_timeout: Option<Duration>,
    pub token_ttl: Option<Duration>,
}

/// The policy as it applies to this principal now, for a statement that touches these tables; see [`crate::policy::names`].
pub fn effective(policy: &Policy, principal: &Principal, names: &[Name], now: Timestamp) -> Effective {
    let applying = |scope: &&Scope| scope.matches.principal(principal) && scope.matches.time(now);
    let scopes: Vec<&Scope> = policy.scopes.iter().filter(applying).collect();
    let base = Effective {
        mode: policy.mode,
        sizes: policy.sizes,
        generation: policy.generation,
        levels: policy.levels.clone(),
        frozen: policy.freezes.iter().find(|freeze| freeze.holds(principal, now)).map(|freeze| freeze.frozen.clone()),
    };
    if scopes.is_empty() {
        return base;
    }
    let on = |name: Option<&Name>| scopes.iter().fold(Draft::of(&base), |draft, scope| draft.under(scope, name));
    let all = names.iter().map(|name| on(Some(name))).reduce(Draft::strictest);
    all.unwrap_or_else(|| on(None)).onto(base)
}

/// One session's policy, worked out again only when the policy, the principal or the minute changed. Statements that touch
/// tables which some scope asks for need [`effective`] with their names.
#[derive(Debug, Default)]
pub struct Standing {
    found: Option<(Principal, i64, Effective)>,
}

impl Standing {
    /// The policy for a statement whose tables do not matter, or are not known: at least as strict as for any table.
    pub fn get(&mut self, policy: &Policy, principal: &Principal, now: Timestamp) -> &Effective {
        self.get_at(policy, principal, || now)
    }

    /// The same; the clock is only looked at where the policy asks for the time.
    pub fn get_at(&mut self, policy: &Policy, principal: &Principal, now: impl Fn() -> Timestamp) -> &Effective {
        let minute = if policy.has_windows() { now().as_second().div_euclid(60) } else { 0 };
        let fresh = self.found.as_ref().is_some_and(|(whose, when, effective)| {
            effective.generation == policy.generation && *when == minute && whose == principal
        });
        if !fresh {
            self.found = None;
        }
        let work_out = || (principal.clone(), minute, effective(policy, principal, &[], now()));
        &self.found.get_or_insert_with(work_out).2
    }
}

impl Policy {
    /// Some scope asks for tables: what holds depends on the statement.
    pub fn has_tables(&self) -> bool {
        self.scopes.iter().any(|scope| !scope.matches.table.is_empty())
    }

    fn has_windows(&self) -> bool {
        !self.freezes.is_empty() || self.scopes.iter().any(|scope| !scope.matches.time.is_empty())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Applies {
    No,
    /// Not known: only what it makes stricter is taken.
    Perhaps,
    Yes,
}

impl Match {
    pub(in crate::policy) fn principal(&self, principal: &Principal) -> bool {
        let any = |globs: &[Glob], text: &str| globs.is_empty() || globs.iter().any(|glob| glob.matches(text));
        let from = |range: &Addresses| range.matches(&principal.address);
        any(&self.user, &principal.user)
            && any(&self.application, &principal.application)
            && any(&self.database, &principal.database)
            && (self.address.is_empty() || self.address.iter().any(from))
    }

    fn time(&self, now: Timestamp) -> bool {
        self.time.is_empty() || self.time.iter().any(|window| window.contains(now))
    }

    fn on(&self, name: Option<&Name>) -> Applies {
        if self.table.is_empty() {
            return Applies::Yes;
        }
        let Some([.., object]) = name.map(|name| name.parts.as_slice()) else {
            return Applies::Perhaps;
        };
        let schema = name.and_then(|name| name.parts.iter().rev().nth(1));
        let fits = self.table.iter().filter(|(_, table)| table.matches(object));
        match schema {
            Some(schema) if fits.clone().any(|(pattern, _)| pattern.matches(schema)) => Applies::Yes,
            None if fits.count() > 0 => Applies::Perhaps,
            _ => Applies::No,
        }
    }
}

/// Levels and sizes on their way through the scopes.
struct Draft {
    levels: Vec<(Level, Origin)>,
    sizes: Sizes,
}

impl Draft {
    fn of(base: &Effective) -> Draft {
        Draft { levels: base.levels.to_vec(), sizes: base.sizes }
    }

    fn under(mut self, scope: &Scope, name: Option<&Name>) -> Draft {
        let applies = scope.matches.on(name);
        if applies == Applies::No {
            return self;
        }
        for (rule, level, origin) in &scope.levels {
            let Some(slot) = self.levels.get_mut(*rule) else {
                continue;
            };
            if applies == Applies::Yes || *level > slot.0 {
                *slot = (*level, origin.clone());
            }
        }
        let sizes = scope.sizes.onto(self.sizes);
        self.sizes = if applies == Applies::Yes { sizes } else { strictest(self.sizes, sizes) };
        self
    }

    fn strictest(mut self, other: Draft) -> Draft {
        for (slot, theirs) in self.levels.iter_mut().zip(other.levels) {
            if theirs.0 > slot.0 {
                *slot = theirs;
            }
        }
        self.sizes = strictest(self.sizes, other.sizes);
        self
    }

    fn onto(self, base: Effective) -> Effective {
        Effective { levels: Arc::from(self.levels), sizes: self.sizes, ..base }
    }
}

impl SizeChanges {
    /// These sizes, with what is given anew.
    pub fn onto(self, sizes: Sizes) -> Sizes {
        Sizes {
            free_rows: self.free_rows.unwrap_or(sizes.free_rows),
            batch_rows: self.batch_rows.unwrap_or(sizes.batch_rows),
            sample_rows: self.sample_rows.unwrap_or(sizes.sample_rows),
            max_affected: self.max_affected.unwrap_or(sizes.max_affected),
            max_affected_limit: self.max_affected_limit.unwrap_or(sizes.max_affected_limit),
            tolerance: self.tolerance.unwrap_or(sizes.tolerance),
            preview_timeout: self.preview_timeout.unwrap_or(sizes.preview_timeout),
            token_ttl: self.token_ttl.unwrap_or(sizes.token_ttl),
        }
    }
}

/// The smaller of each number is the stricter one. How much is shown and how long is counted restricts nothing: the larger.
fn strictest(one: Sizes, other: Sizes) -> Sizes {
    Sizes {
        free_rows: one.free_rows.min(other.free_rows),
        batch_rows: one.batch_rows.min(other.batch_rows),
        sample_rows: one.sample_rows.max(other.sample_rows),
        max_affected: one.max_affected.min(other.max_affected),
        max_affected_limit: one.max_affected_limit.min(other.max_affected_limit),
        tolerance: one.tolerance.min(other.tolerance),
        preview_timeout: one.preview_timeout.max(other.preview_timeout),
        token_ttl: one.token_ttl.min(other.token_ttl),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::rules;

    fn now() -> Timestamp {
        "2026-03-02T12:00:00Z".parse().expect("a time")
    }

    fn scope(matches: Match, level: Level) -> Scope {
        let (rule, _) = rules::find("missing-where").expect("a rule");
        let origin: Origin = level.to_string().into();
        let levels = vec![(rule, level, origin.clone())];
        Scope { name: level.to_string(), origin, matches, levels, sizes: SizeChanges::default() }
    }

    fn user(pattern: &str) -> Match {
        Match { user: vec![Glob::new(pattern).expect("a pattern")], ..Match::default() }
    }

    fn table(schema: &str, table: &str) -> Match {
        let glob = |text| Glob::new(text).expect("a pattern");
        Match { table: vec![(glob(schema), glob(table))], ..Match::default() }
    }

    fn name(written: &str) -> Name {
        Name { written: written.to_owned(), parts: written.split('.').map(str::to_owned).collect() }
    }

    fn level(scopes: Vec<Scope>, who: &str, names: &[&str]) -> Level {
        let policy = Policy { scopes, ..Policy::default() };
        let principal = Principal { user: who.to_owned(), ..Principal::default() };
        let names: Vec<Name> = names.iter().map(|written| name(written)).collect();
        effective(&policy, &principal, &names, now()).levels[0].0
    }

    #[test]
    fn the_last_scope_that_names_a_rule_decides() {
        let scopes = || vec![scope(user("*"), Level::Deny), scope(user("etl_*"), Level::Warn)];
        assert_eq!(level(scopes(), "etl_1", &["public.t"]), Level::Warn);
        assert_eq!(level(scopes(), "anna", &["public.t"]), Level::Deny);
        assert_eq!(level(Vec::new(), "anna", &["public.t"]), Level::Confirm);
    }

    #[test]
    fn leniency_for_one_table_does_not_reach_another() {
        let scopes = || vec![scope(table("archive", "*"), Level::Allow)];
        assert_eq!(level(scopes(), "anna", &["archive.t"]), Level::Allow);
        assert_eq!(level(scopes(), "anna", &["archive.t", "public.t"]), Level::Confirm);
        assert_eq!(level(scopes(), "anna", &["public.t", "archive.t"]), Level::Confirm);
    }

    #[test]
    fn what_is_not_known_can_only_make_stricter() {
        let lenient = || vec![scope(table("archive", "*"), Level::Allow)];
        let strict = || vec![scope(table("payroll", "*"), Level::Deny)];
        for names in [&["t"][..], &[""], &[]] {
            assert_eq!(level(lenient(), "anna", names), Level::Confirm, "{names:?}");
            assert_eq!(level(strict(), "anna", names), Level::Deny, "{names:?}");
        }
        assert_eq!(level(strict(), "anna", &["public.t"]), Level::Confirm);
        assert_eq!(level(strict(), "anna", &["db.payroll.t"]), Level::Deny);
    }

    #[test]
    fn sizes_of_several_tables_are_the_smallest() {
        let mut small = scope(table("public", "small"), Level::Confirm);
        small.sizes.batch_rows = Some(10);
        let mut large = scope(table("public", "large"), Level::Confirm);
        large.sizes.batch_rows = Some(100_000);
        let policy = Policy { scopes: vec![small, large], ..Policy::default() };
        let batch = |names: &[Name]| effective(&policy, &Principal::default(), names, now()).sizes.batch_rows;
        assert_eq!(batch(&[name("public.large")]), 100_000);
        assert_eq!(batch(&[name("public.large"), name("public.small")]), 10);
        assert_eq!(batch(&[name("large")]), 1_000);
    }

    #[test]
    fn a_standing_policy_follows_generation_principal_and_minute() {
        let window = Window::parse("daily 12:00-12:01").expect("a window");
        let mut policy = Policy {
            scopes: vec![scope(Match { time: vec![window], ..Match::default() }, Level::Deny)],
            ..Policy::default()
        };
        let (mut standing, anna) = (Standing::default(), Principal::default());
        let later = "2026-03-02T12:01:00Z".parse().expect("a time");
        assert_eq!(standing.get(&policy, &anna, now()).levels[0].0, Level::Deny);
        assert_eq!(standing.get(&policy, &anna, later).levels[0].0, Level::Confirm);
        policy.scopes.push(scope(user("etl"), Level::Warn));
        assert_eq!(standing.get(&policy, &anna, later).levels[0].0, Level::Confirm);
        policy.scopes.push(scope(Match::default(), Level::Approve));
        policy.generation += 1;
        assert_eq!(standing.get(&policy, &anna, later).levels[0].0, Level::Approve);
        policy.scopes.pop();
        policy.generation += 1;
        let etl = Principal { user: "etl".to_owned(), ..Principal::default() };
        assert_eq!(standing.get(&policy, &etl, later).levels[0].0, Level::Warn);
    }
}
