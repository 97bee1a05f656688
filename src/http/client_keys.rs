//! `/ops/v1/clients/NAME/keys`: what a client comes in with.

use schemars::JsonSchema;
use serde::Deserialize;
use warp::http::{HeaderValue, StatusCode, header};

use super::{
    answer::{Answer, blocking, json, no_content},
    problem::{Problem, ProblemCode},
    request::Request,
    small_json::{JsonBody, Sent, required},
};
use crate::{
    config::parse_duration,
    operations::client_keys::{self, KeyFault, WantedKey},
    store::clients::FIRST_KEY,
};

/// Which key is to be another one, and how long the old one stays good; `"0s"` ends it at once, with its sessions, and with the
/// uploads, downloads and streams that came with it and are under way.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    /// Its name; `default` where nobody says.
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    old_key_works_for: Option<String>,
}

impl JsonBody for Rotation {
    const SHAPE: &'static str = "{\"key\": its name, \"old_key_works_for\": a duration like \"24h\"}, or left out";
    const REQUIRED: bool = false;
}

impl JsonBody for WantedKey {
    const SHAPE: &'static str = "{\"name\": TEXT, \"scopes\": a list of \"upload\", \"read\", \"manage\", \"expires\": a time, or a \
                                duration like \"30d\"}";
}

impl From<KeyFault> for Problem {
    fn from(fault: KeyFault) -> Self {
        let code = match fault {
            KeyFault::NoClient => return Self::not_found("client"),
            KeyFault::NoKey => return Self::not_found("key"),
            KeyFault::Store(error) => return error.into(),
            KeyFault::Name | KeyFault::Past | KeyFault::TooFar | KeyFault::OldTooLong => ProblemCode::BadRequest,
            KeyFault::NameTaken | KeyFault::TooMany | KeyFault::Expired => ProblemCode::Conflict,
        };
        Self::sentence(code, &fault)
    }
}

pub(super) async fn show(client: String, request: Request) -> Answer {
    let list = blocking(move || {
        request.caller()?.operator()?;
        Ok(client_keys::list(request.env(), &client, request.appliance().clock.now())?)
    });
    json(StatusCode::OK, &list.await?)
}

pub(super) async fn post(client: String, request: Request, sent: Sent<WantedKey>) -> Answer {
    let told = sent.told(&request).await?;
    let added = blocking(move || {
        let admin = request.admin()?;
        Ok(client_keys::add(request.env(), &admin, &client, required(told)?)?)
    })
    .await?;
    let mut response = json(StatusCode::CREATED, &added)?;
    let path = format!("/ops/v1/clients/{}/keys/{}", added.client, added.name);
    if let Ok(location) = HeaderValue::from_str(&path) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

pub(super) async fn delete(client: String, key: String, request: Request) -> Answer {
    blocking(move || {
        let admin = request.admin()?;
        Ok(client_keys::remove(request.env(), &admin, &client, &key)?)
    })
    .await?;
    no_content()
}

pub(super) async fn post_rotation(client: String, request: Request, sent: Sent<Rotation>) -> Answer {
    let told = sent.told(&request).await?;
    let key = blocking(move || {
        let admin = request.admin()?;
        let Rotation { key, old_key_works_for } = told?.unwrap_or_default();
        let works_for = old_key_works_for.map(|text| parse_duration(&text)).transpose();
        let works_for = works_for
            .map_err(|wrong| Problem::new(ProblemCode::BadRequest, format!("`old_key_works_for` {wrong}.")))?;
        let name = key.as_deref().unwrap_or(FIRST_KEY);
        Ok(client_keys::rotate(request.env(), &admin, &client, name, works_for)?)
    });
    json(StatusCode::OK, &key.await?)
}
