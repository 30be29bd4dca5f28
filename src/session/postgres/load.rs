//! How busy a PostgreSQL is: what replicas have yet to take, what runs, what is being vacuumed.
//!
//! Invariant: what the user is not shown is unknown, never zero. Source: PostgreSQL manual, "The Cumulative Statistics System" (rights:
//! pg_monitor, or membership in pg_read_all_stats), "pg_locks" (all may read it); tried on 15 and 18.

use crate::database::quote::catalog;
use crate::policy::throttle::{Load, Throttle};
use crate::session::postgres::tell::Told;

/// Four statements. A replica that has something to take and was not heard of for 15 s may be anywhere. A vacuum holds this lock on its
/// table, and so does whatever else must not meet another of its kind.
pub(in crate::session) fn question(oids: &[String]) -> String {
    catalog(&format!(
        "SELECT COALESCE(r.application_name, 'unnamed'), CASE WHEN r.state IS NULL THEN NULL \
         WHEN pg_catalog.now() - r.reply_time > CAST('15 s' AS pg_catalog.interval) AND r.sent_lsn <> r.replay_lsn THEN NULL \
         ELSE COALESCE(CAST(pg_catalog.date_part('epoch', r.replay_lag) AS pg_catalog.text), '0') END \
         FROM pg_catalog.pg_stat_replication r WHERE r.state IS NULL OR r.state <> 'backup' LIMIT 100; \
         SELECT pg_catalog.count(*) FILTER (WHERE a.state = 'active' AND a.backend_type = 'client backend' AND a.pid <> pg_catalog.pg_backend_pid()), \
         pg_catalog.count(*) FILTER (WHERE a.query = '<insufficient privilege>') FROM pg_catalog.pg_stat_activity a; \
         SELECT CAST(COALESCE(GREATEST(\
         (SELECT pg_catalog.max(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), r.replay_lsn)) FROM pg_catalog.pg_stat_replication r), \
         (SELECT pg_catalog.max(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.restart_lsn)) FROM pg_catalog.pg_replication_slots s)), 0) AS pg_catalog.int8), \
         (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication r WHERE r.state IS NULL); \
         SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d ON d.oid = l.database WHERE d.datname = pg_catalog.current_database() \
         AND l.relation = ANY (ARRAY[{}]::pg_catalog.oid[]) AND l.mode = 'ShareUpdateExclusiveLock' AND l.granted AND l.pid <> pg_catalog.pg_backend_pid())",
        oids.join(", ")
    ))
}

pub(in crate::session) fn read(told: &Told, throttle: &Throttle) -> Load {
    const RIGHT: &str = "this user is not shown it (pg_monitor)";
    let number = |statement: usize, column: usize| -> Option<u64> {
        told.each.get(statement)?.0.rows.first()?.get(column)?.as_deref()?.parse().ok()
    };
    let shown = |statement: usize| match (number(statement, 0), number(statement, 1)) {
        (Some(measured), Some(0)) => Ok(measured),
        (_, Some(_)) => Err(RIGHT.to_owned()),
        _ => Err("the server does not say".to_owned()),
    };
    let replica = |row: &Vec<Option<String>>| {
        let lag = row.get(1)?.as_deref().and_then(|seconds| seconds.parse::<f64>().ok());
        Some((row.first()?.clone()?, lag))
    };
    let replicas = match told.each.first() {
        Some((answer, _)) => Ok(answer.rows.iter().filter_map(replica).collect()),
        None => Err("the server does not say".to_owned()),
    };
    let vacuumed = throttle.vacuum && told.cell(3) == Some("t");
    Load { replicas, running: shown(1), backlog: shown(2), vacuumed }
}
