//! What a configuration may say, what is told of one that is wrong, and that the documentation says the same.

use std::collections::BTreeSet;

use super::*;
use crate::model::Concurrency;

const SMALLEST: &str = r#"
    [dependencies.addresses]
    base_url = "http://127.0.0.1:9100"
    rate_per_second = 50
    [dependencies.invites]
    base_url = "http://127.0.0.1:9100/"
    rate_per_second = 0.5
"#;

fn faults(text: &str) -> Vec<String> {
    match Config::from_toml(text, &|_| None) {
        Err(ConfigError::Faults(faults)) => faults.iter().map(ToString::to_string).collect(),
        other => panic!("no faults: {other:?}"),
    }
}

#[test]
fn the_template_loads_and_says_what_the_defaults_are() {
    let token = |name: &str| (name == "DRIPFEED_OPERATOR_TOKEN").then(|| "0123456789abcdef".to_owned());
    let from_template = Config::from_toml(TEMPLATE, &token).expect("it has no faults");
    let smallest = Config::from_toml(SMALLEST, &|_| None).expect("it has no faults");
    assert_eq!(from_template.workers.under_way, smallest.workers.under_way);
    assert_eq!(from_template.workflows, smallest.workflows);
    let invite = &smallest.workflows["invite"];
    assert_eq!((invite.columns.len(), invite.steps.len(), invite.max_rows), (6, 3, 1_000_000));
    assert_eq!(invite.steps[2].result.as_deref(), Some("check_id"));
    assert_eq!(smallest.dependencies["invites"].base_url, "http://127.0.0.1:9100");
}

#[test]
fn every_fault_is_told_at_once_with_its_key() {
    let found = faults(
        r#"
        [server]
        lisen = "127.0.0.1:1"
        trusted_proxies = ["10.0.0.0/8", "the-proxy"]
        [workers]
        under_way = 0
        claim_ttl = "soon"
        [access]
        operator_token = "${NOWHERE}"
        [dependencies.addresses]
        base_url = "ftp://x"
        rate_per_second = -1
        concurrency = "many"
        [dependencies.invites]
        base_url = "http://h"
        [workflows.invite]
        max_attempts = "five"
    "#,
    );
    for expected in [
        "server.lisen: is not known; did you mean `listen`?",
        "server.trusted_proxies: `the-proxy` is no address",
        "workers.under_way: is a whole number from 1 to 65536",
        "workers.claim_ttl: is a duration",
        "access.operator_token: asks for ${NOWHERE}",
        "dependencies.addresses.base_url: is a URL",
        "dependencies.addresses.rate_per_second: is a number above 0",
        "dependencies.addresses.concurrency: is \"auto\", or a whole number from 1 to 16384",
        "dependencies.invites.rate_per_second: is missing",
        "workflows.invite.max_attempts: is a whole number",
    ] {
        assert!(found.iter().any(|fault| fault.starts_with(expected)), "{expected} in {found:#?}");
    }
    assert_eq!(found.len(), 10, "{found:#?}");
}

#[test]
fn concurrency_is_a_number_or_left_to_what_is_measured() {
    for (given, expected) in [
        ("", (Concurrency::Auto, 256)),
        ("concurrency = \"auto\"\nmax_concurrency = 16_384", (Concurrency::Auto, 16_384)),
        ("concurrency = 16_384", (Concurrency::Fixed(16_384), 256)),
    ] {
        let config = Config::from_toml(&format!("{SMALLEST}\n{given}"), &|_| None).expect("no faults");
        let invites = &config.dependencies["invites"];
        assert_eq!((invites.concurrency, invites.max_concurrency), expected, "{given}");
        assert!(invites.adapt);
        let shown: Table = show(&config).parse().expect("TOML");
        let at = |key: &str| shown_at(&shown, &format!("dependencies.invites.{key}"));
        assert_eq!(at("adapt"), Some(true.into()));
        let concurrency = if let (Concurrency::Fixed(limit), _) = expected { limit.into() } else { "auto".into() };
        assert_eq!((at("concurrency"), at("max_concurrency")), (Some(concurrency), Some(expected.1.into())));
    }
    for wrong in ["0", "16_385", "-1", "1.5", "\"16\"", "true"] {
        let found = faults(&format!("{SMALLEST}\nconcurrency = {wrong}"));
        assert!(found.len() == 1 && found[0].contains("is \"auto\", or a whole number"), "{wrong}: {found:?}");
        let found = faults(&format!("{SMALLEST}\nmax_concurrency = {wrong}"));
        assert!(found.len() == 1 && found[0].contains("max_concurrency: is a whole number"), "{wrong}: {found:?}");
    }
}

