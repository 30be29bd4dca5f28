//! What each command of the client leads to.
//!
//! ```text
//! Query    glance → harmless: on it goes · a command of ours: console · else: look, then act
//! Prepare  the text is read and remembered; a Prepare runs nothing, so it goes on
//! Execute  where the values are known: the statement is judged here
//! others   a closed list that has nothing in it to judge; what is not in it is refused by name
//! ```
//!
//! Invariant: every command leaves by a permit or by the closed list of housekeeping.

use crate::audit::Plain;
use crate::audit::event::Action;
use crate::database::effects::reach::Reach;
use crate::ground::limits;
use crate::policy;
use crate::protocol::mysql::command::{self, Command, Executes};
use crate::protocol::mysql::frame::Frame;
use crate::protocol::mysql::response::{Expected, Failure};
use crate::protocol::mysql::values::Texts;
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::desk;
use crate::session::judgement::{Source, words};
use crate::session::mysql::Session;
use crate::session::mysql::act::Form;
use crate::session::mysql::leading::{leads_anywhere, leads_on};
use crate::session::mysql::look::{Looked, has_foreign_names};
use crate::session::mysql::prepared::{Ahead, Prepared, What};
use crate::session::mysql::relay::{Mark, Watched};
use crate::session::mysql::settings::Settings;
use crate::session::room::no_room;
use crate::sql::encoding::Letters;
use crate::sql::facts::{Kind, TransactionVerb};
use crate::sql::statement::Product;
use crate::sql::{self, Glance};
use bytes::Bytes;

impl Session {
    /// One command; nothing is outstanding.
    pub(in crate::session) async fn take(&mut self, frame: Frame) -> Result<(), End> {
        self.prepared.runs(None);
        self.sequence = frame.answer_sequence();
        let Ok(command) = command::read(&frame, self.client) else {
            return Err(End::Refused(Refusal::new(Code::Protocol, "sluice: malformed command packet")));
        };
        let command = match self.settings.own_mode().product {
            Product::MariaDb => self.as_meant(command),
            _ => command,
        };
        let looks = matches!(command, Command::Query(_) | Command::Prepare(_) | Command::Execute(_) | Command::Bulk(_));
        if looks && !self.reaching.is_fresh() {
            Box::pin(self.refresh_reach()).await?;
        }
        if looks {
            self.settle_place(!self.named.is_empty()).await?;
        }
        match command {
            Command::Query(query) => self.query(frame, query.text).await,
            Command::Prepare(text) => self.prepare(frame, text).await,
            Command::Execute(executes) => self.execute(frame, executes).await,
            Command::Bulk(executes) => Box::pin(self.bulk(frame, executes)).await,
            Command::LongData(data) => {
                // Nothing answers it: what is wrong with it is told when the statement is run.
                let has_room = self.has_room_for(data.data.len());
                if self.prepared.add_ahead(data.statement, data.parameter, &data.data, has_room).is_some() {
                    self.pass_on(frame, None, Mark::Passing);
                }
                Ok(())
            }
            Command::CloseStatement(number) => {
                if self.prepared.remove(number).is_some_and(|closed| !matches!(closed.what, What::Command(_))) {
                    self.pass_on(frame, None, Mark::Passing);
                }
                Ok(())
            }
            Command::ResetStatement(number) => {
                match self.prepared.change(number, |prepared| prepared.ahead = Ahead::default()) {
                    // The server never heard of it.
                    Some(()) if self.prepared.is_command(number) => self.answer(&[], &Vec::new(), Form::Text),
                    Some(()) => self.pass_on(frame, Some(Expected::End), Mark::Passing),
                    None => self.unknown_statement(number, "reset"),
                }
                Ok(())
            }
            Command::Fetch { statement, .. } => {
                match self.prepared.get(statement) {
                    Some(_) => self.pass_on(frame, Some(Expected::Rows), Mark::Passing),
                    None => self.unknown_statement(statement, "fetch"),
                }
                Ok(())
            }
            Command::InitDb(_) => {
                self.settings.forget();
                self.pass_on(frame, Some(Expected::End), Mark::Database);
                Ok(())
            }
            // The transaction that is open is rolled back by it, and prepared statements and settings go.
            Command::ResetConnection => {
                self.pass_on(frame, Some(Expected::End), Mark::Reset);
                Ok(())
            }
            Command::Quit => {
                self.pass_on(frame, None, Mark::Passing);
                Err(End::Client)
            }
            Command::FieldList { .. } => self.pass(frame, Expected::Fields),
            Command::Statistics => self.pass(frame, Expected::Text),
            Command::Ping | Command::SetOption(_) | Command::Debug => self.pass(frame, Expected::End),
            Command::ProcessInfo => self.pass(frame, Expected::Results),
            Command::ChangeUser(change) => Box::pin(self.change_user(change)).await,
            Command::ProcessKill(_) => self.refuse_door("COM_PROCESS_KILL").await,
            Command::Refresh(_) => self.refuse_door("COM_REFRESH").await,
            Command::Door(door) => self.refuse_door(door.name()).await,
        }
    }

