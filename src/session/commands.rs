//! `SLUICE …`: the commands, and those of their answers that Sluice knows by itself.
//!
//! Invariant: whatever somebody else wrote (a text, a value, a name) is shown on lines that are marked as such, with everything that could
//! steer a terminal written out: nobody can write what looks like a line of Sluice's own.

use crate::audit::Recording;
use crate::change::challenge::{self, Misuse};
use crate::change::preview::words::plain;
use crate::policy;
use crate::policy::rules::Caller;
use crate::policy::settings::Mode;
use crate::protocol::{Code, Refusal};
use crate::session::desk::Desk;
use crate::session::judgement::Judgement;
use crate::session::record;
use crate::session::tokens::misused;
use crate::sql::lexer::{self, Lexer};
use crate::sql::statement::LexicalMode;
use crate::store::Whose;
use crate::store::kept::{Challenge, Needs};

/// Commands, as they are typed and what they do: `HELP` in one table.
pub(in crate::session) const HELP: &[(&str, &str)] = &[
    ("SLUICE HELP", "this list"),
    ("SLUICE PREVIEW <statement>", "what the statement would do: rows, sample, cascades; nothing is run"),
    (
        "SLUICE REHEARSE <statement>",
        "run it twice in a transaction that is rolled back: rows per table, what a second run changes, locks, time",
    ),
    ("SLUICE EXPLAIN <statement>", "which rules match it, and which line of which file gave each its level"),
    ("SLUICE CONFIRM '<token>'", "run the statement that was refused with this token, if what was shown still holds"),
    ("SLUICE APPROVE '<token>'", "agree to another principal's statement; it runs when its sender sends it again"),
    ("SLUICE REJECT '<token>'", "take a token back, so that it cannot be confirmed"),
    ("SLUICE SHOW '<token>'", "the preview again"),
    ("SLUICE PENDING", "your statements that wait to be confirmed"),
    ("SLUICE JOBS", "changes carried out in batches: rows, state, who; the latest first"),
    ("SLUICE JOB '<id>'", "one of them: its statement, how far it is, what it waits for, where its archive is"),
    ("SLUICE PAUSE '<id>'", "stop a running job after its batch; it can be resumed"),
    ("SLUICE CANCEL '<id>'", "stop a job after its batch for good; what it changed can be undone"),
    ("SLUICE RESUME '<id>'", "go on with a job that was paused or interrupted, from where its archive says it is"),
    (
        "SLUICE THROTTLE '<id>' <rows per second>",
        "let a job change no more rows a second than that; OFF: as many as it can",
    ),
    ("SLUICE ARCHIVES", "what jobs have archived, and until when it is kept"),
    ("SLUICE UNDO '<id>'", "put back what a job changed; shown first, and confirmed"),
    ("SLUICE SCRIPTS", "the scripts that ran in this database, and what of them is not known to have ended"),
    ("SLUICE POLICY", "every rule with its level here and now, and where it comes from"),
    ("SLUICE STATUS", "this session, the mode, the sizes"),
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::session) enum Command {
    Help,
    Preview(String),
    Explain(String),
    Rehearse(String),
    Confirm(String),
    Approve(String),
    Reject(String),
    Show(String),
    Pending,
    Jobs,
    Job(String),
    Pause(String),
    Cancel(String),
    Resume(String),
    Undo(String),
    Throttle(String, u64),
    Archives,
    Scripts,
    Policy,
    Status,
}

/// The columns that a command will answer with; none for one that returns no rows, or that does not exist.
pub(in crate::session) fn columns(text: &str) -> &'static [&'static str] {
    match parse(text) {
        Ok(command) => command.columns(),
        Err(_) => &[],
    }
}

