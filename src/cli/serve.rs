//! `dripfeed serve`: API, extraction, dispatch, workers, in one process; one for each data folder.

use std::{
    convert::Infallible,
    error::Error,
    fs::File,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::Builder,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};
use tokio::{net::TcpListener, runtime::Runtime};

use super::error::CliError;
use crate::{
    announce,
    appliance::Appliance,
    backup::{home, schedule},
    chores,
    clock::Clock,
    config::{Config, show_duration},
    dispatch::{clock as dispatch_clock, feeder, rescue, run::Dispatcher},
    extract, heartbeat,
    http::{self, Context, listen},
    keys, retention,
    store::{
        grants,
        stuck::{self, Lost, ProcessKind},
    },
    telemetry::{
        alerts,
        log::{self, Output},
    },
    upload,
    work::{missing, pool::Pool},
};

/// Async threads: they only pass bytes on, whatever blocks has threads of its own.
const ASYNC_THREADS: usize = 2;
/// Threads for what blocks in handlers, the database above all; each upload has one more for its checking. Less than half
/// of them wait for the writer ([`crate::store::as_guest`]).
const BLOCKING_THREADS: usize = 32;
/// Held as long as a server runs on a data folder.
const LOCK_FILE: &str = "serve.lock";

/// Runs a server until SIGTERM or SIGINT.
pub fn run(config: Option<&Path>) -> Result<(), CliError> {
    let config = Config::load(config)?;
    log::init(&config.log, Output::Stdout);
    let served = Server::start(config, Clock::machine()).and_then(Server::run_until_signal);
    served.inspect_err(|error| tracing::error!(event = "server.failed", %error, "the server cannot go on"))
}

/// A server and its threads.
pub struct Server {
    appliance: Arc<Appliance>,
    dispatcher: Arc<Dispatcher>,
    listener: TcpListener,
    runtime: Runtime,
    threads: Threads,
    _lock: File,
}

impl Server {
    /// Opens everything, frees what dead servers held, listens, and starts the threads.
    pub fn start(config: Config, clock: Clock) -> Result<Self, CliError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(ASYNC_THREADS)
            .max_blocking_threads(BLOCKING_THREADS + config.uploads.at_once)
            .enable_all()
            .build()?;
        start_sealers()?;
        let lock = lock(&config.storage.data_dir)?;
        let appliance = Appliance::open(config, clock, ProcessKind::Server, runtime.handle())?;
        let listen = appliance.config.server.listen;
        let listener = runtime
            .block_on(TcpListener::bind(listen))
            .map_err(|error| CliError::Failed(format!("cannot listen on {listen}: {error}")))?;
        home::move_in(&appliance)?;
        clear_away(&appliance)?;
        missing::look(&appliance)?;
        keys::note_sealing_key(&appliance)?;
        let server = Self {
            dispatcher: Arc::new(Dispatcher::default()),
            appliance,
            listener,
            runtime,
            threads: Threads::new(),
            _lock: lock,
        };
        server.start_threads()?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What it runs on.
    pub fn appliance(&self) -> &Arc<Appliance> {
        &self.appliance
    }

    fn start_threads(&self) -> Result<(), CliError> {
        // First of all, so that no other thread takes a server for one that expects no calls.
        self.start_clock()?;
        let pool = Pool::start(&self.appliance, self.appliance.config.workers.under_way, &self.appliance.work_bell)?;
        self.spawn("feeder", move |appliance| {
            feeder::feed(appliance, &pool);
            pool.close();
        })?;
        self.spawn("extract", extract::runner::run)?;
        self.spawn("chores", |appliance| chores::run(appliance))?;
        self.spawn("set-clock", |appliance| chores::set_clock::watch(appliance))?;
        self.spawn("files", |appliance| chores::remove_files(appliance))?;
        self.spawn("announce", announce::watch)?;
        self.spawn("alerts", |appliance| alerts::watch(appliance))?;
        for hook in self.appliance.config.alerts.hooks.values() {
            let hook = hook.clone();
            self.spawn("hook", move |appliance| alerts::hooks::tell(appliance, &hook))?;
        }
        self.spawn("retention", |appliance| retention::watch(appliance))?;
        self.spawn("clear-away", |appliance| upload::clear_away(appliance))?;
        let runtime = self.runtime.handle().clone();
        // It has a heart only where there is a schedule.
        self.spawn_heartless("backup", move |appliance| schedule::watch(appliance, &runtime))?;
        if self.appliance.config.workers.auto_rescue {
            self.spawn("rescue", |appliance| rescue::watch(appliance))?;
        }
        Ok(())
    }

