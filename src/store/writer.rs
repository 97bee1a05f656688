//! The one writer: a queue of operations, a transaction for as many as wait, and an answer only after its commit.
//!
//! Group commit is what makes full durability cheap: operations that arrive while one transaction is being synced to
//! disk share the next one. All but the first run inside a savepoint, so a failing one takes nothing of the others back, and
//! each hears "ok" only when the transaction is on disk.

use std::{
    cell::RefCell,
    collections::VecDeque,
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
    guests::Places,
    meter::{Meter, Transaction},
    stall::{self, Watch, Why},
};
use crate::{
    clock::Clock,
    crash_point::crash_point,
    heartbeat::{self, Heartbeats},
    model::Timestamp,
};

/// Operations that may wait; whoever brings one more waits for a place.
const QUEUE: usize = 1_024;
/// A transaction takes no further operation after this many, or after this long: those at its front want their answer.
const GROUP: usize = 256;
const GROUP_TIME: Duration = Duration::from_millis(20);

/// While operations come in company, a transaction begins so long after the last one at the earliest: what comes in
/// meanwhile shares its sync to disk, which costs more than what it syncs.
const PACE: Duration = Duration::from_micros(500);

/// How long the writer sleeps when nobody asks it for anything: each time it wakes is a sign of life.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// Where another process has locked the database, those whose time is up are answered together, and for this share of it
/// at least the writer waits for the next ones.
const SHARE_OF_WAIT: u32 = 10;

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
    /// When it was asked for.
    fn asked_at(&self) -> Instant;
    /// Runs it; whether to keep what it did.
    fn run(&mut self, tx: &Tx<'_>) -> bool;
    /// Whether it found no room on the disk.
    fn is_out_of_room(&self) -> bool;
    /// Tells whoever asked, once it is certain what became of it.
    fn answer(self: Box<Self>, committed: &Committed);
}

struct Asked<F, T> {
    is_between: bool,
    asked_at: Instant,
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

    fn asked_at(&self) -> Instant {
        self.asked_at
    }

    fn run(&mut self, tx: &Tx<'_>) -> bool {
        let result = self.work.take().map(|work| work(tx));
        let then = tx.after_commit.take();
        let result = result.map(|result| result.map(|value| (value, then)));
        let keep = matches!(result, Some(Ok(_)));
        self.result = result;
        keep
    }

    fn is_out_of_room(&self) -> bool {
        matches!(&self.result, Some(Err(error)) if matches!(error.cause(), StoreError::DiskFull))
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
    guests: Places,
}

impl Writer {
    pub(super) fn start(
        connection: Connection,
        clock: Clock,
        stall: Arc<Watch>,
        checkpointer: Checkpointer,
        busy_timeout: Duration,
        meter: Arc<dyn Meter>,
        hearts: &Heartbeats,
    ) -> Result<Self> {
        let (queue, operations) = sync_channel(QUEUE);
        let metered = meter.clone();
        // A database that somebody has locked stops no heart: it beats after each wait for it.
        let heart = hearts.register("writer", busy_timeout.saturating_add(heartbeat::LONGEST));
        let thread = std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || {
                heart.settle_in();
                let queue = Queue { operations, waiting: VecDeque::new(), busy_timeout };
                write_until_closed(&connection, &clock, queue, checkpointer, (&*metered, &stall));
            })
            .map_err(|source| StoreError::File { path: "writer thread".into(), source })?;
        Ok(Self { queue: Some(queue), thread: Some(thread), meter, guests: Places::default() })
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
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        let _place = self.guests.take()?;
        let (reply, answer) = sync_channel(1);
        let operation = Box::new(Asked { is_between, asked_at: Instant::now(), work: Some(work), result: None, reply });
        self.meter.asked();
        let sent = queue.send(operation).map_err(|_| StoreError::Closed);
        let answered = sent.and_then(|()| answer.recv().map_err(|_| StoreError::Closed));
        self.meter.answered();
        heartbeat::beat();
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

/// What is asked of the writer, in its order.
struct Queue {
    operations: Receiver<Box<dyn Operation>>,
    /// Taken from there, and not begun with.
    waiting: VecDeque<Box<dyn Operation>>,
    /// How long an operation waits for a database that another process has locked.
    busy_timeout: Duration,
}

impl Queue {
    /// What is to be done next, waited for no longer than `longest`.
    fn next(&mut self, longest: Option<Duration>) -> std::result::Result<Box<dyn Operation>, RecvTimeoutError> {
        let longest = longest.map_or(LONGEST_SLEEP, |longest| longest.min(LONGEST_SLEEP));
        self.waiting.pop_front().map_or_else(|| self.operations.recv_timeout(longest), Ok)
    }

