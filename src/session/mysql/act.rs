//! What follows from a judgement: forwarded, forwarded with its commit withheld, refused with a token, or carried out because its token
//! came back.
//!
//! Invariant: a refusal is what any error of the server would be: the statement did nothing, and a transaction that is open goes on. What
//! does not fit into an error's 512 bytes is told by SHOW WARNINGS.

use crate::audit::event::Action;
use crate::audit::{Permit, Recording};
use crate::ground::limits;
use crate::ground::metrics::REFUSALS_TOTAL;
use crate::policy::count::adds_only;
use crate::policy::settings::Mode;
use crate::protocol::mysql::frame::Frame;
use crate::protocol::mysql::message;
use crate::protocol::mysql::response::{Expected, Failure};
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::desk::{Desk, Entry, count};
use crate::session::format::Format;
use crate::session::judgement::{Judgement, Piece, words};
use crate::session::mysql::Session;
use crate::session::mysql::prepared::Named;
use crate::session::mysql::relay::{Mark, Watched};
use crate::session::mysql::run::Run;
use crate::session::record;
use crate::sql::facts::{Facts, Kind, TransactionVerb, Verb};
use crate::sql::statement::LexicalMode;
use crate::store::kept::ProtocolKind;
use bytes::Bytes;

/// Which protocol the statement came by, and how rows of an answer are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Form {
    /// COM_QUERY.
    Text,
    /// COM_STMT_EXECUTE.
    Binary,
}

impl Form {
    pub fn kind(self) -> ProtocolKind {
        match self {
            Form::Text => ProtocolKind::Simple,
            Form::Binary => ProtocolKind::Extended,
        }
    }
}

impl Session {
    /// A statement that was looked at.
    pub(in crate::session) async fn act(&mut self, frame: Frame, judgement: Judgement, form: Form) -> Result<(), End> {
        count(&judgement.verdict);
        let level = judgement.verdict.in_force();
        if Desk::passes(level) {
            return self.let_pass(frame, judgement, form).await;
        }
        match self.desk.redeem_by_hint(&judgement, level).await {
            Some(Ok(redeemed)) => {
                if let Some(refusal) = self.desk.enter_in_ledger(&judgement).await {
                    return self.refuse(&refusal).await;
                }
                self.remember(&judgement);
                let agreed = self.desk.confirmed(&judgement, redeemed.challenge());
                let run = Run { form, challenge: Some(redeemed.challenge().id), agreed };
                if Box::pin(self.run_in_batches(&judgement, &run)).await? {
                    self.desk.close_runs(true);
                    return Ok(());
                }
                self.run_held(frame.into_bytes(), Action::Confirmed, judgement, run).await
            }
            Some(Err(refusal)) => self.refuse(&refusal).await,
            None => {
                let refusal = self.desk.refusal(&judgement, form.kind()).await;
                self.refuse(&refusal).await
            }
        }
    }

    async fn let_pass(&mut self, frame: Frame, judgement: Judgement, form: Form) -> Result<(), End> {
        if let Some(refusal) = self.desk.enter_in_ledger(&judgement).await {
            return self.refuse(&refusal).await;
        }
        if judgement.pieces.iter().any(|piece| ends_transaction(&piece.facts))
            && let Some(refusal) = self.hold_commit().await?
        {
            return self.refuse_commit(&refusal).await;
        }
        self.warn(&judgement);
        self.remember(&judgement);
        if is_withheld(&judgement) {
            let run = Run { form, challenge: None, agreed: self.desk.unasked(&judgement) };
            return self.run_held(frame.into_bytes(), Action::Forward, judgement, run).await;
        }
        let (permit, mut watched) = match self.watch(&judgement, Action::Forward, frame) {
            Ok(permitted) => permitted,
            Err(refusal) => return self.refuse(&refusal).await,
        };
        watched.destroys = destroys(&judgement);
        watched.touches_session = touches_session(&judgement);
        self.link.forward(permit);
        self.expect(Expected::Results, Mark::Statement(watched));
        Ok(())
    }

    /// The statement fails with this: an error as the server would send one, and the rest of it by SHOW WARNINGS.
    pub(in crate::session) async fn refuse(&mut self, refusal: &Refusal) -> Result<(), End> {
        metrics::counter!(REFUSALS_TOTAL, "code" => refusal.code.sqlstate()).increment(1);
        let formatted = self.desk.format.unwrap_or(Format::Text).of_refusal(refusal);
        self.answer_error(&formatted);
        self.desk.runs.failed(&self.desk.house.store);
        Ok(())
    }

    /// A COMMIT that is refused ends the transaction, as one that fails does.
    pub(in crate::session) async fn refuse_commit(&mut self, refusal: &Refusal) -> Result<(), End> {
        self.own("ROLLBACK").await?;
        self.transaction_ended();
        self.desk.cache.clear();
        self.refuse(refusal).await
    }

