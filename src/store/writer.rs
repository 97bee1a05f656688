//! The one writer: a queue of operations, a transaction for as many as wait, and an answer only after its commit.
//!
//! Group commit is what makes full durability cheap: operations that arrive while one transaction is being synced to
//! disk share the next one. Each runs inside a savepoint, so a failing one takes nothing of the others back, and each
//! hears "ok" only when the transaction is on disk.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use super::{
    checkpoint::Checkpointer,
    error::{Result, StoreError},
    meter::{Meter, Transaction},
};
use crate::{clock::Clock, crash_point::crash_point, model::Timestamp};

/// Operations that may wait; whoever brings one more waits for a place.
const QUEUE: usize = 1_024;
/// A transaction takes no further operation after this many, or after this long: those at its front want their answer.
const GROUP: usize = 256;
const GROUP_TIME: Duration = Duration::from_millis(20);

/// While operations come in company, a transaction begins so long after the last one at the earliest: what comes in
/// meanwhile shares its sync to disk, which costs more than what it syncs.
const PACE: Duration = Duration::from_micros(500);

/// A write transaction, as an operation sees it.
pub struct Tx<'a> {
    /// For the functions of the store that read.
    pub connection: &'a Connection,
    /// The one point in time of everything in this transaction.
    pub now: Timestamp,
    /// What the operation that runs wants done once it is on disk.
    after_commit: RefCell<Vec<AfterCommit>>,
}

/// Something that must not happen before the commit, nor without it: telling the log, ringing a bell.
type AfterCommit = Box<dyn FnOnce() + Send>;

impl<'a> Tx<'a> {
    fn new(connection: &'a Connection, now: Timestamp) -> Self {
        Self { connection, now, after_commit: RefCell::default() }
    }

    /// Has something done after the commit, by whoever asked for the operation and on their thread; never if the
    /// operation fails.
    pub fn after_commit(&self, then: impl FnOnce() + Send + 'static) {
        self.after_commit.borrow_mut().push(Box::new(then));
    }
}

/// What became of a transaction, for all that were in it.
type Committed = std::result::Result<(), Arc<StoreError>>;

/// An operation with its answer, whatever type that has.
trait Operation: Send {
    /// Whether it is run between transactions and not in one.
    fn is_between(&self) -> bool;
    /// Runs it; whether to keep what it did.
    fn run(&mut self, tx: &Tx<'_>) -> bool;
    /// Tells whoever asked, once it is certain what became of it.
    fn answer(self: Box<Self>, committed: &Committed);
}

struct Asked<F, T> {
    is_between: bool,
    work: Option<F>,
    result: Option<Result<Done<T>>>,
    reply: SyncSender<Result<Done<T>>>,
}

/// What an operation gave, and what is to be done once it is on disk.
type Done<T> = (T, Vec<AfterCommit>);

impl<F, T> Operation for Asked<F, T>
where
    F: FnOnce(&Tx<'_>) -> Result<T> + Send,
    T: Send,
{
    fn is_between(&self) -> bool {
        self.is_between
    }

    fn run(&mut self, tx: &Tx<'_>) -> bool {
        let result = self.work.take().map(|work| work(tx));
        let then = tx.after_commit.take();
        let result = result.map(|result| result.map(|value| (value, then)));
        let keep = matches!(result, Some(Ok(_)));
        self.result = result;
        keep
    }

    fn answer(self: Box<Self>, committed: &Committed) {
        let result = match (self.result, committed) {
            (Some(Ok(value)), Ok(())) => Ok(value),
            (Some(Err(error)), _) => Err(error),
            (_, Err(cause)) => Err(StoreError::Commit(cause.clone())),
            (None, Ok(())) => Err(StoreError::Closed),
        };
        // Whoever asked may have gone away; what was committed stays committed.
        let _ = self.reply.send(result);
    }
}

/// The queue's other end. Dropping it lets the writer finish what waits, and end.
pub(super) struct Writer {
    queue: Option<SyncSender<Box<dyn Operation>>>,
    thread: Option<JoinHandle<()>>,
    meter: Arc<dyn Meter>,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        clock: Clock,
        checkpointer: Checkpointer,
        meter: Arc<dyn Meter>,
    ) -> Result<Self> {
        let (queue, operations) = sync_channel(QUEUE);
        let metered = meter.clone();
        let thread = std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || write_until_closed(&connection, &clock, &operations, checkpointer, &*metered))
            .map_err(|source| StoreError::File { path: "writer thread".into(), source })?;
        Ok(Self { queue: Some(queue), thread: Some(thread), meter })
    }

