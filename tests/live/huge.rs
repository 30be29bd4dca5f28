//! Statements with tens of thousands of parts: refused by name before anything is asked, so that nobody waits for them.

use crate::harness::server::Server;
use crate::harness::shop::{Refused, shop, shop_with};
use crate::harness::stories;
use std::fmt::Display;

stories! { a_list_that_nobody_could_be_shown, in_observe_mode_it_goes_on, a_long_list_of_values_is_everyday }

fn list<T: Display>(count: usize, each: impl Fn(usize) -> T) -> String {
    (0..count).map(|at| each(at).to_string()).collect::<Vec<_>>().join(", ")
}

fn a_list_that_nobody_could_be_shown(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let names = list(20_000, |_| "logs");
    let several = list(600, |_| "logs");
    for text in [
        format!("TRUNCATE {names}"),
        format!("DROP TABLE {names} CASCADE"),
        format!("ALTER TABLE logs {}", list(20_000, |at| format!("DROP COLUMN c{at}"))),
        format!("TRUNCATE {several}; DROP TABLE {several}"),
    ] {
        let mut outcomes = vec![wire.simple(&text)];
        outcomes.extend((!text.contains(';')).then(|| wire.extended(&text, &[])));
        for outcome in outcomes {
            let refused = Refused::of(&outcome);
            assert_eq!(refused.code, "SL007", "{refused:?}");
            assert!(refused.message.contains("no more than 1000 can be shown"), "{refused:?}");
            assert_eq!(outcome.status(), 'I');
        }
        assert_eq!(wire.simple("SELECT 'goes on'").value(), "goes on");
    }
    wire.simple("BEGIN").expect_fine("BEGIN");
    assert_eq!(Refused::of(&wire.simple(&format!("TRUNCATE {names}"))).code, "SL007");
    assert_eq!(wire.simple("COMMIT").tags(), ["ROLLBACK"], "as after any error");
    assert_eq!(database.count("logs"), 500);
}

fn in_observe_mode_it_goes_on(server: &'static Server) {
    let (database, sluice) = shop_with(server, |setup| setup.with("[policy]\nmode = \"observe\""));
    let mut wire = sluice.connect(&database);
    wire.simple(&format!("TRUNCATE {}", list(20_000, |_| "logs"))).expect_fine("nothing is refused");
    assert_eq!(database.count("logs"), 0);
    let seen = sluice.record().iter().any(|line| line["kind"] == "statement" && line["level"] == "confirm");
    assert!(seen, "it is recorded");
}

fn a_long_list_of_values_is_everyday(server: &'static Server) {
    let (database, sluice) = shop(server);
    let mut wire = sluice.connect(&database);
    let text = format!("DELETE FROM logs WHERE id IN ({}, 1)", list(20_000, |at| at + 10_000));
    assert_eq!(wire.simple(&text).tags(), ["DELETE 1"]);
    let rows = list(10_000, |at| format!("({}, 'x')", at + 10_000));
    assert_eq!(wire.simple(&format!("INSERT INTO logs VALUES {rows}")).tags(), ["INSERT 0 10000"]);
    assert_eq!(database.count("logs"), 10_499);
}
