//! The database that the stories of the gate are told in, and what a refusal holds.

use super::server::{Database, Server};
use super::sluice::{Setup, Sluice};
use super::wire::Outcome;

/// 500 lines of a log that nothing refers to; 5,000 carts, 2,000 of them abandoned, two items in each, a note on each item of the
/// first hundred carts; 60,000 events.
pub const SHOP: &str = "
    CREATE TABLE logs (id int PRIMARY KEY, kind text NOT NULL, line text);
    INSERT INTO logs SELECT n, CASE WHEN n % 2 = 0 THEN 'even' ELSE 'odd' END, 'line ' || n FROM generate_series(1, 500) n;
    CREATE TABLE carts (id int PRIMARY KEY, status text NOT NULL, note text);
    INSERT INTO carts SELECT n, CASE WHEN n <= 2000 THEN 'abandoned' ELSE 'paid' END FROM generate_series(1, 5000) n;
    CREATE TABLE cart_items (id int PRIMARY KEY, cart_id int NOT NULL REFERENCES carts ON DELETE CASCADE);
    INSERT INTO cart_items SELECT n, (n + 1) / 2 FROM generate_series(1, 10000) n;
    CREATE INDEX ON cart_items (cart_id);
    CREATE TABLE item_notes (item_id int PRIMARY KEY REFERENCES cart_items ON DELETE CASCADE, note text);
    INSERT INTO item_notes SELECT n, 'note' FROM generate_series(1, 200) n;
    CREATE TABLE events (id int PRIMARY KEY, kind text);
    INSERT INTO events SELECT n, 'click' FROM generate_series(1, 60000) n;
    ANALYZE";

/// The shop with a gate before it, at every default.
pub fn shop(server: &'static Server) -> (Database, Sluice) {
    shop_with(server, |setup| setup)
}

pub fn shop_with(server: &'static Server, configure: impl Fn(Setup) -> Setup) -> (Database, Sluice) {
    let database = server.database(SHOP);
    let sluice = configure(Setup::before(&database)).start();
    (database, sluice)
}

/// What a client is told when a statement may not pass.
#[derive(Debug)]
pub struct Refused {
    pub code: String,
    pub message: String,
    pub detail: String,
    pub hint: String,
}

impl Refused {
    /// Takes the refusal out of an answer, and holds it to what every refusal promises.
    pub fn of(outcome: &Outcome) -> Refused {
        let fields = outcome.error().unwrap_or_else(|| panic!("not refused: {outcome:#?}"));
        let field = |letter| fields.get(&letter).cloned().unwrap_or_default();
        let refused = Refused { code: field('C'), message: field('M'), detail: field('D'), hint: field('H') };
        assert!(refused.code.starts_with("SL"), "not Sluice's: {refused:?}");
        assert!(refused.message.starts_with("sluice: ") && !refused.message.contains('\n'), "{refused:?}");
        assert_eq!((field('S').as_str(), field('V').as_str()), ("ERROR", "ERROR"), "{fields:?}");
        assert!(outcome.rows().is_empty() || outcome.messages.len() > 2, "{outcome:#?}");
        refused
    }

    /// Refused with a preview and a token.
    pub fn to_confirm(outcome: &Outcome) -> Refused {
        let refused = Refused::of(outcome);
        assert_eq!(refused.code, "SL001", "{refused:?}");
        refused.token();
        refused
    }

    pub fn denied(outcome: &Outcome) -> Refused {
        let refused = Refused::of(outcome);
        assert_eq!(refused.code, "SL003", "{refused:?}");
        assert!(!refused.hint.contains("SLUICE CONFIRM"), "no token helps against a denial: {refused:?}");
        refused
    }

    pub fn token(&self) -> String {
        let start = self.hint.find("SLUICE CONFIRM '").unwrap_or_else(|| panic!("no token in {self:?}"));
        let rest = &self.hint[start + "SLUICE CONFIRM '".len()..];
        rest.split('\'').next().expect("a closing quote").to_owned()
    }

    pub fn names_rule(&self, rule: &str) -> bool {
        self.detail.lines().any(|line| line.starts_with("rules: ") && line.contains(rule))
    }
}
