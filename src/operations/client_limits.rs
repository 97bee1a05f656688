//! What a client may: how many of its rows a run grants, which workflows it may use, how much it may have here. Over HTTP and by
//! command it is changed by the same rules.

use crate::{
    config::{Config, MOST_ROWS_PER_RUN, MOST_UPLOADS_AT_ONCE},
    model::{
        nearest,
        quota::{QuotaChanges, UPLOADS_AT_ONCE},
    },
    store::{
        Result, Tx,
        clients::{self, Client},
    },
};

/// What is changed of that; what is left out stays, and an inner `None` goes back to what is configured, or to all workflows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Rows that each dispatch run grants.
    pub rows_per_run: Option<Option<u32>>,
    /// The names of the workflows.
    pub workflows: Option<Option<Vec<String>>>,
    /// The quotas.
    pub quotas: QuotaChanges,
}

/// Why that cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitFault {
    /// A number is out of bounds.
    #[error("`{0}` is {1} to {2}")]
    Bounds(&'static str, u32, u32),
    /// A list that lets nothing through.
    #[error("name at least one workflow")]
    NoWorkflow,
    /// A workflow that is not configured.
    #[error("there is no workflow `{name}`{hint}")]
    Unknown {
        /// What was written.
        name: String,
        /// What was probably meant, as a question; or nothing.
        hint: String,
    },
}

impl Limits {
    /// Whether nothing is changed.
    pub fn are_left_out(&self) -> bool {
        *self == Self::default()
    }

    /// Whether this client has others.
    pub fn are_news_to(&self, client: &Client) -> bool {
        self.rows_per_run.is_some_and(|rows| rows != client.rows_per_run)
            || self.workflows.as_ref().is_some_and(|names| *names != client.workflows)
            || self.quotas.of(client.quotas) != client.quotas
    }

    /// Whether they can be.
    pub fn check(&self, config: &Config) -> std::result::Result<(), LimitFault> {
        if self.rows_per_run.flatten().is_some_and(|rows| rows > MOST_ROWS_PER_RUN) {
            return Err(LimitFault::Bounds("rows_per_run", 0, MOST_ROWS_PER_RUN));
        }
        let uploads = self.quotas.uploads_at_once.flatten();
        if uploads.is_some_and(|most| !(1..=MOST_UPLOADS_AT_ONCE).contains(&most)) {
            return Err(LimitFault::Bounds(UPLOADS_AT_ONCE, 1, MOST_UPLOADS_AT_ONCE));
        }
        let Some(Some(names)) = &self.workflows else { return Ok(()) };
        if names.is_empty() {
            return Err(LimitFault::NoWorkflow);
        }
        let unknown = names.iter().find(|name| !config.workflows.contains_key(name.as_str()));
        unknown.map_or(Ok(()), |name| {
            let meant = nearest(name, config.workflows.keys().map(String::as_str));
            let hint = meant.map_or_else(String::new, |meant| format!("; was `{meant}` meant?"));
            Err(LimitFault::Unknown { name: name.clone(), hint })
        })
    }

    /// Changes them; `false` where there is no such client.
    pub fn set(&self, tx: &Tx<'_>, client: &str, default_rows: u32) -> Result<bool> {
        if let Some(rows) = self.rows_per_run
            && !clients::set_rows_per_run(tx, client, rows, default_rows)?
        {
            return Ok(false);
        }
        if let Some(workflows) = &self.workflows
            && !clients::set_workflows(tx, client, workflows.as_deref())?
        {
            return Ok(false);
        }
        clients::set_quotas(tx, client, self.quotas)
    }

    /// What they are changed to, for the audit.
    pub fn told(&self) -> String {
        let mut told = Vec::new();
        if let Some(rows) = self.rows_per_run {
            told.push(rows.map_or_else(|| "rows a run as configured".to_owned(), |rows| format!("{rows} rows a run")));
        }
        if let Some(workflows) = &self.workflows {
            told.push(format!("workflows {}", workflows.as_ref().map_or_else(|| "all".to_owned(), |it| it.join(","))));
        }
        let most = |most: Option<u64>| most.map_or_else(|| "as configured".to_owned(), |most| most.to_string());
        told.extend(self.quotas.each().map(|(name, value)| format!("{name} {}", most(value))));
        told.join(", ")
    }
}
