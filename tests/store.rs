//! The store by itself: claims, settles, grants and the end of batches, with several batches and clients present.

use std::{sync::Barrier, time::Duration};

use dripfeed::{
    clock::Clock,
    dispatch::{
        hearing::{Hearing, Versions},
        ready::Openings,
    },
    model::{
        AskedBy, BatchId, BatchStatus, ClaimNumber, ClaimOwner, FailureCode, Outline, RowId, RowStatus, Timestamp,
        outline::StepOutline, workflow::Repeat,
    },
    store::{
        DatabaseSettings, Durability, Held, Store, Tx,
        batches::{self, Batch, Cancelled, NewBatch},
        claims::{self, Claimant, ClaimedRow, NotClaimed},
        client_keys, clients, counts,
        extraction::{self, Due, NewRow},
        failures,
        grants::{self, RunOutcome},
        keys::{self, KeyProof, SealedSecret},
        pages::Most,
        retries::{self, Which},
        rows::{self, Filter},
        settle::{self, Ending, Failure, Settle, Standing},
        stuck::{self, Lost, ProcessKind},
        upgrades, uploads, waits,
        workflows::{self, NewVersion},
    },
};

const START: Timestamp = Timestamp(1_786_000_000_000);
const TTL: Duration = Duration::from_secs(120);
const NO_INTERVAL: Duration = Duration::ZERO;
const MOST: Most = Most::of_any_length(100);

struct World {
    store: Store,
    clock: Clock,
    owner: ClaimOwner,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let clock = Clock::manual(START);
        let settings = DatabaseSettings { synchronous: Durability::Normal, ..DatabaseSettings::default() };
        let store = Store::open(folder.path(), settings, clock.clone()).expect("a new database");
        Self { store, clock, owner: ClaimOwner::random(), _folder: folder }
    }

    fn client(&self, name: &str, rows_per_run: u32) -> i64 {
        let owned = name.to_owned();
        let hash = [name.len() as u8 ^ name.as_bytes()[name.len() - 1]; 32];
        assert!(self.store.write(move |tx| clients::add(tx, &owned, hash, Some(rows_per_run))).expect("added"));
        self.store
            .read(|c| client_keys::by_hash(c, hash, self.clock.now()))
            .expect("read")
            .expect("just added")
            .0
            .client
    }

    fn batch(&self, client: i64, rows: u32) -> Batch {
        let id = BatchId::random();
        let owner = self.owner;
        self.store
            .write(move |tx| {
                let upload = uploads::begin(tx, id, owner)?;
                let new = NewBatch {
                    client,
                    workflow: "invite".into(),
                    workflow_version: version(tx, [1; 32])?,
                    data_key: SealedSecret { key_id: "k1".into(), sealed: vec![1] },
                    details: vec![2],
                    object: id.to_string(),
                    file_bytes: 1,
                    file_digest: [7; 32],
                    rows,
                    skipped: 0,
                    skipped_bytes: 0,
                };
                batches::create(tx, upload, &new)
            })
            .expect("a batch")
    }

    fn queued(&self, client: i64, rows: u32) -> Batch {
        let batch = self.batch(client, rows);
        let (key, owner, expires) = (batch.batch, self.owner, self.clock.now().after(TTL));
        let data = (1..=rows).map(|n| NewRow { line: u64::from(n) + 1, data: vec![n as u8] }).collect::<Vec<_>>();
        let held = self
            .store
            .write(move |tx| {
                extraction::claim(tx, key, owner, expires)?.expect("pending");
                assert_eq!(extraction::write_rows(tx, key, owner, expires, 1, &data)?, Held::Yes);
                extraction::finish(tx, key, owner)
            })
            .expect("extracted");
        assert_eq!(held, Held::Yes);
        self.get(key)
    }

    fn get(&self, batch: i64) -> Batch {
        let batch = self.store.read(|c| batches::by_key(c, batch)).expect("a batch");
        assert!(batch.counts.add_up(), "{:?}", batch.counts);
        batch
    }

    fn dispatch(&self) -> Vec<(String, u32)> {
        match self.store.write(|tx| grants::run(tx, AskedBy::Call, 500, NO_INTERVAL)).expect("a run") {
            RunOutcome::Granted(run) => run.granted.into_iter().map(|g| (g.client, g.rows)).collect(),
            other => panic!("not granted: {other:?}"),
        }
    }

    fn claimant(&self) -> Claimant {
        Claimant { owner: self.owner, expires_at: self.clock.now().after(TTL) }
    }

    fn claim(&self, limit: usize) -> Vec<ClaimedRow> {
        self.claim_with(limit, AllOpen)
    }

    /// As a server does that has just started.
    fn claim_with(&self, limit: usize, openings: impl Openings) -> Vec<ClaimedRow> {
        self.claim_as(self.claimant(), limit, openings)
    }

    fn claim_as(&self, claimant: Claimant, limit: usize, mut openings: impl Openings) -> Vec<ClaimedRow> {
        let mut hearing = Hearing::begin(&self.store, &ThreeSteps).expect("an index");
        let mut wanted = hearing.index.plan(limit, self.clock.now(), &mut openings);
        wanted.iter_mut().for_each(|wanted| wanted.has_key = true);
        let taken = self.store.write(move |tx| claims::claim(tx, claimant, &wanted)).expect("claimed");
        taken.into_iter().flat_map(|taken| taken.rows).collect()
    }

    fn settle(&self, claimed: &ClaimedRow, ending: Ending, spent: bool) -> Held {
        let (row, claim, version) = (claimed.row, claimed.claim, claimed.version);
        let standing = Standing { progress: Some(vec![9]), ..Standing::default() };
        let settle = Settle { row, claim, version, standing, ending, spent };
        self.store.write(move |tx| settle::settle_all(tx, [&settle])).expect("settled")[0]
    }

    fn complete(&self, claimed: &ClaimedRow) -> Held {
        self.settle(claimed, Ending::Completed, true)
    }

    fn fail(&self, claimed: &ClaimedRow) -> Held {
        let failure = Failure { code: FailureCode::Rejected, http_status: Some(422), sealed: vec![1] };
        self.settle(claimed, Ending::Failed(failure), true)
    }

    fn release(&self, claimed: &ClaimedRow, wait: Duration, spent: bool) -> Held {
        let next_attempt_at = self.clock.now().after(wait);
        self.settle(claimed, Ending::Released { next_attempt_at, failure: None }, spent)
    }
}