    /// MariaDB: -1 stands for the statement that was prepared last.
    fn as_meant(&self, mut command: Command) -> Command {
        match &mut command {
            Command::Execute(executes) | Command::Bulk(executes) => {
                executes.statement = self.prepared.meant(executes.statement);
            }
            Command::CloseStatement(number) | Command::ResetStatement(number) => *number = self.prepared.meant(*number),
            Command::Fetch { statement, .. } => *statement = self.prepared.meant(*statement),
            Command::LongData(data) => data.statement = self.prepared.meant(data.statement),
            _ => {}
        }
        command
    }

    fn pass(&mut self, frame: Frame, expected: Expected) -> Result<(), End> {
        self.pass_on(frame, Some(expected), Mark::Passing);
        Ok(())
    }

    pub(in crate::session) async fn refuse_door(&mut self, name: &str) -> Result<(), End> {
        self.refuse(&desk::denial(&policy::refuse_door(name))).await
    }

    /// Everything of the session is as after its login.
    pub(in crate::session) fn was_reset(&mut self) {
        self.prepared.clear();
        self.named.clear();
        self.names_known = true;
        self.settings.forget();
        self.desk.cache.clear();
        self.desk.format = None;
        self.desk.scripted = false;
        self.aftermath = Default::default();
        self.once = false;
        self.place_name = None;
    }

    /// `USE …`.
    fn chooses_database(&self, text: &Bytes) -> bool {
        // Most texts do not have the word at all, and in most of those that do it tells of an index.
        text.windows(3).any(|three| three.eq_ignore_ascii_case(b"use")) && {
            let source = self.source(text);
            words(&source.readable(), source.mode).next().is_none_or(|first| first == "use")
        }
    }

    /// Before what was prepared is run: MariaDB lets a procedure, and what is executed by name, choose another database. `prepared`:
    /// something is, or is about to be.
    async fn settle_place(&mut self, prepared: bool) -> Result<(), End> {
        let knows = self.place_name.is_some();
        if self.settings.own_mode().product != Product::MariaDb || !(knows && self.place_doubtful || !knows && prepared)
        {
            return Ok(());
        }
        self.keep_aftermath().await?;
        let told = self.words("SELECT HEX(CONVERT(DATABASE() USING utf8mb4))").await?;
        let name = told.answer.rows.first().and_then(|row| row.first().cloned().flatten()).unwrap_or_default();
        if self.place_name.as_ref().is_some_and(|before| *before != name) {
            self.moved();
        }
        (self.place_name, self.place_doubtful) = (Some(name), false);
        Ok(())
    }

    /// The default database may be another from now on: what was prepared before runs in the one of then.
    pub(in crate::session) fn moved(&mut self) {
        self.place += 1;
        self.place_name = None;
        if !self.named.is_empty() {
            self.named.clear();
            self.names_known = false;
        }
    }

    /// As the server itself would say it.
    fn unknown_statement(&mut self, number: u32, what: &str) {
        let who = match self.settings.own_mode().product {
            Product::MariaDb => format!("mysqld_stmt_{what}"),
            _ => "mysql_stmt_precheck".to_owned(),
        };
        let refusal = Refusal::new(
            Code::UnknownStatement,
            format!("Unknown prepared statement handler ({number}) given to {who}"),
        );
        self.answer_error(&refusal);
    }

