//! What the benchmarks share: the real server as a process, and a client of it.
#![allow(dead_code, reason = "each uses a part of it")]

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// Nothing that a benchmark waits for takes longer.
const DEADLINE: Duration = Duration::from_secs(300);
/// How often something is looked for where looking takes nothing from what is measured.
pub const POLL: Duration = Duration::from_millis(5);
pub const OPERATOR: &str = "operator-token-of-the-benchmark";

/// A server with a folder and a client of its own. Dropped, it is killed and its folder removed.
pub struct Server {
    home: PathBuf,
    address: &'static str,
    child: Child,
    /// The client's key.
    pub key: String,
}

impl Server {
    /// Starts the binary in a new folder below `folder`; `more` are the settings besides listen, storage and keys.
    pub fn start(folder: &Path, address: &'static str, more: &str) -> Self {
        let home = folder.join("server");
        fs::create_dir_all(&home).expect("a folder");
        let (config, keys, data) = (home.join("dripfeed.toml"), home.join("keys"), home.join("data"));
        fs::write(&keys, "bench:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").expect("written");
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).expect("a mode");
        let text = format!(
            "[server]\nlisten = \"{address}\"\n[storage]\ndata_dir = \"{}\"\n[encryption]\nkey_file = \"{}\"\n\
             [access]\noperator_token = \"{OPERATOR}\"\n[log]\nfilter = \"warn\"\n{more}",
            data.display(),
            keys.display()
        );
        fs::write(&config, text).expect("written");
        let binary = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_dripfeed"));
            command.arg("--config").arg(&config).args(arguments);
            command
        };
        let added = binary(&["client", "add", "bench", "--json"]).output().expect("the binary");
        let added: Value = serde_json::from_slice(&added.stdout).expect("JSON");
        let key = added["key"].as_str().expect("a key").to_owned();
        let child = binary(&["serve"]).stdout(Stdio::null()).spawn().expect("the binary");
        until(POLL, || agent().get(format!("http://{address}/livez")).call().ok().map(drop));
        Self { home, address, child, key }
    }

    /// Uploads a file, and returns the address of its batch.
    pub fn upload(&self, csv: &Path) -> String {
        let sent = agent()
            .post(format!("http://{}/v2/client/users/batch/invite", self.address))
            .header("Authorization", format!("Bearer {}", self.key))
            .header("Content-Type", "text/csv")
            .send(File::open(csv).expect("the file"));
        let batch = read(sent.expect("an answer"));
        format!("http://{}/v2/batches/{}", self.address, batch["id"].as_str().expect("an id"))
    }

    /// Waits for a batch to have this status, and looks so often.
    pub fn until_status(&self, batch: &str, status: &str, every: Duration) -> Value {
        self.until(batch, every, |batch| batch["status"] == status)
    }

    /// Waits until this holds of a batch, and looks so often.
    pub fn until(&self, batch: &str, every: Duration, holds: impl Fn(&Value) -> bool) -> Value {
        until(every, || {
            let answer = agent().get(batch).header("Authorization", format!("Bearer {}", self.key)).call();
            Some(read(answer.expect("an answer"))).filter(&holds)
        })
    }

    /// Asks for a dispatch run.
    pub fn dispatch(&self) {
        let url = format!("http://{}/ops/v1/dispatch", self.address);
        let run = agent().post(url).header("Authorization", format!("Bearer {OPERATOR}")).send_empty();
        assert_eq!(read(run.expect("an answer"))["outcome"], "granted");
    }

    /// The processor time that the server has taken, in seconds: Linux counts it in hundredths (proc(5)).
    pub fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("a process");
        let after_name = stat.rsplit(')').next().expect("fields");
        let ticks = after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number"));
        ticks.sum::<f64>() / 100.0
    }

    /// The server's peak resident memory, as Linux tells it.
    pub fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process");
        let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("its peak");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// A number from the environment, where it is set.
pub fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(DEADLINE)).build().into()
}

fn read(mut answer: ureq::http::Response<ureq::Body>) -> Value {
    serde_json::from_str(&answer.body_mut().read_to_string().expect("a body")).expect("JSON")
}

/// Looks again and again, so often, until there is something to see.
pub fn until<T>(every: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it never came to this");
        std::thread::sleep(every);
    }
}
