//! Every bound in one place, each with its reason.
//!
//! Invariant: whatever grows with what arrives from outside (a client, a database) grows up to a number that stands here.

use std::time::Duration;

// What is asked of the database.

/// A table is looked up again after this long, even if no schema change was seen: another session may have made one.
pub const CATALOG_TTL: Duration = Duration::from_secs(30);
/// Tables remembered by one session; a session that guards more than this forgets the oldest.
pub const CATALOG_TABLES: usize = 256;
/// Levels of foreign keys followed downwards. Real schemas stay below ten; a longer walk is a cycle.
pub const CASCADE_LEVELS: usize = 16;
/// Branches of a cascade tree: each costs one counting question.
pub const CASCADE_BRANCHES: usize = 100;
/// A question made from the client's text and nested levels of foreign keys grows no longer than this, else it is not asked.
pub const QUESTION_BYTES: usize = 512 * 1024;
/// Tables that one removal is listed with; beyond it the answer is "unknown", not a shortened list.
pub const REMOVED_TABLES: usize = 2_000;
/// Tables of one removal that are counted, all in one question each: beyond it the server's estimates must do.
pub const REMOVED_COUNTED: usize = 64;
/// Dependents of a removal that are described one by one.
pub const REMOVED_DEPENDENTS: usize = 200;
/// A table of up to this many rows is counted for "of N rows"; beyond it the server's estimate is shown, and called one.
pub const EXACT_TOTAL_ROWS: u64 = 100_000;

// What a preview shows.

/// Characters of one cell of the sample: enough for an id, a time, the start of a text.
pub const CELL_CHARS: usize = 40;
/// Width of the sample: columns past it are counted, not drawn.
pub const SAMPLE_CHARS: usize = 160;
/// Lines of one list (tables, dependents, branches) in a preview.
pub const PREVIEW_LINES: usize = 40;
/// The whole detail: some clients and log collectors cut or choke on more.
pub const PREVIEW_BYTES: usize = 16 * 1024;
