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
/// One packet of a MySQL login: the answer to a greeting carries attributes of up to 64 KiB (MySQL cuts what it keeps of them at that,
/// `performance_schema_session_connect_attrs_size`), names of at most some hundred bytes, and a password.
pub const LOGIN_PACKET_BYTES_MAX: usize = 128 << 10;
/// Words of a MySQL login, either way. Real ones have at most seven; numbers are counted by bytes, and one that came round to 0 would be a
/// command's.
pub const LOGIN_WORDS_MAX: usize = 64;
/// How long a client that is sent away may take to hear why.
pub const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);
/// Control answers of an upstream that we look into (command tags, settings, errors). A longer one is an upstream gone wrong;
/// an error text repeats the statement's line at most, so 16 MiB is far above what a server sends.
pub const ANSWER_FRAME_BYTES_MAX: usize = 16 << 20;
/// What one read asks the system for: TLS records are 16 KiB, and one such read keeps up with loopback.
pub const READ_BYTES: usize = 16 << 10;
/// What one read asks for while a side sends more than that at once: half the system calls for rows by the thousand, and small
/// enough for a core's cache.
pub const BULK_READ_BYTES: usize = 64 << 10;
/// Buffers that a thread keeps for its sessions: as many as can be in use at one moment is one, two while a message is cut; the rest
/// is for slow readers.
pub const BUFFERS_POOLED: usize = 64;
pub const BULK_BUFFERS_POOLED: usize = 8;
/// Pieces up to so many bytes together are sent from one place: copying them costs less than telling the system of each.
pub const GATHERED_BYTES: usize = 1 << 10;
/// Bytes of commands that are read ahead of the answer to the one before.
pub const AHEAD_BYTES_MAX: usize = 256 << 10;
/// Bytes waiting for a slow reader before we stop reading for it.
pub const OUTBOX_BYTES_MAX: usize = 256 << 10;
/// Messages of one pipeline whose answers are still due. Beyond it the client waits until some arrived.
pub const PIPELINE_MESSAGES_MAX: usize = 10_000;
/// What a session may hold of messages, and of prepared texts, without its counting among all sessions' (`[sessions] memory_bytes`): a
/// thousand sessions at that are 2 GiB.
pub const ROOM_OWN_BYTES: usize = 1 << 20;
/// Texts of a session's named prepared statements: an ORM with ten thousand of them, at 6 kB each.
pub const PREPARED_BYTES_MAX: usize = 64 << 20;
/// Prepared statements and portals remembered for a session; more are refused by name.
pub const PREPARED_MAX: usize = 100_000;
/// Rows of one answer to a question of ours.
pub const QUESTION_ROWS_MAX: usize = 20_000;
/// One answer to a question of ours, in bytes.
pub const QUESTION_BYTES_MAX: usize = 8 << 20;
/// Over the deadline that the database keeps itself, how long its word is waited for before the connection counts as lost.
pub const QUESTION_GRACE: Duration = Duration::from_secs(5);
/// A cancel request's own connection.
pub const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

// Logging in.

