//! What each message of the client leads to.
//!
//! ```text
//! Query    glance → harmless: on it goes · a command of ours: console · else: look, then act
//! Parse    the text is read and remembered; a Parse runs nothing, so it goes on
//! Bind     where the values are known, and nothing has run: the statement is judged here
//! Execute  of a portal that was judged; what it changes is watched
//! Sync     held back until a watched change is known to be what was agreed to: without it nothing commits
//! ```
//!
//! Invariant: every frame leaves by a permit or by the closed list of housekeeping.
//!
//! After a refusal the rest of the pipeline is discarded up to its Sync, and the transaction it stands in fails, as after
//! any error of the server.

use crate::audit::Plain;
use crate::audit::event::Action;
use crate::database::effects::measure::Telling;
use crate::database::effects::reach::Reach;
use crate::ground::ids::ChallengeId;
use crate::ground::limits;
use crate::policy;
use crate::protocol::postgres::command::{self, Subject};
use crate::protocol::postgres::conversation::Expected;
use crate::protocol::postgres::frame::Frame;
use crate::protocol::postgres::message::{self, Script};
use crate::protocol::{Code, Housekeeping, Refusal};
use crate::session::End;
use crate::session::buffers;
use crate::session::commands;
use crate::session::desk;
use crate::session::held::Hold;
use crate::session::judgement::{Bound, Judgement, Source, Subjected};
use crate::session::postgres::Session;
use crate::session::postgres::act::{self, Form};
use crate::session::postgres::hold::{Ends, Held};
use crate::session::postgres::look::Looked;
use crate::session::postgres::removing;
use crate::session::postgres::run::Run;
use crate::sql::facts::{Kind, TransactionVerb};
use crate::sql::lexer::{self, Lexer};
use crate::sql::statement::LexicalMode;
use crate::sql::{self, Glance, encoding};
use bytes::Bytes;
use std::sync::{Arc, OnceLock};

/// The extended protocol's pipeline since the last Sync.
#[derive(Debug, Default)]
pub(in crate::session) struct Pipeline {
    /// Something was sent upstream.
    pub open: bool,
    /// Something was executed: there may be an implicit transaction with changes in it.
    pub executed: bool,
    /// A transaction began or ended in it: the status last reported may not hold any more.
    pub transacted: bool,
    /// Portals were bound upstream, which a Sync of ours would close.
    pub bound: bool,
    /// The client's messages are dropped until its Sync.
    pub discarding: bool,
    /// A change is under way that must not commit before it is known to be what was agreed to.
    pub withheld: bool,
    /// What the transaction had changed before it, and what it is held to.
    pub held: Option<Held>,
    /// The portal whose Bind was measured as well as its Execute: planning runs functions.
    pub measured_bind: Option<Bytes>,
    /// It was more.
    pub exceeded: Option<Exceeded>,
}

/// A change did more than was agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) enum Exceeded {
    Rows {
        changed: u64,
        agreed: u64,
    },
    /// It was not fetched to its end, so its count was not told.
    Unfinished,
}

/// What a name of a prepared statement stands for.
#[derive(Debug, Clone)]
pub(in crate::session) enum Prepared {
    /// Nothing to ask about, whatever is bound, as long as its names lead where they led then.
    Harmless(Arc<Glanced>),
    /// An INSERT that only adds: the same, unless changes are frozen or belong to a script by the time it is bound.
    Adds(Arc<Glanced>),
    /// ROLLBACK and its kind: harmless too, but what was seen of tables may not hold behind it.
    Transaction(TransactionVerb),
    /// Judged with its values, at Bind.
    Guarded(Arc<Guarded>),
    /// A `SLUICE …` command: the upstream never heard of it.
    Command(Arc<str>),
}

/// Changes with everything that may give a name another meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::session) struct Meanings {
    /// What was known of where names lead.
    generation: u64,
    /// Statements of this session's own that may have changed it.
    changes: u64,
    /// In which pipeline.
    syncs: u64,
}

/// A text that a glance found harmless.
#[derive(Debug)]
pub(in crate::session) struct Glanced {
    pub source: Source,
    /// What was known then of where names lead.
    pub generation: u64,
}

#[derive(Debug)]
pub(in crate::session) struct Guarded {
    pub source: Source,
    /// Types of its parameters, as far as the client stated them.
    pub types: Vec<u32>,
    /// What names meant when it was prepared.
    pub meanings: Meanings,
    /// The tables that it was found to change; the server goes on with them, whatever comes to stand before them in the search path.
    pub targets: OnceLock<Vec<u64>>,
}

#[derive(Debug, Clone)]
pub(in crate::session) enum Portal {
    /// Nothing was found in it, when the session had changed names so many times.
    Harmless(u64),
    Judged(Watched, Meanings),
    Transaction(TransactionVerb),
    Command(Arc<str>),
    /// Confirmed, and carried out in batches when it is run.
    Job(Arc<(Judgement, Run)>, Meanings),
}

