//! The rules of asking and confirming. A refused statement becomes a [`Challenge`] and a token; a token that comes back becomes
//! [`Redeemable`] by passing every check here, and [`Redeemed`] by winning it from the store. Only a [`Redeemed`] is a reason to
//! run the statement.
//!
//! Invariant: a token works once, before its end, for the principal it was made for, in the session state it was made in. Whose
//! token it is not learns nothing from trying: another's token and a made-up one get the same answer.

use crate::ground::clock::after;
use crate::ground::ids::ChallengeId;
use crate::ground::secret::{NoRandomness, Token, TokenHash};
use crate::policy::scope::Principal;
use crate::protocol::Parameters;
use crate::store::kept::{Challenge, Context, Holder, KeptParameters, Needs, Preview, ProtocolKind, Status};
use crate::store::{Ended, Found, Store, StoreError, Whose};
use jiff::Timestamp;
use std::fmt;
use std::time::Duration;

/// Everything that a challenge is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft<'a> {
    pub needs: Needs,
    /// The listener's name: which guarded server this is about.
    pub listener: &'a str,
    pub principal: &'a Principal,
    pub statement: &'a str,
    pub parameters: Option<&'a Parameters>,
    pub protocol: ProtocolKind,
    pub context: &'a Context,
    pub promise: serde_json::Value,
    pub preview: Preview,
}

/// Makes a token and the challenge it opens. The caller keeps the challenge ([`Store::create`]) before it shows the token.
/// `hash` is [`Store::hash`].
pub fn issue(
    draft: Draft<'_>,
    ttl: Duration,
    now: Timestamp,
    hash: impl FnOnce(&Token) -> TokenHash,
) -> Result<(Token, Challenge), NoRandomness> {
    let token = Token::generate()?;
    let challenge = Challenge {
        id: ChallengeId::new(now)?,
        token_hash: hash(&token),
        needs: draft.needs,
        holder: holder(draft.listener, draft.principal),
        address: draft.principal.address.clone(),
        application: draft.principal.application.clone(),
        statement: draft.statement.to_owned(),
        parameters: draft.parameters.map(kept),
        protocol: draft.protocol,
        context: draft.context.clone(),
        promise: draft.promise,
        preview: draft.preview,
        created: now,
        expires: after(now, ttl),
        status: Status::Pending,
    };
    Ok((token, challenge))
}

/// A challenge that may be redeemed as far as it can be told without the store: made by [`check`] alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Redeemable(Challenge);

/// A challenge that was redeemed, by this very call: made by [`redeem`] alone. Its statement may run once.
#[derive(Debug, PartialEq)]
#[must_use = "the token is used up: run the statement or say that it was not run"]
pub struct Redeemed(Challenge);

impl Redeemable {
    pub fn challenge(&self) -> &Challenge {
        &self.0
    }
}

impl Redeemed {
    pub fn challenge(&self) -> &Challenge {
        &self.0
    }
}

/// Looks a typed token up in the store, with the limit on wrong tries. What it returns is the principal's own, in any state.
pub async fn look_up(
    store: &Store,
    typed: &str,
    listener: &str,
    principal: &Principal,
    whose: Whose,
    now: Timestamp,
) -> Result<Result<Challenge, Misuse>, StoreError> {
    let Some(token) = Token::parse(typed) else {
        // Nothing was guessed: a text that is no token matches nothing, so it costs no try.
        return Ok(Err(Misuse::NotAToken));
    };
    let found = store.look_up(store.hash(&token), &holder(listener, principal), whose, now).await?;
    Ok(match found {
        Found::Challenge(challenge) => Ok(*challenge),
        Found::Unknown { .. } => Err(Misuse::Unknown),
        Found::Blocked { until } => Err(Misuse::TooManyTries { until }),
    })
}

/// May this principal, in this session, now, have this challenge carried out? Whose it is comes first, so that nobody learns the
/// state of a challenge that is not theirs.
pub fn check(
    challenge: &Challenge,
    listener: &str,
    principal: &Principal,
    context: &Context,
    now: Timestamp,
) -> Result<Redeemable, Misuse> {
    let own = &challenge.holder;
    if own.listener != listener || own.user != principal.user {
        return Err(Misuse::Unknown);
    }
    if own.database != principal.database {
        return Err(Misuse::OtherDatabase { database: own.database.clone() });
    }
    match challenge.status {
        Status::Used => return Err(Misuse::Used),
        Status::Rejected => return Err(Misuse::Rejected),
        Status::Expired => return Err(Misuse::Expired),
        Status::Pending | Status::Approved if challenge.expires <= now => return Err(Misuse::Expired),
        Status::Pending if challenge.needs == Needs::Approve => return Err(Misuse::NeedsApproval),
        Status::Pending | Status::Approved => {}
    }
    match differing(&challenge.context, context) {
        // What a name was prepared for is a text, and no value that could be set.
        Some(setting) => {
            let was = challenge.context.get(&setting).filter(|_| setting != "prepared").cloned();
            Err(Misuse::OtherContext { setting, was })
        }
        None => Ok(Redeemable(challenge.clone())),
    }
}

