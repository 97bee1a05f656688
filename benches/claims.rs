//! What a claim of a hundred rows costs when ten thousand, a hundred thousand and a million rows wait, over fifty
//! clients. Run with `cargo bench --bench claims`.

use std::time::{Duration, Instant};

use dripfeed::{
    clock::Clock,
    model::{AskedBy, BatchId, ClaimOwner, Outline, workflow::Repeat},
    store::{
        DatabaseSettings, Durability, Store, Tx,
        batches::{self, NewBatch},
        claims::{self, Claimant, Openings},
        clients,
        extraction::{self, NewRow},
        grants,
        keys::{self, KeyProof, SealedSecret},
        uploads,
        workflows::{self, NewVersion},
    },
};

const CLIENTS: u32 = 50;
const ROWS_PER_CLAIM: usize = 100;
const CLAIMS: u32 = 100;
const SEALED_BYTES: usize = 115;

struct AllOpen;

impl Openings for AllOpen {
    fn steps(&self, _: i64) -> u32 {
        3
    }
    fn repeat(&self, _: i64, _: u32) -> Repeat {
        Repeat::IdempotencyKey
    }
    fn room(&self, _: i64, _: u32) -> usize {
        usize::MAX
    }
    fn take(&mut self, _: i64, _: u32, _: usize) {}
}

fn main() {
    for pending in [10_000, 100_000, 1_000_000] {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = DatabaseSettings { synchronous: Durability::Normal, ..DatabaseSettings::default() };
        let store = Store::open(folder.path(), settings, Clock::machine()).expect("a database");
        let owner = ClaimOwner::random();
        for client in 1..=CLIENTS {
            fill(&store, owner, client, pending / CLIENTS);
        }
        store.write(|tx| grants::run(tx, AskedBy::Call, 1_000_000, Duration::ZERO)).expect("a run");
        let claimant = Claimant { owner, expires_at: Clock::machine().now().after(Duration::from_secs(600)) };
        let mut last_client = 0;
        let mut times: Vec<Duration> = (0..CLAIMS)
            .map(|_| {
                let begun = Instant::now();
                let after = last_client;
                let claim =
                    store.write(move |tx| claims::claim_rows(tx, claimant, ROWS_PER_CLAIM, after, &mut AllOpen));
                let (rows, last) = claim.expect("claimed");
                assert_eq!(rows.len(), ROWS_PER_CLAIM);
                last_client = last;
                begun.elapsed()
            })
            .collect();
        times.sort();
        println!("{pending:>9} rows pending: median {:?} for {ROWS_PER_CLAIM} rows", times[times.len() / 2]);
    }
}

/// The one version of a workflow that there is here.
fn version(tx: &Tx<'_>) -> dripfeed::store::Result<i64> {
    keys::add_proof(tx, &KeyProof { key_id: "k1".into(), proof: vec![1] })?;
    workflows::keep(
        tx,
        &NewVersion {
            name: "invite".into(),
            digest: [1; 32],
            outline: Outline { repeat_window_ms: 0, steps: Vec::new() },
            sealed: SealedSecret { key_id: "k1".into(), sealed: vec![1] },
        },
    )
}

fn fill(store: &Store, owner: ClaimOwner, client: u32, rows: u32) {
    store
        .write(move |tx| {
            clients::add(tx, &format!("client-{client}"), [client as u8; 32], None)?;
            let client = clients::by_key_hash(tx.connection, [client as u8; 32], tx.now)?.expect("just added").client;
            let upload = uploads::begin(tx, BatchId::random(), owner)?;
            let new = NewBatch {
                client,
                workflow: "invite".into(),
                workflow_version: version(tx)?,
                data_key: SealedSecret { key_id: "k".into(), sealed: vec![0] },
                details: vec![0],
                object: upload.id.to_string(),
                file_bytes: 1,
                file_sha256: [0; 32],
                rows,
                skipped: 0,
            };
            let batch = batches::create(tx, upload, &new)?.batch;
            let expires_at = tx.now.after(Duration::from_secs(600));
            extraction::claim(tx, batch, owner, expires_at)?;
            let data: Vec<_> =
                (1..=rows).map(|row| NewRow { line: u64::from(row) + 1, data: vec![0; SEALED_BYTES] }).collect();
            extraction::write_rows(tx, batch, owner, expires_at, 1, &data)?;
            extraction::finish(tx, batch, owner)
        })
        .expect("filled");
}