/// What is waited for with a message that was sent.
#[derive(Debug)]
pub(in crate::session) enum Mark {
    /// A name was given a meaning.
    Parse {
        name: Bytes,
        number: u64,
    },
    Watched(Watched),
}

/// A Parse that was not answered yet: which, and how many Syncs had been sent before it.
#[derive(Debug, Clone, Copy)]
pub(in crate::session) struct InFlight {
    pub number: u64,
    pub syncs: u64,
}

/// A change on its way, and what it was taken for.
#[derive(Debug, Clone, Default)]
pub(in crate::session) struct Watched {
    pub rows_max: Option<u64>,
    /// Its commit waits until the rows are known.
    pub withheld: bool,
    /// What it is held to by the database's own count.
    pub hold: Option<Arc<Hold>>,
    /// It updates or deletes rows.
    pub destroys: bool,
    /// It may change the schema.
    pub touches_schema: bool,
    /// It ends a transaction block, and keeps what it did.
    pub commits: bool,
    /// Running it changes what names mean.
    pub touches_names: bool,
    /// Names of prepared statements may mean something else behind it: it runs code, or deallocates.
    pub touches_prepared: bool,
    /// SET, LOCK: it runs no code.
    pub runs_nothing: bool,
    pub challenge: Option<ChallengeId>,
    /// The record's line.
    pub line: Option<u64>,
}

impl Session {
    /// One message.
    pub(in crate::session) async fn take(&mut self, frame: Frame) -> Result<(), End> {
        let tag = frame.tag();
        if self.pipeline.discarding && !matches!(tag, b'S' | b'X') {
            return Ok(());
        }
        if self.talk.in_copy() && !matches!(tag, b'c' | b'f' | b'H' | b'S' | b'X') {
            let message = format!("sluice: unexpected message type 0x{tag:02X} during COPY from stdin");
            return Err(End::Refused(Refusal::new(Code::Protocol, message)));
        }
        // A Parse is looked at again when it is bound, if names have come to lead elsewhere; before anything is known it has to wait.
        let looks = matches!(tag, b'Q' | b'B' | b'E') || tag == b'P' && self.reaching.generation() == 0;
        if looks && !self.reaching.is_fresh() && !self.comes_before_all(&frame) {
            let leads = self.reaching.leads();
            Box::pin(self.refresh_reach()).await?;
            self.names_moved |= self.talk.status() == b'T' && self.reaching.leads() != leads;
            if self.pipeline.discarding {
                return Ok(());
            }
        }
        match tag {
            b'Q' => self.query(frame).await,
            b'P' => match self.refuses_text(&frame) {
                Some(refusal) => self.refuse(&refusal, Form::Extended).await,
                None => self.parse(frame).await,
            },
            b'B' => self.bind(frame).await,
            b'D' => self.describe(frame),
            b'E' => self.execute(frame).await,
            b'C' => self.close(frame),
            b'H' => {
                self.link.housekeep(Housekeeping::Flush, frame.into_bytes());
                Ok(())
            }
            b'S' => self.sync(frame).await,
            b'c' | b'f' => {
                self.link.housekeep(Housekeeping::CopyData, frame.into_bytes());
                self.talk.expect(Expected::CopyEnd, None);
                Ok(())
            }
            b'X' => {
                self.link.housekeep(Housekeeping::Terminate, frame.into_bytes());
                Err(End::Client)
            }
            b'F' => Box::pin(self.function_call(frame)).await,
            _ => Err(End::Refused(Refusal::new(Code::Protocol, "sluice: a password message after the login"))),
        }
    }

    /// What names lead to is not asked before it: see [`runs_nothing`].
    fn comes_before_all(&self, frame: &Frame) -> bool {
        match frame.tag() {
            b'Q' => command::query(frame).is_ok_and(|text| runs_nothing(&text)),
            b'B' => command::bind(frame).is_ok_and(|bind| match self.prepared.get(&bind.statement) {
                Some(Prepared::Transaction(verb)) => *verb != TransactionVerb::Commit,
                Some(Prepared::Guarded(guarded)) => runs_nothing(&guarded.source.text),
                _ => false,
            }),
            b'E' => command::execute(frame).is_ok_and(|portal| match self.portals.get(&portal) {
                Some(Portal::Transaction(verb)) => *verb != TransactionVerb::Commit,
                Some(Portal::Judged(watched, _)) => watched.runs_nothing,
                _ => false,
            }),
            _ => false,
        }
    }

