//! Commands that are refused by name, and broken packets: answered with an error and, where the stream can no longer be trusted,
//! closed. Never passed on.
//!
//! Here Sluice may answer otherwise than the server would; what counts is that nothing unread reaches it.

use crate::harness::mysql::comparison::gate;
use crate::harness::mysql::login::{Encryption, Login};
use crate::harness::mysql::my_stories;
use crate::harness::mysql::packet::{
    self, COMPRESS, Failure, Greeting, OPTIONAL_METADATA, TLS, USUAL, ZSTD, body, command, execute, framed, query,
};
use crate::harness::mysql::server::{MyDatabase, MyServer, ROOT, TRUSTED};
use crate::harness::mysql::wire::MyWire;
use crate::harness::sluice::{Setup, Sluice};
use crate::harness::wire::Address;

my_stories! {
    doors_are_refused_by_name, unknown_commands, bodies_that_do_not_add_up, packets_out_of_order, packets_cut_off_by_the_end,
    logins_that_cannot_be, commands_before_the_login, what_is_offered, one_broken_client_harms_no_other,
    a_statement_within_a_file, a_file_that_breaks_its_numbers, commands_sent_ahead, a_compressed_stream, prepared_texts_take_room, named_texts_take_room, a_statement_within_an_attribute,
}

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2), (3)";

fn doors_are_refused_by_name(server: &'static MyServer) {
    let (database, sluice) = gate(server, TABLE);
    let mut wire = sluice.my_connect_as(ROOT, &database);
    let binlog = [4, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    for (number, name, rest) in [
        (command::BINLOG_DUMP, "BINLOG_DUMP", &binlog[..]),
        (0x1e, "BINLOG_DUMP_GTID", &[0; 20][..]),
        (0x15, "REGISTER_", &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..]),
        (0x13, "TABLE_DUMP", b"\x01a\x01b"),
        (0x20, "CLONE", b""),
        (0x21, "SUBSCRIBE_GROUP_REPLICATION_STREAM", b""),
    ] {
        let outcome = wire.command(&body(number, rest));
        let failure = outcome.error().unwrap_or_else(|| panic!("{name}: {outcome:?}"));
        // A command that neither product has any more may be refused as unknown.
        let is_ours =
            failure.code == 50003 && failure.message.starts_with("sluice: ") && failure.message.contains(name);
        assert!(is_ours || [1047, 1835].contains(&failure.code), "{name}: {failure:?}");
        if [command::BINLOG_DUMP, 0x1e].contains(&number) {
            assert!(is_ours, "{name}: {failure:?}");
            let refused = crate::harness::mysql::shop::Refused::of(&mut wire, &outcome);
            assert!(refused.names_rule("other-doors"), "{refused:?}");
        }
        assert_eq!(wire.query("SELECT 'goes on'").value(), "goes on", "{name}");
    }
    assert_eq!(database.count("t"), 3);
}

fn unknown_commands(server: &'static MyServer) {
    let (database, sluice) = gate(server, TABLE);
    let known =
        [1, 2, 3, 4, 9, 0x0a, 0x0c, 0x0d, 0x0e, 0x11, 0x12, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1e, 0x1f, 0xfa];
    for number in (0..=255u8).filter(|number| !known.contains(number)) {
        let mut wire = sluice.my_connect(&database);
        wire.start(&body(number, b"DELETE FROM t"));
        // An error, and whether the session goes on is Sluice's to say; an OK never.
        let first = wire.message().unwrap_or_else(|| panic!("{number:#x}: closed without a word"));
        assert_eq!(first[0], 0xff, "{number:#x}: {}", first.escape_ascii());
    }
    assert_untouched(&database, &sluice);
}

