//! What a job waits for between two batches, and for how long: the policy's limits, and the rate that somebody set for it.
//!
//! Invariant: whoever waits for the job is told why it waits, and pausing, cancelling and going down act while it does.

use crate::policy::throttle::{Gate, Load, Throttle};
use jiff::Timestamp;
use std::time::{Duration, Instant};

/// How often a server is measured while a job runs on it, and how often one that waits looks up.
const MEASURED_EVERY: Duration = Duration::from_secs(1);
pub(in crate::session) const LOOKS_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(in crate::session) struct Brake {
    gate: Gate,
    measured: Option<Instant>,
    /// What the server's load makes it wait for.
    load: Option<String>,
    /// The batch before: when it began, and its rows. The next waits until they are no more than the rate, as that is by then.
    took: Option<(Instant, u64)>,
}

impl Brake {
    /// Whether the server is to be measured before the next batch.
    pub fn is_due(&self, throttle: &Throttle) -> bool {
        throttle.asks() && self.measured.is_none_or(|then| then.elapsed() >= MEASURED_EVERY)
    }

    pub fn measured(&mut self, throttle: &Throttle, load: &Load) {
        self.measured = Some(Instant::now());
        self.load = self.gate.wait(throttle, load);
    }

    /// A batch of so many rows was committed that began then.
    pub fn took(&mut self, began: Instant, rows: u64) {
        self.took = Some((began, rows));
    }

    /// Why the next batch does not begin yet. `None`: it does.
    pub fn waits(&self, throttle: &Throttle, now: Timestamp, rate: Option<u64>) -> Option<String> {
        let next = |rate: u64| {
            let (began, rows) = self.took?;
            began.checked_add(Duration::from_secs_f64(rows as f64 / rate.max(1) as f64))
        };
        let slow = rate.filter(|rate| next(*rate).is_some_and(|next| next > Instant::now()));
        throttle
            .closed(now)
            .or_else(|| self.load.clone().filter(|_| throttle.asks()))
            .or_else(|| slow.map(|rate| format!("it keeps to {} rows/s", crate::policy::count::grouped(rate))))
    }
}

/// Rows a second: what somebody set for the job, 0 being as many as it can, else what the policy says.
pub(in crate::session) fn rate(own: Option<u64>, throttle: &Throttle) -> Option<u64> {
    own.or(throttle.rows_per_second).filter(|rate| *rate > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_own_rate_comes_first() {
        let throttle = Throttle { rows_per_second: Some(500), ..Throttle::default() };
        assert_eq!(rate(None, &throttle), Some(500));
        assert_eq!(rate(Some(7), &throttle), Some(7));
        assert_eq!(rate(Some(0), &throttle), None);
        let mut brake = Brake::default();
        let now = Timestamp::UNIX_EPOCH;
        brake.took(Instant::now(), 100_000);
        assert_eq!(brake.waits(&throttle, now, Some(10)).as_deref(), Some("it keeps to 10 rows/s"));
        // Whatever the rate was when the batch ended.
        assert_eq!(brake.waits(&throttle, now, Some(u64::MAX)), None);
        assert_eq!(brake.waits(&throttle, now, None), None);
    }
}
