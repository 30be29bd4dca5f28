//! What the client is shown of a statement that is not simply let through: message, detail, hint, as PostgreSQL's errors have them.
//!
//! Invariants: it says no more than is known: an estimate is called one, a count that stopped is "at least", what was not
//! learned is "unknown" with its reason, and what is cut says so. Nothing that comes from the database can break a line or
//! move the cursor: control characters are shown as escapes. It offers nothing that this version cannot do. Pure.

mod change;
pub mod machine;
mod removal;
mod sample;
mod tree;
pub mod words;

use crate::change::promise::AtMost;
use crate::ground::limits;
use crate::policy::finding::Level;
use crate::policy::question::{Cascade, ChangeEvidence, Effects, Evidence, Known, RemovalEvidence};
use crate::policy::settings::Sizes;
use crate::policy::verdict::{Judged, Verdict};
use crate::sql::facts::{Change, Facts, Removal};
use std::time::Duration;
use words::{lasting, number, plain, wrapped};

/// Fit for an error's three fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    pub message: String,
    pub detail: String,
    pub hint: String,
}

/// What may be done with the statement; without a token there is nothing to confirm.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Offer {
    pub token: Option<String>,
    pub valid: Duration,
    pub at_most: AtMost,
    /// How it would be carried out, where that is worth a word.
    pub manner: Manner,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Manner {
    #[default]
    Whole,
    /// In so many batches at least, of up to so many rows. `carried`: what foreign keys take along goes first. `caveat`: what may keep it from
    /// being undone.
    Batches { batches: u64, rows: u64, carried: bool, caveat: Option<String> },
    /// Although it is larger than a batch.
    WholeBecause(String),
    /// Although it could be undone otherwise.
    WithoutArchive(String),
}

pub fn render(facts: &Facts, evidence: &Evidence, verdict: &Verdict, sizes: &Sizes, offer: &Offer) -> Preview {
    render_judged(facts, evidence, verdict.judged(), sizes, offer)
}

/// The same from the judged findings alone, strongest level deciding.
pub fn render_judged(facts: &Facts, evidence: &Evidence, judged: &[Judged], sizes: &Sizes, offer: &Offer) -> Preview {
    let level = judged.iter().map(|judged| judged.level).max().unwrap_or_default();
    let subject = Subject { facts, evidence, judged, sizes };
    Preview { message: subject.message(level), detail: bounded(subject.detail()), hint: subject.hint(level, offer) }
}

/// What was done, table by table: "  public.carts            12,480 deleted".
pub fn effects_lines(effects: &Effects) -> String {
    let mut lines = Vec::new();
    for table in effects.tables.iter().take(limits::PREVIEW_LINES) {
        let untold = if table.untold == table.destroyed() { "changed" } else { "more changed, below or beside them" };
        let told = [
            (table.inserted, "inserted"),
            (table.updated, "updated"),
            (table.deleted, "deleted"),
            (table.untold, untold),
        ];
        let told: Vec<String> =
            told.iter().filter(|(rows, _)| *rows > 0).map(|(rows, how)| format!("{} {how}", number(*rows))).collect();
        lines.push(format!("  {:<40} {}", plain(&table.name), told.join(", ")));
    }
    lines.extend(effects.objects.iter().take(limits::PREVIEW_LINES).map(|object| format!("  {}", plain(object))));
    let left = (effects.tables.len() + effects.objects.len()).saturating_sub(lines.len());
    if left > 0 {
        lines.push(format!("  … {}", words::more(left, "line")));
    }
    lines.join("\n")
}

/// How many rows it would change is then beside the point.
fn is_denied_for_what_it_is(judged: &Judged) -> bool {
    const RULES: &[&str] = &["already-ran", "change-freeze", "guard-off", "outside-effects"];
    judged.level == Level::Deny && RULES.contains(&judged.finding.rule)
}

struct Subject<'a> {
    facts: &'a Facts,
    evidence: &'a Evidence,
    judged: &'a [Judged],
    sizes: &'a Sizes,
}