#[test]
fn lists_of_the_built_in_workflow_are_replaced_whole() {
    let text = format!(
        "{SMALLEST}
        [workflows.invite]
        max_rows = 5
        [[workflows.invite.columns]]
        name = \"email\"
        aliases = [\"mail\"]
        "
    );
    let config = Config::from_toml(&text, &|_| None).expect("no faults");
    let invite = &config.workflows["invite"];
    assert_eq!((invite.columns.len(), invite.steps.len(), invite.max_rows), (1, 3, 5));
}

#[test]
fn a_step_must_know_its_dependency_result_and_template() {
    let found = faults(
        r#"
        [dependencies.a]
        base_url = "http://h"
        rate_per_second = 1
        [workflows.own]
        [[workflows.own.columns]]
        name = "x"
        [[workflows.own.steps]]
        name = "one"
        dependency = "b"
        path = "/{{ row.x"
        save = { id = "id" }
        result = "other"
    "#,
    );
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found.iter().all(|fault| fault.starts_with("workflows.own.steps[0].")), "{found:#?}");
}

#[test]
fn a_line_that_is_no_toml_is_named_and_not_quoted() {
    let broken = format!("{SMALLEST}\n[access]\noperator_token = hush-hush-hush-hush\n");
    let told = Config::from_toml(&broken, &|_| None).expect_err("no TOML").to_string();
    let line = broken.lines().position(|line| line.contains("hush")).expect("the line") + 1;
    assert!(told.contains(&format!("line {line}")) && !told.contains("hush"), "{told}");
}

#[test]
fn secrets_are_not_shown() {
    let text = format!("{SMALLEST}\nheaders = {{ Authorization = \"Bearer hush-hush-hush\" }}");
    let text = format!("{text}\n[access]\noperator_token = \"hush-hush-quiet-token\"");
    let text = format!("{text}\n[alerts.hooks.pager]\nurl = \"https://hooks.example/hush/hush\"");
    let config = Config::from_toml(&text, &|name| Some(format!("hush-hush-of-{name}"))).expect("no faults");
    for shown in [format!("{config:?}"), show(&config)] {
        assert!(!shown.contains("hush"), "{shown}");
    }
}

#[test]
fn tokens_are_their_own_and_none_that_anybody_guesses() {
    let access = |tokens: &str| format!("{SMALLEST}\n[access]\n{tokens}");
    let weak = access("operator_token = \"aaaaaaaaaaaaaaaa\"\nmetrics_token = \"short\"");
    let told = faults(&weak);
    assert!(told.len() == 2 && told[0].starts_with("access.operator_token: can be guessed"), "{told:?}");
    assert!(told[1].starts_with("access.metrics_token: has less than 16 characters"), "{told:?}");
    let equal = access("operator_token = \"one-token-for-all-42\"\ndispatch_token = \"one-token-for-all-42\\n\"");
    assert_eq!(faults(&equal), ["access.dispatch_token: is the same as `operator_token`: each has its own"]);
    let variable = |name: &str| (name == "DRIPFEED_OPERATOR_TOKEN").then(|| "out-of-a-file-4711\r\n".to_owned());
    let config = Config::from_toml(SMALLEST, &variable).expect("no faults");
    assert_eq!(config.access.operator_token.expect("a token").expose(), "out-of-a-file-4711");
}

/// A configuration in which every key there is gets asked for: optional tables are there, and each type of column.
const EVERY_TABLE: &str = r#"
    [objects]
    kind = "minio"
    endpoint = "http://127.0.0.1:9000"
    bucket = "b"
    access_key = "a"
    secret_key = "s"
    [access.oidc]
    issuer = "https://id.example"
    client_id = "c"
    client_secret = "s"
    roles = { viewer = ["v"] }
    [dependencies.NAME]
    base_url = "http://127.0.0.1:9100"
    rate_per_second = 50
    [workflows.NAME]
    upload_path = "/v2/client/users/batch/NAME"
    [[workflows.NAME.columns]]
    name = "a"
    type = "postcode"
    country = "GB"
    [[workflows.NAME.columns]]
    name = "b"
    type = "date"
    format = "%d/%m/%Y"
    [[workflows.NAME.columns]]
    name = "c"
    type = "enum"
    values = ["x"]
    [[workflows.NAME.columns]]
    name = "d"
    type = "regex"
    pattern = "x"
    [[workflows.NAME.steps]]
    name = "one"
    dependency = "NAME"
    path = "/one"
    [alerts.hooks.NAME]
    url = "https://hooks.example"
