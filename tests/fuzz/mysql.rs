//! What is fuzzed of MySQL's protocol: packets after a login, and those of one.

use bytes::{Bytes, BytesMut};
use sluice::protocol::mysql::capabilities::Capabilities;
use sluice::protocol::mysql::command::{self, Command, Known};
use sluice::protocol::mysql::exchange::{Exchange, Factors, Next as Word, Privacy};
use sluice::protocol::mysql::frame::{ClientCutter, Frame, HEADER, Next, Packet, packet};
use sluice::protocol::mysql::handshake::{self, Greeting, Opening};
use sluice::protocol::mysql::response::{self, Answer, Event, Expected};
use sluice::protocol::mysql::values::{Kind, Texts};
use std::collections::BTreeMap;

const ALL: &[Capabilities] = &[
    Capabilities(1 << 9 | 1 << 15),
    Capabilities(1 << 9 | 1 << 15 | 1 << 19 | 1 << 20 | 1 << 23 | 1 << 24 | 1 << 27),
    Capabilities(1 << 9 | 1 << 15 | 1 << 19 | 1 << 24 | 1 << 32 | 1 << 34 | 1 << 35 | 1 << 36),
];

const EXPECTED: &[Expected] =
    &[Expected::Results, Expected::Prepared, Expected::Rows, Expected::Fields, Expected::Text, Expected::End];

/// A stream is cut into the same units however it arrives, and no byte is lost; commands are taken apart without a panic; an answer is the
/// same however it arrives.
pub fn packets(data: &[u8]) {
    let [chunk, choice, stream @ ..] = data else { return };
    let (chunk, choice) = (usize::from(*chunk).max(1), usize::from(*choice));
    let capabilities = ALL[choice % ALL.len()];
    for in_data in [false, true] {
        let whole = cut(stream, stream.len().max(1), in_data);
        assert_eq!(whole, cut(stream, chunk, in_data), "the same stream in other pieces");
        assert!(stream.starts_with(&whole.concat), "what was cut is what came");
        for frame in whole.frames.iter().filter_map(|bytes| Frame::encoded(Bytes::copy_from_slice(bytes))) {
            take_apart(&frame, capabilities);
        }
    }
    for expected in EXPECTED {
        let whole = answered(Answer::new(*expected, capabilities), stream, stream.len().max(1));
        let parts = answered(Answer::new(*expected, capabilities), stream, chunk);
        assert_eq!(whole.events, parts.events, "the same answer in other pieces");
        if !whole.failed {
            assert_eq!(whole, parts, "as far as it goes");
        }
    }
    ends(stream, capabilities);
}

#[derive(Debug, PartialEq, Eq)]
struct Cut {
    frames: Vec<Vec<u8>>,
    concat: Vec<u8>,
    failed: bool,
}

fn cut(stream: &[u8], chunk: usize, in_data: bool) -> Cut {
    let mut cut = Cut { frames: Vec::new(), concat: Vec::new(), failed: false };
    let (mut cutter, mut inbox) = (ClientCutter::default(), BytesMut::new());
    if in_data {
        cutter.expect_data(1);
    }
    for piece in stream.chunks(chunk) {
        inbox.extend_from_slice(piece);
        loop {
            match cutter.next(&mut inbox) {
                Ok(Next::Frame(frame)) => {
                    let bytes = frame.into_bytes();
                    cut.concat.extend_from_slice(&bytes);
                    cut.frames.push(bytes.to_vec());
                }
                Ok(Next::Skipped(command)) => panic!("nothing was given up, and a command {command} was"),
                Ok(Next::DataPart(part)) => {
                    assert!(!part.is_empty(), "a part of nothing would be asked for for ever");
                    cut.concat.extend_from_slice(&part);
                }
                Ok(Next::DataEnd(part)) => cut.concat.extend_from_slice(&part),
                Ok(Next::Need(count)) => {
                    assert!(count > 0, "needing nothing is having everything");
                    break;
                }
                Err(_) => {
                    cut.failed = true;
                    return cut;
                }
            }
        }
    }
    cut
}

