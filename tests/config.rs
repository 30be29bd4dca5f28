//! The configuration as people meet it: the files we ship, every error at once, and what each key may hold.
//!
//! Invariant: `config/sluice.toml` is the truth about keys and defaults, and this keeps it so.

use sluice::audit::rotation::{Every, Rotation};
use sluice::audit::{Literals, Manner, Parameters, Reads, WhileFailing};
use sluice::config::{
    self, Account, Address, Auth, AuthQuery, Config, LogFormat, Logins, PasswordSource, Roots, ServerTlsMode, Store,
    UpstreamTls, keys_left_out,
};
use sluice::policy::finding::Level;
use sluice::policy::rules;
use sluice::policy::scope::{Principal, effective};
use sluice::policy::settings::{Mode, Sizes};
use sluice::sql::facts::Name;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::Path;
use std::time::Duration;

const SHIPPED: &str = include_str!("../config/sluice.toml");
const EXAMPLE: &str = include_str!("../config/policy.toml");
const SMALLEST: &str = r#"
[[listener]]
name = "prod"
protocol = "postgres"
listen = "127.0.0.1:6432"
upstream = "127.0.0.1:5432"
"#;

#[test]
fn the_shipped_file_holds_every_key_at_its_default() {
    let smallest = parsed(SMALLEST);
    assert_eq!(parsed(SHIPPED), smallest, "as it is shipped");
    assert_eq!(parsed(&uncommented(SHIPPED, "#")), smallest, "every default written out");
    let without_default = [
        "freeze",
        "scope",
        "jobs.time",
        "listener.tls",
        "listener.users_file",
        "listener.auth_query",
        "listener.account",
        "listener.certificate",
    ];
    assert_eq!(keys_left_out(&uncommented(SHIPPED, "#")), sorted(&without_default), "defaults");
    let everything = uncommented(&uncommented(SHIPPED, "##"), "#");
    parsed(&everything);
    assert_eq!(keys_left_out(&everything), Vec::<String>::new(), "examples");
}

#[test]
fn a_wrong_default_in_the_shipped_file_would_be_seen() {
    let wrong = SHIPPED.replace("#free_rows = 100", "#free_rows = 101");
    assert_ne!(parsed(&uncommented(&wrong, "#")), parsed(SMALLEST));
    let lacking = SHIPPED.replace("#free_rows = 100", "");
    assert!(keys_left_out(&uncommented(&lacking, "#")).contains(&"limits.free_rows".to_owned()));
}

#[test]
fn defaults_are_those_of_the_specification() {
    let config = parsed(SMALLEST);
    assert_eq!(config.policy.sizes, Sizes::default());
    assert_eq!(config.policy.mode, Mode::Enforce);
    assert_eq!(config.store, Store::Sqlite("sluice.db".into()));
    assert_eq!(config.audit.path, Path::new("sluice-audit.jsonl"));
    assert_eq!((config.audit.manner, config.audit.rotation), (Manner::default(), Rotation::default()));
    assert_eq!(config.admin.map(|admin| admin.listen.to_string()).as_deref(), Some("127.0.0.1:6480"));
    assert_eq!(config.listeners[0].upstream_tls, UpstreamTls::Prefer);
    assert_eq!(config.listeners[0].upstream_ca, Roots::System);
}

#[test]
fn the_example_policy_does_what_its_comments_say() {
    let config = config::parse(EXAMPLE, "policy.toml").unwrap_or_else(|errors| panic!("{}", errors.render()));
    let busy = "2026-03-02T12:00:00Z";
    let night = "2026-03-02T23:30:00Z";
    let told =
        |user: &str, address: &str, table: &str, now: &str, rule: &str| level(&config, user, address, table, now, rule);
    assert_eq!(told("shop_app", "10.2.0.1", "public.carts", night, "missing-where").0, Level::Deny);
    assert_eq!(told("anna", "10.2.0.1", "public.carts", night, "missing-where").0, Level::Confirm);
    assert_eq!(told("etl_1", "10.1.0.1", "staging.carts", night, "truncate").0, Level::Allow);
    assert_eq!(told("etl_1", "10.9.0.1", "staging.carts", night, "truncate").0, Level::Confirm);
    assert_eq!(told("shop_app", "10.1.0.1", "staging.carts", busy, "truncate").0, Level::Deny);
    assert_eq!(told("anna", "local", "public.carts", busy, "truncate").0, Level::Approve);
    assert_eq!(told("etl_1", "10.1.0.1", "public.carts", night, "unbatched-change").0, Level::Warn);
    assert_eq!(told("etl_1", "10.1.0.1", "payroll.carts", night, "unbatched-change").0, Level::Deny);
    assert_eq!(told("agent_7", "local", "public.carts", busy, "cascade").0, Level::Approve);
    let (_, origin) = told("etl_1", "10.1.0.1", "payroll.carts", night, "unbatched-change");
    let line = EXAMPLE.lines().position(|line| line.contains("\"mass-overwrite\" = \"deny\"")).expect("the line") + 1;
    assert_eq!(origin, format!("policy.toml:{line} [[scope]] \"payroll\""));
    let (_, origin) = told("anna", "local", "public.carts", night, "cascade");
    assert_eq!(origin, "preset standard");
}