    async fn query(&mut self, frame: Frame, text: Bytes) -> Result<(), End> {
        let (frame, text) = match self.answer_aftermath(&text).await? {
            None => (frame, text),
            Some(None) => return Ok(()),
            // What is judged is what is forwarded: the text with the numbers in it.
            Some(Some(rewritten)) => rewritten,
        };
        match self.glance(&text).await? {
            Glance::Harmless { changes_session, transaction, ref kind, .. }
                if *kind != Kind::Insert || !self.heeds_inserts() =>
            {
                if let Some(refusal) = self.before_transaction(transaction).await? {
                    return self.refuse_commit(&refusal).await;
                }
                // Whether it begins a transaction or ends one.
                self.once &= transaction.is_none();
                if let Some(refusal) = self.refused_uncounted(transaction, kind) {
                    return self.refuse(&refusal).await;
                }
                if changes_session && self.chooses_database(&text) {
                    self.moved();
                }
                let watched = Watched { touches_session: changes_session, ..Watched::default() };
                self.forward_counted(frame, watched)
            }
            Glance::Sluice => match self.own_text(&text).await? {
                Ok(text) => Box::pin(self.command(&text, Form::Text)).await,
                Err(refusal) => self.refuse(&refusal).await,
            },
            Glance::Harmless { .. } | Glance::NeedsReading => {
                self.be_ready_to_read().await?;
                let source = self.source(&text);
                match Box::pin(self.look(source, None)).await? {
                    Looked::At(judgement) => Box::pin(self.act(frame, *judgement, Form::Text)).await,
                    Looked::Not(refusal) => self.refuse(&refusal).await,
                    Looked::Wrong(error) => {
                        self.answer_failure(error);
                        Ok(())
                    }
                }
            }
        }
    }

    /// A glance under settings that are known as far as the text depends on them.
    pub(in crate::session) async fn glance(&mut self, text: &Bytes) -> Result<Glance, End> {
        let glanced = self.glance_beside(text).await;
        let depends = match &glanced {
            // Where it chose another database, a row that is added may be one of the server's own tables.
            Glance::Harmless { kind: Kind::Insert, .. } if self.place > 0 || self.place_doubtful => true,
            Glance::Harmless { mode_sensitive, .. } => *mode_sensitive || !text.is_ascii(),
            Glance::Sluice => false,
            // It is going to be read, whatever it is.
            Glance::NeedsReading => true,
        };
        if !depends || self.settings.is_known() {
            return Ok(glanced);
        }
        self.be_ready_to_read().await?;
        Ok(self.glance_beside(text).await)
    }

    /// A large one beside the thread that serves this session and others.
    async fn glance_beside(&self, text: &Bytes) -> Glance {
        if text.len() <= limits::SQL_GLANCE_INLINE_BYTES_MAX {
            return glance_now(&self.settings, self.reaching.known(), text);
        }
        let (settings, reach, text) = (self.settings.clone(), self.reaching.shared(), text.clone());
        let glancing = tokio::task::spawn_blocking(move || glance_now(&settings, &reach, &text));
        glancing.await.unwrap_or(Glance::NeedsReading)
    }

    /// The text, and how the server reads it. The settings are known.
    pub(in crate::session) fn source(&self, text: &Bytes) -> Source {
        Source {
            text: text.clone(),
            mode: self.settings.mode(),
            settled: self.settings.is_known(),
            ambiguous: self.settings.reads_otherwise(text),
            letters: self.settings.letters(),
        }
    }

    /// A text that stands in a command of ours or with a token, as this client would send it by itself.
    pub(in crate::session) fn source_of(&self, text: &str) -> Result<Source, Refusal> {
        let lacking =
            || Refusal::new(Code::CannotKnow, "sluice: the session's character set cannot write the statement");
        let bytes = self.settings.letters().write(text).ok_or_else(lacking)?;
        Ok(self.source(&Bytes::copy_from_slice(&bytes)))
    }

    /// A `SLUICE …` command as it is written.
    async fn own_text(&mut self, text: &Bytes) -> Result<Result<String, Refusal>, End> {
        if !text.is_ascii() {
            self.be_ready_to_read().await?;
        }
        let read = self.settings.letters().read(text).map(std::borrow::Cow::into_owned);
        let unreadable = || Refusal::new(Code::Syntax, "sluice: the command is no text in the session's character set");
        Ok(read.ok_or_else(unreadable))
    }

    /// Plain INSERTs are judged as well: changes are frozen, or belong to a script.
    pub(in crate::session) fn heeds_inserts(&mut self) -> bool {
        let policy = self.desk.house.policy.load();
        let own = ["mysql", "sys", "performance_schema"];
        self.desk.scripted
            // A row in the server's own tables can be an account.
            || own.iter().any(|name| self.desk.principal.database.eq_ignore_ascii_case(name))
            || self.desk.standing.get(&policy, &self.desk.principal, self.desk.house.clock.now()).frozen.is_some()
    }

