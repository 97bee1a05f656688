//! The workflows that rows are worked by: those that are configured, and those that batches keep from the time at which
//! they were accepted.
//!
//! What is configured is written down at the start, sealed, where it is not known yet; what only batches know is read and
//! compiled when the first of their rows needs it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    crypto::{KeyRing, MacKey, OpenError, WrappedKey},
    downstream::{Downstream, Way, WayError},
    model::{Outline, Workflow},
    store::{
        Store, StoreError,
        keys::SealedSecret,
        workflows::{self, Definition, NewVersion},
    },
};

/// Versions at hand that are not configured any more. Each is as large as its section of the configuration; what comes
/// beyond that is read and compiled again.
const AT_HAND: usize = 256;
/// What digests of workflows are told apart by from other fingerprints under the same key.
const DIGEST: &[u8] = b"workflow";

/// A workflow as batches keep it, ready to be worked by.
#[derive(Debug)]
pub struct Kept {
    /// Its number in the database.
    pub version: i64,
    /// What it says.
    pub workflow: Workflow,
    way: Result<Way, WayError>,
}

impl Kept {
    fn new(version: i64, workflow: Workflow, downstream: &Downstream) -> Self {
        Self { way: downstream.way(&workflow), version, workflow }
    }

    /// Its steps, compiled; or why its rows cannot be worked.
    pub fn way(&self) -> Result<&Way, &WayError> {
        self.way.as_ref()
    }
}

/// Why a batch's workflow is not at hand.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// The database does not have it.
    #[error("there is no version {0} of a workflow")]
    Missing(i64),
    /// It does not open.
    #[error("the workflow cannot be opened: {0}")]
    Sealed(#[from] OpenError),
    /// It opens, and is not what we wrote. The cause is left out: it quotes what may hold secrets.
    #[error("the workflow is not understood")]
    Definition(#[from] serde_json::Error),
    /// The database could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why what is configured cannot be worked by.
#[derive(Debug, thiserror::Error)]
pub enum WorkflowsError {
    /// A step cannot be sent.
    #[error("{0}")]
    Way(WayError),
    /// What it says cannot be written down.
    #[error("a workflow cannot be kept: {0}")]
    Definition(#[from] serde_json::Error),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All of them.
#[derive(Debug)]
pub struct Workflows {
    current: BTreeMap<String, Arc<Kept>>,
    earlier: Mutex<VecDeque<Arc<Kept>>>,
}

/// What a definition is sealed as.
pub fn sealed_as(digest: &[u8; 32]) -> String {
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("workflow {hex}")
}

impl Workflows {
    /// Compiles what is configured, and writes down what of it is new.
    pub fn open(
        configured: &BTreeMap<String, Workflow>,
        downstream: &Downstream,
        store: &Store,
        ring: &KeyRing,
        identity: &MacKey,
    ) -> Result<Self, WorkflowsError> {
        let mut current = BTreeMap::new();
        for (name, workflow) in configured {
            let version = keep(workflow, store, ring, identity)?;
            let kept = Kept::new(version, workflow.clone(), downstream);
            if let Err(error) = &kept.way {
                return Err(WorkflowsError::Way(error.clone()));
            }
            current.insert(name.clone(), Arc::new(kept));
        }
        Ok(Self { current, earlier: Mutex::default() })
    }

    /// The configured workflow of this name: uploads become batches of it.
    pub fn current(&self, name: &str) -> Option<&Arc<Kept>> {
        self.current.get(name)
    }

    /// The numbers of all that are configured.
    pub fn current_versions(&self) -> Vec<i64> {
        self.current.values().map(|kept| kept.version).collect()
    }

    /// A version that was needed lately. Asks nobody, so that it may be called where the writer is held.
    pub fn at_hand(&self, version: i64) -> Option<Arc<Kept>> {
        let current = || self.current.values().find(|kept| kept.version == version).cloned();
        current().or_else(|| self.lock().iter().find(|kept| kept.version == version).cloned())
    }

    /// A version, read and compiled where it is not at hand.
    pub fn version(
        &self,
        version: i64,
        downstream: &Downstream,
        store: &Store,
        ring: &KeyRing,
    ) -> Result<Arc<Kept>, VersionError> {
        if let Some(kept) = self.at_hand(version) {
            return Ok(kept);
        }
        let definition = store.read(|connection| workflows::definition(connection, version))?;
        let Definition { digest, sealed, .. } = definition.ok_or(VersionError::Missing(version))?;
        let wrapped = WrappedKey { key_id: sealed.key_id, sealed: sealed.sealed };
        let plain = ring.unwrap_secret(&wrapped, &sealed_as(&digest))?;
        let kept = Arc::new(Kept::new(version, serde_json::from_slice(&plain)?, downstream));
        let mut earlier = self.lock();
        earlier.truncate(AT_HAND - 1);
        earlier.push_front(kept.clone());
        Ok(kept)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Kept>>> {
        self.earlier.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of a workflow, which is written down where it is not yet.
fn keep(workflow: &Workflow, store: &Store, ring: &KeyRing, identity: &MacKey) -> Result<i64, WorkflowsError> {
    let plain = serde_json::to_vec(workflow)?;
    let digest = identity.tag(&[DIGEST, &plain]);
    if let Some(version) = store.read(|connection| workflows::find(connection, &workflow.name, &digest))? {
        return Ok(version);
    }
    let wrapped = ring.wrap_secret(&sealed_as(&digest), &plain);
    let new = NewVersion {
        name: workflow.name.clone(),
        digest,
        outline: Outline::of(workflow),
        sealed: SealedSecret { key_id: wrapped.key_id, sealed: wrapped.sealed },
    };
    Ok(store.write(move |tx| workflows::keep(tx, &new))?)
}