#[test]
fn every_error_is_shown_at_once_with_its_line() {
    let text = r#"
[[listener]]
name = "prod"
protocol = "sqlite"
lisen = "127.0.0.1:6432"
upstream = "127.0.0.1:5432"

[policy]
preset = "strct"

[limits]
free_rows = "many"

[[scope]]
rules = { "mising-where" = "deny", "cascade" = "confirmed" }
"#;
    let errors = config::parse(text, "wrong.toml").expect_err("it is wrong in seven places");
    let messages: Vec<&str> = errors.problems().iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(messages.len(), 7, "{messages:#?}");
    insta::assert_snapshot!(errors.render());
}

#[test]
fn what_is_wrong_is_said() {
    let listener = |line: &str| format!("{SMALLEST}{line}\n");
    let scram = |line: &str| listener(&format!("auth = \"scram\"\nusers_file = \"u\"\n{line}"));
    let password = |line: &str| listener(&format!("auth = \"password\"\n{line}")).replace("\"postgres\"", "\"mysql\"");
    let tls = "tls = { cert = \"a\", key = \"b\", client_ca = \"c\" }";
    let cert = |line: &str| listener(&format!("auth = \"cert\"\n{tls}\n{line}"));
    let account = "[[listener.account]]\nuser = \"a\"\npassword_env = \"A\"\n";
    let pairs = [
        (String::new(), "no listener"),
        ("[[listener]]\nname = \"a\"".to_owned(), "`protocol` is missing"),
        (listener("colour = 1"), "unknown key `colour`"),
        (listener("auth = \"ldap\""), "`ldap` is not known here"),
        (listener("auth = \"scram\""), "needs a `users_file` or an `auth_query`"),
        (scram("").replace("\"postgres\"", "\"mysql\""), "auth = \"scram\" is PostgreSQL's"),
        (listener("users_file = \"u\""), "`users_file` is used by auth = \"scram\" and \"password\" alone"),
        (listener("auth = \"password\"\nusers_file = \"u\""), "auth = \"password\" is MySQL's"),
        (password("users_file = \"u\""), "needs [[listener.account]]"),
        (password(account), "needs a `users_file`"),
        (
            password(&format!("users_file = \"u\"\nauth_query = {{ user = \"u\" }}\n{account}")),
            "`auth_query` is used by",
        ),
        (
            password(&format!("users_file = \"u\"\n[[listener.certificate]]\nname = \"a\"\nusers = \"a\"\n{account}")),
            "is used by auth = \"cert\" alone",
        ),
        (listener("auth_query = { user = \"u\" }"), "`auth_query` is used by auth = \"scram\" alone"),
        (listener("auth = \"scram\"\nauth_query = { user = \"u\", query = \"SELECT 1\" }"), "has no $1"),
        (listener("auth = \"scram\"\nauth_query = { user = \"u\", password = \"x\" }"), "unknown key `password`"),
        (scram("[[listener.certificate]]\nname = \"a\"\nusers = \"a\""), "is used by auth = \"cert\" alone"),
        (scram("[[listener.account]]\nuser = \"a\""), "`password_file` or `password_env` is missing"),
        (scram("[[listener.account]]\nuser = \"a\"\npassword = \"x\""), "unknown key `password`"),
        (scram("[[listener.account]]\nuser = \"a\"\npassword_env = \"hunter2!\""), "not its value"),
        (
            scram("[[listener.account]]\nuser = \"a\"\npassword_env = \"A\"\npassword_file = \"a\""),
            "one of them, not both",
        ),
        (scram(&format!("{account}{account}")), "another account is for `a` already"),
        (scram(&format!("[[listener.account]]\nuser = \"{}\"\npassword_env = \"A\"", "a".repeat(64))), "1 to 63 bytes"),
        (
            listener("tls = { cert = \"a\", key = \"b\", client_ca = \"c\" }"),
            "`client_ca` is used by auth = \"cert\" alone",
        ),
        (listener(&format!("auth = \"cert\"\n{account}")), "needs tls with `client_ca`"),
        (cert(""), "needs [[listener.account]]"),
        (cert("[[listener.certificate]]\nname = \"*\"\nusers = \"*\""), "that checks nothing"),
        (cert("[[listener.certificate]]\nname = \"a\""), "`users` is missing"),
        (listener(account), "is used where Sluice checks logins"),
        (listener("[logins]\nwrong_per_user = 0"), "expected a number from 1"),
        (listener("tls = { cert = \"a.crt\" }"), "`key` is missing"),
        (listener("tls = { cert = \"a\", key = \"-----BEGIN PRIVATE KEY-----\" }"), "not its content"),
        (listener("tls = { cert = \"a\", key = \"b\", mode = \"verify-full\" }"), "`verify-full` is not known here"),
        (
            SMALLEST.replace("127.0.0.1:6432\"", "unix:/s\"\ntls = { cert = \"a\", key = \"b\", mode = \"require\" }"),
            "no TLS to require",
        ),
        (listener("upstream_tls = \"always\""), "`always`"),
        (listener("upstream_tls = \"verify-ca\""), "anybody's certificate"),
        (SMALLEST.replace("127.0.0.1:6432", "localhost:6432"), "not an IP address"),
        (SMALLEST.replace("\"127.0.0.1:5432\"", "\"unix:/s\"\nupstream_tls = \"require\""), "no TLS"),
        (format!("{SMALLEST}{SMALLEST}"), "another listener is called `prod` already"),
        (format!("{SMALLEST}{SMALLEST}"), "another listener listens on 127.0.0.1:6432 already"),
        (SMALLEST.replace("[[listener]]", "[listener]"), "with two brackets"),
        (listener("[limits]\npreview_timeout = \"2 fortnights\""), "not a duration"),
        (listener("[limits]\npreview_timeout = \"2h\""), "expected a duration from"),
        (listener("[limits]\ntolerance = 101"), "per cent"),
        (listener("[limits]\nbatch_rows = 0"), "expected a number from 1"),
        (listener("[limits]\nmax_affected_limit = 5"), "max_affected_limit is below max_affected"),
        (listener("[[scope]]\nrules = { \"other-doors\" = \"allow\" }"), "always deny"),
        (listener("[[scope]]\nmatch = { user = [] }"), "matches nobody"),
        (listener("[[scope]]\nmatch = { table = \"orders\" }"), "schema and table"),
        (listener("[[scope]]\nmatch = { time = \"always\" }"), "not a window"),
        (listener("[[scope]]\nmatch = { address = \"10.0.0.1/8\" }"), "beyond its prefix"),
        (listener("[jobs]\nbatch_time = \"1h\""), "from 10ms to below 10s"),
        (listener("[jobs]\nreplica_lag = \"soon\""), "duration"),
        (listener("[jobs]\ntime = \"at night\""), "not a window"),
        (listener("[jobs]\nrows_per_second = 0"), "from 1"),
        (listener("[[freeze]]"), "`name` is missing"),
        (listener("[[freeze]]\nname = \"a\"\nfrom = \"soon\""), "not a time"),
        (listener("[[freeze]]\nname = \"a\"\nfrom = \"2027-01-02\"\nuntil = \"2027-01-01\""), "over before it begins"),
        (listener("[[freeze]]\nname = \"a\"\nexcept = {}"), "except everybody"),
        (listener("[[freeze]]\nname = \"a\"\nmatch = { table = \"a.b\" }"), "unknown key `table`"),
        (listener("[store]\nurl = \"postgres://x\""), "comes with a later version"),
        (listener("[audit]\non_failure = \"go-on\""), "`go-on` is not known here"),
        (listener("[audit]\nliterals = true"), "expected a string"),
        (listener("[audit]\nparameters = \"kept\""), "expected true or false"),
        (listener("[audit]\nrotate = \"hourly\""), "`hourly` is not known here"),
        (listener("[audit]\nrotate_bytes = 100"), "expected a number from 4096"),
        (listener("[audit]\nrotate_bytes = \"on\""), "expected a whole number"),
        (listener("[audit]\nkeep = 0"), "expected a number from 1"),
        (listener("[admin]\nlisten = \"6480\""), "not an address"),
        (listener("[log]\nlevel = \"loud\""), "`loud` is not known here"),
        (listener("[metrics]\nenabled = \"yes\""), "expected true or false"),
        (listener("[sessions]\nmax_sessions = 0"), "expected a number from 1"),
        (listener("[sessions]\nmemory_bytes = 1000"), "expected a number from 1048576"),
        (listener("[sessions]\nmax_logins = 0"), "expected a number from 1"),
        (listener("listen = \"127.0.0.1:1\""), "duplicate key"),
        (listener("[nothing]"), "unknown key `nothing`"),
        ("[[listener".to_owned(), ""),
    ];
    for (text, expected) in pairs {
        let errors = config::parse(&text, "wrong.toml").expect_err(&text);
        let said = errors.problems().iter().any(|problem| problem.message.contains(expected));
        assert!(said, "{text}\nexpected: {expected}\nfound: {:#?}", errors.problems());
    }
}

