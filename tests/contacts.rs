//! Contacts as people really export them, through a workflow that exists in a configuration file only.

mod support;

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};
use support::app::{App, Setup};

/// Other column names than ours, columns that nobody needs, and the house number somewhere in the address.
const WORKFLOW: &str = r#"
[workflows.contacts]
upload_path = "/v2/client/contacts"
extra_columns = "keep"
columns = [
    { name = "email", type = "email", required = true, unique = true },
    { name = "given_name", required = true, aliases = ["first_name"] },
    { name = "family_name", required = true, aliases = ["last_name"] },
    { name = "address", required = true },
    { name = "postcode", type = "postcode", country = "GB", required = true, aliases = ["postal"] },
    { name = "phone", type = "phone", aliases = ["phone1"] },
]
[[workflows.contacts.steps]]
name = "address-links"
dependency = "addresses"
method = "POST"
path = "/address-links"
json = { postcode = "{{ row.postcode }}", house_number = "{{ row.address | split(' ') | first }}" }
save = { link = "/link" }
[[workflows.contacts.steps]]
name = "get-addresses"
dependency = "addresses"
method = "GET"
path = "/addresses"
query = { link = "{{ saved.link }}" }
save = { address_id = "/addresses/0/id" }
[[workflows.contacts.steps]]
name = "invite-create"
dependency = "invites"
method = "POST"
path = "/invites"
json = { email = "{{ row.email }}", name = "{{ row.given_name }} {{ row.family_name }}", company = "{{ row.company_name }}", address_id = "{{ saved.address_id }}" }
save = { check_id = "/check_id" }
result = "check_id"
"#;

fn post(address: &str, path: &str, body: &Value) -> Value {
    let sent = support::app::agent().post(format!("http://{address}{path}")).send(body.to_string());
    let text = sent.expect("an answer").body_mut().read_to_string().expect("a body");
    serde_json::from_str(&text).expect("JSON")
}

/// Asks the downstream for a contact's check id as a person with curl would; asked the same again, it says the same.
fn asked_directly(address: &str, contact: &csv::StringRecord, columns: &BTreeMap<&str, usize>) -> Value {
    let cell = |name: &str| &contact[columns[name]];
    let house_number = cell("address").split(' ').next().expect("a word");
    let link = post(address, "/address-links", &json!({ "postcode": cell("postal"), "house_number": house_number }));
    let url = format!("http://{address}/addresses?link={}", link["link"].as_str().expect("a link"));
    let found = support::app::agent().get(url).call().expect("an answer").body_mut().read_to_string().expect("a body");
    let found: Value = serde_json::from_str(&found).expect("JSON");
    // The members in the order in which TOML keeps a table's keys.
    let invite = json!({
        "address_id": found["addresses"][0]["id"],
        "company": cell("company_name"),
        "email": cell("email"),
        "name": format!("{} {}", cell("first_name"), cell("last_name")),
    });
    post(address, "/invites", &invite)["check_id"].clone()
}

fn every_row_gets_its_check_id(file: &Path) {
    let app = App::start(Setup { more: WORKFLOW.into(), ..Setup::default() });
    let bytes = std::fs::read(file).expect("the file");
    let (status, batch) = app.upload_as(&app.key, "/v2/client/contacts", &[("Content-Type", "text/csv")], &bytes);
    assert_eq!(status, 202, "{batch}");
    let id = batch["id"].as_str().expect("an id");
    let mut reader = csv::Reader::from_reader(&bytes[..]);
    let header = reader.headers().expect("a header").clone();
    let columns: BTreeMap<&str, usize> = header.iter().enumerate().map(|(place, name)| (name, place)).collect();
    let contacts: Vec<_> = reader.records().collect::<Result<_, _>>().expect("a CSV");

    let batch = app.until_status(id, "completed");
    assert_eq!(batch["counts"]["completed"], contacts.len(), "{batch}");
    let rows = app.rows(id);
    let downstream = app.simulator.address().to_string();
    assert_eq!(rows.len(), contacts.len());
    for (row, contact) in rows.iter().zip(&contacts) {
        assert_eq!(row["check_id"], asked_directly(&downstream, contact, &columns), "{row}");
        assert_eq!(row["data"]["company_name"], contact[columns["company_name"]], "extra columns are kept");
        assert_eq!(row["data"]["given_name"], contact[columns["first_name"]], "an alias is its column");
    }
}

#[test]
fn untidy_contacts_of_our_own_get_their_check_ids() {
    every_row_gets_its_check_id(Path::new("tests/fixtures/contacts.csv"));
}

#[test]
fn five_hundred_real_contacts_get_their_check_ids() {
    let file = Path::new("../shared/data/uk-500.csv");
    if file.exists() {
        every_row_gets_its_check_id(file);
    } else {
        // Written past the capture of the test harness: a skip has to be seen.
        use std::io::Write;
        let said = "\nSKIPPED five_hundred_real_contacts_get_their_check_ids: ../shared/data/uk-500.csv is not here\n";
        std::io::stderr().write_all(said.as_bytes()).expect("standard error");
    }
}