fn bodies_that_do_not_add_up(server: &'static MyServer) {
    let (database, sluice) = gate(server, TABLE);
    let bodies: &[(&str, Vec<u8>)] = &[
        ("nothing at all", vec![]),
        ("an execute of no id", body(command::STMT_EXECUTE, &[1, 0])),
        ("an execute without its values", body(command::STMT_EXECUTE, &[1, 0, 0, 0, 0, 1, 0, 0, 0])),
        ("a value longer than the packet", {
            let mut cut = execute(1, 0, &[Some(b"1")]);
            let end = cut.len() - 2;
            cut[end] = 200;
            cut
        }),
        (
            "a value of a type nobody knows",
            body(command::STMT_EXECUTE, &[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 200, 0, 1, b'1']),
        ),
        ("more behind the values", [execute(1, 0, &[Some(b"1")]), b"DELETE FROM t".to_vec()].concat()),
        ("a fetch without a number", body(command::STMT_FETCH, &[1, 0, 0, 0])),
        ("a reset of half an id", body(command::STMT_RESET, &[1])),
        ("an option cut in half", body(command::SET_OPTION, &[1])),
        ("a change of user without an end", body(command::CHANGE_USER, b"root")),
        ("a bulk of nothing", body(command::STMT_BULK_EXECUTE, &[1])),
    ];
    for (what, bytes) in bodies {
        let mut wire = sluice.my_connect(&database);
        wire.prepare("DELETE FROM t WHERE id = ?");
        wire.start(bytes);
        wire.start(&body(command::QUIT, &[]));
        let mut heard = Vec::new();
        while let Some(message) = wire.message() {
            heard.push(message);
        }
        assert!(heard.first().is_none_or(|first| first[0] == 0xff), "{what}: {heard:?}");
    }
    assert_untouched(&database, &sluice);
}

fn packets_out_of_order(server: &'static MyServer) {
    let (database, sluice) = gate(server, TABLE);
    for sequence in [1u8, 7, 255] {
        let mut wire = sluice.my_connect(&database);
        wire.send(&framed(sequence, &query("DELETE FROM t")));
        let first = wire.message();
        assert!(first.as_ref().is_none_or(|first| first[0] == 0xff), "{sequence}: {first:?}");
    }
    // A long message whose second packet has another's number.
    let mut wire = sluice.my_connect(&database);
    let text = format!("SELECT '{}'", "x".repeat(packet::PACKET_MAX));
    let mut bytes = framed(0, &query(&text));
    bytes[4 + packet::PACKET_MAX + 3] = 9;
    let _closed_already = wire.try_send(&bytes);
    let first = wire.message();
    assert!(first.as_ref().is_none_or(|first| first[0] == 0xff), "{first:?}");
    assert_untouched(&database, &sluice);
}

fn packets_cut_off_by_the_end(server: &'static MyServer) {
    let (database, sluice) = gate(server, TABLE);
    let whole = framed(0, &query("INSERT INTO t VALUES (99)"));
    for cut in [1, 3, 4, 5, 12, whole.len() - 1] {
        let mut wire = sluice.my_connect(&database);
        wire.send(&whole[..cut]);
        wire.hang_up();
        assert!(wire.is_closed(), "cut at {cut}");
    }
    assert_untouched(&database, &sluice);
}

