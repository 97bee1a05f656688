//! `dripfeed docs`: the documentation of this very version, without a network.

use clap::Args;

use super::{error::CliError, output};
use crate::manual::{self, TOPICS};

/// Read the documentation of this version
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  dripfeed docs\n  dripfeed docs operating | less\n  dripfeed docs configuration | grep rate_per_second"
)]
pub struct Docs {
    /// The page; without one, a list of them
    topic: Option<String>,
}

impl Docs {
    pub(super) fn run(self) -> Result<(), CliError> {
        let Some(name) = self.topic else {
            let rows: Vec<_> = TOPICS.iter().map(|topic| vec![topic.name.to_owned(), topic.about.to_owned()]).collect();
            output::table(&["TOPIC", "IS ABOUT"], &rows);
            return Ok(());
        };
        let names = || TOPICS.iter().map(|topic| topic.name).collect::<Vec<_>>().join(", ");
        let topic = manual::find(&name)
            .ok_or_else(|| CliError::Unusable(format!("there is no page `{name}`; there are {}", names())))?;
        output::text(topic.text);
        Ok(())
    }
}
