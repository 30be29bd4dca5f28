//! Jobs: how a confirmed change becomes one, how one is gone on with, and how what it did is taken back.
//!
//! Invariant: a job is in the record and in the store before anything of it happens in the database; its archive is there before the first
//! row is changed. Whoever typed the command waits for the job, and gets the answer that the statement alone would have given.

use crate::change::batch::{self, How, Plan};
use crate::change::challenge::{self, Redeemed};
use crate::change::preview::Manner;
use crate::database::batches::{Member, Walk};
use crate::database::quote;
use crate::ground::ids::JobId;
use crate::ground::limits;
use crate::policy::finding::Level;
use crate::protocol::postgres::message;
use crate::protocol::{Code, Refusal};
use crate::session::End;
use crate::session::desk::{Entry, manner};
use crate::session::driving::{Drive, Driven, Failed};
use crate::session::held::Agreed;
use crate::session::jobs::{is_more, is_over, lacking, no_store, runs, undo_of};
use crate::session::judgement::{Judgement, Piece, Subjected};
use crate::session::postgres::Session;
use crate::session::postgres::act::Form;
use crate::session::postgres::carry::others;
use crate::session::postgres::look::Looked;
use crate::session::postgres::run::Run;
use crate::session::tokens::{binding, misused};
use crate::sql::facts::Facts;
use crate::sql::lexer::Lexer;
use crate::sql::statement::LexicalMode;
use crate::sql::statement::Product;
use crate::sql::{self, rewrite};
use crate::store::jobs::{Job, Standing};
use crate::store::kept::{Challenge, Context, ProtocolKind};
use bytes::Bytes;
use std::borrow::Cow;

impl Session {
    /// A confirmed change that is larger than a batch is carried out in batches. `false`: it is to be run whole.
    pub(in crate::session) async fn run_in_batches(&mut self, judgement: &Judgement, run: &Run) -> Result<bool, End> {
        let Agreed::Counted { most } = run.agreed else { return Ok(false) };
        let ([piece], [evidence], false) = (&judgement.pieces[..], &judgement.evidence[..], judgement.reaches()) else {
            return Ok(false);
        };
        let open = self.talk.status() != b'I' || self.pipeline.executed || self.pipeline.bound;
        // Keys are read as UTF-8.
        if open || !self.settings.takes_utf8 {
            self.tell_whole(judgement);
            return Ok(false);
        }
        if self.pipeline.open {
            self.end_unexecuted_pipeline().await?;
        }
        let mode = judgement.lexical;
        let Some((text, facts)) = self.with_values(judgement, piece).await? else {
            self.tell_whole(judgement);
            return Ok(false);
        };
        let How::Batches(outline) = batch::how(&text, mode, &facts, evidence, &judgement.sizes) else {
            return Ok(false);
        };
        let now = self.desk.house.clock.now();
        let Ok(id) = JobId::new(now) else { return Ok(false) };
        if self.means_otherwise(&facts, &text).await? {
            self.tell_whole(judgement);
            return Ok(false);
        }
        let asked = self.tell("SELECT pg_catalog.to_json(pg_catalog.now()) OPERATOR(pg_catalog.#>>) E'{}'").await?;
        let Some(moment) = asked.cell(0) else { return Ok(false) };
        let moment = format!("CAST({} AS pg_catalog.timestamptz)", quote::literal(moment));
        let Ok(walk) = outline.walk(&text, mode, id, now, Some(&moment)) else {
            self.tell_whole(judgement);
            return Ok(false);
        };
        let members = outline.members(id, now, Product::PostgreSql);
        if let Some(refusal) = self.cannot_follow(&walk, &members).await? {
            return self.refuse(&refusal, run.form).await.map(|()| true);
        }
        let last = self.tell(&walk.last()).await?;
        if let Some((_, why)) = last.error {
            let message = format!("sluice: where the rows end cannot be read, so nothing was changed: {why}");
            return self.refuse(&Refusal::new(Code::CannotKnow, message), run.form).await.map(|()| true);
        }
        let mut columns = Vec::new();
        for walk in std::iter::once(&walk).chain(members.iter().map(|member| &member.walk)) {
            let told = self.tell(&walk.numbered_columns()).await?;
            let rows = told.each.first().map_or(&[][..], |(answer, _)| &answer.rows);
            columns.push(rows.iter().filter_map(|row| row.first().cloned().flatten()).collect());
        }
        let called = self.tell(&others(&[], &facts.functions)).await?.row(0).and_then(|row| row.get(1).cloned());
        let oid = self.tell(&walk.print()).await?.row(0).and_then(|row| row.get(1).cloned());
        let mut context = binding(&judgement.context);
        let carries_values = judgement.parameters.is_some() || !judgement.source.contains(piece.text.trim());
        if carries_values {
            // What stood behind a name stands in the job itself.
            context.retain(|name, _| name != "prepared" && name != "arguments");
        }
        context.extend(self.readings_of_dates().await?);
        let (permit, entry) = match self.desk.permit_job(judgement, run.challenge, most, None) {
            Ok(permitted) => permitted,
            Err(refusal) => return self.refuse(&refusal, run.form).await.map(|()| true),
        };
        let plan = Plan {
            end: last.row(0),
            shape: outline.shape().to_owned(),
            context,
            batch_rows: judgement.sizes.batch_rows,
            sparse: outline.is_sparse(),
            oid,
            walk,
            moment: None,
            unique: Vec::new(),
            is_partitioned: outline.is_partitioned(),
            reads: outline.reads().to_vec(),
            functions: facts.functions.clone(),
            called,
            columns,
            carries: outline.carries(),
            rows_below: outline.carried,
            most_below: judgement
                .promise
                .at_most(judgement.sizes.tolerance)
                .cascade
                .filter(|_| outline.carries())
                .map(|most| most.saturating_add(outline.twice)),
            guards: outline.guards(),
            members,
        };
        let shown = outline.rows.saturating_add(outline.carried);
        let mut job =
            self.desk.new_job(id, &plan, judgement, run.challenge, (shown, most.saturating_add(outline.twice)));
        if carries_values {
            // As it is carried out: without its values, or by a name, it would be another statement's.
            job.statement = behind_prepare(&text, mode).to_owned();
        }
        if let Err(error) = self.desk.house.store.job_create(job.clone()).await {
            self.desk.record_outcome(entry, Some(0), Some("SL007"), Some("its job could not be kept"));
            return self.refuse(&no_store(error), run.form).await.map(|()| true);
        }
        self.finish_job(Drive::new(job, plan, permit), entry, run.form).await?;
        Ok(true)
    }