#[test]
fn what_is_written_is_what_holds() {
    let text = format!(
        "{SMALLEST}upstream_ca = \"ca.pem\"\nupstream_tls = \"verify-ca\"\n\
         [policy]\npreset = \"observe\"\n[limits]\ntolerance = 2.5\ntoken_ttl = \"1h\"\n[admin]\nlisten = \"off\"\n\
         [audit]\non_failure = \"refuse-everything\"\nliterals = \"kept\"\nparameters = true\n\
         rotate = \"daily\"\nrotate_bytes = 1000000\nkeep = 30\n\
         [log]\nformat = \"json\"\n[sessions]\nidle_timeout = \"30min\"\nmemory_bytes = 8388608\n"
    );
    let config = parsed(&text);
    assert_eq!(config.listeners[0].upstream_ca, Roots::File("ca.pem".into()));
    assert_eq!(config.listeners[0].listen, Address::Tcp { host: "127.0.0.1".to_owned(), port: 6432 });
    assert_eq!(config.policy.mode, Mode::Observe, "the mode of the preset");
    assert_eq!((config.policy.sizes.tolerance, config.policy.sizes.token_ttl), (2.5, Duration::from_secs(3_600)));
    let manner = Manner {
        reads: Reads::Count,
        while_failing: WhileFailing::RefuseEverything,
        literals: Literals::Kept,
        parameters: Parameters::Recorded,
    };
    let rotation = Rotation { every: Every::Day, bytes: NonZeroU64::new(1_000_000), keep: NonZeroUsize::new(30) };
    assert_eq!((config.audit.manner, config.audit.rotation), (manner, rotation));
    assert_eq!(config.admin, None);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.sessions.idle_timeout, Some(Duration::from_secs(1_800)));
    assert_eq!(config.sessions.memory_bytes, 8 << 20);
}

