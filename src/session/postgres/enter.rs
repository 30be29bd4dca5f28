//! Logging in at the database ourselves: with the keys that a client's own proof taught us, or with a secret of ours.
//!
//! Invariants: a server that began SCRAM must show that it knows the verifier too before anything else is believed; where we log in with
//! a secret of ours (accounts, auth_query), a server that does not is believed only where nobody else can have answered (verified
//! TLS, a unix socket); what the server wants and we cannot give is named.
//!
//! Source: `pg_fe_sendauth` (fe-auth.c, 18).

use crate::ground::limits;
use crate::ground::secret::{NoRandomness, fill_random, hex};
use crate::protocol::certificate;
use crate::protocol::cursor::Cursor;
use crate::protocol::postgres::authentication::{self, Mechanisms, Request};
use crate::protocol::postgres::scram::{Asking, Challenged, Channel, Expecting, Fault, Keys, Knows, Learned};
use crate::session::door::Password;
use crate::session::link::Leg;
use crate::session::postgres::login::next_upstream;
use crate::session::upstream::{Attempt, Target};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::{Digest, Md5};
use std::fmt;
use std::io;
use zeroize::Zeroizing;

/// What we log in with.
#[derive(Debug, Clone, Copy)]
pub(in crate::session) enum Credential<'a> {
    Learned(&'a Learned),
    Password(&'a Password),
    /// The server is expected to ask for nothing.
    Nothing,
}

/// Why the database did not let us in.
#[derive(Debug)]
pub(in crate::session) enum Shut {
    Unreachable(io::Error),
    /// Its own ErrorResponse, as it came.
    Said(Bytes),
    /// It wants what we cannot give.
    Cannot {
        why: String,
        hint: &'static str,
    },
    Lost(String),
}

impl fmt::Display for Shut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shut::Unreachable(error) => write!(f, "it cannot be reached: {error}"),
            Shut::Said(message) => write!(f, "it says: {}", said(message.get(5..).unwrap_or_default())),
            Shut::Cannot { why, .. } => write!(f, "{why}"),
            Shut::Lost(how) => write!(f, "it broke off: {how}"),
        }
    }
}

/// Connects and logs in; the leg stands right behind AuthenticationOk. `user` is the one named in the startup packet.
pub(in crate::session) async fn enter(
    target: &Target,
    packet: &Bytes,
    user: &str,
    credential: Credential<'_>,
) -> Result<Leg, Shut> {
    let attempts = target.attempts();
    for (index, attempt) in attempts.iter().enumerate() {
        let is_last = index + 1 == attempts.len();
        let upstream = match target.connect(*attempt).await {
            Ok(upstream) => upstream,
            Err(error) if is_last || *attempt == Attempt::Plain => return Err(Shut::Unreachable(error)),
            Err(_) => continue,
        };
        match authenticate(upstream, packet, user, credential, target.verified).await {
            Err((Shut::Said(_), Answered::Nothing)) if !is_last => {}
            Err((shut, _)) => return Err(shut),
            Ok(upstream) => return Ok(upstream),
        }
    }
    Err(Shut::Lost("no way of connecting was left to try".to_owned()))
}

/// Ours in an exchange: random, printable, without commas.
pub(in crate::session) fn nonce() -> Result<String, NoRandomness> {
    let mut chance = [0u8; 18];
    fill_random(&mut chance)?;
    Ok(STANDARD.encode(chance))
}

/// Whether a server that says no had asked for anything before: if not, libpq tries the other way (TLS or not).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answered {
    Nothing,
    Something,
}

/// Whether nobody but the database can be at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vouched {
    Yes,
    No,
}

enum Step {
    Begun,
    Asking(Asking),
    Expecting(Expecting),
    /// Nothing more is due but its yes or no.
    Told,
}

