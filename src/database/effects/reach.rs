//! Which names lead to code of the users' own that may change data: functions, and through them operators, views, policies, triggers,
//! rules, defaults, checks and indexes.
//!
//! A function counts if its body has a word that changes something, or a name that counts; so does one whose body cannot be read.
//! What depends on such a function counts by the catalog's own record of dependencies (`pg_depend`), and bodies are looked
//! through again until nothing is added.
//!
//! Invariant: what is left out cannot change a row or an object except by INSERT; whatever is not understood is put in. How a
//! function is labelled (IMMUTABLE, STABLE) tells nothing: a stable function can call a volatile one. Objects below id 16384 are the
//! server's own. Sources: PostgreSQL manual, "pg_depend", "pg_proc", "Function Volatility Categories"; tried on 15 and 18.

use crate::database::{Answer, Ask, AskError, quote};
use crate::sql::lexer::{Kind, Lexer};
use crate::sql::statement::LexicalMode;
use crate::sql::watchlist::Watchlist;
use crate::sql::{glance, lexer};
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

/// What was learned of one database's schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Names that run such code wherever they are used.
    pub reads: Watchlist,
    /// Those and the names that run it when they are written to.
    pub writes: Watchlist,
    /// Of those, the ones that do what no rollback takes back: they cannot be tried.
    pub outside: Watchlist,
    /// All names that lead to what no rollback takes back, tables without transactions among them: no block of statements may name one.
    pub careless: Watchlist,
    /// Of those, the ones of which only that is known: this user is not shown what they are.
    pub unshown: Watchlist,
    /// Some of it runs at COMMIT: a deferrable trigger.
    pub deferred: bool,
    /// Tables and views are among them: what looks after all tables runs it.
    pub in_tables: bool,
    /// Somebody defined an `=` of their own: a condition with it bounds nothing.
    pub own_equality: bool,
    /// There may be triggers that this user is not shown: what is inserted may fire them.
    pub blind: bool,
    /// Changes when anything of the above may have changed.
    pub fingerprint: String,
}

impl Reach {
    pub fn unknown(why: &str) -> Reach {
        let list = Watchlist::everything(format!("what runs behind its names is not known: {why}"));
        Reach {
            reads: list.clone(),
            careless: list.clone(),
            writes: list,
            outside: Watchlist::default(),
            unshown: Watchlist::default(),
            deferred: true,
            in_tables: true,
            own_equality: true,
            blind: true,
            fingerprint: String::new(),
        }
    }
}

impl Reach {
    /// The same names lead to the same kinds of code, whatever else of the schema is not as it was.
    pub fn leads_as(&self, other: &Reach) -> bool {
        let of = |reach: &Reach| Reach { fingerprint: String::new(), ..reach.clone() };
        of(self) == of(other)
    }
}

/// A cheap digest over everything that [`learn`] looks at.
pub async fn fingerprint(asker: &mut impl Ask) -> Result<String, AskError> {
    let answer = asker.ask(&quote::catalog(FINGERPRINT), None).await?;
    Ok(cell(&answer, 0, 0).unwrap_or_default().to_owned())
}

/// Asks for all of it. `server_version` is the number the server reports (15, 18).
pub async fn learn(asker: &mut impl Ask, fingerprint: String, server_version: u32) -> Result<Reach, AskError> {
    let functions = functions(asker, server_version).await?;
    let pinned = pinned(asker).await?;
    let seeds = |wanted: fn(&Function) -> bool| {
        let ours = functions.values().filter(|one| wanted(one)).map(|one| one.id);
        ours.chain(pinned.iter().filter(|one| wanted(one)).map(|one| one.id)).collect()
    };
    let Some(found) = closed(asker, &functions, seeds(|one| one.suspect)).await? else {
        return Ok(Reach { fingerprint, ..Reach::unknown("its functions lead too far from one to another") });
    };
    let outside: HashSet<u64> = seeds(|one| one.outside);
    let outside = match outside.is_empty() {
        true => Some(Found::default()),
        false => closed(asker, &functions, outside).await?,
    };
    Ok(found.into_reach(fingerprint, outside.unwrap_or_default()))
}