"#;

/// `workflows.NAME.steps[0].path` -> `workflows.NAME.steps[].path`; tables that only hold other keys are left out.
fn every_key() -> BTreeSet<String> {
    let (_, findings) = Config::read(EVERY_TABLE, &|_| None).expect("TOML");
    assert_eq!(findings.faults, []);
    let without_places = |key: String| (0..8).fold(key, |key, place| key.replace(&format!("[{place}]"), "[]"));
    let keys: BTreeSet<String> = findings.asked.into_iter().map(without_places).collect();
    let holds_others = |key: &str| {
        keys.iter().any(|other| other.starts_with(&format!("{key}.")) || other.starts_with(&format!("{key}[")))
    };
    keys.iter().filter(|key| !holds_others(key)).cloned().collect()
}

/// The rows of the documentation's reference: key -> default.
fn reference() -> BTreeMap<String, String> {
    let reference = concat!(include_str!("../../docs/configuration.md"), include_str!("../../docs/workflows.md"));
    let rows = reference.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|line| line.split_once("` | "));
    rows.filter(|(key, _)| key.contains('.'))
        .map(|(key, rest)| (key.to_owned(), rest.split(" |").next().unwrap_or_default().to_owned()))
        .collect()
}

#[test]
fn the_documentation_names_every_setting_and_none_that_is_not_there() {
    let told: BTreeSet<String> = reference().into_keys().collect();
    let there = every_key();
    let missing: Vec<_> = there.difference(&told).collect();
    let made_up: Vec<_> = told.difference(&there).collect();
    assert!(
        missing.is_empty() && made_up.is_empty(),
        "the documentation misses {missing:#?} and has made up {made_up:#?}"
    );
}

/// What `dripfeed config` shows for a key; of a list's tables, for the first one.
fn shown_at(shown: &Table, key: &str) -> Option<Value> {
    let (first, rest) = key.split_once('.').unwrap_or((key, ""));
    let value = match first.strip_suffix("[]") {
        Some(list) => shown.get(list)?.get(0)?,
        None => shown.get(first)?,
    };
    if rest.is_empty() { Some(value.clone()) } else { shown_at(value.as_table()?, rest) }
}

/// A duration or size in its smallest unit, however it is written.
fn measured(value: &Value) -> Value {
    let text = value.as_str().unwrap_or_default();
    let millis = parse_duration(text).ok().map(|duration| Value::from(duration.as_millis() as i64));
    let bytes = units::parse_size(text).ok().map(|bytes| Value::from(bytes as i64));
    millis.or(bytes).unwrap_or_else(|| value.clone())
}

fn show_every_table() -> Table {
    show(&Config::from_toml(EVERY_TABLE, &|_| None).expect("no faults")).parse().expect("TOML")
}

#[test]
fn the_readme_tells_the_defaults_that_are_in_force() {
    let shown = show_every_table();
    let mut compared = 0;
    for (key, told) in reference() {
        let in_force = shown_at(&shown, &key);
        if let Some(told) = told.strip_prefix('`').and_then(|told| told.strip_suffix('`')) {
            // `type`, `country` and the like are given in the table above: they have to be, to be asked for.
            if !["country", "format", "type"].iter().any(|given| key.ends_with(given)) {
                let told: Table = format!("it = {told}").parse().unwrap_or_else(|_| panic!("{key}: {told} is no TOML"));
                assert_eq!(Some(measured(&told["it"])), in_force.as_ref().map(measured), "{key}");
                compared += 1;
            }
        } else if told != "required" {
            let nothing = in_force.is_none_or(|value| {
                ["", "off", "never", "[]", "{}", told.as_str()].contains(&value.to_string().trim_matches('"'))
                    || key.contains("[]")
            });
            assert!(nothing, "{key}: the documentation tells no default, and there is one");
        }
    }
    assert!(compared > 20, "only {compared} defaults were compared");
}

#[test]
fn what_is_in_force_is_shown_with_every_setting() {
    let shown = show_every_table();
    let hidden: Vec<_> =
        every_key().into_iter().filter(|key| !key.contains("[]") && shown_at(&shown, key).is_none()).collect();
    assert!(hidden.is_empty(), "`dripfeed config` does not show {hidden:#?}");
}
