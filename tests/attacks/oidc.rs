//! A provider that lies, breaks off or says nothing, and browsers that bring what is not theirs: nobody is signed in by it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use rcgen::{KeyPair, PKCS_ED25519, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    raw::idle,
    support::{
        app::{App, OPERATOR, Setup},
        server::{Received, Reply, Server, ok},
    },
};

const SECRET: &str = "a-secret-of-ours-0123456789";

/// What the provider does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    None,
    Unsigned,
    SignedByOther,
    SignedWithSecret,
    Expired,
    ForOther,
    ForOtherToo,
    OfOtherSignIn,
    OfOtherProvider,
    NoToken,
    NoJwt,
    Refuses,
    EndlessAnswer,
    Silence,
    OtherName,
    PageElsewhere,
    EndlessWords,
    NoWords,
}

/// A provider, and how it is just now.
#[derive(Clone)]
struct State {
    lie: Lie,
    groups: Value,
    key: Arc<KeyPair>,
    key_id: String,
}

struct Provider {
    server: Server,
    state: Arc<Mutex<State>>,
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn new_key() -> Arc<KeyPair> {
    Arc::new(KeyPair::generate_for(&PKCS_ED25519).expect("a key"))
}

impl Provider {
    fn start() -> Self {
        let state = State { lie: Lie::None, groups: json!(["ops-admins"]), key: new_key(), key_id: "1".into() };
        let state = Arc::new(Mutex::new(state));
        let answering = state.clone();
        let server = Server::start(move |request| {
            let state = answering.lock().expect("not poisoned").clone();
            state.answer(request)
        });
        Self { server, state }
    }

    fn is(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().expect("not poisoned"));
    }

    fn settings(&self) -> String {
        format!(
            "[access.oidc]\nissuer = \"{}\"\nclient_id = \"dripfeed\"\nclient_secret = \"{SECRET}\"\n\
             roles = {{ admin = [\"ops-admins\"], viewer = [\"staff\"] }}\n",
            self.server.url()
        )
    }

    fn app(&self) -> App {
        App::start(Setup { more: self.settings(), ..idle() })
    }
}

impl State {
    fn answer(&self, request: &Received) -> Reply {
        let issuer = format!("http://{}", request.header("host"));
        let endless = || ok(&format!("{{\"x\": \"{}\"}}", "y".repeat(3 << 20)));
        match (request.path(), self.lie) {
            ("/.well-known/openid-configuration", Lie::EndlessWords) => endless(),
            ("/.well-known/openid-configuration", Lie::NoWords) => ok("{}"),
            ("/.well-known/openid-configuration", lie) => ok(&self.words(&issuer, lie).to_string()),
            ("/keys", _) => ok(&json!({ "keys": [{
                "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": self.key_id,
                "x": encoded(self.key.public_key_raw()),
            }] })
            .to_string()),
            ("/token", Lie::EndlessAnswer) => endless(),
            ("/token", Lie::Silence) => Reply::Silence,
            ("/token", Lie::Refuses) => {
                let headers = vec![("Content-Type", "application/json".to_owned())];
                Reply::Answer(400, headers, json!({ "error": "invalid_grant" }).to_string())
            }
            ("/token", lie) => self.token(&issuer, lie, &request.body),
            (path, _) => panic!("nobody asks for {path}"),
        }
    }

    fn words(&self, issuer: &str, lie: Lie) -> Value {
        let is = if lie == Lie::OtherName { "https://other.example".to_owned() } else { issuer.to_owned() };
        let page =
            if lie == Lie::PageElsewhere { "http://evil.example/auth".to_owned() } else { format!("{issuer}/auth") };
        json!({
            "issuer": is, "authorization_endpoint": page, "token_endpoint": format!("{issuer}/token"),
            "jwks_uri": format!("{issuer}/keys"), "response_types_supported": ["code"],
            "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["EdDSA"],
            "scopes_supported": ["openid", "profile", "groups"],
        })
    }

