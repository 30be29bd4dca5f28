//! The record over its files: rotated by itself and by others, interrupted at each step, failing and recovering.
//!
//! Invariant: the judge of every story is `sluice audit verify`'s own walk, together with a count of what was written: each line that
//! was acknowledged is there exactly once.

use proptest::prelude::*;
use sluice::audit::event::{Durability, Event, Kind};
use sluice::audit::rotation::{Every, Rotation};
use sluice::audit::sink::{OpenFailed, Sink};
use sluice::cli::audit::{Front, Report, verify};
use sluice::ground::clock::{Clock, HandClock};
use std::collections::BTreeMap;
use std::fs;
use std::num::{NonZeroU64, NonZeroUsize};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

#[test]
fn a_full_file_is_carried_on_by_another() {
    let room = Room::new();
    let sink = room.open(by_size(4096));
    for n in 0..60 {
        note(&sink, &format!("n{n}")).expect("writes");
    }
    drop(sink);
    let files = room.files();
    assert!(files.len() > 2, "{files:?}");
    for file in &files {
        let mode = fs::metadata(room.path(file)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
        assert!(fs::metadata(room.path(file)).expect("there").len() < 4096 + 1024, "{file}");
    }
    room.holds_once(60);
    // The file in use alone brings the others along; one of them missing is seen, and which.
    assert!(verify(&[room.record()], None).expect("reads").whole());
    let full: Vec<&String> = files.iter().filter(|name| *name != "audit.jsonl").collect();
    let text = fs::read(room.path(full[1])).expect("there");
    fs::remove_file(room.path(full[1])).expect("there");
    let report = room.verify();
    let broken = report.broken.clone().expect("a gap");
    assert!(broken.why.contains(full[1].as_str()), "{report}");
    fs::write(room.path("elsewhere"), text).expect("writes");
    assert!(room.verify().whole(), "the order is the lines', whatever the names are");
    fs::remove_file(room.path(full[0])).expect("there");
    let report = room.verify();
    assert!(!report.whole() && report.to_string().contains(full[0].as_str()), "{report}");
}

#[test]
fn another_day_has_another_file() {
    let room = Room::new();
    let hand = HandClock::at("2026-03-01T23:59:59Z".parse().expect("a time"));
    let daily = Rotation { every: Every::Day, ..Rotation::default() };
    let open = || Sink::open_rotated(&room.record(), hand.clock(), daily).expect("opens");
    let sink = open();
    note(&sink, "n0").expect("writes");
    hand.wind(Duration::from_secs(2));
    // Nobody writes: whoever tends the record changes files, once.
    sink.tend().expect("works");
    sink.tend().expect("works");
    assert_eq!(room.files().len(), 2);
    note(&sink, "n1").expect("writes");
    drop(sink);
    hand.wind(Duration::from_secs(24 * 60 * 60));
    // It is the last line's day that counts, also after a restart.
    note(&open(), "n2").expect("writes");
    assert_eq!(
        room.files()[..2],
        ["audit.20260302T000001Z-000000000001.jsonl", "audit.20260303T000001Z-000000000003.jsonl"]
    );
    room.holds_once(3);
}

#[test]
fn what_is_deleted_is_said_first() {
    let room = Room::new();
    let keep = Rotation { keep: NonZeroUsize::new(2), ..by_size(4096) };
    let sink = room.open(keep);
    for n in 0..150 {
        note(&sink, &format!("n{n}")).expect("writes");
    }
    assert_eq!(room.files().len(), 3, "two full ones, and the one in use: {:?}", room.files());
    let report = room.verify();
    assert!(report.whole() && matches!(report.front, Front::Removed { lines } if lines > 50), "{report}");
    assert!(report.kinds["removed"] >= 1);
    // A file that somebody else deletes is missing.
    fs::remove_file(room.path(&room.files()[0])).expect("there");
    assert!(matches!(room.verify().front, Front::Missing { .. }));
}

#[test]
fn another_tool_may_rename_it() {
    for made in [Made::Nothing, Made::EmptyFile] {
        let room = Room::new();
        let sink = room.open(Rotation::default());
        for n in 0..9 {
            if n % 3 == 2 {
                fs::rename(room.record(), room.path(&format!("audit.jsonl.{n}"))).expect("renames");
                if made == Made::EmptyFile {
                    fs::write(room.record(), "").expect("writes");
                }
            }
            note(&sink, &format!("n{n}")).expect("writes");
        }
        assert_eq!(room.files(), ["audit.jsonl", "audit.jsonl.2", "audit.jsonl.5", "audit.jsonl.8"]);
        assert_eq!(fs::metadata(room.record()).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(room.record()).expect("reads").contains("\"file\":\"audit.jsonl.8\""));
        room.holds_once(9);
        assert!(
            matches!(Sink::open(&room.record(), Clock::System), Err(OpenFailed::InUse { .. })),
            "the new file is locked"
        );
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Made {
    Nothing,
    EmptyFile,
}

#[test]
fn a_deleted_file_is_missed_and_the_next_says_so() {
    let room = Room::new();
    let sink = room.open(Rotation::default());
    note(&sink, "n0").expect("writes");
    fs::remove_file(room.record()).expect("there");
    note(&sink, "n1").expect("goes on in a file that is there");
    let text = fs::read_to_string(room.record()).expect("there");
    assert!(text.contains("deleted") && text.contains("n1"), "{text}");
    assert!(matches!(room.verify().front, Front::Missing { lines: 1, file: None }));
}

#[test]
fn a_file_in_its_place_is_not_written_over() {
    let room = Room::new();
    let sink = room.open(Rotation::default());
    note(&sink, "n0").expect("writes");
    fs::rename(room.record(), room.path("moved.jsonl")).expect("renames");
    fs::write(room.record(), "somebody's\n").expect("writes");
    let failed = note(&sink, "lost").expect_err("no place for it");
    assert!(failed.contains("not empty"), "{failed}");
    assert!(!sink.works() && sink.trouble().is_some_and(|why| why.contains("not empty")));
    assert_eq!(fs::read_to_string(room.record()).expect("reads"), "somebody's\n");
    fs::remove_file(room.record()).expect("there");
    note(&sink, "n1").expect("works again");
    assert!(sink.works() && sink.trouble().is_none());
    room.holds_once(2);
    let gap = room.lines("gap");
    assert_eq!((gap.len(), &gap[0]["count"]), (1, &1.into()), "what is missing is counted: {gap:?}");
}

#[test]
fn a_removed_directory_fails_until_it_is_back() {
    let room = Room::new();
    let place = room.path("place");
    fs::create_dir(&place).expect("makes");
    let record = place.join("audit.jsonl");
    let sink = Sink::open(&record, Clock::System).expect("opens");
    note(&sink, "n0").expect("writes");
    fs::rename(&place, room.path("away")).expect("renames");
    for _ in 0..3 {
        note(&sink, "lost").expect_err("what nobody finds is no record");
    }
    fs::create_dir(&place).expect("makes");
    // Nobody has to write for it to work again.
    sink.tend().expect("works again");
    assert!(sink.works());
    note(&sink, "n1").expect("writes");
    let report = verify(&[room.path("away"), place], None).expect("reads");
    assert!(report.whole(), "{report}");
    assert_eq!((report.kinds["gap"], report.kinds["rotated"]), (1, 1));
}

/// A crash after each step of a rotation, as the files then are.
#[test]
fn a_rotation_interrupted_at_each_step_is_finished_or_taken_back() {
    // A rotation as it should be, for its pieces.
    let whole = Room::new();
    let sink = whole.open(Rotation::default());
    note(&sink, "n0").expect("writes");
    drop(sink);
    let before = fs::read(whole.record()).expect("reads");
    drop(whole.open(by_size(100)));
    let full = whole.files()[0].clone();
    let next = fs::read(whole.record()).expect("reads");
    let half = &next[..next.len() / 2];
    type Steps<'a> = &'a dyn Fn(&Room);
    let steps: [(&str, Steps<'_>); 8] = [
        ("half of the next file", &|room| room.write("audit.jsonl.next", half)),
        ("the next file", &|room| room.write("audit.jsonl.next", &next)),
        ("the second name", &|room| {
            room.write("audit.jsonl.next", &next);
            fs::hard_link(room.record(), room.path(&full)).expect("links");
        }),
        ("the rename", &|room| {
            fs::rename(room.record(), room.path(&full)).expect("renames");
            room.write("audit.jsonl", &next);
        }),
        ("renamed by another, half of the next", &|room| {
            fs::rename(room.record(), room.path(&full)).expect("renames");
            room.write("audit.jsonl.next", half);
        }),
        ("renamed by another, the next", &|room| {
            fs::rename(room.record(), room.path(&full)).expect("renames");
            room.write("audit.jsonl.next", &next);
        }),
        ("renamed by another, an empty file made", &|room| {
            fs::rename(room.record(), room.path(&full)).expect("renames");
            room.write("audit.jsonl", b"");
            room.write("audit.jsonl.next", &next);
        }),
        ("renamed by another, two names", &|room| {
            fs::rename(room.record(), room.path(&full)).expect("renames");
            room.write("audit.jsonl.next", &next);
            fs::hard_link(room.path("audit.jsonl.next"), room.record()).expect("links");
        }),
    ];
    for (step, make) in steps {
        let room = Room::new();
        room.write("audit.jsonl", &before);
        make(&room);
        let sink = room.open(Rotation::default());
        note(&sink, "n1").expect("goes on");
        drop(sink);
        assert!(!room.path("audit.jsonl.next").exists(), "{step}");
        let taken_back = ["half of the next file", "the next file", "the second name"].contains(&step);
        assert_ne!(room.path(&full).exists(), taken_back, "{step}: {:?}", room.files());
        if step.ends_with("half of the next") {
            // Nothing there tells what came before: the two are two records, each whole.
            assert!(verify(&[room.path(&full)], None).expect("reads").whole(), "{step}");
            assert!(verify(&[room.record()], None).expect("reads").whole(), "{step}");
            continue;
        }
        let report = room.verify();
        assert!(report.whole() && report.kinds["service"] == 2, "{step}: {report}");
        assert!(report.lines == 2 || report.kinds["rotated"] == 1, "{step}: {report}");
    }
}

#[test]
fn what_the_old_file_ends_with_is_told_by_the_next() {
    let room = Room::new();
    room.write("audit.jsonl", b"");
    let sink = room.open(Rotation::default());
    note(&sink, "n0").expect("writes");
    // Half a line, left by a write that failed and could not be taken back, in a file that was then renamed.
    drop(sink);
    let mut text = fs::read(room.record()).expect("reads");
    text.extend_from_slice(b"{\"seq\":2,\"ti");
    room.write("audit.jsonl", &text);
    let sink = room.open(Rotation::default());
    assert_eq!(room.lines("torn").len(), 1, "set aside at once");
    note(&sink, "n1").expect("writes");
    room.holds_once(2);
}

/// A sync that fails, on a real file: the library between the process and the kernel says so once.
#[test]
fn a_failed_sync_leaves_its_file_behind() {
    let room = Room::new();
    let shim = room.path("shim.c");
    fs::write(&shim, SHIM).expect("writes");
    let library = room.path("shim.so");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&shim).status();
    assert!(built.is_ok_and(|status| status.success()), "a C compiler, as building Sluice needs one");
    let place = room.path("place");
    fs::create_dir(&place).expect("makes");
    let child = Command::new(std::env::current_exe().expect("a test binary"))
        .args(["--exact", "child_whose_sync_fails", "--nocapture"])
        .env("SLUICE_TEST_RECORD", place.join("audit.jsonl"))
        .env("SLUICE_TEST_FAIL", room.path("fail"))
        .env("LD_PRELOAD", &library)
        .output()
        .expect("runs");
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    let report = verify(&[place], None).expect("reads");
    assert!(report.whole() && report.files.len() == 2, "{report}");
    assert_eq!((report.kinds["gap"], report.kinds["rotated"]), (1, 1), "{report}");
}

const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
int fdatasync(int fd) {
    const char *fail = getenv("SLUICE_TEST_FAIL");
    if (fail && unlink(fail) == 0) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
"#;

/// Not a story of its own: the child of the one above. Without its orders in the environment it does nothing.
#[test]
fn child_whose_sync_fails() {
    let (Ok(record), Ok(fail)) = (std::env::var("SLUICE_TEST_RECORD"), std::env::var("SLUICE_TEST_FAIL")) else {
        return;
    };
    let sink = Sink::open(Path::new(&record), Clock::System).expect("opens");
    synced(&sink, "n0").expect("the disk is well");
    fs::write(&fail, "").expect("writes");
    let failed = synced(&sink, "refused").expect_err("not on the disk");
    assert!(failed.contains("sync"), "{failed}");
    assert!(!sink.works() && !Path::new(&fail).exists(), "the one failure was met");
    // The kernel would now call it a success: the file is not trusted with another line.
    let before = fs::metadata(&record).expect("there").len();
    assert_eq!(synced(&sink, "n1"), Ok(5), "after the refused line, the new file's first and the gap's");
    assert!(sink.works());
    let text = fs::read_to_string(&record).expect("there");
    assert!(
        text.lines().next().is_some_and(|line| line.contains("rotated") && line.contains("a sync of the file failed"))
    );
    assert!(text.contains("n1") && !text.contains("n0") && before > 0, "{text}");
}

/// Rights are nothing to the superuser: the child gives them up.
#[test]
fn lost_rights_fail_until_they_are_back() {
    let room = Room::new();
    fs::set_permissions(room.0.path(), fs::Permissions::from_mode(0o777)).expect("our own directory");
    // Where this binary is, another user may not look.
    let binary = room.path("child");
    fs::copy(std::env::current_exe().expect("a test binary"), &binary).expect("copies");
    let is_superuser = fs::metadata("/proc/self").expect("Linux").uid() == 0;
    let mut child = match is_superuser {
        true => Command::new("setpriv"),
        false => Command::new(&binary),
    };
    if is_superuser {
        child.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
    }
    child.args(["--exact", "child_whose_rights_are_lost", "--nocapture"]).current_dir(room.0.path());
    let child = child.env("SLUICE_TEST_RIGHTS", room.path("place")).output().expect("runs");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&child.stderr));
    let report = verify(&[room.path("place")], None).expect("reads");
    assert!(report.whole() && report.files.len() == 2, "{report}");
    assert_eq!((report.kinds["gap"], report.kinds["service"]), (1, 4), "{report}");
}

/// Not a story of its own: the child of the one above.
#[test]
fn child_whose_rights_are_lost() {
    let Ok(place) = std::env::var("SLUICE_TEST_RIGHTS") else { return };
    let place = PathBuf::from(place);
    let rights = |mode| fs::set_permissions(&place, fs::Permissions::from_mode(mode)).expect("our own directory");
    fs::create_dir(&place).expect("makes");
    let hand = HandClock::at("2026-03-01T12:00:00Z".parse().expect("a time"));
    let sink = Sink::open_rotated(&place.join("audit.jsonl"), hand.clock(), by_size(300)).expect("opens");
    note(&sink, "n0").expect("writes");
    rights(0o000);
    let failed = note(&sink, "lost").expect_err("is it still the file that is read?");
    assert!(failed.contains("denied") && !sink.works(), "{failed}");
    // Lines can be added, files cannot: a rotation that is due waits, and no line is lost to it.
    rights(0o500);
    note(&sink, "n1").expect("writes");
    note(&sink, "n2").expect("goes on in the old file");
    assert!(sink.works() && fs::read_dir(&place).expect("reads").count() == 1);
    rights(0o700);
    hand.wind(Duration::from_secs(61));
    note(&sink, "n3").expect("writes");
    assert_eq!(fs::read_dir(&place).expect("reads").count(), 2, "and is made up for");
    // For whoever reads it afterwards.
    rights(0o755);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Threads write, files fill, another tool renames, Sluice restarts: every line is there once, in one chain.
    #[test]
    fn every_line_is_there_once(size in 4096_u64..9000, threads in 1_usize..5, each in 1_usize..40, runs in 1_usize..4, renames in 0_usize..4) {
        let room = Room::new();
        for run in 0..runs {
            let sink = room.open(by_size(size));
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    let sink = &sink;
                    scope.spawn(move || {
                        for n in 0..each {
                            let text = format!("n{}", (run * threads + thread) * each + n);
                            let written = if n % 7 == 0 { synced(sink, &text) } else { note(sink, &text) };
                            written.expect("writes");
                        }
                    });
                }
                scope.spawn(|| {
                    for n in 0..renames {
                        // Sluice may have no file there at the moment.
                        let _ = fs::rename(room.record(), room.path(&format!("moved.{run}.{n}.jsonl")));
                        std::thread::yield_now();
                    }
                });
            });
            // Whatever was renamed last is left in an orderly way.
            sink.tend().expect("works");
        }
        room.holds_once(runs * threads * each);
    }
}