/// The version of a workflow with this digest: one, where a test does not need more.
fn version(tx: &Tx<'_>, digest: [u8; 32]) -> dripfeed::store::Result<i64> {
    keys::add_proof(tx, &KeyProof { key_id: "k1".into(), proof: vec![1] })?;
    workflows::keep(
        tx,
        &NewVersion {
            name: "invite".into(),
            digest,
            outline: Outline { repeat_window_ms: 0, steps: Vec::new() },
            sealed: SealedSecret { key_id: "k1".into(), sealed: vec![1] },
        },
    )
}

/// Every version has three steps of one dependency.
struct ThreeSteps;

impl Versions for ThreeSteps {
    fn dependencies(&self, _: i64) -> Option<Vec<String>> {
        Some(vec!["api".to_owned(); 3])
    }
}

struct AllOpen;

impl Openings for AllOpen {
    fn take(&mut self, _: i64, _: u32, _: impl Fn(usize) -> usize) -> bool {
        true
    }
}

/// Room for so many new rows, and none for those that wait.
struct OnlyNew(usize);

impl Openings for OnlyNew {
    fn take(&mut self, _: i64, step: u32, _: impl Fn(usize) -> usize) -> bool {
        let has_room = step == 0 && self.0 > 0;
        self.0 -= usize::from(has_room);
        has_room
    }
}

fn numbers(claimed: &[ClaimedRow]) -> Vec<u32> {
    claimed.iter().map(|row| row.row.number()).collect()
}

#[test]
fn a_run_grants_each_client_its_limit_or_what_it_has() {
    let world = World::new();
    let (big, small, idle) = (world.client("big", 5), world.client("small", 500), world.client("idle", 9));
    world.queued(big, 20);
    world.queued(small, 2);
    world.batch(small, 1);
    let _ = idle;
    assert_eq!(world.dispatch(), [("big".to_owned(), 5), ("small".to_owned(), 3)]);
    assert_eq!(world.claim(100).len(), 7, "five of big's and both that small has in the work table");
    // What was left over does not add up.
    assert_eq!(world.dispatch(), [("big".to_owned(), 5), ("small".to_owned(), 1)]);
    assert_eq!(world.claim(100).len(), 5);
}

#[test]
fn a_run_that_is_too_early_or_paused_grants_nothing() {
    let world = World::new();
    let client = world.client("a", 5);
    world.queued(client, 20);
    world.dispatch();
    let early = world.store.write(|tx| grants::run(tx, AskedBy::Call, 500, Duration::from_secs(30))).expect("asked");
    assert!(matches!(early, RunOutcome::TooEarly));
    assert_eq!(world.claim(100).len(), 5, "the first run's grant is untouched");

    world.store.write(|tx| grants::pause(tx, "root", Some("vendor"))).expect("paused");
    world.clock.advance(Duration::from_secs(60));
    let paused = world.store.write(|tx| grants::run(tx, AskedBy::Call, 500, Duration::from_secs(30))).expect("asked");
    assert!(matches!(paused, RunOutcome::Paused));
    world.store.write(grants::resume).expect("resumed");
    world.dispatch();
    world.store.write(|tx| grants::pause(tx, "root", None)).expect("paused");
    assert!(world.claim(100).is_empty(), "a pause holds what was granted before it, too");
}

#[test]
fn claims_go_in_turn_over_clients_and_oldest_batch_first() {
    let world = World::new();
    let (a, b) = (world.client("a", 500), world.client("b", 500));
    let first = world.queued(a, 30).batch;
    let second = world.queued(a, 30).batch;
    let other = world.queued(b, 4).batch;
    world.dispatch();
    let claimed = world.claim(12);
    let of = |batch| claimed.iter().filter(|row| row.row.batch() == batch).count();
    assert_eq!((of(first), of(second), of(other)), (8, 0, 4), "what b leaves goes to a, whose older batch comes first");
    assert_eq!(world.claim(30).iter().filter(|row| row.row.batch() == second).count(), 8);
}

