//! The written form: every key there is, what it may hold, and what it means.
//!
//! Invariant: a key that is not read here is an error, and `config/sluice.toml` lists every key that is (`tests/config.rs`).

use crate::audit::rotation::{Every, Rotation};
use crate::audit::{Literals, Manner, Parameters, Reads, WhileFailing};
use crate::config::errors::{Errors, Problem};
use crate::config::reader::{Reader, Section, Word, did_you_mean};
use crate::config::written_logins;
use crate::config::{
    Address, Admin, Audit, Config, Listener, Log, LogFormat, LogLevel, Metrics, Protocol, Roots, ServerTls,
    ServerTlsMode, Sessions, Store, UpstreamTls,
};
use crate::policy::finding::Level;
use crate::policy::freeze::{Freeze, Frozen};
use crate::policy::levels::{LEVEL_NAMES, Preset, level_named};
use crate::policy::pattern::{Addresses, Glob, Window, parse_moment};
use crate::policy::rules;
use crate::policy::scope::{Match, Scope, SizeChanges};
use crate::policy::settings::{Mode, Origin, Policy, Sizes};
use crate::policy::throttle::Throttle;
use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use toml::de::DeTable;

/// The configuration, or what is wrong with it; and the keys that the text leaves out.
pub fn config(text: &str, name: &str) -> (Result<Config, Errors>, Vec<String>) {
    let (document, broken) = DeTable::parse_recoverable(text);
    let reader = Reader::new(text);
    // A broken document is shown as such: reading what is left of it would blame keys that the break swallowed.
    let found = if broken.is_empty() { whole(reader.root(document.get_ref()), name) } else { None };
    let (mut problems, left_out) = reader.into_parts();
    problems.extend(broken.iter().map(|error| Problem {
        message: error.message().to_owned(),
        span: Some(error.span().unwrap_or(0..0)),
        help: None,
    }));
    match found {
        Some(config) if problems.is_empty() => (Ok(config), left_out),
        _ => (Err(Errors::new(name, text, problems)), left_out),
    }
}

/// `None` only with a problem noted.
fn whole(mut root: Section<'_, '_>, file: &str) -> Option<Config> {
    let listeners = listeners(&mut root);
    let policy = policy(&mut root, file);
    let store = store(root.table("store"));
    let audit = audit(root.table("audit"));
    let admin = admin(root.table("admin"));
    let log = log(root.table("log"));
    let metrics = metrics(root.table("metrics"));
    let sessions = sessions(root.table("sessions"));
    let logins = written_logins::bounds(root.table("logins"));
    root.finish();
    Some(Config { listeners: listeners?, policy, store, audit, admin, log, metrics, sessions, logins })
}

fn listeners(root: &mut Section<'_, '_>) -> Option<Vec<Listener>> {
    let reader = root.reader();
    let sections = root.tables("listener");
    if sections.is_empty() {
        let help = "write [[listener]] with name, protocol, listen and upstream".to_owned();
        reader.problem(0..0, "no listener: nobody could connect", Some(help));
    }
    let mut listeners: Vec<Listener> = Vec::new();
    let mut complete = true;
    for section in sections {
        let span = section.span();
        let Some(new) = listener(section) else {
            complete = false;
            continue;
        };
        if listeners.iter().any(|other| other.name == new.name) {
            reader.problem(span.clone(), format!("another listener is called `{}` already", new.name), None);
        }
        if listeners.iter().any(|other| other.listen == new.listen) {
            reader.problem(span, format!("another listener listens on {} already", new.listen), None);
        }
        listeners.push(new);
    }
    (complete && !listeners.is_empty()).then_some(listeners)
}

