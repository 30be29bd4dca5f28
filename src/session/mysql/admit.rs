//! A client proves to Sluice who it is, and Sluice logs in at the database for it (`auth = "password"` and `"cert"`).
//!
//! ```text
//! client                                Sluice                                        server
//!   ◀── greeting, scramble of ours ────   users file: known? or else one made up
//!   login, with a plugin's first word ─▶
//!   ◀── switch to the user's plugin ───   where it is another
//!   proof ─────────────────────────────▶  mysql_native_password, ed25519: held against what is kept
//!   ◀── the password itself ───────────   caching_sha2_password
//!   password over TLS, or under our key ▶ tried out
//!                                         right: the account's login (`enter`) ───────▶
//!   ◀── OK ────────────────────────────────────────────────────────────────────────────
//! ```
//!
//! Invariants: the server hears of nobody who did not prove who it is; a password in clear is never asked for, nor taken, over a leg that
//! others can read; whatever is wrong with a user or a password, the client sees the same packets in the same order, and what it was stands
//! in the log and the record. Nothing of a password is kept.

use crate::ground::secret::fill_random;
use crate::policy::scope::Principal;
use crate::protocol::certificate;
use crate::protocol::cursor::Short;
use crate::protocol::mysql::capabilities::Capabilities;
use crate::protocol::mysql::exchange::Privacy;
use crate::protocol::mysql::handshake::{self, CACHING_SHA2, Greeting, NATIVE, SCRAMBLE, sha2};
use crate::protocol::mysql::rsa::Password;
use crate::protocol::mysql::verifier::{self, NONCE, Verifier};
use crate::protocol::{Code, Refusal};
use crate::session::House;
use crate::session::door::{Account, Checked, Logins, Passwords, Proof, may_be};
use crate::session::mysql::enter;
use crate::session::mysql::login::{self, Arrived, Came, Met, Side, Turned};
use crate::session::place::Place;
use crate::session::tries::{self, Seeker};
use std::io;
use std::time::Duration;

/// Where somebody is logging in.
pub(in crate::session) struct Arrival<'a> {
    pub house: &'a House,
    pub checked: &'a Checked,
    pub principal: &'a Principal,
    pub place: &'a Place,
    /// What the client was greeted with.
    pub greeted: &'a Greeting,
}

/// What a client is greeted with: the server's own words, but for the scramble and the plugin where Sluice asks for a password. A proof made
/// with the scramble of whoever answers for the server could be one that was overheard.
pub(in crate::session) fn greeting(logins: &Logins, theirs: &Greeting) -> Result<Greeting, Refusal> {
    let Logins::Checked(checked) = logins else { return Ok(theirs.clone()) };
    let Proof::Password(passwords) = &checked.proof else { return Ok(theirs.clone()) };
    let ours = theirs.asking(scramble()?, passwords.plugin());
    ours.map_err(|Short| Refusal::new(Code::Upstream, "sluice: the database's greeting names no plugin"))
}

/// The whole login.
pub(in crate::session) async fn admit(arrival: Arrival<'_>, mut came: Came, met: Met) -> Result<Arrived, Turned> {
    let house = arrival.house;
    let proven = arrival.prove(&mut came).await;
    if proven.as_ref().is_err_and(Stop::is_without_a_try) {
        house.tries.gave_up(&arrival.checked.bounds, arrival.place, house.clock.instant());
    }
    let stop = match proven.and_then(|()| arrival.account()) {
        Ok(account) => return enter::enter(came, met, account, &house.target, &house.registry).await,
        Err(stop) => stop,
    };
    met.leave().await;
    let client = came.side;
    match stop {
        Stop::Gone => Ok(Arrived::Left),
        Stop::Limited(left) => {
            let refusal = refused("sluice: too many failed logins".to_owned());
            Err(Turned::plainly(client, refusal.hint(format!("Try again in {} s.", left.as_secs() + 1))))
        }
        Stop::Refused(refusal) => Err(Turned::plainly(client, refusal)),
        Stop::Wrong(refusal, why) => Err(Turned { client, refusal, why }),
    }
}

/// Why a login goes no further.
enum Stop {
    Gone,
    /// The operator is told what the client is.
    Refused(Refusal),
    /// A wrong try, and counted as one: what the client is told, and what the operator is.
    Wrong(Refusal, String),
    /// Too many were wrong before; how long that lasts.
    Limited(Duration),
}

