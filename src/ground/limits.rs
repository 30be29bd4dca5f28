//! Every bound in one place, each with its reason. A buffer, a queue or a wait without one does not exist.

use std::time::Duration;

/// PostgreSQL's own bound on a startup packet (`MAX_STARTUP_PACKET_LENGTH`, postmaster.c, 10,000 in 13 to 18).
pub const STARTUP_BYTES_MAX: usize = 10_000;
/// PostgreSQL's own bound on a password message (`PG_MAX_AUTH_TOKEN_LENGTH`, auth.c).
pub const AUTH_BYTES_MAX: usize = 65_535;
/// Messages that carry only names and numbers (`PQ_SMALL_MESSAGE_LIMIT`, libpq.h).
pub const SMALL_FRAME_BYTES_MAX: usize = 10_000;
/// Messages that carry statements and values (`PQ_LARGE_MESSAGE_LIMIT`: MaxAllocSize - 1).
pub const LARGE_FRAME_BYTES_MAX: usize = 0x3fff_ffff - 1;
/// Control answers of an upstream that we look into (command tags, settings, errors). A longer one is an upstream gone wrong;
/// an error text repeats the statement's line at most, so 16 MiB is far above what a server sends.
pub const ANSWER_FRAME_BYTES_MAX: usize = 16 << 20;
/// What one read asks the system for: TLS records are 16 KiB, and one such read keeps up with loopback.
pub const READ_BYTES: usize = 16 << 10;
/// Bytes waiting for a slow reader before we stop reading for it.
pub const OUTBOX_BYTES_MAX: usize = 256 << 10;
/// Messages of one pipeline whose answers are still due. Beyond it the client waits until some arrived.
pub const PIPELINE_MESSAGES_MAX: usize = 10_000;
/// Prepared statements and portals remembered for a session; more are refused by name.
pub const PREPARED_MAX: usize = 100_000;
/// Texts longer than this are lexed but not parsed: see `sql::glance`.
pub const QUESTION_ROWS_MAX: usize = 20_000;
/// One answer to a question of ours, in bytes.
pub const QUESTION_BYTES_MAX: usize = 8 << 20;
/// Over the deadline that the database keeps itself, how long its word is waited for before the connection counts as lost.
pub const QUESTION_GRACE: Duration = Duration::from_secs(5);
/// A cancel request's own connection.
pub const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