    /// What was only glanced at is only counted, but where the record fails it may be refused all the same.
    fn refused_uncounted(&self, transaction: Option<TransactionVerb>, kind: &Kind) -> Option<Refusal> {
        if self.desk.house.recorder.works() {
            return None;
        }
        self.desk.refused_as(match (transaction, kind) {
            (Some(_), _) => Plain::Passes,
            (None, Kind::Insert) => Plain::Changes,
            (None, _) => Plain::Reads,
        })
    }

    fn forward_counted(&mut self, frame: Frame, watched: Watched) -> Result<(), End> {
        let policy = self.desk.house.policy.load();
        let now = || self.desk.house.clock.now();
        let verdict = policy::harmless(self.desk.standing.get_at(&policy, &self.desk.principal, now));
        let recording = self.desk.recording();
        let permitted = self.desk.house.recorder.record(&verdict, Action::Forward, recording, frame.into_bytes());
        let permit = permitted.map_err(|error| End::Refused(crate::session::record::unrecorded(&error)))?;
        self.link.forward(permit);
        self.expect(Expected::Results, Mark::Statement(watched));
        Ok(())
    }

    async fn prepare(&mut self, frame: Frame, text: Bytes) -> Result<(), End> {
        if self.prepared.len() >= limits::PREPARED_MAX {
            return Err(End::Refused(Refusal::new(Code::Limit, "sluice: too many prepared statements in one session")));
        }
        if self.prepared.bytes() + self.named.bytes() + text.len() > limits::PREPARED_BYTES_MAX {
            let message = format!(
                "sluice: the texts of this session's prepared statements would pass {} MiB",
                limits::PREPARED_BYTES_MAX >> 20
            );
            let refusal = Refusal::new(Code::Limit, message).hint("Close those that are not needed any more.");
            return self.refuse(&refusal).await;
        }
        if !self.has_room_for(text.len()) {
            return self.refuse(&no_room()).await;
        }
        let glanced = self.glance(&text).await?;
        let source = Source { text: Bytes::copy_from_slice(&text), ..self.source(&text) };
        let what = match glanced {
            Glance::Harmless { kind, transaction, .. } if !self.chooses_database(&text) => {
                What::Harmless { source, adds: kind == Kind::Insert, transaction }
            }
            Glance::Harmless { .. } | Glance::NeedsReading => What::Guarded(source),
            Glance::Sluice => match self.own_text(&text).await? {
                Ok(text) => {
                    self.prepare_command(&text);
                    return Ok(());
                }
                Err(refusal) => return self.refuse(&refusal).await,
            },
        };
        if matches!(what, What::Guarded(_)) {
            self.settle_place(true).await?;
        }
        // A Prepare runs nothing: what it prepares is judged when it is run.
        self.pass_on(
            frame,
            Some(Expected::Prepared),
            Mark::Prepare(Some(Box::new(Prepared::new(what).at(self.place)))),
        );
        Ok(())
    }

    async fn execute(&mut self, frame: Frame, executes: Executes) -> Result<(), End> {
        let Some(prepared) = self.prepared.get(executes.statement) else {
            self.unknown_statement(executes.statement, "execute");
            return Ok(());
        };
        let (what, ahead) = (prepared.what.clone(), !prepared.ahead.is_empty());
        if prepared.place != self.place && !matches!(what, What::Command(_)) {
            let message = "sluice: the statement was prepared before the session's database was chosen anew, and would run in the one of then";
            return self.refuse(&Refusal::new(Code::Denied, message).hint("Prepare it again.")).await;
        }
        let forwarded = self.link.forwarded();
        let number = executes.statement;
        self.prepared.runs(Some(number));
        self.execute_what(frame, executes, what).await?;
        let ran = self.link.forwarded() != forwarded;
        self.prepared.bound(number, ran);
        if ahead && !ran {
            // The server must not add what comes next to what came for it.
            self.own_reset(number).await?;
            self.prepared.change(number, |prepared| prepared.ahead = Ahead::default());
        }
        Ok(())
    }

