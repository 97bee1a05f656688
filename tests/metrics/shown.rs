//! Dashboard and alert rules ask for nothing that is not there, and the dashboard shows everything. Labels, types and
//! grammar of their expressions are held by `tests/manifests`, with Prometheus's own parser.

use std::{collections::BTreeSet, fs, path::Path};

use super::{
    dispatch,
    format::Scrape,
    idle, scrape,
    support::app::{App, people},
};

/// Every word of a file that has the form of a metric's name.
fn named_in(file: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = fs::read_to_string(path).expect("a file of ours");
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    let is_metric = |word: &&str| word.starts_with("dripfeed_") || word.starts_with("process_");
    words.filter(is_metric).map(str::to_owned).collect()
}

fn component(file: &str) -> String {
    format!("k8s/components/monitoring/{file}")
}

/// The family that a series of this name belongs to.
fn family<'n>(scrape: &Scrape, name: &'n str) -> Option<&'n str> {
    let parts = ["", "_bucket", "_sum", "_count"];
    parts.iter().filter_map(|part| name.strip_suffix(part)).find(|name| scrape.kinds.contains_key(*name))
}

#[test]
fn what_dashboard_alerts_and_readme_name_is_there_and_everything_is_shown() {
    let app = App::start(idle());
    let id = app.accepted(people(2));
    app.until_status(&id, "queued");
    dispatch(&app);
    app.until_status(&id, "completed");
    let scrape = scrape(&app);
    let (shown, watched) = (named_in(&component("dashboard.json")), named_in(&component("prometheusrule.yaml")));
    assert!(shown.len() > 50 && watched.len() > 15, "{shown:?} {watched:?}");
    for name in shown.union(&watched) {
        assert!(family(&scrape, name).is_some(), "there is no {name}");
    }
    let shown: BTreeSet<&str> = shown.iter().filter_map(|name| family(&scrape, name)).collect();
    let hidden: Vec<&String> = scrape.kinds.keys().filter(|name| !shown.contains(name.as_str())).collect();
    assert_eq!(hidden, Vec::<&String>::new(), "no panel shows them");
    let told = named_in("docs/telemetry.md");
    let untold: Vec<&String> = scrape.kinds.keys().filter(|name| !told.contains(*name)).collect();
    let made_up: Vec<&String> =
        told.iter().filter(|name| !name.ends_with('_') && family(&scrape, name).is_none()).collect();
    assert_eq!((untold, made_up), (vec![], vec![]), "the documentation does not tell of them, or makes them up");
}
