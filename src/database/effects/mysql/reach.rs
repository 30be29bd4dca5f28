//! Which names of MySQL and MariaDB lead to code of the users' own that may change data: stored functions and procedures, views that call
//! them, tables whose triggers do, and what refers to those.
//!
//! A routine counts if its body has a word that changes something, or a name that counts; so does one whose body is not shown (NULL without
//! the right to it, seen on both servers). Views and tables count by their names, wherever they stand. Neither server keeps a whole record of
//! what depends on what, so definitions are looked through until nothing is added. No triggers fire for rows that foreign keys carry a change on
//! to (seen on both, though MySQL 9.7 does that above InnoDB), but for MySQL's `enable_cascade_triggers`, where the counts tell of them.
//!
//! What no rollback takes back cannot be tried: a procedure that commits, by itself or by a change of the schema, or runs a text made as it goes;
//! and whatever names a table without transactions, or may, as its body is not shown. Functions and triggers cannot commit: the servers refuse it.
//!
//! Invariant: what is left out cannot change a row or an object except by INSERT; whatever is not understood is put in. Not in it: functions
//! loaded from libraries, where the user may not read `mysql.func`; they are nobody's by their name alone, and no question calls one.
//! Source: MySQL manual, "Stored Program Restrictions", "Statements That Cause an Implicit Commit". Tried on MySQL 9.7 and MariaDB 10.11;
//! with 1,000 tables the fingerprint took 3 ms and 13 ms.

use crate::database::catalog::mysql::{cell, rights};
use crate::database::effects::mysql::exact;
use crate::database::effects::mysql::procedure::may_commit;
use crate::database::effects::mysql::unseen::{self, Named};
use crate::database::effects::reach::Reach;
use crate::database::quote::mysql::{hex, unhex};
use crate::database::{Answer, Ask, AskError};
use crate::sql::Product;
use crate::sql::lexer::{Kind, Lexer, Token};
use crate::sql::statement::{LexicalMode, MySqlMode};
use crate::sql::watchlist::{Watchlist, folded};
use sha2::{Digest, Sha256};
use std::collections::HashSet;

/// A cheap digest over everything that [`learn`] looks at.
pub async fn fingerprint(asker: &mut impl Ask) -> Result<String, AskError> {
    let sum = |parts: &str, view: &str, schema: &str, kind: &str| {
        format!(
            "SELECT CONCAT(COUNT(*), ':', COALESCE(SUM(CAST(CONV(LEFT(SHA2(CONCAT_WS('.', {parts}), 256), 12), 16, 10) AS UNSIGNED)), 0)) AS sum \
             FROM information_schema.{view} WHERE DEFINER NOT IN {DEFINERS} OR {schema} <> 'sys' OR {kind} = 'PROCEDURE'"
        )
    };
    let question = [
        sum(
            "ROUTINE_SCHEMA, ROUTINE_NAME, ROUTINE_TYPE, ROUTINE_DEFINITION, LAST_ALTERED, SQL_MODE",
            "ROUTINES",
            "ROUTINE_SCHEMA",
            "ROUTINE_TYPE",
        ),
        sum(
            "TRIGGER_SCHEMA, TRIGGER_NAME, EVENT_OBJECT_TABLE, ACTION_STATEMENT, SQL_MODE",
            "TRIGGERS",
            "TRIGGER_SCHEMA",
            "'TRIGGER'",
        ),
        sum("TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION", "VIEWS", "TABLE_SCHEMA", "'VIEW'"),
    ];
    let answer = asker.ask(&question.join(" UNION ALL "), None).await?;
    let cells = answer.rows.iter().filter_map(|row| row.first()?.clone());
    let mut parts: Vec<String> = cells.collect();
    // A table that changes its engine, or takes another's name, is no code and changes no code.
    let mut careless: Vec<String> = careless(asker).await?.into_iter().collect();
    careless.sort();
    let digest = Sha256::digest(careless.join("\n"));
    let number = digest.iter().take(6).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    parts.push(format!("{}:{number}", careless.len()));
    Ok(parts.join(" "))
}

