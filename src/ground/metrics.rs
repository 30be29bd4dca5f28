//! The names of all metrics with what they mean, in one place: whoever counts uses the constant, the admin endpoint describes
//! what is listed here. Labels have few values by design (verdict, rule, code, leg…), never a user's name or a text.

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

pub const SESSIONS: &str = "sluice_sessions";
pub const LARGE_BYTES: &str = "sluice_large_bytes";
pub const SESSIONS_TOTAL: &str = "sluice_sessions_total";
pub const LOGINS_TOTAL: &str = "sluice_logins_total";
pub const LOGINS_WAITING: &str = "sluice_logins_waiting";
pub const STATEMENTS_TOTAL: &str = "sluice_statements_total";
pub const REFUSALS_TOTAL: &str = "sluice_refusals_total";
pub const FINDINGS_TOTAL: &str = "sluice_findings_total";
pub const QUESTIONS_SECONDS: &str = "sluice_questions_seconds";
pub const CHALLENGES_TOTAL: &str = "sluice_challenges_total";
pub const RECORD_FAILURES_TOTAL: &str = "sluice_record_failures_total";
pub const RECORD_FAILING: &str = "sluice_record_failing";
pub const STORE_FAILURES_TOTAL: &str = "sluice_store_failures_total";
pub const POLICY_RELOADS_TOTAL: &str = "sluice_policy_reloads_total";

/// Name, kind, labels and meaning of every metric.
pub const ALL: &[(&str, MetricKind, &str)] = &[
    (SESSIONS, MetricKind::Gauge, "Client sessions open now, by listener."),
    (
        LARGE_BYTES,
        MetricKind::Gauge,
        "Bytes held of large messages and prepared texts ([sessions] memory_bytes bounds them).",
    ),
    (SESSIONS_TOTAL, MetricKind::Counter, "Client sessions accepted, by listener."),
    (LOGINS_TOTAL, MetricKind::Counter, "Logins, by listener and outcome (accepted, wrong, refused, left, crowded)."),
    (LOGINS_WAITING, MetricKind::Gauge, "Connections that have not logged in yet."),
    (
        STATEMENTS_TOTAL,
        MetricKind::Counter,
        "Statements judged, by verdict (allow, warn, confirm, approve, deny); those without findings are added once a minute.",
    ),
    (REFUSALS_TOTAL, MetricKind::Counter, "Statements refused, by code (SL001 to SL007)."),
    (FINDINGS_TOTAL, MetricKind::Counter, "Findings, by rule and level, those of observe mode included."),
    (
        QUESTIONS_SECONDS,
        MetricKind::Histogram,
        "Time spent asking the guarded database about one statement, in seconds.",
    ),
    (CHALLENGES_TOTAL, MetricKind::Counter, "Challenges, by outcome (issued, used, rejected, expired, misused)."),
    (RECORD_FAILURES_TOTAL, MetricKind::Counter, "Events that the record did not take; the statements were refused."),
    (RECORD_FAILING, MetricKind::Gauge, "1 while the record cannot be written, else 0."),
    (STORE_FAILURES_TOTAL, MetricKind::Counter, "Requests that the store did not answer; the statements were refused."),
    (POLICY_RELOADS_TOTAL, MetricKind::Counter, "Policy reloads, by outcome (taken, refused)."),
];

/// Bounds of the buckets of [`QUESTIONS_SECONDS`]: from an index look-up to past the default `preview_timeout`.
pub const QUESTIONS_SECONDS_BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0];