fn listener(mut section: Section<'_, '_>) -> Option<Listener> {
    let name = section.required("name", named);
    let protocol = section.required("protocol", protocol);
    let listen = section.required("listen", Address::parse_listen);
    let upstream = section.required("upstream", Address::parse);
    let tls_written = section.optional_table("tls");
    let tls_wanted = tls_written.is_some();
    let tls_span = tls_written.as_ref().map(Section::span);
    let tls = tls_written.and_then(server_tls);
    let demanded = tls.as_ref().is_some_and(|tls| tls.mode == ServerTlsMode::Require);
    if let (true, Some(Address::Unix(_)), Some(span)) = (demanded, &listen, tls_span) {
        section.reader().problem(span, "the listener is a unix socket, on which there is no TLS to require", None);
    }
    let verification = section.word("upstream_tls");
    let upstream_tls = verification.as_ref().map_or(Some(UpstreamTls::Prefer), |word| upstream_tls(&section, word));
    let upstream_ca = section.parsed("upstream_ca", roots).unwrap_or(Roots::System);
    if let (Some(word), Some(mode), Some(upstream)) = (&verification, upstream_tls, &upstream) {
        check_upstream_tls(&section, word, mode, upstream, &upstream_ca);
    }
    let auth = written_logins::auth(&mut section, tls.as_ref(), protocol);
    section.finish();
    if tls_wanted && tls.is_none() {
        return None;
    }
    Some(Listener {
        name: name?,
        protocol: protocol?,
        listen: listen?,
        upstream: upstream?,
        auth: auth?,
        tls,
        upstream_tls: upstream_tls?,
        upstream_ca,
    })
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "postgres" => Ok(Protocol::Postgres),
        "mysql" => Ok(Protocol::MySql),
        _ => Err(format!("`{text}` is not a protocol: there are \"postgres\" and \"mysql\" (which is MariaDB's too)")),
    }
}

fn server_tls(mut section: Section<'_, '_>) -> Option<ServerTls> {
    let cert = section.required("cert", path);
    let key = section.required("key", path);
    let client_ca = section.parsed("client_ca", path);
    let modes = [("prefer", ServerTlsMode::Prefer), ("require", ServerTlsMode::Require)];
    let mode = section.choice("mode", &modes).unwrap_or_default();
    section.finish();
    Some(ServerTls { cert: cert?, key: key?, client_ca, mode })
}

fn upstream_tls(section: &Section<'_, '_>, word: &Word<'_>) -> Option<UpstreamTls> {
    let choices = [
        ("disable", UpstreamTls::Disable),
        ("allow", UpstreamTls::Allow),
        ("prefer", UpstreamTls::Prefer),
        ("require", UpstreamTls::Require),
        ("verify-ca", UpstreamTls::VerifyCa),
        ("verify-full", UpstreamTls::VerifyFull),
    ];
    section.chosen(word, &choices)
}

/// Combinations that could not keep what they promise, refused as libpq refuses them.
fn check_upstream_tls(
    section: &Section<'_, '_>,
    word: &Word<'_>,
    mode: UpstreamTls,
    upstream: &Address,
    roots: &Roots,
) {
    let encrypts = !matches!(mode, UpstreamTls::Disable | UpstreamTls::Allow | UpstreamTls::Prefer);
    if encrypts && matches!(upstream, Address::Unix(_)) {
        let message = "the upstream is a unix socket, on which there is no TLS";
        section.reader().problem(word.span.clone(), message, None);
    }
    if mode == UpstreamTls::VerifyCa && *roots == Roots::System {
        let message = "`verify-ca` with the system's roots would accept anybody's certificate";
        let help = "say \"verify-full\", or name your own authority in upstream_ca".to_owned();
        section.reader().problem(word.span.clone(), message, Some(help));
    }
}

fn roots(text: &str) -> Result<Roots, String> {
    match text {
        "system" => Ok(Roots::System),
        _ => path(text).map(Roots::File),
    }
}

