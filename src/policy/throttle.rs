//! When a job lets the others go first: what is measured of the server, held against what the policy allows.
//!
//! Invariants: what is at its limit stops the job, and it starts again only below a lower one, so that it does not flutter; what cannot be
//! measured, where a limit was set for it, counts as reached; the reason is always said.

use crate::policy::count::grouped;
use crate::policy::pattern::Window;
use jiff::Timestamp;
use std::time::Duration;

/// `[jobs]`: how much of the server a job may take.
#[derive(Debug, Clone, PartialEq)]
pub struct Throttle {
    /// About how long one batch may take.
    pub batch_time: Duration,
    /// How far a replica may be behind. Unless it was set, only replicas that the user is shown count.
    pub replica_lag: Option<Duration>,
    pub replica_lag_was_set: bool,
    /// Statements that others run at the same time.
    pub running: Option<u64>,
    /// Bytes of WAL that a replica or a replication slot has yet to take.
    pub backlog_bytes: Option<u64>,
    pub rows_per_second: Option<u64>,
    /// Wait while the table is vacuumed, where that is known.
    pub vacuum: bool,
    /// When jobs run at all; empty: always.
    pub time: Vec<Window>,
    /// How long archives are kept; `None`: for good.
    pub archive_retention: Option<Duration>,
}

impl Default for Throttle {
    fn default() -> Throttle {
        Throttle {
            batch_time: Duration::from_millis(200),
            replica_lag: Some(Duration::from_millis(1_500)),
            replica_lag_was_set: false,
            running: None,
            backlog_bytes: None,
            rows_per_second: None,
            vacuum: true,
            time: Vec::new(),
            archive_retention: Some(Duration::from_secs(30 * 24 * 3600)),
        }
    }
}

/// What the server said. `Err`: why it could not.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// By name; `None`: it is not shown, or was not heard of lately.
    pub replicas: Result<Vec<(String, Option<f64>)>, String>,
    pub running: Result<u64, String>,
    pub backlog: Result<u64, String>,
    pub vacuumed: bool,
}

/// A job at its gate: what it waits for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gate {
    waits: [bool; 3],
}

impl Throttle {
    /// Whether anything of it has to be asked of the server.
    pub fn asks(&self) -> bool {
        self.replica_lag.is_some() || self.running.is_some() || self.backlog_bytes.is_some() || self.vacuum
    }

    /// Outside of the windows in which jobs run.
    pub fn closed(&self, now: Timestamp) -> Option<String> {
        let open = self.time.is_empty() || self.time.iter().any(|window| window.contains(now));
        (!open).then(|| "jobs run at other times ([jobs] time)".to_owned())
    }
}

impl Gate {
    /// Why the job waits. Past a limit it waits until what is measured is down to three quarters of it.
    pub fn wait(&mut self, throttle: &Throttle, load: &Load) -> Option<String> {
        let behind = throttle.replica_lag.and_then(|limit| self.behind(throttle, load, limit));
        let running = throttle.running.and_then(|limit| {
            let measured = load.running.as_ref().map(|running| *running as f64);
            self.held(1, measured, limit as f64).map(|measured| match measured {
                Ok(running) => format!("{running:.0} statements run (limit {limit})"),
                Err(why) => format!("how many statements run is not known: {why}"),
            })
        });
        let backlog = throttle.backlog_bytes.and_then(|limit| {
            let measured = load.backlog.as_ref().map(|bytes| *bytes as f64);
            self.held(2, measured, limit as f64).map(|measured| match measured {
                Ok(bytes) => {
                    format!("{} bytes of WAL wait to be taken (limit {})", grouped(bytes as u64), grouped(limit))
                }
                Err(why) => format!("how much WAL waits to be taken is not known: {why}"),
            })
        });
        let vacuumed = (throttle.vacuum && load.vacuumed).then(|| "the table is being vacuumed".to_owned());
        behind.or(running).or(backlog).or(vacuumed)
    }