    async fn query(&mut self, frame: Frame) -> Result<(), End> {
        let Ok(text) = command::query(&frame) else { return Err(malformed("Query")) };
        if let Some(refusal) = self.settle().await? {
            // A COMMIT leaves the block, refused or not.
            let commits =
                matches!(self.glance(&text), Glance::Harmless { transaction: Some(TransactionVerb::Commit), .. });
            if commits && self.talk.is_quiet() && self.talk.status() == b'T' {
                return Box::pin(self.refuse_commit(&refusal, Form::Simple)).await;
            }
            return self.refuse(&refusal, Form::Simple).await;
        }
        if self.pipeline.discarding {
            return Ok(());
        }
        match self.glance_beside(&text).await {
            Glance::Harmless { changes_session, transaction, ref kind, .. }
                if *kind != Kind::Insert || !self.heeds_inserts() =>
            {
                if changes_session || transaction.is_some() && self.names_touched {
                    self.desk.cache.clear();
                }
                match transaction {
                    None if self.guarded_portals.is_empty() && !self.names_moved => {}
                    None => Box::pin(self.hold_what_is_open()).await?,
                    Some(TransactionVerb::Commit) => {
                        if let Some(refusal) = Box::pin(self.hold_commit()).await? {
                            return Box::pin(self.refuse_commit(&refusal, Form::Simple)).await;
                        }
                    }
                    // What it takes back, names may lead to again.
                    Some(TransactionVerb::RollbackTo) if self.reaching.is_changing() => self.reaching.touch(),
                    Some(_) => {}
                }
                if self.pipeline.discarding {
                    return Ok(());
                }
                if let Some(refusal) = self.refused_uncounted(&text) {
                    return self.refuse(&refusal, Form::Simple).await;
                }
                self.forward_now(frame, Expected::Query, None)
            }
            Glance::Sluice => {
                let text = String::from_utf8_lossy(&text).into_owned();
                self.drain().await?;
                Box::pin(self.command(&text, Form::Simple)).await
            }
            Glance::Harmless { .. } | Glance::NeedsReading => {
                let source = self.source(&text);
                match Box::pin(self.look(Subjected::Source(source), None)).await? {
                    Looked::At(judgement) => Box::pin(self.act_on_query(frame, *judgement)).await,
                    Looked::Not(refusal) => self.refuse(&refusal, Form::Simple).await,
                    Looked::Wrong(error) => self.fail_with(error.into_bytes(), Form::Simple).await,
                    Looked::Discarded => Ok(()),
                    Looked::Missing => Err(malformed("Query")),
                }
            }
        }
    }

    /// Older than SQL's own way of calling, and unread by design: refused by name, but for what libpq's large-object interface does by
    /// it (pg_dump and psql's `\lo_…` need it).
    async fn function_call(&mut self, frame: Frame) -> Result<(), End> {
        let Ok(function) = command::function(&frame) else { return Err(malformed("FunctionCall")) };
        if let Some(refusal) = self.settle().await? {
            return self.refuse(&refusal, Form::Simple).await;
        }
        if let Some(call) = command::large_object_call(function) {
            if call.writes {
                return self.write_object(frame, call).await;
            }
            if let Some(refusal) = self.desk.refused_as(Plain::Changes) {
                return self.refuse(&refusal, Form::Simple).await;
            }
            return self.forward_now(frame, Expected::Query, None);
        }
        if let Some(name) = command::large_object_removal(function) {
            return Box::pin(self.remove_large_object(frame, name)).await;
        }
        let name = format!("the function-call message (function {function})");
        self.refuse(&desk::denial(&policy::refuse_door(&name)), Form::Simple).await
    }

    async fn parse(&mut self, frame: Frame) -> Result<(), End> {
        let Ok(parse) = command::parse(&frame) else { return Err(malformed("Parse")) };
        if self.prepared.len() >= limits::PREPARED_MAX && !self.prepared.contains(&parse.name) {
            return Err(End::Refused(Refusal::new(Code::Limit, "sluice: too many prepared statements in one session")));
        }
        let name = buffers::kept(&parse.name);
        if !self.is_prepared_alike(&parse) {
            let prepared = self.prepared_of(&parse, self.glance_beside(&parse.text).await);
            let ours = matches!(prepared, Prepared::Command(_));
            self.prepared.insert(name.clone(), prepared);
            if ours {
                self.reply(message::parse_complete());
                return Ok(());
            }
        }
        self.parses += 1;
        self.in_flight.insert(name.clone(), InFlight { number: self.parses, syncs: self.syncs });
        let mark = Mark::Parse { name, number: self.parses };
        self.pipeline.open = true;
        // A Parse runs nothing: what it prepares is judged when it is bound.
        self.forward_now(frame, Expected::Parse, Some(mark))
    }