impl Command {
    pub(in crate::session) fn columns(&self) -> &'static [&'static str] {
        match self {
            Command::Help => &["command", "what it does"],
            Command::Preview(_) | Command::Show(_) => &["preview"],
            Command::Rehearse(_) => &["step", "what", "result"],
            Command::Explain(_) => &["rule", "level", "from", "matches"],
            Command::Confirm(_) | Command::Reject(_) | Command::Resume(_) | Command::Undo(_) => &[],
            Command::Jobs => crate::session::jobs::COLUMNS,
            Command::Job(_) => &["name", "value"],
            Command::Pause(_) | Command::Cancel(_) => &["job", "asked for"],
            Command::Throttle(..) => &["job", "rows a second"],
            Command::Archives => &["archive", "of", "job", "by", "made", "kept until"],
            Command::Approve(_) => &["approved"],
            Command::Pending => &["id", "needs", "statement", "what it would do", "expires"],
            Command::Scripts => &["script", "ran", "begun", "rows", "first", "last", "by"],
            Command::Policy => &["rule", "level", "from", "what it matches"],
            Command::Status => &["name", "value"],
        }
    }

    pub(in crate::session) fn name(&self) -> &'static str {
        match self {
            Command::Help => "HELP",
            Command::Preview(_) => "PREVIEW",
            Command::Explain(_) => "EXPLAIN",
            Command::Rehearse(_) => "REHEARSE",
            Command::Confirm(_) => "CONFIRM",
            Command::Approve(_) => "APPROVE",
            Command::Reject(_) => "REJECT",
            Command::Show(_) => "SHOW",
            Command::Pending => "PENDING",
            Command::Jobs => "JOBS",
            Command::Job(_) => "JOB",
            Command::Pause(_) => "PAUSE",
            Command::Cancel(_) => "CANCEL",
            Command::Resume(_) => "RESUME",
            Command::Undo(_) => "UNDO",
            Command::Throttle(..) => "THROTTLE",
            Command::Archives => "ARCHIVES",
            Command::Scripts => "SCRIPTS",
            Command::Policy => "POLICY",
            Command::Status => "STATUS",
        }
    }
}

pub(in crate::session) type Table = Vec<Vec<Option<String>>>;

impl Desk {
    pub(in crate::session) async fn reject(&mut self, token: &str) -> Result<Table, Refusal> {
        let challenge = self.find_for_both(token).await?;
        let about = Recording { challenge: Some(challenge.id), ..self.recording() };
        if let Err(error) = self.house.recorder.command(about, "REJECT", None) {
            return Err(Refusal::new(Code::CannotKnow, format!("sluice: the command cannot be recorded: {error}")));
        }
        match self.house.store.reject(challenge.id, self.house.clock.now()).await {
            Ok(_) => Ok(Vec::new()),
            Err(error) => {
                Err(Refusal::new(Code::CannotKnow, format!("sluice: the token could not be taken back: {error}")))
            }
        }
    }

    /// A challenge of one's own, or of another that waits for an approval.
    pub(in crate::session) async fn find_for_both(&self, token: &str) -> Result<Challenge, Refusal> {
        let challenge = self.find(token, Whose::AnyInDatabase).await?;
        let own = challenge.holder.user == self.principal.user;
        if own || challenge.needs == Needs::Approve { Ok(challenge) } else { Err(misused(&Misuse::Unknown)) }
    }

    pub(in crate::session) async fn shown(&mut self, token: &str) -> Result<Table, Refusal> {
        let challenge = self.find_for_both(token).await?;
        let now = self.house.clock.now();
        let state = match challenge::check(&challenge, &self.house.listener, &self.principal, &challenge.context, now) {
            Ok(_) => format!("pending until {:.0}", challenge.expires),
            Err(Misuse::Unknown) => {
                format!("sent by {}, waits for an approval until {:.0}", challenge.holder.user, challenge.expires)
            }
            Err(misuse) => misused(&misuse).message,
        };
        let mut lines = about(&challenge);
        lines.push(state);
        Ok(lines.into_iter().map(|line| vec![Some(line)]).collect())
    }

    pub(in crate::session) async fn pending(&mut self) -> Result<Table, Refusal> {
        let holder = challenge::holder(&self.house.listener, &self.principal);
        let found = self.house.store.pending(&holder, self.house.clock.now()).await;
        let challenges = found
            .map_err(|error| Refusal::new(Code::CannotKnow, format!("sluice: the store did not answer: {error}")))?;
        let row = |waiting: crate::store::kept::Waiting| {
            vec![
                Some(waiting.id.to_string()),
                some(waiting.needs.as_str()),
                Some(waiting.statement),
                Some(waiting.message),
                Some(format!("{:.0}", waiting.expires)),
            ]
        };
        Ok(challenges.into_iter().map(row).collect())
    }

