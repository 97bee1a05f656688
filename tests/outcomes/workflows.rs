//! What can be uploaded, and an empty file to fill in.

use serde_json::json;

use crate::support::app::{App, DISPATCH, OPERATOR, Setup};

const CARDS: &str = r#"
[workflows.cards]
upload_path = "/v2/client/cards"
extra_columns = "keep"
on_invalid_row = "skip"
[[workflows.cards.columns]]
name = "number"
type = "regex"
pattern = "[A-Z]{2}\\d{6}"
required = true
[[workflows.cards.columns]]
name = "since"
type = "date"
format = "%d/%m/%Y"
required = true
[[workflows.cards.columns]]
name = "colour"
type = "enum"
values = ["red", "blue"]
aliases = ["color"]
[[workflows.cards.steps]]
name = "order"
dependency = "invites"
method = "POST"
path = "/invites"
json = { number = "{{ row.number }}" }
save = { check_id = "/check_id" }
"#;

#[test]
fn every_workflow_says_what_it_takes_and_its_template_would_be_taken() {
    let app = App::start(Setup { more: format!("[workflows.invite]\nmax_rows = 5\n{CARDS}"), ..Setup::default() });
    let (status, list) = app.get(&app.key, "/v2/workflows");
    assert_eq!(status, 200, "{list}");
    let workflows = list["workflows"].as_array().expect("a list");
    let (cards, invite) = (&workflows[0], &workflows[1]);
    assert_eq!(
        (&cards["name"], &cards["extra_columns"], &cards["on_invalid_row"]),
        (&json!("cards"), &json!("keep"), &json!("skip"))
    );
    assert_eq!(
        cards["columns"][2],
        json!({ "name": "colour", "aliases": ["color"], "type": "enum", "required": false, "unique": false,
                "max_length": 1000, "values": ["red", "blue"] })
    );
    assert_eq!(
        (&cards["columns"][0]["pattern"], &cards["columns"][1]["format"]),
        (&json!("[A-Z]{2}\\d{6}"), &json!("%d/%m/%Y"))
    );
    assert_eq!(invite["upload_path"], "/v2/client/users/batch/invite");
    assert_eq!(invite["limits"], json!({ "max_rows": 5, "max_bytes": 1_000_000_000 }));
    assert_eq!(invite["columns"][0]["type"], "email");
    assert_eq!(app.get(OPERATOR, "/v2/workflows").0, 200);
    assert_eq!(app.get(DISPATCH, "/v2/workflows").0, 403);
    assert_eq!(app.get("nobody", "/v2/workflows").0, 401);

    for workflow in workflows {
        let (path, upload) =
            (workflow["template"].as_str().expect("a path"), workflow["upload_path"].as_str().expect("a path"));
        let (status, template) = app.get(&app.key, path);
        let template = template.as_str().expect("CSV").to_owned();
        assert_eq!((status, template.lines().count()), (200, 2), "{template}");
        let check = format!("{upload}?validate_only=true");
        let (status, valid) = app.upload_as(&app.key, &check, &[("Content-Type", "text/csv")], template.as_bytes());
        assert_eq!((status, &valid["rows"]), (200, &json!(1)), "{valid}: {template}");
    }
    let (_, template) = app.get(&app.key, "/v2/client/users/batch/invite/template.csv");
    let header = template.as_str().expect("CSV").lines().next();
    assert_eq!(header, Some("email,first_name,last_name,phone,postcode,house_number"));
    assert_eq!(app.get(&app.key, "/v2/client/nothing/template.csv").0, 404);
}
