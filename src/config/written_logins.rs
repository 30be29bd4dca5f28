//! The written form of logging in: what belongs to `auth` on a listener, and `[logins]`.
//!
//! Invariant: a listener that checks logins itself says against what, and nothing is written that its `auth` would not use: a users
//! file that is silently ignored would be believed to guard.

use crate::config::reader::{Section, Word};
use crate::config::written::{DAY, path, seconds};
use crate::config::{Account, Auth, AuthQuery, CertificateName, Logins, PasswordSource, Protocol, ServerTls};
use crate::ground::limits;
use std::ops::Range;

/// `None` only with a problem noted.
pub(in crate::config) fn auth(
    section: &mut Section<'_, '_>,
    tls: Option<&ServerTls>,
    protocol: Option<Protocol>,
) -> Option<Auth> {
    let word = section.word("auth");
    let span = word.as_ref().map_or(section.span(), |word| word.span.clone());
    let kinds = [
        ("passthrough", Kind::Passthrough),
        ("scram", Kind::Scram),
        ("password", Kind::Password),
        ("cert", Kind::Cert),
    ];
    let kind = word.map_or(Some(Kind::Passthrough), |word| section.chosen(&word, &kinds));
    let users_file = section.word("users_file");
    let auth_query = section.optional_table("auth_query");
    let account_tables = section.tables("account");
    let name_tables = section.tables("certificate");
    let reader = section.reader();
    let problem = |span: Range<usize>, message: &str| reader.problem(span, message, None);
    let file_span = users_file.as_ref().map(|word| word.span.clone());
    let query_span = auth_query.as_ref().map(Section::span);
    let account_span = account_tables.first().map(Section::span);
    let name_span = name_tables.first().map(Section::span);
    let users_file = users_file.and_then(|word| understood(section, &word));
    let auth_query = auth_query.map(query);
    let accounts = accounts(account_tables);
    let names: Vec<_> = name_tables.into_iter().map(certificate_name).collect();
    let kind = kind?;
    let by_password = kind == Kind::Scram || kind == Kind::Password;
    for (written, used, what) in [
        (&file_span, by_password, "`users_file` is used by auth = \"scram\" and \"password\" alone"),
        (&query_span, kind == Kind::Scram, "`auth_query` is used by auth = \"scram\" alone"),
        (&name_span, kind == Kind::Cert, "[[listener.certificate]] is used by auth = \"cert\" alone"),
        (
            &account_span,
            kind != Kind::Passthrough,
            "[[listener.account]] is used where Sluice checks logins: auth = \"scram\", \"password\" or \"cert\"",
        ),
    ] {
        if let (Some(span), false) = (written, used) {
            problem(span.clone(), what);
        }
    }
    if kind == Kind::Scram && protocol == Some(Protocol::MySql) {
        problem(
            span.clone(),
            "auth = \"scram\" is PostgreSQL's: with protocol = \"mysql\" there are \"passthrough\", \"password\" and \"cert\"",
        );
    }
    if kind == Kind::Password && protocol == Some(Protocol::Postgres) {
        problem(
            span.clone(),
            "auth = \"password\" is MySQL's: with protocol = \"postgres\" there are \"passthrough\", \"scram\" and \"cert\"",
        );
    }
    let has_authority = tls.is_some_and(|tls| tls.client_ca.is_some());
    if has_authority && kind != Kind::Cert {
        problem(span.clone(), "`client_ca` is used by auth = \"cert\" alone");
    }
    match kind {
        Kind::Passthrough => Some(Auth::Passthrough),
        Kind::Scram => {
            if file_span.is_none() && query_span.is_none() {
                problem(span, "auth = \"scram\" needs a `users_file` or an `auth_query` to check against");
            }
            let auth_query = match auth_query {
                Some(query) => Some(query?),
                None => None,
            };
            Some(Auth::Scram { users_file, auth_query, accounts: accounts? })
        }
        Kind::Password => {
            if file_span.is_none() {
                problem(span.clone(), "auth = \"password\" needs a `users_file` to check against");
            }
            if account_span.is_none() {
                let message =
                    "auth = \"password\" needs [[listener.account]]: the database is shown a password of its own";
                problem(span, message);
            }
            Some(Auth::Password { users_file: users_file?, accounts: accounts? })
        }
        Kind::Cert => {
            if !has_authority {
                problem(
                    span.clone(),
                    "auth = \"cert\" needs tls with `client_ca`, the authority of the clients' certificates",
                );
            }
            if account_span.is_none() {
                let message =
                    "auth = \"cert\" needs [[listener.account]]: a certificate cannot be shown to the database in turn";
                problem(span, message);
            }
            Some(Auth::Cert { names: names.into_iter().collect::<Option<_>>()?, accounts: accounts? })
        }
    }
}

