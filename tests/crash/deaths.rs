//! When and where the server dies, and how often it did.

use std::{collections::BTreeMap, fmt, os::unix::process::ExitStatusExt, time::Duration};

use rand::{Rng, RngExt, seq::SliceRandom};

use crate::{
    support::app::{App, DEADLINE},
    uploader::Door,
};

/// The named points, and how often at most each is passed before it kills. A round's own file passes an upload's and an
/// extraction's point once; its hundred rows pass the others at least so often.
const POINTS: [(&str, u32); 12] = [
    ("upload.stored", 0),
    ("upload.committed", 0),
    ("extract.claimed", 0),
    ("extract.between_chunks", 0),
    ("extract.written", 0),
    ("rows.claimed", 5),
    ("rows.noting", 5),
    ("request.leaving", 60),
    ("request.ended", 60),
    ("rows.settling", 5),
    ("writer.written", 30),
    ("writer.committed", 30),
];
/// A start takes about so long: kills within it find the server opening, rescuing or clearing away.
const LONGEST_START: Duration = Duration::from_millis(400);
/// In this time a file is uploaded and extracted, and its rows are on their way.
const LONGEST_LIFE: Duration = Duration::from_millis(1_500);
const SIGKILL: i32 = 9;

/// How a server dies.
#[derive(Debug, Clone, Copy)]
pub enum Death {
    /// By itself, when it has passed a point so often.
    At { point: &'static str, passes: u32 },
    /// Killed so long after its launch, whether it listens or not.
    Starting { after: Duration },
    /// Killed so long after it began to listen.
    Serving { after: Duration },
}

/// Every point once a cycle, and as many random moments; in random order.
pub fn plan(cycles: u32, random: &mut impl Rng) -> Vec<Death> {
    let mut deaths = Vec::new();
    for _ in 0..cycles {
        let from = deaths.len();
        for (number, (point, most)) in POINTS.into_iter().enumerate() {
            deaths.push(Death::At { point, passes: random.random_range(0..=most) });
            deaths.push(match number % 3 {
                0 => Death::Starting { after: LONGEST_START.mul_f64(random.random()) },
                _ => Death::Serving { after: LONGEST_LIFE.mul_f64(random.random()) },
            });
        }
        deaths[from..].shuffle(random);
    }
    deaths
}

impl Death {
    /// A server's life, from its launch to this death.
    pub fn come_over(self, app: &mut App, door: &Door) {
        match self {
            Self::At { point, passes } => {
                app.launch(&[("FAILPOINTS", &format!("{point}={passes}*off->return"))]);
                if app.listens() {
                    door.open(&app.url(""));
                }
                let ended = app.ends_within(DEADLINE).unwrap_or_else(|| panic!("{point} was not reached"));
                assert_eq!(ended.signal(), Some(SIGKILL), "at {point} it ended otherwise:\n{}", app.log());
            }
            Self::Starting { after } => {
                app.launch(&[]);
                survives(app, after);
            }
            Self::Serving { after } => {
                app.serve();
                door.open(&app.url(""));
                survives(app, after);
            }
        }
        door.close();
        app.kill();
    }
}

fn survives(app: &mut App, moment: Duration) {
    let ended = app.ends_within(moment);
    assert!(ended.is_none(), "it ended by itself: {ended:?}\n{}", app.log());
}

/// How many servers died how.
#[derive(Default)]
pub struct Toll(BTreeMap<&'static str, u32>);

impl Toll {
    pub fn count(&mut self, death: Death) {
        let name = match death {
            Death::At { point, .. } => point,
            Death::Starting { .. } => "while it started",
            Death::Serving { .. } => "while it served",
        };
        *self.0.entry(name).or_default() += 1;
    }

    pub fn deaths(&self) -> u32 {
        self.0.values().sum()
    }

    /// A point that no server died at would be a hole in this test.
    pub fn assert_every_point_was_hit(&self) {
        let missed: Vec<_> = POINTS.iter().filter(|(point, _)| !self.0.contains_key(point)).collect();
        assert!(missed.is_empty(), "no server died at {missed:?}");
    }
}

impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let deaths = self.0.iter().map(|(place, times)| format!("{times} {place}"));
        write!(f, "{} deaths: {}", self.deaths(), deaths.collect::<Vec<_>>().join(", "))
    }
}