#[test]
fn settles_of_several_batches_in_one_go_are_counted_by_batch_and_fenced_one_by_one() {
    let world = World::new();
    let client = world.client("a", 500);
    let (first, second) = (world.queued(client, 3).batch, world.queued(client, 2).batch);
    world.dispatch();
    let claimed = world.claim(10);
    let failure = Failure { code: FailureCode::Rejected, http_status: Some(422), sealed: vec![1] };
    let settle = |(place, claimed): (usize, &ClaimedRow)| Settle {
        row: claimed.row,
        claim: if place == 1 { ClaimNumber::random() } else { claimed.claim },
        version: claimed.version,
        standing: Standing { progress: Some(vec![9]), ..Standing::default() },
        ending: if place == 0 { Ending::Failed(failure.clone()) } else { Ending::Completed },
        spent: true,
    };
    let settles: Vec<Settle> = claimed.iter().enumerate().map(settle).collect();
    let held = world.store.write(move |tx| settle::settle_all(tx, &settles)).expect("settled");
    assert_eq!(held, [Held::Yes, Held::No, Held::Yes, Held::Yes, Held::Yes]);
    let state = |batch| {
        let batch = world.store.read(|connection| batches::by_key(connection, batch)).expect("a batch");
        (batch.status, batch.counts.completed, batch.counts.failed, batch.counts.processing)
    };
    assert_eq!(state(first), (BatchStatus::Queued, 1, 1, 1), "one claim is somebody else's, and goes on");
    assert_eq!(state(second), (BatchStatus::Completed, 2, 0, 0));
}

#[test]
fn a_row_is_claimed_once_by_many_threads_at_once() {
    let world = World::new();
    let client = world.client("a", 500);
    world.queued(client, 200);
    world.queued(client, 200);
    world.dispatch();
    let start = Barrier::new(16);
    let mut all: Vec<RowId> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let mut mine = Vec::new();
                    loop {
                        let claimed = world.claim(7);
                        if claimed.is_empty() {
                            return mine;
                        }
                        mine.extend(claimed.iter().map(|row| row.row));
                    }
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a claimer")).collect()
    });
    assert_eq!(all.len(), 400);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 400, "no row was claimed twice");
}

#[test]
fn the_last_two_rows_ending_at_the_same_instant_complete_the_batch_once() {
    for _ in 0..20 {
        let world = World::new();
        let client = world.client("a", 500);
        let batch = world.queued(client, 2);
        let bystander = world.queued(client, 2);
        world.dispatch();
        let claimed = world.claim(2);
        assert_eq!(world.get(batch.batch).status, BatchStatus::Queued);
        let start = Barrier::new(2);
        std::thread::scope(|scope| {
            for row in &claimed {
                let (world, start) = (&world, &start);
                scope.spawn(move || {
                    start.wait();
                    assert_eq!(world.complete(row), Held::Yes);
                });
            }
        });
        let ended = world.get(batch.batch);
        assert_eq!((ended.status, ended.counts.completed), (BatchStatus::Completed, 2));
        assert!(ended.finished_at.is_some());
        assert_eq!(world.get(bystander.batch).status, BatchStatus::Queued);
        for row in &claimed {
            assert_eq!(world.complete(row), Held::No, "a settled row cannot be settled again");
        }
        assert_eq!(world.get(batch.batch).counts.completed, 2);
    }
}

#[test]
fn a_batch_is_not_completed_while_a_row_waits_or_is_claimed_ahead_of_the_cursor() {
    let world = World::new();
    let client = world.client("a", 500);
    let batch = world.queued(client, 3);
    world.dispatch();
    // The last row is run by hand, ahead of the cursor, and settles first.
    let (id, claimant) = (RowId::new(batch.batch, 3), world.claimant());
    let by_hand =
        world.store.write(move |tx| claims::claim_one(tx, id, claimant, false)).expect("asked").expect("free");
    assert_eq!(world.fail(&by_hand), Held::Yes);
    let claimed = world.claim(10);
    assert_eq!(numbers(&claimed), [1, 2]);
    world.complete(&claimed[0]);
    world.release(&claimed[1], Duration::from_secs(5), true);
    assert_eq!(world.get(batch.batch).status, BatchStatus::Queued, "row 2 waits for another try");
    assert!(world.claim(10).is_empty(), "its time has not come");
    world.clock.advance(Duration::from_secs(5));
    let again = world.claim(10);
    assert_eq!(numbers(&again), [2]);
    world.complete(&again[0]);
    let ended = world.get(batch.batch);
    assert_eq!((ended.status, ended.counts.completed, ended.counts.failed), (BatchStatus::Completed, 2, 1));
}

