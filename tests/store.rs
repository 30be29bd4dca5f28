//! Stories of challenges and their store: every misuse of a token, races between processes, and being killed half-way.
//! The file opens and redeems as Sluice does; nothing is mocked but the time.

use jiff::Timestamp;
use sluice::change::challenge::{self, Draft, Misuse, check, check_statement, issue, look_up, redeem};
use sluice::ground::clock::{HandClock, after};
use sluice::ground::limits;
use sluice::ground::secret::Token;
use sluice::policy::scope::Principal;
use sluice::protocol::Parameters;
use sluice::store::kept::{Challenge, Context, Needs, Preview, ProtocolKind, Status, Waiting};
use sluice::store::ledger::{Beginning, Begun, Ending, Key};
use sluice::store::{Ended, Store, StoreError, Whose};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const TTL: Duration = Duration::from_secs(600);
const LISTENER: &str = "prod";

// One token, one story.

#[tokio::test]
async fn alice_confirms_what_she_was_shown_once() {
    let gate = Gate::open();
    let (token, made) = gate.refuse(&alice(), "DELETE FROM carts").await;
    let found = gate.type_token(&alice(), &token.to_string().to_lowercase()).await.expect("found");
    assert_eq!(found, made);
    let redeemable = check(&found, LISTENER, &alice(), &context(), gate.now()).expect("may");
    let redeemed = redeem(&gate.store, redeemable.clone(), gate.now()).await.expect("answers").expect("wins");
    assert_eq!(redeemed.challenge().statement, "DELETE FROM carts");
    assert_eq!(redeem(&gate.store, redeemable, gate.now()).await.expect("answers"), Err(Misuse::Used));
    let found = gate.type_token(&alice(), &token.to_string()).await.expect("still known");
    assert_eq!(check(&found, LISTENER, &alice(), &context(), gate.now()), Err(Misuse::Used));
}

