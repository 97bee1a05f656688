//! `/session/oidc`: people sign in on the page by a provider ([`crate::oidc`]). Somebody who comes back from there is let in as
//! an operator whose token nobody has, so that sessions, roles, lists and ends are the same as everybody's.
//!
//! A sign-in is bound to the browser that began it by a cookie, so that nobody signs in another one as themselves; and no
//! address of the request decides where it goes: to the provider's page, and from there to our own start.

use std::{sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use super::{
    Side,
    access::{forbidden, slowed_down},
    answer::{Answer, blocking, json},
    forwarded::neighbourhood,
    problem::{Problem, ProblemCode},
    request::Request,
    session::{cookie_named, with_cookie},
};
use crate::{
    access::{KeyHash, key_hash, new_session},
    appliance::Appliance,
    config::Oidc,
    model::Role,
    oidc::{LASTS, OidcError, Person, Provider},
    operations::{Env, sessions},
    store::{
        StoreError,
        operators::{MARK_LENGTH, PERSON},
        sessions::Session,
    },
};

/// How long somebody waits until the provider can be asked for them.
const TURN_PATIENCE: Duration = Duration::from_secs(5);
/// A subject is not longer than this (OpenID Connect Core 1.0, 2).
const LONGEST_SUBJECT: usize = 255;
/// What stands behind the name of somebody whose name another one has.
const TOLD_APART_BY: usize = 3;

/// How people can sign in, besides by a key.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Ways {
    /// The host of the provider that `/session/oidc` leads to; `null` where there is none.
    provider: Option<String>,
}

/// What the provider sends the browser back with; it may send more.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Back {
    /// What the provider gives an ID token for.
    code: Option<String>,
    /// What the sign-in began with.
    state: Option<String>,
    /// The provider (RFC 9207).
    iss: Option<String>,
    /// Why there is no code.
    error: Option<String>,
}

/// Ends what people did by another provider, or by other settings of this one: their sessions stand for those.
pub fn end_others(appliance: &Appliance) -> Result<(), StoreError> {
    let mark = appliance.config.access.oidc.as_ref().map(|settings| mark(appliance, settings));
    sessions::end_strangers(Env::of(appliance), mark)
}

pub(super) async fn ways(request: Request) -> Answer {
    let provider = provider(&request).ok().map(|provider| provider.host().to_owned());
    json(StatusCode::OK, &Ways { provider })
}

pub(super) async fn begin(request: Request) -> Answer {
    let (provider, redirect) = (provider(&request)?, back_url(&request)?);
    let begun = conversing(&request, move || provider.begin(redirect)).await?;
    let (browser, now) = (new_session(), request.appliance().clock.steady());
    let from = request.origin().map(neighbourhood);
    if !request.context.door.outstanding.begin(&begun.state, &browser, from, begun.secrets, now) {
        let detail = "As many people sign in just now as may at once; try again in a minute.";
        return Err(Problem::new(ProblemCode::RateLimited, detail).retry_after(60));
    }
    let mut response = see_other(&begun.url)?;
    keep(&mut response, &request, &browser, LASTS.as_secs())?;
    Ok(response)
}

/// A person sees a page that says why they were not let in; a program what every other call says.
pub(super) async fn back(request: Request) -> Answer {
    let accepts = request.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_browser = accepts.contains("text/html");
    let mut answered = match let_in(request.clone()).await {
        Err(problem) if is_browser => problem.into_page(),
        answered => answered?,
    };
    keep(&mut answered, &request, "", 0)?;
    Ok(answered)
}

async fn let_in(request: Request) -> Answer {
    let provider = provider(&request)?;
    let told: Back = request.query()?;
    let secrets = told.state.as_deref().zip(cookie_named(&request, cookie_name(&request)));
    let now = request.appliance().clock.steady();
    let secrets = secrets.and_then(|(state, browser)| request.context.door.outstanding.take(state, browser, now));
    let Some(secrets) = secrets else {
        return Err(told_why(&request, OidcError::NotAccepted("this browser began no such sign-in, or too long ago")));
    };
    let Some(code) = told.code.filter(|_| told.error.is_none()) else {
        return Err(told_why(&request, OidcError::NotAccepted("the provider let nobody in")));
    };
    let person = conversing(&request, move || provider.finish(code, told.iss.as_deref(), secrets)).await?;
    if person.subject.len() > LONGEST_SUBJECT {
        return Err(told_why(&request, OidcError::NotAccepted("the ID token's subject is too long")));
    }
    let Some(role) = person.role else {
        tracing::info!(
            event = "sign_in.without_role",
            "somebody whom the provider knows is in no group that may do anything"
        );
        let detail = "The provider knows you, but none of your groups may do anything here: ask whoever runs dripfeed for one \
                      (`access.oidc.roles`).";
        return Err(forbidden(detail));
    };
    blocking(move || open(&request, person, role)).await
}

