//! What is around the appliance: its server, the store of files, the dependencies.

use std::{
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use super::finding::Finding;
use crate::{
    appliance::open_objects,
    cli::{healthcheck, serve},
    config::{self, Config},
    downstream,
    model::Dependency,
    objects::{Keeping, ObjectError, Objects},
};

/// A connection that takes longer than this is none.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// And for what it says to a greeting that it is not meant to understand.
const HELLO_TIMEOUT: Duration = Duration::from_secs(1);
/// What is put into the store of files, and taken out again.
const PROBE: &str = "doctor/probe";
const PROBE_BYTES: &[u8] = b"dripfeed doctor";

pub(super) fn server(config: &Config) -> Finding {
    if !config.storage.data_dir.exists() || serve::lock(&config.storage.data_dir).is_ok() {
        return Finding::warn("server", "none runs on this data folder", "`dripfeed serve`");
    }
    if config.server.listen.port() == 0 {
        return Finding::ok("server", "runs, on a port that the system chose");
    }
    let target = healthcheck::own(config);
    match healthcheck::ready(&target) {
        Ok(()) => Finding::ok("server", format!("{} is ready", target.url())),
        Err(error) => Finding::fail("server", error, "its log says more"),
    }
}

/// Whether a file can be put, read and deleted.
pub(super) fn files(config: &Config) -> Finding {
    if matches!(config.objects, config::Objects::Local) && !config.storage.data_dir.exists() {
        return Finding::ok("files", "in the data folder, which is not there yet");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Finding::fail("files", error.to_string(), "the machine has no room for a thread"),
    };
    let tried = open_objects(config, runtime.handle()).and_then(|objects| try_out(&objects));
    let finding = match tried {
        Ok(finding) => finding,
        Err(error) => {
            let advice = match &error {
                ObjectError::NotFound { .. } => "make the bucket, or correct `bucket` under [objects]",
                ObjectError::Unavailable { .. } => "see that the store runs, and [objects] names the right endpoint",
                ObjectError::Full { .. } => "free some space there",
                _ => "see [objects], and the rights that its user has",
            };
            Finding::fail("files", error.to_string(), advice)
        }
    };
    // A store that hangs must not hold the doctor up.
    runtime.shutdown_background();
    finding
}

fn try_out(objects: &Objects) -> Result<Finding, ObjectError> {
    objects.must_be_there()?;
    let Keeping { versions, retention } = objects.keeping();
    if let Some(retention) = retention {
        // What would be put there to try it out would stay.
        let says = format!("{objects} keeps what is stored for {retention} (object lock): nothing was tried out");
        let advice = "a deleted batch's file stays there as long, sealed, its key gone; better a bucket without a lock";
        return Ok(Finding::warn("files", says, advice));
    }
    probe(objects)?;
    if versions {
        let says = format!("{objects} takes, gives and deletes, and keeps versions");
        let advice = "a deletion removes all of them, one by one; nothing here needs them: better a bucket without";
        return Ok(Finding::warn("files", says, advice));
    }
    Ok(Finding::ok("files", format!("{objects} takes, gives and deletes")))
}

fn probe(objects: &Objects) -> Result<(), ObjectError> {
    let mut writer = objects.create(PROBE)?;
    writer.write_all(PROBE_BYTES)?;
    writer.finish()?;
    let mut read = Vec::new();
    objects.open(PROBE)?.take(PROBE_BYTES.len() as u64 + 1).read_to_end(&mut read)?;
    objects.delete(PROBE)?;
    if read == PROBE_BYTES {
        return Ok(());
    }
    Err(ObjectError::Unavailable { store: objects.to_string(), cause: "it gives other bytes than it took".to_owned() })
}

/// Who is told of what goes wrong. Nothing is sent: `dripfeed alerts test` does that.
pub(super) fn hooks(config: &Config) -> Vec<Finding> {
    let hooks = &config.alerts.hooks;
    if hooks.is_empty() {
        return vec![Finding::ok("hooks", "none: nobody is told of alerts but the log and the overview")];
    }
    let examine = |hook: &config::Hook| match connect(hook.url.expose()) {
        Ok(()) => Finding::ok("hooks", format!("{} takes connections", hook.name)),
        // The error may quote the host, which is no secret; the path is one, and stands in no error.
        Err(error) => {
            let advice = format!("see alerts.hooks.{}.url, then `dripfeed alerts test {}`", hook.name, hook.name);
            Finding::fail("hooks", format!("{}: {error}", hook.name), advice)
        }
    };
    hooks.values().map(examine).collect()
}

/// Whether it can be connected to. No request is made: that would cost a permit, and mean something.
pub(super) fn dependency(dependency: &Dependency) -> Finding {
    let says = format!("{} ({})", dependency.name, dependency.base_url);
    match connect(&dependency.base_url) {
        Ok(()) => Finding::ok("dependency", format!("{says} takes connections")),
        Err(error) => {
            let advice = format!("see that it runs, and that dependencies.{}.base_url is right", dependency.name);
            Finding::fail("dependency", format!("{says}: {error}"), advice)
        }
    }
}

fn connect(base_url: &str) -> Result<(), String> {
    let uri: ureq::http::Uri = base_url.parse().map_err(|_| "is no URL".to_owned())?;
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let addresses = (host, port).to_socket_addrs().map_err(|error| format!("its name is not found: {error}"))?;
    let mut last = "its name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) if uri.scheme_str() == Some("https") => return shake_hands(host, stream),
            Ok(stream) => return stays_plain(host, stream),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}

/// To speak plain HTTP to a port that speaks TLS fails at the first request. What is sent means nothing to any server.
fn stays_plain(host: &str, mut stream: TcpStream) -> Result<(), String> {
    let bounded = stream.set_read_timeout(Some(HELLO_TIMEOUT)).and(stream.set_write_timeout(Some(HELLO_TIMEOUT)));
    match bounded.is_ok() && downstream::speaks_tls(host, &mut stream) {
        true => Err("it speaks TLS there: the URL has to begin with https://".to_owned()),
        false => Ok(()),
    }
}

/// A server that takes the connection and then says nothing is not waited for any longer than one that takes none.
fn shake_hands(host: &str, mut stream: TcpStream) -> Result<(), String> {
    let bounded = stream.set_read_timeout(Some(CONNECT_TIMEOUT)).and(stream.set_write_timeout(Some(CONNECT_TIMEOUT)));
    bounded.map_err(|error| error.to_string())?;
    downstream::shake_hands(host, &mut stream)
}