/// `[logins]`.
pub(in crate::config) fn bounds(mut section: Section<'_, '_>) -> Logins {
    let default = Logins::default();
    let mut number = |key, default| {
        let number = section.number(key, 1..1_000_001).and_then(|number| u32::try_from(number).ok());
        number.unwrap_or(default)
    };
    let wrong_per_user = number("wrong_per_user", default.wrong_per_user);
    let wrong_per_address = number("wrong_per_address", default.wrong_per_address);
    let slow_after = number("slow_after", default.slow_after);
    let window = section.duration("window", seconds(1.0, DAY)).unwrap_or(default.window);
    section.finish();
    Logins { wrong_per_user, wrong_per_address, slow_after, window }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Passthrough,
    Scram,
    Password,
    Cert,
}

fn understood(section: &Section<'_, '_>, word: &Word<'_>) -> Option<std::path::PathBuf> {
    path(word.text).map_err(|why| section.reader().problem(word.span.clone(), why, None)).ok()
}

fn query(mut section: Section<'_, '_>) -> Option<AuthQuery> {
    let user = section.required("user", user_name);
    let password = password(&mut section);
    let database = section.parsed("database", user_name).unwrap_or_else(|| "postgres".to_owned());
    let query = section.parsed("query", |text| match text.contains("$1") && !text.contains('\0') {
        true => Ok(text.to_owned()),
        false => Err("the query has no $1, which stands for the user's name".to_owned()),
    });
    section.finish();
    let query = query.unwrap_or_else(|| AuthQuery::DEFAULT.to_owned());
    Some(AuthQuery { user: user?, password: password.ok()?, database, query })
}

fn accounts(tables: Vec<Section<'_, '_>>) -> Option<Vec<Account>> {
    let mut accounts: Vec<Account> = Vec::new();
    let mut complete = true;
    for section in tables {
        let (reader, span) = (section.reader(), section.span());
        match account(section) {
            Some(new) if accounts.iter().any(|other| other.user == new.user) => {
                reader.problem(span, format!("another account is for `{}` already", new.user), None);
            }
            Some(new) => accounts.push(new),
            None => complete = false,
        }
    }
    complete.then_some(accounts)
}

fn account(mut section: Section<'_, '_>) -> Option<Account> {
    let user = section.required("user", user_name);
    let upstream_user = section.parsed("upstream_user", user_name);
    let password = password(&mut section);
    if password == Ok(None) {
        let help =
            "the database's password for this account stands in a file or in the environment, never here".to_owned();
        section.reader().problem(section.span(), "`password_file` or `password_env` is missing", Some(help));
    }
    section.finish();
    let user = user?;
    Some(Account { upstream_user: upstream_user.unwrap_or_else(|| user.clone()), user, password: password.ok()?? })
}

/// `Err` with a problem noted; `Ok(None)` where neither key is written.
fn password(section: &mut Section<'_, '_>) -> Result<Option<PasswordSource>, ()> {
    match section.either("password_file", "password_env") {
        (None, None) => Ok(None),
        (Some(file), None) => understood(section, &file).map(|path| Some(PasswordSource::File(path))).ok_or(()),
        (None, Some(variable)) => {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if !variable.text.is_empty() && variable.text.bytes().all(fits) {
                return Ok(Some(PasswordSource::Variable(variable.text.to_owned())));
            }
            section.reader().problem(
                variable.span,
                "expected the name of an environment variable, not its value",
                None,
            );
            Err(())
        }
        (Some(_), Some(variable)) => {
            section.reader().problem(variable.span, "`password_file` and `password_env`: one of them, not both", None);
            Err(())
        }
    }
}

fn certificate_name(mut section: Section<'_, '_>) -> Option<CertificateName> {
    let name = section.required("name", |text| match text {
        "" => Err("expected a certificate's common name, or \"*\"".to_owned()),
        _ => Ok(starred(text)),
    });
    let users = section.list("users", |text| match text {
        "*" => Ok(None),
        _ => user_name(text).map(Some),
    });
    if users.is_empty() {
        section.reader().problem(section.span(), "`users` is missing: as whom may it log in?", None);
    }
    if name == Some(None) && users.contains(&None) {
        section.reader().problem(section.span(), "any certificate as any user: that checks nothing", None);
    }
    section.finish();
    Some(CertificateName { name: name?, users })
}

fn starred(text: &str) -> Option<String> {
    (text != "*").then(|| text.to_owned())
}

/// As PostgreSQL keeps names: longer ones would be cut off.
fn user_name(text: &str) -> Result<String, String> {
    let fits = (1..=limits::USER_NAME_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control);
    match fits {
        true => Ok(text.to_owned()),
        false => Err(format!("a name has 1 to {} bytes, and no control characters", limits::USER_NAME_BYTES_MAX)),
    }
}