    /// What is to be done next, if it is there and goes into a transaction.
    fn next_of_group(&mut self) -> Option<Box<dyn Operation>> {
        let next = self.waiting.pop_front().or_else(|| self.operations.try_recv().ok())?;
        if next.is_between() {
            self.waiting.push_front(next);
            return None;
        }
        Some(next)
    }

    /// How long this one, the first in line, still waits for the database.
    fn patience(&self, first: &dyn Operation) -> Duration {
        let left = self.busy_timeout.saturating_sub(first.asked_at().elapsed());
        left.max(self.busy_timeout / SHARE_OF_WAIT)
    }

    /// Those whose time is up. They waited in line, and none of them would be served better one after another.
    fn expired(&mut self) -> Vec<Box<dyn Operation>> {
        self.waiting.extend(self.operations.try_iter());
        let (expired, waiting) =
            self.waiting.drain(..).partition(|operation| operation.asked_at().elapsed() >= self.busy_timeout);
        self.waiting = waiting;
        Vec::from(expired as VecDeque<_>)
    }
}

fn write_until_closed(
    connection: &Connection,
    clock: &Clock,
    mut queue: Queue,
    mut checkpointer: Checkpointer,
    (meter, stall): (&dyn Meter, &Watch),
) {
    let (mut committed_at, mut had_company) = (Instant::now(), false);
    loop {
        heartbeat::beat();
        let first = match queue.next(checkpointer.next_look()) {
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
        stall.begins(clock.now());
        let written = write_group(connection, clock, stall, &mut queue, &mut group).map_err(Arc::new);
        let is_out_of_room = group.iter().any(|operation| operation.is_out_of_room());
        stall.ended(match &written {
            Err(error) => Some(stall::why(error, is_out_of_room)),
            Ok(_) => is_out_of_room.then_some(Why::DiskFull),
        });
        let (size, commit_took) = (group.len(), written.as_ref().ok().copied());
        meter.ended(Transaction { operations: size, took: begun.elapsed(), commit_took });
        let committed = written.map(drop);
        if let Err(error) = &committed {
            if matches!(**error, StoreError::Busy) {
                group.append(&mut queue.expired());
            }
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

/// What it does needs no commit.
fn run_between(connection: &Connection, clock: &Clock, mut operation: Box<dyn Operation>) {
    operation.run(&Tx::new(connection, clock.now()));
    operation.answer(&Ok(()));
}

/// Where an operation turns up that is to be run between transactions, the group ends. Returns how long the commit took.
fn write_group(
    connection: &Connection,
    clock: &Clock,
    stall: &Watch,
    queue: &mut Queue,
    group: &mut Vec<Box<dyn Operation>>,
) -> Result<Duration> {
    let begun = Instant::now();
    connection.busy_timeout(queue.patience(&*group[0]))?;
    let is_begun = run(connection, "BEGIN IMMEDIATE");
    connection.busy_timeout(queue.busy_timeout)?;
    is_begun?;
    stall.has_lock();
    let tx = Tx::new(connection, clock.now());
    let (mut next, mut is_empty) = (0, true);
    let written = loop {
        let Some(operation) = group.get_mut(next) else { break Ok(()) };
        let ran = if is_empty { first(&tx, operation.as_mut()) } else { in_savepoint(&tx, operation.as_mut()) };
        match ran {
            Ok(kept) => is_empty &= !kept,
            Err(error) => break Err(error),
        }
        next += 1;
        if next == group.len() && next < GROUP && begun.elapsed() < GROUP_TIME {
            group.extend(queue.next_of_group());
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

/// Runs an operation in a transaction that holds nothing yet, so that all of it can be rolled back where it fails: a savepoint
/// would have SQLite copy each page that it changes. Says whether what it did is kept.
fn first(tx: &Tx<'_>, operation: &mut dyn Operation) -> Result<bool> {
    if operation.run(tx) {
        return Ok(true);
    }
    if !tx.connection.is_autocommit() {
        run(tx.connection, "ROLLBACK")?;
    }
    run(tx.connection, "BEGIN IMMEDIATE")?;
    Ok(false)
}

/// Says whether what it did is kept. An error from here means that the whole transaction is lost, and not just the operation.
fn in_savepoint(tx: &Tx<'_>, operation: &mut dyn Operation) -> Result<bool> {
    run(tx.connection, "SAVEPOINT operation")?;
    let kept = operation.run(tx);
    if !kept {
        // After some faults (disk full, I/O) SQLite has already rolled back everything by itself.
        if tx.connection.is_autocommit() {
            return Err(StoreError::RolledBack);
        }
        run(tx.connection, "ROLLBACK TO operation")?;
    }
    run(tx.connection, "RELEASE operation")?;
    Ok(kept)
}

/// Runs a statement that is prepared once.
pub(super) fn run(connection: &Connection, sql: &str) -> Result<()> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}
