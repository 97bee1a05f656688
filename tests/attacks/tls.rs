//! TLS on our own listener: who speaks something else, or nothing, and files that do not fit.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
    thread::scope,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair, date_time_ymd};
use rustix::process::Signal;
use serde_json::json;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
    version::{TLS12, TLS13},
};

use crate::{
    memory::{Over, Peak},
    raw::{Told, connection, connection_from, heard, idle, say},
    support::app::{App, OPERATOR, Setup, write_private},
};

/// A CA of our own.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "ours");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed"))
    }

    /// A certificate for 127.0.0.1 that ends in this year, and its key, both PEM.
    fn pair(&self, ends: i32) -> (String, String) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(ends, 1, 1));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("signed");
        (pem("CERTIFICATE", certificate.der()), pem("PRIVATE KEY", &key.serialize_der()))
    }

    /// Writes a pair that fits to where the server looks for it.
    pub fn write_pair(&self, folder: &Path) {
        self.write_pair_until(folder, 2100);
    }

    fn write_pair_until(&self, folder: &Path, ends: i32) {
        let (certificate, key) = self.pair(ends);
        fs::write(folder.join("cert.pem"), certificate).expect("written");
        write_private(&folder.join("cert.key"), key);
    }

    pub fn pem(&self) -> String {
        pem("CERTIFICATE", self.0.der())
    }

    fn settings(&self, versions: &[&'static SupportedProtocolVersion], alpn: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a certificate");
        let versions =
            ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_protocol_versions(versions);
        let mut settings = versions.expect("safe versions").with_root_certificates(roots).with_no_client_auth();
        settings.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(settings)
    }
}

fn pem(what: &str, der: &[u8]) -> String {
    let lines = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = lines.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", lines.join("\n"))
}

type Secured = StreamOwned<ClientConnection, TcpStream>;

/// Shakes hands with the server.
fn secure(app: &App, settings: Arc<ClientConfig>) -> std::io::Result<Secured> {
    secure_on(connection(app), settings)
}

fn secure_on(connection: TcpStream, settings: Arc<ClientConfig>) -> std::io::Result<Secured> {
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let mut stream = StreamOwned::new(ClientConnection::new(settings, name).expect("valid"), connection);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Asks for this path on a connection that stays open; the answer's status.
fn status(stream: &mut Secured, path: &str) -> u16 {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: dripfeed\r\n\r\n").expect("sent");
    let (mut answer, mut piece) = (String::new(), [0; 4096]);
    // `/livez` answers with one short object.
    while !answer.contains('}') {
        let bytes = stream.read(&mut piece).expect("an answer");
        assert!(bytes > 0, "the connection ended: {answer}");
        answer.push_str(&String::from_utf8_lossy(&piece[..bytes]));
    }
    Told::of(&answer).status
}

fn shown(stream: &Secured) -> CertificateDer<'static> {
    stream.conn.peer_certificates().expect("certificates")[0].clone().into_owned()
}

/// Makes something wrong in a server's folder.
type Breaking<'a> = Box<dyn Fn(&Path) + 'a>;

/// A setup whose server speaks TLS.
pub fn secured() -> Setup {
    Setup { server: "tls_cert = \"cert.pem\"\ntls_key = \"cert.key\"".into(), ..idle() }
}

fn start(authority: &Authority) -> App {
    let mut app = App::prepared(secured());
    authority.write_pair(app.folder.path());
    app.serve();
    app
}

fn https(app: &App, path: &str) -> String {
    app.url(path).replacen("http:", "https:", 1)
}

/// What commands and browsers of somebody are who trusts this CA.
fn agent(authority: &Authority) -> ureq::Agent {
    let root = ureq::tls::Certificate::from_pem(authority.pem().as_bytes()).expect("PEM").to_owned();
    let tls = ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::new_with_certs(&[root])).build();
    ureq::Agent::config_builder().http_status_as_error(false).tls_config(tls).build().into()
}

#[test]
fn tls_is_spoken_in_its_safe_versions_and_http_1_1_within() {
    let authority = Authority::new();
    let app = start(&authority);
    for (version, name) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let mut stream = secure(&app, authority.settings(&[version], &["h2", "http/1.1"])).expect("shaken");
        assert_eq!(stream.conn.protocol_version(), Some(name));
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!((status(&mut stream, "/livez"), status(&mut stream, "/livez")), (200, 200));
    }
    let h2 = secure(&app, authority.settings(&[&TLS13], &["h2"])).expect_err("HTTP/2 is not spoken");
    assert!(h2.to_string().contains("NoApplicationProtocol"), "{h2}");

    let request = agent(&authority).post(https(&app, "/session")).header("Content-Type", "application/json");
    let answer = request.send(json!({ "key": app.key }).to_string()).expect("an answer");
    let cookie = answer.headers()["set-cookie"].to_str().expect("text");
    let is_promised = cookie.starts_with("__Host-dripfeed_session=") && cookie.ends_with("; Secure");
    assert!(answer.status() == 200 && is_promised, "{cookie}");
}

