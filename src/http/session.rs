//! `/session`: signing in on the page, where a key in every request would have to lie about in the browser.
//!
//! The cookie is out of reach of scripts, is sent to us alone, and lasts for `access.session_ttl` from the sign-in on,
//! however busy it is: nothing is written on a request, and a page that was left open ends. A change made with it must
//! come from our own page (OWASP, Cross-Site Request Forgery Prevention): a header that no form can send, and `Origin`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warp::{
    http::{HeaderValue, Method, StatusCode, header},
    reply::Response,
};

use super::{
    Side,
    access::{Caller, forbidden, identify, sign_in, turn},
    answer::{Answer, blocking, json, no_content},
    problem::Problem,
    request::Request,
    small_json::{JsonBody, Sent, required},
};
use crate::{
    access::{KeyHash, key_hash, new_session},
    model::{Role, Scopes, Timestamp},
    operations::sessions,
    store::sessions::{Session, find},
};

/// The cookie's name over plain HTTP. Over TLS it is [`cookie_name`]'s.
pub(super) const COOKIE: &str = "dripfeed_session";
/// The header, and its value, that says that our own page means it.
const PAGE_HEADER: &str = "x-dripfeed";
const PAGE: &str = "page";

/// Who is signed in.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SessionView {
    /// `client`, `operator` or `dispatcher`.
    kind: &'static str,
    /// The client's or the operator's name.
    name: String,
    /// What an operator may do; left out for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    /// What a client's key is good for; left out for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Scopes>,
    /// When the session ends; `null` where a key is sent with each request.
    expires_at: Option<Timestamp>,
}

/// What somebody signs in with.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignIn {
    /// A client's key or an operator's token.
    key: String,
}

impl JsonBody for SignIn {
    const SHAPE: &'static str = "{\"key\": TEXT}";
}

pub(super) async fn open(request: Request, sent: Sent<SignIn>) -> Answer {
    let told = sent.told_by_anybody(&request).await;
    if let Ok(Some(told)) = &told {
        turn(&request, &told.key).await;
    }
    blocking(move || {
        // Nobody else's page may sign somebody in here, as somebody whom it chose.
        if request.headers.contains_key(header::ORIGIN) && !is_own_origin(&request) {
            return Err(forbidden("Sign in from dripfeed's own page."));
        }
        let key = required(told)?.key;
        let caller = sign_in(&request, &key)?;
        request.count(&caller)?;
        if let Caller::Dispatcher | Caller::Watcher = caller {
            return Err(caller.limited());
        }
        let (appliance, value, ttl) =
            (request.appliance(), new_session(), request.appliance().config.access.session_ttl);
        let session = Session { key_hash: key_hash(&key), expires_at: appliance.clock.now().after(ttl) };
        let hash = key_hash(&value);
        let expires_at = session.expires_at;
        sessions::open(request.env(), &request.actor(&caller), caller.audited_as(), hash, session)?;
        let view = SessionView::of(caller, Some(expires_at))?;
        with_cookie(json(StatusCode::OK, &view)?, &request, &value, ttl.as_secs())
    })
    .await
}

pub(super) async fn show(request: Request) -> Answer {
    let view = blocking(move || {
        let shown = identify(&request)?;
        request.count(&shown.caller)?;
        SessionView::of(shown.caller, shown.session_ends)
    });
    json(StatusCode::OK, &view.await?)
}

/// Ends the session, if there is one.
pub(super) async fn end(request: Request) -> Answer {
    blocking(move || {
        if let Some(value) = cookie(&request) {
            must_be_meant(&request)?;
            let hash = key_hash(value);
            let who = of(&request)?.map(|(_, session)| Caller::by_hash(request.appliance(), session.key_hash));
            let who = who.transpose()?.flatten();
            sessions::close(request.env(), who.map(|who| request.actor(&who)), hash)?;
        }
        with_cookie(no_content()?, &request, "", 0)
    })
    .await
}

impl SessionView {
    fn of(caller: Caller, expires_at: Option<Timestamp>) -> Result<Self, Problem> {
        let (kind, name, role, scopes) = match caller {
            Caller::Client(client, pass) => ("client", client.name, None, Some(pass.scopes)),
            Caller::Operator(name, role) => ("operator", name, Some(role), None),
            Caller::Dispatcher => ("dispatcher", "dispatcher".to_owned(), None, None),
            Caller::Watcher => return Err(caller.limited()),
        };
        Ok(Self { kind, name, role, scopes, expires_at })
    }
}

/// The session that this request comes with, and its hash, unless it has ended. Blocks.
pub(super) fn of(request: &Request) -> Result<Option<(KeyHash, Session)>, Problem> {
    let Some(hash) = cookie(request).map(key_hash) else { return Ok(None) };
    let now = request.appliance().clock.now();
    let found = request.appliance().store.read(|connection| find(connection, hash, now))?;
    Ok(found.map(|session| (hash, session)))
}

/// A change that comes with the cookie must be our own page's.
pub(super) fn must_be_meant(request: &Request) -> Result<(), Problem> {
    let is_change = !matches!(request.method, Method::GET | Method::HEAD);
    let is_from_page = request.headers.get(PAGE_HEADER).is_some_and(|value| value == PAGE);
    if is_change && !(is_from_page && is_own_origin(request)) {
        return Err(forbidden("A change made with the page's session comes from the page; elsewhere use a key."));
    }
    Ok(())
}

/// Whether `Origin` names the host that the request was sent to. Its scheme is not compared: a proxy in front may have
/// ended TLS without our knowing.
fn is_own_origin(request: &Request) -> bool {
    let origin = request.headers.get(header::ORIGIN).and_then(|value| value.to_str().ok());
    let named = origin.and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    named
        .zip(request.host())
        .is_some_and(|(named, host)| without_usual_port(named).eq_ignore_ascii_case(without_usual_port(host)))
}

fn without_usual_port(authority: &str) -> &str {
    authority.strip_suffix(":443").or_else(|| authority.strip_suffix(":80")).unwrap_or(authority)
}

/// Behind TLS, ours or a proxy's, browsers take `__Host-` for a promise: this very host has set it, over TLS, and nobody on
/// another host of the domain (RFC 6265bis, 4.1.3.2). They tell no ports apart, so that the operators' listener has a name
/// of its own.
fn cookie_name(request: &Request) -> &'static str {
    match (request.is_secure(), request.side()) {
        (false, Side::Everybody | Side::Clients) => COOKIE,
        (false, Side::Operators) => "dripfeed_ops_session",
        (true, Side::Everybody | Side::Clients) => "__Host-dripfeed_session",
        (true, Side::Operators) => "__Host-dripfeed_ops_session",
    }
}

fn cookie(request: &Request) -> Option<&str> {
    cookie_named(request, cookie_name(request))
}

/// The value of the cookie of this name.
pub(super) fn cookie_named<'a>(request: &'a Request, expected: &str) -> Option<&'a str> {
    let values = request.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == expected).map(|(_, value)| value)
}

/// Sets the session's cookie.
pub(super) fn with_cookie(mut response: Response, request: &Request, value: &str, seconds: u64) -> Answer {
    let secure = if request.is_secure() { "; Secure" } else { "" };
    let name = cookie_name(request);
    let cookie = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    let mut cookie = HeaderValue::from_str(&cookie).map_err(|_| Problem::internal())?;
    cookie.set_sensitive(true);
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}
