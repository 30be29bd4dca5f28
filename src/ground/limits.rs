//! Every bound in the house, with its reason. Nothing that comes from outside may grow past the one that applies to it.

/// The longest text that is parsed. A parsed text costs about fifty times its size in memory; longer ones (dumps of INSERTs) are
/// only glanced at, and unread if the glance does not find them harmless.
pub const SQL_READ_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The deepest tree a text may make, counted as tokens that could each add a level. PostgreSQL itself gives up on about 10,000
/// levels ("stack depth limit exceeded"), so what lies beyond could not run anyway.
pub const SQL_DEPTH_MAX: usize = 20_000;

/// Up to this depth a text is parsed on the caller's own stack; beyond it on a thread with a stack of its own. An unoptimised build
/// takes up to 40 KiB for one level of subqueries (two tokens), and a caller may have no more than 2 MiB.
pub const SQL_DEPTH_ON_CALLER_MAX: usize = 40;

/// The stack of that thread: so much a level, up to a bound. The authority gives up when its own C frames have taken 2 MiB, which
/// bounds the tree that is decoded, walked and dropped here; the deepest it lets through took less than half of the bound.
/// Reserved, not touched until used.
pub const SQL_STACK_BYTES_PER_LEVEL: usize = 64 * 1024;
pub const SQL_STACK_BYTES_MIN: usize = 8 * 1024 * 1024;
pub const SQL_STACK_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Statements in one text. Each costs a few kilobytes of facts.
pub const SQL_STATEMENTS_MAX: usize = 100_000;

/// The longest text that is shown or recorded after its literals were taken out.
pub const SQL_REDACTED_BYTES_MAX: usize = 16 * 1024;

/// Hints in one statement, and the length of one value: they are kept with every statement.
pub const SQL_HINTS_MAX: usize = 16;
pub const SQL_HINT_VALUE_BYTES_MAX: usize = 256;

/// The longest text that is parsed for its fingerprint alone; longer ones get a digest of their redacted beginning.
pub const SQL_FINGERPRINT_BYTES_MAX: usize = 64 * 1024;
