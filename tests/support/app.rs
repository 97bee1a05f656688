//! The real binary, serving on a free port over a temporary folder, against a simulator of its own.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use dripfeed::simulator::{Simulator, SimulatorOptions, Stats};
use serde_json::Value;

/// No state that a test waits for takes longer than this, on the slowest machine.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at something that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub const OPERATOR: &str = "operator-token-0123456789";
pub const DISPATCH: &str = "dispatch-token-0123456789";
const KEY_LINE: &str = "test:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// What a test sets differently.
#[derive(Debug, Clone)]
pub struct Setup {
    /// More sections, or more of `[workflows.invite]`, as TOML.
    pub more: String,
    /// More of `[server]`.
    pub server: String,
    /// More of `[storage]`.
    pub storage: String,
    /// More of `[access]`.
    pub access: String,
    /// `[dispatch]`.
    pub dispatch: String,
    /// `[workers]`.
    pub workers: String,
    /// Both dependencies' settings besides the base URL.
    pub dependency: String,
    pub simulator: SimulatorOptions,
    /// What both dependencies are; `None`: the simulator.
    pub downstream: Option<SocketAddr>,
    /// Where its folder is made; `None`: where temporary folders are.
    pub within: Option<PathBuf>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            more: String::new(),
            server: String::new(),
            storage: String::new(),
            access: String::new(),
            dispatch: "every = \"1s\"\nmin_interval = \"0s\"".into(),
            workers: "under_way = 64".into(),
            dependency: "rate_per_second = 2000\nburst = 50\nconcurrency = 16\ntimeout = \"5s\"".into(),
            simulator: SimulatorOptions::default(),
            downstream: None,
            within: None,
        }
    }
}

/// Writes a file that its owner alone may open, as a key file has to be.
pub fn write_private(path: &Path, text: impl AsRef<[u8]>) {
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(path).expect("opened");
    file.write_all(text.as_ref()).expect("written");
}

/// A server of the real binary. Dropped, it is killed.
pub struct App {
    pub folder: tempfile::TempDir,
    pub simulator: Simulator,
    /// The key of the client `acme`.
    pub key: String,
    server: Option<Running>,
}

struct Running {
    child: Child,
    address: String,
    log: Said,
    complaints: Said,
}

/// What a process has said on one of its outputs until now.
type Said = Arc<Mutex<String>>;

impl App {
    pub fn start(setup: Setup) -> Self {
        let mut app = Self::prepared(setup);
        app.serve();
        app
    }

    /// Everything but the server.
    pub fn prepared(setup: Setup) -> Self {
        let within = setup.within.unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::tempdir_in(within).expect("a temporary folder");
        let simulator = Simulator::start(setup.simulator).expect("a simulator");
        write_private(&folder.path().join("keys"), KEY_LINE);
        let at = folder.path().display();
        let Setup { more, server, storage, access, dispatch, workers, dependency, .. } = setup;
        let downstream = setup.downstream.unwrap_or_else(|| simulator.address());
        let config = format!(
            r#"
[server]
listen = "127.0.0.1:0"
{server}
[storage]
data_dir = "{at}/data"
{storage}
[encryption]
key_file = "{at}/keys"
[access]
operator_token = "{OPERATOR}"
dispatch_token = "{DISPATCH}"
{access}
[dispatch]
{dispatch}
[workers]
{workers}
[dependencies.addresses]
base_url = "http://{downstream}"
{dependency}
[dependencies.invites]
base_url = "http://{downstream}"
{dependency}
{more}
"#
        );
        std::fs::write(folder.path().join("dripfeed.toml"), config).expect("a configuration");
        let mut app = Self { folder, simulator, key: String::new(), server: None };
        app.key = app.add_client("acme", None);
        app
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn add_client(&self, name: &str, rows_per_run: Option<u32>) -> String {
        let limit = rows_per_run.map(|rows| rows.to_string());
        let mut arguments = vec!["client", "add", name, "--json"];
        if let Some(limit) = &limit {
            arguments.extend(["--rows-per-run", limit]);
        }
        let output = self.command(&arguments);
        assert!(output.status.success(), "{output:?}");
        let added: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        added["key"].as_str().expect("a key").to_owned()
    }

    fn binary(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dripfeed"));
        command.arg("--config").arg(self.folder.path().join("dripfeed.toml")).args(arguments);
        command
    }

    /// Runs a command of the binary to its end.
    pub fn command(&self, arguments: &[&str]) -> Output {
        self.binary(arguments).output().expect("the binary")
    }

    /// Runs a command to its end with this in its environment.
    pub fn command_with(&self, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
        self.binary(arguments).envs(environment.iter().copied()).output().expect("the binary")
    }

    /// Starts a command of the binary and leaves it running.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.binary(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary")
    }

