//! The configuration: one file a group of sections, and the only reader of the environment.
//!
//! Every fault is reported at once, each with the path of its key; an unknown key is a fault. What is loaded is
//! checked: nobody behind this has to ask again whether a rate is above zero or a step's dependency exists.

mod alerts;
mod backup;
mod dependencies;
mod network;
mod reader;
mod retention;
mod secret;
mod server;
mod show;
mod units;
mod work;
mod workflows;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    rc::Rc,
};

pub use alerts::{Alerts, Hook, HookFormat};
pub use backup::Backup;
pub use network::Network;
use reader::Section;
pub use reader::{Env, Fault};
pub use retention::Retention;
pub use secret::Secret;
pub use server::{Access, Encryption, Limits, Log, Objects, Server, Storage};
pub use show::show;
use toml::{Table, Value};
pub use units::{parse_duration, show_duration, tell_size};
pub use work::{Dispatch, MOST_ROWS_PER_RUN, Uploads, Workers};

use crate::{
    model::{Dependency, Workflow},
    store::DatabaseSettings,
};

/// What `dripfeed init` writes.
pub const TEMPLATE: &str = include_str!("template.toml");
/// The file that is looked for in the working folder.
const FILE_NAME: &str = "dripfeed.toml";
/// Names another file.
const FILE_VARIABLE: &str = "DRIPFEED_CONFIG";
/// The built-in workflow, its name, and the dependencies that it calls.
const INVITE: &str = include_str!("invite.toml");
const INVITE_NAME: &str = "invite";
const INVITE_DEPENDENCIES: [&str; 2] = ["addresses", "invites"];

/// The effective configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[storage]`
    pub storage: Storage,
    /// `[database]`
    pub database: DatabaseSettings,
    /// `[objects]`
    pub objects: Objects,
    /// `[encryption]`
    pub encryption: Encryption,
    /// `[access]`
    pub access: Access,
    /// `[limits]`
    pub limits: Limits,
    /// `[log]`
    pub log: Log,
    /// `[dispatch]`
    pub dispatch: Dispatch,
    /// `[workers]`
    pub workers: Workers,
    /// `[uploads]`
    pub uploads: Uploads,
    /// `[alerts]`
    pub alerts: Alerts,
    /// `[backup]`
    pub backup: Backup,
    /// `[retention]`
    pub retention: Retention,
    /// `[dependencies.NAME]`
    pub dependencies: BTreeMap<String, Dependency>,
    /// `[workflows.NAME]`
    pub workflows: BTreeMap<String, Workflow>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No file.
    #[error("there is no configuration at {0}; `dripfeed init` writes one, `--config` names another")]
    Missing(PathBuf),
    /// The file cannot be read.
    #[error("{0}: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// It is not TOML.
    #[error("the configuration is not valid TOML: {0}")]
    Syntax(#[from] toml::de::Error),
    /// Faults, each with its key.
    #[error("the configuration has faults:{}", .0.iter().map(|fault| format!("\n  {fault}")).collect::<String>())]
    Faults(Vec<Fault>),
}

impl Config {
    /// Loads the file at `path`, else the one that `DRIPFEED_CONFIG` names, else `dripfeed.toml` in the working folder.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let env = |name: &str| std::env::var(name).ok();
        let path = path
            .map(Path::to_owned)
            .or_else(|| env(FILE_VARIABLE).map(PathBuf::from))
            .unwrap_or_else(|| PathBuf::from(FILE_NAME));
        let text = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => ConfigError::Missing(path.clone()),
            _ => ConfigError::Unreadable(path.clone(), error),
        })?;
        Self::from_toml(&text, &env)
    }

    /// Reads a configuration, with the environment that `env` gives.
    pub fn from_toml(text: &str, env: Env<'_>) -> Result<Self, ConfigError> {
        let mut table: Table = text.parse()?;
        add_built_in_workflow(&mut table)?;
        let faults = Rc::new(RefCell::new(Vec::new()));
        let mut root = Section::root(table, env, faults.clone());
        let has_objects = root.has("objects");
        let dependencies = dependencies::read(root.named_sections("dependencies"));
        let config = Self {
            server: Server::read(root.section("server")),
            storage: Storage::read(root.section("storage")),
            database: server::read_database(root.section("database")),
            objects: Objects::read(root.section("objects"), has_objects),
            encryption: Encryption::read(root.section("encryption")),
            access: Access::read(root.section("access")),
            limits: Limits::read(root.section("limits")),
            log: Log::read(root.section("log")),
            dispatch: Dispatch::read(root.section("dispatch")),
            workers: Workers::read(root.section("workers")),
            uploads: Uploads::read(root.section("uploads")),
            alerts: Alerts::read(root.section("alerts")),
            backup: Backup::read(root.section("backup")),
            retention: Retention::read(root.section("retention")),
            workflows: workflows::read(root.named_sections("workflows"), &dependencies),
            dependencies,
        };
        root.finish();
        let faults = faults.take();
        if faults.is_empty() { Ok(config) } else { Err(ConfigError::Faults(faults)) }
    }
}

