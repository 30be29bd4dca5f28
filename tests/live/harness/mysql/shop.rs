//! The database that the stories of the gate are told in, and what a refusal holds.

use super::login::Login;
use super::packet::Failure;
use super::server::{MyDatabase, MyServer, TRUSTED};
use super::wire::{MyWire, Outcome};
use crate::harness::sluice::{Setup, Sluice};

/// PostgreSQL's shop: 500 lines of a log that nothing refers to; 5,000 carts, 2,000 of them abandoned, two items in each, a note on each
/// item of the first hundred carts. And 500 lines in a table that knows no transactions.
pub const SHOP: &str = "
    CREATE TABLE ten (d int); INSERT INTO ten VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9);
    CREATE TABLE n (n int PRIMARY KEY);
    INSERT INTO n SELECT 1 + a.d + 10 * b.d + 100 * c.d + 1000 * e.d FROM ten a, ten b, ten c, ten e;
    CREATE TABLE logs (id int PRIMARY KEY, kind varchar(20) NOT NULL, line text);
    INSERT INTO logs SELECT n, IF(n % 2 = 0, 'even', 'odd'), concat('line ', n) FROM n WHERE n <= 500;
    CREATE TABLE carts (id int PRIMARY KEY, status varchar(20) NOT NULL, note text);
    INSERT INTO carts SELECT n, IF(n <= 2000, 'abandoned', 'paid'), NULL FROM n WHERE n <= 5000;
    CREATE TABLE cart_items (id int PRIMARY KEY, cart_id int NOT NULL,
        CONSTRAINT of_cart FOREIGN KEY (cart_id) REFERENCES carts (id) ON DELETE CASCADE);
    INSERT INTO cart_items SELECT n, (n + 1) DIV 2 FROM n;
    CREATE TABLE item_notes (item_id int PRIMARY KEY, note text,
        CONSTRAINT of_item FOREIGN KEY (item_id) REFERENCES cart_items (id) ON DELETE CASCADE);
    INSERT INTO item_notes SELECT n, 'note' FROM n WHERE n <= 200;
    CREATE TABLE old_logs (id int PRIMARY KEY, kind varchar(20), line varchar(100)) ENGINE = MyISAM;
    INSERT INTO old_logs SELECT id, kind, line FROM logs;
    DROP TABLE ten, n;
    ANALYZE TABLE logs, carts, cart_items, item_notes, old_logs";

/// 60,000 events, for what is too much.
pub const EVENTS: &str = "CREATE TABLE events (id int PRIMARY KEY, kind varchar(20));
    INSERT INTO events SELECT id, 'click' FROM cart_items;
    INSERT INTO events SELECT id + 10000, kind FROM events; INSERT INTO events SELECT id + 20000, kind FROM events;
    INSERT INTO events SELECT id + 40000, kind FROM events WHERE id <= 20000; ANALYZE TABLE events";

/// The shop with a gate before it, at every default.
pub fn shop(server: &'static MyServer) -> (MyDatabase, Sluice) {
    shop_with(server, |setup| setup)
}

pub fn shop_with(server: &'static MyServer, configure: impl Fn(Setup) -> Setup) -> (MyDatabase, Sluice) {
    let database = server.database(SHOP);
    let sluice = configure(Setup::before_mysql(server)).start();
    (database, sluice)
}

impl Sluice {
    /// A trusted user of this database, logged in through the gate.
    pub fn my_connect(&self, database: &MyDatabase) -> MyWire {
        self.my_connect_as(TRUSTED, database)
    }

    pub fn my_connect_as(&self, user: &str, database: &MyDatabase) -> MyWire {
        MyWire::login(&self.address, &Login::of(user).on(&database.name))
    }
}

/// What a client is told when a statement may not pass: an error, and by SHOW WARNINGS the rest.
#[derive(Debug)]
pub struct Refused {
    pub code: u16,
    pub message: String,
    /// A line a row.
    pub detail: String,
}

impl Refused {
    /// Takes the refusal out of an answer, and holds it to what every refusal promises.
    pub fn of(wire: &mut MyWire, outcome: &Outcome) -> Refused {
        let failure = outcome.error().unwrap_or_else(|| panic!("not refused: {outcome:#?}"));
        let Failure { code, state, message } = failure.clone();
        assert!((50001..=50007).contains(&code) && state == format!("SL00{}", code % 10), "not Sluice's: {failure:?}");
        assert!(message.starts_with("sluice: ") && message.len() < 512, "{failure:?}");
        let rows = wire.query("SHOW WARNINGS").rows();
        let cell = |row: &[Option<String>], at: usize| row[at].clone().unwrap_or_default();
        let first = rows.first().unwrap_or_else(|| panic!("SHOW WARNINGS says nothing of {failure:?}"));
        assert_eq!((cell(first, 0).as_str(), cell(first, 1)), ("Error", code.to_string()), "{rows:?}");
        let detail: Vec<String> = rows.iter().map(|row| cell(row, 2)).collect();
        Refused { code, message, detail: detail.join("\n") }
    }

    /// Runs a statement that is to be refused with a preview and a token.
    pub fn to_confirm(wire: &mut MyWire, sql: &str) -> Refused {
        let outcome = wire.query(sql);
        let refused = Refused::of(wire, &outcome);
        assert_eq!(refused.code, 50001, "{sql}: {refused:?}");
        refused.token();
        refused
    }

    /// Runs a statement that is to be denied.
    pub fn denied(wire: &mut MyWire, sql: &str) -> Refused {
        let outcome = wire.query(sql);
        let refused = Refused::of(wire, &outcome);
        assert_eq!(refused.code, 50003, "{sql}: {refused:?}");
        assert!(!refused.says("SLUICE CONFIRM"), "no token helps against a denial: {refused:?}");
        refused
    }

    /// Runs a statement that is to be refused, one way or the other.
    pub fn any(wire: &mut MyWire, sql: &str) -> Refused {
        let outcome = wire.query(sql);
        assert!(outcome.error().is_some(), "{sql} passed: {outcome:#?}");
        Refused::of(wire, &outcome)
    }

    /// In the error itself: who reads only that must be able to go on.
    pub fn token(&self) -> String {
        let start = self.message.find("SLUICE CONFIRM '").unwrap_or_else(|| panic!("no token in {self:?}"));
        let rest = &self.message[start + "SLUICE CONFIRM '".len()..];
        rest.split('\'').next().expect("a closing quote").to_owned()
    }

    pub fn confirm(&self) -> String {
        format!("SLUICE CONFIRM '{}'", self.token())
    }

    pub fn says(&self, words: &str) -> bool {
        self.message.contains(words) || self.detail.contains(words)
    }

    pub fn names_rule(&self, rule: &str) -> bool {
        self.detail.lines().any(|line| line.starts_with("rules: ") && line.contains(rule))
    }
}
