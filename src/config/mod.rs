//! The configuration: one file a group of sections, and the only reader of the environment.
//!
//! Every fault is reported at once, each with the path of its key; an unknown key is a fault. What is loaded is
//! checked: nobody behind this has to ask again whether a rate is above zero or a step's dependency exists.

mod alerts;
mod backup;
mod dependencies;
mod encryption;
mod network;
mod oidc;
mod quotas;
mod reader;
mod retention;
mod secret;
mod server;
mod show;
mod tokens;
mod traces;
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
pub use backup::{Backup, BackupTo};
pub use encryption::{Encryption, KEY_FILE, NoKeys};
pub use network::Network;
pub use oidc::{Oidc, is_safe};
pub use quotas::MOST_UPLOADS_AT_ONCE;
pub use reader::{Env, Fault};
use reader::{Findings, Section};
pub use retention::Retention;
pub use secret::Secret;
pub use server::{Access, Limits, Log, Objects, Server, Storage, TlsFiles};
pub use show::show;
use toml::{Table, Value};
pub use traces::Traces;
pub use units::{parse_duration, parse_size, show_duration, tell_size};
pub use work::{Dispatch, MOST_ROWS_PER_RUN, Uploads, Workers};

use crate::{
    model::{Dependency, Workflow, quota::Quotas},
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
    /// `[traces]`
    pub traces: Traces,
    /// `[dispatch]`
    pub dispatch: Dispatch,
    /// `[workers]`
    pub workers: Workers,
    /// `[uploads]`
    pub uploads: Uploads,
    /// `[quotas]`
    pub quotas: Quotas,
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
    /// It is not TOML. The line itself is not quoted: it may hold a secret, and this ends in a log.
    #[error("the configuration is not valid TOML, line {line}: {problem}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// Faults, each with its key.
    #[error("the configuration has faults:{}", .0.iter().map(|fault| format!("\n  {fault}")).collect::<String>())]
    Faults(Vec<Fault>),
}

/// The file of CAs that are trusted in the place of the public ones, where `SSL_CERT_FILE` names one, as for OpenSSL.
pub fn ca_file() -> Option<PathBuf> {
    std::env::var_os("SSL_CERT_FILE").filter(|file| !file.is_empty()).map(PathBuf::from)
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
        let config = Self::from_toml(&text, &env)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Ok(Self { encryption: config.encryption.beside(folder), server: config.server.beside(folder), ..config })
    }

    /// Reads a configuration, with the environment that `env` gives.
    pub fn from_toml(text: &str, env: Env<'_>) -> Result<Self, ConfigError> {
        let (config, findings) = Self::read(text, env)?;
        if findings.faults.is_empty() { Ok(config) } else { Err(ConfigError::Faults(findings.faults)) }
    }

    fn read(text: &str, env: Env<'_>) -> Result<(Self, Findings), ConfigError> {
        let mut table = parse(text)?;
        add_built_in_workflow(&mut table)?;
        let findings = Rc::new(RefCell::new(Findings::default()));
        let mut root = Section::root(table, env, findings.clone());
        let has_objects = root.has("objects");
        let dependencies = dependencies::read(root.named_sections("dependencies"));
        let storage = Storage::read(root.section("storage"));
        let objects = Objects::read(root.section("objects"), has_objects);
        let config = Self {
            server: Server::read(root.section("server")),
            database: server::read_database(root.section("database")),
            encryption: Encryption::read(root.section("encryption")),
            access: Access::read(root.section("access")),
            limits: Limits::read(root.section("limits")),
            log: Log::read(root.section("log")),
            traces: Traces::read(root.section("traces")),
            dispatch: Dispatch::read(root.section("dispatch")),
            workers: Workers::read(root.section("workers")),
            uploads: Uploads::read(root.section("uploads")),
            quotas: quotas::read(root.section("quotas")),
            alerts: Alerts::read(root.section("alerts")),
            backup: Backup::read(root.section("backup"), &objects, &storage),
            storage,
            objects,
            retention: Retention::read(root.section("retention")),
            workflows: workflows::read(root.named_sections("workflows"), &dependencies),
            dependencies,
        };
        root.finish();
        Ok((config, findings.take()))
    }
}

fn parse(text: &str) -> Result<Table, ConfigError> {
    text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        ConfigError::Syntax { line: before.matches('\n').count() + 1, problem: error.message().to_owned() }
    })
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
            for (key, value) in parse(INVITE)? {
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
mod tests;
