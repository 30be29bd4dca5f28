//! Functions of the server and of well-known extensions that do more than compute: by name, because a call can stand in any
//! expression of any statement.
//!
//! A function of the user's own that does the same is not known by its name; nor is a built-in one under another name
//! (`CREATE FUNCTION … LANGUAGE internal` is an act of its own for that reason).
//!
//! Invariant: what is listed here is never harmless at a glance (`glance` asks [`is_listed_word`]).
//!
//! Sources: PostgreSQL manual, "System Administration Functions", "Replication Functions", "Server-side (Large Object) Functions",
//! and the manuals of adminpack, dblink, file_fdw, pg_cron, pg_net and aws_s3. Not listed, because they lose nothing that was
//! committed: pg_cancel_backend, pg_terminate_backend, advisory locks, pg_notify, nextval, pg_ls_waldir and its kind.

use crate::sql::facts::ActKind;

/// What a call of this function does besides computing, by the function's name as facts write it: parts joined by dots.
pub fn of(function: &str) -> Option<ActKind> {
    let mut parts = function.rsplit('.');
    let name = parts.next().unwrap_or_default();
    let schema = parts.next();
    if schema.is_some_and(|schema| SCHEMAS.iter().any(|listed| schema.eq_ignore_ascii_case(listed))) {
        return Some(ActKind::Outside);
    }
    let is = |listed: &&str| name.eq_ignore_ascii_case(listed);
    if OBJECTS.iter().any(is) {
        return Some(ActKind::Unlinks);
    }
    if WRITES.iter().any(is) {
        return Some(ActKind::Writes);
    }
    let begins = |family: &&str| begins_with(name, family);
    (OUTSIDE.iter().any(is) || FAMILIES.iter().any(begins)).then_some(ActKind::Outside)
}

/// Whether a text that holds this word, outside quotes or in double ones, may call such a function.
pub fn is_listed_word(word: &str) -> bool {
    // Nearly every word fails at its beginning.
    let [first, second, third, ..] = word.as_bytes() else { return false };
    match [first, second, third].map(u8::to_ascii_lowercase) {
        [b'a', b'w', b's'] | [b'c', b'r', b'o'] | [b'd', b'b', b'l'] | [b'n', b'e', b't'] => {}
        [b'l', b'o', b'_' | b'w'] | [b'p', b'g', b'_'] | [b's', b'e', b't'] => {}
        _ => return false,
    }
    of(word).is_some() || SCHEMAS.iter().any(|listed| word.eq_ignore_ascii_case(listed))
}

fn begins_with(name: &str, family: &str) -> bool {
    name.get(..family.len()).is_some_and(|start| start.eq_ignore_ascii_case(family))
}

/// Schemas of extensions all of whose functions act elsewhere: jobs, requests over the network, files in a store.
const SCHEMAS: &[&str] = &["cron", "net", "aws_s3", "aws_commons", "aws_lambda"];

/// Large objects: data that is no row of a table of the user's.
const OBJECTS: &[&str] = &["lo_unlink", "lo_truncate", "lo_truncate64"];

/// Writing into a large object is how it gets its bytes, and setting a sequence how it gets its value, in applications as in restores:
/// whether something is lost by it is not to be seen from the call.
const WRITES: &[&str] = &["lo_put", "lowrite", "lo_from_bytea", "lo_create", "lo_creat", "setval"];

#[rustfmt::skip] // one line a family
const OUTSIDE: &[&str] = &[
    "lo_import", "lo_export",
    "pg_ls_dir", "pg_stat_file", "pg_logdir_ls", "pg_logfile_rotate",
    "pg_reload_conf", "pg_rotate_logfile", "pg_promote",
    "pg_create_restore_point", "pg_switch_wal", "pg_start_backup", "pg_stop_backup",
    "pg_wal_replay_pause", "pg_wal_replay_resume",
    "pg_logical_emit_message", "pg_sync_replication_slots",
];

const FAMILIES: &[&str] = &[
    "dblink",
    "pg_read_file",
    "pg_read_binary_file",
    "pg_file_",
    "pg_backup_",
    "pg_drop_replication_slot",
    "pg_create_physical_replication_slot",
    "pg_create_logical_replication_slot",
    "pg_copy_physical_replication_slot",
    "pg_copy_logical_replication_slot",
    "pg_replication_slot_advance",
    "pg_replication_origin_create",
    "pg_replication_origin_drop",
    "pg_replication_origin_advance",
    "pg_replication_origin_session_",
    "pg_replication_origin_xact_",
    "pg_logical_slot_get_",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_known_by_their_last_part_and_extensions_by_their_schema() {
        for name in
            ["pg_read_file", "pg_catalog.pg_read_file", "public.dblink_exec", "dblink", "cron.schedule", "LO_EXPORT"]
        {
            assert_eq!(of(name), Some(ActKind::Outside), "{name}");
        }
        assert_eq!(of("lo_unlink"), Some(ActKind::Unlinks));
        for name in ["lowrite", "pg_catalog.lo_put", "SETVAL"] {
            assert_eq!(of(name), Some(ActKind::Writes), "{name}");
        }
        for name in ["lower", "schedule", "my.schedule", "nextval", "pg_terminate_backend", "pg_ls_waldir", "é", ""] {
            assert_eq!(of(name), None, "{name}");
        }
    }

    #[test]
    fn whatever_is_listed_is_no_glance_away() {
        for word in SCHEMAS.iter().chain(OBJECTS).chain(WRITES).chain(OUTSIDE).chain(FAMILIES) {
            assert!(is_listed_word(word) && is_listed_word(&word.to_ascii_uppercase()), "{word}");
        }
    }
}
