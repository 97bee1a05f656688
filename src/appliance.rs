//! Everything that a process of ours shares: the server opens it, and so does each command that changes work.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock, atomic::AtomicU64},
};

use crate::{
    bell::Bell,
    clock::Clock,
    closing::Closing,
    config::{self, Config},
    crypto::{KeyRing, Locked, MacKey},
    dispatch::{clock::DispatchWatch, observed::Observed, outlook::LastLook},
    downstream::Downstream,
    heartbeat::Heartbeats,
    intake::{Rules, check::CompileError},
    keys::{self, KeysError},
    model::{ClaimOwner, Workflow},
    objects::{ObjectError, Objects},
    private,
    room::Room,
    store::{
        Store, StoreError,
        dependencies::StoredLedger,
        stuck::{self, ProcessKind},
        workflows as versions,
    },
    telemetry::{
        metrics::{self, Metrics},
        traces::{Traces, TracesError},
    },
    upload::{GivenUp, once::KeysInUse},
    work::{
        fitting,
        open_batch::{OpenBatch, OpenBatchError, OpenBatches},
        recent::Recent,
        standstill::Standstill,
        under_way::UnderWay,
        unspent::Unspent,
        workflows::{Kept, VersionError, Workflows, WorkflowsError},
    },
};

/// The parts of an open appliance.
pub struct Appliance {
    /// The effective configuration.
    pub config: Config,
    /// What time it is.
    pub clock: Clock,
    /// The database.
    pub store: Store,
    /// The secret that idempotency keys are derived with.
    pub identity: Locked<MacKey>,
    /// The stored files.
    pub objects: Objects,
    /// The room on the disk that they and the database share.
    pub room: Room,
    /// The APIs that steps call.
    pub downstream: Downstream,
    /// What rows are worked by.
    pub workflows: Workflows,
    /// The owner of all claims that this process makes.
    pub owner: ClaimOwner,
    /// Rung when rows may be there to be claimed, or a worker became idle.
    pub work_bell: Bell,
    /// Rung when a batch may be there to be extracted.
    pub extract_bell: Bell,
    /// Rung when there is something to carry out piece by piece: a deletion, a retry.
    pub chores_bell: Bell,
    /// How the calls are that ask a server for dispatch runs.
    pub dispatch_watch: DispatchWatch,
    /// The threads that have to be alive.
    pub hearts: Heartbeats,
    /// The end of this process.
    pub closing: Closing,
    /// Where the ways of rows are told, if anywhere.
    pub traces: Option<Arc<Traces>>,
    /// What everything that waits looked like last.
    pub last_look: LastLook,
    /// What is counted.
    pub metrics: Metrics,
    /// How the calls of each dependency went lately.
    pub observed: Observed,
    /// Settles that came after their claim had been taken over, and changed nothing.
    pub late_settles: AtomicU64,
    /// The rows that this process works.
    pub under_way: Arc<UnderWay>,
    /// Calls that rows were claimed for and did not make.
    pub unspent: Unspent,
    /// Which batches stand still, as far as is known.
    pub standstill: Standstill,
    /// How the last rows of each batch ended.
    pub recent: Recent,
    /// Uploads that are still to be cleared away.
    pub given_up: GivenUp,
    ring: RwLock<Arc<KeyRing>>,
    /// `Idempotency-Key`s of uploads under way.
    pub keys_in_use: KeysInUse,
    rules: BTreeMap<String, Rules>,
    open_batches: OpenBatches,
}

/// The folder of stored files, where there is no bucket.
pub const OBJECTS_FOLDER: &str = "objects";
/// The folder of what is sorted outside of memory.
const SPOOL_FOLDER: &str = "spool";