#[test]
fn a_claim_that_ended_without_an_attempt_gives_its_grant_back() {
    let world = World::new();
    let client = world.client("a", 2);
    world.queued(client, 10);
    world.dispatch();
    let claimed = world.claim(10);
    assert_eq!(claimed.len(), 2);
    world.release(&claimed[0], Duration::from_secs(60), false);
    world.release(&claimed[1], Duration::from_secs(60), true);
    assert_eq!(world.claim(10).len(), 1, "only the one that made no attempt");
    // What a later run granted is not topped up by an older claim.
    world.dispatch();
    let of_this_run = world.claim(1);
    world.dispatch();
    world.release(&of_this_run[0], Duration::from_secs(60), false);
    assert_eq!(world.claim(10).len(), 2);
}

#[test]
fn a_row_that_was_put_down_between_two_steps_goes_on_without_spending_again() {
    let world = World::new();
    let (client, other) = (world.client("a", 2), world.client("b", 500));
    let batch = world.queued(client, 10);
    world.queued(other, 1);
    world.dispatch();
    let remaining = || world.store.read(|c| grants::of_client(c, client)).expect("read").expect("a grant").remaining;
    let put_down = |claimed: &ClaimedRow, step, attempts, spent| {
        let standing = Standing { step, attempts, progress: Some(vec![9]), ..Standing::default() };
        let ending = Ending::Released { next_attempt_at: world.clock.now(), failure: None };
        let (row, claim, version) = (claimed.row, claimed.claim, claimed.version);
        let settle = Settle { row, claim, version, standing, ending, spent };
        assert_eq!(world.store.write(move |tx| settle::settle_all(tx, [&settle])).expect("settled"), [Held::Yes]);
    };
    let of_a = |mut claimed: Vec<ClaimedRow>| {
        claimed.retain(|row| row.row.batch() == batch.batch);
        claimed
    };
    let claimed = of_a(world.claim(10));
    assert_eq!((numbers(&claimed), remaining()), (vec![1, 2], 0));
    // The first has done a step and is put down: it goes on, though no grant is left. The second one's attempt was counted:
    // a repeat spends one, and there is none.
    put_down(&claimed[0], 1, 0, true);
    put_down(&claimed[1], 1, 1, true);
    let again = world.claim(10);
    assert_eq!((numbers(&again), again[0].step, remaining()), (vec![1], 1, 0));
    // Put down once more with nothing counted it gives nothing back, because it spent nothing, and it goes on once more.
    put_down(&again[0], 1, 0, false);
    let again = world.claim(10);
    assert_eq!((numbers(&again), remaining()), (vec![1], 0));
    // Its server dies: the same.
    world.clock.advance(TTL);
    world.store.write(|tx| stuck::free_rows(tx, Lost::Expired)).expect("freed");
    world.clock.advance(Duration::from_secs(5));
    let again = of_a(world.claim(10));
    assert_eq!((numbers(&again), remaining()), (vec![1], 0));
    // Now an attempt of it is counted, and the next one spends.
    put_down(&again[0], 1, 1, true);
    assert!(of_a(world.claim(10)).is_empty());
    world.dispatch();
    let paid = of_a(world.claim(10));
    assert_eq!((numbers(&paid), remaining()), (vec![1, 2], 0));
    // Of these nothing is counted: what they spent is given back, and is spent again with the next claim.
    put_down(&paid[0], 1, 1, false);
    put_down(&paid[1], 1, 1, false);
    assert_eq!(remaining(), 2);
    assert_eq!((world.claim(10).len(), remaining()), (2, 0));
}

#[test]
fn a_persons_retry_of_a_row_that_was_put_down_before_it_failed_spends_one() {
    let world = World::new();
    let client = world.client("a", 1);
    world.queued(client, 3);
    world.dispatch();
    let claimed = world.claim(10);
    let standing = Standing { step: 1, progress: Some(vec![9]), ..Standing::default() };
    let ending = Ending::Released { next_attempt_at: world.clock.now(), failure: None };
    let (row, claim, version) = (claimed[0].row, claimed[0].claim, claimed[0].version);
    let settle = Settle { row, claim, version, standing, ending, spent: true };
    world.store.write(move |tx| settle::settle_all(tx, [&settle])).expect("settled");
    let prepaid = world.claim(10);
    assert_eq!(numbers(&prepaid), [1]);
    world.fail(&prepaid[0]);
    let id = world.get(claimed[0].row.batch()).id;
    world.store.write(move |tx| retries::begin(tx, id, Which::default())).expect("asked");
    assert!(world.claim(10).is_empty(), "no grant is left");
    world.dispatch();
    assert_eq!(numbers(&world.claim(10)), [1], "it goes before new rows");
}

#[test]
fn rows_that_cannot_be_called_now_are_not_claimed() {
    let world = World::new();
    let client = world.client("a", 500);
    let batch = world.queued(client, 10);
    world.dispatch();
    assert_eq!(numbers(&world.claim_with(10, OnlyNew(3))), [1, 2, 3]);
    assert_eq!(world.get(batch.batch).counts.processing, 3);
}

