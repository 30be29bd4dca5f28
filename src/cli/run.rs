//! `sluice run`: the configuration made into listeners, kept in force while they run, and brought to an orderly end.
//!
//! SIGHUP, or a change of the configuration or of a file that it names, puts a new policy (and certificates and logins) in force without dropping a session;
//! a broken file leaves the old one in force and says so. SIGTERM and SIGINT drain: no new connections, sessions end between
//! statements, and after `drain_timeout` what is left is cut off.

use crate::admin::{self, Admin, Health, Phase};
use crate::audit::Recorder;
use crate::audit::sink::Sink;
use crate::cli::door;
use crate::config::{self, Address, Config, Listener, LogFormat, Protocol, Sessions, UpstreamTls};
use crate::ground::clock::Clock;
use crate::ground::metrics::{POLICY_RELOADS_TOTAL, RECORD_FAILING, STORE_FAILURES_TOTAL};
use crate::policy::settings::{Mode, Policy};
use crate::serve::listen::{self, Bound, run_thread};
use crate::serve::tls::{self, Trust};
use crate::session::door::Door;
use crate::session::lobby::{self, Lobby};
use crate::session::refused::Refused;
use crate::session::registry::Registry;
use crate::session::room::Rooms;
use crate::session::tries::Tries;
use crate::session::upstream::{self, Target, TlsMode};
use crate::session::{Control, House, Schemas, Speaks};
use crate::store::Store;
use arc_swap::ArcSwap;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// How often the configuration file is looked at, and expired challenges are swept.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const SWEEP_EVERY: u32 = 15;
/// How often the number of statements that were only counted goes into the record: by this thread, so that those that serve have
/// no timer to look after.
const COUNT_EVERY: u32 = 30;

/// Until it is told to stop. The error is for the terminal.
pub fn run(path: &Path) -> Result<(), String> {
    let config = config::load(path).map_err(|errors| errors.render())?;
    start_log(&config);
    let service = Service::start(config, Some(path.to_owned()))?;
    service.serve(|| {})
}

pub fn start_log(config: &Config) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(config.log.level.name()));
    // PostgreSQL's parser (pg_query 18.1) points the process's stderr elsewhere while it parses: the log keeps one of its own.
    let Ok(stderr) = std::io::stderr().as_fd().try_clone_to_owned() else { return };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Arc::new(std::fs::File::from(stderr)));
    // A second start in one process (tests) keeps the first.
    let _ = match config.log.format {
        LogFormat::Text => log.with_ansi(false).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
}

/// Everything that runs.
pub struct Service {
    config: Config,
    path: Option<PathBuf>,
    policy: Arc<ArcSwap<Policy>>,
    doors: Vec<Arc<ArcSwap<Door>>>,
    tries: Arc<Tries>,
    refused: Arc<Refused>,
    lobby: Arc<Lobby>,
    store: Store,
    sink: Arc<Sink>,
    recorder: Recorder,
    registry: Arc<Registry>,
    rooms: Arc<Rooms>,
    draining: watch::Sender<bool>,
    stopped: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    houses: Vec<Arc<House>>,
    addresses: Vec<String>,
    health: Health,
}

impl Service {
    /// Opens everything and begins to listen. Nothing runs if anything fails.
    pub fn start(config: Config, path: Option<PathBuf>) -> Result<Service, String> {
        let clock = Clock::System;
        let store = Store::open(&store_url(&config)).map_err(|error| format!("the store: {error}"))?;
        let sink = Sink::open_rotated(&config.audit.path, clock.clone(), config.audit.rotation);
        let sink = sink.map_err(|error| format!("the record: {error}"))?;
        let sink = Arc::new(sink);
        let (draining, _) = watch::channel(false);
        let (stopped, _) = watch::channel(false);
        let Sessions { max_logins: all, max_logins_per_address: each, .. } = config.sessions;
        let room = lobby::Bounds { all, each };
        let mut service = Service {
            policy: Arc::new(ArcSwap::from_pointee(config.policy.clone())),
            doors: Vec::new(),
            tries: Arc::default(),
            refused: Arc::default(),
            lobby: Arc::new(Lobby::new(room)),
            sink: sink.clone(),
            recorder: Recorder::new(sink.clone(), config.audit.manner),
            rooms: Rooms::new(config.sessions.memory_bytes),
            registry: Arc::new(Registry::new(config.sessions.max_sessions)),
            threads: Vec::new(),
            houses: Vec::new(),
            addresses: Vec::new(),
            health: Health::new(sink.fails()),
            config,
            path,
            store,
            draining,
            stopped,
        };
        let mode = service.config.policy.mode.name();
        service.recorder.service(&format!("started, mode {mode}")).map_err(|error| format!("the record: {error}"))?;
        service.open(sink, clock)?;
        Ok(service)
    }