    pub(in crate::session) fn answer_error(&mut self, refusal: &Refusal) {
        let said = self.said(refusal);
        self.aftermath.refused(&said);
        let short = Refusal { message: in_short(&said), ..said };
        self.reply(message::error(self.to_client(), &short));
    }

    /// A result of ours, or the error that there is none: whether there is.
    pub(in crate::session) fn reply_with(&mut self, result: Result<Bytes, Refusal>) -> bool {
        match &result {
            Ok(answer) => self.reply(answer.clone()),
            Err(refusal) => {
                tracing::error!(session = %self.desk.id, message = %refusal.message, "an answer was not given");
                self.answer_error(refusal);
            }
        }
        result.is_ok()
    }

    /// The server's own error for a text that was not run.
    pub(in crate::session) fn answer_failure(&mut self, failure: Failure) {
        self.aftermath.failed(&failure, None);
        self.reply(message::failure(self.to_client(), failure.errno, &failure.sqlstate, &failure.message));
        self.desk.runs.failed(&self.desk.house.store);
    }

    /// Records and permits; the rows it may change are watched.
    fn watch(&mut self, judgement: &Judgement, action: Action, frame: Frame) -> Result<(Permit, Watched), Refusal> {
        let noted = self.desk.noted(judgement);
        let rows_max = self.desk.expected_rows(judgement);
        let about = Recording {
            statement: noted.text.as_deref(),
            fingerprint: noted.fingerprint.as_deref(),
            parameters: noted.parameters.as_deref(),
            promised_rows: rows_max,
            plain: record::plain(judgement),
            reason: judgement.told.reason.as_deref(),
            ..self.desk.recording()
        };
        match self.desk.house.recorder.record(&judgement.verdict, action, about, frame.into_bytes()) {
            Ok(permit) => {
                let entry = Entry { line: permit.line(), challenge: None, rows_max };
                Ok((permit, Watched { entry, rows_max, ..Watched::default() }))
            }
            Err(error) => Err(record::unrecorded(&error)),
        }
    }

    /// The level `warn`: the client finds it among its warnings, and the statement goes on.
    pub(in crate::session) fn warn(&mut self, judgement: &Judgement) {
        for judged in judgement.verdict.warnings() {
            let text = format!("sluice: {}: {}", judged.finding.rule, judged.finding.message);
            let words = self.said(&Refusal::new(Code::Denied, text));
            self.aftermath.warn(words.message);
        }
    }

    /// What a statement that goes on changes in what we hold to be known.
    pub(in crate::session) fn remember(&mut self, judgement: &Judgement) {
        let source = judgement.source.to_ascii_lowercase();
        self.desk.scripted |= source.contains("sluice_script");
        let facts = judgement.pieces.iter().map(|piece| &piece.facts);
        if judgement.runs_code() || facts.clone().any(|facts| facts.changes_session || changes_names(facts)) {
            self.desk.cache.clear();
            self.desk.format = None;
        }
        let mode = judgement.lexical;
        for piece in &judgement.pieces {
            self.remember_prepared(piece, judgement.pieces.len() == 1, judgement.runs_code());
        }
        self.note_schema_change(judgement);
        // Of code, and of what is executed by name or FOR something, the words do not tell.
        let plain = |piece: &Piece| {
            let mut said = words(&piece.text, mode);
            match said.next().unwrap_or_default().as_str() {
                "set" => said.next().is_some_and(|what| what != "statement"),
                first => !matches!(first, "call" | "execute" | "begin"),
            }
        };
        self.place_doubtful |= judgement.runs_code() || !judgement.pieces.iter().all(plain);
        for piece in &judgement.pieces {
            let said: Vec<String> = words(&piece.text, mode).take(200).collect();
            let has = |word: &str| said.iter().any(|one| one == word);
            match said.first().map(String::as_str) {
                Some("lock") => self.locked = true,
                Some("flush") if has("lock") || has("export") => self.locked = true,
                Some("unlock") => self.locked = false,
                Some("use") => self.moved(),
                _ => {}
            }
        }
        for piece in &judgement.pieces {
            self.once = sets_transaction_once(&piece.text, mode) || self.once && piece.facts.transaction.is_none();
        }
    }

