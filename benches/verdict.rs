//! What a verdict costs by itself, without a socket: texts as `pgbench` sends them, and what an ORM makes of them.
//!
//! Each time is the middle of many batches, every batch long enough for the clock. Fails where a bound of the project's is broken:
//! a read seen before in under 0.3 µs, one of pgbench's size not seen before in under 3 µs.

use sluice::sql::statement::LexicalMode;
use sluice::sql::{self, Glance};
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

const PGBENCH_READ: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = 739421;";
const PGBENCH_CHANGE: &str = "UPDATE pgbench_accounts SET abalance = abalance + 3211 WHERE aid = 739421;";
const ORM_READ: &str = "SELECT \"shop_order\".\"id\", \"shop_order\".\"created_at\", \"shop_order\".\"customer_id\", \
    \"shop_order\".\"status\", \"shop_customer\".\"id\", \"shop_customer\".\"name\", \"shop_customer\".\"email\" FROM \"shop_order\" \
    INNER JOIN \"shop_customer\" ON (\"shop_order\".\"customer_id\" = \"shop_customer\".\"id\") WHERE (\"shop_order\".\"status\" = \
    'open' AND \"shop_customer\".\"email\" LIKE '%@example.org') ORDER BY \"shop_order\".\"created_at\" DESC LIMIT 21";

fn main() -> ExitCode {
    // Asked for its tests: it has none.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let mode = LexicalMode::default();
    let glanced = |text: &'static str| move || matches!(sql::glance(black_box(text), mode), Glance::Harmless { .. });
    let read = |text: &'static str| move || sql::read(black_box(text), mode).statements.len() == 1;
    let results = [
        ("a read of pgbench's, glanced at", micros(glanced(PGBENCH_READ)), Some(0.3)),
        ("an ORM's read of 500 bytes, glanced at", micros(glanced(ORM_READ)), Some(3.0)),
        ("a change of pgbench's, read to its end", micros(read(PGBENCH_CHANGE)), None),
    ];
    let mut code = ExitCode::SUCCESS;
    for (what, micros, bound) in results {
        let bound = bound.map_or(String::new(), |bound| {
            if micros >= bound {
                code = ExitCode::FAILURE;
            }
            format!("(bound {bound} µs{})", if micros < bound { "" } else { ": BROKEN" })
        });
        println!("{what:48} {micros:8.3} µs  {bound}");
    }
    code
}

/// The middle of 101 batches, in microseconds a call.
fn micros(mut call: impl FnMut() -> bool) -> f64 {
    let mut batch = |calls: u32| {
        let started = Instant::now();
        for _ in 0..calls {
            assert!(call(), "the text was not judged as it should be");
        }
        started.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
    };
    let calls = (2_000.0 / batch(20).max(0.01)).clamp(20.0, 20_000.0) as u32;
    let mut times: Vec<f64> = (0..101).map(|_| batch(calls)).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
