//! What a listener's door is made of: the files that the configuration names, read and understood.
//!
//! Invariant: a file with a secret in it that others may read is not used, and no error repeats what stands in one.

use crate::config::{self, Address, Auth, Config, Listener, PasswordSource, ServerTlsMode};
use crate::ground::limits;
use crate::ground::secret::HashKey;
use crate::serve::tls;
use crate::session::door::{
    Account, AuthQuery, CertificateName, Checked, Demands, Door, Kept, Logins, Mock, Password, Passwords, Proof, Shown,
    Users, Verifiers,
};
use crate::session::tries::Bounds;
use crate::store::Store;
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Everything of a listener that a reload swaps.
pub fn door(listener: &Listener, config: &Config, store: &Store) -> Result<Door, String> {
    let tls = shown(listener)?;
    let checked = |proof, accounts: &[config::Account]| {
        let accounts = accounts.iter().map(account).collect::<Result<HashMap<_, _>, _>>()?;
        Ok::<_, String>(Logins::Checked(Arc::new(Checked { proof, accounts, bounds: bounds(&config.logins) })))
    };
    let logins = match &listener.auth {
        Auth::Passthrough => {
            if matches!(listener.upstream, Address::Unix(_)) {
                tracing::warn!(listener = %listener.name, "on its socket the database sees the system user that Sluice runs as: an account that it lets in by that alone (peer, auth_socket, unix_socket) is open to everybody who reaches this listener");
            }
            Logins::Passthrough
        }
        Auth::Scram { users_file, auth_query, accounts } => {
            let users = users_file.as_deref().map_or(Ok(Users::default()), users)?;
            let query = auth_query.as_ref().map(query).transpose()?;
            let mock = Mock::new(strangers(store), &users);
            checked(Proof::Scram(Verifiers { users, query, mock }), accounts)?
        }
        Auth::Password { users_file, accounts } => {
            checked(Proof::Password(Passwords::new(strangers(store), users(users_file)?)), accounts)?
        }
        Auth::Cert { names, accounts } => {
            let name = |entry: &config::CertificateName| CertificateName {
                name: entry.name.clone(),
                users: entry.users.clone(),
            };
            checked(Proof::Certificate(names.iter().map(name).collect()), accounts)?
        }
    };
    if matches!(listener.auth, Auth::Scram { .. }) && tls.as_ref().is_some_and(|shown| shown.end_point.is_none()) {
        tracing::warn!(listener = %listener.name, "the certificate's signature has no digest that clients could bind to: channel binding is not offered");
    }
    let demands = match listener.tls.as_ref().map(|tls| tls.mode) {
        Some(ServerTlsMode::Require) => Demands::Tls,
        Some(ServerTlsMode::Prefer) | None => Demands::Nothing,
    };
    Ok(Door { tls, demands, logins })
}

/// The same over restarts: what is made up for a user who does not exist must not change while the real ones stay.
fn strangers(store: &Store) -> HashKey {
    store.key_for("users who do not exist")
}

/// Every file that doors are made of.
pub fn files(config: &Config) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut password = |source: &PasswordSource| {
        if let PasswordSource::File(path) = source {
            files.push(path.clone());
        }
    };
    for listener in &config.listeners {
        match &listener.auth {
            Auth::Passthrough => {}
            Auth::Scram { auth_query, accounts, .. } => {
                auth_query.iter().filter_map(|query| query.password.as_ref()).for_each(&mut password);
                accounts.iter().for_each(|account| password(&account.password));
            }
            Auth::Password { accounts, .. } | Auth::Cert { accounts, .. } => {
                accounts.iter().for_each(|account| password(&account.password));
            }
        }
    }
    for listener in &config.listeners {
        if let Auth::Scram { users_file: Some(path), .. } | Auth::Password { users_file: path, .. } = &listener.auth {
            files.push(path.clone());
        }
        if let Some(tls) = &listener.tls {
            files.extend([&tls.cert, &tls.key].into_iter().chain(&tls.client_ca).cloned());
        }
    }
    files
}

fn shown(listener: &Listener) -> Result<Option<Shown>, String> {
    let files = listener.tls.as_ref();
    files.map(|files| tls::shown(&files.cert, &files.key, files.client_ca.as_deref())).transpose()
}

fn bounds(written: &config::Logins) -> Bounds {
    let config::Logins { wrong_per_user, wrong_per_address, slow_after, window } = *written;
    Bounds { wrong_per_user, wrong_per_address, slow_after, window }
}

fn users<V: Kept>(path: &Path) -> Result<Users<V>, String> {
    let text = secret_file(path, "the users file", limits::USERS_FILE_BYTES_MAX)?;
    Users::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn query(written: &config::AuthQuery) -> Result<AuthQuery, String> {
    let password = written.password.as_ref().map(password).transpose()?;
    let (user, database) = (written.user.clone(), written.database.clone());
    Ok(AuthQuery { user, password, database, query: written.query.clone() })
}

fn account(written: &config::Account) -> Result<(String, Account), String> {
    let account = Account { upstream_user: written.upstream_user.clone(), password: password(&written.password)? };
    Ok((written.user.clone(), account))
}

fn password(source: &PasswordSource) -> Result<Password, String> {
    let (text, place) = match source {
        PasswordSource::File(path) => {
            let text = secret_file(path, "the password", limits::PASSWORD_FILE_BYTES_MAX)?;
            (text, path.display().to_string())
        }
        PasswordSource::Variable(name) => {
            let text = std::env::var(name).map(Zeroizing::new);
            (text.map_err(|_| format!("the environment has no variable {name} that is text"))?, name.clone())
        }
    };
    // Editors and `echo` end a file with a line's end; a password with one at its end could not be typed.
    let trimmed = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    match trimmed.is_empty() || trimmed.contains(['\0', '\n']) {
        true => Err(format!("{place}: expected a password, on one line")),
        false => Ok(Password::new(Zeroizing::new(trimmed.to_owned()))),
    }
}

fn secret_file(path: &Path, what: &str, bytes_max: u64) -> Result<Zeroizing<String>, String> {
    tls::refuse_readable(path, what)?;
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
    let mut text = Zeroizing::new(String::new());
    file.take(bytes_max + 1).read_to_string(&mut text).map_err(|error| failed(&error))?;
    match text.len() as u64 > bytes_max {
        true => Err(failed(&format!("larger than {bytes_max} bytes"))),
        false => Ok(text),
    }
}
