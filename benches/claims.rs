//! What a claim of a hundred rows over fifty clients costs, whatever waits beside them: up to a million rows, ten thousand
//! clients and batches, batches behind a closed gate, rows in backoff. Each beside the plainest case, claim by claim in turn, so
//! that both see the same machine. Run with `cargo bench --bench claims`.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use dripfeed::{
    clock::Clock,
    dispatch::{
        hearing::{Hearing, Versions},
        ready::Openings,
    },
    model::{AskedBy, BatchId, ClaimOwner, Outline},
    store::{
        DatabaseSettings, Durability, Store, Tx,
        batches::{self, NewBatch},
        claims::{self, Claimant},
        client_keys, clients,
        extraction::{self, NewRow},
        grants,
        keys::{self, KeyProof, SealedSecret},
        settle::{self, Ending, Settle, Standing},
        uploads,
        workflows::{self, NewVersion},
    },
};

const CLIENTS: u32 = 50;
const ROWS_PER_CLAIM: usize = 100;
const CLAIMS: usize = 100;
const SEALED_BYTES: usize = 115;
/// Workflows whose API is open, and whose gate is closed.
const OPEN: i64 = 1;
const CLOSED: i64 = 2;

struct Steps;

impl Versions for Steps {
    fn dependencies(&self, version: i64) -> Option<Vec<String>> {
        Some(vec![if version == OPEN { "open" } else { "closed" }.to_owned(); 3])
    }
}

struct Gates;

impl Openings for Gates {
    fn take(&mut self, version: i64, _: u32, _: impl Fn(usize) -> usize) -> bool {
        version == OPEN
    }
}

/// What there is.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// Clients whose rows can start, and how many rows each of them has.
    ready: (u32, u32),
    /// Clients behind a closed gate, with a batch of ten rows each.
    closed: u32,
    /// Batches of one more client, each with a row in backoff.
    backoff: u32,
}

const PLAIN: Case = Case { name: "10,000 rows", ready: (CLIENTS, 400), closed: 0, backoff: 0 };

const CASES: [Case; 9] = [
    PLAIN,
    Case { name: "100,000 rows", ready: (CLIENTS, 2_000), ..PLAIN },
    Case { name: "1,000,000 rows", ready: (CLIENTS, 20_000), ..PLAIN },
    Case { name: "10 clients", ready: (10, 2_000), ..PLAIN },
    Case { name: "1,000 clients, all ready: 1 row of each of 100", ready: (1_000, 20), ..PLAIN },
    Case { name: "10,000 clients, all ready: 1 row of each of 100", ready: (10_000, 10), ..PLAIN },
    Case { name: "beside 1,000 clients behind a closed gate", closed: 1_000, ..PLAIN },
    Case { name: "beside 10,000 clients behind a closed gate", closed: 10_000, ..PLAIN },
    Case { name: "beside 8,000 batches with a row in backoff", backoff: 8_000, ..PLAIN },
];

fn main() {
    let mut plain = World::new(PLAIN);
    println!("{ROWS_PER_CLAIM} rows over {CLIENTS} clients: medians, beside those of 10,000 rows in the same minute");
    for case in CASES {
        let mut world = World::new(case);
        let (mut times, mut plain_times) = (Vec::new(), Vec::new());
        for _ in 0..CLAIMS {
            plain_times.push(plain.claim());
            times.push(world.claim());
        }
        let (median, of_plain) = (median(times), median(plain_times));
        let (began, kib) = (world.began, world.kib);
        println!("{:>48}: {median:?} beside {of_plain:?}; the index: {began:?} to make, {kib} KiB", case.name);
        plain.fill_up();
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Resident memory of this process in KiB (proc_pid_status(5)).
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or_default()
}

struct World {
    store: Store,
    owner: ClaimOwner,
    hearing: Hearing,
    began: Duration,
    /// What the process took more when the index was made.
    kib: u64,
    _folder: tempfile::TempDir,
}

impl World {
    fn new(case: Case) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = DatabaseSettings { synchronous: Durability::Normal, ..DatabaseSettings::default() };
        let store = Store::open(folder.path(), settings, Clock::machine()).expect("a database");
        let owner = ClaimOwner::random();
        let (ready, rows) = case.ready;
        for client in 0..ready {
            fill(&store, owner, client, 1, rows, OPEN);
        }
        for client in 0..case.closed {
            fill(&store, owner, 20_000 + client, 1, 10, CLOSED);
        }
        if case.backoff > 0 {
            fill(&store, owner, 50_000, case.backoff, 1, OPEN);
            put_down(&store, owner);
        }
        store.write(|tx| grants::run(tx, AskedBy::Call, 1_000_000, Duration::ZERO)).expect("a run");
        let (begun, before) = (Instant::now(), resident());
        let hearing = Hearing::begin(&store, &Steps).expect("an index");
        let (began, kib) = (begun.elapsed(), resident().saturating_sub(before));
        Self { began, kib, hearing, owner, store, _folder: folder }
    }

    /// As the feeder does it: hear what was changed, plan, claim, take in what came of it.
    fn claim(&mut self) -> Duration {
        let begun = Instant::now();
        self.hearing.hear(&self.store, &Steps).expect("heard");
        let mut wanted = self.hearing.index.plan(ROWS_PER_CLAIM, Clock::machine().now(), &mut Gates);
        wanted.iter_mut().for_each(|wanted| wanted.has_key = true);
        let expires_at = Clock::machine().now().after(Duration::from_secs(600));
        let (claimant, wishes) = (Claimant { owner: self.owner, expires_at }, wanted.clone());
        let taken = self.store.write(move |tx| claims::claim(tx, claimant, &wishes)).expect("claimed");
        let left: Vec<_> = taken.iter().map(|taken| taken.left).collect();
        self.hearing.taken(&self.store, &Steps, &wanted, &left).expect("taken");
        let took = begun.elapsed();
        assert_eq!(taken.iter().map(|taken| taken.rows.len()).sum::<usize>(), ROWS_PER_CLAIM);
        took
    }

    /// More rows for the next case.
    fn fill_up(&mut self) {
        for client in 0..CLIENTS {
            fill(&self.store, self.owner, client, 1, PLAIN.ready.1, OPEN);
        }
        self.store.write(|tx| grants::run(tx, AskedBy::Call, 1_000_000, Duration::ZERO)).expect("a run");
    }
}