    fn prepared_of(&self, parse: &command::Parse, glanced: Glance) -> Prepared {
        let text = &parse.text;
        match glanced {
            Glance::Harmless { transaction: Some(verb), .. } => Prepared::Transaction(verb),
            Glance::Harmless { kind, .. } => {
                let glanced =
                    Arc::new(Glanced { source: self.kept_source(text), generation: self.reaching.generation() });
                if kind == Kind::Insert { Prepared::Adds(glanced) } else { Prepared::Harmless(glanced) }
            }
            Glance::Sluice => Prepared::Command(String::from_utf8_lossy(text).into()),
            Glance::NeedsReading => Prepared::Guarded(Arc::new(Guarded {
                source: self.source(&buffers::kept(text)),
                types: parse.types.clone(),
                meanings: self.meanings(),
                targets: OnceLock::new(),
            })),
        }
    }

    /// Whether it may change other tables than those that its names lead to now: the server keeps to what they meant when it was
    /// prepared, as long as nothing tells it that these changed.
    fn is_doubtful(&self, guarded: &Guarded, judgement: &Judgement) -> bool {
        let Some(targets) = judgement.targets() else { return true };
        if let Some(first) = guarded.targets.get() {
            return *first != targets;
        }
        let now = self.meanings();
        let unchanged = (guarded.meanings.generation, guarded.meanings.changes) == (now.generation, now.changes);
        if unchanged {
            let _ = guarded.targets.set(targets);
        }
        !unchanged
    }

    pub(in crate::session) fn meanings(&self) -> Meanings {
        Meanings { generation: self.reaching.generation(), changes: self.name_changes, syncs: self.syncs }
    }

    /// Since a portal was bound: by this session, or by another, if it was not a moment ago in this pipeline.
    fn have_changed(&self, bound: Meanings) -> bool {
        bound.changes != self.name_changes
            || bound.syncs != self.syncs && bound.generation != self.reaching.generation()
    }

    /// The name already stands for this very text, and all that a glance at it depends on is as it was: most drivers send the text
    /// anew with each query.
    fn is_prepared_alike(&self, parse: &command::Parse) -> bool {
        match self.prepared.get(&parse.name) {
            Some(Prepared::Harmless(glanced) | Prepared::Adds(glanced)) => {
                glanced.generation == self.reaching.generation() && glanced.source == self.source(&parse.text)
            }
            _ => false,
        }
    }

    async fn bind(&mut self, frame: Frame) -> Result<(), End> {
        let Ok(bind) = command::bind(&frame) else { return Err(malformed("Bind")) };
        if self.portals.len().max(self.guarded_portals.len()) >= limits::PREPARED_MAX {
            return Err(End::Refused(Refusal::new(Code::Limit, "sluice: too many portals in one transaction")));
        }
        // A Parse of this name may have failed. In the same pipeline the server then discards the Bind too; behind a Sync it does
        // not, and the name may still mean what it meant before.
        if self.in_flight.get(&bind.statement).is_some_and(|parse| parse.syncs != self.syncs) {
            self.drain().await?;
            if self.pipeline.discarding {
                return Ok(());
            }
        }
        let portal = buffers::kept(&bind.portal);
        match self.prepared.get(&bind.statement).cloned() {
            Some(Prepared::Adds(glanced)) if self.heeds_inserts() => {
                let subject = Subjected::Source(glanced.source.clone());
                Box::pin(self.bind_guarded(frame, portal, bind, (subject, None))).await
            }
            Some(Prepared::Harmless(glanced) | Prepared::Adds(glanced)) if !self.is_still_harmless(&glanced) => {
                let subject = Subjected::Source(glanced.source.clone());
                Box::pin(self.bind_guarded(frame, portal, bind, (subject, None))).await
            }
            Some(Prepared::Harmless(glanced) | Prepared::Adds(glanced)) => {
                if let Some(refusal) = self.refused_uncounted(&glanced.source.text) {
                    return self.refuse(&refusal, Form::Extended).await;
                }
                self.portals.insert(portal, Portal::Harmless(self.name_changes));
                self.pipeline.open = true;
                self.pipeline.bound = true;
                self.forward_now(frame, Expected::Bind, None)
            }
            Some(Prepared::Transaction(verb)) => {
                self.portals.insert(portal, Portal::Transaction(verb));
                self.pipeline.open = true;
                self.pipeline.bound = true;
                self.forward_now(frame, Expected::Bind, None)
            }
            Some(Prepared::Command(text)) => {
                self.portals.insert(portal, Portal::Command(text));
                self.reply(message::bind_complete());
                Ok(())
            }
            Some(Prepared::Guarded(guarded)) => {
                let subject = Subjected::Source(guarded.source.clone());
                Box::pin(self.bind_guarded(frame, portal, bind, (subject, Some(guarded)))).await
            }
            None => {
                let subject = Subjected::Named(bind.statement.clone());
                Box::pin(self.bind_guarded(frame, portal, bind, (subject, None))).await
            }
        }
    }