/// Everything that leads to these functions; `None`: it goes on for ever.
async fn closed(
    asker: &mut impl Ask,
    functions: &HashMap<u64, Function>,
    mut suspects: HashSet<u64>,
) -> Result<Option<Found>, AskError> {
    for _round in 0..ROUNDS_MAX {
        let found = dependents(asker, &suspects).await?;
        let before = suspects.len();
        suspects.extend(&found.functions);
        let all = found.names.iter().chain(&found.written).cloned();
        let list = Watchlist::new(all.chain(ALWAYS.iter().map(|name| (*name).to_owned())), found.operators.clone());
        let calls = functions.values().filter(|one| !suspects.contains(&one.id) && one.meets(&list));
        let more: Vec<u64> = calls.map(|one| one.id).collect();
        suspects.extend(more);
        if suspects.len() == before {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Whoever calls it decides how its body is read.
const BOTH: [LexicalMode; 2] = [
    LexicalMode::Postgres { standard_conforming_strings: true },
    LexicalMode::Postgres { standard_conforming_strings: false },
];

/// Rounds of looking through bodies again: each follows every chain of calls one step further.
const ROUNDS_MAX: usize = 64;

/// Functions of the server's that run a text given to them, or a view: what they lead to shows in no name. A glance lets none of them
/// pass (`sql::glance`).
pub fn runs_a_text() -> &'static Watchlist {
    static LIST: LazyLock<Watchlist> =
        LazyLock::new(|| Watchlist::new(ALWAYS.iter().map(|name| (*name).to_owned()), []));
    &LIST
}

const ALWAYS: &[&str] = &[
    "query_to_xml",
    "query_to_xmlschema",
    "query_to_xml_and_xmlschema",
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "database_to_xml",
    "database_to_xml_and_xmlschema",
    "ts_stat",
    "ts_rewrite",
    "brin_summarize_new_values",
    "brin_summarize_range",
];

/// Words that change something, or settings, wherever they stand in a body; INSERT only adds.
const WORDS: &[&str] = &[
    "update",
    "delete",
    "merge",
    "truncate",
    "execute",
    "call",
    "do",
    "copy",
    "drop",
    "alter",
    "create",
    "grant",
    "revoke",
    "set",
    "reset",
    "discard",
    "prepare",
    "deallocate",
    "refresh",
    "cluster",
    "vacuum",
    "reindex",
    "analyze",
    "commit",
    "rollback",
    "import",
    "reassign",
    "load",
    "security",
];

/// Volatile functions of well-known extensions that only compute.
const COMPUTING: &[&str] = &[
    "gen_random_uuid",
    "gen_random_bytes",
    "gen_salt",
    "crypt",
    "uuid_generate_v1",
    "uuid_generate_v1mc",
    "uuid_generate_v4",
    "pgp_sym_encrypt",
    "pgp_sym_encrypt_bytea",
    "pgp_pub_encrypt",
    "pgp_pub_encrypt_bytea",
    "pg_stat_statements",
    "pg_stat_statements_info",
    "normal_rand",
    "set_limit",
    "pg_buffercache_pages",
];

/// Operators that a text can use without writing them: IN, CASE, NULLIF, LIKE, BETWEEN, DISTINCT, USING.
const SPELLED_BY_WORDS: &[&str] =
    &["=", "<>", "<", "<=", ">", ">=", "~~", "!~~", "~~*", "!~~*", "~", "!~", "~*", "!~*"];

/// Functions of extensions that run a text given to them, however they are labelled (tablefunc, xml2).
const RUNS_TEXT: &[&str] =
    &["crosstab", "crosstab2", "crosstab3", "crosstab4", "crosstab_hash", "crosstabn", "connectby", "xpath_table"];

struct Function {
    id: u64,
    suspect: bool,
    /// It does what no rollback takes back.
    outside: bool,
    body: Option<String>,
}

impl Function {
    fn meets(&self, list: &Watchlist) -> bool {
        self.body.as_deref().is_none_or(|body| BOTH.iter().any(|mode| !list.met(body, *mode).is_empty()))
    }
}

/// The server's own functions that a glance lets none of pass. The catalog keeps no record of what depends on them, so expressions
/// are looked through for their ids.
async fn pinned(asker: &mut impl Ask) -> Result<Vec<Function>, AskError> {
    let answer = asker.ask(&quote::catalog(PINNED), None).await?;
    let named = (0..answer.rows.len()).filter_map(|row| Some((cell(&answer, row, 0)?, cell(&answer, row, 1)?)));
    let dangerous = named.filter(|(_, name)| glance::dangerous_function(name));
    let function = |(id, name): (&str, &str)| {
        Some(Function { id: id.parse().ok()?, suspect: true, outside: acts_outside(name), body: None })
    };
    Ok(dangerous.filter_map(function).collect())
}

async fn functions(asker: &mut impl Ask, server_version: u32) -> Result<HashMap<u64, Function>, AskError> {
    let body = if server_version >= 14 { ATOMIC } else { "NULL::pg_catalog.text" };
    let question = quote::catalog(&FUNCTIONS.replace("{body}", body));
    let answer = match asker.ask(&question, None).await {
        Err(AskError::TooLarge) => {
            // Without their bodies every one of them counts.
            let bare =
                quote::catalog(&FUNCTIONS.replace("{body}", "NULL::pg_catalog.text").replace("p.prosrc", "NULL"));
            asker.ask(&bare, None).await?
        }
        answer => answer?,
    };
    Ok((0..answer.rows.len()).filter_map(|row| function(&answer, row)).map(|one| (one.id, one)).collect())
}

/// Columns: oid, name, language, body, volatility, owned by an extension, settings, kind.
fn function(answer: &Answer, row: usize) -> Option<Function> {
    let at = |column| cell(answer, row, column);
    let id = at(0)?.parse().ok()?;
    let (name, language) = (at(1).unwrap_or_default(), at(2).unwrap_or_default());
    let of_extension = at(5) == Some("t");
    let readable = matches!(language, "sql" | "plpgsql");
    let computes = language == "internal" && at(7) == Some("a")
        || of_extension
            && language == "c"
            && !RUNS_TEXT.contains(&name)
            && (at(4) != Some("v") || COMPUTING.contains(&name));
    let body = if computes { Some(String::new()) } else { at(3).filter(|_| readable).map(str::to_owned) };
    let suspect = body.as_deref().is_none_or(changes_something) || at(6).is_some_and(|settings| !calm(settings));
    // A language that may do anything, and a library of the users' own.
    let anything = !computes && !readable && !of_extension;
    let outside = anything || body.as_deref().is_some_and(acts_outside) || of_extension && name.starts_with("dblink");
    Some(Function { id, suspect, outside, body })
}

/// Settings of a function's own that leave what it does as it reads.
fn calm(settings: &str) -> bool {
    const CALM: &[&str] =
        &["search_path", "work_mem", "statement_timeout", "lock_timeout", "timezone", "datestyle", "plpgsql."];
    let names = settings.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name.to_lowercase());
    names.into_iter().all(|name| CALM.iter().any(|calm| name.starts_with(calm)))
}

/// A body that copies to or from files and programs, sets sequences, or speaks to other servers.
fn acts_outside(body: &str) -> bool {
    BOTH.iter().any(|mode| acts_outside_in(body, *mode))
}

fn acts_outside_in(body: &str, mode: LexicalMode) -> bool {
    Lexer::new(body, mode).any(|token| {
        let name = token.text(body).trim_matches('"').to_ascii_lowercase();
        let transactional = ["lo_unlink", "lo_put", "lo_create", "lo_creat", "lo_open", "lo_from_bytea", "lo_truncate"];
        match token.kind {
            Kind::Word | Kind::QuotedName if transactional.contains(&name.as_str()) => false,
            Kind::Word | Kind::QuotedName => {
                let text_only = name.starts_with("query_to") || name.starts_with("cursor_to");
                name == "copy"
                    || glance::dangerous_function(&name)
                        && !text_only
                        && name != "set_config"
                        && !matches!(name.as_str(), "loread" | "lowrite")
            }
            _ => false,
        }
    })
}

/// A body with a word that changes something, a function of the server's that does, or what cannot be lexed. Literals are not looked
/// into: they are run by EXECUTE only, or by functions that count.
fn changes_something(body: &str) -> bool {
    BOTH.iter().any(|mode| changes_something_in(body, *mode))
}

fn changes_something_in(body: &str, mode: LexicalMode) -> bool {
    let mut tokens = Lexer::new(body, mode).filter(|token| !token.is_comment()).peekable();
    while let Some(token) = tokens.next() {
        let changes = match token.kind {
            Kind::Word => {
                let mut does_nothing = || tokens.peek().is_some_and(|next| next.is_word(body, "nothing"));
                WORDS.iter().any(|word| token.is_word(body, word)) && !(token.is_word(body, "do") && does_nothing())
                    || glance::dangerous_function(token.text(body))
            }
            Kind::QuotedName => glance::dangerous_name(token.text(body)),
            Kind::Broken(_) | Kind::Junk | Kind::Stray => true,
            Kind::String(lexer::StringKind::Dollar) => false,
            _ => false,
        };
        if changes {
            return true;
        }
    }
    false
}

#[derive(Debug, Default)]
struct Found {
    functions: Vec<u64>,
    names: Vec<String>,
    written: Vec<String>,
    operators: Vec<String>,
    everywhere: Option<String>,
    schema_changes: Option<String>,
    deferred: bool,
    in_tables: bool,
    own_equality: bool,
}

impl Found {
    fn into_reach(self, fingerprint: String, outside: Found) -> Reach {
        let outside = Watchlist::new(outside.names.into_iter().chain(outside.written), outside.operators)
            .and_everything(outside.everywhere);
        let reads = Watchlist::new(self.names.iter().cloned(), self.operators.clone());
        let both = self.names.into_iter().chain(self.written);
        let writes = Watchlist::new(both, self.operators);
        let dress = |list: Watchlist| {
            list.and_everything(self.everywhere.clone()).and_schema_changes(self.schema_changes.clone())
        };
        let (deferred, in_tables, own_equality) = (self.deferred, self.in_tables, self.own_equality);
        Reach {
            careless: Watchlist::default(),
            reads: dress(reads),
            writes: dress(writes),
            outside,
            unshown: Watchlist::default(),
            deferred,
            in_tables,
            own_equality,
            blind: false,
            fingerprint,
        }
    }
}

/// Everything that runs one of these functions without naming it, and what to call it by.
async fn dependents(asker: &mut impl Ask, functions: &HashSet<u64>) -> Result<Found, AskError> {
    let (pinned, ids): (Vec<u64>, Vec<u64>) = functions.iter().partition(|id| **id < FIRST_USER_ID);
    let written = |ids: &[u64]| ids.iter().map(u64::to_string).collect::<Vec<_>>();
    let (pinned, ids) = (written(&pinned), written(&ids).join(","));
    // Ids are digits, so nothing is found where none is looked for.
    let pattern = if pinned.is_empty() { "none".to_owned() } else { pinned.join("|") };
    let question =
        DEPENDENTS.replace("{functions}", &ids).replace("{pinned}", &pinned.join(",")).replace("{pattern}", &pattern);
    let answer = asker.ask(&quote::catalog(&question), None).await?;
    let mut found = Found::default();
    for row in 0..answer.rows.len() {
        let at = |column| cell(&answer, row, column).unwrap_or_default().to_owned();
        match at(0).as_str() {
            "f" => {
                let id = at(1).parse::<u64>().ok();
                found.functions.extend(id);
                // The server's own are known by their names already.
                found.names.extend(id.filter(|id| *id >= FIRST_USER_ID).map(|_| at(2)));
            }
            "o" if SPELLED_BY_WORDS.contains(&at(2).as_str()) => {
                found.everywhere = Some(format!("an operator {} of the users' own", at(2)));
            }
            "o" => found.operators.push(at(2)),
            "r" => {
                found.in_tables = true;
                found.names.push(at(2));
            }
            "w" => {
                found.in_tables = true;
                found.written.push(at(2));
            }
            "d" => found.deferred = true,
            "=" => found.own_equality = true,
            "e" => found.schema_changes = Some(format!("the event trigger {}", at(2))),
            _ => found.everywhere = Some(format!("a {} that runs a function of the users' own", at(2))),
        }
    }
    Ok(found)
}

fn cell(answer: &Answer, row: usize, column: usize) -> Option<&str> {
    answer.rows.get(row)?.get(column)?.as_deref()
}

/// `xmin` changes with every change of a row; only temporary relations are left out, for they come and go.
const FINGERPRINT: &str = "\
SELECT pg_catalog.concat_ws('/', \
 (SELECT pg_catalog.concat(pg_catalog.count(*), ':', pg_catalog.sum(pg_catalog.hashtext(pg_catalog.concat(oid, ':', xmin, ctid)))) FROM pg_catalog.pg_proc WHERE oid >= 16384), \
 (SELECT pg_catalog.concat(pg_catalog.count(*), ':', pg_catalog.sum(pg_catalog.hashtext(pg_catalog.concat(oid, ':', xmin, ctid)))) FROM pg_catalog.pg_trigger WHERE NOT tgisinternal), \
 (SELECT pg_catalog.concat(pg_catalog.count(*), ':', pg_catalog.sum(pg_catalog.hashtext(pg_catalog.concat(oid, ':', xmin, ctid)))) FROM pg_catalog.pg_rewrite WHERE oid >= 16384), \
 (SELECT pg_catalog.concat(pg_catalog.count(*), ':', pg_catalog.sum(pg_catalog.hashtext(pg_catalog.concat(oid, ':', xmin, ctid)))) FROM pg_catalog.pg_policy), \
 (SELECT pg_catalog.concat(pg_catalog.count(*), ':', pg_catalog.sum(pg_catalog.hashtext(pg_catalog.concat(oid, ':', xmin, ctid)))) FROM pg_catalog.pg_constraint WHERE oid >= 16384), \
 (SELECT pg_catalog.concat(pg_catalog.count(*), ':', pg_catalog.sum(pg_catalog.hashtext(pg_catalog.concat(oid, ':', xmin, ctid)))) FROM pg_catalog.pg_attrdef), \
 (SELECT pg_catalog.concat(pg_catalog.count(*), ':', pg_catalog.sum(pg_catalog.hashtext(pg_catalog.concat(oid, ':', xmin, ctid)))) FROM pg_catalog.pg_operator WHERE oid >= 16384), \
 (SELECT pg_catalog.concat(pg_catalog.count(*), ':', pg_catalog.sum(pg_catalog.hashtext(pg_catalog.concat(oid, ':', xmin, ctid)))) FROM pg_catalog.pg_cast WHERE oid >= 16384), \
 (SELECT pg_catalog.concat(pg_catalog.count(*), ':', pg_catalog.sum(pg_catalog.hashtext(pg_catalog.concat(oid, ':', xmin, ctid)))) FROM pg_catalog.pg_type WHERE oid >= 16384 AND typtype = 'd'), \
 (SELECT pg_catalog.concat(pg_catalog.count(*), ':', pg_catalog.sum(pg_catalog.hashtext(pg_catalog.concat(oid, ':', xmin, ctid)))) FROM pg_catalog.pg_amproc WHERE oid >= 16384), \
 (SELECT pg_catalog.concat(pg_catalog.count(*), ':', pg_catalog.sum(pg_catalog.hashtext(pg_catalog.concat(oid, ':', xmin, ctid)))) FROM pg_catalog.pg_event_trigger), \
 (SELECT pg_catalog.concat(pg_catalog.count(*), ':', pg_catalog.sum(pg_catalog.hashtext(pg_catalog.concat(oid, ':', xmin, ctid)))) FROM pg_catalog.pg_statistic_ext), \
 (SELECT pg_catalog.concat(pg_catalog.count(*), ':', pg_catalog.sum(pg_catalog.hashtext(pg_catalog.concat(inhrelid, ':', inhparent)))) FROM pg_catalog.pg_inherits), \
 (SELECT pg_catalog.concat(pg_catalog.count(*), ':', pg_catalog.sum(pg_catalog.hashtext(pg_catalog.concat(oid, ':', xmin, ctid)))) FROM pg_catalog.pg_class \
  WHERE oid >= 16384 AND relpersistence <> 't' AND relkind = ANY ('{r,p,v,m,i}'::\"char\"[])))";

/// What a body that the server keeps as a tree does and calls, as words. The server would print it, but locks every table of it first.
const ATOMIC: &str = "\
CASE WHEN p.prosqlbody IS NOT NULL THEN pg_catalog.concat_ws(' ', \
 CASE WHEN p.prosqlbody::pg_catalog.text OPERATOR(pg_catalog.~) ':commandType [24-9]|:action 2' THEN 'update' END, \
 (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(f.proname), ' ') \
  FROM pg_catalog.regexp_matches(p.prosqlbody::pg_catalog.text, 'funcid ([0-9]+)', 'g') AS m(found) \
  JOIN pg_catalog.pg_proc f ON f.oid = (m.found[1])::pg_catalog.oid), '.') END";

/// Ids below it are given at initdb (`FirstNormalObjectId`, `access/transam.h`).
const FIRST_USER_ID: u64 = 16384;

const PINNED: &str =
    "SELECT p.oid::pg_catalog.text, p.proname::pg_catalog.text FROM pg_catalog.pg_proc p WHERE p.oid < 16384";

const FUNCTIONS: &str = "\
SELECT p.oid::pg_catalog.text, p.proname::pg_catalog.text, l.lanname::pg_catalog.text, \
 COALESCE({body}, p.prosrc), p.provolatile::pg_catalog.text, \
 EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid \
  AND d.deptype = 'e')::pg_catalog.text::pg_catalog.bpchar(1)::pg_catalog.text, \
 pg_catalog.array_to_string(p.proconfig, E'\\n'), p.prokind::pg_catalog.text \
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang WHERE p.oid >= 16384";

/// Nodes: f function, o operator, r relation that runs it when read, w when written, e event trigger, x anything wider.
const DEPENDENTS: &str = "\
WITH RECURSIVE node(kind, id) AS ( \
 SELECT s.kind, s.id FROM ( \
   SELECT 'f'::pg_catalog.text, f.id FROM pg_catalog.unnest('{{functions}}'::pg_catalog.oid[]) AS f(id) \
   UNION ALL SELECT 'w', ev_class FROM pg_catalog.pg_rewrite WHERE ev_type <> '1' AND oid >= 16384 \
   UNION ALL SELECT x.kind, x.id FROM ( \
     SELECT CASE WHEN ev_type = '1' THEN 'r' ELSE 'w' END AS kind, ev_class AS id, pg_catalog.concat(ev_action::pg_catalog.text, ev_qual::pg_catalog.text) AS tree \
      FROM pg_catalog.pg_rewrite WHERE oid >= 16384 \
     UNION ALL SELECT CASE WHEN g.attgenerated <> '' THEN 'r' ELSE 'w' END, a.adrelid, a.adbin::pg_catalog.text \
      FROM pg_catalog.pg_attrdef a JOIN pg_catalog.pg_attribute g ON g.attrelid = a.adrelid AND g.attnum = a.adnum \
     UNION ALL SELECT 'r', polrelid, pg_catalog.concat(polqual::pg_catalog.text, polwithcheck::pg_catalog.text) FROM pg_catalog.pg_policy \
     UNION ALL SELECT CASE WHEN conrelid <> 0 THEN 'r' ELSE 'x' END, CASE WHEN conrelid <> 0 THEN conrelid ELSE oid END, conbin::pg_catalog.text \
      FROM pg_catalog.pg_constraint WHERE oid >= 16384 AND conbin IS NOT NULL \
     UNION ALL SELECT 'r', indrelid, pg_catalog.concat(indexprs::pg_catalog.text, indpred::pg_catalog.text) FROM pg_catalog.pg_index WHERE indexrelid >= 16384 \
     UNION ALL SELECT 'w', tgrelid, tgqual::pg_catalog.text FROM pg_catalog.pg_trigger WHERE tgqual IS NOT NULL \
     UNION ALL SELECT 'x', oid, typdefaultbin::pg_catalog.text FROM pg_catalog.pg_type WHERE oid >= 16384 AND typdefaultbin IS NOT NULL \
     UNION ALL SELECT 'f', oid, proargdefaults::pg_catalog.text FROM pg_catalog.pg_proc WHERE oid >= 16384 AND proargdefaults IS NOT NULL \
   ) AS x WHERE x.tree OPERATOR(pg_catalog.~) 'funcid ({pattern}) ' \
   UNION ALL SELECT 'o', oid FROM pg_catalog.pg_operator WHERE oid >= 16384 AND oprcode::pg_catalog.oid = ANY ('{{pinned}}'::pg_catalog.oid[]) \
   UNION ALL SELECT 'x', oid FROM pg_catalog.pg_cast WHERE oid >= 16384 AND castfunc = ANY ('{{pinned}}'::pg_catalog.oid[]) \
   UNION ALL SELECT 'f', aggfnoid::pg_catalog.oid FROM pg_catalog.pg_aggregate WHERE aggfnoid::pg_catalog.oid >= 16384 \
    AND ARRAY[aggtransfn, aggfinalfn, aggcombinefn, aggmtransfn, aggminvtransfn, aggmfinalfn]::pg_catalog.oid[] \
     OPERATOR(pg_catalog.&&) '{{pinned}}'::pg_catalog.oid[] \
 ) AS s(kind, id) \
 UNION \
 SELECT n.kind, n.id FROM node CROSS JOIN LATERAL ( \
   SELECT CASE \
     WHEN d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass THEN 'f' \
     WHEN d.classid = 'pg_catalog.pg_operator'::pg_catalog.regclass THEN 'o' \
     WHEN d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass THEN CASE WHEN w.ev_type = '1' THEN 'r' ELSE 'w' END \
     WHEN d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass THEN 'r' \
     WHEN d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass THEN 'w' \
     WHEN d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass THEN CASE WHEN g.attgenerated <> '' THEN 'r' ELSE 'w' END \
     WHEN d.classid = ANY ('{pg_catalog.pg_class,pg_catalog.pg_statistic_ext}'::pg_catalog.regclass[]) THEN 'r' \
     WHEN d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass THEN CASE WHEN c.conrelid <> 0 THEN 'r' ELSE 'x' END \
     WHEN d.classid = 'pg_catalog.pg_event_trigger'::pg_catalog.regclass THEN 'e' \
     ELSE 'x' END AS kind, \
     COALESCE(w.ev_class, p.polrelid, t.tgrelid, a.adrelid, NULLIF(c.conrelid, 0), i.indrelid, e.stxrelid, d.objid) AS id \
   FROM pg_catalog.pg_depend d \
     LEFT JOIN pg_catalog.pg_rewrite w ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND w.oid = d.objid \
     LEFT JOIN pg_catalog.pg_policy p ON d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND p.oid = d.objid \
     LEFT JOIN pg_catalog.pg_trigger t ON d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass AND t.oid = d.objid \
     LEFT JOIN pg_catalog.pg_attrdef a ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND a.oid = d.objid \
     LEFT JOIN pg_catalog.pg_attribute g ON g.attrelid = a.adrelid AND g.attnum = a.adnum \
     LEFT JOIN pg_catalog.pg_constraint c ON d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND c.oid = d.objid \
     LEFT JOIN pg_catalog.pg_index i ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND i.indexrelid = d.objid \
     LEFT JOIN pg_catalog.pg_statistic_ext e ON d.classid = 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass AND e.oid = d.objid \
     LEFT JOIN pg_catalog.pg_event_trigger v ON d.classid = 'pg_catalog.pg_event_trigger'::pg_catalog.regclass AND v.oid = d.objid \
   WHERE node.kind = ANY ('{f,o}'::pg_catalog.text[]) AND d.refobjid = node.id \
     AND d.refclassid = CASE WHEN node.kind = 'f' THEN 'pg_catalog.pg_proc'::pg_catalog.regclass \
       ELSE 'pg_catalog.pg_operator'::pg_catalog.regclass END \
     AND COALESCE(t.tgenabled, 'O') <> 'D' AND COALESCE(v.evtenabled, 'O') <> 'D' AND d.deptype <> 'e' \
     AND d.classid <> ALL ('{pg_catalog.pg_language,pg_catalog.pg_foreign_data_wrapper,pg_catalog.pg_am,pg_catalog.pg_ts_parser,pg_catalog.pg_ts_template,pg_catalog.pg_extension,pg_catalog.pg_publication_rel}'::pg_catalog.regclass[]) \
   UNION ALL \
   SELECT CASE WHEN d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass THEN 'f' ELSE node.kind END, \
     COALESCE(w.ev_class, p.polrelid, d.objid) \
   FROM pg_catalog.pg_depend d \
     LEFT JOIN pg_catalog.pg_rewrite w ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND w.oid = d.objid \
     LEFT JOIN pg_catalog.pg_policy p ON d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND p.oid = d.objid \
   WHERE node.kind = ANY ('{r,w}'::pg_catalog.text[]) AND d.refobjid = node.id \
     AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
     AND (d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass OR w.ev_type = '1' \
       OR (d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND node.kind = 'r')) \
   UNION ALL \
   SELECT 'o', o.oid FROM pg_catalog.pg_operator o WHERE node.kind = 'o' AND o.oid >= 16384 \
     AND (o.oprnegate = node.id OR o.oprcom = node.id) \
   UNION ALL \
   SELECT node.kind, h.inhparent FROM pg_catalog.pg_inherits h \
   WHERE node.kind = ANY ('{r,w}'::pg_catalog.text[]) AND h.inhrelid = node.id \
   UNION ALL \
   SELECT 'w', k.confrelid FROM pg_catalog.pg_constraint k WHERE node.kind = ANY ('{r,w}'::pg_catalog.text[]) AND k.conrelid = node.id AND k.contype = 'f' \
     AND (k.confdeltype = ANY ('{c,n,d}'::\"char\"[]) OR k.confupdtype = ANY ('{c,n,d}'::\"char\"[])) \
 ) AS n(kind, id) \
) \
SELECT kind, id::pg_catalog.text, COALESCE( \
  CASE WHEN kind = 'f' THEN (SELECT proname FROM pg_catalog.pg_proc WHERE oid = id) END, \
  CASE WHEN kind = 'o' THEN (SELECT oprname FROM pg_catalog.pg_operator WHERE oid = id) END, \
  CASE WHEN kind = ANY ('{r,w}'::pg_catalog.text[]) THEN (SELECT relname FROM pg_catalog.pg_class WHERE oid = id) END, \
  CASE WHEN kind = 'e' THEN (SELECT evtname FROM pg_catalog.pg_event_trigger WHERE oid = id) END, \
  'cast, type or operator class'::pg_catalog.name)::pg_catalog.text FROM node \
UNION ALL (SELECT 'd', '0', '' FROM pg_catalog.pg_trigger t WHERE t.tgdeferrable AND NOT t.tgisinternal AND t.tgenabled <> 'D' \
  AND EXISTS (SELECT 1 FROM node WHERE kind = 'f' AND id = t.tgfoid) LIMIT 1) \
UNION ALL (SELECT '=', '0', '' FROM pg_catalog.pg_operator o WHERE o.oprname = '=' AND o.oid >= 16384 AND NOT EXISTS ( \
  SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND d.objid = o.oid \
  AND d.deptype = 'e') LIMIT 1)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_only_reads_or_adds_is_calm() {
        for body in [
            "SELECT pg_catalog.current_setting('app.tenant')::int",
            "BEGIN NEW.updated_at = now(); RETURN NEW; END",
            "BEGIN IF TG_OP = 'DELETE' THEN INSERT INTO audit SELECT OLD.* ON CONFLICT DO NOTHING; END IF; RETURN NULL; END",
            "DECLARE n int; BEGIN SELECT count(*) INTO n FROM t; RETURN n; -- delete\n END",
        ] {
            assert!(!changes_something(body), "{body}");
        }
    }

    #[test]
    fn a_body_that_changes_or_cannot_be_read_is_not() {
        for body in [
            "BEGIN DELETE FROM t; END",
            "BEGIN EXECUTE 'DEL' || 'ETE FROM t'; END",
            "INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET n = 2",
            "SELECT lo_unlink(1)",
            "SELECT \"lo_unlink\"(1)",
            "BEGIN DO 'x'; END",
            "SELECT 'open",
        ] {
            assert!(changes_something(body), "{body}");
        }
    }

    #[test]
    fn what_runs_a_text_is_never_harmless_at_a_glance() {
        for name in ALWAYS {
            assert!(glance::dangerous_function(name), "{name}");
        }
    }

    #[test]
    fn what_no_rollback_takes_back_is_told_apart() {
        for body in [
            "SELECT setval('s', 1)",
            "COPY t TO PROGRAM 'x'",
            "SELECT dblink_exec('x', 'y')",
            "SELECT lo_export(1, 'f')",
        ] {
            assert!(acts_outside(body), "{body}");
        }
        for body in ["DELETE FROM t", "SELECT lo_unlink(1)", "SELECT set_config('a.b', 'c', true)", "SELECT 'copy'"] {
            assert!(!acts_outside(body), "{body}");
        }
    }

    #[test]
    fn settings_of_a_function_that_disarm_are_not_calm() {
        assert!(calm("search_path=public\nwork_mem=1MB"));
        assert!(!calm("search_path=public\nsession_replication_role=replica"));
        assert!(!calm("track_counts=off"));
    }
}
