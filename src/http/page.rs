//! `/`: the page, from the binary. It calls the API like everybody else, and no other host.

use warp::{
    Filter,
    filters::BoxedFilter,
    http::{HeaderValue, header},
    reply::Response,
};

const HTML: &str = include_str!("../../static/index.html");
const STYLES: &str = include_str!("../../static/page.css");
const SCRIPT: &str = include_str!("../../static/page.js");

/// Scripts and styles from here alone; nothing may frame the page. The bar's widths are set by script, which a policy
/// for styles does not touch.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn routes() -> BoxedFilter<(Response,)> {
    // The path comes first: what is no path of the page is not refused for its method here.
    let html = warp::path::end().and(warp::get()).map(|| file("text/html; charset=utf-8", HTML));
    let styles = warp::path!("static" / "page.css").and(warp::get()).map(|| file("text/css; charset=utf-8", STYLES));
    let script =
        warp::path!("static" / "page.js").and(warp::get()).map(|| file("text/javascript; charset=utf-8", SCRIPT));
    html.or(styles).unify().or(script).unify().boxed()
}

fn file(content_type: &'static str, text: &'static str) -> Response {
    let mut response = Response::new(text.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