fn policy(root: &mut Section<'_, '_>, file: &str) -> Policy {
    let mut section = root.table("policy");
    let presets = Preset::NAMES.map(|name| (name, Preset::named(name).unwrap_or_default()));
    let preset = section.choice("preset", &presets).unwrap_or_default();
    let modes = [("enforce", Mode::Enforce), ("observe", Mode::Observe), ("off", Mode::Off)];
    let mode = section.choice("mode", &modes).unwrap_or(preset.mode());
    section.finish();
    let limits = root.table("limits");
    let span = limits.span();
    let sizes = sizes(limits).onto(Sizes::default());
    if sizes.max_affected_limit < sizes.max_affected {
        root.reader().problem(span, "max_affected_limit is below max_affected: nobody could state more", None);
    }
    let scopes = root.tables("scope").into_iter().enumerate().map(|(at, section)| scope(section, at, file));
    let scopes = scopes.collect();
    let freezes = root.tables("freeze").into_iter().filter_map(|section| freeze(section, file)).collect();
    let jobs = jobs(root.table("jobs"));
    Policy { mode, sizes, scopes, freezes, jobs, ..Policy::preset(preset) }
}

/// `[jobs]`: what a job may take of a server.
fn jobs(mut section: Section<'_, '_>) -> Throttle {
    let unset = Throttle::default();
    let lag = match section.word_is("replica_lag", "auto") {
        true => None,
        false => section.duration_or("replica_lag", "off", seconds(0.1, DAY)),
    };
    let jobs = Throttle {
        batch_time: section.duration("batch_time", seconds(0.01, 10.0)).unwrap_or(unset.batch_time),
        replica_lag: lag.map_or(unset.replica_lag, |written| written),
        replica_lag_was_set: lag.is_some(),
        running: section.number_or("running", "off", 1..1_000_000),
        backlog_bytes: section.number_or("backlog_bytes", "off", 1..i64::MAX as u64),
        rows_per_second: section.number_or("rows_per_second", "off", 1..ROWS_END),
        vacuum: section.boolean("wait_for_vacuum").unwrap_or(unset.vacuum),
        time: section.list("time", Window::parse),
        archive_retention: section
            .duration_or("archive_retention", "off", seconds(1.0, 3650.0 * DAY))
            .unwrap_or(unset.archive_retention),
    };
    section.finish();
    jobs
}

/// One that is wrong is a problem of the whole file, so none is passed over in silence.
fn freeze(mut section: Section<'_, '_>, file: &str) -> Option<Freeze> {
    let (reader, span) = (section.reader(), section.span());
    let name = section.required("name", named);
    let (from, until) = (section.parsed("from", parse_moment), section.parsed("until", parse_moment));
    let until_written = section.parsed("until", |text| Ok(format!("until {text}"))).unwrap_or_default();
    let time = section.list("time", Window::parse);
    let reason = section.parsed("reason", said);
    let matches = whom(section.table("match"));
    let except = section.optional_table("except").map(whom);
    section.finish();
    if from.zip(until).is_some_and(|(from, until)| until <= from) {
        reader.problem(span.clone(), "this freeze is over before it begins", None);
    }
    if except.as_ref().is_some_and(|except| *except == Match::default()) {
        reader.problem(span.clone(), "`except` names nobody: it would except everybody", None);
    }
    let name = name?;
    let origin = format!("{file}:{} [[freeze]] \"{name}\"", reader.line(span.start)).into();
    let frozen = Arc::new(Frozen { name, reason, until: until_written, origin });
    Some(Freeze { frozen, matches, except, from, until, time })
}

/// The part of a scope's `match` that is about people and what they connect to.
fn whom(mut section: Section<'_, '_>) -> Match {
    let matches = Match {
        user: section.list("user", Glob::new),
        address: section.list("address", Addresses::parse),
        application: section.list("application", Glob::new),
        database: section.list("database", Glob::new),
        ..Match::default()
    };
    section.finish();
    matches
}

fn said(text: &str) -> Result<String, String> {
    match text.len() <= 200 && !text.contains(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err("a reason has up to 200 characters, in one line".to_owned()),
    }
}

fn scope(mut section: Section<'_, '_>, at: usize, file: &str) -> Scope {
    let name = section.parsed("name", named).unwrap_or_else(|| format!("number {}", at + 1));
    let line = section.reader().line(section.span().start);
    let matches = matches(section.table("match"));
    let reader = section.reader();
    let from = |line: usize| -> Origin { format!("{file}:{line} [[scope]] \"{name}\"").into() };
    let written = section.table("rules").free_words().into_iter();
    let levels: Vec<(usize, Level, Origin)> = written
        .filter_map(|(rule, level)| {
            let origin = from(reader.line(rule.span.start));
            Some((rule_named(&section, &rule)?, level_of(&section, &level)?, origin))
        })
        .collect();
    let sizes = sizes(section.table("limits"));
    let origin = from(line);
    section.finish();
    Scope { name, origin, matches, levels, sizes }
}