/// `invite` is there where it is mentioned or its dependencies are, and where nothing else is; what the file says of
/// it stands, what it leaves out is the built-in's.
fn add_built_in_workflow(table: &mut Table) -> Result<(), ConfigError> {
    let named = |table: &Table, key: &str, name: &str| {
        table.get(key).and_then(Value::as_table).is_some_and(|inner| inner.contains_key(name))
    };
    let has_dependencies = INVITE_DEPENDENCIES.iter().all(|name| named(table, "dependencies", name));
    let is_mentioned = named(table, "workflows", INVITE_NAME);
    let has_others = table.get("workflows").and_then(Value::as_table).is_some_and(|inner| !inner.is_empty());
    if !is_mentioned && !has_dependencies && has_others {
        return Ok(());
    }
    let workflows = table.entry("workflows").or_insert_with(|| Value::Table(Table::new()));
    if let Some(workflows) = workflows.as_table_mut() {
        let invite = workflows.entry(INVITE_NAME).or_insert_with(|| Value::Table(Table::new()));
        if let Some(invite) = invite.as_table_mut() {
            for (key, value) in INVITE.parse::<Table>()? {
                invite.entry(key).or_insert(value);
            }
        }
    }
    Ok(())
}

/// Names stand in paths, logs and metrics.
fn check_name(section: &Section<'_>, name: &str) {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        section.fault("name", "is 1 to 64 letters, digits, `-` and `_`");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = r#"
        [dependencies.addresses]
        base_url = "http://127.0.0.1:9100"
        rate_per_second = 50
        [dependencies.invites]
        base_url = "http://127.0.0.1:9100/"
        rate_per_second = 0.5
    "#;

    fn faults(text: &str) -> Vec<String> {
        match Config::from_toml(text, &|_| None) {
            Err(ConfigError::Faults(faults)) => faults.iter().map(ToString::to_string).collect(),
            other => panic!("no faults: {other:?}"),
        }
    }

    #[test]
    fn the_template_loads_and_says_what_the_defaults_are() {
        let token = |name: &str| (name == "DRIPFEED_OPERATOR_TOKEN").then(|| "0123456789abcdef".to_owned());
        let from_template = Config::from_toml(TEMPLATE, &token).expect("it has no faults");
        let smallest = Config::from_toml(SMALLEST, &|_| None).expect("it has no faults");
        assert_eq!(from_template.workers.threads, smallest.workers.threads);
        assert_eq!(from_template.workflows, smallest.workflows);
        let invite = &smallest.workflows["invite"];
        assert_eq!((invite.columns.len(), invite.steps.len(), invite.max_rows), (6, 3, 1_000_000));
        assert_eq!(invite.steps[2].result.as_deref(), Some("check_id"));
        assert_eq!(smallest.dependencies["invites"].base_url, "http://127.0.0.1:9100");
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_key() {
        let found = faults(
            r#"
            [server]
            lisen = "127.0.0.1:1"
            trusted_proxies = ["10.0.0.0/8", "the-proxy"]
            [workers]
            threads = 0
            claim_ttl = "soon"
            [access]
            operator_token = "${NOWHERE}"
            [dependencies.addresses]
            base_url = "ftp://x"
            rate_per_second = -1
            [dependencies.invites]
            base_url = "http://h"
            [workflows.invite]
            max_attempts = "five"
        "#,
        );
        for expected in [
            "server.lisen: is not known; did you mean `listen`?",
            "server.trusted_proxies: `the-proxy` is no address",
            "workers.threads: is a whole number from 1 to 1024",
            "workers.claim_ttl: is a duration",
            "access.operator_token: asks for ${NOWHERE}",
            "dependencies.addresses.base_url: is a URL",
            "dependencies.addresses.rate_per_second: is a number above 0",
            "dependencies.invites.rate_per_second: is missing",
            "workflows.invite.max_attempts: is a whole number",
        ] {
            assert!(found.iter().any(|fault| fault.starts_with(expected)), "{expected} in {found:#?}");
        }
        assert_eq!(found.len(), 9, "{found:#?}");
    }

    #[test]
    fn lists_of_the_built_in_workflow_are_replaced_whole() {
        let text = format!(
            "{SMALLEST}
            [workflows.invite]
            max_rows = 5
            [[workflows.invite.columns]]
            name = \"email\"
            aliases = [\"mail\"]
            "
        );
        let config = Config::from_toml(&text, &|_| None).expect("no faults");
        let invite = &config.workflows["invite"];
        assert_eq!((invite.columns.len(), invite.steps.len(), invite.max_rows), (1, 3, 5));
    }

    #[test]
    fn a_step_must_know_its_dependency_result_and_template() {
        let found = faults(
            r#"
            [dependencies.a]
            base_url = "http://h"
            rate_per_second = 1
            [workflows.own]
            [[workflows.own.columns]]
            name = "x"
            [[workflows.own.steps]]
            name = "one"
            dependency = "b"
            path = "/{{ row.x"
            save = { id = "id" }
            result = "other"
        "#,
        );
        assert_eq!(found.len(), 4, "{found:#?}");
        assert!(found.iter().all(|fault| fault.starts_with("workflows.own.steps[0].")), "{found:#?}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = format!("{SMALLEST}\nheaders = {{ Authorization = \"Bearer hush-hush-hush\" }}");
        let text = format!("{text}\n[access]\noperator_token = \"hush-hush-hush-hush\"");
        let text = format!("{text}\n[alerts.hooks.pager]\nurl = \"https://hooks.example/hush/hush\"");
        let config = Config::from_toml(&text, &|_| Some("hush-hush-hush-hush".into())).expect("no faults");
        for shown in [format!("{config:?}"), show(&config)] {
            assert!(!shown.contains("hush"), "{shown}");
        }
    }
}