    /// A Bind that was confirmed needs not go to the server: its Execute carries it out in batches.
    pub(in crate::session) fn can_run_bound_job(&self, judgement: &Judgement) -> bool {
        let open = self.talk.status() != b'I' || self.pipeline.executed || self.pipeline.bound;
        !open && self.settings.takes_utf8 && matches!(manner(judgement), Manner::Batches { .. })
    }

    pub(in crate::session) async fn run_bound_job(&mut self, judgement: &Judgement, run: &Run) -> Result<(), End> {
        if let Some(refusal) = self.desk.enter_in_ledger(judgement).await {
            return self.refuse(&refusal, run.form).await;
        }
        self.remember(judgement);
        if !self.run_in_batches(judgement, run).await? {
            let message = "sluice: nothing was changed: it cannot be carried out in batches here";
            let hint = "Send it again, and SLUICE CONFIRM the new token, or between BEGIN and COMMIT to run it whole.";
            return self.refuse(&Refusal::new(Code::Token, message).hint(hint), run.form).await;
        }
        self.close_runs();
        Ok(())
    }

    /// The statement with its values in it, each cast to the type that the server found for it. `None`: their texts are not exact.
    async fn with_values<'a>(
        &mut self,
        judgement: &Judgement,
        piece: &'a Piece,
    ) -> Result<Option<(Cow<'a, str>, Cow<'a, Facts>)>, End> {
        let Some(parameters) = judgement.parameters.as_ref().filter(|_| piece.facts.parameters > 0) else {
            return Ok(Some((Cow::Borrowed(piece.text.as_str()), Cow::Borrowed(&piece.facts))));
        };
        if parameters.types.len() != parameters.values.len() || parameters.types.contains(&0) {
            return Ok(None);
        }
        let oids: Vec<String> = parameters.types.iter().map(u32::to_string).collect();
        let types = self
            .tell(&format!(
                "SELECT pg_catalog.format('%I.%I', n.nspname, y.typname) FROM pg_catalog.unnest(ARRAY[{}]::pg_catalog.oid[]) WITH ORDINALITY AS u (oid, n) \
                 JOIN pg_catalog.pg_type y ON y.oid OPERATOR(pg_catalog.=) u.oid JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) y.typnamespace ORDER BY u.n",
                oids.join(", ")
            ))
            .await?;
        let types: Vec<String> = types
            .each
            .first()
            .into_iter()
            .flat_map(|(answer, _)| &answer.rows)
            .filter_map(|row| row.first()?.clone())
            .collect();
        let texts = (1..=oids.len()).map(|n| format!("CAST(${n} AS pg_catalog.text)")).collect::<Vec<_>>().join(", ");
        // Otherwise floats are rounded in texts.
        let exact = "pg_catalog.current_setting('extra_float_digits')::pg_catalog.int4 OPERATOR(pg_catalog.>) 0";
        let told = self.tell_bound(&format!("SELECT {exact}, {texts}"), parameters).await?;
        let Some((answer, _)) = told.each.first().filter(|_| told.error.is_none()) else { return Ok(None) };
        let Some([first, values @ ..]) = answer.rows.first().map(Vec::as_slice) else { return Ok(None) };
        if first.as_deref() != Some("t") || types.len() != values.len() {
            return Ok(None);
        }
        let literal =
            |value: &Option<String>| value.as_ref().map_or_else(|| "NULL".to_owned(), |text| quote::literal(text));
        let values: Vec<String> = values.iter().map(literal).collect();
        let mode = judgement.lexical;
        let Some(text) = rewrite::with_arguments(&piece.text, mode, &values, &types) else { return Ok(None) };
        let mut reading = sql::read(&text, mode);
        let read = reading.statements.pop().filter(|_| reading.statements.is_empty());
        Ok(read.map(|statement| (Cow::Owned(text), Cow::Owned(statement.facts))))
    }

    /// What no preview knows of the tables below.
    async fn cannot_follow(&mut self, walk: &Walk, members: &[Member]) -> Result<Option<Refusal>, End> {
        if members.is_empty() {
            return Ok(None);
        }
        let root = format!("pg_catalog.to_regclass({})::pg_catalog.oid", quote::literal(&walk.table_name()));
        let below = members.iter().map(|member| format!("{}::pg_catalog.oid", member.oid));
        let above = std::iter::once(root).chain(below).collect::<Vec<_>>().join(", ");
        let asked = members.iter().map(|member| {
            // Some of a key's columns alone may be set (PostgreSQL 15); and a key whose triggers are disabled carries nothing on.
            format!(
                "pg_catalog.current_setting('session_replication_role') OPERATOR(pg_catalog.<>) 'replica' \
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid OPERATOR(pg_catalog.=) {}::pg_catalog.oid AND k.contype OPERATOR(pg_catalog.=) 'f' AND k.confrelid IN ({above}) \
                 AND ((pg_catalog.to_jsonb(k) OPERATOR(pg_catalog.->>) 'confdelsetcols') IS NOT NULL \
                   OR EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgconstraint OPERATOR(pg_catalog.=) k.oid AND g.tgenabled OPERATOR(pg_catalog.<>) ALL ('{{O,A}}'::\"char\"[]))))",
                member.oid
            )
        });
        let told = self.tell(&format!("SELECT {}", asked.collect::<Vec<_>>().join(", "))).await?;
        let row = told.row(0).unwrap_or_default();
        let Some(at) = (0..members.len()).find(|at| row.get(*at).is_none_or(|cell| cell != "t")) else {
            return Ok(None);
        };
        let walk = &members[at].walk;
        let name = quote::shown(&walk.schema, &walk.table).written;
        let message = format!(
            "sluice: nothing was changed: a foreign key of {name} sets only some of its columns, or is disabled, which batches do not follow"
        );
        Ok(Some(
            Refusal::new(Code::Denied, message).hint("BEGIN; the statement; COMMIT runs it whole, without an archive."),
        ))
    }

    /// Batches were on offer, and it cannot be cut here.
    pub(in crate::session) fn tell_whole(&mut self, judgement: &Judgement) {
        if matches!(manner(judgement), Manner::Batches { .. }) {
            let words = "sluice: it runs whole here, without an archive: it stands in a transaction, or in a pipeline";
            self.link.client.send(message::warning(&self.said(&Refusal::new(Code::Paused, words))));
        }
    }

    /// `SLUICE RESUME`.
    pub(in crate::session) async fn resume(&mut self, id: &str, form: Form) -> Result<(), End> {
        let job = match self.desk.own_job(id).await {
            Ok(job) => job,
            Err(refusal) => return self.refuse(&refusal, form).await,
        };
        let (plan, judgement) = match self.fit_to_go_on(&job, form).await? {
            Ok(fit) => fit,
            Err(refusal) => return self.refuse(&refusal, form).await,
        };
        let (permit, entry) = match self.desk.permit_job(
            &judgement,
            job.challenge,
            job.rows_most,
            job.of.is_some().then_some(&*job.statement),
        ) {
            Ok(permitted) => permitted,
            Err(refusal) => return self.refuse(&refusal, form).await,
        };
        self.finish_job(Drive::new(job, plan, permit), entry, form).await
    }

    /// Whether a job may go on from this session as it was confirmed: the table and the meaning of its words are what they were.
    async fn fit_to_go_on(&mut self, job: &Job, form: Form) -> Result<Result<(Plan, Judgement), Refusal>, End> {
        if let Some(refusal) = is_over(job) {
            return Ok(Err(refusal));
        }
        if let Some(refusal) = self.must_be_outside(form) {
            return Ok(Err(refusal));
        }
        let Ok(plan) = serde_json::from_value::<Plan>(job.plan.clone()) else {
            return Ok(Err(Refusal::new(Code::CannotKnow, "sluice: the job's plan cannot be read")));
        };
        let text = match job.of {
            // Putting rows back is a change like any: a freeze holds for it too.
            Some(_) => plan.walk.back(1, None),
            None => job.statement.clone(),
        };
        let source = self.source(&Bytes::from(text));
        let judgement = match self.look(Subjected::Source(source), None).await? {
            Looked::At(judgement) => *judgement,
            Looked::Not(refusal) => return Ok(Err(refusal)),
            _ => {
                return Ok(Err(Refusal::new(
                    Code::CannotKnow,
                    "sluice: the job's statement is refused by the database now",
                )));
            }
        };
        if let ([piece], None) = (&judgement.pieces[..], job.of)
            && self.means_otherwise(&piece.facts, &piece.text).await?
        {
            let message = "sluice: functions, operators or casts of the users' own stand now where the job's statement had the server's";
            return Ok(Err(Refusal::new(Code::Denied, message)));
        }
        let more = self.readings_of_dates().await?;
        match self.desk.unfit(job, &plan, &judgement, more).await {
            Some(refusal) => Ok(Err(refusal)),
            None => Ok(Ok((plan, judgement))),
        }
    }

    /// `SLUICE UNDO`: shown first.
    pub(in crate::session) async fn offer_undo(&mut self, id: &str, form: Form) -> Result<(), End> {
        let job = match self.undoable(id, form).await? {
            Ok((job, _)) => job,
            Err(refusal) => return self.refuse(&refusal, form).await,
        };
        let refusal = self.desk.undo_offer(&job).await;
        self.refuse(&refusal, form).await
    }

    /// A job that changed something, and may be taken back from here.
    async fn undoable(&mut self, id: &str, form: Form) -> Result<Result<(Job, Plan), Refusal>, End> {
        let job = match self.desk.own_job(id).await {
            Ok(job) => job,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Some(at) = job.dropped {
            let message =
                format!("sluice: its archive was dropped, past its retention, on {}", at.strftime("%Y-%m-%d"));
            return Ok(Err(Refusal::new(Code::Token, message)));
        }
        if job.of.is_some() {
            return Ok(Err(Refusal::new(Code::Token, "sluice: the job is an undo itself: send the change again")));
        }
        if let Some(refusal) = self.must_be_outside(form) {
            return Ok(Err(refusal));
        }
        let Ok(plan) = serde_json::from_value::<Plan>(job.plan.clone()) else {
            return Ok(Err(Refusal::new(Code::CannotKnow, "sluice: the job's plan cannot be read")));
        };
        // Nobody runs it now, whatever the store heard last.
        if !self.lock_job(&job).await? {
            return Ok(Err(runs()));
        }
        self.unlock_job(&job).await?;
        let told = self.tell(&plan.family().done_so_far()).await?;
        let count =
            told.row(0).and_then(|row| Some((row.first()?.parse::<u64>().ok()?, row.get(2)?.parse::<u64>().ok()?)));
        let Some((rows, undone)) = count else {
            let why = told.error.map_or_else(|| "it cannot be read".to_owned(), |(_, why)| why);
            let message =
                format!("sluice: what the job changed cannot be put back: its archive {}: {why}", job.archive);
            return Ok(Err(Refusal::new(Code::CannotKnow, message)));
        };
        if rows == undone {
            let message =
                if rows == 0 { "sluice: the job changed nothing" } else { "sluice: all of it was put back already" };
            return Ok(Err(Refusal::new(Code::Token, message)));
        }
        let lost = job.standing.rows.saturating_sub(rows);
        let why = lacking(lost).unwrap_or_default();
        let standing = Standing { rows: rows - undone, why, ..job.standing.clone() };
        Ok(Ok((Job { standing, ..job }, plan)))
    }

    /// A confirmed `SLUICE UNDO`.
    pub(in crate::session) async fn undo_job(
        &mut self,
        id: &str,
        challenge: &Challenge,
        form: Form,
    ) -> Result<(), End> {
        let (of, plan) = match self.undoable(id, form).await? {
            Ok(undoable) => undoable,
            Err(refusal) => return self.refuse(&refusal, form).await,
        };
        if let Some(refusal) = is_more(&of, challenge) {
            return self.refuse(&refusal, form).await;
        }
        let now = self.desk.house.clock.now();
        let redeemed =
            match challenge::check(challenge, &self.desk.house.listener, &self.desk.principal, &challenge.context, now)
            {
                Ok(redeemable) => challenge::redeem(&self.desk.house.store, redeemable, now).await,
                Err(misuse) => Ok(Err(misuse)),
            };
        let redeemed: Redeemed = match redeemed {
            Ok(Ok(redeemed)) => redeemed,
            Ok(Err(misuse)) => return self.refuse(&misused(&misuse), form).await,
            Err(error) => return self.refuse(&no_store(error), form).await,
        };
        // Putting rows back is a change like any: a freeze holds for it too.
        let text = plan.walk.back(1, None);
        let source = self.source(&Bytes::from(text));
        let judgement = match self.look(Subjected::Source(source), None).await? {
            Looked::At(judgement) => *judgement,
            Looked::Not(refusal) => return self.refuse(&refusal, form).await,
            Looked::Wrong(error) => return self.fail_with(error.into_bytes(), form).await,
            Looked::Discarded | Looked::Missing => return Ok(()),
        };
        if judgement.verdict.in_force() >= Level::Deny {
            let refusal = self.desk.refusal(&judgement, ProtocolKind::Simple).await;
            return self.refuse(&refusal, form).await;
        }
        let (permit, entry) = match self.desk.permit_job(
            &judgement,
            Some(redeemed.challenge().id),
            of.standing.rows,
            Some(&challenge.statement),
        ) {
            Ok(permitted) => permitted,
            Err(refusal) => return self.refuse(&refusal, form).await,
        };
        let Ok(id) = JobId::new(now) else {
            return self.refuse(&Refusal::new(Code::CannotKnow, "sluice: no id could be made"), form).await;
        };
        let job = undo_of(of, id, redeemed.challenge().id, now);
        if let Err(error) = self.desk.house.store.job_create(job.clone()).await {
            self.desk.record_outcome(entry, Some(0), Some("SL007"), Some("its job could not be kept"));
            return self.refuse(&no_store(error), form).await;
        }
        self.finish_job(Drive::new(job, plan, permit), entry, form).await
    }

    /// Carries it on, and answers whoever waits for it.
    async fn finish_job(&mut self, mut drive: Drive, entry: Entry, form: Form) -> Result<(), End> {
        self.desk.cache.clear();
        let driven = self.drive(&mut drive).await?;
        let (job, standing) = (&drive.job, drive.job.standing.clone());
        match driven {
            Driven::Done => {
                let note = format!("job {}: {} batches, archived in {}", job.id, standing.batches, job.archive);
                self.desk.record_outcome(entry, Some(drive.rows_now()), None, Some(&note));
                let verb = match (job.of, drive.plan.walk.is_update()) {
                    (Some(_), _) => "SLUICE UNDO",
                    (None, true) => "UPDATE",
                    (None, false) => "DELETE",
                };
                self.tell_notice(&drive.done_line());
                if job.of.is_some() {
                    self.tell_what_was_left(&drive).await?;
                }
                self.drop_expired().await?;
                let rows = if job.of.is_some() { standing.rows } else { drive.own_rows() };
                self.reply(message::command_complete(&format!("{verb} {rows}")));
                if form == Form::Simple {
                    self.reply(message::ready(self.talk.status()));
                }
                Ok(())
            }
            Driven::Refused(why, failed) => {
                self.desk.record_outcome(entry, Some(0), Some(failed.state()), Some(&why));
                match failed {
                    Failed::AsItCame { bytes, .. } => self.fail_with(bytes, form).await,
                    Failed::Told { message, .. } => self.refuse(&Refusal::new(Code::Upstream, message), form).await,
                }
            }
            Driven::Elsewhere(why) => {
                self.desk.record_outcome(entry, Some(0), Some(Code::Paused.sqlstate()), Some(why));
                let message = format!("sluice: nothing was done: {why}");
                let hint = "SLUICE JOBS shows where it stands.";
                self.refuse(&Refusal::new(Code::Paused, message).hint(hint), form).await
            }
            Driven::Paused(why) | Driven::Cancelled(why) => {
                self.desk.record_outcome(entry, Some(drive.rows_now()), Some(Code::Paused.sqlstate()), Some(&why));
                if self.link.client.ended {
                    return Err(End::Client);
                }
                self.refuse(&drive.stopped(&why), form).await
            }
        }
    }

    async fn tell_what_was_left(&mut self, drive: &Drive) -> Result<(), End> {
        if drive.left() == 0 {
            return Ok(());
        }
        let mut keys = Vec::new();
        for (at, walk) in drive.plan.family().walks().enumerate() {
            let told = self.tell(&walk.left(limits::LEFT_SHOWN_MAX.saturating_sub(keys.len()))).await?;
            let rows = told.each.first().map_or(&[][..], |(answer, _)| &answer.rows);
            let named = if at > 0 { format!("{} ", walk.table) } else { String::new() };
            let key = |row: &Vec<Option<String>>| row.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
            keys.extend(rows.iter().map(|row| format!("{named}{}", key(row))));
        }
        self.tell_notice(&drive.left_line(&keys));
        Ok(())
    }

    /// Archives of this user's that are past their retention go, behind a job: Sluice has no rights of its own here.
    async fn drop_expired(&mut self) -> Result<(), End> {
        for job in self.desk.expired_jobs().await {
            let Ok(plan) = serde_json::from_value::<Plan>(job.plan.clone()) else { continue };
            if !self.lock_job(&job).await? {
                continue;
            }
            let mut names = Vec::new();
            for walk in plan.family().walks() {
                let there =
                    self.tell(&format!("{}; {}", walk.has_archive(), walk.is_archive_of(&job.id.to_string()))).await?;
                let is = |at: usize| there.row(0).is_some_and(|row| row.get(at).is_some_and(|cell| cell == "t"));
                // What somebody else put in its place is not ours to drop.
                if is(0) && is(1) && there.cell(1) == Some("t") {
                    names.push(walk.archive_name());
                }
            }
            if !names.is_empty() {
                if self.desk.record_drop(&job).is_err() {
                    self.unlock_job(&job).await?;
                    return Ok(());
                }
                let wait = limits::BATCH_LOCK_WAIT.as_millis();
                let text = format!("BEGIN; SET LOCAL lock_timeout = {wait}; DROP TABLE {}", names.join(", "));
                let done = self.tell(&text).await?;
                self.reaching.touch();
                let failed = match done.error {
                    Some(_) => self.tell("ROLLBACK").await.map(|_| true)?,
                    None => self.commit().await?.is_some(),
                };
                if failed {
                    self.unlock_job(&job).await?;
                    continue;
                }
                self.tell_notice(&format!(
                    "sluice: the archive of job {} was dropped: it was past its retention",
                    job.id
                ));
            }
            let now = self.desk.house.clock.now();
            if let Err(error) = self.desk.house.store.job_dropped(job.id, now).await {
                tracing::error!(job = %job.id, %error, "that an archive was dropped could not be kept");
            }
            self.unlock_job(&job).await?;
        }
        Ok(())
    }

    /// What dates, intervals and texts of values mean in it depends on these, from batch to batch and from session to session.
    async fn readings_of_dates(&mut self) -> Result<Context, End> {
        #[rustfmt::skip]
        const NAMES: [&str; 10] = [
            "TimeZone", "DateStyle", "IntervalStyle", "transform_null_equals", "bytea_output", "extra_float_digits", "array_nulls",
            "lc_time", "lc_numeric", "lc_monetary",
        ];
        let asked = NAMES.map(|name| format!("pg_catalog.current_setting('{name}')")).join(", ");
        let values = self.tell(&format!("SELECT {asked}")).await?.row(0).unwrap_or_default();
        Ok(NAMES.iter().map(|name| (*name).to_owned()).zip(values).collect())
    }

    /// Functions, operators or casts of the users' own may stand where the text seems to use the server's. Those that say they always give
    /// the same (IMMUTABLE) are believed, as the server itself does.
    async fn means_otherwise(&mut self, facts: &Facts, text: &str) -> Result<bool, End> {
        let names: Vec<String> = facts.functions.iter().map(|name| quote::literal(name)).collect();
        let functions = match names.is_empty() {
            true => "false".to_owned(),
            false => format!(
                "EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.pronamespace <> 'pg_catalog'::pg_catalog.regnamespace AND p.provolatile <> 'i' AND p.proname = ANY (ARRAY[{}]::pg_catalog.name[]))",
                names.join(", ")
            ),
        };
        let question = quote::catalog(&format!(
            "SELECT {functions} \
             OR EXISTS (SELECT FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode WHERE o.oprnamespace <> 'pg_catalog'::pg_catalog.regnamespace AND p.provolatile <> 'i' AND pg_catalog.strpos({text}, o.oprname::pg_catalog.text) > 0) \
             OR EXISTS (SELECT FROM pg_catalog.pg_cast c JOIN pg_catalog.pg_proc p ON p.oid = c.castfunc WHERE c.oid >= 16384 AND p.provolatile <> 'i')",
            text = quote::literal(text)
        ));
        Ok(self.tell(&question).await?.cell(0) != Some("f"))
    }

    /// Jobs commit batch by batch, so nothing of the client's may be open.
    fn must_be_outside(&self, form: Form) -> Option<Refusal> {
        if !self.settings.takes_utf8 {
            let message = "sluice: jobs read keys as UTF-8, and this session's client_encoding is another";
            return Some(Refusal::new(Code::Token, message).hint("SET client_encoding = 'UTF8' first."));
        }
        let open =
            self.talk.status() != b'I' || form == Form::Extended && (self.pipeline.executed || self.pipeline.bound);
        open.then(|| {
            Refusal::new(Code::Token, "sluice: a job commits batch by batch, which it cannot in a transaction")
                .hint("COMMIT or ROLLBACK first.")
        })
    }
}

/// What PREPARE prepares, without its name and types: the server keeps the whole text.
fn behind_prepare(text: &str, mode: LexicalMode) -> &str {
    let mut tokens = Lexer::new(text, mode).filter(|token| !token.is_comment());
    if !tokens.next().is_some_and(|first| first.is_word(text, "prepare")) {
        return text;
    }
    // Types have no AS in them.
    tokens
        .find(|token| token.is_word(text, "as"))
        .and_then(|token| text.get(token.span().end..))
        .map_or(text, str::trim)
}
