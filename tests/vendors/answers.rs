//! What answers mean, and what requests carry: good answers that look odd, and bad ones that are one row's affair.

use crate::{
    support::server::Server,
    zoo::{QUICK, api, app, counts, created, dependency, ended, ends, gate_is_open, upload, workflow},
};

/// Cells that make a line or a header longer than some buffer: of a connection, of a proxy, of a template.
const LENGTHS: [usize; 6] = [6_000, 12_000, 25_000, 40_000, 60_000, 400_000];

/// Ten short rows, and one of each of the lengths among them; with how long each is.
fn short_and_long() -> (String, Vec<(String, usize)>) {
    let lengths = (0..16).map(|row| if row % 3 == 1 && row / 3 < 6 { LENGTHS[row / 3] } else { 3 });
    let rows: Vec<_> = lengths.enumerate().map(|(row, length)| (format!("p{row}@long.example"), length)).collect();
    let csv = rows.iter().fold("email,note\n".to_owned(), |csv, (email, length)| {
        // Spaces take three bytes in a query.
        csv + &format!("{email},{}\n", "n n".repeat(length / 3))
    });
    (csv, rows)
}

#[test]
fn a_cell_too_long_for_a_request_line_or_header_fails_its_row_alone() {
    let places = [
        ("line", "query = { a = \"{{ row.note }}\", b = \"{{ row.note }}\" }"),
        ("header", "headers = { X-A = \"{{ row.note }}\", X-B = \"{{ row.note }}\" }"),
    ];
    for (place, keys) in places {
        let server = Server::start(created);
        let strict = "rate_per_second = 100\nburst = 20\ngate_after = 2";
        let app = app(&[api("one", &server, strict, "max_attempts = 2", keys)]);
        let (csv, rows) = short_and_long();
        let id = upload(&app, &app.key, "one", &csv);
        ended(&app, &app.key, &id);
        let (ends, calls) = (ends(&app, &id), counts(&server));
        for (email, length) in rows {
            let (end, calls) = (ends[&email].as_str(), calls.get(&email).copied().unwrap_or(0));
            let is_right = (end, calls) == ("completed", 1) || length > 3 && (end, calls) == ("template", 0);
            assert!(is_right, "{place}: a cell of {length} ended as {end} after {calls} calls");
        }
        assert!(gate_is_open(&app, "one"), "{place}: it is not the vendor's fault");
    }
}

#[test]
fn a_long_cell_in_a_body_is_sent() {
    const LONG: usize = 60_000;
    let server = Server::start(created);
    let step = "name = \"one\"\ndependency = \"one\"\nmethod = \"POST\"\npath = \"/one\"\n\
                json = { email = \"{{ row.email }}\", note = \"{{ row.note }}\" }";
    let app = app(&[dependency("one", server.address, QUICK), workflow("one", "", &[step.to_owned()])]);
    let id = upload(&app, &app.key, "one", &format!("email,note\nann@long.example,{}\n", "n".repeat(LONG)));
    ended(&app, &app.key, &id);
    assert_eq!(ends(&app, &id)["ann@long.example"], "completed");
    assert!(server.calls() == 1 && server.received()[0].body.len() > LONG);
}