/// One message of a SASL exchange. PostgreSQL's own bound was 1,024 bytes up to 17 (`PG_MAX_SASL_MESSAGE_LENGTH`, auth-sasl.c); a
/// SCRAM message has two nonces, a certificate's digest and a proof in it, below 300.
pub const SASL_BYTES_MAX: usize = 1_024;
/// Rounds of PBKDF2 that a verifier may ask for: a quarter of a second of one core at the most. PostgreSQL's default is 4,096.
pub const SCRAM_ITERATIONS_MAX: u32 = 1_000_000;
/// The same of a verifier of caching_sha2_password: half a second of one core at the most. MySQL's default is 5,000, and it would go up to
/// 4,095,000.
pub const SHA2_ROUNDS_MAX: u32 = 1_000_000;
/// MySQL takes no longer password of caching_sha2_password (`CACHING_SHA2_PASSWORD_MAX_PASSWORD_LENGTH`); what it takes to check one grows with it.
pub const SHA2_PASSWORD_BYTES_MAX: usize = 256;
/// PostgreSQL makes salts of 16 bytes; other tools of up to 32.
pub const SCRAM_SALT_BYTES_MAX: usize = 128;
/// PostgreSQL cuts a longer name off (`NAMEDATALEN` - 1): it would be checked as one user and let in as another.
pub const USER_NAME_BYTES_MAX: usize = 63;
/// A users file is read whole: a verifier is 133 bytes, so this is a hundred thousand users.
pub const USERS_FILE_BYTES_MAX: u64 = 16 << 20;
/// A file that holds one password.
pub const PASSWORD_FILE_BYTES_MAX: u64 = 8 << 10;
/// Looking a verifier up in the database, connecting included: an index look-up that takes longer is a database in trouble.
pub const AUTH_QUERY_DEADLINE: Duration = Duration::from_secs(5);
/// The answer to it: one row with a name and a verifier.
pub const AUTH_QUERY_BYTES_MAX: usize = 64 << 10;
/// Addresses and users whose wrong tries are remembered, a few hundred bytes each. Past it those go first whose window ends first.
pub const LOGIN_TRIES_MAX: usize = 10_000;
/// A login that takes longer than this has met with trouble, or is none: it gives way to others where room is short. A login takes
/// milliseconds, and at its slowest a second more ([`LOGIN_DELAY`]) and a slow database; nobody types a password meanwhile (psql
/// asks for it between two connections).
pub const LOGIN_UNHURRIED: Duration = Duration::from_secs(5);
/// Kinds of refused logins that are added up at the same time, a few hundred bytes and two lines a minute each; and those of one
/// address, so that who tries a thousand names there is not a thousand lines.
pub const REFUSED_KINDS_MAX: usize = 1_000;
pub const REFUSED_KINDS_OF_PLACE_MAX: usize = 20;
/// Why a login was refused, in the log and the record: a server's message may repeat what it was sent.
pub const REFUSED_WHY_BYTES_MAX: usize = 300;
/// PostgreSQL cuts an `application_name` off as it does other names (`NAMEDATALEN` - 1) where it shows it.
pub const APPLICATION_BYTES_MAX: usize = 63;
/// The first answer to a login is given at a multiple of this after it came. A user who exists is looked up some 20 µs more slowly
/// than one who does not (the database has a row to send); a look-up that takes less than this tells nothing any more, and of one
/// that takes longer the difference is far below what the steps add by chance. Logins cost some milliseconds anyway.
pub const LOGIN_ANSWER_STEP: Duration = Duration::from_millis(2);
/// How much longer each login of a user takes who is being tried from many addresses.
pub const LOGIN_DELAY: Duration = Duration::from_secs(1);

// The store.