    /// Runs `work` in a write transaction and waits for its commit.
    pub(super) fn write<T, F>(&self, work: F) -> Result<T>
    where
        F: FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.ask(false, work)
    }

    /// Runs `work` on the writer's connection while no transaction is open.
    pub(super) fn between_transactions<T, F>(&self, work: F) -> Result<T>
    where
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.ask(true, move |tx: &Tx<'_>| work(tx.connection))
    }

    fn ask<T, F>(&self, is_between: bool, work: F) -> Result<T>
    where
        F: FnOnce(&Tx<'_>) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = sync_channel(1);
        let operation = Box::new(Asked { is_between, work: Some(work), result: None, reply });
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        self.meter.asked();
        let sent = queue.send(operation).map_err(|_| StoreError::Closed);
        let answered = sent.and_then(|()| answer.recv().map_err(|_| StoreError::Closed));
        self.meter.answered();
        let (value, then) = answered??;
        then.into_iter().for_each(|then| then());
        Ok(value)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the writer was already told by the panic hook.
            let _ = thread.join();
        }
    }
}

fn write_until_closed(
    connection: &Connection,
    clock: &Clock,
    operations: &Receiver<Box<dyn Operation>>,
    mut checkpointer: Checkpointer,
    meter: &dyn Meter,
) {
    let (mut committed_at, mut had_company) = (Instant::now(), false);
    let mut between = None;
    loop {
        let next = between.take().map_or_else(|| next_of(operations, checkpointer.next_look()), Ok);
        let first = match next {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => {
                checkpointer.look(connection, clock.now());
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if first.is_between() {
            run_between(connection, clock, first);
            continue;
        }
        if had_company {
            std::thread::sleep(PACE.saturating_sub(committed_at.elapsed()));
        }
        let mut group = vec![first];
        let begun = Instant::now();
        let written = write_group(connection, clock, operations, &mut group, &mut between).map_err(Arc::new);
        let (size, commit_took) = (group.len(), written.as_ref().ok().copied());
        meter.ended(Transaction { operations: size, took: begun.elapsed(), commit_took });
        let committed = written.map(drop);
        if let Err(error) = &committed {
            tracing::error!(
                event = "store.rolled_back",
                operations = group.len(),
                %error,
                "a group of writes was rolled back"
            );
        }
        (committed_at, had_company) = (Instant::now(), group.len() > 1);
        for operation in group {
            operation.answer(&committed);
        }
        // Nobody waits for this but who comes next.
        if committed.is_err() {
            checkpointer.make_room(connection);
        }
        checkpointer.look(connection, clock.now());
    }
}

/// What is to be done next, waited for no longer than `longest`.
fn next_of(
    operations: &Receiver<Box<dyn Operation>>,
    longest: Option<Duration>,
) -> std::result::Result<Box<dyn Operation>, RecvTimeoutError> {
    match longest {
        None => operations.recv().map_err(|_| RecvTimeoutError::Disconnected),
        Some(longest) => operations.recv_timeout(longest),
    }
}

/// What it does needs no commit.
fn run_between(connection: &Connection, clock: &Clock, mut operation: Box<dyn Operation>) {
    operation.run(&Tx::new(connection, clock.now()));
    operation.answer(&Ok(()));
}

/// Where an operation turns up that is to be run between transactions, the group ends, and it is handed back. Returns how
/// long the commit took.
fn write_group(
    connection: &Connection,
    clock: &Clock,
    operations: &Receiver<Box<dyn Operation>>,
    group: &mut Vec<Box<dyn Operation>>,
    between: &mut Option<Box<dyn Operation>>,
) -> Result<Duration> {
    let begun = Instant::now();
    run(connection, "BEGIN IMMEDIATE")?;
    let tx = Tx::new(connection, clock.now());
    let mut next = 0;
    let written = loop {
        let Some(operation) = group.get_mut(next) else { break Ok(()) };
        if let Err(error) = in_savepoint(&tx, operation.as_mut()) {
            break Err(error);
        }
        next += 1;
        if next == group.len() && next < GROUP && begun.elapsed() < GROUP_TIME && between.is_none() {
            match operations.try_recv() {
                Ok(operation) if operation.is_between() => *between = Some(operation),
                waiting => group.extend(waiting),
            }
        }
    };
    crash_point("writer.written");
    let commits_at = Instant::now();
    match written.and_then(|()| run(connection, "COMMIT")) {
        Ok(()) => {
            let took = commits_at.elapsed();
            crash_point("writer.committed");
            Ok(took)
        }
        Err(error) => {
            if !connection.is_autocommit() {
                run(connection, "ROLLBACK")?;
            }
            Err(error)
        }
    }
}

/// An error from here means that the whole transaction is lost, and not just the operation.
fn in_savepoint(tx: &Tx<'_>, operation: &mut dyn Operation) -> Result<()> {
    run(tx.connection, "SAVEPOINT operation")?;
    if !operation.run(tx) {
        // After some faults (disk full, I/O) SQLite has already rolled back everything by itself.
        if tx.connection.is_autocommit() {
            return Err(StoreError::RolledBack);
        }
        run(tx.connection, "ROLLBACK TO operation")?;
    }
    run(tx.connection, "RELEASE operation")
}

fn run(connection: &Connection, sql: &str) -> Result<()> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}