    pub(in crate::session) fn levels(&mut self) -> Table {
        let policy = self.house.policy.load_full();
        let effective = self.standing.get(&policy, &self.principal, self.house.clock.now()).clone();
        let facts = Default::default();
        let explained = policy::explain(&facts, &Default::default(), &effective, &Caller::default());
        let row = |rule: policy::Explained| {
            vec![some(rule.code), Some(rule.level.to_string()), some(&rule.origin), some(rule.title)]
        };
        explained.into_iter().map(row).collect()
    }

    pub(in crate::session) fn state(&mut self) -> Table {
        let policy = self.house.policy.load_full();
        let effective = self.standing.get(&policy, &self.principal, self.house.clock.now()).clone();
        let mode = match effective.mode {
            Mode::Enforce => "enforce",
            Mode::Observe => "observe: nothing is refused, what would have been is recorded",
            Mode::Off => "off: nothing is judged",
        };
        let sizes = &effective.sizes;
        let rows = [
            ("sluice", env!("CARGO_PKG_VERSION").to_owned()),
            ("listener", self.house.listener.clone()),
            ("session", self.id.to_string()),
            ("user", self.principal.user.clone()),
            ("database", self.principal.database.clone()),
            ("mode", mode.to_owned()),
            ("free_rows", sizes.free_rows.to_string()),
            ("batch_rows", sizes.batch_rows.to_string()),
            ("max_affected", sizes.max_affected.to_string()),
            ("max_affected_limit", sizes.max_affected_limit.to_string()),
            ("tolerance", format!("{} %", sizes.tolerance)),
            ("preview_timeout", format!("{} s", sizes.preview_timeout.as_secs_f64())),
            ("token_ttl", format!("{} min", sizes.token_ttl.as_secs_f64() / 60.0)),
            ("sessions", self.house.registry.seated().to_string()),
            ("record", self.house.recorder.trouble().map_or_else(|| "works".to_owned(), |why| format!("fails {why}"))),
        ];
        rows.into_iter().map(|(name, value)| vec![some(name), Some(value)]).collect()
    }

    /// What PREVIEW shows.
    pub(in crate::session) fn preview_rows(&self, judgement: &Judgement) -> Table {
        let shown = self.preview(judgement, None);
        let lines = shown.message.lines().chain(shown.detail.lines());
        let mut rows: Table = lines.map(|line| vec![some(line)]).collect();
        let would = match judgement.is_to_be_tried() {
            true => "it is tried, and judged by what it did; SLUICE REHEARSE shows that".to_owned(),
            false => judgement.verdict.in_force().to_string(),
        };
        rows.push(vec![Some(format!("what would happen: {would}"))]);
        rows
    }

    /// What EXPLAIN shows.
    pub(in crate::session) fn explanation_rows(&self, judgement: &Judgement) -> Table {
        let now = self.house.clock.now();
        let policy = self.house.policy.load_full();
        let caller = judgement.told.caller();
        let mut rows = Vec::new();
        for (piece, evidence) in judgement.pieces.iter().zip(&judgement.evidence) {
            let names = policy::names(&piece.facts, evidence);
            let effective = policy::scope::effective(&policy, &self.principal, &names, now);
            for rule in policy::explain(&piece.facts, evidence, &effective, &caller) {
                let matches =
                    rule.findings.iter().map(|finding| finding.message.as_str()).collect::<Vec<_>>().join("; ");
                let matches = Some(matches).filter(|_| !rule.findings.is_empty());
                rows.push(vec![some(rule.code), Some(rule.level.to_string()), some(&rule.origin), matches]);
            }
        }
        // What would happen, the rules that match, the others.
        rows.sort_by_key(|row: &Vec<Option<String>>| row.last().is_some_and(Option::is_none));
        let level = judgement.verdict.level().to_string();
        let why = match judgement.verdict.in_force() == judgement.verdict.level() {
            true if judgement.is_to_be_tried() => {
                "what would happen before it is tried; then it is judged by what it did (SLUICE REHEARSE shows that)"
            }
            true => "what would happen",
            false => "what would happen in enforce mode; nothing is refused now",
        };
        rows.insert(0, vec![some("(verdict)"), Some(level), None, some(why)]);
        rows
    }

