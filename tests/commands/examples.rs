//! `examples/`: whole configurations, as people copy them. Each is loaded as it stands, what its head tells to run is run, and
//! it serves: only addresses are others here.

use std::{collections::BTreeSet, fs, net::SocketAddr, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use regex::{Captures, Regex};
use toml::{Table, Value};

use super::{
    idle, parsed, printed,
    simulator::Vendor,
    support::{
        app::{App, OPERATOR, write_private},
        s3::S3Server,
    },
};

const FOLDER: &str = "examples";
const KEYS: &str = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// What a head tells to run that does not end by itself.
const LAST: [&str; 2] = ["serve", "simulator"];

fn text(name: &str) -> String {
    fs::read_to_string(Path::new(FOLDER).join(name)).expect("an example")
}

/// The variables that a text takes from the environment.
fn variables(text: &str) -> BTreeSet<String> {
    let variable = Regex::new(r"\$\{(\w+)\}").expect("a pattern");
    variable.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

fn value(variable: &str) -> String {
    match variable {
        "DRIPFEED_OPERATOR_TOKEN" => OPERATOR.to_owned(),
        "SLACK_WEBHOOK" => "http://127.0.0.1:9/hook".to_owned(),
        other => format!("{other}-of-a-test"),
    }
}

fn table<'t>(config: &'t mut Table, name: &str) -> &'t mut Table {
    config.entry(name).or_insert_with(|| Table::new().into()).as_table_mut().expect("a section")
}

/// An app with this example as its configuration, but on a free port, with this downstream, and without a wait. `change`
/// puts in what else is of this machine.
fn app(name: &str, downstream: Option<SocketAddr>, change: impl FnOnce(&Path, &mut Table)) -> App {
    let app = App::prepared(idle());
    let folder = app.folder.path();
    let variable = Regex::new(r"\$\{(\w+)\}").expect("a pattern");
    let filled = variable.replace_all(&text(name), |found: &Captures<'_>| value(&found[1])).into_owned();
    let mut config: Table = filled.parse().expect("TOML");
    for (_, dependency) in table(&mut config, "dependencies").iter_mut() {
        dependency["base_url"] = format!("http://{}", downstream.unwrap_or(app.simulator.address())).into();
    }
    for address in ["listen", "ops_listen"] {
        let server = table(&mut config, "server");
        if address == "listen" || server.contains_key(address) {
            server.insert(address.into(), "127.0.0.1:0".into());
        }
    }
    table(&mut config, "storage").insert("data_dir".into(), folder.join("its-data").display().to_string().into());
    table(&mut config, "dispatch").extend([("every".into(), "1s".into()), ("min_interval".into(), "0s".into())]);
    change(folder, &mut config);
    write_private(&folder.join("dripfeed.keys"), KEYS);
    fs::write(folder.join("dripfeed.toml"), config.to_string()).expect("written");
    for command in told(name) {
        let words: Vec<&str> = command.split_whitespace().collect();
        printed(&app.command(&words));
    }
    app
}

/// The commands of dripfeed's that the head of an example tells to run, but those that go on and on.
fn told(name: &str) -> Vec<String> {
    let text = text(name);
    let head = text.lines().take_while(|line| line.starts_with('#'));
    let commands = head.filter_map(|line| line.strip_prefix("#     dripfeed "));
    let commands = commands.map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned());
    let found: Vec<String> = commands.collect();
    assert!(found.iter().any(|command| command == "serve"), "its head says how to run it: {found:?}");
    found.into_iter().filter(|command| !LAST.iter().any(|last| command.starts_with(last))).collect()
}