    /// The code that the test makes up is the nonce and the challenge: what a provider keeps by it.
    fn token(&self, issuer: &str, lie: Lie, form: &str) -> Reply {
        let form: BTreeMap<String, String> = serde_urlencoded::from_str(form).expect("a form");
        let (nonce, challenge) = form["code"].split_once('.').expect("a code of ours");
        assert_eq!(encoded(Sha256::digest(&form["code_verifier"])), challenge, "PKCE");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        let expires = if lie == Lie::Expired { now - 60 } else { now + 60 };
        let audience = match lie {
            Lie::ForOther => json!("other"),
            Lie::ForOtherToo => json!(["dripfeed", "other"]),
            _ => json!("dripfeed"),
        };
        let claims = json!({
            "iss": if lie == Lie::OfOtherProvider { "https://other.example" } else { issuer },
            "aud": audience, "sub": "subject-1", "iat": now - 1, "exp": expires, "groups": self.groups,
            "nonce": if lie == Lie::OfOtherSignIn { "another" } else { nonce },
            "preferred_username": "ann@mail.example", "email": "ann@mail.example",
        });
        let token = match lie {
            Lie::NoJwt => "no.jwt.at-all".to_owned(),
            _ => self.signed(lie, &claims),
        };
        let mut answer = json!({ "access_token": "a", "token_type": "Bearer", "expires_in": 300, "id_token": token });
        if lie == Lie::NoToken {
            answer.as_object_mut().expect("an object").remove("id_token");
        }
        Reply::Answer(200, vec![("Content-Type", "application/json".to_owned())], answer.to_string())
    }

    fn signed(&self, lie: Lie, claims: &Value) -> String {
        let algorithm = match lie {
            Lie::Unsigned => "none",
            Lie::SignedWithSecret => "HS256",
            _ => "EdDSA",
        };
        let header = json!({ "alg": algorithm, "typ": "JWT", "kid": self.key_id });
        let signed = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        let signature = match lie {
            Lie::Unsigned => Vec::new(),
            Lie::SignedWithSecret => {
                let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
                mac.update(signed.as_bytes());
                mac.finalize().into_bytes().to_vec()
            }
            Lie::SignedByOther => new_key().sign(signed.as_bytes()).expect("signed"),
            _ => self.key.sign(signed.as_bytes()).expect("signed"),
        };
        format!("{signed}.{}", encoded(signature))
    }
}

/// A browser's answer: status, where it is sent, cookies that are set (by name, with their attributes), text.
struct Seen {
    status: u16,
    location: String,
    cookies: BTreeMap<String, String>,
    body: String,
}