async fn authenticate(
    mut upstream: Leg,
    packet: &Bytes,
    user: &str,
    credential: Credential<'_>,
    verified: bool,
) -> Result<Leg, (Shut, Answered)> {
    upstream.send(packet.clone());
    let mut step = Step::Begun;
    loop {
        let answered = if matches!(step, Step::Begun) { Answered::Nothing } else { Answered::Something };
        let shut = |shut: Shut| (shut, answered);
        let lost = |how: &str| (Shut::Lost(how.to_owned()), answered);
        let frame = match next_upstream(&mut upstream).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Err(lost("it closed the connection during the login")),
            Err(error) => return Err(lost(&error.to_string())),
        };
        match frame.tag() {
            b'R' => {}
            // Which version of the protocol is spoken was settled with the client; see `admit`.
            b'N' | b'v' => continue,
            b'E' => return Err(shut(Shut::Said(frame.into_bytes()))),
            other => return Err(lost(&format!("it sent message type {other} during the login"))),
        }
        let Ok(request) = authentication::request(frame.body()) else {
            return Err(lost("its authentication request does not add up"));
        };
        // Over TLS that anybody could have answered, anybody may be listening, and answering.
        let vouched = match upstream.wire().is_tls() && verified || upstream.wire().is_unix() {
            true => Vouched::Yes,
            false => Vouched::No,
        };
        step = match (request, step) {
            // A user who proved itself to us is taken where it wants to go. What is ours goes only to the database: an answer of
            // anybody's to auth_query would let anybody in, as whomever.
            (Request::Ok, Step::Begun) if vouched == Vouched::No && !matches!(credential, Credential::Learned(_)) => {
                return Err(shut(not_vouched("it asks for nothing")));
            }
            (Request::Ok, Step::Begun | Step::Told) => return Ok(upstream),
            (Request::Sasl(offered), Step::Begun) => begin(&mut upstream, offered, credential).map_err(shut)?,
            (Request::SaslContinue(message), Step::Asking(asking)) => {
                let challenged = asking.challenged(message).map_err(|fault| shut(faulty(fault)))?;
                let (answer, expecting) = answer(challenged, credential).await.map_err(shut)?;
                upstream.send(authentication::sasl_response(&answer));
                Step::Expecting(expecting)
            }
            (Request::SaslFinal(message), Step::Expecting(expecting)) => {
                expecting.check(message).map_err(|fault| shut(faulty(fault)))?;
                Step::Told
            }
            (Request::Md5(salt), Step::Begun) => {
                let secret = secret(credential, "an MD5 password", vouched).map_err(shut)?;
                upstream.send(authentication::password(md5_answer(secret, user, salt).as_bytes()));
                Step::Told
            }
            (Request::Cleartext, Step::Begun) => {
                let secret = secret(credential, "a clear-text password", vouched).map_err(shut)?;
                upstream.send(authentication::password(secret.expose().as_bytes()));
                Step::Told
            }
            (Request::Other(code), _) => {
                return Err(shut(Shut::Cannot {
                    why: format!("it asks for an authentication that Sluice does not speak (code {code})"),
                    hint: "Say scram-sha-256 in its pg_hba.conf for connections from Sluice.",
                }));
            }
            // Above all an AuthenticationOk from a server that did not finish SCRAM: it may not know the verifier.
            _ => return Err(lost("its authentication requests are out of order")),
        };
    }
}

fn begin(upstream: &mut Leg, offered: Mechanisms, credential: Credential<'_>) -> Result<Step, Shut> {
    if let Credential::Nothing = credential {
        return Err(no_secret("a SCRAM password"));
    }
    let end_point = upstream.wire().peer_certificate().and_then(certificate::end_point);
    let channel = match (&end_point, offered.scram_plus) {
        (Some(digest), true) => Channel::EndPoint(digest),
        _ => Channel::None,
    };
    if channel == Channel::None && !offered.scram {
        return Err(Shut::Cannot {
            why: "it offers no SASL mechanism that Sluice speaks".to_owned(),
            hint: "Say scram-sha-256 in its pg_hba.conf for connections from Sluice.",
        });
    }
    let nonce = nonce().map_err(|error| Shut::Lost(error.to_string()))?;
    let could_bind = end_point.is_some() && !offered.scram_plus;
    let (mechanism, first, asking) = Asking::begin(channel, could_bind, &nonce);
    upstream.send(authentication::sasl_begin(mechanism, &first));
    Ok(Step::Asking(asking))
}

async fn answer(challenged: Challenged, credential: Credential<'_>) -> Result<(Zeroizing<String>, Expecting), Shut> {
    let (challenged, keys) = match credential {
        Credential::Nothing => return Err(no_secret("a SCRAM password")),
        Credential::Learned(learned) => {
            let keys = challenged.keys(Knows::Learned(learned));
            (challenged, keys)
        }
        // Deriving takes milliseconds: not on the thread that serves others.
        Credential::Password(password) => {
            let password = password.clone();
            let derive = move || -> (Challenged, Option<Keys>) {
                let keys = challenged.keys(Knows::Password(password.expose()));
                (challenged, keys)
            };
            tokio::task::spawn_blocking(derive).await.map_err(|error| Shut::Lost(error.to_string()))?
        }
    };
    let keys = keys.ok_or(Shut::Cannot {
        why: "its verifier of this user is not the one that Sluice checked against".to_owned(),
        hint: "Copy pg_authid.rolpassword into the users file again, or use auth_query.",
    })?;
    Ok(challenged.answer(&keys))
}