/// Asks for all of it that this user is shown.
pub async fn learn(asker: &mut impl Ask, fingerprint: String, mode: MySqlMode) -> Result<Reach, AskError> {
    let mut bodies = bodies(asker, mode).await?;
    let careless = careless(asker).await?;
    let libraries = libraries(asker).await?;
    heed_what_is_not_shown(asker, &mut bodies, &libraries).await?;
    let seeds = |wanted: fn(&Body) -> bool| bodies.iter().map(wanted).collect::<Vec<bool>>();
    let changing = closed(&bodies, &libraries, true, seeds(|body| body.changes));
    let outside_seeds: Vec<String> = libraries.iter().chain(&careless).cloned().collect();
    // A function that is not shown cannot commit, and can be tried, but for what it may write to a table without transactions.
    let may_be_careless = !careless.is_empty() || !libraries.is_empty();
    let stays = |body: &Body| body.outside || body.hidden && (may_be_careless || body.kind == What::Procedure);
    let outside = closed(&bodies, &outside_seeds, false, bodies.iter().map(stays).collect());
    let unshown = bodies.iter().filter(|body| body.hidden || body.leads_out).map(|body| body.name.clone());
    let unshown: Vec<String> = unshown.collect();
    // A table without transactions is no code: what writes into it is, and was put in by its name.
    let careless: Vec<String> = outside.all().cloned().collect();
    let leads = |name: &&String| changing.all().any(|one| one == *name);
    let outside: Vec<String> = outside.all().filter(leads).cloned().collect();
    Ok(Reach {
        reads: Watchlist::new(changing.reads.iter().cloned(), []).loose(),
        writes: Watchlist::new(changing.all().cloned(), []).loose(),
        outside: Watchlist::new(outside, []).loose(),
        careless: Watchlist::new(careless, []).loose(),
        unshown: Watchlist::new(unshown, []).loose(),
        deferred: false,
        in_tables: changing.tables,
        own_equality: false,
        // MariaDB names a trigger, though not what it does, to who has any right to its table.
        blind: mode.product == Product::MySql && rights(asker).await.inserts_blindly(),
        fingerprint,
    })
}

/// Whose views, functions and triggers in `sys` the servers bring along: they only read. Whoever may, makes others there, in another name, and
/// others elsewhere in theirs.
const DEFINERS: &str = "('mysql.sys@localhost', 'mysql.infoschema@localhost', 'mariadb.sys@localhost')";

const SYSTEM: &str = "('mysql', 'sys', 'performance_schema', 'information_schema')";

/// A definition, and the name that leads to it.
struct Body {
    kind: What,
    /// Of a trigger: its table.
    name: String,
    text: Option<String>,
    mode: LexicalMode,
    changes: bool,
    outside: bool,
    /// This user is not shown what it is.
    hidden: bool,
    /// It names what this user is not shown.
    leads_out: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Procedure,
    Function,
    View,
    Trigger,
}

/// Names that lead to what was looked for: when read, and when written.
#[derive(Debug, Default)]
struct Found {
    reads: HashSet<String>,
    writes: HashSet<String>,
    tables: bool,
}

impl Found {
    fn all(&self) -> impl Iterator<Item = &String> {
        self.reads.iter().chain(&self.writes)
    }
}

