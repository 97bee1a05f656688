//! `[server]`, `[storage]`, `[database]`, `[objects]`, `[encryption]`, `[access]`, `[limits]`, `[log]`: where it lives and
//! who may enter.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

use super::{network::Network, reader::Section, secret::Secret};
use crate::{
    objects::MinioSettings,
    store::{DatabaseSettings, Durability},
};

/// `[server]`
#[derive(Debug, Clone)]
pub struct Server {
    /// `listen`: address and port of the plain HTTP server. Default 127.0.0.1:8080.
    pub listen: SocketAddr,
    /// `trusted_proxies`: addresses, or ranges of them, whose `X-Forwarded-For`, `-Proto` and `-Host` are believed.
    /// Default none.
    pub trusted_proxies: Vec<Network>,
}

impl Server {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let default = SocketAddr::from(([127, 0, 0, 1], 8080));
        let listen = match section.text("listen").map(|text| text.parse()) {
            None => default,
            Some(Ok(address)) => address,
            Some(Err(_)) => {
                section.fault("listen", "is an address and port like \"127.0.0.1:8080\"");
                default
            }
        };
        let mut trusted_proxies = Vec::new();
        for text in section.texts("trusted_proxies") {
            match text.parse() {
                Ok(network) => trusted_proxies.push(network),
                Err(()) => {
                    let problem = format!("`{text}` is no address like \"10.0.0.1\", and no range like \"10.0.0.0/8\"");
                    section.fault("trusted_proxies", problem);
                }
            }
        }
        let server = Self { listen, trusted_proxies };
        section.finish();
        server
    }
}

/// `[storage]`
#[derive(Debug, Clone)]
pub struct Storage {
    /// `data_dir`: the database, local objects, spool. Default `data`.
    pub data_dir: PathBuf,
    /// `reserve`: what uploads and extraction leave free on the disk, for the work under way. Default a twentieth of the
    /// disk, 1GiB at most.
    pub reserve: Option<u64>,
}

impl Storage {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let data_dir = section.text("data_dir").map_or_else(|| PathBuf::from("data"), PathBuf::from);
        let reserve = section.optional_size("reserve");
        section.finish();
        Self { data_dir, reserve }
    }
}

/// A write-ahead log that is cut more often than this costs more than it saves.
const LEAST_WAL_LIMIT: u64 = 1 << 20;

/// `[database]`
pub(super) fn read_database(mut section: Section<'_>) -> DatabaseSettings {
    let default = DatabaseSettings::default();
    let synchronous = match section.text("synchronous").as_deref() {
        None => default.synchronous,
        Some("full") => Durability::Full,
        Some("normal") => Durability::Normal,
        Some(_) => {
            section.fault("synchronous", "is \"full\" or \"normal\"");
            default.synchronous
        }
    };
    let settings = DatabaseSettings {
        synchronous,
        busy_timeout: section.duration("busy_timeout", default.busy_timeout),
        wal_limit: section.size("wal_limit", default.wal_limit),
    };
    if settings.wal_limit < LEAST_WAL_LIMIT {
        section.fault("wal_limit", "is at least 1MiB");
    }
    section.finish();
    settings
}

/// `[objects]`: where stored files are.
#[derive(Debug, Clone)]
pub enum Objects {
    /// Left out: a folder under `storage.data_dir`.
    Local,
    /// `kind = "minio"`: a bucket.
    Minio(MinioSettings),
}

impl Objects {
    pub(super) fn read(mut section: Section<'_>, given: bool) -> Self {
        if !given {
            return Self::Local;
        }
        if section.text("kind").as_deref() != Some("minio") {
            section.fault("kind", "is \"minio\"; leave [objects] out for files under the data folder");
        }
        let mut needed = |key: &'static str| {
            let text = section.text(key);
            if text.is_none() && !section.has(key) {
                section.fault(key, "is missing");
            }
            text.unwrap_or_default()
        };
        let settings = MinioSettings {
            endpoint: needed("endpoint"),
            bucket: needed("bucket"),
            access_key: needed("access_key"),
            secret_key: needed("secret_key"),
        };
        section.finish();
        Self::Minio(settings)
    }
}