    /// The scripts that ran in this database.
    pub(in crate::session) async fn scripts(&self) -> Result<Table, Refusal> {
        let cannot = |error| Refusal::new(Code::CannotKnow, format!("sluice: the store did not answer: {error}"));
        let row = |script: crate::store::ledger::Script| {
            let time = |time: jiff::Timestamp| Some(time.strftime("%Y-%m-%d %H:%M UTC").to_string());
            let (ran, begun, rows) = (script.ran.to_string(), script.begun.to_string(), script.rows.to_string());
            vec![
                Some(script.name),
                Some(ran),
                Some(begun),
                Some(rows),
                time(script.first),
                time(script.last),
                Some(script.by),
            ]
        };
        let found = self.house.store.ledger_scripts(&self.house.listener, &self.principal.database).await;
        found.map(|scripts| scripts.into_iter().map(row).collect()).map_err(cannot)
    }
}

/// What was shown to the sender, and what would be run: the sender's own words behind a bar, line by line.
pub(in crate::session) fn about(challenge: &Challenge) -> Vec<String> {
    // Of what is over nothing is kept but that it is.
    if challenge.is_over() {
        return Vec::new();
    }
    let preview = &challenge.preview;
    let mut lines: Vec<String> = preview.message.lines().chain(preview.detail.lines()).map(plain).collect();
    lines.push("statement:".to_owned());
    lines.extend(challenge.statement.lines().map(quoted));
    let values = challenge.parameters.as_ref().map(challenge::restored);
    for (at, value) in values.iter().flat_map(record::values).enumerate() {
        lines.push(match value {
            Some(value) => format!("  ${} = '{}'", at + 1, plain(&value)),
            None => format!("  ${} = NULL", at + 1),
        });
    }
    lines
}

pub(in crate::session) fn quoted(line: &str) -> String {
    format!("  | {}", plain(&line.replace('\t', "    ")))
}

/// A command that was confirmed, and no statement.
pub(in crate::session) fn of_ours(text: &str) -> Option<Command> {
    text.starts_with("SLUICE ").then(|| parse(text).ok()).flatten()
}

/// Words of our own little language, cut by the lexer that cuts everything else.
pub(in crate::session) fn parse(text: &str) -> Result<Command, Refusal> {
    let tokens: Vec<_> = tokens(text);
    let word = |at: usize| tokens.get(at).map(|token: &lexer::Token| token.text(text).to_ascii_uppercase());
    let rest = |at: usize| {
        let start = tokens.get(at).map_or(text.len(), |token| token.span().start);
        text.get(start..).unwrap_or_default().trim().trim_end_matches(';').trim_end().to_owned()
    };
    let verb = word(1).unwrap_or_default();
    let closed = |at: usize, command: Command| match &tokens[at.min(tokens.len())..] {
        [] => Ok(command),
        [end] if end.is(b';') => Ok(command),
        _ => Err(usage(&format!("unexpected words after SLUICE {verb}"))),
    };
    let token = |make: fn(String) -> Command| match tokens.get(2) {
        Some(given) if !given.is(b';') => closed(3, make(unquoted(given.text(text)))),
        _ => Err(usage(&format!("SLUICE {verb} needs a token: SLUICE {verb} 'K7QF-2M9X'"))),
    };
    let job = |make: fn(String) -> Command| match tokens.get(2) {
        Some(given) if !given.is(b';') => closed(3, make(unquoted(given.text(text)))),
        _ => Err(usage(&format!("SLUICE {verb} needs the id of a job, which SLUICE JOBS shows"))),
    };
    let statement = |make: fn(String) -> Command| match rest(2) {
        empty if empty.is_empty() => Err(usage(&format!("SLUICE {verb} needs a statement"))),
        statement => Ok(make(statement)),
    };
    match verb.as_str() {
        "HELP" | "" => closed(2, Command::Help),
        "PREVIEW" => statement(Command::Preview),
        "EXPLAIN" => statement(Command::Explain),
        "REHEARSE" => statement(Command::Rehearse),
        "CONFIRM" => token(Command::Confirm),
        "APPROVE" => token(Command::Approve),
        "REJECT" => token(Command::Reject),
        "SHOW" => token(Command::Show),
        "PENDING" => closed(2, Command::Pending),
        "JOBS" => closed(2, Command::Jobs),
        "JOB" => job(Command::Job),
        "PAUSE" => job(Command::Pause),
        "CANCEL" => job(Command::Cancel),
        "RESUME" => job(Command::Resume),
        "UNDO" => job(Command::Undo),
        "ARCHIVES" => closed(2, Command::Archives),
        "THROTTLE" => {
            let rate = word(3).unwrap_or_default();
            let rows = if rate == "OFF" { Some(0) } else { rate.parse::<u64>().ok().filter(|rows| *rows > 0) };
            match (tokens.get(2), rows) {
                (Some(id), Some(rows)) => closed(4, Command::Throttle(unquoted(id.text(text)), rows)),
                _ => Err(usage(
                    "SLUICE THROTTLE needs the id of a job and a number of rows: SLUICE THROTTLE '01JD…' 500, or OFF",
                )),
            }
        }
        "SCRIPTS" => closed(2, Command::Scripts),
        "POLICY" => closed(2, Command::Policy),
        "STATUS" => closed(2, Command::Status),
        _ => Err(usage(&format!("there is no command SLUICE {verb}"))),
    }
}