    fn behind(&mut self, throttle: &Throttle, load: &Load, limit: Duration) -> Option<String> {
        let strict = throttle.replica_lag_was_set;
        let replicas = match &load.replicas {
            Ok(replicas) => replicas,
            Err(_) if !strict => return None,
            Err(why) => return Some(format!("how far replicas are behind is not known: {why}")),
        };
        if strict && let Some((name, _)) = replicas.iter().find(|(_, lag)| lag.is_none()) {
            return Some(format!("how far replica {name} is behind is not known"));
        }
        let worst = replicas.iter().filter_map(|(name, lag)| Some((name, (*lag)?))).max_by(|a, b| a.1.total_cmp(&b.1));
        let lag = worst.map_or(0.0, |(_, lag)| lag);
        let _ = self.held(0, Ok(lag), limit.as_secs_f64())?;
        let name = worst.map_or("", |(name, _)| name);
        Some(format!("replica {name} is {lag:.1} s behind (limit {:.1} s)", limit.as_secs_f64()))
    }

    /// `Some`: it waits for this, at what was measured.
    fn held<'a>(
        &mut self,
        at: usize,
        measured: Result<f64, &'a String>,
        limit: f64,
    ) -> Option<Result<f64, &'a String>> {
        const AGAIN: f64 = 0.75;
        let held = match measured {
            Ok(measured) => measured > limit || self.waits[at] && measured > limit * AGAIN,
            Err(_) => true,
        };
        self.waits[at] = held;
        held.then_some(measured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(lag: &[Option<f64>], running: Result<u64, String>) -> Load {
        let replicas = lag.iter().enumerate().map(|(at, lag)| (format!("r{at}"), *lag)).collect();
        Load { replicas: Ok(replicas), running, backlog: Ok(0), vacuumed: false }
    }

    #[test]
    fn it_waits_at_a_limit_and_goes_on_at_a_lower_one() {
        let throttle = Throttle { running: Some(40), ..Throttle::default() };
        let mut gate = Gate::default();
        for (running, waits) in [(40, false), (41, true), (35, true), (31, true), (30, false), (35, false), (41, true)]
        {
            assert_eq!(gate.wait(&throttle, &load(&[], Ok(running))).is_some(), waits, "{running}");
        }
        let why = gate.wait(&throttle, &load(&[Some(0.2), Some(3.24)], Ok(50)));
        assert_eq!(why.as_deref(), Some("replica r1 is 3.2 s behind (limit 1.5 s)"));
        let why = gate.wait(&throttle, &load(&[Some(1.4)], Ok(0)));
        assert_eq!(why.as_deref(), Some("replica r0 is 1.4 s behind (limit 1.5 s)"), "not down far enough yet");
        assert_eq!(gate.wait(&throttle, &load(&[Some(1.0)], Ok(0))), None);
    }

    #[test]
    fn what_cannot_be_measured_counts_as_reached_where_it_was_asked_for() {
        let by_default = Throttle::default();
        let unseen = Load { replicas: Err("no right".to_owned()), ..load(&[], Ok(0)) };
        assert_eq!(Gate::default().wait(&by_default, &unseen), None);
        assert_eq!(Gate::default().wait(&by_default, &load(&[None], Ok(0))), None);
        let strict = Throttle { replica_lag_was_set: true, ..Throttle::default() };
        let why = Gate::default().wait(&strict, &unseen);
        assert_eq!(why.as_deref(), Some("how far replicas are behind is not known: no right"));
        let why = Gate::default().wait(&strict, &load(&[Some(0.0), None], Ok(0)));
        assert_eq!(why.as_deref(), Some("how far replica r1 is behind is not known"));
        let running = Throttle { running: Some(5), ..Throttle::default() };
        let why = Gate::default().wait(&running, &load(&[], Err("no right".to_owned())));
        assert_eq!(why.as_deref(), Some("how many statements run is not known: no right"));
    }

    #[test]
    fn a_closed_window_and_a_vacuum_are_waited_for() {
        let windows = vec![Window::parse("daily 22:00-06:00").expect("a window")];
        let throttle = Throttle { time: windows, ..Throttle::default() };
        let at = |time: &str| throttle.closed(time.parse().expect("a time"));
        assert!(at("2026-03-02T12:00:00Z").is_some());
        assert_eq!(at("2026-03-02T23:00:00Z"), None);
        let vacuumed = Load { vacuumed: true, ..load(&[], Ok(0)) };
        assert!(Gate::default().wait(&throttle, &vacuumed).is_some());
        assert_eq!(Gate::default().wait(&Throttle { vacuum: false, ..throttle }, &vacuumed), None);
    }
}
