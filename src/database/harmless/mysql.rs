//! Whether a part of the client's statement may be run as a question to MySQL or MariaDB: it can call functions, and set variables.
//!
//! Invariant: only functions of the server's own pass that compute from their arguments and the clock. A function of the users' (stored, or
//! loaded from a library) can do anything, so a name that is not in the list is refused, and so are a name with a database before it, a
//! quoted one, and one apart from its parenthesis where that makes it a stored function. No question is needed for it: the server looks a
//! bare name up among its own functions first. Source: MySQL manual, "Function Name Parsing and Resolution"; MariaDB has the same rules.
//! A view that the text names runs what its definition calls, and definitions name each other: all of them are looked through.
//! Left out on purpose: what waits or locks (SLEEP, GET_LOCK), reads files, tells of the statement before (ROW_COUNT, LAST_INSERT_ID), moves
//! sequences, or gives another answer each time (RAND, UUID): its rows would not be those of the statement.

use crate::database::Ask;
use crate::database::catalog::mysql::cell;
use crate::database::catalog::{odd, reason};
use crate::database::interview::Interview;
use crate::database::quote::mysql::{hex, literal, unhex};
use crate::sql::lexer::{Kind, Lexer, Token};
use crate::sql::statement::{LexicalMode, MySqlMode};
use std::collections::HashSet;

/// Why these parts may not be run, if so.
pub(in crate::database) fn objection(parts: &[&str], mode: LexicalMode) -> Option<String> {
    parts.iter().find_map(|part| of_part(part, mode))
}

/// Why a view that the text names is not to be read, if so. A definition that is not shown may call anything.
pub(in crate::database) async fn of_views<A: Ask>(
    interview: &mut Interview<'_, A>,
    text: &str,
    mode: LexicalMode,
) -> Result<Option<String>, String> {
    let mut named = names(text, mode);
    let mut asked = HashSet::new();
    for _ in 0..ROUNDS_MAX {
        named.retain(|name| asked.insert(name.clone()));
        if named.is_empty() {
            return Ok(None);
        }
        if asked.len() > NAMES_MAX {
            return Ok(Some("it names too much for every view to be looked through".to_owned()));
        }
        let list: Vec<String> = named.iter().map(|name| literal(name)).collect();
        // Any database's: which of them the text means is not guessed at.
        let question = format!(
            "SELECT {} AS name, {} AS body FROM information_schema.VIEWS v WHERE v.TABLE_NAME IN ({}) \
             AND v.TABLE_SCHEMA NOT IN ('sys', 'mysql', 'information_schema', 'performance_schema')",
            hex("v.TABLE_NAME"),
            hex("v.VIEW_DEFINITION"),
            list.join(", ")
        );
        let answer = interview.ask(&question, None).await.map_err(|error| reason(&error))?;
        named = HashSet::new();
        for row in 0..answer.rows.len() {
            let text = |column| cell(&answer, row, column).and_then(unhex);
            let name = text(0).ok_or_else(odd)?;
            let Some(body) = text(1).filter(|body| !body.is_empty()) else {
                return Ok(Some(format!("what the view {name} runs is not shown to this user")));
            };
            // The server writes definitions by rules of its own, whatever the session's.
            let plain = LexicalMode::MySql(MySqlMode::of(mode.product(), 0));
            if let Some(why) = of_part(&body, plain) {
                return Ok(Some(why.replace("the condition", &format!("the view {name}"))));
            }
            named.extend(names(&body, plain));
        }
    }
    Ok(Some("views are made of views too deeply to look through them".to_owned()))
}

/// Views over views, a step each.
const ROUNDS_MAX: usize = 16;

/// Words that are looked up as names of views, in all.
const NAMES_MAX: usize = 2_000;

fn names(text: &str, mode: LexicalMode) -> HashSet<String> {
    let is_name = |token: &Token| matches!(token.kind, Kind::Word | Kind::QuotedName);
    let name = |token: Token| {
        let written = token.text(text);
        let quote = written.chars().next().filter(|c| matches!(c, '`' | '"'));
        let inner = quote.and_then(|quote| written.strip_prefix(quote)?.strip_suffix(quote));
        match (quote, inner) {
            (Some(quote), Some(inner)) => inner.replace(&format!("{quote}{quote}"), &quote.to_string()),
            _ => written.to_owned(),
        }
    };
    Lexer::new(text, mode).filter(is_name).map(name).collect()
}

fn of_part(text: &str, mode: LexicalMode) -> Option<String> {
    let tokens: Vec<Token> = Lexer::new(text, mode).filter(|token| !token.is_comment()).collect();
    tokens.iter().enumerate().find_map(|(at, token)| {
        let (before, behind) = (at.checked_sub(1).and_then(|at| tokens.get(at)), tokens.get(at + 1));
        match token.kind {
            Kind::Broken(_) | Kind::Junk | Kind::Stray => Some("the condition could not be read".to_owned()),
            Kind::Word | Kind::QuotedName => of_name(text, mode, before, token, behind),
            _ if token.text(text).contains(":=") || assigns(text, token, behind) => {
                Some("the condition sets a variable".to_owned())
            }
            _ => None,
        }
    })
}