/// The process is killed while it writes and rotates as fast as it can; what it acknowledged is there.
#[test]
fn killed_at_any_moment_it_can_be_gone_on_with() {
    let room = Room::new();
    let mut acknowledged = 0_u64;
    for run in 0..8 {
        let mut child = Command::new(std::env::current_exe().expect("a test binary"))
            .args(["--exact", "child_that_writes_until_killed", "--nocapture"])
            .env("SLUICE_TEST_WRITE", room.record())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("runs");
        let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().expect("piped")));
        // Another number of lines each time, so that it ends in other places.
        let seen = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("seq ")?.parse().ok());
        acknowledged = seen.take(40 + 13 * run).last().unwrap_or(acknowledged);
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        drop(room.open(by_size(4096)));
        let report = room.verify();
        assert!(report.whole(), "run {run}: {report}");
        assert!(report.lines >= acknowledged, "run {run}: {acknowledged} were acknowledged: {report}");
    }
    assert!(room.files().len() > 10);
}

/// Not a story of its own: the child of the one above.
#[test]
fn child_that_writes_until_killed() {
    let Ok(record) = std::env::var("SLUICE_TEST_WRITE") else { return };
    let sink = Sink::open_rotated(Path::new(&record), Clock::System, by_size(4096)).expect("opens");
    loop {
        println!("seq {}", note(&sink, "some text to fill the file with").expect("writes"));
    }
}