fn matches(mut section: Section<'_, '_>) -> Match {
    let matches = Match {
        user: section.list("user", Glob::new),
        address: section.list("address", Addresses::parse),
        application: section.list("application", Glob::new),
        database: section.list("database", Glob::new),
        table: section.list("table", table_pattern),
        time: section.list("time", Window::parse),
    };
    section.finish();
    matches
}

fn table_pattern(text: &str) -> Result<(Glob, Glob), String> {
    match text.split_once('.') {
        Some((schema, table)) if !table.contains('.') => Ok((Glob::new(schema)?, Glob::new(table)?)),
        _ => Err(format!("`{text}` is not a pattern for schema and table such as \"public.orders_*\" or \"*.orders\"")),
    }
}

fn rule_named(section: &Section<'_, '_>, word: &Word<'_>) -> Option<usize> {
    let reader = section.reader();
    match rules::find(word.text) {
        Some((_, rule)) if rule.fixed() => {
            let message =
                format!("`{}` is always {}: no policy can give it another level", rule.code(), rule.standard());
            reader.problem(word.span.clone(), message, None);
            None
        }
        Some((at, _)) => Some(at),
        None => {
            let codes: Vec<&str> = rules::all().iter().map(|rule| rule.code()).collect();
            let help = did_you_mean(word.text, &codes).unwrap_or_else(|| format!("rules: {}", codes.join(", ")));
            reader.problem(word.span.clone(), format!("unknown rule `{}`", word.text), Some(help));
            None
        }
    }
}

fn level_of(section: &Section<'_, '_>, word: &Word<'_>) -> Option<Level> {
    let choices = LEVEL_NAMES.map(|name| (name, level_named(name).unwrap_or(Level::Deny)));
    section.chosen(word, &choices)
}

/// `[limits]`, of the whole policy or of a scope.
fn sizes(mut section: Section<'_, '_>) -> SizeChanges {
    let sizes = SizeChanges {
        free_rows: section.number("free_rows", 0..ROWS_END),
        batch_rows: section.number("batch_rows", 1..ROWS_END),
        sample_rows: section.number("sample_rows", 0..101),
        max_affected: section.number("max_affected", 0..ROWS_END),
        max_affected_limit: section.number("max_affected_limit", 0..ROWS_END),
        tolerance: section.per_cent("tolerance"),
        preview_timeout: section.duration("preview_timeout", seconds(0.01, 300.0)),
        token_ttl: section.duration("token_ttl", seconds(1.0, 7.0 * DAY)),
    };
    section.finish();
    sizes
}

fn store(mut section: Section<'_, '_>) -> Store {
    let url = section.parsed("url", |text| match text.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => Ok(Store::Sqlite(PathBuf::from(path))),
        Some(("postgres" | "postgresql", _)) => {
            Err("a store that several Sluices share comes with a later version: this one keeps \"sqlite:<file>\""
                .into())
        }
        _ => Err(format!("`{text}` is not a store such as \"sqlite:sluice.db\"")),
    });
    section.finish();
    url.unwrap_or_else(|| Store::Sqlite(PathBuf::from("sluice.db")))
}

