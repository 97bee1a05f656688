//! `dripfeed audit`: who did what, when, from where and why.

use std::path::Path;

use clap::{Args, Subcommand};

use super::{error::CliError, open::open_store, output};
use crate::{
    clock::Clock,
    config::{Config, parse_duration},
    model::Timestamp,
    operations::views::audit::AuditList,
    store::{audit::Cursor, audit_chain::Verified, inspection::Inspection, pages::Most},
};

/// Who did what, newest first.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  dripfeed audit --since 24h\n  dripfeed audit --since 2026-08-06T07:00:00Z --json"
)]
pub struct Audit {
    #[command(subcommand)]
    command: Option<AuditCommand>,
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

/// The subcommands of `audit`.
#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Look whether the entries are as they were noted: none altered, taken out or put in. Exit status 1 where not
    Verify {
        /// A hash that the log told, or an earlier look: is its entry in the chain?
        #[arg(long, value_name = "HASH", value_parser = hash)]
        contains: Option<String>,
        #[arg(long)]
        json: bool,
    },
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

fn hash(text: &str) -> Result<String, String> {
    let is_hash = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash { Ok(text.to_ascii_lowercase()) } else { Err("is 64 hexadecimal digits".to_owned()) }
}

/// Looks at the file as it is: what is wrong with it must not be changed by looking.
fn verify(config: Option<&Path>, contains: Option<&str>, json: bool) -> Result<(), CliError> {
    let config = Config::load(config)?;
    let inspection = Inspection::open(&config.storage.data_dir)?
        .ok_or_else(|| CliError::Failed("there is no database yet, and so no audit".into()))?;
    let verified = inspection.audit(contains)?;
    if json {
        output::json(&verified)?;
    } else {
        let Verified { entries, removed, last, hash, faults, .. } = &verified;
        say!("{entries} entries, {} to {last}; {removed} went because they were old", removed + 1);
        say!("the newest has the hash {hash}");
        for fault in faults {
            say!("{fault}");
        }
    }
    match verified.contains {
        _ if !verified.faults.is_empty() => {
            let why = "the audit is not as it was noted: somebody changed the database by hand";
            Err(CliError::Failed(why.into()))
        }
        Some(false) => Err(CliError::Failed("no entry of the audit has that hash: it is another chain".into())),
        _ => Ok(()),
    }
}

impl Audit {
    pub(super) fn run(self, config: Option<&Path>) -> Result<(), CliError> {
        if let Some(AuditCommand::Verify { contains, json }) = self.command {
            return verify(config, contains.as_deref(), json);
        }
        let (_, store) = open_store(config)?;
        let since = match self.since {
            None => Timestamp(0),
            Some(Since::At(at)) => at,
            Some(Since::Ago(ago)) => Clock::machine().now().before(ago),
        };
        let list =
            AuditList::read(&store, self.after.unwrap_or(Cursor::START), since, Most::of_any_length(self.limit))?;
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
            say!("older entries: --after {next}");
        }
        Ok(())
    }
}