fn see(app: &App, path: &str, headers: &[(&str, &str)]) -> Seen {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .into();
    let mut request = agent.get(app.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut answer = request.call().expect("an answer");
    let text = |value: &ureq::http::HeaderValue| value.to_str().expect("text").to_owned();
    let cookies = answer.headers().get_all("set-cookie").iter().map(text);
    let cookies =
        cookies.filter_map(|cookie| cookie.split_once('=').map(|(name, rest)| (name.to_owned(), rest.to_owned())));
    let cookies = cookies.collect();
    let location = answer.headers().get("location").map(text).unwrap_or_default();
    let body = answer.body_mut().read_to_string().expect("text");
    Seen { status: answer.status().as_u16(), location, cookies, body }
}

/// A sign-in that was begun, as browser and provider know it.
struct Begun {
    state: String,
    code: String,
    cookie: String,
}

fn begin(app: &App) -> Begun {
    let seen = see(app, "/session/oidc", &[]);
    assert_eq!(seen.status, 303, "{}", seen.body);
    let query = seen.location.split_once('?').expect("a query").1;
    let query: BTreeMap<String, String> = serde_urlencoded::from_str(query).expect("a query");
    assert_eq!((&query["response_type"][..], &query["code_challenge_method"][..]), ("code", "S256"));
    assert_eq!(query["redirect_uri"], app.url("/session/oidc/back"));
    assert_eq!(query["scope"], "openid profile groups");
    let cookie = &seen.cookies["dripfeed_sign_in"];
    assert!(cookie.contains("HttpOnly; SameSite=Lax"), "{cookie}");
    let cookie = format!("dripfeed_sign_in={}", cookie.split(';').next().expect("a value"));
    Begun { state: query["state"].clone(), code: format!("{}.{}", query["nonce"], query["code_challenge"]), cookie }
}

fn come_back(app: &App, begun: &Begun, more: &str) -> Seen {
    let path = format!("/session/oidc/back?code={}&state={}{more}", begun.code, begun.state);
    see(app, &path, &[("Cookie", &begun.cookie)])
}

/// A sign-in from its beginning to its end.
fn sign_in(app: &App) -> Seen {
    come_back(app, &begin(app), "")
}

fn session_of(seen: &Seen) -> String {
    let value = seen.cookies.get("dripfeed_session").unwrap_or_else(|| panic!("{} {}", seen.status, seen.body));
    format!("dripfeed_session={}", value.split(';').next().expect("a value"))
}

fn who(app: &App, cookie: &str) -> (u16, Value) {
    let seen = see(app, "/session", &[("Cookie", cookie)]);
    (seen.status, serde_json::from_str(&seen.body).expect("JSON"))
}

#[test]
fn somebody_is_let_in_by_their_groups_and_is_like_everybody_from_there_on() {
    let provider = Provider::start();
    let app = provider.app();
    assert!(see(&app, "/session/ways", &[]).body.contains("127.0.0.1:"));
    let seen = sign_in(&app);
    assert_eq!((seen.status, &seen.location[..]), (303, "/"));
    assert!(seen.cookies["dripfeed_sign_in"].contains("Max-Age=0"), "it is of no more use");
    assert!(seen.cookies["dripfeed_session"].contains("HttpOnly; SameSite=Strict"));
    let cookie = session_of(&seen);
    let (status, told) = who(&app, &cookie);
    assert_eq!((status, &told["name"], &told["role"]), (200, &json!("oidc:ann"), &json!("admin")), "{told}");
    assert_eq!(see(&app, "/ops/v1/clients", &[("Cookie", &cookie)]).status, 200);

    let entries = app.get(OPERATOR, "/ops/v1/audit").1["entries"].clone();
    let entry = &entries[0];
    assert_eq!((&entry["who"], &entry["action"]), (&json!("oidc:ann"), &json!("session.open")), "{entries}");
    assert!(entry["why"].as_str().is_some_and(|why| why.starts_with("subject subject-1 of http://")), "{entry}");
    for kept in [app.log(), entries.to_string()] {
        assert!(!kept.contains("mail.example"), "no address is kept or logged: {kept}");
    }
    // Their role is what their groups say the next time, also for what is open.
    provider.is(|state| state.groups = json!("staff"));
    let viewer = session_of(&sign_in(&app));
    for session in [&viewer, &cookie] {
        assert_eq!(who(&app, session).1["role"], "viewer");
    }
    // Sessions are listed and ended like others.
    let listed = app.get(OPERATOR, "/ops/v1/sessions").1["sessions"].clone();
    assert!(listed.as_array().is_some_and(|all| all.len() == 2 && all[0]["who"] == "oidc:ann"), "{listed}");
    let id = listed[0]["id"].as_str().expect("an id");
    assert_eq!(app.delete(OPERATOR, &format!("/ops/v1/sessions/{id}")).0, 204);
    assert_eq!((who(&app, &viewer).0, who(&app, &cookie).0), (401, 200));
    let removed = app.command(&["operator", "remove", "oidc:ann"]);
    assert!(removed.status.success(), "{removed:?}");
    assert_eq!(who(&app, &cookie).0, 401);
}

#[test]
fn no_lie_of_a_provider_signs_anybody_in() {
    let provider = Provider::start();
    for lies in [
        [
            (Lie::Unsigned, "not signed"),
            (Lie::SignedByOther, "signature"),
            (Lie::SignedWithSecret, "not taken"),
            (Lie::Expired, "expired"),
            (Lie::ForOther, "somebody else"),
            (Lie::ForOtherToo, "somebody else"),
        ],
        [
            (Lie::OfOtherSignIn, "another sign-in"),
            (Lie::OfOtherProvider, "another provider"),
            (Lie::NoToken, "no ID token"),
            (Lie::NoJwt, "answers about the code as no provider"),
            (Lie::Refuses, "refused the code"),
            (Lie::EndlessAnswer, "does not answer about the code"),
        ],
    ] {
        // Each counts as a wrong key: a server of its own has not heard too many.
        let app = provider.app();
        for (lie, expected) in lies {
            provider.is(|state| state.lie = Lie::None);
            let begun = begin(&app);
            provider.is(|state| state.lie = lie);
            let seen = come_back(&app, &begun, "");
            let status = if matches!(lie, Lie::NoJwt | Lie::EndlessAnswer) { 503 } else { 401 };
            assert!(seen.status == status && seen.body.contains(expected), "{lie:?}: {} {}", seen.status, seen.body);
            assert!(!seen.cookies.contains_key("dripfeed_session"), "{lie:?}");
        }
        let sessions = app.get(OPERATOR, "/ops/v1/sessions").1;
        assert_eq!(sessions["sessions"], json!([]));
        provider.is(|state| state.lie = Lie::None);
        assert_eq!(sign_in(&app).status, 303, "the next one is let in");
    }
}

#[test]
fn a_sign_in_ends_once_in_the_browser_that_began_it() {
    let provider = Provider::start();
    let app = provider.app();
    let (begun, other) = (begin(&app), begin(&app));
    let refused =
        |seen: Seen| assert!(seen.status == 401 && !seen.cookies.contains_key("dripfeed_session"), "{}", seen.body);
    refused(come_back(&app, &Begun { cookie: other.cookie.clone(), ..begin(&app) }, ""));
    refused(come_back(&app, &Begun { cookie: "a=b".into(), state: begun.state.clone(), code: begun.code.clone() }, ""));
    refused(come_back(
        &app,
        &Begun { state: "made-up".into(), cookie: begun.cookie.clone(), code: begun.code.clone() },
        "",
    ));
    // Another provider's answer, to whom somebody was sent from elsewhere (RFC 9207).
    refused(come_back(&app, &other, "&iss=https%3A%2F%2Fother.example"));
    let asked = provider.server.calls();
    let seen = come_back(&app, &begun, "");
    assert_eq!(seen.status, 303, "{}", seen.body);
    assert_eq!(provider.server.calls(), asked + 1);
    refused(come_back(&app, &begun, ""));
    refused(see(&app, "/session/oidc/back?error=access_denied&state=x", &[]));
    assert_eq!(provider.server.calls(), asked + 1, "nobody asks the provider about what was not begun");
    // It goes to our own start, whatever a request says.
    for host in ["evil.example/x", "evil.example\u{7f}", "a b", "user@evil.example"] {
        let told = crate::raw::say(
            crate::raw::connection(&app),
            format!("GET /session/oidc HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
        );
        assert!(told.starts_with("HTTP/1.1 400 "), "{host}: {told}");
    }
    let begun = begin(&app);
    let seen = come_back(&app, &begun, "&redirect_uri=https%3A%2F%2Fevil.example&next=//evil.example");
    assert_eq!((seen.status, &seen.location[..]), (303, "/"));
}

#[test]
fn who_is_in_no_group_of_ours_sees_a_page_that_says_so() {
    let provider = Provider::start();
    let app = provider.app();
    for groups in [json!(["strangers"]), json!([]), json!({ "ops-admins": true }), json!([["ops-admins"]]), Value::Null]
    {
        provider.is(|state| state.groups = groups.clone());
        let begun = begin(&app);
        let path = format!("/session/oidc/back?code={}&state={}", begun.code, begun.state);
        let seen = see(&app, &path, &[("Cookie", &begun.cookie), ("Accept", "text/html,application/xhtml+xml")]);
        assert!(seen.status == 403 && seen.body.starts_with("<!doctype html>"), "{groups}: {}", seen.body);
        assert!(seen.body.contains("none of your groups") && !seen.cookies.contains_key("dripfeed_session"));
    }
    let plain = App::start(idle());
    assert_eq!(see(&plain, "/session/ways", &[]).body, "{\"provider\":null}");
    for path in ["/session/oidc", "/session/oidc/back?code=a&state=b"] {
        assert_eq!(see(&plain, path, &[]).status, 403, "{path}: it is off by default");
    }
}

#[test]
fn a_provider_that_says_nothing_of_use_holds_nobody_else_up() {
    let provider = Provider::start();
    for lie in [Lie::OtherName, Lie::PageElsewhere, Lie::EndlessWords, Lie::NoWords] {
        provider.is(|state| state.lie = lie);
        let app = provider.app();
        let seen = see(&app, "/session/oidc", &[]);
        assert!(seen.status == 503 && seen.location.is_empty(), "{lie:?}: {} {}", seen.status, seen.body);
    }
    provider.is(|state| state.lie = Lie::None);
    let app = provider.app();
    let begun: Vec<Begun> = (0..12).map(|_| begin(&app)).collect();
    provider.is(|state| state.lie = Lie::Silence);
    let asked = Instant::now();
    std::thread::scope(|scope| {
        let back: Vec<_> = begun.iter().map(|begun| scope.spawn(|| come_back(&app, begun, "").status)).collect();
        let asked = Instant::now();
        for path in ["/readyz", "/livez", "/session/ways"] {
            assert_eq!(see(&app, path, &[]).status, 200);
        }
        assert_eq!(app.get(OPERATOR, "/ops/v1/overview").0, 200);
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
        for status in back.into_iter().map(|back| back.join().expect("no panic")) {
            assert_eq!(status, 503);
        }
    });
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
}

#[test]
fn another_key_of_the_provider_is_found_and_another_provider_ends_sessions() {
    let provider = Provider::start();
    let mut app = provider.app();
    let first = session_of(&sign_in(&app));
    provider.is(|state| {
        state.key = new_key();
        state.key_id = "2".into();
    });
    let cookie = session_of(&sign_in(&app));
    assert_eq!((who(&app, &first).0, who(&app, &cookie).0), (200, 200));

    // A restart changes nothing; other settings do.
    let path = app.folder.path().join("dripfeed.toml");
    let configured = std::fs::read_to_string(&path).expect("a configuration");
    for (settings, status) in
        [(configured.clone(), 200), (configured.replace("admin = [\"ops-admins\"], viewer", "viewer"), 401)]
    {
        assert_eq!(app.terminate(), Some(0));
        std::fs::write(&path, settings).expect("written");
        app.serve();
        assert_eq!(who(&app, &cookie).0, status);
    }
    provider.is(|state| state.groups = json!(["staff"]));
    let cookie = session_of(&sign_in(&app));
    assert_eq!(who(&app, &cookie).1["role"], "viewer");
    assert_eq!(app.terminate(), Some(0));
    std::fs::write(&path, configured.split("[access.oidc]").next().expect("what stands in front")).expect("written");
    app.serve();
    assert_eq!(who(&app, &cookie).0, 401, "nobody takes the provider's word any more");
    let operators = app.command(&["operator", "list", "--json"]);
    assert!(!String::from_utf8_lossy(&operators.stdout).contains("oidc:"), "{operators:?}");
}