fn logins_that_cannot_be(server: &'static MyServer) {
    let (database, sluice) = gate(server, TABLE);
    let capabilities = (USUAL as u32).to_le_bytes();
    let good = [&capabilities[..], &[0, 0, 0, 1, 255], &[0; 23], b"trusty\0\0mysql_native_password\0"].concat();
    let old = [&(USUAL & !packet::PROTOCOL_41).to_le_bytes()[..4], &good[4..]].concat();
    let mut unended = good[..36].to_vec();
    unended.extend(b"trusty");
    for (what, bytes) in [
        ("half of it", framed(1, &good[..20])),
        ("no end of the name", framed(1, &unended)),
        ("a proof longer than the packet", framed(1, &[&good[..39], &[200, 1, 2]].concat())),
        ("attributes longer than the packet", framed(1, &[&good[..], &[250, 1]].concat())),
        ("too long to be a login", framed(1, &[&good[..], &vec![b'x'; 1 << 20]].concat())),
        ("a protocol before 4.1", framed(1, &old)),
        ("another's turn", framed(9, &good)),
        ("another protocol", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("nothing", framed(1, &[])),
    ] {
        let mut wire = MyWire::open(&sluice.address);
        wire.message().expect("a greeting");
        let _closed_already = wire.try_send(&bytes);
        wire.hang_up();
        let answer = wire.message();
        assert!(answer.as_ref().is_none_or(|answer| answer[0] != 0), "{what} let in: {answer:?}");
    }
    assert_untouched(&database, &sluice);
}

fn commands_before_the_login(server: &'static MyServer) {
    let (database, sluice) = gate(server, TABLE);
    for sequence in [0, 1] {
        let mut wire = MyWire::open(&sluice.address);
        wire.message().expect("a greeting");
        let _closed_already = wire.try_send(&framed(sequence, &query("DELETE FROM t")));
        wire.hang_up();
        let answer = wire.message();
        assert!(answer.as_ref().is_none_or(|answer| answer[0] != 0), "{answer:?}");
    }
    // Behind a request for TLS that the listener does not offer, and before the TLS of one that does.
    for sluice in [sluice, Setup::before_mysql(server).with_tls().start()] {
        let mut wire = MyWire::open(&sluice.address);
        wire.message().expect("a greeting");
        let request = crate::harness::mysql::login::tls_request(USUAL | TLS, 255);
        let _closed_already = wire.try_send(&[framed(1, &request), framed(0, &query("DELETE FROM t"))].concat());
        wire.hang_up();
        let answer = wire.stream_bytes();
        assert!(!answer.windows(5).any(|bytes| bytes == [7, 0, 0, 2, 0]), "{}", answer.escape_ascii());
        assert_untouched(&database, &sluice);
    }
}

/// What no client behind Sluice is offered, and why not.
const MASKED: &[(u64, &str)] = &[
    (COMPRESS, "what is compressed cannot be hopped over"),
    (ZSTD, "the same"),
    (OPTIONAL_METADATA, "rows without their columns"),
];

/// Which capabilities Sluice takes out of the server's offer, and that it adds none.
fn what_is_offered(server: &'static MyServer) {
    let offered = |address: &Address| {
        let mut wire = MyWire::open(address);
        Greeting::read(&wire.message().expect("a greeting"))
    };
    let direct = offered(&server.tcp());
    for (sluice, hides_tls) in
        [(Setup::before_mysql(server).start(), true), (Setup::before_mysql(server).with_tls().start(), false)]
    {
        let through = offered(&sluice.address);
        let is_different = direct.capabilities ^ through.capabilities;
        let hidden = MASKED.iter().fold(0, |all, (capability, _)| all | capability);
        let hidden = (hidden | if hides_tls { TLS } else { 0 }) & direct.capabilities;
        assert_eq!(is_different, hidden, "{:#x} and {:#x}", direct.capabilities, through.capabilities);
        assert_eq!(through.capabilities & !direct.capabilities, 0, "nothing is promised that the server cannot do");
        assert_eq!(
            (&through.version, &through.plugin, through.charset),
            (&direct.version, &direct.plugin, direct.charset)
        );
        assert_ne!(through.scramble, direct.scramble);
    }
}

fn one_broken_client_harms_no_other(server: &'static MyServer) {
    let (database, sluice) = gate(server, TABLE);
    let mut bystander = sluice.my_connect(&database);
    bystander.query("BEGIN").expect_fine("BEGIN");
    for _ in 0..20 {
        let mut wire = sluice.my_connect(&database);
        let _closed_already = wire.try_send(&framed(5, b"\xffx"));
        wire.hang_up();
        wire.stream_bytes();
    }
    assert_eq!(bystander.query("SELECT count(*) FROM t").value(), "3");
    bystander.query("COMMIT").expect_fine("COMMIT");
}

/// The server waits for a file: whatever comes then is the file's, and a statement in it is text.
fn a_statement_within_a_file(server: &'static MyServer) {
    let (database, sluice) = gate(server, "CREATE TABLE t (id varchar(100)); INSERT INTO t VALUES (1), (2), (3)");
    let mut wire = sluice.my_connect(&database);
    wire.file = b"DELETE FROM t\n\x03DELETE FROM t\n".to_vec();
    wire.query("LOAD DATA LOCAL INFILE 'x' INTO TABLE t").expect_fine("two rows of text");
    assert_eq!(database.count("t"), 5);
    // A file that never ends by itself ends with its client.
    wire.start(&query("LOAD DATA LOCAL INFILE 'x' INTO TABLE t"));
    wire.message().expect("it is asked for");
    wire.reply(b"half a file");
    drop(wire);
    assert_eq!(sluice.my_connect(&database).query("SELECT 'still here'").value(), "still here");
    assert!(database.count("t") >= 5);
}

/// A packet of a file that is not numbered on makes both servers give the load up in its middle, and take what is left of it for commands: the
/// statement within ran, unjudged and unrecorded.
fn a_file_that_breaks_its_numbers(server: &'static MyServer) {
    let (database, sluice) = gate(server, "CREATE TABLE t (id varchar(100)); INSERT INTO t VALUES (1), (2), (3)");
    for number in [0u8, 1, 77] {
        let mut wire = sluice.my_connect(&database);
        let start = sluice.log_length();
        wire.start(&query("LOAD DATA LOCAL INFILE 'x' INTO TABLE t"));
        let asked = wire.message().expect("it is asked for");
        assert_eq!(asked.first(), Some(&0xfb), "{number}: {asked:?}");
        let mut within = framed(number, b"");
        within.extend_from_slice(&framed(0, b"\x03DELETE FROM t"));
        wire.send(&framed(number, &within));
        // Closed in the middle of an answer, and nothing of it was sent on.
        wire.stream_bytes();
        sluice.log_line_after(start, "why it was closed", |line| line.contains("packets out of order"));
        assert_eq!(database.count("t"), 3, "{number}");
    }
}

/// While a statement runs, what a client sends behind it waits at the client.
fn commands_sent_ahead(server: &'static MyServer) {
    let (database, sluice) = gate(server, TABLE);
    let mut wire = sluice.my_connect(&database);
    wire.query("SELECT 'warm'").expect_fine("warm");
    let before = sluice.memory_now();
    wire.start(&query("SELECT SLEEP(2)"));
    let long = query(&format!("SELECT 1{}", " ".repeat(1 << 20)));
    for _ in 0..64 {
        wire.start(&long);
    }
    for _ in 0..65 {
        wire.answer_to(3).expect_fine("in its turn");
    }
    let grown = sluice.most_memory().saturating_sub(before);
    assert!(grown < 24 << 20, "{} MiB for 64 MiB sent ahead", grown >> 20);
}

/// What stands before a query's text is as long as the server takes it for: types that it reads otherwise than their low byte says, and YEAR.
fn a_statement_within_an_attribute(server: &'static MyServer) {
    let (database, sluice) = gate(server, TABLE);
    let login = Login::of(TRUSTED).on(&database.name).asking_for(USUAL | packet::QUERY_ATTRIBUTES);
    let mut passed = 0;
    for kind in [0x4001u16, 0x0101, 0x400d, 0x000d, 0x0001] {
        let mut wire = MyWire::login(&sluice.address, &login);
        let hidden = if kind == 0x000d { "xSELECT 1 -- " } else { "SELECT 1 -- " };
        let mut sent = vec![3, 1, 1, 0, 1];
        sent.extend(kind.to_le_bytes());
        sent.push(0);
        sent.push(u8::try_from(hidden.len()).expect("short"));
        sent.extend(hidden.bytes());
        sent.extend(b"DELETE FROM t");
        wire.start(&sent);
        passed += u32::from(wire.message().is_some_and(|answer| answer.first() != Some(&0xff)));
        assert_eq!(database.count("t"), 3, "{kind:#x}");
    }
    // A number is one, and the text begins behind it. MariaDB knows no attributes.
    assert!(passed <= 1, "{passed}");
}

/// Each of them is small; together they are more than all sessions may keep.
fn prepared_texts_take_room(server: &'static MyServer) {
    let database = server.database(TABLE);
    let sluice = Setup::before_mysql(server).with("[sessions]\nmemory_bytes = 8388608").start();
    let (mut one, mut other) = (sluice.my_connect(&database), sluice.my_connect(&database));
    let text = format!("SELECT ?{}", " ".repeat(900_000));
    let mut prepared = Vec::new();
    let refused = loop {
        let outcome = one.command(&packet::prepare(&text));
        match outcome.error() {
            Some(failure) => break failure.clone(),
            None => prepared.push(outcome.prepared()),
        }
        assert!(prepared.len() < 20, "nothing bounds them");
    };
    assert!((8..11).contains(&prepared.len()) && refused.message.contains("no room"), "{refused:?} {}", prepared.len());
    // Another's everyday work goes on; values that come ahead of a guarded statement are not kept, so it is not judged by a part of them.
    let number = other.prepare("DELETE FROM t WHERE id > ?");
    for _ in 0..3 {
        other.start(&packet::long_data(number, 0, &[b'1'; 900_000]));
    }
    assert!(other.command(&execute(number, 0, &[None])).error().expect("refused").message.contains("came ahead"));
    for number in prepared {
        one.start(&packet::close(number));
    }
    assert_eq!(one.query("SELECT 1").value(), "1");
    assert!(other.command(&packet::prepare(&text)).error().is_none(), "all was given back");
    assert_eq!(other.query("SELECT count(*) FROM t").value(), "3");
}

/// So are those that SQL's own PREPARE gives a name: what is not kept is not known, and is asked about.
fn named_texts_take_room(server: &'static MyServer) {
    let database = server.database(TABLE);
    let sluice = Setup::before_mysql(server).with("[sessions]\nmemory_bytes = 8388608").start();
    let mut wire = sluice.my_connect(&database);
    for n in 0..20 {
        wire.query(&format!("PREPARE s{n} FROM 'SELECT {n}{}'", " ".repeat(900_000)))
            .expect_fine("the server has room");
    }
    assert_eq!(wire.query("EXECUTE s1").value(), "1");
    let refused = crate::harness::mysql::shop::Refused::any(&mut wire, "EXECUTE s19");
    assert!(refused.says("not known"), "{refused:?}");
    wire.command(&[packet::command::RESET_CONNECTION]);
    wire.query("PREPARE s19 FROM 'SELECT 19'").expect_fine("all was given back");
    assert_eq!(wire.query("EXECUTE s19").value(), "19");
}

/// Asked for although it was not offered: refused, or not used; in no case is what follows read as if it were plain.
fn a_compressed_stream(server: &'static MyServer) {
    let (database, sluice) = gate(server, TABLE);
    let mut wire = MyWire::open(&sluice.address);
    let greeting = Greeting::read(&wire.message().expect("a greeting"));
    assert_eq!(greeting.capabilities & (COMPRESS | ZSTD), 0);
    for flag in [COMPRESS, ZSTD] {
        let login = Login::of(TRUSTED).on(&database.name).asking_for(USUAL | flag).insisting();
        match MyWire::try_login(&sluice.address, &login) {
            Err(Failure { .. }) => {}
            Ok(mut wire) => assert_eq!(wire.query("SELECT count(*) FROM t").value(), "3"),
        }
    }
    let login = Login::of(TRUSTED).on(&database.name).over(Encryption::Plain);
    MyWire::login(&sluice.address, &login);
    assert_untouched(&database, &sluice);
}

/// Nothing changed, and Sluice still serves.
fn assert_untouched(database: &MyDatabase, sluice: &Sluice) {
    assert_eq!(database.count("t"), 3);
    let login = Login::of(TRUSTED).on(&database.name);
    let is_tls = MyWire::try_login(&sluice.address, &login);
    let mut wire = is_tls.unwrap_or_else(|_| MyWire::login(&sluice.address, &login.over(Encryption::Tls)));
    assert_eq!(wire.query("SELECT 'still here'").value(), "still here");
}
