//! `[server]`, `[storage]`, `[database]`, `[objects]`, `[access]`, `[limits]`, `[log]`: where it lives and
//! who may enter.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use tracing_subscriber::EnvFilter;

use super::{network::Network, oidc::Oidc, reader::Section, secret::Secret, tokens};
use crate::{
    objects::MinioSettings,
    store::{DatabaseSettings, Durability},
};

/// `[server]`
#[derive(Debug, Clone)]
pub struct Server {
    /// `listen`: address and port. Plain HTTP, or TLS with `tls_cert` and `tls_key`. Default 127.0.0.1:8080.
    pub listen: SocketAddr,
    /// `ops_listen`: where `/ops`, `/metrics` and operators are let in, and only there. Default none: by `listen`.
    pub ops_listen: Option<SocketAddr>,
    /// `tls_cert` and `tls_key`. Default none: TLS ends in front.
    pub tls: Option<TlsFiles>,
    /// `trusted_proxies`: addresses, or ranges of them, whose `X-Forwarded-For`, `-Proto` and `-Host` are believed.
    /// Default none.
    pub trusted_proxies: Vec<Network>,
}

/// Both PEM, beside the configuration where they are no absolute paths.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// `tls_cert`: the server's own certificate, then those between it and a root.
    pub cert: PathBuf,
    /// `tls_key`: its private key.
    pub key: PathBuf,
}

impl TlsFiles {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        match (section.text("tls_cert"), section.text("tls_key")) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some(Self { cert: cert.into(), key: key.into() }),
            (None, Some(_)) => {
                section.fault("tls_cert", "is missing: the key of `tls_key` is some certificate's");
                None
            }
            (Some(_), None) => {
                section.fault("tls_key", "is missing: the certificate of `tls_cert` has a key");
                None
            }
        }
    }
}

impl Server {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let listen = address(&mut section, "listen").unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080)));
        let ops_listen = address(&mut section, "ops_listen");
        // The system gives each port 0 another.
        if ops_listen == Some(listen) && listen.port() != 0 {
            section.fault("ops_listen", "is the same as `listen`: operators have an address of their own, or none");
        }
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
        let server = Self { listen, ops_listen, tls: TlsFiles::read(&mut section), trusted_proxies };
        section.finish();
        server
    }

    /// The same for a configuration in this folder: files lie there.
    pub(super) fn beside(mut self, folder: &Path) -> Self {
        self.tls = self.tls.map(|TlsFiles { cert, key }| TlsFiles { cert: folder.join(cert), key: folder.join(key) });
        self
    }

    /// Where operators and tokens are let in.
    pub fn ops_address(&self) -> SocketAddr {
        self.ops_listen.unwrap_or(self.listen)
    }

    /// What URLs of it begin with.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

fn address(section: &mut Section<'_>, key: &'static str) -> Option<SocketAddr> {
    let address = section.text(key)?.parse();
    address.map_err(|_| section.fault(key, "is an address and port like \"127.0.0.1:8080\"")).ok()
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
    /// `[access.oidc]`: people sign in on the page by a provider. Default off.
    pub oidc: Option<Oidc>,
}

/// Long enough for a day's work, short enough for a page that was left open.
const SESSION_TTL: Duration = Duration::from_secs(8 * 60 * 60);

impl Access {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let keys = [
            ("operator_token", "DRIPFEED_OPERATOR_TOKEN"),
            ("dispatch_token", "DRIPFEED_DISPATCH_TOKEN"),
            ("metrics_token", "DRIPFEED_METRICS_TOKEN"),
        ];
        let [operator_token, dispatch_token, metrics_token] = tokens::read(&mut section, keys);
        let oidc = section.has("oidc").then(|| Oidc::read(section.section("oidc")));
        let access = Self {
            operator_token,
            dispatch_token,
            metrics_token,
            session_ttl: section.duration("session_ttl", SESSION_TTL),
            oidc,
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
    /// `connections`: connections that may be at work at once. Default 1024.
    pub connections: usize,
    /// `connections_per_address`: of them, those of one address (of IPv6, one /64) that no trusted proxy has. Default 128.
    pub connections_per_address: usize,
}

impl Limits {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let limits = Self {
            requests_per_minute: section.integer("requests_per_minute", 6_000, 1..=10_000_000),
            connections: section.integer("connections", 1_024, 16..=65_536) as usize,
            connections_per_address: section.integer("connections_per_address", 128, 4..=65_536) as usize,
        };
        section.finish();
        limits
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
