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

/// Tables that refer to one another, filled, and a DELETE that goes through them.
#[derive(Debug)]
pub struct Family {
    pub tables: Vec<String>,
    pub setup: Vec<String>,
    pub statement: String,
    /// Whether the statement names a row of the first table, by its number and its `n`.
    condition: usize,
    rows: Vec<Vec<Row>>,
    keys: Vec<Key>,
}

type Row = Vec<Option<i64>>;

#[derive(Debug)]
struct Key {
    child: usize,
    /// Of two columns from here, or of the first of them alone.
    column: usize,
    two: bool,
    parent: usize,
    cascades: bool,
}

/// As it is written, and of a row's key and number.
type Condition = (&'static str, fn(i64, i64) -> bool);

const OF_THE_FIRST: [Condition; 5] = [
    ("n % 3 = 1", |_, n| n % 3 == 1),
    ("n < 5", |_, n| n < 5),
    ("k > 12", |k, _| k > 12),
    ("n IN (1, 2, 3) OR k = 7", |k, n| matches!(n, 1..=3) || k == 7),
    ("n <> 4", |_, n| n != 4),
];

/// `of`: what their names begin with. A table refers to one or two of those before it, by a key of one column or of two.
pub fn family(seed: u64, of: &str) -> Family {
    let chance = &mut Chance::of(seed);
    let count = 2 + chance.below(4);
    let tables: Vec<String> = (0..count).map(|at| format!("{of}_{at}")).collect();
    let two: Vec<bool> = (0..count).map(|_| chance.below(3) == 0).collect();
    let sizes: Vec<usize> = (0..count).map(|at| if at == 0 { 30 } else { 20 + chance.below(60) }).collect();
    let (mut setup, mut rows, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..count {
        let parents: Vec<usize> = match at {
            0 => Vec::new(),
            _ if chance.below(3) == 0 && at > 1 => vec![at - 1, chance.below(at - 1)],
            _ => vec![chance.below(at)],
        };
        let mut columns = vec!["k int NOT NULL".to_owned(), "j int NOT NULL".to_owned(), "n int".to_owned()];
        let mut constraints = vec![format!("PRIMARY KEY ({})", if two[at] { "k, j" } else { "k" })];
        for (nth, parent) in parents.iter().enumerate() {
            columns.push(format!("f{nth} int"));
            columns.push(format!("g{nth} int"));
            let (own, theirs) =
                if two[*parent] { (format!("f{nth}, g{nth}"), "k, j") } else { (format!("f{nth}"), "k") };
            let cascades = chance.below(4) > 0;
            let (table, action) = (&tables[*parent], if cascades { "CASCADE" } else { "SET NULL" });
            constraints.push(format!("FOREIGN KEY ({own}) REFERENCES {table} ({theirs}) ON DELETE {action}"));
            keys.push(Key { child: at, column: 3 + 2 * nth, two: two[*parent], parent: *parent, cascades });
        }
        columns.extend(constraints);
        setup.push(format!("CREATE TABLE {} ({})", tables[at], columns.join(", ")));
        let row = |chance: &mut Chance, number: usize| {
            let number = i64::try_from(number).expect("a number");
            let mut row = vec![Some(number), Some(number % 4), Some(chance.below(12) as i64)];
            for parent in &parents {
                let to = chance.below(sizes[*parent]) as i64;
                let to = (chance.below(6) > 0).then_some(to);
                row.extend([to, to.map(|to| to % 4)]);
            }
            row
        };
        let own: Vec<Row> = (0..sizes[at]).map(|number| row(chance, number)).collect();
        let value = |cell: &Option<i64>| cell.map_or_else(|| "NULL".to_owned(), |number| number.to_string());
        let values: Vec<String> =
            own.iter().map(|row| format!("({})", row.iter().map(value).collect::<Vec<_>>().join(", "))).collect();
        setup.push(format!("INSERT INTO {} VALUES {}", tables[at], values.join(", ")));
        rows.push(own);
    }
    let condition = chance.below(OF_THE_FIRST.len());
    let statement = format!("DELETE FROM {} WHERE {}", tables[0], OF_THE_FIRST[condition].0);
    Family { tables, setup, statement, condition, rows, keys }
}

impl Family {
    /// What the keys say is left: the rows of each table, sorted. (MySQL 9.7.4 itself leaves rows whose parents it has deleted, where a
    /// table can be reached in two ways.)
    pub fn left(&self) -> Vec<Vec<Vec<Option<String>>>> {
        let mut rows = self.rows.clone();
        let is_gone = OF_THE_FIRST[self.condition].1;
        rows[0].retain(|row| !is_gone(row[0].expect("a key"), row[2].expect("a number")));
        // A table comes behind those it refers to.
        for child in 1..rows.len() {
            for key in self.keys.iter().filter(|key| key.child == child) {
                let parents: Vec<Option<i64>> = rows[key.parent].iter().map(|row| row[0]).collect();
                let orphaned = |row: &Row| row[key.column].is_some() && !parents.contains(&row[key.column]);
                match key.cascades {
                    true => rows[child].retain(|row| !orphaned(row)),
                    false => rows[child].iter_mut().filter(|row| orphaned(row)).for_each(|row| {
                        row[key.column] = None;
                        if key.two {
                            row[key.column + 1] = None;
                        }
                    }),
                }
            }
        }
        let text = |row: &Row| row.iter().map(|cell| cell.map(|number| number.to_string())).collect::<Vec<_>>();
        let sorted = |table: &Vec<Row>| {
            let mut rows: Vec<_> = table.iter().map(text).collect();
            rows.sort();
            rows
        };
        rows.iter().map(sorted).collect()
    }
}
