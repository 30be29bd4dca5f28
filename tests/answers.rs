//! What real servers answered, held against the reader of answers.
//!
//! `answers/mysql.txt` holds a line an answer: which server and command, what was expected, the capabilities in force, the bytes. They were
//! taken from MySQL 9.7.4 and MariaDB 10.11.19, each command alone on its connection, all that came within a quarter of a second: so an
//! answer must be over with its last byte, and not before.

use bytes::BytesMut;
use sluice::protocol::mysql::capabilities::Capabilities;
use sluice::protocol::mysql::response::{Answer, Event, Expected};

#[test]
fn real_answers_are_over_with_their_last_byte() {
    let mut count = 0;
    for line in include_str!("answers/mysql.txt").lines() {
        let [name, kind, capabilities, bytes] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let expected = match kind {
            "R" => Expected::Results,
            "P" => Expected::Prepared,
            "F" => Expected::Rows,
            "D" => Expected::Fields,
            "T" => Expected::Text,
            "E" => Expected::End,
            other => panic!("{other}"),
        };
        let capabilities = Capabilities(u64::from_str_radix(capabilities, 16).expect("a number"));
        let bytes = unhex(bytes);
        for size in [1, 7, bytes.len()] {
            over_at_the_end(name, Answer::new(expected, capabilities), &bytes, size);
        }
        count += 1;
    }
    assert!(count > 500, "{count} answers");
}

fn over_at_the_end(name: &str, mut answer: Answer, bytes: &[u8], size: usize) {
    let (mut inbox, mut taken) = (BytesMut::new(), 0);
    for part in bytes.chunks(size) {
        inbox.extend_from_slice(part);
        loop {
            assert!(!answer.is_over() || taken == bytes.len(), "{name}: over after {taken} of {} bytes", bytes.len());
            let step = answer.step(&inbox).unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
            let _ = inbox.split_to(step.pass + step.packet);
            taken += step.pass + step.packet;
            if step.event == Some(Event::FileWanted) {
                answer.file_sent();
            }
            if step.event.is_none() {
                break;
            }
        }
    }
    assert!(answer.is_over() && taken == bytes.len(), "{name}: not over after {} bytes", bytes.len());
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("a byte");
    text.as_bytes().chunks(2).map(digits).collect()
}