#[tokio::test]
async fn every_misuse_has_its_answer() {
    type Case = (&'static str, fn(&mut Try), Result<(), Misuse>);
    let cases: &[Case] = &[
        ("as it should be", |_| {}, Ok(())),
        ("from another address", |t| t.by.address = "10.0.0.9".into(), Ok(())),
        ("from another program", |t| t.by.application = "pgcli".into(), Ok(())),
        ("no token at all", |t| t.typed = "please".into(), Err(Misuse::NotAToken)),
        ("a made-up token", |t| t.typed = "0000-0000".into(), Err(Misuse::Unknown)),
        ("by another user", |t| t.by.user = "mallory".into(), Err(Misuse::Unknown)),
        ("on another server", |t| t.listener = "staging", Err(Misuse::Unknown)),
        (
            "in another database",
            |t| t.by.database = "other".into(),
            Err(Misuse::OtherDatabase { database: "shop".into() }),
        ),
        (
            "under another search_path",
            |t| drop(t.context.insert("search_path".into(), "evil, public".into())),
            Err(Misuse::OtherContext { setting: "search_path".into(), was: Some("\"$user\", public".into()) }),
        ),
        (
            "with a setting gone",
            |t| drop(t.context.remove("role")),
            Err(Misuse::OtherContext { setting: "role".into(), was: Some("none".into()) }),
        ),
        (
            "with a setting more",
            |t| drop(t.context.insert("zone".into(), "UTC".into())),
            Err(Misuse::OtherContext { setting: "zone".into(), was: None }),
        ),
        ("at its last instant", |t| t.later = TTL - Duration::from_millis(1), Ok(())),
        ("at its end", |t| t.later = TTL, Err(Misuse::Expired)),
        ("after its end, swept", |t| (t.later, t.sweep) = (TTL * 2, true), Err(Misuse::Expired)),
        ("used before", |t| t.end_first = Some(Status::Used), Err(Misuse::Used)),
        ("rejected before", |t| t.end_first = Some(Status::Rejected), Err(Misuse::Rejected)),
        ("when it needs another's approval", |t| t.needs = Needs::Approve, Err(Misuse::NeedsApproval)),
        (
            "by another user, when it was used",
            |t| (t.by.user, t.end_first) = ("mallory".into(), Some(Status::Used)),
            Err(Misuse::Unknown),
        ),
    ];
    for (story, change, expected) in cases {
        assert_eq!(Try::run(change).await, *expected, "{story}");
    }
}

#[tokio::test]
async fn after_too_many_wrong_tokens_the_right_one_fails_too() {
    let gate = Gate::open();
    let (token, _) = gate.refuse(&alice(), "DELETE FROM carts").await;
    let (hers, _) = gate.refuse(&mallory(), "DELETE FROM carts").await;
    for _ in 0..limits::WRONG_TRIES_MAX {
        assert_eq!(gate.type_token(&mallory(), &token.to_string()).await, Err(Misuse::Unknown));
    }
    let blocked = gate.type_token(&mallory(), &hers.to_string()).await.expect_err("blocked");
    let Misuse::TooManyTries { until } = blocked else { panic!("{blocked:?}") };
    assert_eq!(until.duration_since(gate.now()).unsigned_abs(), limits::WRONG_TRIES_WINDOW);
    let elsewhere = Principal { database: "other".into(), ..mallory() };
    assert!(matches!(gate.type_token(&elsewhere, &hers.to_string()).await, Err(Misuse::TooManyTries { .. })));
    assert!(gate.type_token(&alice(), &token.to_string()).await.is_ok(), "others are not blocked");
    gate.hand.wind(limits::WRONG_TRIES_WINDOW);
    assert!(gate.type_token(&mallory(), &hers.to_string()).await.is_ok(), "the window is over");
}

#[tokio::test]
async fn a_text_that_is_no_token_costs_no_try() {
    let gate = Gate::open();
    let (token, _) = gate.refuse(&alice(), "DELETE FROM carts").await;
    for _ in 0..limits::WRONG_TRIES_MAX * 2 {
        assert_eq!(gate.type_token(&alice(), "oops").await, Err(Misuse::NotAToken));
    }
    assert!(gate.type_token(&alice(), &token.to_string()).await.is_ok());
}

#[tokio::test]
async fn rules_and_store_each_refuse_an_expired_token_alone() {
    let gate = Gate::open();
    let (_, made) = gate.refuse(&alice(), "DELETE FROM carts").await;
    let redeemable = check(&made, LISTENER, &alice(), &context(), gate.now()).expect("may");
    gate.hand.wind(TTL);
    let late = check(&made, LISTENER, &alice(), &context(), gate.now());
    assert_eq!(late, Err(Misuse::Expired));
    let late = redeem(&gate.store, redeemable, gate.now()).await.expect("answers");
    assert_eq!(late, Err(Misuse::Expired), "it expired between the check and the redeeming");
}

#[tokio::test]
async fn a_token_with_a_statement_must_be_for_that_statement() {
    let gate = Gate::open();
    let bound = Parameters {
        types: vec![23],
        formats: vec![1],
        values: vec![Some(vec![0, 0xff].into()), None],
        ..Parameters::default()
    };
    let made = gate.make(&alice(), "DELETE FROM carts WHERE id = $1", Some(&bound)).await.1;
    assert_eq!(check_statement(&made, "DELETE FROM carts WHERE id = $1", Some(&bound)), Ok(()));
    assert_eq!(made.parameters.as_ref().map(challenge::restored), Some(bound.clone()));
    let other_value = Parameters { values: vec![Some(vec![0, 0xfe].into()), None], ..bound.clone() };
    for (text, parameters) in [
        ("DELETE FROM carts WHERE id = $1 ", Some(&bound)),
        ("DELETE FROM carts WHERE id = $1", Some(&other_value)),
        ("DELETE FROM carts WHERE id = $1", None),
    ] {
        assert_eq!(check_statement(&made, text, parameters), Err(Misuse::OtherStatement), "{text}");
    }
}

// The store by itself.

#[tokio::test]
async fn everything_comes_back_after_a_restart() {
    let dir = tempfile::tempdir().expect("dir");
    let gate = Gate::on(dir.path());
    let bound = Parameters {
        types: vec![17],
        formats: vec![1],
        values: vec![Some(vec![0, 1, 0xff].into()), None],
        ..Parameters::default()
    };
    let (token, made) = gate.make(&alice(), "DELETE FROM carts -- ' \0 ü", Some(&bound)).await;
    gate.type_token(&mallory(), "0000-0000").await.expect_err("wrong");
    let hand = gate.hand.clone();
    drop(gate);
    let gate = Gate { hand, ..Gate::on(dir.path()) };
    assert_eq!(gate.type_token(&alice(), &token.to_string()).await, Ok(made.clone()));
    let holder = challenge::holder(LISTENER, &alice());
    let waiting = Waiting {
        id: made.id,
        needs: made.needs,
        statement: made.statement.clone(),
        message: made.preview.message.clone(),
        expires: made.expires,
    };
    assert_eq!(gate.store.pending(&holder, gate.now()).await, Ok(vec![waiting]));
    for _ in 1..limits::WRONG_TRIES_MAX {
        assert_eq!(gate.type_token(&mallory(), "0000-0000").await, Err(Misuse::Unknown));
    }
    assert!(
        matches!(gate.type_token(&mallory(), "0000-0000").await, Err(Misuse::TooManyTries { .. })),
        "tries outlive a restart"
    );
}

#[tokio::test]
async fn pending_lists_one_principals_own_newest_first() {
    let gate = Gate::open();
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.insert(0, gate.refuse(&alice(), &format!("DELETE FROM t{n}")).await.1.id);
        gate.hand.wind(Duration::from_secs(1));
    }
    gate.refuse(&mallory(), "DELETE FROM carts").await;
    gate.refuse(&Principal { database: "other".into(), ..alice() }, "DELETE FROM carts").await;
    gate.store.reject(ids.remove(1), gate.now()).await.expect("answers");
    let pending = |who: Principal| {
        let (store, now) = (gate.store.clone(), gate.now());
        async move { store.pending(&challenge::holder(LISTENER, &who), now).await.expect("answers") }
    };
    assert_eq!(pending(alice()).await.iter().map(|one| one.id).collect::<Vec<_>>(), ids);
    assert_eq!(gate.store.pending_total(gate.now()).await, Ok(4));
    gate.hand.wind(TTL);
    assert_eq!(pending(alice()).await, vec![]);
    assert_eq!(gate.store.pending_total(gate.now()).await, Ok(0));
}