/// Serves it, fills in the template of each workflow, uploads that, and waits for its row.
fn works_a_row(mut app: App) {
    app.key = parsed(&app.command(&["client", "add", "tester", "--json"]))["key"].as_str().expect("a key").to_owned();
    app.serve();
    let (status, list) = app.get(&app.key, "/v2/workflows");
    assert_eq!(status, 200, "{list}");
    for workflow in list["workflows"].as_array().expect("a list") {
        let path = |name: &str| workflow[name].as_str().expect("a path").to_owned();
        let (status, template) = app.get(&app.key, &path("template"));
        assert_eq!(status, 200, "{template}");
        let csv = template.as_str().expect("a CSV").as_bytes();
        let (status, batch) = app.upload_as(&app.key, &path("upload_path"), &[("Content-Type", "text/csv")], csv);
        assert_eq!(status, 202, "{batch}");
        let id = batch["id"].as_str().expect("an id");
        let done = app.until_status(id, "completed");
        assert_eq!(done["counts"]["completed"], 1, "{:?}", app.rows(id));
    }
}

#[test]
fn every_example_loads_as_it_stands_and_is_tried_here() {
    let mut there = BTreeSet::new();
    for entry in fs::read_dir(FOLDER).expect("the examples").map(|entry| entry.expect("an entry")) {
        if entry.path().is_dir() {
            continue;
        }
        let name = entry.file_name().into_string().expect("a plain name");
        let env: Vec<(String, String)> =
            variables(&text(&name)).into_iter().map(|name| (name.clone(), value(&name))).collect();
        let shown = std::process::Command::new(env!("CARGO_BIN_EXE_dripfeed"))
            .args(["--config", &format!("{FOLDER}/{name}"), "config"])
            .envs(env)
            .output()
            .expect("the binary");
        assert!(printed(&shown).contains("[server]"), "{name}");
        there.insert(name);
    }
    let tried = ["clients.toml", "minimal.toml", "order.toml", "production.toml"];
    assert_eq!(there, tried.map(str::to_owned).into(), "each has a test below");
}

#[test]
fn the_minimal_one_works() {
    let vendor = Vendor::playing("[[answers]]\npath = \"/contacts\"\nstatus = 201\njson = { id = \"c-1\" }");
    works_a_row(app("minimal.toml", Some(vendor.address), |_, _| ()));
}

#[test]
fn several_clients_work() {
    let app = app("clients.toml", None, |folder, config| {
        table(config, "backup").insert("to".into(), folder.join("backups").display().to_string().into());
    });
    let clients = parsed(&app.command(&["client", "list", "--json"]));
    assert_eq!(clients["clients"].as_array().map(Vec::len), Some(2), "{clients}");
    works_a_row(app);
}

#[test]
fn an_order_goes_through_its_steps() {
    let vendor = Vendor::playing(&text("vendors/order.toml"));
    works_a_row(app("order.toml", Some(vendor.address), |_, _| ()));
}

/// Behind TLS and with a bucket; the provider is asked nothing until somebody signs in.
#[test]
fn the_one_for_production_serves() {
    let pem = |label: &str, der: &[u8]| {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
    };
    let files = tempfile::tempdir().expect("a folder");
    let bucket = S3Server::start(files.path());
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let certificate = pem("CERTIFICATE", cert.der());
    let mut app = app("production.toml", None, |folder, config| {
        let settings = bucket.settings();
        table(config, "objects").extend([
            ("endpoint".into(), Value::from(settings.endpoint)),
            ("bucket".into(), settings.bucket.into()),
            ("access_key".into(), settings.access_key.into()),
            ("secret_key".into(), settings.secret_key.into()),
        ]);
        table(config, "storage").remove("reserve");
        fs::write(folder.join("cert.pem"), &certificate).expect("written");
        write_private(&folder.join("cert.key"), pem("PRIVATE KEY", &signing_key.serialize_der()));
    });
    app.serve();
    let ca = app.folder.path().join("cert.pem");
    let trust = [("SSL_CERT_FILE", ca.to_str().expect("a path"))];
    let url = app.url("").replace("http://", "https://");
    assert_eq!(printed(&app.command_with(&trust, &["healthcheck", "--url", &url])), "ready\n");
    let doctor = app.command(&["doctor"]);
    let told = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(told.lines().any(|line| line.contains("files") && line.contains("takes, gives and deletes")), "{told}");
}