/// Everything that leads to these, over any number of steps. `unread`: so does a body that is not shown.
fn closed(bodies: &[Body], names: &[String], unread: bool, mut inside: Vec<bool>) -> Found {
    loop {
        let mut found = Found { reads: names.iter().cloned().collect(), ..Found::default() };
        let (code, views): (Vec<&Body>, Vec<&Body>) = bodies
            .iter()
            .zip(&inside)
            .filter(|(_, inside)| **inside)
            .map(|(body, _)| body)
            .partition(|body| body.kind != What::View);
        for body in code {
            match body.kind {
                What::Trigger => found.writes.insert(body.name.clone()),
                _ => found.reads.insert(body.name.clone()),
            };
            found.tables |= body.kind == What::Trigger;
        }
        found.tables |= !views.is_empty();
        views_of(&views, &mut found);
        let list = Watchlist::new(found.all().cloned(), []).loose();
        let mut grew = false;
        for (body, inside) in bodies.iter().zip(&mut inside) {
            if !*inside && body.text.as_deref().map_or(unread, |text| !list.met(text, body.mode).is_empty()) {
                (*inside, grew) = (true, true);
            }
        }
        // Each round puts one body in at least.
        if !grew {
            return found;
        }
    }
}

/// Whoever reads a view runs the functions in it; the triggers of the table below it only fire when it is written to.
fn views_of(views: &[&Body], found: &mut Found) {
    loop {
        let list = Watchlist::new(found.reads.iter().cloned(), []).loose();
        let runs = |view: &&&Body| view.text.as_deref().is_none_or(|text| !list.met(text, view.mode).is_empty());
        let before = found.reads.len();
        found.reads.extend(views.iter().filter(runs).map(|view| view.name.clone()));
        if found.reads.len() == before {
            break;
        }
    }
    found.writes.extend(views.iter().map(|view| view.name.clone()).filter(|name| !found.reads.contains(name)));
}

async fn bodies(asker: &mut impl Ask, mode: MySqlMode) -> Result<Vec<Body>, AskError> {
    let (name, body, kind) = (hex("r.ROUTINE_NAME"), hex("r.ROUTINE_DEFINITION"), hex("r.ROUTINE_TYPE"));
    let question = format!(
        "SELECT {kind} AS kind, {name} AS name, {body} AS body, {} AS mode, {} AS language, {} AS home, {name} AS own \
         FROM information_schema.ROUTINES r \
         WHERE r.DEFINER NOT IN {DEFINERS} OR r.ROUTINE_SCHEMA <> 'sys' OR r.ROUTINE_TYPE = 'PROCEDURE' \
         UNION ALL SELECT {}, {}, {}, {}, NULL, {}, {} FROM information_schema.TRIGGERS g \
         WHERE g.DEFINER NOT IN {DEFINERS} OR g.TRIGGER_SCHEMA <> 'sys' \
         UNION ALL SELECT {}, {}, {}, NULL, NULL, NULL, NULL FROM information_schema.VIEWS v \
         WHERE v.DEFINER NOT IN {DEFINERS} OR v.TABLE_SCHEMA NOT IN {SYSTEM}",
        hex("r.SQL_MODE"),
        hex("r.ROUTINE_BODY"),
        hex("r.ROUTINE_SCHEMA"),
        hex("'TRIGGER'"),
        hex("g.EVENT_OBJECT_TABLE"),
        hex("g.ACTION_STATEMENT"),
        hex("g.SQL_MODE"),
        hex("g.TRIGGER_SCHEMA"),
        hex("g.TRIGGER_NAME"),
        hex("'VIEW'"),
        hex("v.TABLE_NAME"),
        hex("v.VIEW_DEFINITION"),
    );
    let answer = asker.ask(&question, None).await?;
    let mut all = Vec::with_capacity(answer.rows.len());
    for row in 0..answer.rows.len() {
        let exact = exact_text(asker, &answer, row, mode).await?;
        all.push(read_body(&answer, row, mode, exact).ok_or_else(odd)?);
    }
    Ok(all)
}