    async fn bind_guarded(
        &mut self,
        frame: Frame,
        portal: Bytes,
        bind: command::Bind,
        (subject, guarded): (Subjected, Option<Arc<Guarded>>),
    ) -> Result<(), End> {
        let Ok(mut parameters) = bind.parameters() else { return Err(malformed("Bind")) };
        if let Some(guarded) = &guarded {
            parameters.types.clone_from(&guarded.types);
        }
        let bound = Bound { statement: Some(String::from_utf8_lossy(&bind.statement).into_owned()), parameters };
        let mut judgement = match self.look(subject, Some(bound)).await? {
            Looked::At(judgement) => *judgement,
            Looked::Not(refusal) => return self.refuse(&refusal, Form::Extended).await,
            Looked::Wrong(error) => return self.fail_with(error.into_bytes(), Form::Extended).await,
            Looked::Discarded => return Ok(()),
            Looked::Missing => {
                // The server refuses the Bind as it would any: nothing of this name can be prepared in between.
                self.pipeline.open = true;
                return self.forward_now(frame, Expected::Bind, None);
            }
        };
        judgement.doubtful |= guarded.is_some_and(|guarded| self.is_doubtful(&guarded, &judgement));
        self.act_on_bind(frame, portal, judgement).await
    }

    fn describe(&mut self, frame: Frame) -> Result<(), End> {
        let Ok(subject) = command::subject(&frame) else { return Err(malformed("Describe")) };
        let (command, mut answer) = match &subject {
            Subject::Statement(name) => match self.prepared.get(name) {
                Some(Prepared::Command(text)) => (Some(text.clone()), message::no_parameters().to_vec()),
                _ => (None, Vec::new()),
            },
            Subject::Portal(name) => match self.portals.get(name) {
                Some(Portal::Command(text)) => (Some(text.clone()), Vec::new()),
                _ => (None, Vec::new()),
            },
        };
        let is_job = |name: &Bytes| matches!(self.portals.get(name), Some(Portal::Job(..)));
        if matches!(&subject, Subject::Portal(name) if is_job(name)) {
            self.reply(message::no_data());
            return Ok(());
        }
        if let Some(text) = command {
            answer.extend_from_slice(&match commands::columns(&text) {
                [] => message::no_data(),
                columns => message::row_description(columns),
            });
            self.reply(answer.into());
            return Ok(());
        }
        self.pipeline.open = true;
        self.link.housekeep(Housekeeping::Describe, frame.into_bytes());
        self.talk.expect(Expected::Describe, None);
        Ok(())
    }

    async fn execute(&mut self, frame: Frame) -> Result<(), End> {
        let Ok(portal) = command::execute(&frame) else { return Err(malformed("Execute")) };
        // What comes next may commit: a change that is held to its count must be known by then.
        let goes_on = self.pipeline.measured_bind.take().is_some_and(|bound| bound == portal);
        if !goes_on && let Some(refusal) = self.settle().await? {
            return self.refuse(&refusal, Form::Extended).await;
        }
        if self.pipeline.discarding {
            return Ok(());
        }
        let mark = match self.portals.get(&portal).cloned() {
            Some(Portal::Command(text)) => return Box::pin(self.command(&text, Form::Extended)).await,
            Some(Portal::Job(job, meanings)) => {
                // What was sent in between may have been an end of all portals, or given its names another meaning.
                self.drain().await?;
                if self.pipeline.discarding {
                    return Ok(());
                }
                if self.portals.remove(&portal).is_none() || self.have_changed(meanings) {
                    return self.refuse(&bound_before(), Form::Extended).await;
                }
                return Box::pin(self.run_bound_job(&job.0, &job.1)).await;
            }
            // Its names were looked at when it was bound; some statements look theirs up anew when they are run.
            Some(Portal::Judged(_, meanings)) if self.have_changed(meanings) => {
                return self.refuse(&bound_before(), Form::Extended).await;
            }
            Some(Portal::Harmless(changes)) if changes != self.name_changes && self.talk.status() != b'T' => {
                return self.refuse(&bound_before(), Form::Extended).await;
            }
            Some(Portal::Judged(watched, _)) => {
                self.note_new_names(&watched);
                // It may be run on, in portions.
                self.portals.insert(portal, Portal::Judged(watched.clone(), self.meanings()));
                self.tally.changing |= watched.destroys;
                if watched.commits
                    && let Some(refusal) = Box::pin(self.hold_commit()).await?
                {
                    return Box::pin(self.refuse_commit(&refusal, Form::Extended)).await;
                }
                if !watched.withheld {
                    Box::pin(self.hold_guarded_portals()).await?;
                    if self.pipeline.discarding {
                        return Ok(());
                    }
                }
                if watched.withheld {
                    if let Some(refusal) = Box::pin(self.count_what_goes(&watched)).await? {
                        return self.refuse(&refusal, Form::Extended).await;
                    }
                    self.pipeline.withheld = true;
                    Box::pin(self.note_effects(&watched)).await?;
                    if self.pipeline.discarding {
                        return Ok(());
                    }
                }
                Some(Mark::Watched(watched))
            }
            Some(Portal::Transaction(verb)) => {
                if verb == TransactionVerb::RollbackTo && self.reaching.is_changing() {
                    self.reaching.touch();
                }
                if verb == TransactionVerb::Commit
                    && let Some(refusal) = Box::pin(self.hold_commit()).await?
                {
                    return Box::pin(self.refuse_commit(&refusal, Form::Extended)).await;
                }
                if self.pipeline.discarding {
                    return Ok(());
                }
                self.pipeline.transacted = true;
                if self.names_touched {
                    self.desk.cache.clear();
                }
                None
            }
            // Harmless, or a cursor that SQL opened, which can only read; or a change whose name was lost here.
            Some(Portal::Harmless(_)) | None => {
                Box::pin(self.hold_what_is_open()).await?;
                if self.pipeline.discarding {
                    return Ok(());
                }
                None
            }
        };
        self.pipeline.open = true;
        self.pipeline.executed = true;
        self.link.housekeep(Housekeeping::Execute, frame.into_bytes());
        self.talk.expect(Expected::Execute, mark);
        Ok(())
    }

