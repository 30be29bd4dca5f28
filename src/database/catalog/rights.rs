//! What a user of MySQL or MariaDB is shown of the catalog, from `SHOW GRANTS`: a foreign key is shown to who has some right to its
//! table, a trigger to who has the right TRIGGER (MariaDB: any right to its table), InnoDB's own tables to who has PROCESS.
//!
//! Invariant: what is not understood of a grant counts as a right less. Rights of active roles are in the answer on both servers; what is
//! taken away again under `partial_revokes` makes every global right count for nothing here. Tried on MySQL 9.7 and MariaDB 10.11.

use crate::database::Answer;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    grants: Vec<Grant>,
    revoked: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Grant {
    rights: Vec<String>,
    /// A database's name, or a pattern for some; `None`: all.
    database: Option<String>,
    /// `None`: all of the database.
    table: Option<String>,
}

/// Each of them shows a table, and with it its keys.
const OF_TABLES: &[&str] = &[
    "ALL PRIVILEGES",
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "DROP",
    "REFERENCES",
    "INDEX",
    "ALTER",
    "TRIGGER",
];

impl Rights {
    pub fn read(answer: &Answer) -> Rights {
        let lines = answer.rows.iter().filter_map(|row| row.first()?.as_deref());
        let mut rights = Rights::default();
        for line in lines {
            if line.get(..7).is_some_and(|word| word.eq_ignore_ascii_case("REVOKE ")) {
                rights.revoked = true;
            }
            rights.grants.extend(grant(line));
        }
        rights
    }

    /// InnoDB's own tables: every key, and what the transaction has changed.
    pub fn process(&self) -> bool {
        self.grants.iter().any(|grant| grant.database.is_none() && grant.has(&["ALL PRIVILEGES", "PROCESS"]))
    }

    /// Every table of the server, in whatever database.
    pub fn sees_all(&self) -> bool {
        !self.revoked && self.grants.iter().any(|grant| grant.database.is_none() && grant.has(OF_TABLES))
    }

    /// Every table of this database.
    pub fn sees_database(&self, database: &str) -> bool {
        self.sees_all()
            || self.grants.iter().any(|grant| grant.table.is_none() && grant.holds_in(database) && grant.has(OF_TABLES))
    }

    /// There may be a table that it inserts into, and whose triggers it is not shown.
    pub fn inserts_blindly(&self) -> bool {
        let sees = |grant: &Grant| grant.has(&["ALL PRIVILEGES", "TRIGGER"]);
        let everywhere = !self.revoked && self.grants.iter().any(|grant| grant.database.is_none() && sees(grant));
        // Nothing is known of a user without a grant that is understood.
        !everywhere
            && (self.grants.is_empty() || self.grants.iter().any(|grant| grant.has(&["INSERT"]) && !sees(grant)))
    }

    /// No grant that is understood gives this right, on the table or on all tables of the database. Nothing is known of a user without grants.
    pub fn lacks(&self, right: &str, database: &str, table: Option<&String>) -> bool {
        let gives = |grant: &Grant| {
            let everywhere = grant.database.is_none() && !self.revoked;
            let here = grant.holds_in(database) && (grant.table.is_none() || grant.table.as_ref() == table);
            (everywhere || here) && grant.has(&["ALL PRIVILEGES", right])
        };
        !self.revoked && !self.grants.is_empty() && !self.grants.iter().any(gives)
    }

    pub fn sees_triggers(&self, database: &str, table: &str) -> bool {
        self.grants.iter().any(|grant| {
            let everywhere = grant.database.is_none() && !self.revoked;
            let here = grant.holds_in(database) && grant.table.as_deref().is_none_or(|one| one == table);
            (everywhere || here) && grant.has(&["ALL PRIVILEGES", "TRIGGER"])
        })
    }
}

impl Grant {
    fn has(&self, any: &[&str]) -> bool {
        self.rights.iter().any(|right| any.contains(&right.as_str()))
    }

    fn holds_in(&self, database: &str) -> bool {
        let Some(pattern) = &self.database else { return false };
        // Beside a table the name is itself, and no pattern.
        pattern == database || self.table.is_none() && like(pattern.as_bytes(), database.as_bytes())
    }
}

/// `` GRANT SELECT, INSERT (`a`) ON `shop`.* TO … ``; `None`: of something else than tables.
fn grant(line: &str) -> Option<Grant> {
    let line = line.strip_prefix("GRANT ")?;
    let on = outside_quotes(line, " ON ")?;
    let (rights, rest) = (line.get(..on)?, line.get(on + 4..)?);
    let to = outside_quotes(rest, " TO ")?;
    let object = rest.get(..to)?;
    let dot = outside_quotes(object, ".")?;
    let part = |written: &str| if written == "*" { Some(None) } else { unquoted(written).map(Some) };
    let (database, table) = (part(object.get(..dot)?)?, part(object.get(dot + 1..)?)?);
    Some(Grant { rights: each(rights), database, table })
}

