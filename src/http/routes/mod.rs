//! Every call of the API, declared once: path, label in metrics and logs, entry in the OpenAPI document, who it is for, and
//! the handler. [`client`] and [`operator`] are the tables; what is here finds the route of a request in them.

mod client;
mod operator;
mod path;
mod route;

use std::sync::Arc;

use bytes::Bytes;
use warp::{
    Filter,
    filters::BoxedFilter,
    http::{HeaderValue, Method, header},
    path::FullPath,
    reply::Response,
};

pub use self::{path::Path, route::Route};
use super::{
    Context, Side,
    access::turn_of_bearer,
    answer::{answer, finished, of_route, unrouted},
    openapi::{self, By},
    page,
    problem::{Problem, ProblemCode},
    request::{Parts, Request, parts},
    small_json::{Pieces, pieces},
};
use crate::model::Workflow;

/// What the page's own files are called in metrics.
const PAGE: &str = "page";

/// Everything that is answered on a listener.
struct Table {
    routes: Vec<Route>,
    context: Context,
}

/// Everything that the server answers on a listener of this side, problems included.
pub fn routes(context: Context, side: Side) -> BoxedFilter<(Response,)> {
    let table = Arc::new(Table::new(context, side));
    let request = warp::path::full().and(parts()).and(warp::body::stream());
    request
        .then(move |path: FullPath, parts, body| {
            let (table, body) = (table.clone(), pieces(body));
            async move { table.answer(path.as_str(), parts, body).await }
        })
        .boxed()
}

/// All that there is with these workflows; `document` is what `/openapi.json` answers.
fn declared<'w>(workflows: impl Iterator<Item = &'w Workflow>, document: Bytes) -> Vec<Route> {
    workflows.flat_map(client::of_workflow).chain(client::routes(document)).chain(operator::routes()).collect()
}

impl Table {
    fn new(context: Context, side: Side) -> Self {
        let workflows = || context.appliance.config.workflows.values();
        // It describes its own call too: so all are declared once to be described, and once to answer.
        let described = declared(workflows(), Bytes::new());
        let document = openapi::document(described.iter().map(|route| &route.operation)).to_string();
        let mut routes = declared(workflows(), document.into());
        routes.retain(|route| side.has(&route.operation.path.described()));
        Self { routes, context }
    }

    async fn answer(&self, path: &str, parts: Parts, body: Pieces) -> Response {
        let response = match self.find(path, &parts.method) {
            Ok((route, values)) => self.answer_by(route, &values, parts, body).await,
            Err(known) => match page::at(path, &parts.headers) {
                Some(response) if parts.method == Method::GET => of_route(PAGE, response),
                Some(_) => other_method(&[Method::GET]),
                None if known.is_empty() => unrouted(Problem::not_found("path")),
                None => other_method(&known),
            },
        };
        finished(response, &self.context.appliance.metrics.requests)
    }

    /// The route of a request, and the values in its path; else the methods that the path knows, none where there is no such
    /// path.
    fn find<'t, 'p>(&'t self, path: &'p str, method: &Method) -> Result<(&'t Route, Vec<&'p str>), Vec<Method>> {
        let mut known = Vec::new();
        for route in &self.routes {
            let Some(values) = route.values(path) else { continue };
            if route.operation.method == *method {
                return Ok((route, values));
            }
            known.push(route.operation.method.clone());
        }
        Err(known)
    }

    async fn answer_by(&self, route: &Route, values: &[&str], parts: Parts, body: Pieces) -> Response {
        let operation = &route.operation;
        let request = Request::new(self.context.clone(), parts, operation.by.scope());
        if operation.by != By::Anybody {
            turn_of_bearer(&request).await;
        }
        match route.answer(values, request, body) {
            Some(answering) => answer(operation.path.label, answering).await,
            None => unrouted(Problem::not_found("path")),
        }
    }
}

/// What is told who asks by a method that the path does not know. `HEAD` is there wherever `GET` is (RFC 9110).
fn other_method(known: &[Method]) -> Response {
    let mut response = unrouted(Problem::new(ProblemCode::MethodNotAllowed, "This path does not know that method."));
    let names: Vec<&str> =
        known.iter().map(|method| if *method == Method::GET { "GET, HEAD" } else { method.as_str() }).collect();
    response
        .headers_mut()
        .extend(HeaderValue::from_str(&names.join(", ")).ok().map(|allowed| (header::ALLOW, allowed)));
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{config::Config, http::openapi::Operation};

    /// All that there is with the built-in workflow.
    fn all() -> Vec<Route> {
        let config = "[dependencies.addresses]\nbase_url = \"http://127.0.0.1:1\"\nrate_per_second = 1\n\
                      [dependencies.invites]\nbase_url = \"http://127.0.0.1:1\"\nrate_per_second = 1";
        let config = Config::from_toml(config, &|_| None).expect("a configuration");
        declared(config.workflows.values(), Bytes::new())
    }

    #[test]
    fn no_call_stands_in_the_way_of_another_and_each_takes_as_many_values_as_its_path_has() {
        let all = all();
        assert!(all.len() > 50, "{}", all.len());
        let value = |name: &str| if name == "id" { "bat_01KB1Y3M0Q8V5T2N7R4C6D9E0F" } else { "1" };
        let mut paths = BTreeSet::new();
        for route in &all {
            let Operation { path, method, .. } = &route.operation;
            let filled_in = |text: String, name: String| text.replace(&format!("{{{name}}}"), value(&name));
            let example = path.names().fold(path.described(), filled_in);
            let answering = |other: &&Route| other.operation.method == *method && other.values(&example).is_some();
            let found: Vec<String> = all.iter().filter(answering).map(|it| it.operation.path.described()).collect();
            assert_eq!(found, [path.described()], "{method} {example}");
            assert!(paths.insert(format!("{method} {}", path.described())), "{method} {example} is there twice");
        }
    }
}
