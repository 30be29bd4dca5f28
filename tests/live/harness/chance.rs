//! Tables and changes by chance, for what must hold of all of them: the same from the same seed.
//!
//! Invariant: a change here can be carried out in batches, and means the same whichever rows it meets first.

/// Numbers by chance (a linear congruential generator, Knuth's MMIX): the same from the same seed.
pub struct Chance(u64);

impl Chance {
    pub fn of(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % end as u64).expect("below")
    }

    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// What differs between the servers.
pub struct Dialect {
    /// Kinds of keys, with an expression of each row's number, written `$`.
    pub keys: &'static [(&'static str, &'static str)],
    pub moment: &'static str,
    pub float: &'static str,
}

/// A table, filled, and a change of it; `$t` stands for its name.
#[derive(Debug)]
pub struct Change {
    pub create: String,
    pub fill: String,
    pub statement: String,
}

const CONDITIONS: &[&str] = &[
    "n % 3 = 1",
    "kind LIKE 'a%'",
    "n < 5",
    "n BETWEEN 3 AND 9",
    "kind IS NULL",
    "f > 2.5",
    "kind IN ('abc', 'b')",
    "NOT (n = 4)",
    "at < '2026-01-15'",
    "n = n",
    "f IS NOT NULL",
    "length(kind) > 1",
];

const SETS: &[&str] = &[
    "n = n + 1",
    "kind = upper(kind)",
    "kind = NULL",
    "n = n * 2 - 1",
    "kind = concat(kind, 'x')",
    "f = f * 1.5",
    "f = n",
    "n = CASE WHEN n > 5 THEN 0 ELSE n END",
    "at = '2026-02-02'",
    "n = abs(n) + 3, kind = lower(kind)",
    "f = NULL, n = 7",
    "kind = coalesce(kind, 'none')",
];

/// Joined with others, up to twice.
fn condition(chance: &mut Chance, depth: u32) -> String {
    let joined = if depth < 2 { chance.one(&["OR", "AND", "NOT", "", ""]) } else { "" };
    match joined {
        "" => chance.one(CONDITIONS).to_owned(),
        "NOT" => format!("NOT ({})", condition(chance, depth + 1)),
        joined => {
            let one = condition(chance, depth + 1);
            format!("({one} {joined} {})", condition(chance, depth + 1))
        }
    }
}

pub fn change(seed: u64, dialect: &Dialect) -> Change {
    let chance = &mut Chance::of(seed);
    let rows = chance.one(&[30, 60, 120]);
    let (kind, key) = chance.one(dialect.keys);
    let two = chance.below(3) == 0;
    let (more, keys) = if two { ("a int NOT NULL, ", "a, k") } else { ("", "k") };
    let create = format!(
        "CREATE TABLE $t ({more}k {kind} NOT NULL, n int, kind varchar(60), at {}, f {}, g int GENERATED ALWAYS AS (n * 2) STORED, PRIMARY KEY ({keys}))",
        dialect.moment, dialect.float
    );
    let row = |chance: &mut Chance, number: usize| {
        let first = if two { format!("{}, ", number % 4) } else { String::new() };
        format!(
            "({first}{}, {}, {}, {}, {})",
            key.replace('$', &number.to_string()),
            chance.below(15) as i64 - 3,
            chance.one(&["'abc'", "'a'", "'b'", "NULL", "'Zz'", "''"]),
            chance.one(&["'2026-01-01'", "'2026-02-01'", "NULL"]),
            chance.one(&["NULL", "1.5", "2.75", "0.1", "1e10"]),
        )
    };
    let values: Vec<String> = (0..rows).map(|number| row(chance, number)).collect();
    let fill = format!("INSERT INTO $t ({keys}, n, kind, at, f) VALUES {}", values.join(", "));
    let statement = match chance.below(5) {
        0 | 1 => format!("DELETE FROM $t WHERE {}", condition(chance, 0)),
        _ => format!("UPDATE $t SET {} WHERE {}", chance.one(SETS), condition(chance, 0)),
    };
    Change { create, fill, statement }
}
