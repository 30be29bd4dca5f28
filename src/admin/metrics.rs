//! Prometheus behind the `metrics` facade. The names stand in [`crate::ground::metrics`]; here they get their descriptions and buckets.
//!
//! Invariant: no thread of its own: histograms are folded by [`keep_up`], which the admin endpoint runs as long as it serves. Where
//! there is no admin endpoint nothing is installed, and counting costs next to nothing.

use crate::ground::limits;
use crate::ground::metrics::{ALL, MetricKind, QUESTIONS_SECONDS, QUESTIONS_SECONDS_BUCKETS};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::convert::Infallible;

/// Makes the process count. Once a process: a second call is an error.
pub fn install() -> Result<PrometheusHandle, String> {
    let recorder = recorder().map_err(|error| error.to_string())?;
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|error| error.to_string())?;
    describe();
    Ok(handle)
}

/// A recorder that nothing uses yet.
pub fn recorder() -> Result<PrometheusRecorder, BuildError> {
    let questions = Matcher::Full(QUESTIONS_SECONDS.to_owned());
    Ok(PrometheusBuilder::new().set_buckets_for_metric(questions, QUESTIONS_SECONDS_BUCKETS)?.build_recorder())
}

/// Gives the recorder in force the meaning of every metric.
pub fn describe() {
    for &(name, kind, meaning) in ALL {
        match kind {
            MetricKind::Counter => metrics::describe_counter!(name, meaning),
            MetricKind::Gauge => metrics::describe_gauge!(name, meaning),
            MetricKind::Histogram => metrics::describe_histogram!(name, meaning),
        }
    }
}

/// Folds histograms for ever, so that their samples do not pile up when nobody scrapes.
pub async fn keep_up(handle: PrometheusHandle) -> Infallible {
    let mut every = tokio::time::interval(limits::METRICS_UPKEEP_EVERY);
    loop {
        every.tick().await;
        handle.run_upkeep();
    }
}