    /// It is run now: what it does to names, it does behind everything that was prepared or bound so far.
    fn note_new_names(&mut self, watched: &Watched) {
        if watched.touches_names {
            self.names_touched = true;
            self.desk.cache.clear();
        }
        if watched.touches_schema {
            self.reaching.touch();
        }
        if watched.touches_prepared {
            self.prepared.clear();
        }
        if watched.touches_names || watched.touches_schema || watched.touches_prepared {
            self.name_changes += 1;
        }
    }

    fn close(&mut self, frame: Frame) -> Result<(), End> {
        let Ok(subject) = command::subject(&frame) else { return Err(malformed("Close")) };
        let ours = match &subject {
            Subject::Statement(name) => matches!(self.prepared.remove(name), Some(Prepared::Command(_))),
            Subject::Portal(name) => matches!(self.portals.remove(name), Some(Portal::Command(_) | Portal::Job(..))),
        };
        if ours {
            self.reply(message::close_complete());
            return Ok(());
        }
        self.pipeline.open = true;
        self.link.housekeep(Housekeeping::Close, frame.into_bytes());
        self.talk.expect(Expected::Close, None);
        Ok(())
    }

    async fn sync(&mut self, frame: Frame) -> Result<(), End> {
        if !self.talk.in_copy()
            && let Some(refusal) = self.settle().await?
        {
            self.poison(message::error(&refusal, message::Severity::Error));
        }
        if !self.talk.in_copy() {
            self.pipeline = Pipeline::default();
        }
        self.syncs += 1;
        if self.names_touched {
            // It may end a transaction, and with it what was seen of tables in it.
            self.desk.cache.clear();
        }
        self.link.housekeep(Housekeeping::Sync, frame.into_bytes());
        self.talk.expect(Expected::Sync, None);
        Ok(())
    }

    /// Before anything that could commit: waits for a change that is held to its count, and asks what it did. `Some`: it was more.
    pub(in crate::session) async fn settle(&mut self) -> Result<Option<Refusal>, End> {
        if !self.pipeline.withheld {
            return Ok(None);
        }
        self.drain().await?;
        self.pipeline.withheld = false;
        self.pipeline.measured_bind = None;
        let held = std::mem::take(&mut self.pipeline.held);
        // A failed transaction answers nothing and commits nothing.
        let failed = self.pipeline.discarding || self.has_failed();
        match self.pipeline.exceeded.take() {
            // A portal with RETURNING runs to its end with its first Execute, however few rows are fetched: measuring tells.
            Some(Exceeded::Unfinished) if held.is_some() => {}
            Some(exceeded) => return Ok(Some(act::exceeded(exceeded))),
            None => {}
        }
        match held.filter(|_| !failed) {
            Some(held) => Box::pin(self.weigh(held)).await,
            None => Ok(None),
        }
    }

    /// Before something is removed: its rows are counted behind the lock.
    async fn count_what_goes(&mut self, watched: &Watched) -> Result<Option<Refusal>, End> {
        let Some(hold) = watched.hold.clone() else { return Ok(None) };
        if !removing::takes_tables(&hold.judgement) {
            return Ok(None);
        }
        self.drain().await?;
        if self.pipeline.discarding || self.has_failed() {
            return Ok(None);
        }
        self.count_behind_the_lock(&hold).await
    }

