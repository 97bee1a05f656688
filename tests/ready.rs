//! The ready index, fed with changes, always knows what it would know if it were made anew from the database: after whatever is
//! done, by this process or by one beside it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use dripfeed::{
    clock::Clock,
    dispatch::{
        hearing::{Hearing, Versions},
        ready::Openings,
    },
    model::{AskedBy, BatchId, ClaimOwner, FailureCode, Outline, RowId, Timestamp},
    store::{
        DatabaseSettings, Durability, Store, Tx,
        batches::{self, NewBatch},
        claims::{self, Claimant, ClaimedRow},
        client_keys, clients,
        extraction::{self, NewRow},
        grants,
        keys::{self, KeyProof, SealedSecret},
        ready::{self, ReadyBatch, ReadyClient},
        retries::{self, StepSet, Which},
        settle::{self, Ending, Failure, Settle, Standing},
        stuck::{self, Lost},
        upgrades, uploads, waits,
        workflows::{self, NewVersion},
    },
};
use proptest::{prelude::*, sample::Index as Any};

const START: Timestamp = Timestamp(1_786_000_000_000);
const TTL: Duration = Duration::from_secs(120);
const STEPS: u32 = 3;

/// Two versions: the steps of one call `a`, `b`, `a`, those of the other the same and one more.
struct TwoVersions;

impl Versions for TwoVersions {
    fn dependencies(&self, version: i64) -> Option<Vec<String>> {
        let steps = ["a", "b", "a", "c"];
        Some(steps[..if version == 1 { 3 } else { 4 }].iter().map(|name| (*name).to_owned()).collect())
    }
}

/// Room at some steps, by a pattern.
struct Open(u8);

impl Openings for Open {
    fn take(&mut self, _: i64, step: u32, _: impl Fn(usize) -> usize) -> bool {
        self.0 >> step & 1 == 1
    }
}

struct AllOpen;

impl Openings for AllOpen {
    fn take(&mut self, _: i64, _: u32, _: impl Fn(usize) -> usize) -> bool {
        true
    }
}

/// What is done to a database.
#[derive(Debug, Clone)]
enum Deed {
    Upload {
        client: Any,
        rows: u32,
    },
    Dispatch,
    /// So many rows, where there is room for these steps.
    Claim {
        rows: usize,
        room: u8,
    },
    Settle {
        claimed: Any,
        how: How,
    },
    ByHand {
        batch: Any,
        row: u32,
    },
    Retry {
        batch: Any,
    },
    PauseBatch {
        batch: Any,
    },
    ResumeBatch {
        batch: Any,
    },
    Cancel {
        batch: Any,
    },
    Upgrade {
        batch: Any,
    },
    PauseClient {
        client: Any,
        pauses: bool,
    },
    Limit {
        client: Any,
        rows: u32,
    },
    PauseAll {
        pauses: bool,
    },
    Pass {
        seconds: u64,
    },
    Rescue,
    SetBack,
    Forget,
}

#[derive(Debug, Clone)]
enum How {
    Complete,
    Fail,
    Release { steps: u32, attempts: u32, wait: u64, spent: bool },
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        Just(How::Complete),
        Just(How::Fail),
        (0..STEPS, 0_u32..2, 0_u64..20, any::<bool>()).prop_map(|(steps, attempts, wait, spent)| How::Release {
            steps,
            attempts,
            wait,
            spent
        }),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    let any = any::<Any>;
    prop_oneof![
        2 => (any(), 1_u32..6).prop_map(|(client, rows)| Deed::Upload { client, rows }),
        2 => Just(Deed::Dispatch),
        6 => (1_usize..8, 0_u8..16).prop_map(|(rows, room)| Deed::Claim { rows, room }),
        8 => (any(), how()).prop_map(|(claimed, how)| Deed::Settle { claimed, how }),
        1 => (any(), 1_u32..6).prop_map(|(batch, row)| Deed::ByHand { batch, row }),
        2 => any().prop_map(|batch| Deed::Retry { batch }),
        1 => any().prop_map(|batch| Deed::PauseBatch { batch }),
        2 => any().prop_map(|batch| Deed::ResumeBatch { batch }),
        1 => any().prop_map(|batch| Deed::Cancel { batch }),
        1 => any().prop_map(|batch| Deed::Upgrade { batch }),
        2 => (any(), prop::bool::weighted(0.4)).prop_map(|(client, pauses)| Deed::PauseClient { client, pauses }),
        1 => (any(), 0_u32..8).prop_map(|(client, rows)| Deed::Limit { client, rows }),
        1 => prop::bool::weighted(0.3).prop_map(|pauses| Deed::PauseAll { pauses }),
        2 => (1_u64..200).prop_map(|seconds| Deed::Pass { seconds }),
        1 => Just(Deed::Rescue),
        1 => Just(Deed::SetBack),
        1 => Just(Deed::Forget),
    ]
}