fn assigns(text: &str, token: &Token, behind: Option<&Token>) -> bool {
    token.text(text) == ":" && behind.is_some_and(|next| next.text(text).starts_with('=') && next.start == token.end)
}

fn of_name(
    text: &str,
    mode: LexicalMode,
    before: Option<&Token>,
    token: &Token,
    behind: Option<&Token>,
) -> Option<String> {
    let name = token.text(text).to_ascii_lowercase();
    // NEXT VALUE FOR moves a sequence without a parenthesis.
    if name == "next" && behind.is_some_and(|next| next.is_word(text, "value")) {
        return Some("the condition moves a sequence".to_owned());
    }
    let parenthesis = behind.filter(|next| next.is(b'('))?;
    let qualified = before.is_some_and(|token| token.is(b'.'));
    let word = token.kind == Kind::Word && !qualified;
    if word && GRAMMAR.contains(&name.as_str()) {
        return None;
    }
    let ignores_space = matches!(mode, LexicalMode::MySql(MySqlMode { ignore_space: true, .. }));
    let adjacent = parenthesis.start == token.end || ignores_space || !NEEDS_ADJACENT.contains(&name.as_str());
    let known = word && adjacent && FUNCTIONS.binary_search(&name.as_str()).is_ok();
    (!known).then(|| format!("the condition calls {}(), which may do more than read", token.text(text)))
}

/// A bare name before a parenthesis that the server looks up among its own, or that is no call at all.
pub(in crate::database) fn is_of_the_server(name: &str) -> bool {
    FUNCTIONS.binary_search(&name).is_ok() || GRAMMAR.contains(&name) || BESIDES.contains(&name)
}

/// Functions of the server's that are left out above, and words of bodies, columns and types that a parenthesis can follow.
#[rustfmt::skip]
const BESIDES: &[&str] = &[
    "rand", "uuid", "uuid_short", "sys_guid", "sleep", "last_insert_id", "row_count", "found_rows", "get_lock", "release_lock", "is_free_lock",
    "is_used_lock", "benchmark", "nextval", "lastval", "setval", "json_insert", "json_merge", "json_merge_patch", "json_merge_preserve",
    "json_remove", "json_replace", "json_set", "json_array_append", "json_array_insert", "json_pretty", "json_table", "json_storage_size",
    "name_const", "compress", "uncompress", "aes_encrypt", "aes_decrypt", "random_bytes", "password", "encrypt", "format_bytes", "sysdate",
    "to_char", "int", "integer", "tinyint", "smallint", "mediumint", "bigint", "numeric", "dec", "bit", "real", "varbinary", "text", "blob",
    "enum", "set", "timestamp", "year", "character", "into", "if", "elseif", "while", "until", "return", "returns", "call", "do", "begin", "end",
    "loop", "repeat", "for", "check", "primary", "unique", "references", "foreign", "duplicate", "update", "delete", "limit", "offset",
    "declare", "cursor", "handler", "set", "insert", "replace", "ignore", "exit", "continue", "only", "rollup", "window", "rows", "range",
    "preceding", "following", "as", "default", "precision", "varying", "national", "long", "text", "json", "geometry", "point", "collate",
];

/// Words that a parenthesis can follow without a call.
const GRAMMAR: &[&str] = &[
    "all",
    "and",
    "any",
    "as",
    "between",
    "binary",
    "by",
    "case",
    "div",
    "distinct",
    "else",
    "except",
    "exists",
    "from",
    "having",
    "in",
    "inner",
    "intersect",
    "interval",
    "is",
    "join",
    "key",
    "index",
    "lateral",
    "like",
    "mod",
    "not",
    "on",
    "or",
    "over",
    "partition",
    "regexp",
    "rlike",
    "row",
    "select",
    "some",
    "straight_join",
    "then",
    "union",
    "using",
    "values",
    "when",
    "where",
    "with",
    "xor",
    "char",
    "varchar",
    "decimal",
    "signed",
    "unsigned",
    "datetime",
    "time",
    "nchar",
    "float",
    "double",
    "against",
    "to",
    "table",
    "cross",
    "left",
    "right",
    "natural",
];