impl Subject<'_> {
    fn changes(&self) -> impl Iterator<Item = (&Change, &ChangeEvidence)> {
        self.facts.changes.iter().zip(&self.evidence.changes)
    }

    fn removals(&self) -> impl Iterator<Item = (&Removal, &RemovalEvidence)> {
        self.facts.removals.iter().zip(&self.evidence.removals)
    }

    /// One line: what it would do, all that it does added up.
    fn message(&self, level: Level) -> String {
        let changes: Vec<_> = self.changes().collect();
        let removals: Vec<_> = self.removals().collect();
        let changes = match changes.as_slice() {
            [] => None,
            [(change, evidence)] => Some(change::message(change, evidence)),
            several => Some(change::together(several)),
        };
        let removals = match removals.as_slice() {
            [] => None,
            [(removal, evidence)] => Some(removal::message(removal, evidence)),
            several => Some(removal::together(several)),
        };
        let parts: Vec<String> = changes.into_iter().chain(removals).collect();
        if let Some(why) = self.judged.iter().find(|judged| is_denied_for_what_it_is(judged)) {
            return format!("sluice: denied: {}", plain(&why.finding.message));
        }
        let denied = if level == Level::Deny { "denied: " } else { "" };
        let uncounted = self.facts.changes.iter().any(|change| crate::policy::count::is_tried(change, self.evidence));
        // What an INSERT fires is known by what it did alone.
        let all = &self.facts.changes;
        let uncounted = uncounted || !all.is_empty() && all.iter().all(crate::policy::count::adds_only);
        if let (true, Known::Known(effects)) = (parts.is_empty() || uncounted, &self.evidence.effects) {
            return format!("sluice: {}{}", if level == Level::Deny { "denied: " } else { "" }, tried(effects));
        }
        if !parts.is_empty() {
            return format!("sluice: {denied}this would {}", parts.join("; and "));
        }
        let Some(strongest) = self.judged.iter().find(|judged| judged.level == level) else {
            if let Some(first) = self.evidence.reaches.first() {
                return format!(
                    "sluice: this leads to {}, and what that does shows only when it is run: it is tried, and kept up to {} rows; \
                     beyond, it is rolled back and shown",
                    plain(first),
                    crate::policy::count::grouped(self.sizes.free_rows)
                );
            }
            return "sluice: this changes nothing that a rule is about".to_owned();
        };
        let strongest = rule_line(strongest.finding.rule, vec![plain(&strongest.finding.message)]);
        let denied = if level == Level::Deny { "denied" } else { "not run yet" };
        format!("sluice: {denied}: {strongest}")
    }

    fn detail(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.rules("rules: ", |level| level > Level::Warn, &mut lines);
        self.rules("warnings: ", |level| level == Level::Warn, &mut lines);
        let several = self.facts.changes.len() + self.facts.removals.len() > 1;
        for (at, (change, evidence)) in self.changes().enumerate() {
            if several {
                lines.push(format!("{}. {}", at + 1, change::message(change, evidence)));
            }
            change::lines(change, evidence, self.sizes, &mut lines);
        }
        for (at, (removal, evidence)) in self.removals().enumerate() {
            if several {
                lines.push(format!("{}. {}", self.facts.changes.len() + at + 1, removal::message(removal, evidence)));
            }
            removal::lines(evidence, self.facts.product, &mut lines);
        }
        if let Known::Known(effects) = &self.evidence.effects {
            lines.push("it was tried and rolled back; it did:".to_owned());
            lines.extend(effects_lines(effects).lines().map(str::to_owned));
        }
        if !self.evidence.reaches.is_empty() {
            lines.push(format!("leads to: {}", plain(&self.evidence.reaches.join(", "))));
        }
        lines
    }

    /// Each rule once, on one line if they fit, else one a line.
    fn rules(&self, heading: &str, wanted: impl Fn(Level) -> bool, out: &mut Vec<String>) {
        let mut rules: Vec<(&str, Vec<String>)> = Vec::new();
        let below = self.reasons();
        for Judged { finding, .. } in self.judged.iter().filter(|judged| wanted(judged.level)) {
            let message = told(&finding.message, &below);
            match rules.iter_mut().find(|(rule, _)| *rule == finding.rule) {
                Some((_, messages)) if messages.contains(&message) => {}
                Some((_, messages)) => messages.push(message),
                None => rules.push((finding.rule, vec![message])),
            }
        }
        let rules: Vec<String> = rules.into_iter().map(|(rule, messages)| rule_line(rule, messages)).collect();
        if rules.is_empty() {
            return;
        }
        let together = format!("{heading}{}", rules.join(", "));
        if together.chars().count() <= words::LINE_CHARS {
            out.push(together);
        } else {
            // Each line says what it is, for whoever looks for a rule in a log.
            rules.iter().for_each(|rule| wrapped(heading, rule, out));
        }
    }

    /// What the lines below the rules say of why something is not known: it is said once.
    fn reasons(&self) -> Vec<&str> {
        let changes = self.evidence.changes.iter().flat_map(|change| {
            let rows = unknown(&change.rows);
            let cascade = unknown(&change.cascade);
            let branches = change.cascade.known().into_iter().flatten().filter_map(first_reason);
            rows.into_iter().chain(cascade).chain(branches)
        });
        changes.chain(self.evidence.removals.iter().filter_map(|removal| unknown(&removal.tables))).collect()
    }

    fn hint(&self, level: Level, offer: &Offer) -> String {
        let mut lines: Vec<String> = Vec::new();
        // What a confirmation does by itself need not be said to be done by hand.
        let in_batches = matches!(offer.manner, Manner::Batches { .. }) && level == Level::Confirm;
        let done = |rule: &str| in_batches && matches!(rule, "unbatched-change" | "cascade");
        for judged in self.judged.iter().filter(|judged| judged.level == level && !done(judged.finding.rule)) {
            let instead = judged.finding.instead.as_deref().map(plain);
            lines.extend(instead.filter(|line| !lines.contains(line)));
        }
        if level == Level::Deny {
            // One way out is enough; the next attempt is judged anew.
            lines.truncate(1);
        }
        match (level, &offer.token) {
            (Level::Confirm, Some(token)) => {
                lines.push(self.confirm_line(offer));
                let most = cover(offer.at_most);
                lines.push(format!(
                    "  SLUICE CONFIRM '{}';      valid {}, once, for you{most}",
                    plain(token),
                    lasting(offer.valid)
                ));
            }
            (Level::Approve, Some(token)) => {
                lines.push(format!(
                    "Another principal approves it with:\n  SLUICE APPROVE '{token}';      valid {}, once",
                    lasting(offer.valid)
                ));
                lines.push(format!("Then send the statement again, or:\n  SLUICE CONFIRM '{token}'"))
            }
            (Level::Deny, _) if lines.is_empty() => {
                lines.push("SLUICE EXPLAIN with this statement shows which line of the policy denies it.".to_owned());
            }
            _ => {}
        }
        lines.join("\n")
    }

    /// Only rows that are counted afterwards can be held to a number.
    fn confirm_line(&self, offer: &Offer) -> String {
        let keeps_none =
            |change: &ChangeEvidence| change.table.known().is_some_and(|table| table.keeps_no_transactions.is_some());
        if self.evidence.changes.iter().any(keeps_none) {
            return "To run it whole, of which nothing can be rolled back:".to_owned();
        }
        match (&offer.manner, offer.at_most.rows) {
            (Manner::Batches { batches, rows, carried, caveat }, _) => {
                let (first, comma) = if *carried { (" children first,", "") } else { ("", ",") };
                let (batches, rows) = (number(*batches), number(*rows));
                let undone = match caveat {
                    None => "so that it can be undone:".to_owned(),
                    Some(caveat) => format!("but perhaps not to be undone by SLUICE UNDO: {}:", plain(caveat)),
                };
                if batches == "1" {
                    return format!("To carry it out{first}{comma} each row archived first, {undone}");
                }
                return format!(
                    "To carry it out{first} in {batches} batches of up to {rows} rows, each row archived first, {undone}"
                );
            }
            (Manner::WholeBecause(why), Some(_)) => {
                let why = plain(why);
                return format!(
                    "To run it whole, in one transaction that is rolled back if it changes more (not in batches: {why}):"
                );
            }
            (Manner::WithoutArchive(why), Some(_)) => {
                let why = plain(why);
                return format!(
                    "To run it whole, in one transaction that is rolled back if it changes more (not to be undone: {why}):"
                );
            }
            _ => {}
        }
        match offer.at_most.rows {
            Some(_) => "To run it whole, in one transaction that is rolled back if it changes more:".to_owned(),
            None if self.facts.outside_transaction_only => "To run it as it is:".to_owned(),
            None => "To run it whole:".to_owned(),
        }
    }
}

