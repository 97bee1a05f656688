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

use clap::Args;
use rustix::fs::{FlockOperation, flock};
use tokio::{net::TcpListener, runtime::Runtime};

use super::{certificate, error::CliError, signals};
use crate::{
    announce,
    appliance::Appliance,
    backup::{gone, home, schedule},
    chores,
    clock::Clock,
    config::{Config, show_duration},
    descriptors::{self, Shares, Wanted},
    dispatch::{clock as dispatch_clock, feeder, rescue, run::Dispatcher},
    downstream, extract, heartbeat,
    http::{
        self, Context, Side, answer,
        listen::{self, Entrance, Most},
        upload::ErrorFiles,
        wrong_keys,
    },
    keys,
    oidc::{self, Provider},
    private, retention,
    store::{
        grants,
        stuck::{Lost, ProcessKind},
    },
    telemetry::{
        alerts,
        log::{self, Output},
    },
    tls::Tls,
    upload,
    work::{missing, pool::Pool},
};

/// Async threads: they only pass bytes on, whatever blocks has threads of its own.
const ASYNC_THREADS: usize = 2;
/// Threads for what blocks in handlers, the database above all, and a few that only probes take, or those
/// who speak with a provider; each upload has one more
/// for its checking. Less than half of them wait for the writer ([`crate::store::as_guest`]).
const BLOCKING_THREADS: usize = answer::HANDLERS + answer::PROBES_AT_ONCE + oidc::AT_ONCE;
/// Held as long as a server runs on a data folder.
const LOCK_FILE: &str = "serve.lock";
/// Who only looks whether somebody serves has the lock for an instant.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);

/// Serve the API; extract, dispatch and work
#[derive(Debug, Args)]
pub struct Serve {
    /// Serve `/ops`, `/metrics` and operators here, and nowhere else [default: `server.ops_listen`]
    #[arg(long, value_name = "ADDRESS:PORT")]
    ops_listen: Option<SocketAddr>,
}

impl Serve {
    /// Runs a server until SIGTERM or SIGINT.
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        let mut config = Config::load(config)?;
        config.server.ops_listen = self.ops_listen.or(config.server.ops_listen);
        log::init(&config.log, Output::Stdout);
        let served = Server::start(config, Clock::machine()).and_then(Server::run_until_signal);
        served.inspect_err(|error| tracing::error!(event = "server.failed", %error, "the server cannot go on"))
    }
}

/// Lets as many files be open as the system allows, and shares them out.
fn share_out_files(config: &Config) -> Shares {
    let listeners = 1 + usize::from(config.server.ops_listen.is_some());
    let wanted = Wanted {
        connections: listeners * Most::configured(&config.limits).open(),
        calls: config.workers.under_way,
        uploads: config.uploads.at_once,
        error_files: ErrorFiles::MOST,
    };
    let files = descriptors::raise();
    let shares = Shares::of(files, wanted);
    downstream::allow_connections(shares.calls);
    if shares.are_short_of(wanted) {
        let Shares { connections, calls, error_files } = shares;
        tracing::warn!(
            event = "files.few",
            files,
            connections,
            calls,
            error_files,
            "fewer files may be open here than the configuration could use, so that callers and calls have fewer: raise the \
             limit (LimitNOFILE, ulimit -n)"
        );
    }
    shares
}

/// A server and its threads.
pub struct Server {
    appliance: Arc<Appliance>,
    dispatcher: Arc<Dispatcher>,
    listener: TcpListener,
    ops_listener: Option<TcpListener>,
    tls: Option<Arc<Tls>>,
    provider: Option<Arc<Provider>>,
    runtime: Runtime,
    threads: Threads,
    files: Shares,
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
        let files = share_out_files(&config);
        let lock = lock(&config.storage.data_dir)?;
        let tls = certificate::open(&config)?;
        certificate::tell(tls.as_ref().and_then(|tls| tls.validity()), clock.now());
        let provider = config.access.oidc.clone().map(Provider::new).transpose()?;
        let appliance = Appliance::open(config, clock, ProcessKind::Server, runtime.handle())?;
        let listen = |address| {
            let bound = runtime.block_on(TcpListener::bind(address));
            bound.map_err(|error| CliError::Failed(format!("cannot listen on {address}: {error}")))
        };
        let listener = listen(appliance.config.server.listen)?;
        let ops_listener = appliance.config.server.ops_listen.map(listen).transpose()?;
        home::move_in(&appliance)?;
        clear_away(&appliance)?;
        missing::look(&appliance)?;
        http::oidc::end_others(&appliance)?;
        keys::note_sealing_key(&appliance)?;
        let server = Self {
            dispatcher: Arc::new(Dispatcher::default()),
            appliance,
            listener,
            ops_listener,
            tls,
            provider: provider.map(Arc::new),
            runtime,
            threads: Threads::new(),
            files,
            _lock: lock,
        };
        server.start_threads()?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where operators are let in, if that is another place.
    fn ops_address(&self) -> std::io::Result<Option<SocketAddr>> {
        self.ops_listener.as_ref().map(TcpListener::local_addr).transpose()
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
        let tls = self.tls.clone();
        self.spawn("alerts", move |appliance| alerts::watch(appliance, tls.as_deref()))?;
        for hook in self.appliance.config.alerts.hooks.values() {
            let hook = hook.clone();
            self.spawn("hook", move |appliance| alerts::hooks::tell(appliance, &hook))?;
        }
        self.spawn("retention", |appliance| retention::watch(appliance))?;
        self.spawn("clear-away", |appliance| upload::clear_away(appliance))?;
        let runtime = self.runtime.handle().clone();
        // It has a heart only where there is a schedule.
        self.spawn_heartless("backup", move |appliance| schedule::watch(appliance, &runtime))?;
        let runtime = self.runtime.handle().clone();
        self.spawn_heartless("deletions", move |appliance| gone::watch(appliance, &runtime))?;
        self.spawn("rescue", |appliance| rescue::watch(appliance))
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
        self.run_until(signals::told_to_end())
    }