    /// The built-in clock; where there is none, calls are expected.
    fn start_clock(&self) -> Result<(), CliError> {
        let dispatcher = self.dispatcher.clone();
        let settings = &self.appliance.config.dispatch;
        for setting in &settings.idle {
            tracing::warn!(event = "setting.idle", setting, "a setting has no use");
        }
        if let Some(every) = settings.every {
            tracing::info!(
                event = "dispatch.by_clock",
                every = show_duration(every),
                "the built-in clock makes the dispatch runs"
            );
            return self.spawn("clock", move |appliance| dispatch_clock::tick(appliance, &dispatcher, every));
        }
        dispatch_clock::expect_calls(&self.appliance)?;
        let (expect_every, take_over) = (show_duration(settings.expect_every), settings.take_over);
        tracing::info!(event = "dispatch.by_calls", expect_every, take_over, "calls over HTTP make the dispatch runs");
        self.spawn("dispatch-watch", move |appliance| dispatch_clock::watch(appliance, &dispatcher))
    }

    /// Starts a thread that the server cannot do without.
    fn spawn(&self, name: &str, work: impl FnOnce(&Arc<Appliance>) + Send + 'static) -> Result<(), CliError> {
        let heart = self.appliance.hearts.register(name, heartbeat::LONGEST);
        self.spawn_heartless(name, move |appliance| {
            heart.settle_in();
            work(appliance);
        })
    }

    fn spawn_heartless(&self, name: &str, work: impl FnOnce(&Arc<Appliance>) + Send + 'static) -> Result<(), CliError> {
        let appliance = self.appliance.clone();
        Ok(self.threads.spawn(name, move || work(&appliance))?)
    }

    /// Serves until a signal says to end.
    pub fn run_until_signal(self) -> Result<(), CliError> {
        self.run_until(signalled())
    }

    /// Serves until `end` comes: then nothing new is claimed, what is under way finishes or is given back.
    pub fn run_until(self, end: impl Future<Output = ()> + Send + 'static) -> Result<(), CliError> {
        let address = self.address()?;
        tell_start(&self.appliance, address)?;
        let routes = http::routes(Context::new(self.appliance.clone(), self.dispatcher.clone()));
        self.runtime.spawn(take_changed_keys(self.appliance.clone()));
        let drain = self.appliance.config.workers.drain;
        let appliance = self.appliance.clone();
        let ended = async move {
            end.await;
            tracing::info!(event = "server.ending", "ending: nothing new is begun, what is under way finishes");
            appliance.close();
        };
        let left = self.runtime.block_on(listen::serve(self.listener, routes, ended, drain));
        let drained_by = Instant::now() + left;
        if !self.threads.end_within(left) {
            tracing::warn!(
                event = "server.drain_exceeded",
                "calls under way did not end in time: their rows are given back as if this server had died"
            );
        }
        // From here on a late settle of ours is fenced off like anybody's.
        let (owner, store) = (self.appliance.owner, &self.appliance.store);
        rescue::free(&self.appliance, Lost::OfOwner(owner))?;
        store.write(move |tx| stuck::unregister(tx, owner))?;
        if let Some(traces) = &self.appliance.traces {
            traces.flush(drained_by.saturating_duration_since(Instant::now()));
        }
        self.runtime.shutdown_background();
        tracing::info!(event = "server.ended", "ended");
        Ok(())
    }
}

