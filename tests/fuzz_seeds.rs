//! A short run of the fuzz targets on stable Rust: every committed seed, and mutations of them.
//!
//! Invariant: deterministic (the random numbers are seeded), so a failure here fails again. What `cargo fuzz` finds becomes a seed
//! in `tests/fuzz/seeds/`, and stays one.

#[path = "fuzz/targets.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Mutations of the seeds of one target, together. `FUZZ_MUTATIONS=1000000 FUZZ_CHANCE=7` tries more, and others.
const MUTATIONS: u64 = 20_000;

#[test]
fn frames() {
    run("frames");
}

#[test]
fn handshake() {
    run("handshake");
}

#[test]
fn lexer() {
    run("lexer");
}

#[test]
fn mysql_lexer() {
    run("mysql_lexer");
}

#[test]
fn facts() {
    run("facts");
}

#[test]
fn tokens() {
    run("tokens");
}

#[test]
fn mysql_packets() {
    run("mysql_packets");
}

#[test]
fn mysql_login() {
    run("mysql_login");
}

fn run(name: &str) {
    let (_, target) = targets::ALL.iter().find(|(known, _)| *known == name).expect("a target of this name");
    let seeds = seeds(name);
    assert!(seeds.len() >= 8, "{} seeds for {name}", seeds.len());
    let mut chance = Chance(number("FUZZ_CHANCE", 0));
    let mutations = (0..number("FUZZ_MUTATIONS", MUTATIONS)).map(|_| {
        let (one, other) = (chance.below(seeds.len()), chance.below(seeds.len()));
        mutated(&seeds[one], &seeds[other], &mut chance)
    });
    for data in seeds.iter().cloned().chain(mutations) {
        if catch_unwind(AssertUnwindSafe(|| target(&data))).is_err() {
            panic!("{name} fails on \"{}\"", data.escape_ascii());
        }
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// The committed ones; for what reads SQL, the lines of the tricky texts too.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let folder = tests.join("fuzz/seeds").join(name);
    let mut paths: Vec<_> =
        fs::read_dir(&folder).expect("seeds").map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    let mut seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).expect("a seed")).collect();
    if ["lexer", "facts"].contains(&name) {
        let tricky = fs::read_to_string(tests.join("data/tricky.sql")).expect("the tricky texts");
        let lines = tricky.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        seeds.extend(lines.map(|line| line.replace('⏎', "\n").into_bytes()));
    }
    seeds
}

/// One to four edits: a byte changed, some cut, some doubled, some put in from another seed.
fn mutated(seed: &[u8], other: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=chance.below(4) {
        let at = chance.below(data.len() + 1);
        let end = (at + chance.below(9)).min(data.len());
        match chance.below(5) {
            0 if at < data.len() => data[at] = chance.next() as u8,
            1 => drop(data.drain(at..end)),
            2 => {
                let part = data[at..end].to_vec();
                data.splice(at..at, part);
            }
            3 if at < data.len() => data[at] = INTERESTING[chance.below(INTERESTING.len())],
            _ => {
                let from = chance.below(other.len() + 1);
                let to = (from + chance.below(25)).min(other.len());
                data.splice(at..end, other[from..to].iter().copied());
            }
        }
    }
    data
}

const INTERESTING: &[u8] = b"'\"\\$;-/*(),.:@EeUuxX&\n\r\0\x7f\xff\x80 0";

/// SplitMix64: small, and the same numbers in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}