struct World {
    /// Of the server, and of a command beside it.
    stores: [Store; 2],
    clock: Clock,
    owner: ClaimOwner,
    clients: Vec<i64>,
    batches: Vec<i64>,
    claimed: Vec<ClaimedRow>,
    hearing: Hearing,
    turn: usize,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let clock = Clock::manual(START);
        let settings = DatabaseSettings { synchronous: Durability::Normal, ..DatabaseSettings::default() };
        let stores = [0, 1].map(|_| Store::open(folder.path(), settings, clock.clone()).expect("a database"));
        let clients = [1_u8, 2, 3].map(|number| {
            stores[0]
                .write(move |tx| clients::add(tx, &format!("client-{number}"), [number; 32], Some(6)))
                .expect("added");
            let now = clock.now();
            stores[0].read(|c| client_keys::by_hash(c, [number; 32], now)).expect("read").expect("just added").0.client
        });
        let hearing = Hearing::begin(&stores[0], &TwoVersions).expect("an index");
        Self {
            stores,
            clock,
            owner: ClaimOwner::random(),
            clients: clients.to_vec(),
            batches: Vec::new(),
            claimed: Vec::new(),
            hearing,
            turn: 0,
            _folder: folder,
        }
    }

    /// Every other write is one of the command's.
    fn write<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Tx<'_>) -> dripfeed::store::Result<T> + Send + 'static,
    ) -> T {
        self.turn += 1;
        self.stores[self.turn % 2].write(work).expect("written")
    }

    fn of(list: &[i64], any: &Any) -> Option<i64> {
        (!list.is_empty()).then(|| *any.get(list))
    }

    fn carry_out(&mut self, deed: &Deed) {
        match deed {
            Deed::Upload { client, rows } => self.upload(*client.get(&self.clients), *rows),
            Deed::Dispatch => drop(self.write(|tx| grants::run(tx, AskedBy::Call, 500, Duration::ZERO))),
            Deed::Claim { rows, room } => {
                self.claim(*rows, Open(*room));
            }
            Deed::Settle { claimed, how } => self.settle(claimed, how),
            Deed::ByHand { batch, row } => self.by_hand(batch, *row),
            Deed::PauseClient { client, pauses } => self.pause_client(*client.get(&self.clients), *pauses),
            Deed::Limit { client, rows } => self.limit(*client.get(&self.clients), *rows),
            Deed::PauseAll { pauses: true } => self.write(|tx| grants::pause(tx, "root", None)),
            Deed::PauseAll { pauses: false } => self.write(grants::resume),
            Deed::Pass { seconds } => self.clock.advance(Duration::from_secs(*seconds)),
            Deed::Rescue => drop(self.write(|tx| stuck::free_rows(tx, Lost::Expired))),
            Deed::SetBack => self.set_back(),
            Deed::Forget => {
                self.hear();
                let seen = self.stores[0].read(ready::last_change).expect("read");
                self.write(move |tx| ready::forget_changes(tx, seen));
            }
            Deed::Retry { batch }
            | Deed::PauseBatch { batch }
            | Deed::ResumeBatch { batch }
            | Deed::Cancel { batch }
            | Deed::Upgrade { batch } => {
                if let Some(batch) = Self::of(&self.batches, batch) {
                    self.do_to_batch(deed, batch);
                }
            }
        }
    }

    fn do_to_batch(&mut self, deed: &Deed, batch: i64) {
        let found = self.stores[0].read(|c| batches::by_key(c, batch)).expect("a batch");
        match deed {
            Deed::Retry { .. } => {
                let which = Which { step: None, code: None, safe_steps: StepSet::default() };
                self.write(move |tx| retries::begin(tx, found.id, which));
            }
            Deed::PauseBatch { .. } => drop(self.write(move |tx| batches::pause(tx, batch, None))),
            Deed::ResumeBatch { .. } => drop(self.write(move |tx| batches::resume(tx, batch))),
            Deed::Cancel { .. } => drop(self.write(move |tx| batches::cancel(tx, batch))),
            _ => drop(self.write(move |tx| upgrades::change_version(tx, batch, 1, 2))),
        }
    }

    fn upload(&mut self, client: i64, rows: u32) {
        let (owner, expires) = (self.owner, self.clock.now().after(TTL));
        let batch = self.write(move |tx| {
            keys::add_proof(tx, &KeyProof { key_id: "k1".into(), proof: vec![1] })?;
            let version = |name: &str| NewVersion {
                name: name.into(),
                digest: [1; 32],
                outline: Outline { repeat_window_ms: 0, steps: Vec::new() },
                sealed: SealedSecret { key_id: "k1".into(), sealed: vec![1] },
            };
            let first = workflows::keep(tx, &version("invite"))?;
            workflows::keep(tx, &version("later"))?;
            let upload = uploads::begin(tx, BatchId::random(), owner)?;
            let new = NewBatch {
                client,
                workflow: "invite".into(),
                workflow_version: first,
                data_key: SealedSecret { key_id: "k1".into(), sealed: vec![1] },
                details: vec![2],
                object: upload.id.to_string(),
                file_bytes: 1,
                file_digest: [7; 32],
                rows,
                skipped: 0,
                skipped_bytes: 0,
            };
            let batch = batches::create(tx, upload, &new)?.batch;
            extraction::claim(tx, batch, owner, expires)?;
            let data: Vec<_> = (1..=rows).map(|row| NewRow { line: u64::from(row) + 1, data: vec![1] }).collect();
            extraction::write_rows(tx, batch, owner, expires, 1, &data)?;
            extraction::finish(tx, batch, owner)?;
            Ok(batch)
        });
        self.batches.push(batch);
    }

    fn hear(&mut self) {
        self.hearing.hear(&self.stores[0], &TwoVersions).expect("heard");
    }

    /// Whether anything was planned. What is planned need not be there: a person may have been quicker.
    fn claim(&mut self, rows: usize, mut openings: impl Openings) -> bool {
        self.hear();
        let wanted = self.hearing.index.plan(rows, self.clock.now(), &mut openings);
        assert!(wanted.iter().map(|wanted| wanted.rows as usize).sum::<usize>() <= rows);
        let claimant = Claimant { owner: self.owner, expires_at: self.clock.now().after(TTL) };
        let wishes = wanted.clone();
        let taken = self.stores[0].write(move |tx| claims::claim(tx, claimant, &wishes)).expect("claimed");
        let left: Vec<_> = taken.iter().map(|taken| taken.left).collect();
        self.hearing.taken(&self.stores[0], &TwoVersions, &wanted, &left).expect("taken");
        for (wanted, taken) in wanted.iter().zip(&taken) {
            assert!(taken.rows.len() <= wanted.rows as usize, "no more than wanted");
        }
        self.claimed.extend(taken.into_iter().flat_map(|taken| taken.rows));
        !wanted.is_empty()
    }

    fn settle(&mut self, claimed: &Any, how: &How) {
        if self.claimed.is_empty() {
            return;
        }
        let claimed = self.claimed.swap_remove(claimed.index(self.claimed.len()));
        let failure = Failure { code: FailureCode::Rejected, http_status: Some(422), sealed: vec![1] };
        let mut standing = Standing { step: claimed.step, progress: Some(vec![9]), ..Standing::default() };
        let (ending, spent) = match *how {
            How::Complete => (Ending::Completed, true),
            How::Fail => (Ending::Failed(failure), true),
            How::Release { steps, attempts, wait, spent } => {
                standing.step = (claimed.step + if spent { steps } else { 0 }).min(STEPS - 1);
                standing.attempts = attempts;
                let next_attempt_at = self.clock.now().after(Duration::from_secs(wait));
                (Ending::Released { next_attempt_at, failure: None }, spent)
            }
        };
        let settle =
            Settle { row: claimed.row, claim: claimed.claim, version: claimed.version, standing, ending, spent };
        self.write(move |tx| settle::settle_all(tx, [&settle]));
    }

    fn by_hand(&mut self, batch: &Any, row: u32) {
        let Some(batch) = Self::of(&self.batches, batch) else { return };
        let claimant = Claimant { owner: self.owner, expires_at: self.clock.now().after(TTL) };
        let claimed = self.write(move |tx| claims::claim_one(tx, RowId::new(batch, row), claimant, false));
        self.claimed.extend(claimed.ok());
    }

    fn name(&self, client: i64) -> String {
        format!("client-{}", self.clients.iter().position(|it| *it == client).expect("one of them") + 1)
    }

    fn limit(&mut self, client: i64, rows: u32) {
        let name = self.name(client);
        self.write(move |tx| clients::set_rows_per_run(tx, &name, Some(rows), 500));
    }

    fn pause_client(&mut self, client: i64, pauses: bool) {
        let name = self.name(client);
        self.write(move |tx| clients::set_paused(tx, &name, pauses));
    }

    fn set_back(&mut self) {
        let by = Duration::from_secs(30);
        self.clock.set_wall(self.clock.now().before(by));
        let now = self.clock.now();
        let beyond = self.stores[0].read(|c| waits::of_rows_beyond(c, now)).expect("read");
        self.write(move |tx| waits::move_rows(tx, &beyond, by));
    }

    /// What the index that was fed knows, and what it would know made anew: its rows by batch, and its clients.
    fn known(hearing: &Hearing, batches: &[i64]) -> BTreeMap<i64, (ReadyBatch, ReadyClient)> {
        let known = batches.iter().filter_map(|key| hearing.index.batch(*key));
        known
            .map(|mut batch| {
                // How many wait is only thought.
                batch.waiting.iter_mut().for_each(|waiting| waiting.rows = 1);
                (batch.batch, (batch.clone(), hearing.index.client(batch.client)))
            })
            .collect()
    }

    fn check(&mut self) {
        self.hear();
        let anew = Hearing::begin(&self.stores[0], &TwoVersions).expect("an index");
        let (fed, anew_known) = (Self::known(&self.hearing, &self.batches), Self::known(&anew, &self.batches));
        assert_eq!(fed.keys().collect::<Vec<_>>(), anew_known.keys().collect::<Vec<_>>());
        for (batch, (anew, client)) in anew_known {
            let (fed, fed_client) = &fed[&batch];
            assert_eq!((fed, fed_client.is_paused), (&anew, client.is_paused));
            // It may think that there is a grant left where there is none: the next claim says so.
            assert!(client.granted == 0 || fed_client.granted > 0, "{client:?}, and it knows {fed_client:?}");
        }
        assert_eq!(self.hearing.index.is_paused(), anew.index.is_paused());
        assert_eq!(self.hearing.index.len(), anew.index.len());
    }
}