pub(in crate::session) fn tokens(text: &str) -> Vec<lexer::Token> {
    // A command's own words are few; a statement behind them is cut out by its start alone.
    Lexer::new(text, LexicalMode::default()).filter(|token| !token.is_comment()).take(8).collect()
}

pub(in crate::session) fn unquoted(text: &str) -> String {
    text.trim_matches(|quote| quote == '\'' || quote == '"').to_owned()
}

pub(in crate::session) fn usage(what: &str) -> Refusal {
    Refusal::new(Code::Syntax, format!("sluice: {what}")).hint("SLUICE HELP lists the commands.")
}

pub(in crate::session) fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::secret::{HashKey, Token};
    use crate::protocol::Parameters;
    use crate::store::kept::{Preview, ProtocolKind};
    use bytes::Bytes;
    use jiff::Timestamp;

    #[test]
    fn nobody_writes_what_looks_like_a_line_of_ours() {
        let statement = "DELETE FROM t; --\r\n\tthis would delete 1 row of t\n\u{1b}[2J\rpending until 2027\u{202e}";
        let bound = Parameters {
            values: vec![Some(Bytes::from_static(b"1\nthis would delete 1 row")), None],
            ..Parameters::default()
        };
        let challenge = shown_challenge(statement, &bound);
        let lines = about(&challenge);
        assert_eq!(
            lines,
            [
                "this would delete 500 rows",
                "rules: missing-where",
                "statement:",
                "  | DELETE FROM t; --",
                "  |     this would delete 1 row of t",
                "  | \\u{1b}[2J\\rpending until 2027\\u{202e}",
                "  $1 = '1\\nthis would delete 1 row'",
                "  $2 = NULL",
            ]
        );
    }

    fn shown_challenge(statement: &str, bound: &Parameters) -> Challenge {
        let draft = challenge::Draft {
            needs: Needs::Approve,
            listener: "prod",
            principal: &Default::default(),
            statement,
            parameters: Some(bound),
            protocol: ProtocolKind::Extended,
            context: &Default::default(),
            promise: serde_json::Value::Null,
            preview: Preview {
                message: "this would delete 500 rows".to_owned(),
                detail: "rules: missing-where".to_owned(),
            },
        };
        let hash = |token: &Token| token.hash(&HashKey::generate().expect("random"));
        challenge::issue(draft, Default::default(), Timestamp::UNIX_EPOCH, hash).expect("random").1
    }

    #[test]
    fn commands_are_read_to_their_end_or_not_at_all() {
        for (text, expected) in [
            ("SLUICE HELP", Some(Command::Help)),
            ("  sluice  help ; ", Some(Command::Help)),
            ("/* hello */ SLUICE CONFIRM 'K7QF-2M9X';", Some(Command::Confirm("K7QF-2M9X".into()))),
            ("SLUICE CONFIRM K7QF2M9X", Some(Command::Confirm("K7QF2M9X".into()))),
            ("SLUICE CONFIRM", None),
            ("SLUICE CONFIRM 'a' 'b'", None),
            ("SLUICE HELP; DROP TABLE t", None),
            ("SLUICE PREVIEW DELETE FROM t;", Some(Command::Preview("DELETE FROM t".into()))),
            ("SLUICE PREVIEW", None),
            ("SLUICE SCRIPTS", Some(Command::Scripts)),
            ("SLUICE DANCE", None),
        ] {
            assert_eq!(parse(text).ok(), expected, "{text}");
        }
    }
}
