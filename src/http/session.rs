//! `/session`: signing in on the page, where a key in every request would have to lie about in the browser.
//!
//! The cookie is out of reach of scripts, is sent to us alone, and lasts for `access.session_ttl` from the sign-in on,
//! however busy it is: nothing is written on a request, and a page that was left open ends. A change made with it must
//! come from our own page (OWASP, Cross-Site Request Forgery Prevention): a header that no form can send, and `Origin`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warp::{
    Filter,
    filters::BoxedFilter,
    http::{HeaderValue, Method, StatusCode, header},
    reply::Response,
};

use super::{
    Context,
    access::{Caller, forbidden, identify, sign_in},
    answer::{Answer, answer, blocking, json},
    problem::Problem,
    request::{Request, request},
    small_json::{Told, required, small_json},
};
use crate::{
    access::{key_hash, new_session},
    model::Timestamp,
    store::sessions::{self, Session},
};

/// The cookie's name.
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

pub(super) fn routes(context: Context) -> BoxedFilter<(Response,)> {
    let open = warp::path!("session")
        .and(warp::post())
        .and(request(&context))
        .and(small_json("{\"key\": TEXT}"))
        .and_then(|request, told| answer("/session", open(request, told)));
    let show = warp::path!("session")
        .and(warp::get())
        .and(request(&context))
        .and_then(|request| answer("/session", show(request)));
    let end = warp::path!("session")
        .and(warp::delete())
        .and(request(&context))
        .and_then(|request| answer("/session", end(request)));
    open.or(show).unify().or(end).unify().boxed()
}

async fn open(request: Request, told: Told<SignIn>) -> Answer {
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
        appliance.store.write(move |tx| sessions::open(tx, hash, &session))?;
        let view = SessionView::of(caller, Some(session.expires_at))?;
        with_cookie(json(StatusCode::OK, &view)?, &request, &value, ttl.as_secs())
    })
    .await
}

async fn show(request: Request) -> Answer {
    let view = blocking(move || {
        let shown = identify(&request)?;
        request.count(&shown.caller)?;
        SessionView::of(shown.caller, shown.session_ends)
    });
    json(StatusCode::OK, &view.await?)
}

/// Ends the session, if there is one.
async fn end(request: Request) -> Answer {
    blocking(move || {
        if let Some(value) = cookie(&request) {
            must_be_meant(&request)?;
            let hash = key_hash(value);
            request.appliance().store.write(move |tx| sessions::end(tx, hash))?;
        }
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        with_cookie(response, &request, "", 0)
    })
    .await
}

impl SessionView {
    fn of(caller: Caller, expires_at: Option<Timestamp>) -> Result<Self, Problem> {
        let (kind, name) = match caller {
            Caller::Client(client) => ("client", client.name),
            Caller::Operator(name) => ("operator", name),
            Caller::Dispatcher => ("dispatcher", "dispatcher".to_owned()),
            Caller::Watcher => return Err(caller.limited()),
        };
        Ok(Self { kind, name, expires_at })
    }
}

/// The session that this request comes with, unless it has ended. Blocks.
pub(super) fn of(request: &Request) -> Result<Option<Session>, Problem> {
    let Some(hash) = cookie(request).map(key_hash) else { return Ok(None) };
    let now = request.appliance().clock.now();
    Ok(request.appliance().store.read(|connection| sessions::find(connection, hash, now))?)
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

fn cookie(request: &Request) -> Option<&str> {
    let values = request.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

fn with_cookie(mut response: Response, request: &Request, value: &str, seconds: u64) -> Answer {
    let secure = if request.is_secure() { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    let mut cookie = HeaderValue::from_str(&cookie).map_err(|_| Problem::internal())?;
    cookie.set_sensitive(true);
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}