    async fn execute_what(&mut self, frame: Frame, executes: Executes, what: What) -> Result<(), End> {
        if let Some(refusal) = self.reads_anew(&what).await? {
            return self.refuse(&refusal).await;
        }
        match what {
            What::Command(text) => Box::pin(self.command(&text, Form::Binary)).await,
            What::Harmless { adds: false, transaction, ref source } if self.is_still_harmless(source) => {
                self.note_kinds(&frame, executes.statement)?;
                if let Some(refusal) = self.before_transaction(transaction).await? {
                    return self.refuse_commit(&refusal).await;
                }
                // Whether it begins a transaction or ends one.
                self.once &= transaction.is_none();
                if let Some(refusal) = self.refused_uncounted(transaction, &Kind::Read) {
                    return self.refuse(&refusal).await;
                }
                self.forward_counted(frame, Watched::default())
            }
            What::Harmless { adds: true, ref source, .. }
                if !self.heeds_inserts() && self.is_still_harmless(source) =>
            {
                self.note_kinds(&frame, executes.statement)?;
                if let Some(refusal) = self.refused_uncounted(None, &Kind::Insert) {
                    return self.refuse(&refusal).await;
                }
                self.forward_counted(frame, Watched::default())
            }
            What::Harmless { source, .. } | What::Guarded(source) => {
                Box::pin(self.execute_guarded(frame, executes.statement, source)).await
            }
        }
    }

    /// MySQL prepares anew what it prepared before some other session changed a table, and reads it under the mode of now.
    async fn reads_anew(&mut self, what: &What) -> Result<Option<Refusal>, End> {
        let (What::Harmless { source, .. } | What::Guarded(source)) = what else { return Ok(None) };
        if source.text.is_ascii() && !source.text.iter().any(|byte| matches!(byte, b'\\' | b'"' | b'|')) {
            return Ok(None);
        }
        self.be_ready_to_read().await?;
        let recoded = !source.text.is_ascii()
            && (source.letters != self.settings.letters() || self.settings.reads_otherwise(&source.text));
        let message =
            "sluice: the statement was prepared under another sql_mode or character set, which decide how it is read";
        let refusal = || Refusal::new(Code::Denied, message).hint("Prepare it again.");
        Ok((recoded || source.mode != self.settings.mode()).then(refusal))
    }

    /// What was found harmless when it was prepared is looked at again when names may have come to lead elsewhere.
    fn is_still_harmless(&self, source: &Source) -> bool {
        let reach = self.reaching.known();
        !leads_anywhere(reach) || matches!(glance_now(&self.settings, reach, &source.text), Glance::Harmless { .. })
    }

    async fn execute_guarded(&mut self, frame: Frame, number: u32, source: Source) -> Result<(), End> {
        self.be_ready_to_read().await?;
        let is_cut = self.prepared.get(number).is_some_and(|prepared| prepared.ahead.is_cut);
        let (execute, as_numbers) = self.read_execute(&frame, number)?;
        if is_cut {
            let message =
                "sluice: the values that came ahead of the statement are more than is kept: they cannot be judged";
            return self.refuse(&Refusal::new(Code::Limit, message)).await;
        }
        let texts = self.texts();
        let Ok(mut parameters) = execute.parameters(&texts) else {
            return Err(End::Refused(Refusal::new(
                Code::Protocol,
                "sluice: a value of COM_STMT_EXECUTE cannot be read",
            )));
        };
        for at in as_numbers {
            if let Some(literal) = parameters.literals.get_mut(at).filter(|literal| *literal != "NULL") {
                *literal = format!("(0.0 + {literal})");
            }
        }
        // It is read as the server read it when it was prepared.
        match Box::pin(self.look(source, Some(parameters))).await? {
            Looked::At(judgement) => Box::pin(self.act(frame, *judgement, Form::Binary)).await,
            Looked::Not(refusal) => self.refuse(&refusal).await,
            Looked::Wrong(error) => {
                self.answer_failure(error);
                Ok(())
            }
        }
    }

    /// The values of an execution, by what is known of the statement; those that came ahead are used up.
    fn read_execute(&mut self, frame: &Frame, number: u32) -> Result<(command::Execute, Vec<usize>), End> {
        let capabilities = self.client;
        let is_mariadb = self.settings.own_mode().product == Product::MariaDb;
        let read = self.prepared.change(number, |prepared| {
            let long = std::mem::take(&mut prepared.ahead).into_values();
            let known = command::Known { parameters: prepared.parameters, kinds: &prepared.kinds, long: &long };
            let execute = command::execute(frame, capabilities, known).ok()?;
            // MariaDB reads no bytes for a value of these types: INT24, YEAR, BIT, GEOMETRY.
            if is_mariadb && execute.kinds.iter().any(|kind| matches!(kind.0 & 0xff, 9 | 13 | 16 | 255)) {
                return None;
            }
            prepared.coming = Some(execute.kinds.clone());
            let mut as_numbers = prepared.note(&execute.kinds);
            if is_mariadb {
                as_numbers.clear();
            }
            Some((execute, as_numbers))
        });
        read.flatten().ok_or_else(malformed_execute)
    }