/// "this would change 12,480 rows in 2 tables", of what was tried.
fn tried(effects: &Effects) -> String {
    let changed: Vec<&str> =
        effects.tables.iter().filter(|table| table.destroyed() > 0).map(|table| table.name.as_str()).collect();
    let rows = words::counted(effects.destroyed());
    let rows = match changed.as_slice() {
        [] => None,
        [one] => Some(format!("change {rows} of {}", plain(one))),
        several => Some(format!("change {rows} in {} tables", several.len())),
    };
    let objects = effects.objects.first().map(|object| match effects.objects.len() {
        1 => format!("leave {}", plain(object)),
        more => format!("leave {} and {} more", plain(object), more - 1),
    });
    let parts: Vec<String> = rows.into_iter().chain(objects).collect();
    format!("this would {} (tried, and rolled back)", parts.join(" and "))
}

fn cover(at_most: AtMost) -> String {
    match (at_most.rows, at_most.cascade) {
        (Some(rows), Some(cascade)) if cascade > 0 => {
            format!(", for at most {} + {} rows", number(rows), number(cascade))
        }
        (Some(1), _) => ", for at most 1 row".to_owned(),
        (Some(rows), _) => format!(", for at most {} rows", number(rows)),
        (None, _) => String::new(),
    }
}

