//! The admin endpoint: is Sluice alive, is it ready, what has it counted. Plain HTTP, meant for loopback.
//!
//! | route | answer |
//! |---|---|
//! | `GET /healthz` | 200 while listening, 503 while starting or draining |
//! | `GET /readyz` | as `/healthz`, and 503 while the record or the store fails: what changes data is refused then, so it should go by another Sluice |
//! | `GET /metrics` | Prometheus text, <https://prometheus.io/docs/instrumenting/exposition_formats/> |
//!
//! Invariants: nothing here changes anything; no statement, name of a user or token can be read here; connections are bounded in number
//! and age, so that a stuck scraper costs nothing.

mod bounded;
pub mod metrics;

use crate::admin::bounded::Bounded;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Serves until `stop` says true (or its sender is gone) and the connections then open have ended. Spawns on the current
/// runtime. May be dropped at any time.
pub async fn serve(listener: TcpListener, admin: Admin, stop: watch::Receiver<bool>) -> std::io::Result<()> {
    let upkeep = metrics::keep_up(admin.metrics.clone());
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .with_state(admin);
    let serving = axum::serve(Bounded::new(listener), routes).with_graceful_shutdown(stopped(stop));
    tokio::select! {
        served = serving => served,
        never = upkeep => match never {},
    }
}

/// What the routes show.
#[derive(Clone)]
pub struct Admin {
    pub health: Health,
    pub metrics: PrometheusHandle,
}

/// How Sluice is, as told by whoever knows. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Flags>);

/// Where the process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Starting,
    Listening,
    Draining,
}

impl Health {
    /// `record_fails` is the record's own word, true while it does not take what it is given.
    pub fn new(record_fails: Arc<AtomicBool>) -> Health {
        Health(Arc::new(Flags { record_fails, ..Flags::default() }))
    }

    pub fn enter(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub fn phase(&self) -> Phase {
        match self.0.phase.load(Ordering::Relaxed) {
            number if number == Phase::Listening as u8 => Phase::Listening,
            number if number == Phase::Draining as u8 => Phase::Draining,
            _ => Phase::Starting,
        }
    }

    /// The store did or did not answer the last request.
    pub fn store_works(&self, works: bool) {
        self.0.store_fails.store(!works, Ordering::Relaxed);
    }

    fn unhealthy(&self) -> Option<&'static str> {
        match self.phase() {
            Phase::Starting => Some("starting"),
            Phase::Listening => None,
            Phase::Draining => Some("draining"),
        }
    }

    fn unready(&self) -> Option<&'static str> {
        let failing = |flag: &AtomicBool, why| flag.load(Ordering::Relaxed).then_some(why);
        self.unhealthy()
            .or_else(|| failing(&self.0.record_fails, "the record fails"))
            .or_else(|| failing(&self.0.store_fails, "the store fails"))
    }
}

#[derive(Debug, Default)]
struct Flags {
    phase: AtomicU8,
    record_fails: Arc<AtomicBool>,
    store_fails: AtomicBool,
}

async fn healthz(State(admin): State<Admin>) -> Response {
    answer(admin.health.unhealthy())
}

async fn readyz(State(admin): State<Admin>) -> Response {
    answer(admin.health.unready())
}

async fn metrics_text(State(admin): State<Admin>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, admin.metrics.render()).into_response()
}

fn answer(trouble: Option<&'static str>) -> Response {
    match trouble {
        None => (StatusCode::OK, "ok\n").into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // A sender that is gone has nothing more to serve for either.
    let _ = stop.wait_for(|&stop| stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::limits;
    use crate::ground::metrics as names;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn health_follows_the_phase_and_the_record() {
        let (server, health, stop) = start().await;
        let fails = health.0.record_fails.clone();
        assert_eq!(get_status(server, "/healthz").await, 503);
        health.enter(Phase::Listening);
        assert_eq!(get_status(server, "/healthz").await, 200);
        assert_eq!(get_status(server, "/readyz").await, 200);
        fails.store(true, Ordering::Relaxed);
        assert_eq!(get_status(server, "/healthz").await, 200);
        assert_eq!(get_status(server, "/readyz").await, 503);
        fails.store(false, Ordering::Relaxed);
        health.store_works(false);
        assert_eq!(get_status(server, "/readyz").await, 503);
        health.store_works(true);
        health.enter(Phase::Draining);
        assert_eq!(get_status(server, "/healthz").await, 503);
        assert_eq!(get_status(server, "/readyz").await, 503);
        assert_eq!(get_status(server, "/nothing").await, 404);
        drop(stop);
    }

    #[tokio::test]
    async fn metrics_are_shown_with_what_they_mean() {
        let recorder = metrics::recorder().expect("builds");
        let handle = recorder.handle();
        ::metrics::with_local_recorder(&recorder, || {
            metrics::describe();
            ::metrics::counter!(names::REFUSALS_TOTAL, "rule" => "cascade", "code" => "SL001").increment(2);
            ::metrics::histogram!(names::QUESTIONS_SECONDS).record(0.03);
        });
        let text = handle.render();
        assert!(text.contains("# HELP sluice_refusals_total Statements refused"), "{text}");
        assert!(text.contains("sluice_refusals_total{rule=\"cascade\",code=\"SL001\"} 2"), "{text}");
        assert!(text.contains("sluice_questions_seconds_bucket{le=\"0.05\"} 1"), "{text}");
    }

    #[tokio::test]
    async fn serving_ends_when_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let (tell, stop) = watch::channel(false);
        let serving = tokio::spawn(serve(listener, admin(), stop));
        tell.send(true).expect("heard");
        let ended = tokio::time::timeout(std::time::Duration::from_secs(5), serving).await;
        ended.expect("in time").expect("no panic").expect("no error");
    }

    #[tokio::test]
    async fn more_connections_than_allowed_wait() {
        let (server, health, _stop) = start().await;
        health.enter(Phase::Listening);
        let mut idle = Vec::new();
        for _ in 0..limits::ADMIN_CONNECTIONS_MAX {
            idle.push(TcpStream::connect(server).await.expect("connects"));
        }
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(200), get_status(server, "/healthz")).await;
        assert!(waiting.is_err(), "the place of an idle connection was given away");
        drop(idle);
        assert_eq!(get_status(server, "/healthz").await, 200);
    }

    async fn start() -> (std::net::SocketAddr, Health, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let admin = admin();
        let health = admin.health.clone();
        let (tell, stop) = watch::channel(false);
        tokio::spawn(serve(listener, admin, stop));
        (address, health, tell)
    }

    fn admin() -> Admin {
        Admin { health: Health::default(), metrics: metrics::recorder().expect("builds").handle() }
    }

    async fn get_status(server: std::net::SocketAddr, path: &str) -> u16 {
        let mut stream = TcpStream::connect(server).await.expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nHost: sluice\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("writes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("reads");
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
    }
}