    /// Where the listeners are, in the order of the configuration, with the ports that the system chose.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    fn open(&mut self, sink: Arc<Sink>, clock: Clock) -> Result<(), String> {
        let mut bound = Vec::new();
        for listener in &self.config.listeners {
            let failed = |error: &dyn std::fmt::Display| format!("listener \"{}\": {error}", listener.name);
            let socket = bind(&listener.listen)
                .map_err(|error| failed(&format!("cannot listen on {}: {error}", listener.listen)))?;
            let door = door::door(listener, &self.config, &self.store).map_err(|error| failed(&error))?;
            let target = target(listener, &self.config).map_err(|error| failed(&error))?;
            tracing::info!(listener = %listener.name, address = %socket.address(), upstream = %target.address, "listening");
            self.addresses.push(socket.address());
            self.doors.push(Arc::new(ArcSwap::from_pointee(door)));
            let speaks = match listener.protocol {
                Protocol::Postgres => Speaks::Postgres,
                Protocol::MySql => Speaks::MySql,
            };
            bound.push((listener.name.clone(), speaks, socket, target));
        }
        // Listeners before one server share what is known of it.
        let mut by_server: std::collections::HashMap<String, Arc<Schemas>> = std::collections::HashMap::new();
        let shared = |(_, _, _, target): &(String, Speaks, Bound, Target)| {
            by_server.entry(target.address.to_string()).or_default().clone()
        };
        let schemas: Vec<Arc<Schemas>> = bound.iter().map(shared).collect();
        for number in 0..threads() {
            let mut houses = Vec::new();
            for (((name, speaks, socket, target), door), schemas) in bound.iter().zip(&self.doors).zip(&schemas) {
                let house = House {
                    listener: name.clone(),
                    speaks: *speaks,
                    target: target.clone(),
                    door: door.clone(),
                    control: Control::default(),
                    tries: self.tries.clone(),
                    refused: self.refused.clone(),
                    lobby: self.lobby.clone(),
                    policy: self.policy.clone(),
                    store: self.store.clone(),
                    recorder: Recorder::new(sink.clone(), self.config.audit.manner),
                    registry: self.registry.clone(),
                    rooms: self.rooms.clone(),
                    clock: clock.clone(),
                    login_timeout: self.config.sessions.login_timeout,
                    ask_timeout: self.config.sessions.ask_timeout,
                    idle_timeout: self.config.sessions.idle_timeout,
                    schemas: schemas.clone(),
                    draining: self.draining.subscribe(),
                };
                let socket = socket.share().map_err(|error| error.to_string())?;
                let house = Arc::new(house);
                self.houses.push(house.clone());
                houses.push((house, socket));
            }
            let stopped = self.stopped.subscribe();
            let body = move || {
                if let Err(error) = run_thread(houses, stopped) {
                    tracing::error!(%error, "a thread could not start");
                }
            };
            let thread = std::thread::Builder::new().name(format!("sluice-{number}")).spawn(body);
            self.threads.push(thread.map_err(|error| error.to_string())?);
        }
        Ok(())
    }

    /// Runs until a signal ends it; `ready` is called once everything listens.
    pub fn serve(mut self, ready: impl FnOnce()) -> Result<(), String> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        let served = runtime.block_on(self.supervise(ready));
        let _ = self.stopped.send(true);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread ended by a panic");
            }
        }
        for listener in &self.config.listeners {
            if let Address::Unix(path) = &listener.listen {
                let _ = std::fs::remove_file(path);
            }
        }
        let _ = self.recorder.service("stopped");
        tracing::info!("stopped");
        served
    }

    async fn supervise(&mut self, ready: impl FnOnce()) -> Result<(), String> {
        let on = |kind| signal(kind).map_err(|error| error.to_string());
        let (mut hangup, mut terminate, mut interrupt) =
            (on(SignalKind::hangup())?, on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
        // A file at the limit that the system sets (ulimit -f) is a disk that is full, not an end of the process.
        let _at_limit = on(SignalKind::from_raw(libc::SIGXFSZ))?;
        self.open_admin().await?;
        self.health.enter(Phase::Listening);
        ready();
        let mut seen = self.changed_at();
        let mut ticks = 0u32;
        let mut every = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    seen = self.changed_at();
                    // A tool that has moved the record's file away says so by this signal, too.
                    self.tend_record();
                    self.reload();
                }
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = every.tick() => {
                    let now = self.changed_at();
                    if now != seen {
                        seen = now;
                        self.reload();
                    }
                    self.tend_record();
                    ticks = ticks.wrapping_add(1);
                    if ticks.is_multiple_of(SWEEP_EVERY) {
                        self.sweep().await;
                    }
                    if ticks.is_multiple_of(COUNT_EVERY) {
                        listen::write_counted(&self.houses);
                    }
                }
            }
        }
        self.health.enter(Phase::Draining);
        self.drain(&mut terminate).await;
        Ok(())
    }

    /// The record that fails is tried again though nobody sends anything, and its file is changed though nobody writes.
    fn tend_record(&self) {
        // What failed was logged when it began to.
        let failing = self.sink.tend().is_err();
        metrics::gauge!(RECORD_FAILING).set(if failing { 1.0 } else { 0.0 });
    }

    async fn open_admin(&self) -> Result<(), String> {
        let Some(wanted) = &self.config.admin else { return Ok(()) };
        let Address::Tcp { host, port } = &wanted.listen else {
            return Err("the admin endpoint listens on an IP address and a port".to_owned());
        };
        let listener = tokio::net::TcpListener::bind((host.as_str(), *port)).await;
        let listener =
            listener.map_err(|error| format!("the admin endpoint cannot listen on {}: {error}", wanted.listen))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let metrics = match self.config.metrics.enabled {
            true => admin::metrics::install()?,
            // Nothing counts into it: the page is empty.
            false => admin::metrics::recorder().map_err(|error| error.to_string())?.handle(),
        };
        tracing::info!(%address, "admin endpoint listening");
        let serving = admin::serve(listener, Admin { health: self.health.clone(), metrics }, self.stopped.subscribe());
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the admin endpoint ended");
            }
        });
        Ok(())
    }

    /// When the configuration, and every file that it names, was changed last: certificates are renewed and users are added without
    /// a word changing in it.
    fn changed_at(&self) -> Vec<Option<SystemTime>> {
        let files = self.path.iter().cloned().chain(door::files(&self.config));
        files.map(|file| std::fs::metadata(file).and_then(|found| found.modified()).ok()).collect()
    }

    /// Puts the file's policy and certificates in force. What needs new sockets is said to need a restart.
    fn reload(&mut self) {
        let Some(path) = &self.path else { return };
        let config = match config::load(path) {
            Ok(config) => config,
            Err(errors) => {
                metrics::counter!(POLICY_RELOADS_TOTAL, "outcome" => "refused").increment(1);
                tracing::error!("the configuration is broken, the old policy stays in force:\n{}", errors.render());
                let _ = self.recorder.policy("not loaded: the configuration is broken; the old policy stays in force");
                return;
            }
        };
        let mut doors = Vec::new();
        for listener in &config.listeners {
            match door::door(listener, &config, &self.store) {
                Ok(door) => doors.push(Arc::new(door)),
                Err(error) => {
                    metrics::counter!(POLICY_RELOADS_TOTAL, "outcome" => "refused").increment(1);
                    tracing::error!(listener = %listener.name, error, "a certificate, user or password cannot be read, all stays as it was");
                    let why =
                        "not loaded: a certificate, user or password cannot be read; the old policy stays in force";
                    let _ = self.recorder.policy(why);
                    return;
                }
            }
        }
        let same_ends = config.listeners.len() == self.config.listeners.len()
            && config.listeners.iter().zip(&self.config.listeners).all(|(new, old)| new.has_the_ends_of(old));
        if !same_ends || config.store != self.config.store || config.audit != self.config.audit {
            tracing::warn!("listeners, store and record take effect with a restart; only the policy was loaded");
        }
        let generation = self.policy.load().generation + 1;
        let mode = config.policy.mode;
        if let Err(error) = self.recorder.policy(&format!("loaded, generation {generation}, mode {}", mode.name())) {
            tracing::error!(%error, "the new policy cannot be recorded, the old one stays in force");
            return;
        }
        self.policy.store(Arc::new(Policy { generation, ..config.policy.clone() }));
        if same_ends {
            for (slot, door) in self.doors.iter().zip(doors) {
                slot.store(door);
            }
            (self.config.listeners, self.config.logins) = (config.listeners, config.logins);
        }
        self.config.policy = config.policy;
        metrics::counter!(POLICY_RELOADS_TOTAL, "outcome" => "taken").increment(1);
        tracing::info!(generation, mode = mode.name(), "policy loaded");
        if mode != Mode::Enforce {
            tracing::warn!(mode = mode.name(), "nothing is refused");
        }
    }

    async fn sweep(&self) {
        let swept = self.store.sweep(jiff::Timestamp::now()).await;
        self.health.store_works(swept.is_ok());
        if let Err(error) = swept {
            metrics::counter!(STORE_FAILURES_TOTAL).increment(1);
            tracing::error!(%error, "expired challenges could not be swept");
        }
    }

    async fn drain(&self, terminate: &mut tokio::signal::unix::Signal) {
        tracing::info!(sessions = self.registry.seated(), "draining");
        let _ = self.recorder.service("draining");
        let _ = self.draining.send(true);
        let deadline = tokio::time::Instant::now() + self.config.sessions.drain_timeout;
        let mut every = tokio::time::interval(Duration::from_millis(20));
        let left = || self.registry.seated() + self.lobby.count();
        while left() > 0 {
            tokio::select! {
                _ = every.tick() => {}
                _ = terminate.recv() => return tracing::warn!("told twice to stop: sessions are cut off"),
                _ = tokio::time::sleep_until(deadline) => {
                    return tracing::warn!(sessions = left(), "drain timeout: sessions are cut off");
                }
            }
        }
    }
}