/// A statement with its parameters and preview past this is refused rather than kept: a person cannot have read it, and a
/// thousand of them must not fill the disk.
pub const CHALLENGE_BYTES_MAX: usize = 16 << 20;
/// Challenges that one principal may have pending; making one more drops the oldest. A script that loops over a refused
/// statement must not fill the store, and a person cannot confirm more than this within a token's life.
pub const CHALLENGES_PENDING_MAX: usize = 64;
/// What one principal's pending challenges may take, as written (values are written in hexadecimal): one of the longest texts with its
/// preview, or any number of everyday ones. Past it that principal is refused, and nobody else.
pub const CHALLENGES_BYTES_OF_ONE_MAX: usize = 40 << 20;
/// What everybody's may take together: half of the store. Past it only those go on who have less than the next bound says.
pub const CHALLENGES_BYTES_MAX: usize = 512 << 20;
/// So much is everyone's though others have filled the store: everyday statements with their previews.
pub const CHALLENGES_BYTES_OF_ONE_ALWAYS: usize = 1 << 20;
/// Challenges that are over, of one principal: more than a person uses in a day, and a script that confirms in a loop is bounded.
pub const CHALLENGES_OVER_MAX: usize = 1_000;
/// The part of a text that `SLUICE PENDING` shows.
pub const PENDING_SHOWN_CHARS: usize = 200;
/// The store's write-ahead log is cut back to this when it is not needed any more.
pub const STORE_WAL_BYTES_KEPT: usize = 16 << 20;
/// Free pages that one round gives back to the disk, 16 MiB: moving them takes some tens of milliseconds.
pub const STORE_PAGES_SHRUNK: u32 = 4_096;
/// The store's file, in pages of 4 KiB: 1 GiB. Past it the store says it is full and statements are refused.
pub const STORE_PAGES_MAX: u32 = 262_144;
/// Requests that may wait for the store's thread.
pub const STORE_QUEUE_MAX: usize = 256;
/// How long a request to the store may take, waiting included: a stuck disk must not hang a session.
pub const STORE_DEADLINE: Duration = Duration::from_secs(3);
/// How long SQLite waits for another process that writes: shorter than the deadline, so that its reason is heard.
pub const STORE_BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// About how long one batch of a job may take: what others wait for its locks.
pub const BATCH_TIME: Duration = Duration::from_millis(200);
/// How long a batch waits for a lock before it is rolled back and tried again: what waits behind it is not held up for long.
pub const BATCH_LOCK_WAIT: Duration = Duration::from_secs(2);
/// For a batch's statement, or an index over all that a job has archived, before the database is given up.
pub const BATCH_ANSWER: Duration = Duration::from_secs(3_600);
/// Tries of one batch that somebody was in the way of, before its job pauses; with what is waited between, some two minutes.
pub const BATCH_TRIES_MAX: u32 = 25;
/// What is waited between them, times how many there were.
pub const BATCH_BACKOFF: Duration = Duration::from_millis(100);
/// How often whoever waits for a job is told how far it is.
pub const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How often, and how far apart, a job's lock is tried for: a database notices within that time that a Sluice was killed.
pub const JOB_LOCK_TRIES: u32 = 30;
pub const JOB_LOCK_PAUSE: Duration = Duration::from_millis(100);
/// How often a job that waits looks for what somebody wants of it: each time the store waits for the disk.
pub const WISH_EVERY: Duration = Duration::from_millis(500);
/// A running job that was not heard of for so long has lost who ran it.
pub const JOB_SILENT: Duration = Duration::from_secs(30);
/// Tables that the subqueries of a change may read for it to be cut into batches.
pub const TABLES_READ_MAX: usize = 16;
/// Archives past their retention that are dropped behind one job.
pub const ARCHIVES_DROPPED_MAX: usize = 5;
/// Rows that an undo left as they are, shown by their keys.
pub const LEFT_SHOWN_MAX: usize = 10;
/// Jobs that a list shows: the latest.
pub const JOBS_SHOWN_MAX: usize = 200;
/// How long a challenge that is over is kept, so that its token can still be answered with what became of it.
pub const CHALLENGE_KEEP: Duration = Duration::from_secs(24 * 60 * 60);
/// Wrong tokens a principal may try in one window. With 2^40 tokens, ten tries in ten minutes find one of a user's 64 pending
/// tokens with a chance of one in 1.7 thousand million.
pub const WRONG_TRIES_MAX: u32 = 10;
pub const WRONG_TRIES_WINDOW: Duration = Duration::from_secs(600);
/// Principals whose wrong tries are remembered; with the table full, a wrong try by one more is answered as if it were over the limit.
pub const WRONG_TRIES_PRINCIPALS_MAX: u32 = 10_000;

/// Statements of scripts that the ledger holds. At some 300 bytes each they take a third of the store; with the ledger full, new
/// statements of scripts are refused to whoever has many rather than old ones forgotten, which would let them run again.
pub const LEDGER_ENTRIES_MAX: u64 = 1_000_000;
/// Of them, those that one principal may have entered: one who fills the ledger is refused, and nobody else.
pub const LEDGER_ENTRIES_OF_ONE_MAX: u64 = 200_000;
/// So many are everyone's though others have filled the ledger.
pub const LEDGER_ENTRIES_OF_ONE_ALWAYS: u64 = 5_000;
/// How long the ledger keeps an entry: more than a year, as some scripts come back with the year.
pub const LEDGER_KEEP: Duration = Duration::from_secs(400 * 24 * 60 * 60);
/// Open entries that one `SLUICE SCRIPTS` asks the database about, each with a question.
pub const LEDGER_OPEN_MAX: usize = 200;
/// Scripts that one `SLUICE SCRIPTS` lists.
pub const LEDGER_SHOWN_MAX: usize = 200;