/// Threads that are waited for together, and not longer than there is time.
struct Threads {
    /// Each thread holds a clone until it ends.
    alive: Sender<Infallible>,
    ended: Receiver<Infallible>,
}

impl Threads {
    fn new() -> Self {
        let (alive, ended) = channel();
        Self { alive, ended }
    }

    fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let alive = self.alive.clone();
        Builder::new().name(name.to_owned()).spawn(move || {
            // A panic of the work ends the process.
            let _alive = alive;
            work();
        })?;
        Ok(())
    }

    /// Whether all of them ended within this time.
    fn end_within(self, time: Duration) -> bool {
        drop(self.alive);
        matches!(self.ended.recv_timeout(time), Err(RecvTimeoutError::Disconnected))
    }
}

/// Who serves what from where, and whether anything is held up since an earlier run.
fn tell_start(appliance: &Appliance, address: SocketAddr) -> Result<(), CliError> {
    let (version, data_dir) = (env!("CARGO_PKG_VERSION"), appliance.config.storage.data_dir.display());
    tracing::info!(event = "server.started", %address, version, %data_dir, "serving");
    if let Some(pause) = appliance.store.read(grants::pause_of)? {
        tracing::warn!(event = "dispatch.still_paused", by = pause.by, since = %pause.at, "dispatch is still paused");
    }
    Ok(())
}

/// What a server that died left behind: its claims, and uploads that broke off.
fn clear_away(appliance: &Appliance) -> Result<(), CliError> {
    let me = appliance.owner;
    rescue::free(appliance, Lost::OfDeadServers(me))?;
    appliance.store.write(move |tx| stuck::forget_dead_servers(tx, me))?;
    if let Err(error) = appliance.objects.check() {
        // A bucket that is not there yet is made here; one that is out of reach is asked for again by each upload.
        tracing::warn!(event = "objects.unavailable", %error, "stored files cannot be kept yet");
    }
    if let Err(error) = upload::sweep(appliance) {
        // The bucket may be out of reach; the next start tries again.
        tracing::warn!(event = "uploads.not_swept", %error, "what broken uploads left is not cleared away yet");
    }
    Ok(())
}

/// Starts rayon's threads now, so that one that cannot be had is an error, and not a panic in the middle of an extraction.
fn start_sealers() -> Result<(), CliError> {
    let built = rayon::ThreadPoolBuilder::new().thread_name(|number| format!("seal-{number}")).build_global();
    match built {
        Err(error) if error.source().is_some() => {
            Err(CliError::Failed(format!("the threads that seal cannot be started: {error}")))
        }
        // The pool was there already: a process can have several servers, as tests and the demo do.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes this process the only one that serves, or replaces, what is in the data folder.
pub(super) fn lock(data_dir: &Path) -> Result<File, CliError> {
    std::fs::create_dir_all(data_dir)?;
    let file = File::options().create(true).truncate(false).write(true).open(data_dir.join(LOCK_FILE))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        CliError::Failed(format!(
            "another `dripfeed serve` runs on {}: there can be one for each data folder",
            data_dir.display()
        ))
    })?;
    Ok(file)
}

/// At each SIGHUP.
async fn take_changed_keys(appliance: Arc<Appliance>) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        tracing::error!(
            event = "signal.unheard",
            "SIGHUP cannot be heard: a changed key file is taken at the next start"
        );
        return;
    };
    while hangup.recv().await.is_some() {
        let appliance = appliance.clone();
        let reloaded = tokio::task::spawn_blocking(move || keys::reload(&appliance)).await;
        if let Ok(Err(error)) = reloaded {
            tracing::error!(
                event = "keys.refused",
                %error,
                "the changed key ring cannot be used; the one before stays in use"
            );
        }
    }
}

async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = signal(SignalKind::terminate());
    let interrupt = signal(SignalKind::interrupt());
    match (terminate, interrupt) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        _ => tracing::error!(event = "signal.unheard", "signals cannot be heard; ending"),
    }
}