    /// Before a change that is held to its count: what its transaction has changed so far. What was noted before its Bind stays.
    pub(in crate::session) async fn note_effects(&mut self, watched: &Watched) -> Result<(), End> {
        let Some(hold) = watched.hold.clone() else { return Ok(()) };
        if let Some(held) = &mut self.pipeline.held {
            if hold.most() < held.hold.most() {
                held.hold = hold;
            }
            return Ok(());
        }
        self.drain().await?;
        // In a failed transaction the server refuses the Execute itself.
        if self.pipeline.discarding || self.has_failed() {
            return Ok(());
        }
        let ends =
            if self.talk.status() == b'T' && !self.pipeline.transacted { Ends::Statement } else { Ends::Transaction };
        let telling = if hold.judgement.removes() { Telling::Names } else { Telling::Changes };
        let before = Box::pin(self.snapshot(telling)).await?;
        self.pipeline.held = Some(Held { before, hold, ends });
        Ok(())
    }

    fn strictest_guard(&self) -> Option<&Watched> {
        let measured = self.guarded_portals.values().filter(|watched| watched.hold.is_some());
        measured.min_by_key(|watched| watched.hold.as_ref().map(|hold| hold.most()))
    }

    /// The client's transaction has failed, and nothing was sent since that could have ended it.
    fn has_failed(&self) -> bool {
        self.talk.status() == b'E' && !self.pipeline.transacted
    }

    /// While portals of counted changes are open, anything may run them (FETCH does): it is held to their counts too.
    pub(in crate::session) async fn hold_guarded_portals(&mut self) -> Result<(), End> {
        let Some(watched) = self.strictest_guard().cloned() else {
            return Ok(());
        };
        self.pipeline.withheld = true;
        Box::pin(self.note_effects(&watched)).await
    }

    /// Before what may run a cursor or a portal that was opened before: it is held, or measured at COMMIT where it was harmless when it
    /// was opened, and the schema has changed since.
    async fn hold_what_is_open(&mut self) -> Result<(), End> {
        self.measure_what_moved().await?;
        self.hold_guarded_portals().await
    }

    /// Names lead elsewhere than when this block began: what was queued or opened in it may do more than was looked at.
    pub(in crate::session) async fn measure_what_moved(&mut self) -> Result<(), End> {
        if self.names_moved && self.talk.status() == b'T' && !self.pipeline.transacted {
            self.measure_at_commit().await?;
        }
        Ok(())
    }

    /// Makes the upstream fail what the client has begun, with our words in place of its own.
    pub(in crate::session) fn poison(&mut self, error: Bytes) {
        self.link.say(Script::default().parse(act::POISON_NAME, act::POISON, &[]));
        self.talk.expect(Expected::Poison(error), None);
    }

    /// Forwards what there is nothing to say about, and what may be counted: its caller asked `refused_uncounted`.
    fn forward_now(&mut self, frame: Frame, expected: Expected, mark: Option<Mark>) -> Result<(), End> {
        let policy = self.desk.house.policy.load();
        let now = || self.desk.house.clock.now();
        let verdict = policy::harmless(self.desk.standing.get_at(&policy, &self.desk.principal, now));
        let permit =
            self.desk.house.recorder.record(&verdict, Action::Forward, self.desk.recording(), frame.into_bytes());
        match permit {
            Ok(permit) => {
                self.link.forward(permit);
                self.talk.expect(expected, mark);
                Ok(())
            }
            Err(error) => {
                let message =
                    format!("sluice: the statement was not forwarded, because it cannot be recorded: {error}");
                Err(End::Refused(Refusal::new(Code::CannotKnow, message)))
            }
        }
    }

    /// Even what only adds is judged: changes are frozen for this principal, or belong to a script.
    fn heeds_inserts(&mut self) -> bool {
        let policy = self.desk.house.policy.load();
        self.desk.scripted
            || self.desk.standing.get(&policy, &self.desk.principal, self.desk.house.clock.now()).frozen.is_some()
    }

    /// One pass of the lexer. What is not UTF-8, or could mean something else by the time it is run, takes the long way.
    pub(in crate::session) fn glance(&self, text: &Bytes) -> Glance {
        self.glancing().at(text, self.reaching.known())
    }

    /// A large one beside the thread that serves this session and others.
    async fn glance_beside(&self, text: &Bytes) -> Glance {
        if text.len() <= limits::SQL_GLANCE_INLINE_BYTES_MAX {
            return self.glance(text);
        }
        let (glancing, reach, text) = (self.glancing(), self.reaching.shared(), text.clone());
        tokio::task::spawn_blocking(move || glancing.at(&text, &reach)).await.unwrap_or(Glance::NeedsReading)
    }

    fn glancing(&self) -> Glancing {
        Glancing {
            mode: self.mode(),
            takes_utf8: self.settings.takes_utf8,
            is_ambiguous: self.is_ambiguous(),
            is_settled: self.is_settled(),
        }
    }