/// Opens a session for somebody.
fn open(request: &Request, person: Person, role: Role) -> Answer {
    let appliance = request.appliance();
    let settings = appliance.config.access.oidc.as_ref().ok_or_else(not_configured)?;
    let (value, ttl) = (new_session(), appliance.config.access.session_ttl);
    let (hash, key) = (key_hash(&value), key_of(appliance, settings, &person.subject));
    let session = Session { key_hash: key, expires_at: appliance.clock.now().after(ttl) };
    let apart: String = key.iter().rev().take(TOLD_APART_BY).map(|byte| format!("{byte:02x}")).collect();
    let names = [format!("{PERSON}{}", person.name), format!("{PERSON}{}.{apart}", person.name)];
    let why = format!("subject {} of {}", person.subject, settings.issuer);
    let person = sessions::Person { names, role, why };
    sessions::open_for(request.env(), request.origin_told(), person, hash, session)?;
    with_cookie(see_other("/")?, request, &value, ttl.as_secs())
}

/// What stands in the place of a token's hash: the settings that somebody was let in by, and who they are to the provider.
/// It is no hash of anything that could be shown.
fn key_of(appliance: &Appliance, settings: &Oidc, subject: &str) -> KeyHash {
    let subject = appliance.identity.tag(&[b"oidc-subject", settings.issuer.as_bytes(), subject.as_bytes()]);
    let mut key = subject;
    key[..MARK_LENGTH].copy_from_slice(&mark(appliance, settings));
    key
}

/// What settings are known by again.
fn mark(appliance: &Appliance, settings: &Oidc) -> [u8; MARK_LENGTH] {
    let mut parts: Vec<&[u8]> = vec![b"oidc", settings.issuer.as_bytes(), settings.client_id.as_bytes()];
    parts.push(settings.groups_claim.as_bytes());
    for (role, groups) in &settings.roles {
        parts.push(role.as_str().as_bytes());
        parts.extend(groups.iter().map(String::as_bytes));
    }
    let mut mark = [0; MARK_LENGTH];
    mark.copy_from_slice(&appliance.identity.tag(&parts)[..MARK_LENGTH]);
    mark
}

/// The provider, where this listener lets operators in.
fn provider(request: &Request) -> Result<Arc<Provider>, Problem> {
    if request.side() == Side::Clients {
        return Err(Problem::not_found("path"));
    }
    request.context.provider.clone().ok_or_else(not_configured)
}

fn not_configured() -> Problem {
    forbidden("No provider says here who somebody is: `access.oidc` is not configured.")
}

/// Where the browser comes back to: to where it is.
fn back_url(request: &Request) -> Result<String, Problem> {
    let is_plain = |host: &&str| host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]".contains(c));
    let host = request.host().filter(is_plain).filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| Problem::new(ProblemCode::BadRequest, "The request's `Host` is no host's name."))?;
    let scheme = if request.is_secure() { "https" } else { "http" };
    Ok(format!("{scheme}://{host}/session/oidc/back"))
}

/// Speaks with the provider, on a thread of its own, once there is one for it.
async fn conversing<T: Send + 'static>(
    request: &Request,
    speak: impl FnOnce() -> Result<T, OidcError> + Send + 'static,
) -> Result<T, Problem> {
    let turn = tokio::time::timeout(TURN_PATIENCE, request.context.door.conversations.acquire()).await;
    let Ok(Ok(_turn)) = turn else {
        return Err(told_why(request, OidcError::Unavailable("it is too slow for all who ask")));
    };
    let spoken = tokio::task::spawn_blocking(speak).await;
    spoken.map_err(|_| Problem::internal())?.map_err(|error| told_why(request, error))
}

/// What somebody is told who was not signed in. What does not hold together counts as a wrong key.
fn told_why(request: &Request, error: OidcError) -> Problem {
    let door = &request.context.door;
    match error {
        OidcError::Unavailable(why) => {
            tracing::warn!(event = "sign_in.unavailable", why, "the provider cannot be asked who somebody is");
            let detail = format!("The provider cannot be asked who you are: {why}. Try again in a while.");
            Problem::new(ProblemCode::Unavailable, detail).retry_after(10)
        }
        OidcError::NotAccepted(why) => {
            tracing::info!(event = "sign_in.not_accepted", why, "what came back from the provider is not accepted");
            door.wrong_keys.wrong(request.origin());
            match door.sign_ins.failed(request.origin(), request.appliance().clock.steady()) {
                Some(seconds) => slowed_down(seconds),
                None => {
                    let detail = format!("Nobody was signed in: {why}. Begin again on the page.");
                    Problem::new(ProblemCode::Unauthorized, detail)
                }
            }
        }
    }
}

fn see_other(to: &str) -> Answer {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SEE_OTHER;
    let to = HeaderValue::from_str(to).map_err(|_| Problem::internal())?;
    response.headers_mut().insert(header::LOCATION, to);
    Ok(response)
}

/// The cookie of a sign-in that is under way.
fn cookie_name(request: &Request) -> &'static str {
    if request.is_secure() { "__Host-dripfeed_sign_in" } else { "dripfeed_sign_in" }
}

/// Sets that cookie. The browser has to send it when another site, the provider's, sends it here: `Lax`.
fn keep(response: &mut Response, request: &Request, value: &str, seconds: u64) -> Result<(), Problem> {
    let (name, secure) = (cookie_name(request), if request.is_secure() { "; Secure" } else { "" });
    let cookie = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    let mut cookie = HeaderValue::from_str(&cookie).map_err(|_| Problem::internal())?;
    cookie.set_sensitive(true);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(())
}