/// A directory for one record.
struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Room {
        Room(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn record(&self) -> PathBuf {
        self.path("audit.jsonl")
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).expect("our own directory");
    }

    fn open(&self, rotation: Rotation) -> Sink {
        Sink::open_rotated(&self.record(), Clock::System, rotation).expect("opens")
    }

    fn files(&self) -> Vec<String> {
        let name =
            |entry: std::io::Result<fs::DirEntry>| entry.expect("reads").file_name().into_string().expect("UTF-8");
        let mut names: Vec<String> = fs::read_dir(self.0.path()).expect("reads").map(name).collect();
        names.sort();
        names
    }

    fn verify(&self) -> Report {
        verify(&[self.0.path().to_owned()], None).expect("reads")
    }

    fn lines(&self, kind: &str) -> Vec<serde_json::Value> {
        let texts = self.files().into_iter().map(|name| fs::read_to_string(self.path(&name)).expect("reads"));
        let all: Vec<serde_json::Value> = texts
            .flat_map(|text| text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<_>>())
            .collect();
        all.into_iter().filter(|line| line["kind"] == kind).collect()
    }

    /// n0, n1, … up to this number, each in one line of a whole chain.
    fn holds_once(&self, count: usize) {
        let report = self.verify();
        assert!(report.whole(), "{report}");
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for line in self.lines("service") {
            *seen.entry(line["note"].as_str().expect("a note").to_owned()).or_default() += 1;
        }
        let wanted: BTreeMap<String, u64> = (0..count).map(|n| (format!("n{n}"), 1)).collect();
        assert_eq!(seen, wanted);
    }
}

fn by_size(bytes: u64) -> Rotation {
    Rotation { bytes: NonZeroU64::new(bytes), ..Rotation::default() }
}

fn note(sink: &Sink, text: &str) -> Result<u64, String> {
    let event = Event { kind: Kind::Service, note: Some(text), ..Event::default() };
    sink.write(&event).map_err(|error| error.to_string())
}

fn synced(sink: &Sink, text: &str) -> Result<u64, String> {
    let event = Event { kind: Kind::Service, note: Some(text), durability: Durability::Synced, ..Event::default() };
    sink.write(&event).map_err(|error| error.to_string())
}
