//! A client proves to Sluice who it is, and Sluice logs in at the database for it (`auth = "scram"` and `"cert"`).
//!
//! ```text
//! client                     Sluice                                     database
//!   Startup ────────────────▶ user known? (users file, auth_query)
//!   ◀─── SCRAM, with the user's salt, or one made up ───
//!   proof ──────────────────▶ right: the ClientKey is learned; nothing was asked of the database before
//!                             Startup, SCRAM with the ClientKey, or the account's secret ──▶
//!   ◀─── AuthenticationOk ────────────────────────────────────────────────────────────────
//! ```
//!
//! Invariants: the user that was checked, the user that the database is told, and the principal of the session are one name, or an
//! account says otherwise; the database hears of nobody who did not prove who it is. Whatever is wrong with a user or a password,
//! the client sees the same messages in the same order; what it was stands in the log and the record.

use crate::ground::limits;
use crate::policy::scope::Principal;
use crate::protocol::certificate;
use crate::protocol::postgres::authentication;
use crate::protocol::postgres::frame::{ClientCutter, Frame};
use crate::protocol::postgres::handshake::{NEWEST_MINOR, Startup};
use crate::protocol::postgres::scram::{Asked, Channel, Fault, Proven, SCRAM, SCRAM_PLUS};
use crate::protocol::{Code, Refusal};
use crate::session::House;
use crate::session::door::{Checked, Proof, Shown, Stored, Verifiers, may_be};
use crate::session::link::Leg;
use crate::session::place::Place;
use crate::session::postgres::enter::{Credential, Shut, enter, nonce};
use crate::session::postgres::login::{self, Arrived, Trouble, Turned};
use crate::session::registry::Registry;
use crate::session::tries::{Met, Seeker};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Where somebody is logging in.
pub(in crate::session) struct Arrival<'a> {
    pub house: &'a House,
    pub shown: Option<&'a Shown>,
    pub checked: &'a Arc<Checked>,
    pub startup: &'a Startup,
    pub principal: &'a Principal,
    pub place: &'a Place,
}

/// The whole login.
pub(in crate::session) async fn admit(
    arrival: Arrival<'_>,
    mut client: Leg,
    registry: &Arc<Registry>,
) -> Result<Arrived, Turned> {
    let mut cutter = ClientCutter::default();
    let admitted = match arrival.prove(&mut client, &mut cutter).await {
        Ok(proven) => arrival.enter(&mut client, proven).await,
        Err(stop) => {
            if stop.is_without_a_try() {
                arrival.note_given_up();
            }
            Err(stop)
        }
    };
    match admitted {
        Ok(upstream) => login::welcome(client, upstream, cutter, registry).await,
        Err(Stop::Gone) => Ok(Arrived::Left),
        Err(Stop::Said(error)) => {
            let body = error.slice(error.len().min(5)..);
            client.send(error);
            client.close().await;
            Ok(Arrived::SentAway(body))
        }
        Err(Stop::Limited(left)) => {
            let refusal = refused("sluice: too many failed logins");
            let refusal = refusal.hint(format!("Try again in {} s.", left.as_secs() + 1));
            Err(Turned { client, refusal, why: "too many failed logins".to_owned() })
        }
        Err(Stop::Refused(refusal, why) | Stop::Wrong(refusal, why)) => Err(Turned { client, refusal, why }),
    }
}

/// Why a login goes no further.
enum Stop {
    Gone,
    /// The database's own ErrorResponse.
    Said(Bytes),
    /// What the client is told, and what the operator is.
    Refused(Refusal, String),
    /// A wrong try, and counted as one.
    Wrong(Refusal, String),
    /// Too many were wrong before; how long that lasts.
    Limited(Duration),
}

impl Stop {
    /// The client's doing, and not counted as a wrong try.
    fn is_without_a_try(&self) -> bool {
        match self {
            Stop::Gone => true,
            Stop::Refused(refusal, _) => matches!(refusal.code, Code::Protocol | Code::LoginRefused),
            Stop::Said(_) | Stop::Wrong(..) | Stop::Limited(_) => false,
        }
    }
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Stop {
        match trouble {
            Trouble::Refuse(refusal) => plainly(refusal),
            Trouble::Gone => Stop::Gone,
        }
    }
}