/// One for two cores: a thread carries more statements than a database answers on the other, and the fewer threads there are,
/// the more each finds to do when it wakes (a tenth of the processor time of a statement, on two cores).
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

fn store_url(config: &Config) -> String {
    match &config.store {
        config::Store::Sqlite(path) => format!("sqlite:{}", path.display()),
    }
}

fn bind(address: &Address) -> Result<Bound, String> {
    match address {
        Address::Tcp { host, port } => {
            let ip = host.parse().map_err(|_| format!("{host} is not an IP address"))?;
            Bound::tcp(SocketAddr::new(ip, *port)).map_err(|error| error.to_string())
        }
        Address::Unix(path) => Bound::unix(path).map_err(|error| error.to_string()),
    }
}

fn target(listener: &Listener, config: &Config) -> Result<Target, String> {
    let mode = match listener.upstream_tls {
        UpstreamTls::Disable => TlsMode::Disable,
        UpstreamTls::Allow => TlsMode::Allow,
        UpstreamTls::Prefer => TlsMode::Prefer,
        UpstreamTls::Require | UpstreamTls::VerifyCa | UpstreamTls::VerifyFull => TlsMode::Require,
    };
    let address = match &listener.upstream {
        Address::Tcp { host, port } => upstream::Address::Tcp { host: host.clone(), port: *port },
        Address::Unix(path) => upstream::Address::Unix(path.clone()),
    };
    let roots = match &listener.upstream_ca {
        config::Roots::System => tls::Roots::System,
        config::Roots::File(path) => tls::Roots::File(path.clone()),
    };
    let trust = match listener.upstream_tls {
        UpstreamTls::VerifyFull => Trust::Name(roots),
        UpstreamTls::VerifyCa => Trust::Chain(roots),
        // As libpq: with a root certificate at hand, "require" verifies by it.
        UpstreamTls::Require if matches!(roots, tls::Roots::File(_)) => Trust::Chain(roots),
        UpstreamTls::Disable | UpstreamTls::Allow | UpstreamTls::Prefer | UpstreamTls::Require => Trust::Anybody,
    };
    let connector = tls::connector(&trust)?;
    let verified = !matches!(trust, Trust::Anybody);
    Ok(Target { address, mode, connector, verified, timeout: config.sessions.connect_timeout })
}