    /// Serves until `end` comes: then nothing new is claimed, what is under way finishes or is given back.
    pub fn run_until(self, end: impl Future<Output = ()> + Send + 'static) -> Result<(), CliError> {
        tell_start(&self.appliance, self.address()?, self.ops_address()?)?;
        let Shares { connections, error_files, .. } = self.files;
        let (dispatcher, provider) = (self.dispatcher.clone(), self.provider.clone());
        let context = Context::new(self.appliance.clone(), dispatcher, provider, error_files)
            .map_err(|error| CliError::Failed(format!("the threads that answer cannot be started: {error}")))?;
        self.runtime.spawn(http::watch_rights(context.clone()));
        self.runtime.spawn(http::note_keys(context.clone()));
        self.runtime.spawn(signals::hear_hangups(self.appliance.clone(), self.tls.clone()));
        let drain = self.appliance.config.workers.drain;
        let appliance = self.appliance.clone();
        let ended = async move {
            end.await;
            tracing::info!(event = "server.ending", "ending: nothing new is begun, what is under way finishes");
            appliance.close();
        };
        let side = if self.ops_listener.is_some() { Side::Clients } else { Side::Everybody };
        let listeners = 1 + usize::from(self.ops_listener.is_some());
        let most = Most::configured(&self.appliance.config.limits).within(connections / listeners);
        let ops_listener = self.ops_listener.map(|listener| (listener, Side::Operators));
        let entrances = [(self.listener, side)].into_iter().chain(ops_listener).map(|(listener, side)| {
            let routes = http::routes(context.clone(), side);
            Entrance { listener, tls: self.tls.clone(), side, routes, most }
        });
        let entrances = entrances.collect();
        let left = self.runtime.block_on(listen::serve(entrances, &self.appliance, ended, drain));
        let drained_by = Instant::now() + left;
        wrong_keys::note_rest(&context);
        if !self.threads.end_within(left) {
            tracing::warn!(
                event = "server.drain_exceeded",
                "calls under way did not end in time: their rows are given back as if this server had died"
            );
        }
        // From here on a late settle of ours is fenced off like anybody's.
        rescue::free(&self.appliance, Lost::OfOwner(self.appliance.owner))?;
        self.appliance.leave()?;
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
fn tell_start(appliance: &Appliance, address: SocketAddr, ops: Option<SocketAddr>) -> Result<(), CliError> {
    let (version, data_dir) = (env!("CARGO_PKG_VERSION"), appliance.config.storage.data_dir.display());
    let ops_address = ops.map(tracing::field::display);
    tracing::info!(event = "server.started", %address, ops_address, version, %data_dir, "serving");
    if !appliance.ring().is_locked() {
        tracing::warn!(
            event = "keys.not_locked",
            "the keys may be written to swap: this process may lock no memory (ulimit -l, LimitMEMLOCK)"
        );
    }
    if let Some(pause) = appliance.store.read(grants::pause_of)? {
        tracing::warn!(event = "dispatch.still_paused", by = pause.by, since = %pause.at, "dispatch is still paused");
    }
    Ok(())
}

/// What a server that died left behind: its claims, and uploads that broke off.
fn clear_away(appliance: &Appliance) -> Result<(), CliError> {
    rescue::free_of_dead_servers(appliance)?;
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
    private::folder(data_dir)?;
    let file = private::file(&data_dir.join(LOCK_FILE))?;
    let begun = Instant::now();
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if begun.elapsed() >= LOCK_PATIENCE {
            return Err(CliError::Failed(format!(
                "another `dripfeed serve` runs on {}: there can be one for each data folder",
                data_dir.display()
            )));
        }
        std::thread::park_timeout(LOCK_PATIENCE / 10);
    }
    Ok(file)
}

/// Whether a server, or what replaces its data, runs on this folder now.
pub(super) fn is_served(data_dir: &Path) -> bool {
    let file = File::options().write(true).open(data_dir.join(LOCK_FILE));
    file.is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
}