impl Arrival<'_> {
    /// What the client proved: `None` for a certificate, which teaches nothing that could be used at the database.
    async fn prove(&self, client: &mut Leg, cutter: &mut ClientCutter) -> Result<Option<Proven>, Stop> {
        if self.user().is_empty() {
            return Err(plainly(refused("sluice: no PostgreSQL user name specified in startup packet")));
        }
        self.negotiate(client);
        match &self.checked.proof {
            Proof::Scram(verifiers) => {
                self.wait_to_be_met(self.by_password()).await?;
                self.prove_by_scram(client, cutter, verifiers).await.map(Some)
            }
            Proof::Password(_) => Err(plainly(refused(
                "sluice: this listener checks logins in a way that PostgreSQL's protocol does not have",
            ))),
            Proof::Certificate(names) => {
                let certificate = client.wire().peer_certificate().and_then(certificate::common_name);
                let seeker =
                    Seeker { certificate: Some(certificate.as_deref().unwrap_or_default()), ..self.by_password() };
                self.wait_to_be_met(seeker).await?;
                let may = |certificate: &str| may_be(names, certificate, self.user());
                self.check_certificate(client, certificate.as_deref(), seeker, may).map(|()| None)
            }
        }
    }

    async fn wait_to_be_met(&self, seeker: Seeker<'_>) -> Result<(), Stop> {
        match self.met(seeker) {
            Met::Freely => Ok(()),
            Met::Slowly(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            Met::Refused(left) => Err(Stop::Limited(left)),
        }
    }

    fn check_certificate(
        &self,
        client: &Leg,
        certificate: Option<&str>,
        seeker: Seeker<'_>,
        may: impl Fn(&str) -> bool,
    ) -> Result<(), Stop> {
        if client.wire().peer_certificate().is_none() {
            let hint = "Give the client a certificate (sslcert and sslkey of libpq), and sslmode=require or more.";
            return Err(plainly(refused("sluice: connection requires a valid client certificate").hint(hint)));
        }
        let user = self.user();
        let failed = refused(&format!("sluice: certificate authentication failed for user \"{user}\""));
        let why = match certificate {
            None => "the certificate has not exactly one common name".to_owned(),
            Some(certificate) if !may(certificate) => {
                format!("the certificate of \"{certificate}\" may not log in as this user")
            }
            Some(_) if !self.can_be_a_user() => "the user's name is not one that PostgreSQL keeps whole".to_owned(),
            Some(_) => {
                self.house.tries.right(seeker);
                return Ok(());
            }
        };
        self.note_wrong(seeker);
        Err(Stop::Wrong(failed, why))
    }

    async fn prove_by_scram(
        &self,
        client: &mut Leg,
        cutter: &mut ClientCutter,
        verifiers: &Verifiers,
    ) -> Result<Proven, Stop> {
        let (user, began) = (self.user(), Instant::now());
        let stored = self.stored(verifiers).await?;
        // Made in any case: a user who exists must not be answered sooner.
        let mock = verifiers.mock.verifier(user);
        let (verifier, lacking) = match stored {
            Stored::Verifier(verifier) => {
                verifiers.mock.saw(&verifier);
                (verifier, None)
            }
            Stored::Nothing(why) => (mock, Some(why)),
        };
        until_the_next_step(began).await;
        let end_point = self.shown.and_then(|shown| shown.end_point.clone()).filter(|_| client.wire().is_tls());
        let channel = end_point.as_deref().map_or(Channel::None, Channel::EndPoint);
        client.send(match channel {
            Channel::EndPoint(_) => authentication::offer(&[SCRAM_PLUS, SCRAM]),
            Channel::None => authentication::offer(&[SCRAM]),
        });
        let first = said(client, cutter).await?;
        let Ok((mechanism, message)) = authentication::sasl_initial(first.body()) else {
            return Err(faulty(Fault::Malformed("the first response does not add up")));
        };
        let nonce =
            nonce().map_err(|_| plainly(Refusal::new(Code::CannotKnow, "sluice: no randomness for a login")))?;
        let (asked, answer) = Asked::by(mechanism, message, channel, verifier, &nonce).map_err(faulty)?;
        client.send(authentication::sasl_continue(&answer));
        let last = said(client, cutter).await?;
        // Again, as many may have begun at once before the first of them was found wrong.
        if let Met::Refused(left) = self.met(self.by_password()) {
            return Err(Stop::Limited(left));
        }
        match (asked.proof(last.body()), lacking) {
            (Ok(proven), None) => {
                self.house.tries.right(self.by_password());
                Ok(proven)
            }
            (Ok(_) | Err(Fault::Wrong), lacking) => {
                self.note_wrong(self.by_password());
                let told = format!("sluice: password authentication failed for user \"{user}\"");
                let why = lacking.unwrap_or("wrong password");
                Err(Stop::Wrong(Refusal::new(Code::WrongPassword, told), why.to_owned()))
            }
            (Err(fault), _) => Err(faulty(fault)),
        }
    }

    /// What is known of the user. Looked up in the database even for those in the file, so that the time it takes tells nothing.
    async fn stored(&self, verifiers: &Verifiers) -> Result<Stored, Stop> {
        let user = self.user();
        let looked_up = match &verifiers.query {
            Some(query) => self.house.control.look_up(&self.house.target, self.checked, query, user).await,
            None => Ok(Stored::Nothing("no such user in the users file")),
        };
        if !self.can_be_a_user() {
            return Ok(Stored::Nothing("the user's name is not one that PostgreSQL keeps whole"));
        }
        match (verifiers.users.get(user), looked_up) {
            (Some(stored), _) => Ok(stored.clone()),
            (None, Ok(stored)) => Ok(stored),
            (None, Err(why)) => {
                tracing::error!(listener = %self.house.listener, why, "a login cannot be checked");
                Err(Stop::Refused(Refusal::new(Code::Upstream, "sluice: logins cannot be checked at the moment"), why))
            }
        }
    }

    /// Logs in at the database; the client is told that it is in only then.
    async fn enter(&self, client: &mut Leg, proven: Option<Proven>) -> Result<Leg, Stop> {
        let user = self.user();
        let (upstream_user, credential) = match (self.checked.accounts.get(user), &proven) {
            (Some(account), _) => (account.upstream_user.as_str(), Credential::Password(&account.password)),
            (None, Some(proven)) => (user, Credential::Learned(&proven.learned)),
            (None, None) => {
                let refusal = refused(&format!("sluice: user \"{user}\" has no account at the database"));
                return Err(plainly(refusal.hint("The listener needs a [[listener.account]] for this user.")));
            }
        };
        let packet = self.startup.for_upstream(upstream_user, &self.principal.database);
        let upstream = enter(&self.house.target, &packet, upstream_user, credential).await;
        let upstream = upstream.map_err(|shut| self.shut(shut))?;
        if let Some(proven) = proven {
            client.send(authentication::sasl_final(&proven.server_final));
        }
        client.send(authentication::ok());
        Ok(upstream)
    }

    fn shut(&self, shut: Shut) -> Stop {
        let why = format!("the database did not let Sluice in: {shut}");
        match shut {
            Shut::Said(error) => Stop::Said(error),
            Shut::Unreachable(error) => {
                let address = &self.house.target.address;
                plainly(Refusal::new(
                    Code::Upstream,
                    format!("sluice: cannot reach the database at {address}: {error}"),
                ))
            }
            Shut::Lost(how) => plainly(login::lost(&how)),
            Shut::Cannot { why: what, hint } => {
                let refusal = Refusal::new(Code::LoginRefused, "sluice: cannot log in at the database for you");
                Stop::Refused(refusal.detail(format!("The database: {what}.")).hint(hint), why)
            }
        }
    }

    /// The version of the protocol is settled between client and Sluice before the database is there to ask.
    fn negotiate(&self, client: &mut Leg) {
        let unknown = self.startup.protocol_options();
        let minor = self.startup.minor();
        if minor > NEWEST_MINOR || !unknown.is_empty() {
            client.send(authentication::negotiate(minor.min(NEWEST_MINOR), &unknown));
        }
    }

    fn user(&self) -> &str {
        &self.principal.user
    }

    /// A name that came in another encoding, or that PostgreSQL would cut off, would be checked as one user and let in as another.
    fn can_be_a_user(&self) -> bool {
        self.user().len() <= limits::USER_NAME_BYTES_MAX && !self.user().contains(char::REPLACEMENT_CHARACTER)
    }

    fn by_password(&self) -> Seeker<'_> {
        Seeker { place: self.place, user: self.user(), certificate: None }
    }

    fn met(&self, seeker: Seeker<'_>) -> Met {
        self.house.tries.met(&self.checked.bounds, seeker, self.house.clock.instant())
    }

    fn note_wrong(&self, seeker: Seeker<'_>) {
        self.house.tries.wrong(&self.checked.bounds, seeker, self.house.clock.instant());
    }

    fn note_given_up(&self) {
        self.house.tries.gave_up(&self.checked.bounds, self.place, self.house.clock.instant());
    }
}

/// How long it took to look a user up tells whether there was something to find: nobody is answered in between.
async fn until_the_next_step(began: Instant) {
    let steps = began.elapsed().as_nanos() / limits::LOGIN_ANSWER_STEP.as_nanos() + 1;
    tokio::time::sleep_until(began + limits::LOGIN_ANSWER_STEP * u32::try_from(steps).unwrap_or(u32::MAX)).await;
}

async fn said(client: &mut Leg, cutter: &mut ClientCutter) -> Result<Frame, Stop> {
    login::password_message(client, cutter).await?.ok_or(Stop::Gone)
}

fn refused(message: &str) -> Refusal {
    Refusal::new(Code::LoginRefused, message)
}

/// The operator is told what the client is.
fn plainly(refusal: Refusal) -> Stop {
    let why = refusal.message.clone();
    Stop::Refused(refusal, why)
}

fn faulty(fault: Fault) -> Stop {
    plainly(match fault {
        Fault::Malformed(what) => Refusal::new(Code::Protocol, format!("sluice: malformed SCRAM message: {what}")),
        Fault::Binding(what) => refused(&format!("sluice: SCRAM channel binding: {what}")),
        Fault::Wrong => refused("sluice: the login failed"),
    })
}