    /// Starts a command of the binary at a terminal, and gives that: what it reads and what it asks goes through there.
    pub fn spawn_at_terminal(&self, arguments: &[&str]) -> (Child, File) {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("it is ours");
        let name = ptsname(&ours, Vec::new()).expect("its name");
        let theirs =
            File::options().read(true).write(true).open(name.to_str().expect("a path")).expect("its other end");
        let (asks, prints) = (theirs.try_clone().expect("a clone"), theirs.try_clone().expect("a clone"));
        let child = self.binary(arguments).stdin(theirs).stdout(prints).stderr(asks).spawn().expect("the binary");
        (child, ours.into())
    }

    /// Starts a command of the binary that prints into this.
    pub fn spawn_into(&self, arguments: &[&str], output: Stdio) -> Child {
        self.binary(arguments).stdout(output).stderr(Stdio::piped()).spawn().expect("the binary")
    }

    /// Starts the server and waits until it listens.
    pub fn serve(&mut self) {
        self.launch(&[]);
        assert!(self.listens(), "the server did not start:\n{}", self.log());
    }

    /// Starts the server with this in its environment, and waits for nothing.
    pub fn launch(&mut self, environment: &[(&str, &str)]) {
        let mut command = self.binary(&["serve"]);
        command.envs(environment.iter().copied());
        self.run(command);
    }

    fn run(&mut self, mut command: Command) {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary");
        let log = hear(child.stdout.take().expect("piped"));
        let complaints = hear(child.stderr.take().expect("piped"));
        self.server = Some(Running { child, address: String::new(), log, complaints });
    }

    /// Starts the server with no more than so many bytes of address space, as `ulimit -v` gives them.
    pub fn launch_within(&mut self, bytes: u64) {
        self.launch_by(&format!("ulimit -v {}; exec \"$0\" \"$@\"", bytes >> 10));
    }

    /// Has a shell start the server by this script, in which `"$0" "$@"` is its command line; waits for nothing.
    pub fn launch_by(&mut self, script: &str) {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_dripfeed"));
        command.arg("--config").arg(self.folder.path().join("dripfeed.toml")).arg("serve");
        self.run(command);
    }

    /// Waits until the launched server listens; `false` if it ended before.
    pub fn listens(&mut self) -> bool {
        let Running { child, address, log, complaints } = self.server.as_mut().expect("a launched server");
        let text = || text(log) + &text(complaints);
        let look = || match address_in(&text()) {
            None => child.try_wait().expect("a child").map(|_| None),
            found => Some(found),
        };
        let found = until("the server listens, or ends", look, text);
        *address = found.clone().unwrap_or_default();
        found.is_some()
    }

    /// How the launched server ended by itself, if it does within `longest`. All that it said is there then.
    pub fn ends_within(&mut self, longest: Duration) -> Option<ExitStatus> {
        let Running { child, log, complaints, .. } = self.server.as_mut().expect("a launched server");
        let deadline = Instant::now() + longest;
        loop {
            let ended = child.try_wait().expect("a child");
            let is_heard = [&*log, complaints].iter().all(|said| Arc::strong_count(said) == 1);
            if (ended.is_some() && is_heard) || Instant::now() >= deadline {
                return ended;
            }
            std::thread::park_timeout(LOOK_AGAIN);
        }
    }

    fn server(&self) -> &Running {
        self.server.as_ref().expect("a running server")
    }

    /// Everything that the server has logged.
    pub fn log(&self) -> String {
        text(&self.server().log)
    }

    /// Everything that the server has said on standard error.
    pub fn complaints(&self) -> String {
        text(&self.server().complaints)
    }