#[test]
fn what_jobs_may_take_is_what_is_written() {
    let jobs = |keys: &str| parsed(&format!("{SMALLEST}[jobs]\n{keys}\n")).policy.jobs;
    let unset = jobs("");
    assert_eq!((unset.replica_lag, unset.replica_lag_was_set), (Some(Duration::from_millis(1_500)), false));
    let off = jobs("replica_lag = \"off\"\narchive_retention = \"off\"");
    assert_eq!((off.replica_lag, off.archive_retention), (None, None));
    let set = jobs(
        "replica_lag = \"3s\"\nrunning = 40\nbacklog_bytes = 1000000\nrows_per_second = 500\nbatch_time = \"50ms\"",
    );
    assert_eq!((set.replica_lag, set.replica_lag_was_set), (Some(Duration::from_secs(3)), true));
    assert_eq!((set.running, set.backlog_bytes, set.rows_per_second), (Some(40), Some(1_000_000), Some(500)));
    assert_eq!(set.batch_time, Duration::from_millis(50));
}

#[test]
fn a_freeze_holds_for_whom_it_is_written_and_when() {
    let text = format!(
        "{SMALLEST}[[freeze]]\nname = \"year's end\"\nfrom = \"2026-12-20 18:00 Europe/Berlin\"\nuntil = \"2027-01-02\"\n\
         reason = \"books\"\nexcept = {{ user = \"dba_*\" }}\n"
    );
    let config = parsed(&text);
    let frozen = |user: &str, now: &str| {
        let principal = Principal { user: user.to_owned(), ..Principal::default() };
        effective(&config.policy, &principal, &[], now.parse().expect("a time")).frozen
    };
    let told = frozen("anna", "2026-12-24T12:00:00Z").expect("frozen");
    assert_eq!(
        (told.name.as_str(), told.reason.as_deref(), told.until.as_str()),
        ("year's end", Some("books"), "until 2027-01-02")
    );
    assert_eq!(&*told.origin, "sluice.toml:7 [[freeze]] \"year's end\"");
    assert_eq!(frozen("dba_eve", "2026-12-24T12:00:00Z"), None);
    assert_eq!(frozen("anna", "2026-12-20T16:59:00Z"), None);
}