// The record.

/// The part of a statement's text that a line of the record holds; what was cut is said.
pub const AUDIT_STATEMENT_BYTES_MAX: usize = 64 << 10;
/// Any other text in a line (names, messages), each.
pub const AUDIT_TEXT_BYTES_MAX: usize = 1 << 10;
/// Findings listed in a line.
pub const AUDIT_FINDINGS_MAX: usize = 64;
/// Parameter values listed in a line, where they are recorded at all; each is cut as any other text.
pub const AUDIT_PARAMETERS_MAX: usize = 128;
/// A rotation that failed is tried again after this long: meanwhile the old file goes on, and no line is refused for it.
pub const AUDIT_ROTATE_AGAIN: Duration = Duration::from_secs(60);
/// A whole line. The bounds above keep lines under it; it also bounds how far back a last line is searched for.
pub const AUDIT_LINE_BYTES_MAX: usize = 2 << 20;

// The admin endpoint.

/// Connections to the admin endpoint at once: a few probes and a scraper.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// A connection to the admin endpoint lives this long, idle or not: a silent client must not hold one of the places for ever.
pub const ADMIN_CONNECTION_AGE_MAX: Duration = Duration::from_secs(60);
/// How often histograms are folded: samples wait in memory until then.
pub const METRICS_UPKEEP_EVERY: Duration = Duration::from_secs(5);
// What is asked of the database.

/// A table is looked up again after this long, even if no schema change was seen: another session may have made one.
pub const CATALOG_TTL: Duration = Duration::from_secs(2);
/// Texts of one transaction's schema changes that are kept until its COMMIT: past it, what more there are change is held against it.
pub const SCHEMA_CHANGES_BYTES_MAX: usize = 1 << 20;
/// What names lead to is asked for again after this long. What changes the schema through this Sluice is noticed at once; only
/// what goes past it is noticed so late.
pub const REACH_TTL: Duration = Duration::from_secs(2);
/// Tables remembered by one session; a session that guards more than this forgets the oldest.
pub const CATALOG_TABLES: usize = 256;
/// Levels of foreign keys followed downwards. Real schemas stay below ten; a longer walk is a cycle.
pub const CASCADE_LEVELS: usize = 16;
/// Branches of a cascade tree: each costs one counting question.
pub const CASCADE_BRANCHES: usize = 100;
/// A question made from the client's text and nested levels of foreign keys grows no longer than this, else it is not asked.
pub const QUESTION_BYTES: usize = 512 * 1024;
/// How long a lock is waited for where the statement itself would wait for it: the client's own timeouts end it before.
pub const LOCK_WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Tables that one removal is listed with; beyond it the answer is "unknown", not a shortened list.
pub const REMOVED_TABLES: usize = 2_000;
/// Objects that the statements of one message may name for removal (DROP, TRUNCATE, dropped columns): each takes questions of its own,
/// and nobody reads a longer list before confirming it. A test suite that empties every table of a large schema stays below.
pub const REMOVALS_SHOWN_MAX: usize = 1_000;
/// Tables of one removal that are counted, all in one question each: beyond it the server's estimates must do.
pub const REMOVED_COUNTED: usize = 64;
/// Dependents of a removal that are described one by one.
pub const REMOVED_DEPENDENTS: usize = 200;
/// A table of up to this many rows is counted for "of N rows"; beyond it the server's estimate is shown, and called one.
pub const EXACT_TOTAL_ROWS: u64 = 100_000;

/// One run of a rehearsal: it holds the locks of the real thing, and is rolled back for nothing if it takes longer.
pub const REHEARSAL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a rehearsal waits for a lock: behind it, everybody else would wait too.
pub const REHEARSAL_LOCK_TIMEOUT: Duration = Duration::from_secs(2);