/// May this principal approve this challenge now? Never its sender.
pub fn check_approval(challenge: &Challenge, principal: &Principal, now: Timestamp) -> Result<(), Misuse> {
    if challenge.holder.user == principal.user {
        return Err(Misuse::OwnApproval);
    }
    match (challenge.needs, challenge.status) {
        // To others, a token that is for its sender alone does not exist.
        (Needs::Confirm, _) => Err(Misuse::Unknown),
        (_, Status::Used | Status::Approved) => Err(Misuse::Used),
        (_, Status::Rejected) => Err(Misuse::Rejected),
        (_, Status::Expired) => Err(Misuse::Expired),
        (_, Status::Pending) if challenge.expires <= now => Err(Misuse::Expired),
        (_, Status::Pending) => Ok(()),
    }
}

/// For a token that comes with a statement (`confirm=` in a hint): is it the statement that was shown, with the same values?
pub fn check_statement(challenge: &Challenge, statement: &str, parameters: Option<&Parameters>) -> Result<(), Misuse> {
    if challenge.statement == statement && challenge.parameters == parameters.map(kept) {
        Ok(())
    } else {
        Err(Misuse::OtherStatement)
    }
}

/// Uses the challenge up. Of any number of sessions and processes that try at once, one gets [`Redeemed`].
/// Do not drop this future half-way: the token may then be used up with nobody told.
pub async fn redeem(
    store: &Store,
    redeemable: Redeemable,
    now: Timestamp,
) -> Result<Result<Redeemed, Misuse>, StoreError> {
    let Redeemable(mut challenge) = redeemable;
    Ok(match store.redeem(challenge.id, now).await? {
        Ended::Now => {
            challenge.status = Status::Used;
            Ok(Redeemed(challenge))
        }
        Ended::Before(Status::Rejected) => Err(Misuse::Rejected),
        Ended::Before(Status::Expired) => Err(Misuse::Expired),
        Ended::Before(Status::Used | Status::Pending | Status::Approved) => Err(Misuse::Used),
        Ended::Unknown => Err(Misuse::Unknown),
    })
}

/// Who may confirm what this principal was refused on this listener.
pub fn holder(listener: &str, principal: &Principal) -> Holder {
    Holder { listener: listener.to_owned(), user: principal.user.clone(), database: principal.database.clone() }
}

/// The client's values in the form in which the store keeps them.
pub fn kept(parameters: &Parameters) -> KeptParameters {
    KeptParameters {
        types: parameters.types.clone(),
        formats: parameters.formats.clone(),
        literals: parameters.literals.clone(),
        values: parameters.values.iter().map(|value| value.as_ref().map(|bytes| bytes.to_vec())).collect(),
    }
}

/// The kept values as the client sent them.
pub fn restored(parameters: &KeptParameters) -> Parameters {
    Parameters {
        types: parameters.types.clone(),
        formats: parameters.formats.clone(),
        values: parameters.values.iter().map(|value| value.clone().map(Into::into)).collect(),
        literals: parameters.literals.clone(),
    }
}

/// Why a token does not work (`SL005`, except `NeedsApproval`: `SL002`). `Display` is fit for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misuse {
    /// Not even the form of a token.
    NotAToken,
    /// No such token, or another principal's.
    Unknown,
    Expired,
    Used,
    Rejected,
    /// The principal's own token, made in another database.
    OtherDatabase {
        database: String,
    },
    /// A setting that gives the statement its meaning differs from when it was shown.
    OtherContext {
        setting: String,
        was: Option<String>,
    },
    /// The token was made for another statement, or other parameter values.
    OtherStatement,
    /// Another principal must approve it.
    NeedsApproval,
    /// Four eyes: the sender's own are two of them.
    OwnApproval,
    TooManyTries {
        until: Timestamp,
    },
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misuse::NotAToken => f.write_str("that is not a token: eight letters and digits, as in 'K7QF-2M9X'"),
            Misuse::Unknown => f.write_str("no such token"),
            Misuse::Expired => f.write_str("the token has expired"),
            Misuse::Used => f.write_str("the token was used before"),
            Misuse::Rejected => f.write_str("the change was rejected"),
            Misuse::OtherDatabase { database } => {
                write!(f, "the token is for database \"{database}\"")
            }
            Misuse::OtherContext { setting, was } => {
                let what = match setting.as_str() {
                    "code" => "a routine, trigger or view that it leads to",
                    "prepared" => "the text of the prepared statement",
                    "arguments" => "a value of its variables",
                    setting => setting,
                };
                write!(f, "{what} is not what it was when the change was shown; send the statement again")?;
                was.as_ref().map_or(Ok(()), |was| write!(f, "; then it was: {was}"))
            }
            Misuse::OtherStatement => f.write_str("the token is for another statement or other parameter values"),
            Misuse::OwnApproval => f.write_str("a change is approved by somebody else than its sender"),
            Misuse::NeedsApproval => f.write_str("the change must be approved by somebody else"),
            Misuse::TooManyTries { until } => {
                write!(f, "too many wrong tokens: no token is accepted before {}", whole_seconds(*until))
            }
        }
    }
}

impl std::error::Error for Misuse {}

/// The first setting that differs, one that only one side has included.
fn differing(then: &Context, now: &Context) -> Option<String> {
    then.keys().chain(now.keys()).find(|name| then.get(*name) != now.get(*name)).cloned()
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second().saturating_add(1)).unwrap_or(time)
}