fn take_apart(frame: &Frame, capabilities: Capabilities) {
    let payload = frame.payload();
    let texts = Texts::default();
    match command::read(frame, capabilities) {
        Ok(Command::Query(query)) => {
            assert_eq!(&payload[query.text_at..], &query.text[..], "the text is the end of the payload");
            query.attributes.iter().for_each(|attribute| drop(attribute.value.literal(&texts)));
        }
        Ok(Command::ChangeUser(change)) => {
            let again = Bytes::copy_from_slice(&change.told(capabilities));
            let mut out = BytesMut::new();
            sluice::protocol::mysql::frame::put_packet(&mut out, 0, &again);
            let again = Frame::encoded(out.freeze()).expect("one command");
            assert_eq!(command::read(&again, capabilities), Ok(Command::ChangeUser(change)), "as it was told");
        }
        _ => {}
    }
    let long = BTreeMap::from([(1, Bytes::from_static(b"long"))]);
    let kinds = [Kind(3), Kind(0xfd), Kind(0x8008), Kind(12)];
    for parameters in 0..=4 {
        let known = Known { parameters, kinds: &kinds, long: &long };
        if let Ok(executed) = command::execute(frame, capabilities, known) {
            assert_eq!(executed.values.len(), usize::from(parameters));
            let _any_answer = executed.parameters(&texts);
        }
        if let Ok(bulk) = command::bulk(frame, known) {
            assert!(bulk.rows.iter().all(|row| row.len() == usize::from(parameters)));
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Answered {
    events: Vec<(usize, Event)>,
    taken: usize,
    failed: bool,
}

fn answered(mut answer: Answer, stream: &[u8], chunk: usize) -> Answered {
    let (mut inbox, mut taken, mut events) = (BytesMut::new(), 0, Vec::new());
    for part in stream.chunks(chunk) {
        inbox.extend_from_slice(part);
        loop {
            let Ok(step) = answer.step(&inbox) else { return Answered { events, taken, failed: true } };
            assert!(step.pass + step.packet <= inbox.len(), "only what is there is passed on");
            let _ = inbox.split_to(step.pass + step.packet);
            taken += step.pass + step.packet;
            let Some(event) = step.event else { break };
            events.push((taken, event));
            answer.file_sent();
        }
    }
    Answered { events, taken, failed: false }
}

fn ends(data: &[u8], capabilities: Capabilities) {
    let bytes = Packet::new(1, &data[..data.len().min(1 << 16)]).into_bytes();
    let Ok(end) = response::read_end(&bytes, capabilities) else { return };
    if let response::End::Okay(okay) = &end {
        let _any_answer = (response::tracked(&bytes, okay), response::info(&bytes, okay));
    }
    let mut patched = bytes.to_vec();
    if response::patch_status(&mut patched, capabilities, 0x0103) {
        assert_eq!(patched.len(), bytes.len());
        let again = response::read_end(&patched, capabilities).expect("what was read can be read again");
        let form = end.status().unwrap_or_default() & response::status::STATE_CHANGED;
        assert_eq!((again.status(), again.warnings()), (Some(0x0103 | form), end.warnings()));
    }
}

/// A greeting is patched and nothing else; who logs in is told as it said; no password is passed on in clear to where others read along,
/// whatever the server says.
pub fn login(data: &[u8]) {
    let [choice, rest @ ..] = data else { return };
    let offered = ALL[usize::from(*choice) % ALL.len()];
    if let Ok(greeting) = Greeting::read(Packet::new(0, &rest[..rest.len().min(1 << 16)])) {
        let patched = greeting.offering(offered.with(Capabilities::PLUGIN_AUTH));
        let before = Packet::new(0, &rest[..rest.len().min(1 << 16)]).into_bytes();
        assert_eq!(patched.len(), before.len());
        let others = patched.iter().zip(&before).filter(|(one, other)| one != other).count();
        assert!(others <= 8, "only capabilities are other");
        let _any_answer = greeting.server();
    }
    if let Ok(Opening::Login(said)) = handshake::opening(rest, offered) {
        let told = said.told(1, said.capabilities);
        if said.proof.len() < 256 {
            let Ok(Opening::Login(again)) = handshake::opening(&told[HEADER..], offered) else { panic!("no login") };
            assert_eq!((&again.user, &again.proof, &again.plugin), (&said.user, &said.proof, &said.plugin));
        }
        let _any_answer = said.attribute("program_name");
    }
    talk(*choice, rest);
}

/// What the client says whenever it may: a password, in the form of a leg with TLS.
const PASSWORD: &[u8] = b"a password that nobody may read\0\0";
const HASHED: &[&[u8]] = &[b"caching_sha2_password", b"sha256_password", b"mysql_clear_password", b"dialog"];

fn talk(choice: u8, data: &[u8]) {
    let plugin = Bytes::from_static(HASHED[usize::from(choice) % HASHED.len()]);
    let proof = zeroize(PASSWORD);
    let begun = Exchange::begin(Privacy::Sealed, Privacy::Open, Some(&plugin), &proof, [7; 20]);
    let Ok((exchange, told, first)) = begun else { return };
    let mut exchange = exchange.of(if choice < 128 { Factors::One } else { Factors::Several });
    if plugin != HASHED[0] {
        assert!(told.is_some_and(|told| told != plugin) && first.is_empty(), "the first word is not passed on");
    }
    let mut inbox = BytesMut::from(data);
    while let Ok(Some(packet)) = packet(&mut inbox, 1 << 16) {
        match exchange.server_said(&packet) {
            Ok(Word::ToClient(_) | Word::ToServer(_)) => {}
            Ok(Word::In | Word::Refused) | Err(_) => return,
        }
        if exchange.is_clients_turn() {
            let known = HASHED.iter().any(|plugin| exchange.plugin() == *plugin);
            match exchange.client_said(PASSWORD, None) {
                Ok(Word::ToServer(words)) => assert!(!known || words[..] != *PASSWORD, "a password in clear"),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}

fn zeroize(bytes: &[u8]) -> sluice::protocol::mysql::rsa::Password {
    let mut password = sluice::protocol::mysql::rsa::Password::default();
    password.extend_from_slice(bytes);
    password
}
