//! Cells that a spreadsheet would run: in a row, a header, an answer of an API, the list of a file's errors; and cut free by
//! whatever separator the reader's spreadsheet goes by.

use serde_json::json;

use crate::support::{
    app::{App, Setup, agent},
    server::{Server, ok, status},
};

const PAYLOAD: &str = "=cmd|' /C calc'!A0";
/// What a reader's spreadsheet may separate by.
const SEPARATORS: [char; 6] = [',', ';', '\t', '|', ':', ' '];

/// Cells that are a payload to one reader or another.
fn hostile() -> Vec<String> {
    let mut cells: Vec<String> =
        ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "＝1+1", "＋1", "－1", "＠SUM(A1)", "'=1", "''=1"]
            .map(str::to_owned)
            .into();
    for between in [
        ";",
        ",",
        "\t",
        "|",
        ":",
        " ",
        "\n",
        "\r",
        "\r\n",
        "\u{2028}",
        ";\"",
        "\",\"",
        "; ",
        ";\u{a0}",
        ";\u{200b}",
        ";;",
    ] {
        cells.push(format!("x{between}{PAYLOAD}"));
        cells.push(format!("{between}{PAYLOAD}"));
        cells.push(format!("x{between}＝1+1"));
        cells.push(format!("x{between}'{PAYLOAD}"));
    }
    cells
}

/// Every cell that a reader would see who separates by this, goes by quotes or not, and passes over what cannot be seen.
fn cells(file: &str, separator: char) -> Vec<String> {
    let lines = file.split(['\r', '\n', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}']);
    let mut cells: Vec<String> = lines.flat_map(|line| line.split(separator)).map(str::to_owned).collect();
    let mut separators = [0; 1];
    separator.encode_utf8(&mut separators);
    let mut quoted = csv::ReaderBuilder::new();
    quoted.delimiter(separators[0]).flexible(true).has_headers(false);
    for record in quoted.from_reader(file.as_bytes()).records() {
        cells.extend(record.expect("UTF-8").iter().map(str::to_owned));
    }
    cells
}

/// The cells of a file that some spreadsheet would run.
fn run(file: &str) -> Vec<String> {
    let is_run = |cell: &String| {
        let unseen =
            |sign: char| sign.is_whitespace() || sign.is_control() || matches!(sign, '"' | '\u{200b}' | '\u{feff}');
        cell.trim_start_matches(unseen).starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠'])
    };
    SEPARATORS.iter().flat_map(|separator| cells(file, *separator)).filter(is_run).collect()
}

fn csv_of(records: &[Vec<String>]) -> String {
    let mut csv = csv::Writer::from_writer(Vec::new());
    records.iter().for_each(|record| csv.write_record(record).expect("written"));
    String::from_utf8(csv.into_inner().expect("written")).expect("UTF-8")
}

fn results(app: &App, id: &str, query: &str) -> String {
    let request = agent().get(app.url(&format!("/v2/batches/{id}/results.csv{query}")));
    let mut response = request.header("Authorization", format!("Bearer {}", app.key)).call().expect("an answer");
    assert_eq!(response.status(), 200);
    response.body_mut().read_to_string().expect("a body")
}

fn values(file: &str, column: &str) -> Vec<String> {
    let mut reader = csv::Reader::from_reader(file.as_bytes());
    let place = reader.headers().expect("a header").iter().position(|name| name == column).expect(column);
    reader.records().map(|record| record.expect("a record")[place].to_owned()).collect()
}

#[test]
fn no_cell_of_a_result_file_is_run_whatever_separates_and_all_come_back() {
    let server = Server::start(|request| match request.path() {
        "/address-links" => ok(r#"{"link": "l-1"}"#),
        "/addresses" => ok(r#"{"addresses": [{"id": "a-1"}]}"#),
        // The vendor, too, may mean harm.
        _ if request.body.contains("p0@") => ok(&json!({ "check_id": format!("x;{PAYLOAD}") }).to_string()),
        _ => status(422),
    });
    let more = "[workflows.invite]\nextra_columns = \"keep\"\npause_after_failures = 1000".to_owned();
    let app = App::start(Setup { downstream: Some(server.address), more, ..Setup::default() });
    let extra = format!("note;{PAYLOAD}");
    let mut names = ["email", "first_name", "last_name", "postcode", "house_number"].map(str::to_owned).to_vec();
    names.push(extra.clone());
    let mut records = vec![names];
    let hostile = hostile();
    for (number, cell) in hostile.iter().enumerate() {
        let mut record = vec![format!("p{number}@mail.example"), cell.clone(), cell.clone()];
        record.extend(["AB1 2CD".to_owned(), "1".to_owned(), cell.clone()]);
        records.push(record);
    }
    let id = app.accepted(csv_of(&records));
    app.until_status(&id, "completed");
    let safe = results(&app, &id, "");
    assert_eq!(run(&safe), Vec::<String>::new());
    assert_eq!(values(&safe, "_check_id")[0], format!("x;'{PAYLOAD}"));
    let raw = results(&app, &id, "?raw=true");
    assert!(run(&raw).len() > hostile.len(), "what is not protected is found: {}", run(&raw).len());

    // What failed goes around, in either form, and stays what it was.
    let failed = results(&app, &id, "?status=failed");
    let again = app.accepted(&failed);
    app.until_status(&again, "completed");
    let raw = results(&app, &again, "?raw=true");
    for column in ["first_name", "last_name", &extra] {
        assert_eq!(values(&raw, column), hostile[1..], "{column}");
    }
    assert_eq!(
        values(&results(&app, &again, "?status=failed"), &format!("note;'{PAYLOAD}")),
        values(&failed, &format!("note;'{PAYLOAD}"))
    );
}

#[test]
fn no_cell_of_the_list_of_errors_is_run_whatever_separates() {
    let app = App::start(Setup { more: "[workflows.invite]\nextra_columns = \"reject\"".into(), ..Setup::default() });
    let mut names = ["email", "first_name", "last_name", "postcode", "house_number"].map(str::to_owned).to_vec();
    names.extend(hostile());
    let request = agent().post(app.url("/v2/client/users/batch/invite"));
    let mut response = request
        .header("Authorization", format!("Bearer {}", app.key))
        .header("Content-Type", "text/csv")
        .header("Accept", "text/csv")
        .send(csv_of(&[names]))
        .expect("an answer");
    assert_eq!(response.status(), 422);
    let errors = response.body_mut().read_to_string().expect("a body");
    assert!(values(&errors, "code").len() >= hostile().len(), "{errors}");
    assert_eq!(run(&errors), Vec::<String>::new());
}
