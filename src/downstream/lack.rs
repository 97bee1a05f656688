//! What this machine lacks for one more connection. That is our own affair: it says nothing of the API, so that it neither is an
//! attempt nor closes a gate. Fewer requests are under way for a while, and what could not leave waits.
//!
//! Connections that are open can still be used, and what is needed for the rest of the process comes from the same store: so
//! that a quarter of those that were open is given up, and where there were none, nothing leaves until it is looked again.

use std::{fmt, io, time::Duration};

use rustix::io::Errno;

use super::{
    lane::Lane,
    permit::{Wait, WaitReason},
};

/// When it is looked again whether there is more.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What there is too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// Open files: of this process, or of the machine.
    Files,
    /// Memory for sockets.
    Memory,
    /// Ports of ours that lead there.
    Ports,
    /// Threads: one looks names up.
    Threads,
}

impl Lack {
    /// What was lacking where this came up, if that is what it is. `has_worked`: whether a connection was made there before; where
    /// none ever was, an address that is not available is the fault of the address.
    pub(super) fn of(error: &io::Error, has_worked: bool) -> Option<Self> {
        match error.raw_os_error().map(Errno::from_raw_os_error)? {
            Errno::MFILE | Errno::NFILE => Some(Self::Files),
            Errno::NOMEM | Errno::NOBUFS => Some(Self::Memory),
            Errno::ADDRNOTAVAIL if has_worked => Some(Self::Ports),
            _ => None,
        }
    }
}

/// With what to do about it.
impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "no more files may be open here: raise the limit of them (LimitNOFILE, ulimit -n)",
            Self::Memory => "this machine has no memory for another connection",
            Self::Ports => {
                "this machine has no free port for another connection: lower the rate, or widen \
                            net.ipv4.ip_local_port_range"
            }
            Self::Threads => {
                "no more threads may be started here: raise the limit of them (LimitNPROC, TasksMax, ulimit -u)"
            }
        })
    }
}

/// What a dependency's connections lack. A pure state machine: it is told the time.
#[derive(Debug, Default)]
pub(super) struct Lacking(Option<Known>);

#[derive(Debug, Clone, Copy)]
struct Known {
    lack: Lack,
    /// Steady time.
    until: i64,
    /// So many requests may be under way until then.
    most: u32,
}

impl Lacking {
    /// A request could not leave, beside so many others. Whether that is news, and until when fewer may be under way.
    fn note(&mut self, lack: Lack, others: u32, now: i64) -> (bool, i64) {
        let before = self.known(now);
        let until = now.saturating_add(LOOK_AGAIN.as_nanos() as i64);
        let most = before.map_or(u32::MAX, |before| before.most).min(others - others.div_ceil(4));
        self.0 = Some(Known { lack, until, most });
        (before.is_none_or(|before| before.lack != lack), until)
    }

    /// How many requests may be under way, where something is lacking.
    pub fn most_under_way(&self, now: i64) -> Option<u32> {
        self.known(now).map(|known| known.most)
    }

    /// What is lacking, and until when no request leaves, where none may.
    pub fn held(&self, now: i64) -> Option<(Lack, i64)> {
        self.known(now).filter(|known| known.most == 0).map(|known| (known.lack, known.until))
    }

    fn known(&self, now: i64) -> Option<Known> {
        self.0.filter(|known| known.until > now)
    }
}

impl Lane {
    /// A request under way could not leave. When to come back.
    pub(super) fn lacks(&self, lack: Lack) -> Wait {
        let now = self.now();
        let mut state = self.lock();
        let others = state.in_flight.saturating_sub(1);
        let (is_news, until) = state.lacking.note(lack, others, now.steady);
        drop(state);
        if is_news {
            let dependency = &self.settings.name;
            tracing::warn!(
                event = "connections.lacking",
                dependency,
                under_way = others,
                lack = %lack,
                "no further connection can be made for now; what could not leave is tried again"
            );
        }
        let left = Duration::from_nanos(u64::try_from(until - now.steady).unwrap_or_default());
        Wait { until: now.wall.after(left), why: WaitReason::Lack(lack) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn of(errno: Errno, has_worked: bool) -> Option<Lack> {
        Lack::of(&io::Error::from_raw_os_error(errno.raw_os_error()), has_worked)
    }

    #[test]
    fn what_this_machine_lacks_is_told_from_what_the_other_one_does() {
        assert_eq!([Errno::MFILE, Errno::NFILE].map(|errno| of(errno, false)), [Some(Lack::Files); 2]);
        assert_eq!([Errno::NOMEM, Errno::NOBUFS].map(|errno| of(errno, false)), [Some(Lack::Memory); 2]);
        assert_eq!([true, false].map(|worked| of(Errno::ADDRNOTAVAIL, worked)), [Some(Lack::Ports), None]);
        let theirs = [Errno::CONNREFUSED, Errno::CONNRESET, Errno::TIMEDOUT, Errno::NETUNREACH, Errno::HOSTUNREACH];
        assert!(theirs.iter().all(|errno| of(*errno, true).is_none()));
        assert_eq!(Lack::of(&io::Error::from(io::ErrorKind::AddrNotAvailable), true), None, "nobody's number");
    }

    #[test]
    fn fewer_are_under_way_for_a_while_and_none_where_none_were() {
        let mut lacking = Lacking::default();
        assert_eq!((lacking.most_under_way(0), lacking.held(0)), (None, None));
        assert_eq!(lacking.note(Lack::Files, 100, 0), (true, 2 * SECOND));
        assert_eq!((lacking.most_under_way(SECOND), lacking.held(SECOND)), (Some(75), None));
        assert_eq!(lacking.note(Lack::Files, 90, SECOND), (false, 3 * SECOND), "those that were on the way already");
        assert_eq!(lacking.most_under_way(2 * SECOND), Some(67));
        assert_eq!(lacking.most_under_way(3 * SECOND), None, "it is looked again");
        assert!(lacking.note(Lack::Ports, 1, 9 * SECOND).0);
        assert_eq!(lacking.held(10 * SECOND), Some((Lack::Ports, 11 * SECOND)));
        assert_eq!(lacking.held(11 * SECOND), None);
    }
}
