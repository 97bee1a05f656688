//! `/docs`: the documentation, for whoever has a browser and no network.

use std::convert::Infallible;

use warp::{Filter, Rejection, filters::BoxedFilter, reject, reply::Response};

use super::page;
use crate::manual::{self, Topic};

/// The frame of a page, with marks where its title and text stand.
const FRAME: &str = include_str!("../../static/docs.html");
const TITLE_MARK: &str = "TITLE";
const TEXT_MARK: &str = "TEXT";

pub(super) fn routes() -> BoxedFilter<(Response,)> {
    let read = || warp::get().or(warp::head()).unify();
    let contents = warp::path!("docs")
        .and(read())
        .and_then(|| async { Ok::<_, Infallible>(document("Documentation", &manual::contents())) });
    let topic = warp::path!("docs" / String)
        .and_then(|name: String| async move { manual::find(&name).ok_or_else(reject::not_found) })
        .and(read())
        .and_then(|topic: &'static Topic| async { Ok::<_, Rejection>(document(topic.name, topic.text)) });
    contents.or(topic).unify().boxed()
}

/// Both are our own, and neither holds anything of a request.
fn document(title: &str, text: &str) -> Response {
    page::html(FRAME.replace(TITLE_MARK, title).replace(TEXT_MARK, &manual::html(text)))
}