fn secret<'a>(credential: Credential<'a>, wanted: &str, vouched: Vouched) -> Result<&'a Password, Shut> {
    match credential {
        Credential::Password(_) if vouched == Vouched::No => Err(not_vouched(&format!("it asks for {wanted}"))),
        Credential::Password(password) => Ok(password),
        Credential::Nothing => Err(no_secret(wanted)),
        Credential::Learned(_) => Err(Shut::Cannot {
            why: format!("it asks for {wanted}, and from a login by SCRAM nobody learns the password"),
            hint: "Say scram-sha-256 in its pg_hba.conf for connections from Sluice, or give the user an account on the listener.",
        }),
    }
}

/// Only SCRAM shows who is at the other end; whatever else a server says, whoever stands between could say.
fn not_vouched(what: &str) -> Shut {
    Shut::Cannot {
        why: format!("{what} over a connection without TLS that is verified"),
        hint: "Say scram-sha-256 in its pg_hba.conf for Sluice's own users; or upstream_tls = \"verify-full\" on the listener, or \
               upstream = \"unix:…\".",
    }
}

fn no_secret(wanted: &str) -> Shut {
    Shut::Cannot {
        why: format!("it asks for {wanted}, and none is configured"),
        hint: "Give auth_query a password_file or password_env.",
    }
}

fn faulty(fault: Fault) -> Shut {
    Shut::Lost(match fault {
        Fault::Malformed(what) | Fault::Binding(what) => format!("a SCRAM message of its does not add up: {what}"),
        Fault::Wrong => "it could not show that it knows this user's verifier: it may not be the database".to_owned(),
    })
}

/// `md5` and the digest of (the digest of password and user, and the salt), all in hexadecimal digits.
fn md5_answer(password: &Password, user: &str, salt: [u8; 4]) -> String {
    let inner = Md5::new().chain_update(password.expose().as_bytes()).chain_update(user).finalize();
    let outer = Md5::new().chain_update(hex(&inner)).chain_update(salt).finalize();
    format!("md5{}", hex(&outer))
}