// What a preview shows.

/// Characters of one cell of the sample: enough for an id, a time, the start of a text.
pub const CELL_CHARS: usize = 40;
/// Width of the sample: columns past it are counted, not drawn.
pub const SAMPLE_CHARS: usize = 160;
/// Lines of one list (tables, dependents, branches) in a preview.
pub const PREVIEW_LINES: usize = 40;
/// The whole detail: some clients and log collectors cut or choke on more.
pub const PREVIEW_BYTES: usize = 16 * 1024;

// The reading of SQL.

/// The longest text that is parsed. A parsed text costs about fifty times its size in memory; longer ones (dumps of INSERTs) are
/// only glanced at, and unread if the glance does not find them harmless.
pub const SQL_READ_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Tokens of a text that is parsed: parsing takes time by the token, and while one text is parsed no other is (pg_query is not
/// reentrant), so this bounds how long one session can hold up the others: about a tenth of a second. A list of 32,767 parameters,
/// the most that drivers send, is far below it.
pub const SQL_TOKENS_MAX: usize = 100_000;
/// Comments within comments. PostgreSQL's lexer takes time with the square of the depth: 20,000 levels take 12 s.
pub const SQL_COMMENT_DEPTH_MAX: usize = 100;
/// A text longer than this is read beside the thread that serves its session, and others.
pub const SQL_READ_INLINE_BYTES_MAX: usize = 16 << 10;
/// So is one longer than this glanced at, which is quicker.
pub const SQL_GLANCE_INLINE_BYTES_MAX: usize = 256 << 10;

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

/// Parentheses within parentheses in a text of MySQL's, blocks within blocks of its code, and operators within operators of a condition
/// that is reasoned over: they are read recursively, on the stack of the thread that serves the session, a few kilobytes a level. What
/// people and tools write stays below a tenth.
pub const SQL_PARENTHESES_MAX: usize = 200;
pub const SQL_BLOCK_DEPTH_MAX: usize = 64;
pub const SQL_EXPRESSION_DEPTH_MAX: usize = 64;

/// Tables in one list of joined tables: MySQL and MariaDB join at most 61.
pub const SQL_JOINED_TABLES_MAX: usize = 64;

/// Tokens of a statement of MySQL's that is shown to a second parser: that one recurses, and drops its trees recursively.
pub const SQL_SECOND_TOKENS_MAX: usize = 400;

/// Statements in one text. Each costs a few kilobytes of facts.
pub const SQL_STATEMENTS_MAX: usize = 100_000;

/// The longest text that is shown or recorded after its literals were taken out.
pub const SQL_REDACTED_BYTES_MAX: usize = 16 * 1024;

/// Hints in one statement, and the length of one value: they are kept with every statement.
pub const SQL_HINTS_MAX: usize = 16;
pub const SQL_HINT_VALUE_BYTES_MAX: usize = 256;

/// The longest text whose reading is kept for the next time it is sent: longer ones are seldom sent twice.
pub const READING_KEPT_BYTES_MAX: usize = 4 * 1024;
/// Texts of readings that one thread keeps, in each of two generations. A reading takes about ten times its text.
pub const READINGS_BYTES_MAX: usize = 512 * 1024;

/// The longest text that is parsed for its fingerprint alone; longer ones get a digest of their redacted beginning.
pub const SQL_FINGERPRINT_BYTES_MAX: usize = 8 * 1024;

/// Where asking what names lead to takes long, it lasts longer, up to this: a change that went past Sluice is noticed later by as much.
pub const REACH_TTL_MAX: Duration = Duration::from_secs(60);

/// So long the connection of a client that went away is kept for a change of the schema that the server has not answered yet: longer than
/// servers wait for a lock by default but for MySQL's lock_wait_timeout of a year, whom nobody waits for.
pub const SCHEMA_CHANGE_OUTLASTED: Duration = Duration::from_secs(600);

/// Lines that Sluice has to say to one statement by SHOW WARNINGS: a preview and its sample. As many as a server keeps by default
/// (`max_error_count`).
pub const CONDITIONS_MAX: usize = 1024;
