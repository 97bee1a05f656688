//! Named moments at which a test can let the whole process die.
//!
//! They stand where a crash would hurt most: between something that happened and the note of it. Without the feature
//! `failpoints` a point is nothing, and no release has it. With it, the variable `FAILPOINTS` says which point kills
//! and when, e.g. `writer.committed=20*off->return`: the 21st time that it is passed.

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!("a release has no points at which it dies on demand: build it without the feature `failpoints`");

/// The process ends here, as by a power cut, if a test asked for it.
#[cfg(feature = "failpoints")]
pub fn crash_point(name: &str) {
    fail::fail_point!(name, |_| die());
}

/// Nothing: only a build for tests can die on demand.
#[cfg(not(feature = "failpoints"))]
pub fn crash_point(_name: &str) {}

/// Whether a test asked for something to be otherwise than it is.
#[cfg(feature = "failpoints")]
pub fn is_asked_for(name: &str) -> bool {
    fail::eval(name, |_| ()).is_some()
}

/// Never: only a build for tests can be told.
#[cfg(not(feature = "failpoints"))]
pub fn is_asked_for(_name: &str) -> bool {
    false
}

/// SIGKILL, so that nothing is flushed, dropped or said on the way.
#[cfg(feature = "failpoints")]
fn die() {
    // A signal that could not be sent leaves the process alive, and the test says that it did not die.
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    loop {
        std::thread::park();
    }
}