fn rule_line(rule: &str, mut messages: Vec<String>) -> String {
    messages.retain(|message| !message.is_empty());
    match messages.is_empty() {
        true => rule.to_owned(),
        false => format!("{rule} ({})", messages.join("; ")),
    }
}

/// A rule's message without the reasons that stand below.
fn told(message: &str, below: &[&str]) -> String {
    let mut message = message.to_owned();
    for why in below.iter().filter(|why| !why.is_empty()) {
        message = message.replace(&format!(": {why}"), "");
    }
    plain(&message)
}

fn unknown<T>(known: &Known<T>) -> Option<&str> {
    match known {
        Known::Unknown(why) => Some(why),
        _ => None,
    }
}

fn first_reason(branch: &Cascade) -> Option<&str> {
    unknown(&branch.rows).or_else(|| branch.below.iter().find_map(first_reason))
}

/// Whole lines up to the bound; what is cut is said.
fn bounded(lines: Vec<String>) -> String {
    let mut out = String::new();
    let count = lines.len();
    for (at, line) in lines.into_iter().enumerate() {
        if out.len() + line.len() > limits::PREVIEW_BYTES {
            out.push_str(&format!("… {} cut off", words::more(count - at, "line")));
            break;
        }
        out.push_str(&line);
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::finding::{About, Finding};
    use crate::policy::question::{RemovedTable, Rows, Table};
    use crate::sql::facts::{Name, Nesting, OnConflict, Removed, Restriction, Source, Verb};

    fn name(written: &str) -> Name {
        Name { written: written.to_owned(), parts: written.split('.').map(str::to_owned).collect() }
    }

    fn change(verb: Verb) -> Change {
        Change {
            verb,
            target: name("carts"),
            called: "carts".to_owned(),
            only: false,
            restriction: Restriction::NotApplicable,
            pinned_if: Vec::new(),
            limit: None,
            assignments: Vec::new(),
            source: Source::None,
            on_conflict: OnConflict::Fails,
            nesting: Nesting::Outer,
            clauses: None,
        }
    }

    fn evidence(verb: Verb, rows: Known<Rows>) -> ChangeEvidence {
        let table = Table {
            schema: "public".to_owned(),
            name: "carts".to_owned(),
            estimated_rows: Some(4_012_331),
            ..Table::default()
        };
        ChangeEvidence {
            verb,
            table: Known::Known(table),
            rows,
            cascade: Known::NotAsked,
            carried: Known::NotAsked,
            reads: Known::NotAsked,
            sample: Known::NotAsked,
            scan: Known::NotAsked,
        }
    }

    fn judged(level: Level, instead: Option<&str>) -> Judged {
        let instead = instead.map(str::to_owned);
        let finding = Finding {
            rule: "a-rule",
            about: About::Statement,
            message: "why\n".to_owned(),
            instead,
            bend: Default::default(),
        };
        Judged { finding, level, origin: "preset standard".into() }
    }

    fn shown(changes: &[(Verb, Known<Rows>)], judged: Judged, offer: &Offer) -> Preview {
        let facts = Facts { changes: changes.iter().map(|(verb, _)| change(*verb)).collect(), ..Facts::default() };
        let changes = changes.iter().map(|(verb, rows)| evidence(*verb, rows.clone())).collect();
        let evidence = Evidence { changes, ..Evidence::default() };
        render_judged(&facts, &evidence, &[judged], &Sizes::default(), offer)
    }

    #[test]
    fn a_number_says_how_well_it_is_known() {
        for (verb, rows, said) in [
            (
                Verb::Delete,
                Known::Known(Rows::Exact(12_480)),
                "delete 12,480 of about 4,012,331 rows of public.carts (0.3 %)",
            ),
            (
                Verb::Update,
                Known::Known(Rows::AtMost(1)),
                "update at most 1 of about 4,012,331 rows of public.carts (under 0.1 %)",
            ),
            (
                Verb::Delete,
                Known::Known(Rows::AtLeast(50_001)),
                "delete at least 50,001 of about 4,012,331 rows of public.carts",
            ),
            (
                Verb::Delete,
                Known::Known(Rows::Estimate(7)),
                "delete an estimated 7 of about 4,012,331 rows of public.carts (under 0.1 %)",
            ),
            // Statistics that the count contradicts are not shown.
            (Verb::Delete, Known::Known(Rows::Exact(5_000_000)), "delete 5,000,000 rows of public.carts"),
            (Verb::Delete, Known::Unknown("no right".into()), "delete an unknown number of rows of public.carts"),
            (Verb::Delete, Known::Known(Rows::AtLeast(0)), "delete an unknown number of rows of public.carts"),
            (Verb::Insert, Known::Known(Rows::AtMost(3)), "insert at most 3 rows into public.carts"),
        ] {
            let preview = shown(&[(verb, rows)], judged(Level::Confirm, None), &Offer::default());
            assert_eq!(preview.message, format!("sluice: this would {said}"));
        }
    }

    #[test]
    fn the_unknown_says_why() {
        let preview = shown(
            &[(Verb::Delete, Known::Unknown("no\nright".into()))],
            judged(Level::Confirm, None),
            &Offer::default(),
        );
        assert_eq!(preview.detail, "rules: a-rule (why\\n)\n  rows: unknown: no\\nright");
    }

    #[test]
    fn each_rule_is_named_once_and_no_reason_twice() {
        let found = |rule, message: &str| {
            let judged = judged(Level::Confirm, None);
            Judged { finding: Finding { rule, message: message.to_owned(), ..judged.finding }, ..judged }
        };
        let rules = |rows: Known<Rows>, judged: &[Judged]| {
            let facts = Facts { changes: vec![change(Verb::Delete)], ..Facts::default() };
            let evidence = Evidence { changes: vec![self::evidence(Verb::Delete, rows)], ..Evidence::default() };
            render_judged(&facts, &evidence, judged, &Sizes::default(), &Offer::default()).detail
        };
        let exact = Known::Known(Rows::Exact(9));
        let many = found("unbatched-change", "12,480 rows > 1,000");
        let short = [many.clone(), found("cascade", "38,360 rows"), found("cascade", "2 rows")];
        assert_eq!(
            rules(exact.clone(), &short),
            "rules: unbatched-change (12,480 rows > 1,000), cascade (38,360 rows; 2 rows)"
        );
        let long = "a foreign key of a name that is long, and so the line would be, too".to_owned();
        assert_eq!(
            rules(exact, &[many, found("key-change", &long)]),
            format!("rules: unbatched-change (12,480 rows > 1,000)\nrules: key-change ({long})")
        );
        assert_eq!(
            rules(Known::Unknown("no right".into()), &[found("cascade", "how many rows is unknown: no right")]),
            "rules: cascade (how many rows is unknown)\n  rows: unknown: no right"
        );
    }

    #[test]
    fn what_no_rule_is_about_says_so() {
        let nothing = render_judged(&Facts::default(), &Evidence::default(), &[], &Sizes::default(), &Offer::default());
        assert_eq!(nothing.message, "sluice: this changes nothing that a rule is about");
        assert_eq!((nothing.detail.as_str(), nothing.hint.as_str()), ("", ""));
    }

    #[test]
    fn several_changes_are_each_listed() {
        let changes = [(Verb::Delete, Known::Known(Rows::Exact(1))), (Verb::Update, Known::Known(Rows::Exact(2)))];
        let preview = shown(&changes, judged(Level::Warn, None), &Offer::default());
        assert_eq!(preview.message, "sluice: this would change 3 rows of public.carts, in 2 parts");
        assert!(
            preview.detail.starts_with("warnings: a-rule") && preview.detail.contains("\n2. update 2 of"),
            "{}",
            preview.detail
        );
    }

    #[test]
    fn a_denial_says_what_to_do_instead_and_offers_no_token() {
        let rows = Known::Known(Rows::Exact(9));
        let offer = Offer { token: Some("K7QF-2M9X".into()), ..Offer::default() };
        let preview = shown(&[(Verb::Delete, rows)], judged(Level::Deny, Some("Delete fewer.")), &offer);
        assert!(preview.message.starts_with("sluice: denied: this would delete 9"));
        assert_eq!(preview.hint, "Delete fewer.");
        let nothing = shown(&[], judged(Level::Deny, None), &offer);
        assert_eq!(nothing.message, "sluice: denied: a-rule (why\\n)");
        assert!(nothing.hint.contains("SLUICE EXPLAIN"));
    }

    #[test]
    fn each_suggestion_stands_once_on_its_own_line_and_a_denial_makes_one() {
        let facts = Facts { changes: vec![change(Verb::Delete)], ..Facts::default() };
        let known =
            Evidence { changes: vec![evidence(Verb::Delete, Known::Known(Rows::Exact(9)))], ..Evidence::default() };
        let hint = |level| {
            let found = ["Delete fewer.", "Delete fewer.", "Say why."].map(|instead| judged(level, Some(instead)));
            let offer = Offer { token: Some("K7QF-2M9X".into()), ..Offer::default() };
            render_judged(&facts, &known, &found, &Sizes::default(), &offer).hint
        };
        let confirm = hint(Level::Confirm);
        assert!(
            confirm.starts_with("Delete fewer.\nSay why.\nTo run it whole:\n  SLUICE CONFIRM 'K7QF-2M9X'"),
            "{confirm}"
        );
        assert_eq!(hint(Level::Deny), "Delete fewer.");
    }

    #[test]
    fn an_offer_promises_only_what_is_held_to() {
        let offer = |rows| Offer {
            manner: Manner::Whole,
            token: Some("K7QF-2M9X".into()),
            valid: Duration::from_secs(600),
            at_most: AtMost { rows, cascade: Some(0) },
        };
        for (rows, said) in [
            (
                Some(13_104),
                "rolled back if it changes more:\n  SLUICE CONFIRM 'K7QF-2M9X';      valid 10 minutes, once, for you, for at most 13,104 rows",
            ),
            (None, "To run it whole:\n  SLUICE CONFIRM 'K7QF-2M9X';      valid 10 minutes, once, for you"),
        ] {
            let preview = shown(&[(Verb::Delete, Known::NotAsked)], judged(Level::Confirm, None), &offer(rows));
            assert!(preview.hint.ends_with(said), "{}", preview.hint);
        }
    }

    #[test]
    fn removals_sum_what_goes() {
        let table = |written: &str, rows, because: Option<&str>| RemovedTable {
            name: name(written),
            rows,
            bytes: 8192,
            because: because.map(str::to_owned),
        };
        let removal =
            |what| Removal { what, name: name("carts"), cascade: true, if_exists: false, nesting: Nesting::Outer };
        let both = vec![
            table("public.carts", Rows::Exact(2), None),
            table("public.items", Rows::Estimate(1000), Some("a_fkey")),
        ];
        for (what, tables, said) in [
            (Removed::Rows, Known::Known(both), "truncate carts, with an estimated 1,002 rows, 16 kB, in 2 tables"),
            (
                Removed::Table,
                Known::Known(vec![table("public.carts", Rows::Exact(1), None)]),
                "drop table carts, with 1 row, 8.0 kB",
            ),
            (Removed::Table, Known::Unknown("no right".into()), "drop table carts, with an unknown number of rows"),
        ] {
            let facts = Facts { removals: vec![removal(what)], ..Facts::default() };
            let dependents = Known::Known(vec!["view v".to_owned()]);
            let refused_for = vec!["orders_customer_id_fkey".to_owned()];
            let removal = RemovalEvidence { tables, dependents, refused_for };
            let evidence = Evidence { removals: vec![removal], ..Evidence::default() };
            let preview =
                render_judged(&facts, &evidence, &[judged(Level::Confirm, None)], &Sizes::default(), &Offer::default());
            assert_eq!(preview.message, format!("sluice: this would {said}"));
            let refused = "  the server will refuse this without CASCADE: orders_customer_id_fkey\n  also goes: view v";
            assert!(preview.detail.ends_with(refused), "{}", preview.detail);
        }
    }

    #[test]
    fn several_targets_are_added_up() {
        let table = |written: &str, rows| RemovedTable { name: name(written), rows, bytes: 40 << 20, because: None };
        let (m3, big) = (table("m3", Rows::Exact(1_200)), table("big", Rows::Exact(290_200)));
        let removed = |tables| RemovalEvidence { tables, dependents: Known::NotAsked, refused_for: Vec::new() };
        let (m3, big) = (removed(Known::Known(vec![m3.clone()])), removed(Known::Known(vec![big, m3])));
        let unknown = removed(Known::Unknown("no right".into()));
        for (what, evidence, said) in [
            // A table that both take along goes once.
            (Removed::Rows, [m3.clone(), big], "truncate 2 tables with 291,400 rows, 80 MB: m3, big"),
            (
                Removed::Table,
                [m3, unknown.clone()],
                "drop 2 tables with 1,200 rows and an unknown number more, 40 MB: m3, big",
            ),
            (Removed::Schema, [unknown.clone(), unknown], "drop 2 schemas with an unknown number of rows: m3, big"),
        ] {
            let removal = |of| Removal {
                what: what.clone(),
                name: name(of),
                cascade: false,
                if_exists: false,
                nesting: Nesting::Outer,
            };
            let facts = Facts { removals: vec![removal("m3"), removal("big")], ..Facts::default() };
            let evidence = Evidence { removals: evidence.to_vec(), ..Evidence::default() };
            let judged = [judged(Level::Confirm, None)];
            let preview = render_judged(&facts, &evidence, &judged, &Sizes::default(), &Offer::default());
            assert_eq!(preview.message, format!("sluice: this would {said}"));
        }
    }

    #[test]
    fn several_changes_are_added_up() {
        let mut facts = Facts { changes: vec![change(Verb::Delete), change(Verb::Delete)], ..Facts::default() };
        facts.changes[1].target = name("orders");
        let known = |rows| evidence(Verb::Delete, rows);
        let other = ChangeEvidence { table: Known::NotAsked, ..known(Known::Known(Rows::Exact(2))) };
        let mut evidence =
            Evidence { changes: vec![known(Known::Known(Rows::Exact(1000))), other], ..Evidence::default() };
        let message = |facts: &Facts, evidence: &Evidence| {
            let judged = [judged(Level::Confirm, None)];
            render_judged(facts, evidence, &judged, &Sizes::default(), &Offer::default()).message
        };
        let all = "sluice: this would delete 1,002 rows of 2 tables: public.carts, orders";
        assert_eq!(message(&facts, &evidence), all);
        evidence.changes[1].rows = Known::Unknown("no right".into());
        let part = "delete 1,000 rows and an unknown number more of 2 tables: public.carts, orders";
        assert_eq!(message(&facts, &evidence), format!("sluice: this would {part}"));
    }

    #[test]
    fn a_long_detail_is_cut_and_says_so() {
        let detail = bounded(vec!["x".repeat(limits::PREVIEW_BYTES - 10), "y".repeat(20), "z".to_owned()]);
        assert!(detail.ends_with("… 2 lines more cut off"));
    }
}