#[tokio::test]
async fn the_janitor_forgets_what_is_long_over() {
    let gate = Gate::open();
    let (token, made) = gate.refuse(&alice(), "DELETE FROM carts").await;
    gate.hand.wind(TTL);
    assert_eq!(gate.store.sweep(gate.now()).await.expect("sweeps").expired, 1);
    assert_eq!(gate.type_token(&alice(), &token.to_string()).await.expect("known").status, Status::Expired);
    assert_eq!(gate.store.redeem(made.id, gate.now()).await, Ok(Ended::Before(Status::Expired)));
    gate.hand.wind(limits::CHALLENGE_KEEP + Duration::from_secs(1));
    assert_eq!(gate.store.sweep(gate.now()).await.expect("sweeps").forgotten, 1);
    assert_eq!(gate.type_token(&alice(), &token.to_string()).await, Err(Misuse::Unknown));
    assert_eq!(gate.store.redeem(made.id, gate.now()).await, Ok(Ended::Unknown));
}

#[tokio::test]
async fn one_principal_cannot_fill_the_store() {
    let gate = Gate::open();
    let (oldest, _) = gate.refuse(&alice(), "DELETE FROM t0").await;
    let (others, _) = gate.refuse(&mallory(), "DELETE FROM t0").await;
    for n in 0..limits::CHALLENGES_PENDING_MAX {
        gate.hand.wind(Duration::from_millis(5));
        gate.refuse(&alice(), &format!("DELETE FROM t{n}")).await;
    }
    assert_eq!(gate.store.pending_total(gate.now()).await, Ok(limits::CHALLENGES_PENDING_MAX as u64 + 1));
    assert_eq!(gate.type_token(&alice(), &oldest.to_string()).await, Err(Misuse::Unknown));
    assert!(gate.type_token(&mallory(), &others.to_string()).await.is_ok());
}

#[tokio::test]
async fn a_text_too_long_to_read_is_refused_with_its_reason() {
    let gate = Gate::open();
    let text = "x".repeat(limits::CHALLENGE_BYTES_MAX + 1);
    let (_, challenge) = gate.draft(&alice(), &text, None);
    let refused = gate.store.create(challenge).await.expect_err("too large");
    assert!(matches!(refused, StoreError::TooLarge { .. }));
    assert!(refused.to_string().contains("holds at most 16777216"), "{refused}");
}

#[test]
fn what_cannot_be_opened_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("dir");
    let path = |name: &str| format!("sqlite:{}", dir.path().join(name).display());
    for url in ["postgres://db/sluice", "mysql:x", "sluice.db", "", "sqlite:"] {
        let refused = Store::open(url).expect_err(url);
        assert!(matches!(refused, StoreError::UnknownScheme(_)), "{url}: {refused}");
    }
    fs::write(dir.path().join("text.db"), "this is a text of some length, and certainly no database".repeat(40))
        .expect("writes");
    assert!(matches!(Store::open(&path("text.db")), Err(StoreError::NotOurs(_))));

    let foreign = rusqlite::Connection::open(dir.path().join("foreign.db")).expect("opens");
    foreign.execute_batch("CREATE TABLE theirs (x)").expect("creates");
    assert!(matches!(Store::open(&path("foreign.db")), Err(StoreError::NotOurs(_))));

    drop(Store::open(&path("newer.db")).expect("opens"));
    let newer = rusqlite::Connection::open(dir.path().join("newer.db")).expect("opens");
    newer.execute_batch("PRAGMA user_version = 99").expect("sets");
    assert_eq!(Store::open(&path("newer.db")).expect_err("newer"), StoreError::Newer { found: 99, known: 5 });
    assert!(matches!(Store::open(&path("none/x.db")), Err(StoreError::File(_))));
}