/// The text that runs, where what is shown may be another; `Some(None)`: it is not to be had.
async fn exact_text(
    asker: &mut impl Ask,
    answer: &Answer,
    row: usize,
    mode: MySqlMode,
) -> Result<Option<Option<String>>, AskError> {
    let text = |column| cell(answer, row, column).and_then(unhex);
    let is_sql = text(4).is_none_or(|language| language.eq_ignore_ascii_case("SQL"));
    let (Some(shown), Some(home), Some(own), true) = (text(2), text(5), text(6), is_sql) else { return Ok(None) };
    if !exact::may_differ(&shown) {
        return Ok(None);
    }
    let kind = text(0).unwrap_or_default();
    if row >= EXACT_MAX || !["PROCEDURE", "FUNCTION", "TRIGGER"].contains(&kind.as_str()) {
        return Ok(Some(None));
    }
    let own_mode = LexicalMode::MySql(with_modes(mode, &text(3).unwrap_or_default()));
    exact::body(asker, &kind, &[home, own], own_mode).await.map(Some)
}

/// So many definitions are asked for one by one; those behind them count as not shown.
const EXACT_MAX: usize = 4_000;

/// What calls a routine that is not shown may do anything; what names a table that is not shown may fire triggers there.
async fn heed_what_is_not_shown(
    asker: &mut impl Ask,
    bodies: &mut [Body],
    libraries: &[String],
) -> Result<(), AskError> {
    let is_code = |body: &&Body| matches!(body.kind, What::Function | What::Procedure);
    let mut routines: HashSet<String> = bodies.iter().filter(is_code).map(|body| body.name.clone()).collect();
    routines.extend(libraries.iter().cloned());
    let named: Vec<Option<Named>> =
        bodies.iter().map(|body| body.text.as_deref().map(|text| Named::of(text, body.mode))).collect();
    let seen = unseen::seen(asker, &named.iter().flatten().collect::<Vec<_>>()).await?;
    for (body, named) in bodies.iter_mut().zip(named) {
        let Some(named) = named else { continue };
        let is_view = body.kind == What::View;
        // In a view's definition the server writes a stored function with its database.
        let calls = named.calls_unseen(&routines, !is_view);
        let tables = named.tables_unseen(&seen);
        body.changes |= calls || tables;
        body.leads_out = calls || tables;
        // What it reads may be another view, and call anything.
        if is_view && body.changes {
            body.text = None;
        }
        body.outside |= named.runs_unseen(&routines);
    }
    Ok(())
}

fn read_body(answer: &Answer, row: usize, mode: MySqlMode, exact: Option<Option<String>>) -> Option<Body> {
    let text = |column| cell(answer, row, column).and_then(unhex);
    let kind = match text(0)?.as_str() {
        "PROCEDURE" => What::Procedure,
        "FUNCTION" => What::Function,
        "TRIGGER" => What::Trigger,
        "VIEW" => What::View,
        // MariaDB's packages: what is in them is called through them.
        _ => What::Procedure,
    };
    let of_system = text(5).is_some_and(|home| home.eq_ignore_ascii_case("sys"));
    // A view's definition is empty where it is not shown; so is no body of any other.
    let body = match exact {
        Some(exact) => exact,
        None => text(2).filter(|body| !body.is_empty()),
    };
    let is_sql = text(4).is_none_or(|language| language.eq_ignore_ascii_case("SQL"));
    let own = LexicalMode::MySql(with_modes(mode, &text(3).unwrap_or_default()));
    let hidden = body.is_none();
    // A view only reads, whatever it does by the functions it calls; one that is not shown may call any.
    let changes = hidden || !is_sql || kind != What::View && body.as_deref().is_some_and(|body| changes(body, own));
    let commits = || body.as_deref().is_some_and(|body| may_commit(body, own));
    // The server's own tables know no transactions on MariaDB, and others may stand beside them.
    let in_catalog = text(5).is_some_and(|home| home.eq_ignore_ascii_case("mysql"))
        || body.as_deref().is_some_and(|body| names_catalog(body, own));
    let outside = !is_sql || of_system || in_catalog || kind == What::Procedure && commits();
    // A row that is added there can be an account.
    let adds_there = in_catalog && (kind == What::View || body.as_deref().is_some_and(|body| inserts(body, own)));
    let body = if is_sql { body } else { None };
    Some(Body {
        kind,
        name: folded(&text(1)?),
        text: body,
        mode: own,
        changes: changes || of_system || adds_there,
        outside,
        hidden,
        leads_out: false,
    })
}