/// The rights without the columns that some of them are for.
fn each(rights: &str) -> Vec<String> {
    let (mut depth, mut out) = (0usize, vec![String::new()]);
    for c in rights.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => out.push(String::new()),
            _ if depth == 0 => out.last_mut().into_iter().for_each(|right| right.push(c)),
            _ => {}
        }
    }
    out.into_iter().map(|right| right.trim().to_ascii_uppercase()).collect()
}

/// Where this stands outside of quotes; names are in double ones under ANSI_QUOTES.
fn outside_quotes(text: &str, wanted: &str) -> Option<usize> {
    let mut open = None;
    for (at, c) in text.char_indices() {
        match (open, c) {
            (None, '`' | '"' | '\'') => open = Some(c),
            (Some(quote), c) if quote == c => open = None,
            (None, _) if text.get(at..).is_some_and(|rest| rest.starts_with(wanted)) => return Some(at),
            _ => {}
        }
    }
    None
}

fn unquoted(written: &str) -> Option<String> {
    let quote = written.chars().next().filter(|c| matches!(c, '`' | '"'))?;
    let inner = written.strip_prefix(quote)?.strip_suffix(quote)?;
    Some(inner.replace(&format!("{quote}{quote}"), &quote.to_string()))
}

/// The patterns of database names in grants: `%`, `_`, and a backslash before either.
fn like(pattern: &[u8], name: &[u8]) -> bool {
    let Some((first, pattern)) = pattern.split_first() else { return name.is_empty() };
    match (first, pattern.first()) {
        (b'\\', Some(escaped)) => {
            name.first() == Some(escaped)
                && like(pattern.get(1..).unwrap_or_default(), name.get(1..).unwrap_or_default())
        }
        (b'%', _) => (0..=name.len()).any(|from| like(pattern, name.get(from..).unwrap_or_default())),
        (b'_', _) => !name.is_empty() && like(pattern, name.get(1..).unwrap_or_default()),
        (byte, _) => name.first() == Some(byte) && like(pattern, name.get(1..).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(lines: &[&str]) -> Rights {
        let rows = lines.iter().map(|line| vec![Some((*line).to_owned())]).collect();
        Rights::read(&Answer { columns: vec![String::new()], rows })
    }

    #[test]
    fn who_inserts_without_seeing_triggers_is_known() {
        for (lines, blindly) in [
            (vec![], true),
            (vec!["GRANT USAGE ON *.* TO `u`@`%`", "GRANT ALL PRIVILEGES ON `shop`.* TO `u`@`%`"], false),
            (vec!["GRANT USAGE ON *.* TO `u`@`%`", "GRANT SELECT, INSERT ON `shop`.* TO `u`@`%`"], true),
            (vec!["GRANT SELECT, INSERT, TRIGGER ON `shop`.* TO `u`@`%`"], false),
            (vec!["GRANT TRIGGER ON *.* TO `u`@`%`", "GRANT INSERT (`a`) ON `shop`.`t` TO `u`@`%`"], false),
            (vec!["GRANT INSERT (`a`) ON `shop`.`t` TO `u`@`%`"], true),
        ] {
            assert_eq!(rights(&lines).inserts_blindly(), blindly, "{lines:?}");
        }
    }

    #[test]
    fn grants_say_what_is_seen() {
        // process, all, database shop, triggers of shop.carts
        for (lines, seen) in [
            (vec!["GRANT USAGE ON *.* TO `u`@`%`"], [false, false, false, false]),
            (vec!["GRANT ALL PRIVILEGES ON *.* TO `u`@`%` WITH GRANT OPTION"], [true, true, true, true]),
            (vec!["GRANT SELECT, PROCESS ON *.* TO `u`@`%`"], [true, true, true, false]),
            (vec!["GRANT SELECT ON *.* TO `u`@`%`", "REVOKE SELECT ON `hid`.* FROM `u`@`%`"], [false; 4]),
            (vec!["GRANT ALL PRIVILEGES ON `shop`.* TO `u`@`%`"], [false, false, true, true]),
            (vec!["GRANT ALL PRIVILEGES ON \"shop\".* TO \"u\"@\"%\""], [false, false, true, true]),
            (vec!["GRANT SELECT ON `s%`.* TO `u`@`%`"], [false, false, true, false]),
            (vec!["GRANT SELECT ON `s\\_op`.* TO `u`@`%`"], [false; 4]),
            (vec!["GRANT SELECT (`id`, `a)`), TRIGGER ON `shop`.`carts` TO `u`@`%`"], [false, false, false, true]),
            (vec!["GRANT SELECT, DELETE ON `shop`.`other` TO `u`@`%`"], [false; 4]),
            (vec!["GRANT EXECUTE ON PROCEDURE `shop`.`p` TO `u`@`%`", "GRANT `r`@`%` TO `u`@`%`"], [false; 4]),
        ] {
            let rights = rights(&lines);
            let found = [
                rights.process(),
                rights.sees_all(),
                rights.sees_database("shop"),
                rights.sees_triggers("shop", "carts"),
            ];
            assert_eq!(found, seen, "{lines:?}");
        }
    }
}
