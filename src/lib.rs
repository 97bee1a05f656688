//! dripfeed: a client uploads a CSV of up to a million rows; every row goes through a chain of HTTP calls to APIs that
//! are rate-limited; nothing is lost, nothing is done twice, no API is flooded, and everybody can see what happened.
//!
//! # The house
//! ```text
//!              POST a CSV                        POST /ops/v1/dispatch, or the built-in clock
//!                  │                                            │
//!   http ──────────┼───────────────────────────────┐            │
//!                  ▼                               │            ▼
//!   upload ── intake: every row checked            │      dispatch::run: each client's grant
//!      │        │                                  │            │
//!      │        └─ crypto: sealed ─► objects       │      dispatch::feeder: claims just in time
//!      ▼                              │            │            │
//!   batch `pending`                   ▼            │            ▼
//!      └──────────► extract: stored file ─► rows ──┼────► work: a row through its steps ──► downstream: permit,
//!                                                  │            │                           call, what it means
//!                                                  ▼            ▼
//!   store ═════════════ one writer, group commit, a pool of readers: the only place with SQL ═══════════════
//! ```
//!
//! # A row's way
//! 1. [`http`] takes the upload and streams it through [`upload`]: [`intake`] checks header and rows in one pass while
//!    [`crypto`] seals the bytes into [`objects`]. Only a file that is whole, valid and stored becomes a batch: `pending`.
//! 2. [`extract`] claims the batch (`processing`), reads the stored file, seals each record under the batch's data key
//!    and writes `pending` rows; with the last one the batch is `queued`.
//! 3. A [`dispatch`] run grants every client its rows. The feeder claims them (`pending` -> `processing`) as the
//!    dependencies can take them, by an index in memory of what could start, in turn over clients.
//! 4. [`work`] walks the row through the steps of its workflow. [`downstream`] gives a permit for each request, makes it
//!    and says what the answer means. The claim ends in one settle: `completed`, `failed`, or `pending` for later.
//!    All rows under way share one thread; where they wait they hold none. Settles are written by another one, many in a
//!    transaction, and so is what has to be on disk before a request leaves.
//! 5. The transaction that ends a batch's last unfinished row makes the batch `completed`.
//!
//! # The map, in reading order
//! | room | is |
//! |---|---|
//! | [`model`] | the nouns and their rules; no I/O |
//! | [`clock`], [`bell`], [`closing`] | what time it is; how threads wake each other; how they end |
//! | [`crash_point`] | where a test can let the process die |
//! | [`panics`], [`heartbeat`] | a thread that panics ends the process; one that hangs is seen |
//! | [`private`] | what nobody else on the machine may open |
//! | [`descriptors`] | how the files that may be open are shared out |
//! | [`template`] | strict templates |
//! | [`config`] | the configuration, and the only reader of the environment |
//! | [`tls`] | what our own listeners show where they speak TLS |
//! | [`crypto`], [`keys`] | sealing: knows bytes, not rows; whether the keys fit the database |
//! | [`objects`] | stored files: a folder or a bucket |
//! | [`store`] | the database: one file a table |
//! | [`room`] | what is kept back of the disk, and for whom |
//! | [`intake`], [`upload`] | a CSV's bytes to a verdict; a body to a batch |
//! | [`extract`] | a stored file to rows |
//! | [`dispatch`] | grants, what is ready to be claimed, claims, rescue; what a batch waits for, and until when |
//! | [`downstream`] | one HTTP call: template, permit, gate, answer |
//! | [`work`] | a row through its steps |
//! | [`chores`] | what takes effect at once and is carried out piece by piece |
//! | [`announce`] | a finished batch to its client's webhook |
//! | [`retention`] | what goes by itself when it is old |
//! | [`telemetry`] | logs, traces, metrics, alerts |
//! | [`appliance`] | what all of these share in one process |
//! | [`manual`] | the documentation, in the binary |
//! | [`results`] | a batch as a CSV again |
//! | [`backup`] | the whole of it to another place, and back |
//! | [`operations`] | what people do, each once: a transaction, its entry in the audit, its event; and what both doors show |
//! | [`access`], [`oidc`], [`http`] | keys and tokens; people whom a provider knows; the API |
//! | [`cli`] | one file a command |
//! | [`simulator`] | a downstream for demos and tests |
//! | `fuzzing` | what strangers' bytes go into first, for a fuzzer; in no release |
//!
//! # Invariants
//! - A caller hears "ok" only after the commit.
//! - No network call is made while the writer is held, and no transaction waits for a file.
//! - Below [`crypto`] there is no plaintext of a row, and none in a log line or an error message.
//! - Every change of a status goes through its transition function, is guarded in its `WHERE`, and the rows that it
//!   changed are checked.
//! - A claim belongs to a random owner per start of a process, and every write that ends it asks for that owner.
//! - Rows under way, from the claim until the settle is on disk, are never more than `workers.under_way`.
//! - Before a request leaves that is not safe to repeat, everything it was built from is on disk.
//! - Every request takes a permit: a slot of the rate, a place among those under way, an open gate; all or none.
//! - Counts are for showing. That a batch is completed is decided from its rows.
//! - No statement on a request counts, sorts or loads a batch's rows; what a call costs does not depend on their number.
//! - Every queue, body, page, retry and wait has a limit with a name.
//! - Uploads and extraction leave a reserve of the disk, and dispatch the last part of it; what settles, grants, frees or
//!   deletes asks nobody for room.
//! - What a client can have stored counts in its quota, whichever way it comes.
//! - The write-ahead log has a limit too: behind it reads wait for an instant, so that it can be cut.
//! - One transaction has one `now`.
//! - [`model`] imports nothing of ours; [`downstream`] never sees [`store`]; [`http`] sees no SQL and makes no calls; SQL
//!   stands in [`store`] alone, the wall clock in [`clock`], the environment in [`config`]. `tests/house.rs` holds this.

pub mod access;
pub mod announce;
pub mod appliance;
pub mod backup;
pub mod bell;
pub mod chores;
pub mod cli;
pub mod clock;
pub mod closing;
pub mod config;
pub mod crash_point;
pub mod crypto;
pub mod descriptors;
pub mod dispatch;
pub mod downstream;
pub mod extract;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod heartbeat;
pub mod http;
pub mod intake;
pub mod keys;
pub mod manual;
pub mod model;
pub mod objects;
pub mod oidc;
pub mod operations;
pub mod panics;
pub mod private;
pub mod results;
pub mod retention;
pub mod room;
pub mod simulator;
pub mod store;
pub mod telemetry;
pub mod template;
pub mod tls;
pub mod upload;
pub mod work;