/// Why an appliance does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The stored files.
    #[error("the stored files cannot be reached: {0}")]
    Objects(#[from] ObjectError),
    /// The columns of a workflow.
    #[error("the columns of a workflow cannot be checked: {0}")]
    Columns(#[from] CompileError),
    /// Two metrics of one name.
    #[error("the metrics do not fit together: {0}")]
    Metrics(#[from] metrics::Error),
    /// The way out for traces.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// A folder could not be made.
    #[error("a folder of the data folder could not be made: {0}")]
    Folder(#[from] std::io::Error),
    /// The dependencies.
    #[error(transparent)]
    Downstream(#[from] crate::downstream::DownstreamError),
    /// The steps of a workflow.
    #[error(transparent)]
    Workflows(#[from] WorkflowsError),
}

/// The store of files that the configuration names.
pub fn open_objects(config: &Config, runtime: &tokio::runtime::Handle) -> Result<Objects, ObjectError> {
    match &config.objects {
        config::Objects::Local => Objects::local(config.storage.data_dir.join(OBJECTS_FOLDER)),
        config::Objects::Minio(settings) => Objects::minio(settings, runtime.clone()),
    }
}

impl Appliance {
    /// Opens the data folder, checks the keys against it, and names this process as an owner of claims.
    pub fn open(
        config: Config,
        clock: Clock,
        kind: ProcessKind,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Arc<Self>, OpenError> {
        // The keys come first: without them nothing may be created that would have to be thrown away.
        let ring = keys::read_ring(&config)?;
        let metrics = Metrics::new(&config, clock.now())?;
        let (data_dir, writes) = (&config.storage.data_dir, metrics.writes.clone());
        let hearts = Heartbeats::default();
        let store = Store::open_watched(data_dir, config.database, clock.clone(), writes, &hearts)?;
        let identity = keys::unlock(&store, &ring)?;
        let objects = open_objects(&config, runtime)?;
        let compiled = config.workflows.iter().map(|(name, workflow)| Ok((name.clone(), Rules::compile(workflow)?)));
        let rules = compiled.collect::<Result<BTreeMap<_, _>, CompileError>>()?;
        let work_bell = Bell::default();
        let observed = Observed::new(config.dependencies.keys(), &clock, |dependency| metrics.calls.of(dependency));
        let downstream = Downstream::new(
            &config.dependencies,
            config.workers.under_way,
            Arc::new(StoredLedger::new(store.clone())),
            clock.clone(),
            Arc::new({
                let work_bell = work_bell.clone();
                move || work_bell.ring()
            }),
            |dependency| observed.meter(dependency),
            &hearts,
        )?;
        let workflows = Workflows::open(&config.workflows, &downstream, &store, &ring, &identity)?;
        if kind == ProcessKind::Server {
            let versions = workflows.current_versions();
            store.write(move |tx| versions::make_current(tx, &versions))?;
        }
        private::folder(&config.storage.data_dir.join(SPOOL_FOLDER))?;
        let room =
            fitting::Room::new(config.workers.under_way_bytes, config.workers.under_way, config.dependencies.len());
        let under_way = Arc::new(UnderWay::new(room));
        let owner = ClaimOwner::random();
        store.write(move |tx| stuck::register(tx, owner, kind))?;
        Ok(Arc::new(Self {
            traces: Traces::start(&config, &clock)?.map(Arc::new),
            room: Room::new(&config),
            config,
            clock,
            store,
            identity,
            objects,
            downstream,
            workflows,
            rules,
            owner,
            work_bell,
            extract_bell: Bell::default(),
            chores_bell: Bell::default(),
            dispatch_watch: DispatchWatch::default(),
            hearts,
            closing: Closing::default(),
            last_look: LastLook::default(),
            metrics,
            observed,
            late_settles: AtomicU64::new(0),
            under_way,
            unspent: Unspent::default(),
            standstill: Standstill::default(),
            recent: Recent::default(),
            given_up: GivenUp::default(),
            ring: RwLock::new(Arc::new(ring)),
            keys_in_use: KeysInUse::default(),
            open_batches: OpenBatches::default(),
        }))
    }

    /// The checks of a workflow's files.
    pub fn rules(&self, workflow: &Workflow) -> Option<&Rules> {
        self.rules.get(&workflow.name)
    }

    /// The keys that wrap the batches' data keys. Whoever wraps something holds the ring until it is committed.
    pub fn ring(&self) -> Arc<KeyRing> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another ring in place, and gives the one that was there.
    pub fn change_ring(&self, ring: KeyRing) -> Arc<KeyRing> {
        let mut held = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut held, Arc::new(ring))
    }

    /// Where large files' unique values are sorted.
    pub fn spool_dir(&self) -> PathBuf {
        self.config.storage.data_dir.join(SPOOL_FOLDER)
    }

    /// The version of a workflow with this number, compiled.
    pub fn workflow(&self, version: i64) -> Result<Arc<Kept>, VersionError> {
        self.workflows.version(version, &self.downstream, &self.store, &self.ring())
    }

    /// The batch with this key in the database, with its data key open, and its workflow in this version.
    pub fn open_batch(&self, batch: i64, version: i64) -> Result<Arc<OpenBatch>, OpenBatchError> {
        self.open_batches.get(batch, version, || {
            let kept = self.workflow(version)?;
            OpenBatch::open(&self.store, &self.ring(), batch, kept)
        })
    }

    /// Forgets a batch that was deleted.
    pub fn forget_batch(&self, batch: i64) {
        self.open_batches.forget(batch);
        self.recent.forget(batch);
    }

    /// Forgets this process as an owner of claims. Blocks.
    pub fn leave(&self) -> Result<(), StoreError> {
        let owner = self.owner;
        self.store.write(move |tx| stuck::unregister(tx, owner))
    }

    /// Ends this process's part: nothing waits any more, and its name is forgotten. Claims that it still holds stay
    /// its own until they expire or the next server starts.
    pub fn close(&self) {
        self.closing.close();
        self.work_bell.ring();
        self.extract_bell.ring();
        self.chores_bell.ring();
        self.downstream.close();
    }
}