/// Apart from its parenthesis the name is a stored function's (MySQL manual, "Function Name Parsing and Resolution").
const NEEDS_ADJACENT: &[&str] = &[
    "adddate",
    "bit_and",
    "bit_or",
    "bit_xor",
    "cast",
    "count",
    "curdate",
    "curtime",
    "date_add",
    "date_sub",
    "extract",
    "group_concat",
    "max",
    "mid",
    "min",
    "now",
    "position",
    "session_user",
    "std",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "subdate",
    "substr",
    "substring",
    "sum",
    "sysdate",
    "system_user",
    "trim",
    "variance",
    "var_pop",
    "var_samp",
];

/// What the servers compute; sorted.
#[rustfmt::skip]
const FUNCTIONS: &[&str] = &[
    "abs", "acos", "adddate", "addtime", "any_value", "ascii", "asin", "atan", "atan2", "avg", "bin", "bin_to_uuid", "bit_and",
    "bit_count", "bit_length", "bit_or", "bit_xor", "cast", "ceil", "ceiling", "char", "char_length", "character_length",
    "charset", "chr", "coalesce", "coercibility", "collation", "concat", "concat_ws", "connection_id", "conv", "convert",
    "convert_tz", "cos", "cot", "count", "crc32", "cume_dist", "curdate", "current_date", "current_role", "current_time",
    "current_timestamp", "current_user", "curtime", "database", "date", "date_add", "date_format", "date_sub", "datediff",
    "day", "dayname", "dayofmonth", "dayofweek", "dayofyear", "default", "degrees", "dense_rank", "elt", "exp", "export_set",
    "extract", "field", "find_in_set", "first_value", "floor", "format", "from_base64", "from_days", "from_unixtime",
    "get_format", "greatest", "group_concat", "grouping", "hex", "hour", "if", "ifnull", "inet6_aton", "inet6_ntoa", "inet_aton",
    "inet_ntoa", "insert", "instr", "is_ipv4", "is_ipv6", "is_uuid", "isnull", "json_array", "json_arrayagg", "json_contains",
    "json_contains_path", "json_depth", "json_exists", "json_extract", "json_keys", "json_length", "json_object",
    "json_objectagg", "json_overlaps", "json_quote", "json_search", "json_type", "json_unquote", "json_valid", "json_value",
    "lag", "last_day", "last_value", "lcase", "lead", "least", "left", "length", "ln", "localtime", "localtimestamp", "locate",
    "log", "log10", "log2", "lower", "lpad", "ltrim", "make_set", "makedate", "maketime", "match", "max", "md5", "microsecond", "mid",
    "min", "minute", "mod", "month", "monthname", "now", "nth_value", "ntile", "nullif", "nvl", "nvl2", "oct", "octet_length",
    "ord", "percent_rank", "period_add", "period_diff", "pi", "position", "pow", "power", "quarter", "quote", "radians", "rank",
    "regexp_instr", "regexp_like", "regexp_replace", "regexp_substr", "repeat", "replace", "reverse", "right", "round",
    "row_number", "rpad", "rtrim", "schema", "sec_to_time", "second", "session_user", "sha", "sha1", "sha2", "sign", "sin",
    "soundex", "space", "sqrt", "std", "stddev", "stddev_pop", "stddev_samp", "str_to_date", "strcmp", "subdate", "substr",
    "substring", "substring_index", "subtime", "sum", "system_user", "tan", "time", "time_format", "time_to_sec", "timediff",
    "timestamp", "timestampadd", "timestampdiff", "to_base64", "to_days", "to_seconds", "trim", "truncate", "ucase", "unhex",
    "unix_timestamp", "upper", "user", "utc_date", "utc_time", "utc_timestamp", "uuid_to_bin", "value", "var_pop", "var_samp",
    "variance", "version", "week", "weekday", "weekofyear", "weight_string", "year", "yearweek",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Product;

    fn mode() -> LexicalMode {
        LexicalMode::MySql(MySqlMode::of(Product::MySql, 90704))
    }

    #[test]
    fn the_list_is_sorted() {
        assert!(FUNCTIONS.is_sorted());
    }

    #[test]
    fn only_what_computes_may_be_run() {
        for (text, fine) in [
            ("a = 1 AND (b = 2) OR c IN (1, 2)", true),
            ("created < NOW() - INTERVAL (3) DAY", true),
            ("lower(a) = 'x' AND id IN (SELECT max(id) FROM u)", true),
            ("CAST(a AS CHAR(10)) = 'sleep('", true),
            ("sleep(1)", false),
            ("f(a) = 1", false),
            ("shop.f(a) = 1", false),
            ("shop.lower(a) = 1", false),
            ("count (a) = 1", false),
            ("lower (a) = 'x'", true),
            ("rand() < 0.5", false),
            ("a = last_insert_id()", false),
            ("a = (@x := 1)", false),
            ("a = NEXT VALUE FOR s", false),
            ("a = nextval(s)", false),
            ("a = 'open", false),
        ] {
            assert_eq!(objection(&[text], mode()).is_none(), fine, "{text}");
        }
    }
}
