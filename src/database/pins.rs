//! Which columns a condition of MySQL's pins to one value of a unique key, now that their types are known.
//!
//! MySQL compares a text column with a number as numbers, and every text without digits is 0: `DELETE FROM t WHERE code = 0` takes them all.
//! So a column counts only where the constant is of a kind that its type compares exactly.
//!
//! Invariant: in doubt a column is not pinned, and the rows are counted. Source: MySQL manual, "Type Conversion in Expression Evaluation"; a
//! column of whole numbers or decimals compared with a quoted constant is compared with its value (tried beyond 2^53 on MySQL 9.7 and
//! MariaDB 10.11).

use crate::policy::question::Table;
use crate::sql::facts::{Change, Constant};

/// The columns pinned whatever their type, and those whose type fits what they are compared with.
pub(in crate::database) fn all(change: &Change, pinned: &[String], table: &Table, literals: &[String]) -> Vec<String> {
    let kind = |name: &str| table.columns.iter().find(|column| column.name == name).map(|column| column.kind.as_str());
    let fits = change.pinned_if.iter().filter(|one| {
        let constant = match one.constant {
            Constant::Parameter(number) => bound(literals, number),
            constant => Some(constant),
        };
        constant.zip(kind(&one.column)).is_some_and(|(constant, kind)| exact(constant, kind))
    });
    pinned.iter().cloned().chain(fits.map(|one| one.column.clone())).collect()
}

/// Of what kind the value of this parameter is, by its literal.
fn bound(literals: &[String], number: u16) -> Option<Constant> {
    let literal = literals.get(usize::from(number).checked_sub(1)?)?;
    let digits = literal.strip_prefix('-').unwrap_or(literal);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Constant::Integer);
    }
    if literal.starts_with("_binary ") {
        return Some(Constant::Bytes);
    }
    (literal.is_ascii() && literal.starts_with(['\'', '_'])).then_some(Constant::Text)
}

fn exact(constant: Constant, kind: &str) -> bool {
    const WHOLE: &[&str] = &["tinyint", "smallint", "mediumint", "int", "integer", "bigint", "decimal", "numeric"];
    const TEXTS: &[&str] = &[
        "char",
        "varchar",
        "tinytext",
        "text",
        "mediumtext",
        "longtext",
        "binary",
        "varbinary",
        "tinyblob",
        "blob",
        "mediumblob",
        "longblob",
    ];
    const OTHERS: &[&str] = &["date", "datetime", "timestamp", "uuid", "inet4", "inet6", "enum"];
    let kind = kind.to_ascii_lowercase();
    let word = kind.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    let is = |list: &[&str]| list.contains(&word);
    match constant {
        Constant::Integer => is(WHOLE),
        Constant::Text => is(WHOLE) || is(TEXTS) || is(OTHERS),
        Constant::Bytes => is(TEXTS),
        Constant::Parameter(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_not_pinned_by_a_number() {
        let literals: Vec<String> =
            ["7", "-7", "'a'", "_binary x'61'", "_latin1 x'61'", "NULL", "1e0", "1.5", "'ä'"].map(String::from).into();
        let bound = |number| bound(&literals, number);
        for (constant, kind, fits) in [
            (Some(Constant::Integer), "bigint(20) unsigned", true),
            (Some(Constant::Integer), "varchar(36)", false),
            (Some(Constant::Integer), "double", false),
            (Some(Constant::Integer), "date", false),
            (Some(Constant::Text), "char(36)", true),
            (Some(Constant::Text), "int", true),
            (Some(Constant::Text), "double", false),
            (Some(Constant::Text), "time", false),
            (Some(Constant::Bytes), "binary(16)", true),
            (Some(Constant::Bytes), "int", false),
            (bound(1), "int", true),
            (bound(2), "int", true),
            (bound(1), "varchar(9)", false),
            (bound(3), "varchar(9)", true),
            (bound(4), "binary(16)", true),
            (bound(5), "varchar(9)", true),
            (bound(6), "int", false),
            (bound(7), "int", false),
            (bound(8), "int", false),
            (bound(9), "varchar(9)", false),
            (bound(0), "int", false),
            (bound(10), "int", false),
        ] {
            assert_eq!(constant.is_some_and(|constant| exact(constant, kind)), fits, "{constant:?} {kind}");
        }
    }
}