    /// What was found harmless when it was prepared is looked at again when names have come to lead elsewhere.
    fn is_still_harmless(&self, glanced: &Glanced) -> bool {
        glanced.generation == self.reaching.generation()
            || matches!(self.glance(&glanced.source.text), Glance::Harmless { .. })
    }

    /// As [`Session::source`], with a text of its own: what is kept must not keep a whole buffer alive.
    fn kept_source(&self, text: &Bytes) -> Source {
        Source { text: Bytes::copy_from_slice(text), ..self.source(text) }
    }

    /// A text with what it takes to read it as the server reads it now.
    pub(in crate::session) fn source(&self, text: &Bytes) -> Source {
        let foreign = || std::str::from_utf8(text).is_ok_and(|text| self.glancing().has_foreign_names(text));
        let ambiguous = self.is_ambiguous() || !text.is_ascii() && foreign();
        Source {
            text: text.clone(),
            mode: self.mode(),
            settled: self.is_settled(),
            ambiguous,
            letters: encoding::Letters::Utf8,
        }
    }

    /// What the server last reported of its settings still holds when it reads what comes next.
    pub(in crate::session) fn is_settled(&self) -> bool {
        self.talk.is_quiet() && !self.pipeline.executed
    }
}

/// How the session's texts are read.
#[derive(Debug, Clone, Copy)]
struct Glancing {
    mode: LexicalMode,
    takes_utf8: bool,
    is_ambiguous: bool,
    is_settled: bool,
}

impl Glancing {
    fn at(self, text: &Bytes, reach: &Reach) -> Glance {
        let Ok(text) = std::str::from_utf8(text) else { return self.at_bytes(text, reach) };
        let may_differ = || {
            !text.is_ascii()
                && (self.is_ambiguous
                    || self.has_foreign_names(text)
                    || !self.is_settled && encoding::is_sensitive(text))
        };
        match sql::glance(text, self.mode) {
            Glance::Harmless { mode_sensitive, .. } if mode_sensitive && !self.is_settled || may_differ() => {
                Glance::NeedsReading
            }
            Glance::Harmless { ref kind, .. } if self.leads_on(reach, text, kind) => Glance::NeedsReading,
            glanced => glanced,
        }
    }

    /// A text that is not UTF-8, in an encoding whose ASCII bytes are ASCII characters: all that a glance looks at.
    fn at_bytes(self, text: &Bytes, reach: &Reach) -> Glance {
        if self.is_ambiguous || !self.is_settled {
            return Glance::NeedsReading;
        }
        let characters: String = text.iter().map(|byte| char::from(*byte)).collect();
        if self.has_foreign_names(&characters) {
            return Glance::NeedsReading;
        }
        match sql::glance(&characters, self.mode) {
            Glance::Harmless { ref kind, .. } if self.leads_on(reach, &characters, kind) => Glance::NeedsReading,
            glanced => glanced,
        }
    }

    /// Names in it lead to code of the users' own.
    fn leads_on(self, reach: &Reach, text: &str, kind: &Kind) -> bool {
        let list = match kind {
            Kind::Read => &reach.reads,
            Kind::Insert => &reach.writes,
            _ => return false,
        };
        !list.is_empty() && !list.met(text, self.mode).is_empty()
    }

    /// Names in it are written in an encoding that is not ours: which they are, and where they lead, is not known.
    fn has_foreign_names(self, text: &str) -> bool {
        let is_name = |kind| matches!(kind, lexer::Kind::Word | lexer::Kind::QuotedName);
        let foreign = |token: lexer::Token| is_name(token.kind) && !token.text(text).is_ascii();
        !self.takes_utf8 && Lexer::new(text, self.mode).any(foreign)
    }
}

/// It must stand before anything takes a snapshot in its transaction (SET TRANSACTION), before a lock is waited for (LOCK), or begins a
/// block; and it runs no code, so that what names lead to need not be known.
pub(in crate::session) fn runs_nothing(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let text = text.trim_end_matches(|c: char| c == ';' || c.is_ascii_whitespace());
    const FIRST: &[&str] = &["begin", "start", "set", "lock", "savepoint", "rollback", "abort"];
    let word = text.trim_start().split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    // It fires triggers that wait.
    let fires = text.split_ascii_whitespace().nth(1).is_some_and(|word| word.eq_ignore_ascii_case("constraints"));
    !fires
        && !text.contains(';')
        && !text.contains("/*")
        && !text.contains("--")
        && FIRST.iter().any(|first| word.eq_ignore_ascii_case(first))
}

fn bound_before() -> Refusal {
    let message = "sluice: denied: what the statement's names mean may have changed since it was bound";
    Refusal::new(Code::Denied, message).hint("Bind it again, behind what changed them.")
}

fn malformed(what: &str) -> End {
    End::Refused(Refusal::new(Code::Protocol, format!("sluice: invalid message format: {what}")))
}