    /// PREPARE by SQL: the server keeps the text under a name, as it was read then, and so do we. In a message of several statements it is not
    /// known which of them will run; names beyond ASCII the server may take for one another: from then on no name is known.
    fn remember_prepared(&mut self, piece: &Piece, alone: bool, runs_code: bool) {
        let facts = &piece.facts;
        let name = match (&facts.prepares, facts.forgets_prepared) {
            (Some(name), _) => name.to_ascii_lowercase(),
            (None, true) => {
                words(&piece.text, self.settings.mode()).filter(|word| word != ";").last().unwrap_or_default()
            }
            (None, false) if runs_code => String::new(),
            (None, false) => return,
        };
        let is_plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if runs_code || !alone || !is_plain {
            // A procedure can prepare under any name.
            self.named.clear();
            self.names_known = false;
            return;
        }
        self.named.remove(&name);
        if facts.prepares.is_none() {
            return;
        }
        let Some(text) = &facts.prepared_text else {
            self.names_known = false;
            return;
        };
        let weight = Named::weight(&name, text);
        let is_too_much = self.prepared.bytes() + self.named.bytes() + weight > limits::PREPARED_BYTES_MAX;
        if is_too_much || self.named.len() >= limits::PREPARED_MAX || !self.has_room_for(weight) {
            self.names_known = false;
            return;
        }
        self.named.insert(name, text, self.settings.mode());
    }
}

/// A change whose rows were counted, or what leads to code of the users' own: it must not commit more. Not where Sluice cannot hold a
/// commit back.
fn is_withheld(judgement: &Judgement) -> bool {
    let can_wait = |facts: &Facts| {
        !facts.outside_transaction_only
            && !facts.commits_implicitly
            && facts.transaction.is_none()
            && facts.prepares.is_none()
            && facts.changes.iter().all(|change| change.verb != Verb::CopyIn)
    };
    judgement.mode == Mode::Enforce
        && (judgement.was_counted() || judgement.may_miss() || judgement.reaches())
        && judgement.pieces.iter().all(|piece| can_wait(&piece.facts))
}

/// The open transaction is committed by it: COMMIT, or what commits before it begins.
pub(in crate::session) fn ends_transaction(facts: &Facts) -> bool {
    facts.commits_implicitly || matches!(facts.transaction, Some(TransactionVerb::Commit | TransactionVerb::Begin))
}

/// It updates or deletes rows, as far as it says.
pub(in crate::session) fn destroys(judgement: &Judgement) -> bool {
    judgement.pieces.iter().flat_map(|piece| &piece.facts.changes).any(|change| !adds_only(change))
}

pub(in crate::session) fn touches_session(judgement: &Judgement) -> bool {
    judgement.runs_code()
        || judgement.pieces.iter().any(|piece| piece.facts.changes_session || piece.facts.unread.is_some())
}

/// SET TRANSACTION …, for the next one alone.
fn sets_transaction_once(text: &str, mode: LexicalMode) -> bool {
    let words: Vec<String> = words(text, mode).take(2).collect();
    let [set, what] = &words[..] else { return false };
    if set != "set" {
        return false;
    }
    // `SET @@transaction_read_only = 1` says the same; `SET transaction_read_only = 1` is for the session.
    let together: String = text.split_whitespace().collect::<String>().to_ascii_lowercase();
    what == "transaction" || together.contains("@@transaction_") || together.contains("@@tx_")
}

fn changes_names(facts: &Facts) -> bool {
    matches!(facts.kind, Kind::Create | Kind::Alter | Kind::Drop) || facts.unread.is_some()
}

/// What fits into an error's message: what it is, and what to do; the token before all, for without it nothing can be done.
fn in_short(refusal: &Refusal) -> String {
    const MORE: &str = "SHOW WARNINGS tells more.";
    let in_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut hint = refusal.hint.as_deref().map(in_line).unwrap_or_default();
    if !hint.is_empty() && !hint.ends_with(['.', ';']) {
        hint.push('.');
    }
    let more = if refusal.detail.is_some() { MORE } else { "" };
    let message = refusal.message.trim_end_matches('.');
    let room = message::MESSAGE_BYTES_MAX.saturating_sub(hint.len() + more.len() + 6);
    let mut end = message.len().min(room);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    if hint.is_empty() && more.is_empty() {
        return message.to_owned();
    }
    let cut = match end < message.len() {
        true => "...",
        false if message.ends_with('?') => "",
        false => ".",
    };
    let first = format!("{}{cut}", &message[..end]);
    let parts = [first.as_str(), hint.as_str(), more];
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_fits_whatever_else_does_not() {
        let hint = "To run it:\n  SLUICE CONFIRM 'K7QF-2M9X';  valid 10 minutes";
        let long = Refusal::new(Code::NeedsConfirming, "x".repeat(2_000)).detail("rules: y").hint(hint);
        let said = in_short(&long);
        assert!(
            said.len() <= message::MESSAGE_BYTES_MAX
                && said.contains("K7QF-2M9X")
                && said.ends_with("valid 10 minutes. SHOW WARNINGS tells more.")
        );
        assert_eq!(in_short(&Refusal::new(Code::Token, "sluice: no such token")), "sluice: no such token");
    }
}