/// A routine is read as the session that made it was.
fn with_modes(mode: MySqlMode, modes: &str) -> MySqlMode {
    let has = |name: &str| modes.split(',').any(|one| one.eq_ignore_ascii_case(name));
    MySqlMode {
        ansi_quotes: has("ANSI_QUOTES"),
        no_backslash_escapes: has("NO_BACKSLASH_ESCAPES"),
        pipes_as_concat: has("PIPES_AS_CONCAT"),
        ignore_space: has("IGNORE_SPACE"),
        ..mode
    }
}

/// Words that change something, or settings, wherever they stand in a body; INSERT only adds.
const WORDS: &[&str] = &[
    "update",
    "delete",
    "merge",
    "call",
    "drop",
    "alter",
    "create",
    "grant",
    "revoke",
    "rename",
    "load",
    "prepare",
    "execute",
    "handler",
    "outfile",
    "dumpfile",
    "install",
    "uninstall",
    "kill",
    "purge",
    "flush",
    "reset",
    "import",
    "optimize",
    "repair",
    "setval",
    "nextval",
    "nextvalue",
];

/// Functions have these names, too: only without a parenthesis are they statements.
const UNLESS_CALLED: &[&str] = &["replace", "truncate", "lock", "analyze", "check"];

/// What a SET changes beyond variables of the routine's own.
const SETTINGS: &[&str] =
    &["global", "session", "persist", "persist_only", "local", "password", "role", "default", "transaction", "names"];

fn changes(body: &str, mode: LexicalMode) -> bool {
    found(body, mode, |token, next| {
        let is = |list: &[&str]| list.iter().any(|word| token.is_word(body, word));
        let called = next.is_some_and(|next| next.is(b'('));
        let sets = || {
            let what = next.map(|next| next.text(body).to_ascii_lowercase()).unwrap_or_default();
            SETTINGS.contains(&what.as_str()) || what.starts_with("@@") || is_guard(&what)
        };
        is(WORDS) || is(UNLESS_CALLED) && !called || token.is_word(body, "set") && sets()
    })
}

fn inserts(body: &str, mode: LexicalMode) -> bool {
    found(body, mode, |token, _| token.is_word(body, "insert"))
}

pub fn names_catalog(body: &str, mode: LexicalMode) -> bool {
    let is_name = |token: &Token| matches!(token.kind, Kind::Word | Kind::QuotedName);
    let of_catalog = |token: &Token| token.text(body).trim_matches(['`', '"']).eq_ignore_ascii_case("mysql");
    found(body, mode, |token, next| is_name(token) && of_catalog(token) && next.is_some_and(|next| next.is(b'.')))
}

/// Settings that keep guards on, which a bare SET in a body reaches.
fn is_guard(name: &str) -> bool {
    ["foreign_key_checks", "unique_checks", "sql_log_bin", "sql_safe_updates", "autocommit", "sql_mode"].contains(&name)
}

fn found(body: &str, mode: LexicalMode, is: impl Fn(&Token, Option<&Token>) -> bool) -> bool {
    let mut tokens = Lexer::new(body, mode).filter(|token| !token.is_comment()).peekable();
    while let Some(token) = tokens.next() {
        let broken = matches!(token.kind, Kind::Broken(_) | Kind::Junk | Kind::Stray);
        if broken || is(&token, tokens.peek()) {
            return true;
        }
    }
    false
}

/// Tables of engines without transactions.
async fn careless(asker: &mut impl Ask) -> Result<HashSet<String>, AskError> {
    let question = format!(
        "SELECT DISTINCT {} AS name FROM information_schema.TABLES t WHERE t.TABLE_SCHEMA NOT IN {SYSTEM} \
         AND t.ENGINE IN (SELECT e.ENGINE FROM information_schema.ENGINES e WHERE COALESCE(e.TRANSACTIONS, 'NO') <> 'YES')",
        hex("t.TABLE_NAME")
    );
    let answer = asker.ask(&question, None).await?;
    let name = |row| cell(&answer, row, 0).and_then(unhex).map(|name| folded(&name));
    (0..answer.rows.len()).map(name).collect::<Option<_>>().ok_or_else(odd)
}