#[test]
fn a_settle_after_the_claim_was_taken_over_changes_nothing() {
    let world = World::new();
    let client = world.client("a", 500);
    let batch = world.queued(client, 2);
    world.queued(client, 2);
    world.dispatch();
    let late = world.claim(1).remove(0);
    world.clock.advance(TTL + Duration::from_secs(1));
    let freed = world.store.write(|tx| stuck::free_rows(tx, Lost::Expired)).expect("freed");
    assert_eq!(freed, [late.row]);
    let again = world.store.write({
        let claimant = Claimant { owner: ClaimOwner::random(), ..world.claimant() };
        move |tx| claims::claim_one(tx, late.row, claimant, false)
    });
    let again = again.expect("asked").expect("free");
    assert_eq!(world.fail(&late), Held::No);
    assert_eq!(world.get(batch.batch).counts.failed, 0);
    assert_eq!(world.complete(&again), Held::Yes);
    assert_eq!(world.get(batch.batch).counts.completed, 1);
}

#[test]
fn the_end_of_a_claim_that_was_freed_counts_while_nobody_has_taken_the_row_over() {
    let world = World::new();
    let client = world.client("a", 500);
    let batch = world.queued(client, 3);
    let other = world.queued(world.client("b", 500), 3);
    world.dispatch();
    let late = world.claim(6);
    assert_eq!(late.len(), 6);
    world.clock.advance(TTL + Duration::from_secs(1));
    assert_eq!(world.store.write(|tx| stuck::free_rows(tx, Lost::Expired)).expect("freed").len(), 6);
    assert!(world.claim(6).is_empty(), "whoever is only late has some seconds");
    let (ours, theirs): (Vec<_>, Vec<_>) = late.iter().partition(|claimed| claimed.row.batch() == batch.batch);
    assert_eq!((world.complete(ours[0]), world.fail(ours[1])), (Held::Yes, Held::Yes));
    assert_eq!(world.complete(ours[0]), Held::No, "once");
    let counts = world.get(batch.batch).counts;
    assert_eq!((counts.pending, counts.processing, counts.completed, counts.failed), (1, 0, 1, 1));
    world.clock.advance(Duration::from_secs(5));
    world.dispatch();
    let again = world.claim(6);
    assert_eq!(again.len(), 4);
    assert!(again.iter().all(|claimed| late.iter().all(|late| late.claim != claimed.claim)));
    assert_eq!((world.complete(ours[2]), world.complete(theirs[0])), (Held::No, Held::No), "it is claimed again");
    again.iter().for_each(|claimed| assert_eq!(world.complete(claimed), Held::Yes));
    assert_eq!((world.get(batch.batch).status, world.get(other.batch).counts.completed), (BatchStatus::Completed, 3));
}

#[test]
fn what_comes_too_late_from_a_batch_that_goes_another_way_since_is_not_taken() {
    let world = World::new();
    let client = world.client("a", 500);
    let (moved, stays) = (world.queued(client, 1), world.queued(client, 1));
    world.dispatch();
    let late = world.claim(2);
    world.clock.advance(TTL + Duration::from_secs(1));
    assert_eq!(world.store.write(|tx| stuck::free_rows(tx, Lost::Expired)).expect("freed").len(), 2);
    let (batch, from) = (moved.batch, moved.workflow_version);
    let changed = world.store.write(move |tx| {
        let to = version(tx, [2; 32])?;
        upgrades::change_version(tx, batch, from, to)
    });
    assert!(matches!(changed, Ok(true)));
    for claimed in &late {
        let held = if claimed.row.batch() == moved.batch { Held::No } else { Held::Yes };
        assert_eq!(world.complete(claimed), held, "its steps are counted by another version");
    }
    assert_eq!(world.get(stays.batch).status, BatchStatus::Completed);
    world.clock.advance(Duration::from_secs(5));
    world.dispatch();
    let again = world.claim(2);
    assert_eq!((again.len(), again[0].row.batch(), again[0].version == from), (1, moved.batch, false));
}

/// What moves rows moves those that were begun and those that failed, of that batch and at that step; and counts go along.
#[test]
fn rows_are_moved_to_the_place_that_their_step_has_now() {
    let world = World::new();
    let client = world.client("a", 500);
    let (moved, other) = (world.queued(client, 5), world.queued(client, 5));
    world.dispatch();
    let claimed = world.claim(8);
    let (ours, theirs): (Vec<_>, Vec<_>) = claimed.iter().partition(|claimed| claimed.row.batch() == moved.batch);
    for rows in [&ours, &theirs] {
        assert_eq!(world.fail(rows[0]), Held::Yes);
        assert_eq!(world.complete(rows[1]), Held::Yes);
        assert_eq!(world.release(rows[2], TTL, true), Held::Yes);
    }
    let outline = || {
        let step = |name: &str| StepOutline {
            name: name.to_owned(),
            dependency: "crm".to_owned(),
            repeat: Repeat::IdempotencyKey,
        };
        Outline { repeat_window_ms: 0, steps: vec![step("one")] }
    };
    let batch = moved.batch;
    let standing = world.store.read(move |connection| upgrades::standing(connection, batch, &outline())).expect("read");
    assert_eq!(standing, [upgrades::Standing { place: 0, step: "one".to_owned(), example_row: 3, is_over: false }]);
    let under_way = world.store.read(move |connection| upgrades::under_way(connection, batch)).expect("read");
    assert_eq!(under_way, Some(upgrades::UnderWay::Rows(2)));
    assert_eq!(world.store.read(move |connection| upgrades::count_at(connection, batch, 0)).expect("counted"), 2);
    world.store.write(move |tx| upgrades::move_rows(tx, batch, 0, 4)).expect("moved");

    let steps = |batch: i64| {
        let batch = world.get(batch);
        (1..=5)
            .map(|number| {
                world
                    .store
                    .read(|connection| rows::find(connection, &batch, number))
                    .expect("read")
                    .expect("a row")
                    .step
            })
            .collect::<Vec<_>>()
    };
    assert_eq!((steps(moved.batch), steps(other.batch)), (vec![4, 0, 4, 0, 0], vec![0; 5]));
    let groups = |batch| world.store.read(move |connection| failures::groups(connection, batch)).expect("groups");
    let kinds = |batch| groups(batch).iter().map(|it| (it.kind.step, it.failed, it.example_row)).collect::<Vec<_>>();
    assert_eq!((kinds(moved.batch), kinds(other.batch)), (vec![(4, 1, Some(1))], vec![(0, 1, Some(1))]));
}