/// `[encryption]`
#[derive(Clone)]
pub struct Encryption {
    /// `key_file`: lines of `id:base64 of 32 bytes`. Default `data/keys`.
    pub key_file: PathBuf,
    /// `DRIPFEED_KEYS`, which takes the key file's place.
    keys: Option<Secret>,
}

impl Encryption {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let keys = section.env("DRIPFEED_KEYS").map(Secret::new);
        let key_file = section.text("key_file").map_or_else(|| PathBuf::from("data/keys"), PathBuf::from);
        section.finish();
        Self { key_file, keys }
    }

    /// Whether the keys are the environment's, and no file's.
    pub fn is_from_environment(&self) -> bool {
        self.keys.is_some()
    }

    /// The text of the key ring.
    pub fn read_keys(&self) -> io::Result<Zeroizing<String>> {
        match &self.keys {
            Some(keys) => Ok(Zeroizing::new(keys.expose().to_owned())),
            None => std::fs::read_to_string(&self.key_file)
                .map(Zeroizing::new)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.key_file.display()))),
        }
    }
}

impl std::fmt::Debug for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encryption").field("key_file", &self.key_file).field("keys", &self.keys).finish()
    }
}

/// `[access]`
#[derive(Debug, Clone)]
pub struct Access {
    /// `operator_token` or `DRIPFEED_OPERATOR_TOKEN`: the operator `root`.
    pub operator_token: Option<Secret>,
    /// `dispatch_token` or `DRIPFEED_DISPATCH_TOKEN`: may only start dispatch runs.
    pub dispatch_token: Option<Secret>,
    /// `metrics_token` or `DRIPFEED_METRICS_TOKEN`: may only read the metrics.
    pub metrics_token: Option<Secret>,
    /// `session_ttl`: how long somebody who signed in on the page stays so. Default 8h.
    pub session_ttl: Duration,
}

/// Long enough for a day's work, short enough for a page that was left open.
const SESSION_TTL: Duration = Duration::from_secs(8 * 60 * 60);

/// A token that could be guessed is worse than none.
const SHORTEST_TOKEN: usize = 16;

impl Access {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let mut token = |key: &'static str, variable: &str| {
            let given = section.secret(key);
            let token = section.env(variable).map(Secret::new).or(given);
            if token.as_ref().is_some_and(|token| token.expose().len() < SHORTEST_TOKEN) {
                section.fault(key, format!("has less than {SHORTEST_TOKEN} characters"));
            }
            token
        };
        let access = Self {
            operator_token: token("operator_token", "DRIPFEED_OPERATOR_TOKEN"),
            dispatch_token: token("dispatch_token", "DRIPFEED_DISPATCH_TOKEN"),
            metrics_token: token("metrics_token", "DRIPFEED_METRICS_TOKEN"),
            session_ttl: section.duration("session_ttl", SESSION_TTL),
        };
        if access.session_ttl < Duration::from_secs(1) {
            section.fault("session_ttl", "is at least 1s");
        }
        section.finish();
        access
    }
}

/// `[limits]`
#[derive(Debug, Clone)]
pub struct Limits {
    /// `requests_per_minute`: calls of our API that one client or operator may make. Default 6000.
    pub requests_per_minute: u32,
}

impl Limits {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let requests_per_minute = section.integer("requests_per_minute", 6_000, 1..=10_000_000);
        section.finish();
        Self { requests_per_minute }
    }
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// `filter`: what is logged, in the words of tracing's EnvFilter. Default `info`.
    pub filter: String,
}

impl Log {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let filter = section.text("filter").unwrap_or_else(|| "info".to_owned());
        if EnvFilter::try_new(&filter).is_err() {
            section
                .fault("filter", "is a level like \"info\", or levels for targets like \"info,dripfeed::work=debug\"");
        }
        section.finish();
        Self { filter }
    }
}