#[test]
fn our_own_commands_speak_it_too() {
    let authority = Authority::new();
    let app = start(&authority);
    let url = https(&app, "");
    // Where it is, the configuration does not say: it listens on a port that the system chose.
    let path = app.folder.path().join("dripfeed.toml");
    let configured = fs::read_to_string(&path).expect("a configuration");
    let address = app.url("").replacen("http://", "", 1);
    fs::write(&path, configured.replacen("127.0.0.1:0", &address, 1)).expect("written");
    for command in ["healthcheck", "dispatch"] {
        let own = app.command(&[command]);
        assert!(own.status.success(), "{command}: {own:?}");
        let unknown = app.command(&[command, "--url", &url]);
        let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
        assert!(unknown.status.code() == Some(1) && said.contains("SSL_CERT_FILE"), "{command}: {said}");
        let ca = app.folder.path().join("ca.pem");
        fs::write(&ca, authority.pem()).expect("written");
        let known = app.command_with(&[("SSL_CERT_FILE", ca.to_str().expect("text"))], &[command, "--url", &url]);
        assert!(known.status.success(), "{command}: {known:?}");
        let plain = app.command(&[command, "--url", &app.url("")]);
        let said = String::from_utf8_lossy(&plain.stderr).into_owned() + &String::from_utf8_lossy(&plain.stdout);
        assert!(plain.status.code() == Some(1) && said.contains("https://"), "{command}: {said}");
    }
    let doctor = app.command(&["doctor", "--json"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("its key fits, and it is valid until 2100-01-01"), "{said}");
    assert!(said.contains(&format!("{url} is ready")), "{said}");
}

#[test]
fn plain_http_and_tls_meet_each_other_with_a_clear_end() {
    let authority = Authority::new();
    let (secured, plain) = (start(&authority), App::start(idle()));
    let told = Told::of(&say(connection(&secured), b"GET /livez HTTP/1.1\r\nHost: dripfeed\r\n\r\n"));
    assert_eq!((told.status, &told.json()["code"]), (400, &json!("bad_request")), "{told:?}");
    assert!(told.json()["detail"].as_str().is_some_and(|detail| detail.contains("https://")), "{told:?}");

    let begun = Instant::now();
    let error = secure(&plain, authority.settings(&[&TLS13], &[])).expect_err("no TLS there");
    assert!(begun.elapsed() < Duration::from_secs(5) && error.to_string().contains("corrupt"), "{error}");
    let (told, _) = crate::raw::ask(&plain, 1, "GET /livez HTTP/1.1");
    assert_eq!(told.status, 200);
}

#[test]
fn who_shakes_no_hands_keeps_nobody_out_and_not_for_long() {
    let authority = Authority::new();
    let app = start(&authority);
    let begun = Instant::now();
    let mut half = connection(&app);
    // A handshake record that is announced, and begins.
    half.write_all(&[22, 3, 1, 2, 0, 1, 0]).expect("sent");
    let addresses = (2..=12).flat_map(|from| (0..100).map(move |_| from));
    let _silent: Vec<_> = addresses.map(|from| connection_from(&app, from)).collect();
    let asked = Instant::now();
    let mut stream = secure(&app, authority.settings(&[&TLS13], &[])).expect("shaken");
    assert_eq!(status(&mut stream, "/readyz"), 200);
    assert!(asked.elapsed() < Duration::from_secs(3), "it took {:?}", asked.elapsed());
    // Its place goes to somebody else, or its time is over.
    heard(half);
    assert!(begun.elapsed() < Duration::from_secs(16), "{:?}", begun.elapsed());
    // The end does not wait for hands that nobody shakes.
    let mut last = connection(&app);
    last.write_all(&[22]).expect("sent");
    let ending = Instant::now();
    let mut app = app;
    assert_eq!(app.terminate(), Some(0));
    assert!(ending.elapsed() < Duration::from_secs(8), "{:?}", ending.elapsed());
}

#[test]
fn half_a_handshake_ends_with_the_deadline_of_a_head() {
    let authority = Authority::new();
    let app = start(&authority);
    let begun = Instant::now();
    let mut half = connection(&app);
    half.write_all(&[22, 3, 1, 2, 0, 1, 0]).expect("sent");
    heard(half);
    assert!((9..16).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    let told = || app.events().into_iter().find(|line| line["event"] == "connection.no_handshake");
    assert_eq!(app.until("it is told", told)["address"], "127.0.0.1");
}

#[test]
fn a_changed_certificate_is_taken_by_a_signal_wholly_or_not_at_all() {
    let authority = Authority::new();
    let app = start(&authority);
    let fresh = || secure(&app, authority.settings(&[&TLS13], &[])).expect("shaken");
    let mut before = fresh();
    let first = shown(&before);
    assert_eq!(status(&mut before, "/livez"), 200);

    authority.write_pair(app.folder.path());
    app.signal(Signal::HUP);
    let second = app.until("the certificate is another", || Some(shown(&fresh())).filter(|shown| *shown != first));
    assert_eq!(status(&mut before, "/livez"), 200, "a connection goes on");

    // A key that does not fit.
    let (_, other_key) = authority.pair(2100);
    write_private(&app.folder.path().join("cert.key"), other_key);
    app.signal(Signal::HUP);
    let refused = app.until("it is told", || app.events().into_iter().find(|line| line["event"] == "tls.refused"));
    assert!(refused["error"].as_str().is_some_and(|error| error.starts_with("server.tls_key: ")), "{refused}");
    assert_eq!(shown(&fresh()), second, "the one before stays in use");
    assert_eq!(status(&mut before, "/livez"), 200);

    let noted = || {
        let request = agent(&authority).get(https(&app, "/ops/v1/audit?limit=100"));
        let answer = request.header("Authorization", format!("Bearer {OPERATOR}")).call();
        let text = answer.expect("an answer").body_mut().read_to_string().expect("text");
        let page: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let entries = page["entries"].as_array().expect("entries").clone();
        let of_tls = entries.into_iter().filter(|entry| entry["action"] == "tls.reload");
        Some(of_tls.map(|entry| entry["why"].as_str().expect("text").to_owned()).collect::<Vec<_>>())
            .filter(|entries| entries.len() == 2)
    };
    let noted = app.until("both are noted", noted);
    assert!(noted[1] == "in use from here on" && noted[0].starts_with("refused"), "{noted:?}");
}

#[test]
fn a_certificate_that_callers_refuse_is_an_alert_until_another_one_is_taken() {
    let authority = Authority::new();
    let mut app = App::prepared(Setup { more: "[alerts]\ncheck_every = \"100ms\"".into(), ..secured() });
    authority.write_pair_until(app.folder.path(), 2003);
    app.serve();
    let standing = || {
        let listed = app.command(&["alerts", "list", "--json"]);
        let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
        listed["alerts"].as_array().expect("alerts").iter().find(|alert| alert["alert"] == "certificate_ends").cloned()
    };
    let alert = app.until("it is told", standing);
    assert!(alert["summary"].as_str().is_some_and(|summary| summary.contains("expired at 2003-01-01")), "{alert}");
    authority.write_pair(app.folder.path());
    app.signal(Signal::HUP);
    app.until("it is over", || standing().is_none_or(|alert| alert["resolved_at"].is_string()).then_some(()));
}

/// Who reads a pipe waits for who writes: the reload would wait for ever, and no later signal would be heard.
#[test]
fn a_pipe_in_the_place_of_a_certificate_or_of_the_keys_deafens_nobody() {
    let authority = Authority::new();
    let app = start(&authority);
    let fresh = || secure(&app, authority.settings(&[&TLS13], &[])).expect("shaken");
    let first = shown(&fresh());
    let refused = |event: &str, file: &str| {
        let path = app.folder.path().join(file);
        let aside = path.with_extension("aside");
        fs::rename(&path, &aside).expect("put aside");
        let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&path).status().expect("mkfifo");
        assert!(made.success());
        let before = app.events().len();
        app.signal(Signal::HUP);
        let told =
            app.until("it is told", || app.events().into_iter().skip(before).find(|line| line["event"] == event));
        assert!(told["error"].as_str().is_some_and(|error| error.contains("no regular file")), "{told}");
        fs::rename(&aside, &path).expect("put back");
    };
    refused("tls.refused", "cert.pem");
    refused("tls.refused", "cert.key");
    refused("keys.refused", "keys");
    authority.write_pair(app.folder.path());
    app.signal(Signal::HUP);
    app.until("the next signal is heard", || (shown(&fresh()) != first).then_some(()));
}

#[test]
fn faults_are_told_at_the_start_each_with_its_key() {
    let authority = Authority::new();
    let attempt = |break_it: &dyn Fn(&Path)| {
        let mut app = App::prepared(secured());
        authority.write_pair(app.folder.path());
        break_it(app.folder.path());
        let doctor = String::from_utf8_lossy(&app.command(&["doctor"]).stdout).into_owned();
        app.launch(&[]);
        let status = app.ends_within(Duration::from_secs(20)).map(|status| status.code());
        (status, app.log() + &app.complaints(), doctor)
    };
    let other = authority.pair(2100);
    let cases: [(&str, Breaking); 6] = [
        ("server.tls_cert: ", Box::new(|folder| fs::remove_file(folder.join("cert.pem")).expect("removed"))),
        ("server.tls_key: ", Box::new(|folder| fs::remove_file(folder.join("cert.key")).expect("removed"))),
        ("holds no certificate", Box::new(|folder| fs::write(folder.join("cert.pem"), "x").expect("written"))),
        ("holds no private key", Box::new(|folder| write_private(&folder.join("cert.key"), "x"))),
        (
            "server.tls_key: the key does not fit the first certificate",
            Box::new(|folder| write_private(&folder.join("cert.key"), &other.1)),
        ),
        (
            "chmod 600",
            Box::new(|folder| {
                let readable = fs::Permissions::from_mode(0o644);
                fs::set_permissions(folder.join("cert.key"), readable).expect("a mode");
            }),
        ),
    ];
    for (fault, break_it) in &cases {
        let (status, said, doctor) = attempt(break_it);
        assert!(status == Some(Some(2)) && said.contains(fault), "{fault}: {status:?} {said}");
        assert!(doctor.contains(fault), "{fault}: {doctor}");
    }

    // One that has expired is somebody's to renew, and better than none.
    let mut app = App::prepared(secured());
    let (certificate, key) = authority.pair(2002);
    fs::write(app.folder.path().join("cert.pem"), certificate).expect("written");
    write_private(&app.folder.path().join("cert.key"), key);
    let doctor = String::from_utf8_lossy(&app.command(&["doctor"]).stdout).into_owned();
    assert!(doctor.contains("expired at 2002-01-01"), "{doctor}");
    app.serve();
    assert!(app.log().contains("\"tls.not_valid\"") && app.log().contains("expired at 2002-01-01"), "{}", app.log());

    let mut app = App::prepared(secured());
    let path = app.folder.path().join("dripfeed.toml");
    let configured = fs::read_to_string(&path).expect("a configuration");
    fs::write(&path, configured.replace("tls_key = \"cert.key\"\n", "")).expect("written");
    app.launch(&[]);
    let status = app.ends_within(Duration::from_secs(20)).map(|status| status.code());
    assert!(status == Some(Some(2)) && app.complaints().contains("server.tls_key: is missing"), "{}", app.complaints());
}

#[test]
fn a_hello_that_announces_far_too_much_is_not_kept() {
    let app = start(&Authority::new());
    // A ClientHello of 65,000 bytes, in records of 16,000.
    let mut hello = vec![1, 0, 0xfd, 0xe8];
    hello.resize(64_000, 0);
    let records: Vec<u8> = hello.chunks(16_000).flat_map(|piece| [&[22, 3, 1, 0x3e, 0x80], piece].concat()).collect();
    let begun = Instant::now();
    say(connection(&app), &records);
    assert!(begun.elapsed() < Duration::from_secs(5), "it was waited for");
}

/// What is on its way to somebody who takes nothing lies with the system, and next to nothing of it in our own memory.
#[test]
fn answers_that_nobody_takes_are_held_in_bounds_under_tls_too() {
    /// Of each connection: its session, and what of an answer is sealed.
    const OF_ONE: u64 = 54 << 10;
    let authority = Authority::new();
    let (app, settings) = (start(&authority), authority.settings(&[&TLS13], &[]));
    // More than the system takes in of what is answered.
    let asked = "GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20);
    let (before, peak, over) = (Peak::default(), Peak::default(), AtomicBool::new(false));
    before.look(app.process_id());
    let untaken: Vec<_> = scope(|scope| {
        let _over = Over(&over);
        peak.watch(scope, &app, &over);
        let connections = (10..20).flat_map(|from| [from; 100]).map(|from| {
            let mut stream = secure_on(connection_from(&app, from), settings.clone()).expect("shaken");
            stream.write_all(asked.as_bytes()).expect("sent");
            stream
        });
        let untaken = connections.collect();
        peak.stands_still(&app);
        assert_eq!(status(&mut secure(&app, settings.clone()).expect("shaken"), "/readyz"), 200);
        untaken
    });
    peak.is_below(before.bytes() + untaken.len() as u64 * OF_ONE);
}