#[test]
fn dead_servers_lose_their_claims_at_once_and_commands_only_when_they_expire() {
    let world = World::new();
    let client = world.client("a", 500);
    world.queued(client, 4);
    world.dispatch();
    let (dead, command, me) = (ClaimOwner::random(), ClaimOwner::random(), ClaimOwner::random());
    let expires_at = world.clock.now().after(TTL);
    world
        .store
        .write(move |tx| {
            stuck::register(tx, dead, ProcessKind::Server)?;
            stuck::register(tx, command, ProcessKind::Command)?;
            stuck::register(tx, me, ProcessKind::Server)
        })
        .expect("registered");
    for owner in [dead, command, me] {
        assert_eq!(world.claim_as(Claimant { owner, expires_at }, 1, AllOpen).len(), 1);
    }
    let freed = world.store.write(move |tx| stuck::free_rows(tx, Lost::OfDeadServers(me))).expect("freed");
    assert_eq!(freed.iter().map(|row| row.number()).collect::<Vec<_>>(), [1]);
    assert!(world.store.write(|tx| stuck::free_rows(tx, Lost::Expired)).expect("asked").is_empty());
    world.clock.advance(TTL);
    let (rows, _) = world.store.read(|c| stuck::list(c, world.clock.now(), 10)).expect("listed");
    assert_eq!(rows.iter().map(|row| row.row.number()).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(world.store.write(|tx| stuck::free_rows(tx, Lost::Expired)).expect("freed").len(), 2);
}

#[test]
fn a_cancelled_batch_ends_when_what_was_in_flight_has_settled() {
    let world = World::new();
    let client = world.client("a", 500);
    let batch = world.queued(client, 10);
    let other = world.queued(client, 2);
    world.dispatch();
    let claimed = world.claim(3);
    let key = batch.batch;
    assert_eq!(world.store.write(move |tx| batches::cancel(tx, key)).expect("cancelled"), Cancelled::Now);
    let draining = world.get(key);
    assert_eq!((draining.status, draining.counts.cancelled, draining.counts.processing), (BatchStatus::Queued, 7, 3));
    assert!(world.claim(10).iter().all(|row| row.row.batch() == other.batch), "nothing of it is claimed any more");
    world.complete(&claimed[0]);
    world.fail(&claimed[1]);
    assert_eq!(world.get(key).status, BatchStatus::Queued);
    world.release(&claimed[2], Duration::from_secs(1), true);
    let ended = world.get(key);
    assert_eq!(ended.status, BatchStatus::Cancelled);
    assert_eq!((ended.counts.completed, ended.counts.failed, ended.counts.cancelled), (1, 1, 8));
    let page = world.store.read(|c| {
        let filter = Filter { status: Some(RowStatus::Cancelled), ..Filter::default() };
        rows::page(c, &world.get(key), filter, 0, MOST)
    });
    let page = page.expect("a page");
    assert_eq!((page.rows.len(), page.next), (8, None), "rows that were never claimed are shown as cancelled");
    assert_eq!(
        world.store.write(move |tx| batches::cancel(tx, key)).expect("asked"),
        Cancelled::Ended,
        "twice is refused"
    );
    assert_eq!(world.get(other.batch).counts.cancelled, 0);
}

#[test]
fn a_batch_cancelled_before_or_during_extraction_is_cancelled_whole() {
    let world = World::new();
    let client = world.client("a", 500);
    let waiting = world.batch(client, 5).batch;
    assert_eq!(world.store.write(move |tx| batches::cancel(tx, waiting)).expect("cancelled"), Cancelled::Now);
    assert_eq!((world.get(waiting).status, world.get(waiting).counts.cancelled), (BatchStatus::Cancelled, 5));

    let half = world.batch(client, 5).batch;
    let (owner, expires) = (world.owner, world.clock.now().after(TTL));
    let row = || NewRow { line: 2, data: vec![1] };
    let two = vec![row(), row()];
    let more = two.clone();
    world
        .store
        .write(move |tx| {
            extraction::claim(tx, half, owner, expires)?.expect("pending");
            extraction::write_rows(tx, half, owner, expires, 1, &two)
        })
        .expect("half of it");
    assert_eq!(world.store.write(move |tx| batches::cancel(tx, half)).expect("cancelled"), Cancelled::Now);
    let written = world.store.write(move |tx| extraction::write_rows(tx, half, owner, expires, 3, &more));
    assert_eq!(written.expect("asked"), Held::No);
    let now = world.clock.now();
    world.store.write(move |tx| extraction::release(tx, half, owner, now, None)).expect("released");
    assert_eq!((world.get(half).status, world.get(half).counts.cancelled), (BatchStatus::Cancelled, 5));
}

#[test]
fn two_never_extract_the_same_batch_and_a_second_start_goes_on_where_the_first_stopped() {
    let world = World::new();
    let client = world.client("a", 500);
    let batch = world.batch(client, 4).batch;
    let (first, second) = (ClaimOwner::random(), ClaimOwner::random());
    let expires = world.clock.now().after(TTL);
    let row = |n: u64| NewRow { line: n + 1, data: vec![n as u8] };
    let (one_two, again, three_four) = (vec![row(1), row(2)], vec![row(1), row(2)], vec![row(3), row(4)]);
    world
        .store
        .write(move |tx| {
            assert!(extraction::claim(tx, batch, first, expires)?.is_some());
            assert!(extraction::claim(tx, batch, second, expires)?.is_none());
            assert!(extraction::due(tx.connection, tx.now)?.is_empty());
            extraction::write_rows(tx, batch, first, expires, 1, &one_two)
        })
        .expect("the first one's rows");
    world.clock.advance(TTL);
    world.store.write(|tx| stuck::free_batches(tx, Lost::Expired)).expect("freed");
    let expires = world.clock.now().after(TTL);
    let (taken, late, on) = world
        .store
        .write(move |tx| {
            assert_eq!(extraction::due(tx.connection, tx.now)?, [Due { client, batch }]);
            let taken = extraction::claim(tx, batch, second, expires)?.expect("free again");
            let late = extraction::write_rows(tx, batch, first, expires, 3, &again)?;
            let on = extraction::write_rows(tx, batch, second, expires, taken.extracted + 1, &three_four)?;
            Ok((taken, late, on))
        })
        .expect("taken over");
    assert_eq!((taken.extracted, late, on), (2, Held::No, Held::Yes));
    assert_eq!(world.store.write(move |tx| extraction::finish(tx, batch, second)).expect("asked"), Held::Yes);
    let page = world.store.read(|c| rows::page(c, &world.get(batch), Filter::default(), 0, MOST)).expect("a page");
    let found: Vec<_> = page.rows.iter().map(|row| (row.row.number(), row.line, row.data[0])).collect();
    assert_eq!(found, [(1, 2, 1), (2, 3, 2), (3, 4, 3), (4, 5, 4)]);
}

#[test]
fn a_row_is_run_by_hand_once_and_a_finished_one_not_at_all() {
    let world = World::new();
    let client = world.client("a", 0);
    let batch = world.queued(client, 2);
    let id = RowId::new(batch.batch, 1);
    let claimant = world.claimant();
    let claim = |resend| {
        let asked = world.store.write(move |tx| claims::claim_one(tx, id, claimant, resend));
        asked.expect("asked")
    };
    let claimed = claim(false).expect("free, whatever was granted");
    assert!(matches!(claim(false), Err(NotClaimed::Held(_))));
    world.fail(&claimed);
    assert_eq!(claim(true).unwrap_err(), NotClaimed::Finished(RowStatus::Failed), "a rejected row is not resent");
    let missing = RowId::new(batch.batch, 3);
    let asked = world.store.write(move |tx| claims::claim_one(tx, missing, claimant, false)).expect("asked");
    assert_eq!(asked.unwrap_err(), NotClaimed::Missing);
}

#[test]
fn a_row_whose_outcome_is_unknown_is_sent_again_on_a_persons_word_only() {
    let world = World::new();
    let client = world.client("a", 500);
    let batch = world.queued(client, 1);
    world.dispatch();
    let claimed = world.claim(1).remove(0);
    let failure = Failure { code: FailureCode::OutcomeUnknown, http_status: None, sealed: vec![1] };
    world.settle(&claimed, Ending::Failed(failure), true);
    assert_eq!(world.get(batch.batch).status, BatchStatus::Completed);
    let (id, claimant) = (claimed.row, world.claimant());
    let claim = |resend| world.store.write(move |tx| claims::claim_one(tx, id, claimant, resend)).expect("asked");
    assert_eq!(claim(false).unwrap_err(), NotClaimed::Finished(RowStatus::Failed));
    let resent = claim(true).expect("on a person's word");
    assert_eq!((&resent.sent, resent.attempts), (&None, 0));
    assert_eq!((world.get(batch.batch).status, world.get(batch.batch).counts.processing), (BatchStatus::Queued, 1));
    world.complete(&resent);
    assert_eq!((world.get(batch.batch).status, world.get(batch.batch).counts.completed), (BatchStatus::Completed, 1));
}

#[test]
fn waits_are_moved_with_the_clock_unless_they_were_noted_after_it_was_set() {
    let world = World::new();
    let client = world.client("acme", 100);
    let (one, other) = (world.queued(client, 4), world.queued(client, 4));
    world.dispatch();
    let claimed = world.claim(100);
    let hour = Duration::from_secs(3_600);
    for row in &claimed {
        // Two rows of each batch wait, the first of them briefly; two are held.
        match row.row.number() {
            1 => assert_eq!(world.release(row, Duration::from_secs(10), false), Held::Yes),
            2 => assert_eq!(world.release(row, Duration::from_secs(90), false), Held::Yes),
            _ => {}
        }
    }
    world.clock.set_wall(START.before(hour));
    let now = world.clock.now();
    let found = world.store.read(|c| waits::of_rows_beyond(c, now)).expect("read");
    assert_eq!(found.len(), 4);
    // Meanwhile one is claimed by a command, and given back by the new time.
    let again = RowId::new(one.batch, 2);
    let claimant = world.claimant();
    let by_hand =
        world.store.write(move |tx| claims::claim_one(tx, again, claimant, false)).expect("asked").expect("pending");
    assert_eq!(world.release(&by_hand, Duration::from_secs(300), false), Held::Yes);
    let moved = world.store.write(move |tx| waits::move_rows(tx, &found, hour)).expect("moved");
    assert_eq!(moved, 3);
    let mut left = world.store.read(|c| waits::of_rows_beyond(c, now)).expect("read");
    left.sort_unstable();
    let at = |batch: &Batch, row, seconds| (RowId::new(batch.batch, row), now.after(Duration::from_secs(seconds)));
    assert_eq!(left, [at(&one, 1, 10), at(&one, 2, 300), at(&other, 1, 10), at(&other, 2, 90)]);

    // The claims that are held last as long as claims can; nobody's are cut who has renewed since.
    let expired = |at| world.store.read(move |c| stuck::list(c, at, 100)).expect("read").0.len();
    assert_eq!(expired(now.after(TTL * 2)), 0, "they stand until an hour from now");
    assert_eq!(world.store.write(|tx| waits::cut_claims(tx, TTL)).expect("cut"), 4);
    assert_eq!((expired(now), expired(now.after(TTL))), (0, 4));
    assert_eq!(world.store.write(|tx| waits::cut_claims(tx, TTL)).expect("cut"), 0);
}

#[test]
fn counts_that_drifted_are_counted_anew_and_stop_nothing() {
    let world = World::new();
    let (acme, globex) = (world.client("acme", 500), world.client("globex", 500));
    let (batch, other) = (world.queued(acme, 6), world.queued(globex, 6));
    world.dispatch();
    let claimed = world.claim(12);
    assert_eq!(claimed.len(), 12);
    let mut of_batch = claimed.iter().filter(|row| row.row.batch() == batch.batch);
    // Each in a way that a settle runs into: below nothing, beyond the total, and a batch that ends with rows left over.
    for drift in ["processing = 0", "pending = 7", "pending = 2, processing = 4"] {
        let key = batch.batch;
        world
            .store
            .write(move |tx| {
                tx.connection.execute(&format!("UPDATE batches SET {drift} WHERE batch = ?"), [key])?;
                Ok(())
            })
            .expect("drifted");
        for row in of_batch.by_ref().take(2) {
            assert_eq!(world.complete(row), Held::Yes, "{drift}");
        }
        world.get(batch.batch);
    }
    let ended = world.get(batch.batch);
    assert_eq!((ended.status, ended.counts.completed, ended.counts.processing), (BatchStatus::Completed, 6, 0));
    let untouched = world.get(other.batch);
    assert_eq!((untouched.counts.processing, untouched.counts.completed), (6, 0), "the other batch is as it was");
}

#[test]
fn counts_that_look_right_and_are_not_are_found_and_mended() {
    let world = World::new();
    let (acme, globex) = (world.client("acme", 500), world.client("globex", 500));
    let (batch, other) = (world.queued(acme, 6), world.queued(globex, 6));
    let misfits = || world.store.read(|connection| counts::misfits(connection, 0, 100)).expect("looked");
    assert_eq!(misfits(), (vec![], Some(other.batch)));
    for drift in ["pending = 0, completed = 6", "pending = 5, failed = 1", "pending = 5, processing = 1"] {
        let key = batch.batch;
        world
            .store
            .write(move |tx| {
                tx.connection.execute(&format!("UPDATE batches SET {drift} WHERE batch = ?"), [key])?;
                Ok(())
            })
            .expect("drifted");
        assert_eq!(misfits().0, [batch.batch], "{drift}");
        world.store.write(move |tx| counts::mend(tx, key)).expect("mended");
        assert_eq!(misfits().0, [0; 0], "{drift}");
        assert_eq!(world.get(batch.batch).counts.pending, 6);
    }
    assert_eq!(world.dispatch(), [("acme".to_owned(), 6), ("globex".to_owned(), 6)]);
    assert_eq!(world.store.read(|connection| counts::misfits(connection, other.batch, 100)).expect("looked").1, None);
}
