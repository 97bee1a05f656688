//! `/`: the page, from the binary. It calls the API like everybody else, and no other host.
//!
//! The page's files stand in a folder that is named after the digest of all of them. So a browser keeps them for ever,
//! never mixes those of two versions, and needs no build step: modules name each other relative to where they are.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};
use warp::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    reply::Response,
};

use super::docs;

const HTML: &str = include_str!("../../static/index.html");
/// What stands in `index.html` in the place of the folder's name.
const VERSION_MARK: &str = "VERSION";

/// Every file of `static/` by name, in the binary. A test compares this list with the folder.
macro_rules! files {
    ($($name:literal,)*) => { &[$(($name, include_str!(concat!("../../static/", $name)))),*] };
}
const FILES: &[(&str, &str)] = files![
    "api.js",
    "audit_table.js",
    "base.css",
    "batch_actions.js",
    "batch_list.js",
    "chart.js",
    "csv.js",
    "dialog.js",
    "docs.css",
    "dom.js",
    "file_check.js",
    "format.js",
    "icon.svg",
    "live.js",
    "main.js",
    "may.js",
    "overview/alerts.js",
    "overview/clients.js",
    "overview/dependencies.js",
    "overview/storage.js",
    "overview/stuck.js",
    "overview/switch.js",
    "pace.js",
    "parts.css",
    "parts.js",
    "refusal.js",
    "router.js",
    "say.js",
    "upload.js",
    "uploader.js",
    "values.js",
    "views/audit.js",
    "views/batch.js",
    "views/batches.js",
    "views/home.js",
    "views/nothing.js",
    "views/overview.js",
    "views/row.js",
    "views/rows.js",
    "views/sign_in.js",
    "views/skipped.js",
];

/// Scripts, styles and pictures from here alone, none of them within the HTML; nothing may frame the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// For files whose name changes with their content (RFC 8246).
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// For the one whose name stays: asked for each time, and answered with a 304 while it is the same.
const ASK_EACH_TIME: &str = "no-cache";

/// The folder's name, and the start that names it.
static START: LazyLock<Start> = LazyLock::new(Start::new);

struct Start {
    version: String,
    etag: HeaderValue,
    html: String,
}

impl Start {
    fn new() -> Self {
        let mut digest = Sha256::new();
        for (name, content) in FILES.iter().chain([&("index.html", HTML)]) {
            digest.update((name.len() as u64).to_be_bytes());
            digest.update(name);
            digest.update((content.len() as u64).to_be_bytes());
            digest.update(content);
        }
        let version: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let etag = HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"\""));
        Self { html: HTML.replace(VERSION_MARK, &version), etag, version }
    }
}

/// What the page has at a path, if anything.
pub(super) fn at(path: &str, headers: &HeaderMap) -> Option<Response> {
    let path = path.strip_prefix('/')?;
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    match first {
        "" => path.is_empty().then(|| start(headers)),
        "docs" => docs::at(rest.strip_suffix('/').unwrap_or(rest)),
        "static" => {
            rest.split_once('/').filter(|(version, _)| *version == START.version).and_then(|(_, name)| file(name))
        }
        _ => None,
    }
}

fn start(headers: &HeaderMap) -> Response {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_known =
        known.split(',').any(|etag| etag.trim().trim_start_matches("W/").as_bytes() == START.etag.as_bytes());
    let mut response = if is_known { Response::default() } else { Response::new(START.html.as_str().into()) };
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = with_safety(&mut response, "text/html; charset=utf-8", ASK_EACH_TIME);
    headers.insert(header::ETAG, START.etag.clone());
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"));
    response
}

/// A page without a script, which changes with this binary. `VERSION` in it is the folder's name.
pub(super) fn html(text: String) -> Response {
    let mut response = Response::new(text.replace(VERSION_MARK, &START.version).into());
    let headers = with_safety(&mut response, "text/html; charset=utf-8", ASK_EACH_TIME);
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

fn file(name: &str) -> Option<Response> {
    let (_, content) = FILES.iter().find(|(known, _)| *known == name)?;
    let mut response = Response::new((*content).into());
    with_safety(&mut response, content_type(name), FOR_EVER);
    Some(response)
}

fn with_safety<'a>(response: &'a mut Response, content_type: &'static str, cache: &'static str) -> &'a mut HeaderMap {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let same_origin = HeaderValue::from_static("same-origin");
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), same_origin);
    headers
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        _ => "image/svg+xml",
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    /// Files of a folder and of those in it, as `FILES` names them. The type checker's are not served.
    fn files_in(folder: &Path, prefix: &str, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
            let name = format!("{prefix}{}", entry.file_name().to_str().expect("a plain name"));
            if entry.path().is_dir() {
                files_in(&entry.path(), &format!("{name}/"), found);
            } else if !name.ends_with(".html") && !name.ends_with(".d.ts") {
                found.insert(name);
            }
        }
    }

    #[test]
    fn every_file_of_the_page_is_served() {
        let mut there = BTreeSet::new();
        files_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("static"), "", &mut there);
        let served: BTreeSet<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(served, there);
        assert_eq!(served.len(), FILES.len(), "one is named twice");
    }

    #[test]
    fn the_start_names_only_files_that_are_served() {
        let folder = format!("/static/{}/", START.version);
        let named: Vec<_> = START.html.split(&folder).skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(named.len() > 3, "{named:?}");
        for name in named {
            assert!(file(name).is_some(), "{name}");
        }
        assert!(file("../Cargo.toml").is_none() && file("").is_none());
    }
}