impl Stop {
    /// The client's doing, and not counted as a wrong try.
    fn is_without_a_try(&self) -> bool {
        match self {
            Stop::Gone => true,
            Stop::Refused(refusal) => matches!(refusal.code, Code::Protocol | Code::LoginRefused),
            Stop::Wrong(..) | Stop::Limited(_) => false,
        }
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

impl Arrival<'_> {
    async fn prove(&self, came: &mut Came) -> Result<(), Stop> {
        match &self.checked.proof {
            Proof::Password(passwords) => {
                self.wait_to_be_met(self.by_password()).await?;
                self.prove_by_password(came, passwords).await
            }
            Proof::Certificate(names) => {
                let Some(shown) = came.wire().peer_certificate() else {
                    let refusal = refused("sluice: connection requires a valid client certificate".to_owned());
                    return Err(refusal.hint("Give the client a certificate (--ssl-cert and --ssl-key).").into());
                };
                let name = certificate::common_name(shown);
                let seeker = Seeker { certificate: Some(name.as_deref().unwrap_or_default()), ..self.by_password() };
                self.wait_to_be_met(seeker).await?;
                self.check_certificate(name.as_deref(), seeker, |name| may_be(names, name, self.user()))?;
                self.hear_out(came).await
            }
            Proof::Scram(_) => Err(refused(
                "sluice: this listener checks logins in a way that MySQL's protocol does not have".to_owned(),
            )
            .into()),
        }
    }

    fn account(&self) -> Result<&Account, Stop> {
        let user = self.user();
        self.checked.accounts.get(user).ok_or_else(|| {
            let refusal = refused(format!("sluice: user \"{user}\" has no account at the database"));
            refusal.hint("The listener needs a [[listener.account]] for this user.").into()
        })
    }

    fn check_certificate(
        &self,
        name: Option<&str>,
        seeker: Seeker<'_>,
        may: impl Fn(&str) -> bool,
    ) -> Result<(), Stop> {
        let why = match name {
            None => "the certificate has not exactly one common name".to_owned(),
            Some(name) if !may(name) => format!("the certificate of \"{name}\" may not log in as this user"),
            Some(_) => {
                self.house.tries.right(seeker);
                return Ok(());
            }
        };
        self.note_wrong(seeker);
        let told = format!("sluice: certificate authentication failed for user \"{}\"", self.user());
        Err(Stop::Wrong(refused(told), why))
    }

    /// Who showed a certificate is in, whatever it says of a password; but a client that sent a proof of caching_sha2_password waits to hear
    /// that it was right.
    async fn hear_out(&self, came: &mut Came) -> Result<(), Stop> {
        let said = std::mem::take(&mut came.login.proof);
        if came.login.plugin.as_deref() == Some(CACHING_SHA2) && !is_nothing(&said) {
            came.side.say_next(&[0x01, sha2::FAST_OK]).await.map_err(|_| Stop::Gone)?;
        }
        Ok(())
    }

    async fn prove_by_password(&self, came: &mut Came, passwords: &Passwords) -> Result<(), Stop> {
        let (verifier, lacking) = passwords.of(self.user());
        let said = std::mem::take(&mut came.login.proof);
        match verifier {
            Verifier::Ed25519(public) => {
                let nonce = random::<NONCE>()?;
                let signed = switched(came, handshake::ED25519, &nonce).await?;
                self.tried(&signed, lacking, || verifier::ed25519_fits(&public, &signed, &nonce))
            }
            Verifier::Native(twice) => {
                let (proof, scramble) = self.first_word(came, NATIVE, said).await?;
                self.tried(&proof, lacking, || verifier::native_fits(&twice, &proof, &scramble))
            }
            Verifier::Sha2(kept) => {
                let (proof, scramble) = self.first_word(came, CACHING_SHA2, said).await?;
                if is_nothing(&proof) {
                    return self.tried(&proof, lacking, || false);
                }
                let password = password(&mut came.side, &scramble).await?;
                let _alone = passwords.trying.lock().await;
                // Not for one who has had too many while this one waited.
                self.check_bounds()?;
                let trying = tokio::task::spawn_blocking(move || kept.fits(&password));
                let fits = trying.await.map_err(|error| {
                    tracing::error!(%error, "a password could not be tried out");
                    Refusal::new(Code::CannotKnow, "sluice: logins cannot be checked at the moment")
                })?;
                self.tried(&proof, lacking, || fits)
            }
        }
    }

    /// What the client's plugin says first, and with which scramble: it has said so already where it was greeted by that plugin, and has it.
    async fn first_word(
        &self,
        came: &mut Came,
        plugin: &'static [u8],
        said: Password,
    ) -> Result<(Password, [u8; SCRAMBLE]), Stop> {
        let named = came.login.plugin.as_deref().unwrap_or(NATIVE);
        if named == plugin && self.greeted.plugin == plugin {
            return Ok((said, self.greeted.scramble));
        }
        let scramble = scramble()?;
        let said = switched(came, plugin, &[&scramble[..], &[0]].concat()).await?;
        Ok((said, scramble))
    }

    /// How a try ended. `lacking`: nothing is known that it could fit, and why.
    fn tried(&self, said: &[u8], lacking: Option<&str>, fits: impl FnOnce() -> bool) -> Result<(), Stop> {
        // Reckoned in any case, for the time that it takes.
        let fits = fits();
        // Again, as many may have begun at once before the first of them was found wrong.
        self.check_bounds()?;
        if fits && lacking.is_none() && !is_nothing(said) {
            self.house.tries.right(self.by_password());
            return Ok(());
        }
        self.note_wrong(self.by_password());
        let why = lacking.unwrap_or(if is_nothing(said) { "no password was given" } else { "wrong password" });
        let told = format!("sluice: password authentication failed for user \"{}\"", self.user());
        Err(Stop::Wrong(Refusal::new(Code::WrongPassword, told), why.to_owned()))
    }

    async fn wait_to_be_met(&self, seeker: Seeker<'_>) -> Result<(), Stop> {
        match self.met(seeker) {
            tries::Met::Freely => Ok(()),
            tries::Met::Slowly(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            tries::Met::Refused(left) => Err(Stop::Limited(left)),
        }
    }

    fn check_bounds(&self) -> Result<(), Stop> {
        match self.met(self.by_password()) {
            tries::Met::Refused(left) => Err(Stop::Limited(left)),
            tries::Met::Freely | tries::Met::Slowly(_) => Ok(()),
        }
    }

    fn user(&self) -> &str {
        &self.principal.user
    }

    fn by_password(&self) -> Seeker<'_> {
        Seeker { place: self.place, user: self.user(), certificate: None }
    }

    fn met(&self, seeker: Seeker<'_>) -> tries::Met {
        self.house.tries.met(&self.checked.bounds, seeker, self.house.clock.instant())
    }

    fn note_wrong(&self, seeker: Seeker<'_>) {
        self.house.tries.wrong(&self.checked.bounds, seeker, self.house.clock.instant());
    }
}

/// Asks the client by this plugin; what its own says first.
async fn switched(came: &mut Came, plugin: &'static [u8], data: &[u8]) -> Result<Password, Stop> {
    if !came.login.capabilities.has(Capabilities::PLUGIN_AUTH) {
        let plugin = String::from_utf8_lossy(plugin);
        let refusal = refused(format!("sluice: the client cannot be asked by the plugin {plugin}"));
        return Err(refusal.hint("It knows one way of logging in alone: a newer one is needed.").into());
    }
    let switch = handshake::switch(came.side.next(), plugin, data);
    came.side.say_own(&switch).await.map_err(|_| Stop::Gone)?;
    heard(&mut came.side).await
}

/// The password itself: in clear where nobody reads along, or under a key of ours. Empty where it is not under it, and so never right.
async fn password(side: &mut Side, scramble: &[u8; SCRAMBLE]) -> Result<Password, Stop> {
    side.say_next(&[0x01, sha2::FULL]).await.map_err(|_| Stop::Gone)?;
    let mut password = heard(side).await?;
    // Some ask for the key over any leg, and none can mean a password by it, which would end with a NUL.
    if password[..] == [sha2::KEY_WANTED] {
        let keys = login::keys().await?;
        let shown = handshake::more(side.next(), keys.public());
        side.say_own(&shown).await.map_err(|_| Stop::Gone)?;
        match keys.decrypt(&heard(side).await?, scramble) {
            Ok(decrypted) => password = decrypted,
            Err(Short) => return Ok(Password::default()),
        }
    } else if side.privacy() == Privacy::Open {
        let refusal = refused("sluice: the password came neither over TLS nor under Sluice's key".to_owned());
        let hint =
            "Let the client ask for the key (--get-server-public-key, allowPublicKeyRetrieval), or connect with TLS.";
        return Err(refusal.hint(hint).into());
    }
    match password.pop() {
        Some(0) => Ok(password),
        _ => Err(malformed("a password without an end")),
    }
}

/// What the client says next, without its header.
async fn heard(side: &mut Side) -> Result<Password, Stop> {
    match side.hear().await {
        Ok(Some(packet)) => Ok(Password::new(login::payload(&packet).to_vec())),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(malformed(&error.to_string())),
        Ok(None) | Err(_) => Err(Stop::Gone),
    }
}

/// No password: some plugins say so by a NUL.
fn is_nothing(said: &[u8]) -> bool {
    matches!(said, [] | [0])
}

/// As MySQL makes them: clients take a NUL for the end of a text, and `$` ends a salt.
fn scramble() -> Result<[u8; SCRAMBLE], Refusal> {
    let printable = |byte: u8| match byte & 0x7f {
        kept @ (0 | b'$') => kept + 1,
        kept => kept,
    };
    Ok(random::<SCRAMBLE>()?.map(printable))
}

fn random<const N: usize>() -> Result<[u8; N], Refusal> {
    let mut chance = [0; N];
    let filled = fill_random(&mut chance);
    filled.map(|()| chance).map_err(|_| Refusal::new(Code::CannotKnow, "sluice: no randomness for a login"))
}

fn refused(message: String) -> Refusal {
    Refusal::new(Code::LoginRefused, message)
}

fn malformed(what: &str) -> Stop {
    Stop::Refused(Refusal::new(Code::Protocol, format!("sluice: the client sent {what} during the login")))
}