fn audit(mut section: Section<'_, '_>) -> Audit {
    let path = section.parsed("path", path).unwrap_or_else(|| PathBuf::from("sluice-audit.jsonl"));
    let failing =
        [("refuse-changes", WhileFailing::RefuseChanges), ("refuse-everything", WhileFailing::RefuseEverything)];
    let parameters = section.boolean("parameters").unwrap_or(false);
    let manner = Manner {
        reads: Reads::Count,
        while_failing: section.choice("on_failure", &failing).unwrap_or_default(),
        literals: section
            .choice("literals", &[("redacted", Literals::Redacted), ("kept", Literals::Kept)])
            .unwrap_or_default(),
        parameters: if parameters { Parameters::Recorded } else { Parameters::LeftOut },
    };
    let rotation = Rotation {
        every: section.choice("rotate", &[("off", Every::Never), ("daily", Every::Day)]).unwrap_or_default(),
        bytes: section.number_or("rotate_bytes", "off", 4096..ROWS_END).and_then(NonZeroU64::new),
        keep: section.number_or("keep", "all", 1..100_001).and_then(|most| NonZeroUsize::new(most.try_into().ok()?)),
    };
    section.finish();
    Audit { path, rotation, manner }
}

fn admin(mut section: Section<'_, '_>) -> Option<Admin> {
    let listen = section.parsed("listen", |text| match text {
        "off" => Ok(None),
        _ => Address::parse_listen(text).map(Some),
    });
    section.finish();
    let default = || Some(Address::Tcp { host: "127.0.0.1".to_owned(), port: 6480 });
    listen.unwrap_or_else(default).map(|listen| Admin { listen })
}

fn log(mut section: Section<'_, '_>) -> Log {
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
    let level = section.choice("level", &levels.map(|level| (level.name(), level))).unwrap_or(LogLevel::Info);
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = section.choice("format", &formats).unwrap_or(LogFormat::Text);
    section.finish();
    Log { level, format }
}

fn metrics(mut section: Section<'_, '_>) -> Metrics {
    let enabled = section.boolean("enabled").unwrap_or(true);
    section.finish();
    Metrics { enabled }
}

fn sessions(mut section: Section<'_, '_>) -> Sessions {
    let default = Sessions::default();
    let mut wait = |key, default| section.duration(key, seconds(0.01, DAY)).unwrap_or(default);
    let login_timeout = wait("login_timeout", default.login_timeout);
    let connect_timeout = wait("connect_timeout", default.connect_timeout);
    let ask_timeout = wait("ask_timeout", default.ask_timeout);
    let drain_timeout = wait("drain_timeout", default.drain_timeout);
    let idle_timeout = idle(&mut section).unwrap_or(default.idle_timeout);
    let mut number =
        |key, default| section.number(key, 1..100_001).and_then(|most| usize::try_from(most).ok()).unwrap_or(default);
    let max_sessions = number("max_sessions", default.max_sessions);
    let max_logins = number("max_logins", default.max_logins);
    let max_logins_per_address = number("max_logins_per_address", default.max_logins_per_address);
    let memory_bytes = section.number("memory_bytes", 1 << 20..ROWS_END).and_then(|most| usize::try_from(most).ok());
    let memory_bytes = memory_bytes.unwrap_or(default.memory_bytes);
    section.finish();
    Sessions {
        max_sessions,
        max_logins,
        max_logins_per_address,
        login_timeout,
        connect_timeout,
        idle_timeout,
        ask_timeout,
        drain_timeout,
        memory_bytes,
    }
}

fn idle(section: &mut Section<'_, '_>) -> Option<Option<Duration>> {
    match section.word("idle_timeout")?.text {
        "off" => Some(None),
        _ => section.duration("idle_timeout", seconds(1.0, 365.0 * DAY)).map(Some),
    }
}

fn named(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.len() <= 64 && !text.contains(char::is_control);
    match fits {
        true => Ok(text.to_owned()),
        false => Err("a name has 1 to 64 characters, and no control characters".to_owned()),
    }
}

pub(in crate::config) fn path(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("expected the path of a file".to_owned()),
        _ if text.contains("-----BEGIN") => Err("expected the path of a file, not its content".to_owned()),
        _ => Ok(PathBuf::from(text)),
    }
}

pub(in crate::config) const DAY: f64 = 86_400.0;
/// TOML's integers end at 2^63 - 1.
const ROWS_END: u64 = 1 << 63;

pub(in crate::config) fn seconds(least: f64, end: f64) -> Range<Duration> {
    Duration::from_secs_f64(least)..Duration::from_secs_f64(end)
}