/// As version 2 made them; version 1 had no ledger.
const BEFORE: &str = "
    CREATE TABLE challenge (
        id TEXT PRIMARY KEY, token_hash BLOB NOT NULL UNIQUE, listener TEXT NOT NULL, user TEXT NOT NULL,
        database TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('pending', 'approved', 'used', 'rejected', 'expired')),
        created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL, ended_ms INTEGER, approver TEXT, body TEXT NOT NULL
    ) STRICT;
    CREATE INDEX challenge_of_holder ON challenge (listener, user, status, created_ms);
    CREATE INDEX challenge_expiry ON challenge (status, expires_ms);
    CREATE INDEX challenge_end ON challenge (ended_ms);
    CREATE TABLE wrong_tries (
        listener TEXT NOT NULL, user TEXT NOT NULL, tries INTEGER NOT NULL, ends_ms INTEGER NOT NULL,
        PRIMARY KEY (listener, user)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX wrong_tries_end ON wrong_tries (ends_ms);
";
const LEDGER_BEFORE: &str = "
    CREATE TABLE ledger (
        listener TEXT NOT NULL, database TEXT NOT NULL, script TEXT NOT NULL, digest BLOB NOT NULL,
        statement TEXT NOT NULL, state TEXT NOT NULL CHECK (state IN ('begun', 'ran')), runs INTEGER NOT NULL,
        begun_ms INTEGER NOT NULL, begun_by TEXT NOT NULL, in_transaction TEXT, ran_ms INTEGER, ran_by TEXT, rows INTEGER,
        PRIMARY KEY (listener, database, script, digest)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX ledger_age ON ledger (begun_ms);
    INSERT INTO ledger VALUES ('prod', 'shop', 's', zeroblob(32), 'DELETE', 'ran', 1, 0, 'alice', NULL, 0, 'alice', 3);
";

#[tokio::test]
async fn a_store_of_an_older_sluice_is_taken_over() {
    for (version, scripts) in [(1, 0), (2, 1)] {
        let dir = tempfile::tempdir().expect("dir");
        drop(Gate::on(dir.path()));
        fs::remove_file(dir.path().join("sluice.db")).expect("its key stays");
        let old = database(dir.path());
        old.execute_batch(BEFORE).expect("as it was");
        if version == 2 {
            old.execute_batch(LEDGER_BEFORE).expect("as it was");
        }
        let marks = format!("PRAGMA user_version = {version}; PRAGMA application_id = {};", 0x534C_5543);
        old.execute_batch(&marks).expect("as it was");
        let key = Gate { store: open_beside(dir.path()), hand: HandClock::at(Timestamp::UNIX_EPOCH) };
        let (waits, waiting) = key.draft(&alice(), "DELETE FROM carts", None);
        let (over, used) = key.draft(&alice(), "DELETE FROM secret", None);
        for (challenge, status, ended) in [(&waiting, "pending", None), (&used, "used", Some(1i64))] {
            let row = rusqlite::params![
                challenge.id.to_string(),
                challenge.token_hash.as_bytes(),
                LISTENER,
                "alice",
                "shop",
                status,
                0,
                challenge.expires.as_millisecond(),
                ended,
                serde_json::to_string(challenge).expect("writes"),
            ];
            let insert = "INSERT INTO challenge VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, NULL, ?10)";
            old.execute(insert, row).expect("as it was");
        }
        drop(old);
        let gate = Gate::on(dir.path());
        assert_eq!(gate.type_token(&alice(), &waits.to_string()).await, Ok(waiting.clone()), "whole");
        let listed = gate.store.pending(&challenge::holder(LISTENER, &alice()), gate.now()).await.expect("answers");
        assert_eq!(
            listed.iter().map(|one| (one.id, &*one.statement)).collect::<Vec<_>>(),
            [(waiting.id, "DELETE FROM carts")]
        );
        let found = gate.type_token(&alice(), &over.to_string()).await.expect("known");
        assert_eq!((found.status, &*found.statement), (Status::Used, ""));
        assert_eq!(gate.store.ledger_scripts(LISTENER, "shop").await.expect("answers").len(), scripts);
        let db = database(dir.path());
        assert_eq!(
            number(&db, "SELECT coalesce(sum(entries), 0) FROM ledger_share WHERE user = 'alice'"),
            scripts as i64
        );
        assert_eq!(number(&db, "PRAGMA auto_vacuum"), 2, "it can shrink");
        assert_eq!(number(&db, "SELECT count(*) FROM challenge WHERE coalesce(body, stub) LIKE '%secret%'"), 0);
    }
}

#[tokio::test]
async fn what_is_over_gives_its_room_back() {
    let dir = tempfile::tempdir().expect("dir");
    let gate = Gate::on(dir.path());
    let text = format!("DELETE FROM carts WHERE note = '{}'", "x".repeat(4 << 20));
    let (used, made) = gate.refuse(&alice(), &text).await;
    let (rejected, other) = gate.refuse(&alice(), &text).await;
    let (expired, _) = gate.refuse(&alice(), &text).await;
    let full = shrunk(dir.path());
    assert!(full > 12 << 20, "{full}");
    let holder = challenge::holder(LISTENER, &alice());
    let listed = gate.store.pending(&holder, gate.now()).await.expect("answers");
    assert!(listed.iter().all(|one| one.statement.len() == limits::PENDING_SHOWN_CHARS), "a list reads no texts");
    assert_eq!(gate.store.redeem(made.id, gate.now()).await, Ok(Ended::Now));
    assert_eq!(gate.store.reject(other.id, gate.now()).await, Ok(Ended::Now));
    gate.hand.wind(TTL);
    assert_eq!(gate.store.sweep(gate.now()).await.expect("sweeps").expired, 1);
    for (token, status) in [(used, Status::Used), (rejected, Status::Rejected), (expired, Status::Expired)] {
        let found = gate.type_token(&alice(), &token.to_string()).await.expect("known");
        assert_eq!((found.status, &*found.statement, found.preview), (status, "", Preview::default()));
    }
    for _ in 0..2 {
        gate.store.sweep(gate.now()).await.expect("sweeps");
    }
    let left = shrunk(dir.path());
    assert!(left < 1 << 20, "{left} bytes of {full} are left");
}

#[tokio::test]
async fn who_fills_the_store_is_refused_and_nobody_else() {
    let dir = tempfile::tempdir().expect("dir");
    let gate = Gate::on(dir.path());
    let text = "x".repeat(limits::CHALLENGE_BYTES_MAX / 2);
    let mut refused = None;
    for _ in 0..8 {
        refused = gate.store.create(gate.draft(&alice(), &text, None).1).await.err();
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.expect("a share has an end");
    assert!(matches!(refused, StoreError::ShareFull { .. }), "{refused}");
    assert!(refused.to_string().contains("one user may have 40 MiB"), "{refused}");
    gate.refuse(&alice(), "DELETE FROM carts").await;
    gate.refuse(&mallory(), &text).await;
    // Somebody, or many together, have taken what there is for all.
    let db = database(dir.path());
    let taken = limits::CHALLENGES_BYTES_MAX;
    db.execute("UPDATE challenge SET bytes = ?1 WHERE user = 'mallory'", [taken as i64]).expect("sets");
    let eve = Principal { user: "eve".into(), ..alice() };
    gate.refuse(&eve, "DELETE FROM carts").await;
    let large = gate.draft(&eve, &text, None).1;
    assert!(matches!(gate.store.create(large.clone()).await, Err(StoreError::ShareFull { .. })));
    gate.hand.wind(TTL);
    gate.make(&alice(), &text, None).await;
    assert_eq!(number(&db, "SELECT count(*) FROM challenge WHERE body IS NOT NULL"), 1, "nobody had to sweep for it");
}

#[tokio::test]
async fn confirming_in_a_loop_does_not_grow_the_store() {
    let gate = Gate::open();
    let (first, made) = gate.refuse(&alice(), "DELETE FROM carts").await;
    gate.store.redeem(made.id, gate.now()).await.expect("answers");
    let (others, made) = gate.refuse(&mallory(), "DELETE FROM carts").await;
    gate.store.redeem(made.id, gate.now()).await.expect("answers");
    for _ in 0..=limits::CHALLENGES_OVER_MAX {
        gate.hand.wind(Duration::from_millis(1));
        let made = gate.refuse(&alice(), "DELETE FROM carts").await.1;
        gate.store.redeem(made.id, gate.now()).await.expect("answers");
    }
    assert_eq!(gate.type_token(&alice(), &first.to_string()).await, Err(Misuse::Unknown), "forgotten");
    assert_eq!(gate.type_token(&mallory(), &others.to_string()).await.expect("known").status, Status::Used);
}

#[tokio::test]
async fn who_fills_the_ledger_is_refused_and_nobody_else() {
    let dir = tempfile::tempdir().expect("dir");
    let gate = Gate::on(dir.path());
    let begin = |by: &str, digest: u8| {
        let key = Key { listener: LISTENER.into(), database: "shop".into(), script: "s".into(), digest: [digest; 32] };
        let (by, statement) = (by.to_owned(), "DELETE".to_owned());
        Beginning { key, runs_seen: 0, by, transaction: None, statement, now: Timestamp::UNIX_EPOCH }
    };
    assert_eq!(gate.store.ledger_begin(begin("alice", 1)).await, Ok(Begun::Now(1)));
    let db = database(dir.path());
    let shares = "SELECT coalesce(sum(entries), 0) FROM ledger_share";
    assert_eq!(number(&db, shares), 1);
    gate.store.ledger_end(begin("alice", 1).key, 1, Ending::Undone);
    assert_eq!(gate.store.ledger_find(vec![begin("alice", 1).key]).await, Ok(None));
    assert_eq!(number(&db, shares), 0, "what was rolled back counts for nothing");
    let fill = |user: &str, entries: u64| {
        let sql = "INSERT INTO ledger_share VALUES ('prod', ?1, ?2) ON CONFLICT DO UPDATE SET entries = ?2";
        db.execute(sql, rusqlite::params![user, entries as i64]).expect("sets");
    };
    fill("alice", limits::LEDGER_ENTRIES_OF_ONE_MAX);
    let refused = gate.store.ledger_begin(begin("alice", 2)).await.expect_err("full");
    assert!(refused.to_string().contains("statements that alice entered"), "{refused}");
    assert_eq!(gate.store.ledger_begin(begin("mallory", 2)).await, Ok(Begun::Now(1)));
    fill("eve", limits::LEDGER_ENTRIES_MAX);
    fill("bob", limits::LEDGER_ENTRIES_OF_ONE_ALWAYS);
    assert_eq!(gate.store.ledger_begin(begin("mallory", 3)).await, Ok(Begun::Now(1)));
    assert!(gate.store.ledger_begin(begin("bob", 4)).await.is_err());
}

#[tokio::test]
async fn a_full_or_old_ledger_never_forgets_what_is_young() {
    let gate = Gate::open();
    let key = Key { listener: LISTENER.into(), database: "shop".into(), script: "s".into(), digest: [7; 32] };
    let beginning = Beginning {
        key: key.clone(),
        runs_seen: 0,
        by: "alice".into(),
        transaction: None,
        statement: "DELETE".into(),
        now: gate.now(),
    };
    assert_eq!(gate.store.ledger_begin(beginning).await, Ok(Begun::Now(1)));
    let day = Duration::from_secs(24 * 60 * 60);
    gate.store.sweep(after(gate.now(), limits::LEDGER_KEEP - day)).await.expect("swept");
    assert!(gate.store.ledger_find(vec![key.clone()]).await.expect("answers").is_some());
    gate.store.sweep(after(gate.now(), limits::LEDGER_KEEP + day)).await.expect("swept");
    assert_eq!(gate.store.ledger_find(vec![key]).await, Ok(None));
}

#[tokio::test]
async fn nobody_else_can_read_the_files_and_no_token_is_in_them() {
    let dir = tempfile::tempdir().expect("dir");
    fs::write(dir.path().join("sluice.db"), "").expect("writes");
    fs::set_permissions(dir.path().join("sluice.db"), fs::Permissions::from_mode(0o666)).expect("sets");
    drop(Gate::on(dir.path()));
    for name in ["sluice.db", "sluice.db.key"] {
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o644)).expect("sets");
    }
    let gate = Gate::on(dir.path());
    let (token, _) = gate.refuse(&alice(), "DELETE FROM carts").await;
    let (shown, bare) = (token.to_string(), token.to_string().replace('-', ""));
    let mut seen = 0;
    for file in fs::read_dir(dir.path()).expect("lists") {
        let file = file.expect("entry");
        let mode = file.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", file.path());
        let content = String::from_utf8_lossy(&fs::read(file.path()).expect("reads")).into_owned();
        assert!(!content.contains(&shown) && !content.contains(&bare), "{:?}", file.path());
        seen += 1;
    }
    assert_eq!(seen, 4, "sluice.db, its key, its wal and shm");
}

#[tokio::test]
async fn a_stuck_disk_hangs_nobody() {
    let dir = tempfile::tempdir().expect("dir");
    let gate = Gate::on(dir.path());
    let (_, made) = gate.refuse(&alice(), "DELETE FROM carts").await;
    let other = rusqlite::Connection::open(dir.path().join("sluice.db")).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locks");
    let begun = std::time::Instant::now();
    let (first, second) = tokio::join!(gate.store.redeem(made.id, gate.now()), gate.store.redeem(made.id, gate.now()));
    assert!(begun.elapsed() < limits::STORE_DEADLINE + Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(matches!(first, Err(StoreError::Database(_))), "{first:?}");
    assert_eq!(second, Err(StoreError::Deadline));
    other.execute_batch("ROLLBACK").expect("unlocks");
    tokio::time::sleep(limits::STORE_BUSY_TIMEOUT).await;
    assert!(gate.store.redeem(made.id, gate.now()).await.is_ok(), "it works again");
}

// Races and crashes.

#[test]
fn of_two_processes_on_one_file_one_redeems() {
    let dir = tempfile::tempdir().expect("dir");
    let stores: Vec<Store> = (0..4).map(|_| open(dir.path())).collect();
    let gate = Gate::on(dir.path());
    for round in 0..30 {
        let made = block_on(gate.refuse(&alice(), &format!("DELETE FROM t{round}"))).1;
        let start = std::sync::Barrier::new(stores.len() * 2);
        let wins: usize = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..stores.len() * 2)
                .map(|n| {
                    let (store, start, now) = (stores[n % stores.len()].clone(), &start, gate.now());
                    scope.spawn(move || {
                        start.wait();
                        usize::from(block_on(store.redeem(made.id, now)).expect("answers") == Ended::Now)
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().expect("no panic")).sum()
        });
        assert_eq!(wins, 1, "round {round}");
    }
}

#[test]
fn stores_that_open_together_share_one_key() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().expect("dir");
        let hashes: Vec<_> = std::thread::scope(|scope| {
            let openers: Vec<_> = (0..4).map(|_| scope.spawn(|| open(dir.path()))).collect();
            let token = Token::parse("K7QF-2M9X").expect("a token");
            openers.into_iter().map(|opener| opener.join().expect("opens").hash(&token)).collect()
        });
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

/// A child redeems one challenge after the other and says so *after* each answer; it is killed at some instant. Whatever it said
/// it had redeemed is used, nothing is half done, and the file works on.
#[test]
fn killed_while_redeeming_nothing_is_redeemed_twice() {
    for round in 0..6u64 {
        let dir = tempfile::tempdir().expect("dir");
        let gate = Gate::on(dir.path());
        let holders: Vec<Principal> = (0..8).map(|n| Principal { user: format!("user{n}"), ..alice() }).collect();
        let mut ids = Vec::new();
        for n in 0..400 {
            ids.push(block_on(gate.refuse(&holders[n % 8], "DELETE FROM carts")).1.id);
        }
        let said = redeem_in_a_child_and_kill_it(dir.path(), &ids, Duration::from_millis(20 + 15 * round));
        let store = open(dir.path());
        let mut used = 0;
        for (n, id) in ids.iter().enumerate() {
            let ended = block_on(store.redeem(*id, gate.now())).expect("answers");
            if n < said {
                assert_eq!(ended, Ended::Before(Status::Used), "the child had been told that number {n} was redeemed");
            }
            used += usize::from(ended == Ended::Before(Status::Used));
        }
        assert!(
            used == said || used == said + 1,
            "said {said}, used {used}: at most the one in flight may be used unsaid"
        );
    }
}

/// Not a story of its own: what the child of the one above runs. Without its orders in the environment it does nothing.
#[test]
fn child_that_redeems() {
    let Ok(dir) = std::env::var("SLUICE_TEST_REDEEM_IN") else {
        return;
    };
    let store = open(Path::new(&dir));
    let mut out = std::io::stdout();
    for line in std::io::stdin().lines() {
        let id = line.expect("reads").parse().expect("an id");
        let ended = block_on(store.redeem(id, Timestamp::UNIX_EPOCH)).expect("answers");
        writeln!(out, "\nredeemed {ended:?}").expect("writes");
        out.flush().expect("flushes");
    }
}

fn redeem_in_a_child_and_kill_it(dir: &Path, ids: &[sluice::ground::ids::ChallengeId], after: Duration) -> usize {
    let mut child = Command::new(std::env::current_exe().expect("a test binary"))
        .args(["--exact", "child_that_redeems", "--nocapture"])
        .env("SLUICE_TEST_REDEEM_IN", dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawns");
    let mut orders = child.stdin.take().expect("piped");
    let texts: String = ids.iter().map(|id| format!("{id}\n")).collect();
    let writer = std::thread::spawn(move || drop(orders.write_all(texts.as_bytes())));
    let mut answers = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let redeemed = |line: &String| line == "redeemed Now";
    assert!(answers.any(|line| redeemed(&line)), "the child never began");
    std::thread::sleep(after);
    child.kill().expect("kills");
    child.wait().expect("waits");
    writer.join().expect("no panic");
    1 + answers.filter(redeemed).count()
}

// Builders.

struct Gate {
    store: Store,
    hand: HandClock,
}

impl Gate {
    fn open() -> Gate {
        Gate { store: Store::open("sqlite::memory:").expect("opens"), hand: HandClock::at(Timestamp::UNIX_EPOCH) }
    }

    fn on(dir: &Path) -> Gate {
        Gate { store: open(dir), hand: HandClock::at(Timestamp::UNIX_EPOCH) }
    }

    fn now(&self) -> Timestamp {
        self.hand.clock().now()
    }

    fn draft(&self, who: &Principal, statement: &str, parameters: Option<&Parameters>) -> (Token, Challenge) {
        let draft = Draft {
            needs: Needs::Confirm,
            listener: LISTENER,
            principal: who,
            statement,
            parameters,
            protocol: ProtocolKind::Simple,
            context: &context(),
            promise: serde_json::json!({ "rows": 12_480 }),
            preview: Preview { message: "this would delete 12,480 rows".into(), detail: "rules: cascade".into() },
        };
        issue(draft, TTL, self.now(), |token| self.store.hash(token)).expect("random")
    }

    async fn make(&self, who: &Principal, statement: &str, parameters: Option<&Parameters>) -> (Token, Challenge) {
        let (token, challenge) = self.draft(who, statement, parameters);
        self.store.create(challenge.clone()).await.expect("keeps");
        (token, challenge)
    }

    async fn refuse(&self, who: &Principal, statement: &str) -> (Token, Challenge) {
        self.make(who, statement, None).await
    }

    async fn type_token(&self, who: &Principal, typed: &str) -> Result<Challenge, Misuse> {
        look_up(&self.store, typed, LISTENER, who, Whose::Own, self.now()).await.expect("answers")
    }
}

/// One way to use a token of Alice's; the stories change something about it.
struct Try {
    typed: String,
    by: Principal,
    listener: &'static str,
    context: Context,
    later: Duration,
    sweep: bool,
    end_first: Option<Status>,
    needs: Needs,
}

impl Try {
    async fn run(change: &fn(&mut Try)) -> Result<(), Misuse> {
        let gate = Gate::open();
        let (token, mut made) = gate.draft(&alice(), "DELETE FROM carts", None);
        let mut this = Try {
            typed: token.to_string(),
            by: alice(),
            listener: LISTENER,
            context: context(),
            later: Duration::ZERO,
            sweep: false,
            end_first: None,
            needs: Needs::Confirm,
        };
        change(&mut this);
        made.needs = this.needs;
        gate.store.create(made.clone()).await.expect("keeps");
        match this.end_first {
            Some(Status::Used) => drop(gate.store.redeem(made.id, gate.now()).await.expect("answers")),
            Some(_) => drop(gate.store.reject(made.id, gate.now()).await.expect("answers")),
            None => {}
        }
        gate.hand.wind(this.later);
        if this.sweep {
            gate.store.sweep(gate.now()).await.expect("sweeps");
        }
        let found =
            look_up(&gate.store, &this.typed, this.listener, &this.by, Whose::Own, gate.now()).await.expect("answers");
        let alone = check(&made, this.listener, &this.by, &this.context, gate.now());
        if this.by.user != "alice" || this.listener != LISTENER {
            assert_eq!(alone, Err(Misuse::Unknown), "the rules say so without the store, too");
        }
        let redeemable = check(&found?, this.listener, &this.by, &this.context, gate.now())?;
        redeem(&gate.store, redeemable, gate.now()).await.expect("answers").map(drop)
    }
}

fn alice() -> Principal {
    Principal { user: "alice".into(), database: "shop".into(), address: "10.0.0.1".into(), application: "psql".into() }
}

fn mallory() -> Principal {
    Principal { user: "mallory".into(), ..alice() }
}

fn context() -> Context {
    [("search_path", "\"$user\", public"), ("role", "none")].map(|(name, value)| (name.into(), value.into())).into()
}

fn open(dir: &Path) -> Store {
    Store::open(&format!("sqlite:{}", dir.join("sluice.db").display())).expect("opens")
}

/// A store of another file with the same key.
fn open_beside(dir: &Path) -> Store {
    fs::copy(dir.join("sluice.db.key"), dir.join("beside.db.key")).expect("copies");
    Store::open(&format!("sqlite:{}", dir.join("beside.db").display())).expect("opens")
}

fn database(dir: &Path) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(dir.join("sluice.db")).expect("opens");
    db.busy_timeout(Duration::from_secs(5)).expect("sets");
    db
}

fn number(db: &rusqlite::Connection, sql: &str) -> i64 {
    db.query_row(sql, [], |row| row.get(0)).expect(sql)
}

/// The file's size, with all that was written in it.
fn shrunk(dir: &Path) -> u64 {
    number(&database(dir), "PRAGMA wal_checkpoint(TRUNCATE)");
    fs::metadata(dir.join("sluice.db")).expect("is there").len()
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("builds");
    runtime.block_on(future)
}