    /// The lines that the server has logged.
    pub fn events(&self) -> Vec<Value> {
        let log = self.log();
        // The last line may be under way.
        let whole = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("a line is no JSON: {line}"))).collect()
    }

    /// Ends the server at once, as a power cut would end the process.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.server.take() {
            running.child.kill().expect("killed");
            running.child.wait().expect("reaped");
        }
    }

    /// The server's process.
    pub fn process_id(&self) -> u32 {
        self.server().child.id()
    }

    /// Sends the server a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.server().child);
        rustix::process::kill_process(pid, signal).expect("signalled");
    }

    /// Ends the server in order, and returns its exit status.
    pub fn terminate(&mut self) -> Option<i32> {
        let mut running = self.server.take().expect("a running server");
        let pid = rustix::process::Pid::from_child(&running.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signalled");
        running.child.wait().expect("reaped").code()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server().address)
    }

    pub fn get(&self, key: &str, path: &str) -> (u16, Value) {
        answer(agent().get(self.url(path)).header("Authorization", format!("Bearer {key}")).call())
    }

    pub fn post(&self, key: &str, path: &str) -> (u16, Value) {
        answer(agent().post(self.url(path)).header("Authorization", format!("Bearer {key}")).send_empty())
    }

    pub fn delete(&self, key: &str, path: &str) -> (u16, Value) {
        answer(agent().delete(self.url(path)).header("Authorization", format!("Bearer {key}")).call())
    }

    pub fn post_json(&self, key: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = agent().post(self.url(path)).header("Authorization", format!("Bearer {key}"));
        answer(request.header("Content-Type", "application/json").send(body.to_string()))
    }

    pub fn patch_json(&self, key: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = agent().patch(self.url(path)).header("Authorization", format!("Bearer {key}"));
        answer(request.header("Content-Type", "application/json").send(body.to_string()))
    }

    /// Uploads a body to the workflow `invite`.
    pub fn upload(&self, key: &str, body: impl AsRef<[u8]>) -> (u16, Value) {
        self.upload_as(key, "/v2/client/users/batch/invite", &[("Content-Type", "text/csv")], body.as_ref())
    }

    pub fn upload_as(&self, key: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, Value) {
        let mut request = agent().post(self.url(path)).header("Authorization", format!("Bearer {key}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer(request.send(body))
    }

    /// Uploads a body that has to be accepted, and returns the batch's id.
    pub fn accepted(&self, body: impl AsRef<[u8]>) -> String {
        let (status, batch) = self.upload(&self.key, body);
        assert_eq!(status, 202, "{batch}");
        batch["id"].as_str().expect("an id").to_owned()
    }

    pub fn batch(&self, id: &str) -> Value {
        self.batch_of(&self.key, id)
    }

    pub fn batch_of(&self, key: &str, id: &str) -> Value {
        let (status, batch) = self.get(key, &format!("/v2/batches/{id}"));
        assert_eq!(status, 200, "{batch}");
        let counts = &batch["counts"];
        let sum: u64 = ["pending", "processing", "completed", "failed", "cancelled"]
            .iter()
            .map(|name| counts[name].as_u64().expect("a count"))
            .sum();
        assert_eq!(counts["total"], sum, "the counts add up: {counts}");
        batch
    }

    /// Waits for a batch to have this status.
    pub fn until_status(&self, id: &str, status: &str) -> Value {
        self.until(&format!("{id} is {status}"), || Some(self.batch(id)).filter(|batch| batch["status"] == status))
    }

    /// Every row of a batch of `acme`, page by page.
    pub fn rows(&self, id: &str) -> Vec<Value> {
        self.rows_of(&self.key, id)
    }

    /// Every row of a batch, page by page.
    pub fn rows_of(&self, key: &str, id: &str) -> Vec<Value> {
        let mut rows = Vec::new();
        let mut after = String::new();
        loop {
            let (status, mut page) = self.get(key, &format!("/v2/batches/{id}/rows?limit=1000{after}"));
            assert_eq!(status, 200, "{page}");
            rows.append(page["rows"].as_array_mut().expect("rows"));
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return rows,
            }
        }
    }

    /// Waits until `look` finds something.
    pub fn until<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        let log = || self.server.as_ref().map_or_else(String::new, |_| self.log());
        until(what, look, log)
    }

    pub fn stats(&self) -> Stats {
        self.simulator.stats()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.kill();
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>, log: impl Fn() -> String) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it never came to this: {what}\n{}", log());
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

/// Keeps what comes out of a process, as it comes: it is somebody else's too until that has come to its end.
fn hear(output: impl Read + Send + 'static) -> Said {
    let said = Said::default();
    let kept = said.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            kept.lock().expect("not poisoned").push_str(&(line + "\n"));
        }
    });
    said
}

fn text(said: &Said) -> String {
    said.lock().expect("not poisoned").clone()
}

fn address_in(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("\"server.started\""))?;
    let line: Value = serde_json::from_str(line).ok()?;
    line["address"].as_str().map(str::to_owned)
}

pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(DEADLINE)).build().into()
}

fn answer(answered: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, Value) {
    let mut response = answered.expect("an answer");
    let mut text = String::new();
    response.body_mut().as_reader().read_to_string(&mut text).expect("a body");
    (response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// A CSV of the built-in workflow with so many rows, all of which succeed.
pub fn people(rows: usize) -> String {
    let mut csv = String::from("email,first_name,last_name,phone,postcode,house_number\n");
    for row in 1..=rows {
        csv.push_str(&format!("p{row}@mail.example,Ann,Smith,07700 900123,AB1 2CD,{}\n", row % 200 + 1));
    }
    csv
}

/// Every file below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