#[test]
fn what_is_missed_all_the_same_is_found_within_a_minute_and_mended() {
    let mut world = World::new();
    let client = world.clients[0];
    world.upload(client, 3);
    world.upload(client, 3);
    world.write(|tx| grants::run(tx, AskedBy::Call, 500, Duration::ZERO));
    let look = |world: &mut World, after: u64| {
        let at = Instant::now() + Duration::from_secs(after);
        // Each looks at a page; the second finds that there is no more.
        [0, 1].map(|page| {
            world.hearing.look(&world.stores[0], &TwoVersions, at + Duration::from_secs(page)).expect("looked")
        })
    };
    assert_eq!(look(&mut world, 61), [0, 0], "it has heard of everything");
    let (lost, other) = (world.batches[0], world.batches[1]);
    world.hearing.index.remove(lost);
    assert_eq!(look(&mut world, 61), [0, 0], "not before a minute is over");
    assert_eq!(look(&mut world, 122), [1, 0]);
    world.check();
    // Nor is a grant overlooked.
    world.hearing.index.set_client(client, ReadyClient::default());
    assert_eq!(look(&mut world, 183), [1, 0]);
    world.claim(100, AllOpen);
    let of = |batch| world.claimed.iter().filter(|row| row.row.batch() == batch).count();
    assert_eq!((of(lost), of(other)), (3, 3));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn an_index_that_is_fed_knows_what_one_made_anew_would_know(deeds in prop::collection::vec(deed(), 1..60)) {
        let mut world = World::new();
        for deed in &deeds {
            world.carry_out(deed);
            world.check();
        }
        // And nothing is left behind: once nothing stands still, all that is left is worked to its end.
        world.write(grants::resume);
        for client in world.clients.clone() {
            world.pause_client(client, false);
            world.limit(client, 6);
        }
        for batch in world.batches.clone() {
            world.write(move |tx| batches::resume(tx, batch));
        }
        let mut rounds = 0;
        loop {
            world.clock.advance(TTL + Duration::from_secs(60));
            world.write(|tx| stuck::free_rows(tx, Lost::Expired));
            world.clock.advance(Duration::from_secs(5));
            world.write(|tx| grants::run(tx, AskedBy::Call, 500, Duration::ZERO));
            let planned = world.claim(100, AllOpen);
            world.check();
            if !planned {
                break;
            }
            while let Some(claimed) = world.claimed.pop() {
                let standing = Standing { progress: Some(vec![9]), ..Standing::default() };
                let ClaimedRow { row, claim, version, .. } = claimed;
                let settle = Settle { row, claim, version, standing, ending: Ending::Completed, spent: true };
                world.write(move |tx| settle::settle_all(tx, [&settle]));
            }
            rounds += 1;
            prop_assert!(rounds < 100, "it comes to an end");
        }
        for batch in &world.batches {
            let batch = world.stores[0].read(|c| batches::by_key(c, *batch)).expect("a batch");
            prop_assert!(batch.status.is_finished(), "{batch:?}");
        }
    }
}
