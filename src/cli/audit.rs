//! `dripfeed audit`: who did what, when, from where and why.

use std::path::Path;

use clap::Args;

use super::{error::CliError, open::open_store, output};
use crate::{clock::Clock, config::parse_duration, http::audit::AuditList, model::Timestamp, store::audit::Cursor};

/// Who did what, newest first.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  dripfeed audit --since 24h\n  dripfeed audit --since 2026-08-06T07:00:00Z --json")]
pub struct Audit {
    /// Leave out what is older: a time (RFC 3339), or a duration like 24h
    #[arg(long, value_name = "T", value_parser = since)]
    since: Option<Since>,
    /// Entries at most
    #[arg(long, default_value_t = 1_000)]
    limit: u32,
    /// The `next` of an earlier page
    #[arg(long, value_name = "CURSOR", value_parser = cursor)]
    after: Option<Cursor>,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy)]
enum Since {
    At(Timestamp),
    Ago(std::time::Duration),
}

fn since(text: &str) -> Result<Since, String> {
    let ago = || parse_duration(text).map(Since::Ago);
    let wrong = |_| "is a time like 2026-08-06T07:00:00Z, or a duration like 24h".to_owned();
    text.parse().map(Since::At).or_else(|()| ago()).map_err(wrong)
}

fn cursor(text: &str) -> Result<Cursor, String> {
    text.parse().map_err(|()| "is the `next` of an earlier page".to_owned())
}

impl Audit {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        let (_, store) = open_store(config)?;
        let since = match self.since {
            None => Timestamp(0),
            Some(Since::At(at)) => at,
            Some(Since::Ago(ago)) => Clock::machine().now().before(ago),
        };
        let list = AuditList::read(&store, self.after.unwrap_or(Cursor::START), since, self.limit)?;
        if self.json {
            return output::json(&list);
        }
        let told = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let rows = list.entries.into_iter().map(|entry| {
            vec![
                entry.at.to_string(),
                entry.who,
                entry.action,
                told(entry.target),
                entry.origin,
                // A reason may have been typed on several lines, or be made to look like another entry.
                told(entry.why).chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
            ]
        });
        output::table(&["AT", "WHO", "ACTION", "TARGET", "FROM", "WHY"], &rows.collect::<Vec<_>>());
        if let Some(next) = list.next {
            println!("older entries: --after {next}");
        }
        Ok(())
    }
}