/// Every row of the last client's batches was tried, and waits for an hour.
fn put_down(store: &Store, owner: ClaimOwner) {
    store.write(|tx| grants::run(tx, AskedBy::Call, 1_000_000, Duration::ZERO)).expect("a run");
    let last = store.read(|connection| client_keys::by_hash(connection, hash(50_000), Clock::machine().now()));
    let last = last.expect("read").expect("the last one").0.client;
    let mut hearing = Hearing::begin(store, &Steps).expect("an index");
    let mut wanted = hearing.index.plan(usize::MAX, Clock::machine().now(), &mut Gates);
    let of_last: HashSet<i64> = wanted
        .iter()
        .filter(|it| hearing.index.batch(it.batch).is_some_and(|it| it.client == last))
        .map(|it| it.batch)
        .collect();
    wanted.retain(|wanted| of_last.contains(&wanted.batch));
    for wanted in wanted.chunks(1_000) {
        let wanted = wanted.to_vec();
        let put_down = move |tx: &Tx<'_>| {
            let expires_at = tx.now.after(Duration::from_secs(600));
            let taken = claims::claim(tx, Claimant { owner, expires_at }, &wanted)?;
            let settles: Vec<Settle> = taken
                .into_iter()
                .flat_map(|taken| taken.rows)
                .map(|claimed| Settle {
                    row: claimed.row,
                    claim: claimed.claim,
                    version: claimed.version,
                    standing: Standing { attempts: 1, ..Standing::default() },
                    ending: Ending::Released {
                        next_attempt_at: tx.now.after(Duration::from_secs(3_600)),
                        failure: None,
                    },
                    spent: true,
                })
                .collect();
            settle::settle_all(tx, &settles).map(|held| held.len())
        };
        store.write(put_down).expect("put down");
    }
}

/// The versions of workflows that there are here.
fn version(tx: &Tx<'_>, version: i64) -> dripfeed::store::Result<i64> {
    keys::add_proof(tx, &KeyProof { key_id: "k1".into(), proof: vec![1] })?;
    for number in OPEN..=CLOSED {
        let new = NewVersion {
            name: number.to_string(),
            digest: [1; 32],
            outline: Outline { repeat_window_ms: 0, steps: Vec::new() },
            sealed: SealedSecret { key_id: "k1".into(), sealed: vec![1] },
        };
        assert_eq!(workflows::keep(tx, &new)?, number);
    }
    Ok(version)
}

fn hash(client: u32) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&client.to_be_bytes());
    hash
}

fn fill(store: &Store, owner: ClaimOwner, client: u32, batches: u32, rows: u32, of: i64) {
    store
        .write(move |tx| {
            clients::add(tx, &format!("client-{client}"), hash(client), None)?;
            let client = client_keys::by_hash(tx.connection, hash(client), tx.now)?.expect("there").0.client;
            for _ in 0..batches {
                let upload = uploads::begin(tx, BatchId::random(), owner)?;
                let new = NewBatch {
                    client,
                    workflow: "invite".into(),
                    workflow_version: version(tx, of)?,
                    data_key: SealedSecret { key_id: "k".into(), sealed: vec![0] },
                    details: vec![0],
                    object: upload.id.to_string(),
                    file_bytes: 1,
                    file_digest: [0; 32],
                    rows,
                    skipped: 0,
                    skipped_bytes: 0,
                };
                let batch = batches::create(tx, upload, &new)?.batch;
                let expires_at = tx.now.after(Duration::from_secs(600));
                extraction::claim(tx, batch, owner, expires_at)?;
                let data: Vec<_> =
                    (1..=rows).map(|row| NewRow { line: u64::from(row) + 1, data: vec![0; SEALED_BYTES] }).collect();
                extraction::write_rows(tx, batch, owner, expires_at, 1, &data)?;
                extraction::finish(tx, batch, owner)?;
            }
            Ok(())
        })
        .expect("filled");
}
