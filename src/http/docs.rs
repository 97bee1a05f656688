//! `/docs`: the documentation, for whoever has a browser and no network.

use warp::reply::Response;

use super::page;
use crate::manual;

/// The frame of a page, with marks where its title and text stand.
const FRAME: &str = include_str!("../../static/docs.html");
const TITLE_MARK: &str = "TITLE";
const TEXT_MARK: &str = "TEXT";

/// The page about a topic; about all, where none is named.
pub(super) fn at(topic: &str) -> Option<Response> {
    match topic {
        "" => Some(document("Documentation", &manual::contents())),
        name => manual::find(name).map(|topic| document(topic.name, topic.text)),
    }
}

/// Both are our own, and neither holds anything of a request.
fn document(title: &str, text: &str) -> Response {
    page::html(FRAME.replace(TITLE_MARK, title).replace(TEXT_MARK, &manual::html(text)))
}