    /// What is forwarded unjudged still tells the types that later executions go by, and uses up the values that came ahead.
    fn note_kinds(&mut self, frame: &Frame, number: u32) -> Result<(), End> {
        let capabilities = self.client;
        let Some(prepared) = self.prepared.get(number) else { return Ok(()) };
        if !prepared.ahead.is_empty() {
            return self.read_execute(frame, number).map(drop);
        }
        match command::kinds(frame, capabilities, prepared.parameters) {
            Ok(None) => Ok(()),
            Ok(Some(kinds)) => {
                self.prepared.change(number, |prepared| prepared.coming = Some(kinds));
                Ok(())
            }
            Err(_) => Err(malformed_execute()),
        }
    }

    /// How the client writes texts.
    pub(in crate::session) fn texts(&self) -> Texts {
        Texts {
            charset: self.settings.charset().to_owned(),
            no_backslash_escapes: self.settings.own_mode().no_backslash_escapes,
        }
    }

    /// MariaDB's execution of many rows of values at once.
    async fn bulk(&mut self, frame: Frame, executes: Executes) -> Result<(), End> {
        if self.settings.own_mode().product != Product::MariaDb {
            // ER_UNKNOWN_COM_ERROR, as MySQL itself says it.
            let (errno, sqlstate, message) = (1047, "08S01".to_owned(), "Unknown command".to_owned());
            self.answer_failure(Failure { errno, sqlstate, message });
            return Ok(());
        }
        let Some(prepared) = self.prepared.get(executes.statement) else {
            self.unknown_statement(executes.statement, "execute");
            return Ok(());
        };
        let (what, ahead) = (prepared.what.clone(), !prepared.ahead.is_empty());
        if ahead {
            return self.refuse_door("COM_STMT_BULK_EXECUTE behind COM_STMT_SEND_LONG_DATA").await;
        }
        if let Some(refusal) = self.reads_anew(&what).await? {
            return self.refuse(&refusal).await;
        }
        match what {
            What::Harmless { adds: true, source, .. } if !self.heeds_inserts() => {
                if !self.is_still_harmless(&source) {
                    return self.refuse_door("COM_STMT_BULK_EXECUTE of what runs code").await;
                }
                if let Some(refusal) = self.refused_uncounted(None, &Kind::Insert) {
                    return self.refuse(&refusal).await;
                }
                // The types that it sends are those of the statement from now on: the next execution has to say its own.
                self.prepared.change(executes.statement, |prepared| {
                    prepared.kinds.clear();
                    prepared.doubtful = true;
                });
                self.forward_counted(frame, Watched::default())
            }
            _ => self.refuse_door("COM_STMT_BULK_EXECUTE of a statement that has to be judged row by row").await,
        }
    }
}

fn malformed_execute() -> End {
    End::Refused(Refusal::new(Code::Protocol, "sluice: malformed COM_STMT_EXECUTE"))
}

fn glance_now(settings: &Settings, reach: &Reach, text: &Bytes) -> Glance {
    let Some(text) =
        std::str::from_utf8(text).ok().filter(|text| text.is_ascii() || settings.letters() == Letters::Utf8)
    else {
        return glance_at_bytes(settings, reach, text);
    };
    if settings.is_known() && settings.reads_otherwise(text.as_bytes()) {
        return Glance::NeedsReading;
    }
    let mode = settings.mode();
    match sql::glance(text, mode) {
        Glance::Harmless { ref kind, .. } if leads_on(reach, mode, text, kind) => Glance::NeedsReading,
        glanced => glanced,
    }
}

/// A text in a character set that hides nothing in these bytes: names and strings beyond ASCII are only passed over.
fn glance_at_bytes(settings: &Settings, reach: &Reach, text: &Bytes) -> Glance {
    if !settings.is_known() || settings.reads_otherwise(text) {
        return Glance::NeedsReading;
    }
    let characters: String = text.iter().map(|byte| char::from(*byte)).collect();
    let mode = settings.mode();
    match sql::glance(&characters, mode) {
        Glance::Harmless { ref kind, .. }
            if leads_on(reach, mode, &characters, kind)
                || leads_anywhere(reach) && has_foreign_names(&characters, mode) =>
        {
            Glance::NeedsReading
        }
        glanced => glanced,
    }
}