/// Functions of libraries, if this user may see them: what they do is not known, and no rollback takes it back. MySQL's table of them in
/// the performance schema holds the server's own as well, the one here does not.
async fn libraries(asker: &mut impl Ask) -> Result<Vec<String>, AskError> {
    match asker.ask(&format!("SELECT {} AS name FROM mysql.func f", hex("f.name")), None).await {
        Ok(answer) => {
            let name = |row| cell(&answer, row, 0).and_then(unhex).map(|name| folded(&name));
            (0..answer.rows.len()).map(name).collect::<Option<_>>().ok_or_else(odd)
        }
        Err(AskError::Database { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn odd() -> AskError {
    AskError::Database { code: "HY000".to_owned(), message: crate::database::catalog::odd() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Product;

    fn mode() -> LexicalMode {
        LexicalMode::MySql(MySqlMode::of(Product::MySql, 90704))
    }

    #[test]
    fn bodies_are_told_by_their_words() {
        for (body, changing, committing) in [
            ("BEGIN DECLARE x INT; SET x = 1; RETURN x; END", false, false),
            ("BEGIN INSERT INTO log VALUES (REPLACE(a, 'x', 'y'), TRUNCATE(b, 2)); END", false, false),
            ("SELECT 'delete from t' -- update", false, false),
            ("BEGIN DELETE FROM t; END", true, false),
            ("INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = 1", true, false),
            ("REPLACE INTO t VALUES (1)", true, false),
            ("SET SESSION sql_log_bin = 0", true, true),
            ("SET foreign_key_checks = 0", true, true),
            ("SET @@sql_mode = ''", true, true),
            ("BEGIN START TRANSACTION; COMMIT; END", false, true),
            ("TRUNCATE t", true, true),
            ("BEGIN PREPARE s FROM @x; EXECUTE s; END", true, true),
            ("SELECT 1 INTO OUTFILE '/x'", true, true),
            ("SELECT 'open", true, true),
        ] {
            assert_eq!((changes(body, mode()), may_commit(body, mode())), (changing, committing), "{body}");
        }
    }

    #[test]
    fn names_lead_on_over_any_number_of_steps() {
        let body = |kind, name: &str, text: Option<&str>| {
            let changes = text.is_none_or(|text| changes(text, mode()));
            Body {
                kind,
                name: name.into(),
                text: text.map(str::to_owned),
                mode: mode(),
                changes,
                outside: false,
                hidden: false,
                leads_out: false,
            }
        };
        let bodies = [
            body(What::Function, "purge", Some("BEGIN DELETE FROM t; RETURN 1; END")),
            body(What::Function, "calm", Some("RETURN 1")),
            body(What::View, "v", Some("select `s`.`purge`() AS `x`")),
            body(What::Procedure, "p", Some("SELECT * FROM v")),
            body(What::Trigger, "kept", Some("SET NEW.a = calm()")),
            body(What::Trigger, "child", Some("SET @x = purge()")),
            body(What::View, "over", Some("select `s`.`child`.`id` AS `id` from `s`.`child`")),
            body(What::Function, "hidden", None),
        ];
        let seeds = bodies.iter().map(|body| body.changes).collect();
        let found = closed(&bodies, &["library".to_owned()], true, seeds);
        let sorted = |names: &HashSet<String>| {
            let mut names: Vec<String> = names.iter().cloned().collect();
            names.sort();
            names
        };
        assert_eq!(sorted(&found.reads), ["hidden", "library", "p", "purge", "v"]);
        assert_eq!(sorted(&found.writes), ["child", "over"]);
        assert!(found.tables);
    }
}