/// Code and message of an ErrorResponse's body, for the log.
pub(in crate::session) fn said(body: &[u8]) -> String {
    let mut cursor = Cursor::new(body);
    let mut parts = Vec::new();
    while let Ok(field) = cursor.u8() {
        let Ok(value) = cursor.cstr() else { break };
        if matches!(field, b'C' | b'M') {
            parts.push(String::from_utf8_lossy(value).chars().take(limits::AUDIT_TEXT_BYTES_MAX).collect::<String>());
        }
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::postgres::handshake;
    use crate::protocol::postgres::scram::{Asked, Verifier};
    use crate::session::wire::Wire;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn the_md5_answer_is_that_of_libpq() {
        // As postgres-protocol's own test has it.
        let password = Password::new(Zeroizing::new("password".to_owned()));
        assert_eq!(md5_answer(&password, "md5_user", [0x2a, 0x3d, 0x8f, 0xe0]), "md562af4dd09bbb41884907a838a3233294");
    }

    /// What becomes of a login at a server that says this, message by message, waiting for an answer before each but the first.
    async fn against(says: Vec<Bytes>, credential: Credential<'_>) -> Result<Leg, Shut> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = listener.local_addr().expect("an address");
        let stream = tokio::net::TcpStream::connect(address).await.expect("a server");
        let (server, _) = listener.accept().await.expect("a client");
        meet(server, Wire::Tcp(stream), says, credential).await
    }

    /// The same where nobody else can have answered.
    async fn against_the_true_one(says: Vec<Bytes>, credential: Credential<'_>) -> Result<Leg, Shut> {
        let (server, stream) = tokio::net::UnixStream::pair().expect("two sockets");
        meet(server, Wire::Unix(stream), says, credential).await
    }

    async fn meet(
        mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin + Send + 'static,
        wire: Wire,
        says: Vec<Bytes>,
        credential: Credential<'_>,
    ) -> Result<Leg, Shut> {
        tokio::spawn(async move {
            let mut heard = [0; 4096];
            for message in says {
                let _ = stream.read(&mut heard).await.expect("an answer");
                stream.write_all(&message).await.expect("a client that listens");
            }
            let _ = stream.read(&mut heard).await;
        });
        let packet = handshake::startup_packet(&[("user", "anna")]);
        authenticate(Leg::new(wire), &packet, "anna", credential, false).await.map_err(|(shut, _)| shut)
    }

    #[tokio::test]
    async fn a_server_that_does_not_show_that_it_knows_the_user_is_not_believed() {
        let password = Password::new(Zeroizing::new("pencil".to_owned()));
        let credential = Credential::Password(&password);
        let offer = || authentication::offer(&["SCRAM-SHA-256"]);
        // It cannot continue a nonce that it does not read, so it lets us in at once, or gives up a step later.
        for says in [
            vec![offer(), authentication::ok()],
            vec![offer(), authentication::sasl_final("v=AAAA")],
            vec![offer(), authentication::sasl_continue("r=another,s=AAAA,i=1")],
            vec![offer(), authentication::offer(&["SCRAM-SHA-256"])],
            vec![authentication::sasl_final("v=AAAA")],
            vec![Bytes::from_static(b"Z\0\0\0\x05I")],
            vec![Bytes::from_static(b"R\0\0\0\x06\0\0")],
            vec![],
        ] {
            let shown = format!("{says:?}");
            assert!(matches!(against(says, credential).await, Err(Shut::Lost(_))), "{shown}");
        }
        against_the_true_one(vec![authentication::ok()], credential).await.expect("a server that trusts");
    }

    #[tokio::test]
    async fn no_password_goes_out_in_clear_text_and_none_is_made_up() {
        let password = Password::new(Zeroizing::new("pencil".to_owned()));
        let cleartext = || vec![Bytes::from_static(b"R\0\0\0\x08\0\0\0\x03"), authentication::ok()];
        let md5 = || vec![Bytes::from_static(b"R\0\0\0\x0c\0\0\0\x05salt"), authentication::ok()];
        let gss = || vec![Bytes::from_static(b"R\0\0\0\x08\0\0\0\x07")];
        let oauth = || vec![authentication::offer(&["OAUTHBEARER"])];
        let secret = Credential::Password(&password);
        for (says, credential) in [
            (cleartext(), secret),
            (cleartext(), Credential::Nothing),
            (md5(), Credential::Nothing),
            (vec![authentication::offer(&["SCRAM-SHA-256"])], Credential::Nothing),
            (gss(), secret),
            (oauth(), secret),
        ] {
            let shown = format!("{says:?}");
            assert!(matches!(against(says, credential).await, Err(Shut::Cannot { .. })), "{shown}");
        }
        for says in [md5(), cleartext()] {
            against_the_true_one(says, secret).await.expect("it is answered");
        }
    }

    /// By a whole exchange: there is no other way to it.
    fn learned() -> Learned {
        let verifier = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        let verifier = Verifier::parse(verifier).expect("that of RFC 7677");
        let (mechanism, first, asking) = Asking::begin(Channel::None, false, "ours");
        let asked = Asked::by(mechanism, first.as_bytes(), Channel::None, verifier, "theirs");
        let (asked, challenge) = asked.expect("asked");
        let challenged = asking.challenged(challenge.as_bytes()).expect("challenged");
        let keys = challenged.keys(Knows::Password("pencil")).expect("keys");
        asked.proof(challenged.answer(&keys).0.as_bytes()).expect("proven").learned
    }

    #[tokio::test]
    async fn who_may_be_anybody_is_not_believed_where_the_secret_is_ours() {
        let password = Password::new(Zeroizing::new("pencil".to_owned()));
        let learned = learned();
        let md5 = || vec![Bytes::from_static(b"R\0\0\0\x0c\0\0\0\x05salt"), authentication::ok()];
        let nothing = || vec![authentication::ok()];
        for (says, credential, fits) in [
            (nothing(), Credential::Password(&password), false),
            (nothing(), Credential::Nothing, false),
            (md5(), Credential::Password(&password), false),
            // The client goes where it would have gone without us.
            (nothing(), Credential::Learned(&learned), true),
        ] {
            let shown = format!("{says:?} for {credential:?}");
            assert_eq!(against(says.clone(), credential).await.is_ok(), fits, "{shown}");
            let at_the_true_one = against_the_true_one(says, credential).await;
            assert!(at_the_true_one.is_ok(), "{shown}: {:?}", at_the_true_one.err());
        }
    }

    #[test]
    fn an_error_is_quoted_in_part() {
        assert_eq!(said(b"SFATAL\0C28P01\0Mno\0Dsecret\0\0"), "28P01 no");
        assert_eq!(said(b"C"), "");
    }
}