#[test]
fn logins_are_understood_as_written() {
    let text = format!(
        "{SMALLEST}auth = \"scram\"\nusers_file = \"users.txt\"\nauth_query = {{ user = \"sluice\" }}\n\
         [[listener.account]]\nuser = \"anna\"\npassword_file = \"anna.password\"\n[logins]\nwindow = \"1h\"\n"
    );
    let config = parsed(&text);
    let account = Account {
        user: "anna".to_owned(),
        upstream_user: "anna".to_owned(),
        password: PasswordSource::File("anna.password".into()),
    };
    let query = AuthQuery {
        user: "sluice".to_owned(),
        password: None,
        database: "postgres".to_owned(),
        query: AuthQuery::DEFAULT.to_owned(),
    };
    let auth = Auth::Scram { users_file: Some("users.txt".into()), auth_query: Some(query), accounts: vec![account] };
    assert_eq!(config.listeners[0].auth, auth);
    assert_eq!(config.logins, Logins { window: Duration::from_secs(3_600), ..Logins::default() });
    assert_eq!(config.listeners[0].tls, None);
    let demanded = parsed(&format!("{SMALLEST}tls = {{ cert = \"a\", key = \"b\", mode = \"require\" }}\n"));
    assert_eq!(demanded.listeners[0].tls.as_ref().map(|tls| tls.mode), Some(ServerTlsMode::Require));
    let preferred = parsed(&format!("{SMALLEST}tls = {{ cert = \"a\", key = \"b\" }}\n"));
    assert_eq!(preferred.listeners[0].tls.as_ref().map(|tls| tls.mode), Some(ServerTlsMode::Prefer));
    let other = parsed(&text.replace("users.txt", "others.txt"));
    assert!(config.listeners[0].has_the_ends_of(&other.listeners[0]), "it can be reloaded");
    assert!(!config.listeners[0].has_the_ends_of(&parsed(&text.replace("5432", "5433")).listeners[0]));
}

#[test]
fn a_file_that_is_not_there_is_said_to_be_so() {
    let errors = config::load(Path::new("/nowhere/sluice.toml")).expect_err("no such file");
    assert!(errors.to_string().starts_with("/nowhere/sluice.toml: "), "{errors}");
}

fn parsed(text: &str) -> Config {
    config::parse(text, "sluice.toml").unwrap_or_else(|errors| panic!("{}", errors.render()))
}

/// Takes the mark away where it stands right before a key or a table; comments proper have a space after it.
fn uncommented(text: &str, mark: &str) -> String {
    let bare = |line: &str| match line.strip_prefix(mark) {
        Some(rest) if rest.starts_with(|first: char| first.is_ascii_lowercase() || first == '[') => rest.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(bare).collect::<Vec<_>>().join("\n")
}

fn sorted(keys: &[&str]) -> Vec<String> {
    let mut keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    keys.sort();
    keys
}

fn level(config: &Config, user: &str, address: &str, table: &str, now: &str, rule: &str) -> (Level, String) {
    let principal = Principal {
        user: user.to_owned(),
        database: "shop".to_owned(),
        address: address.to_owned(),
        application: String::new(),
    };
    let name = Name { written: table.to_owned(), parts: table.split('.').map(str::to_owned).collect() };
    let effective = effective(&config.policy, &principal, &[name], now.parse().expect("a time"));
    let (at, _) = rules::find(rule).expect("a rule");
    let (level, origin) = &effective.levels[at];
    (*level, origin.to_string())
}
