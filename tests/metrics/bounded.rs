//! However much there is, there are no more series; and nothing of a row, a client or a file is in them.

use super::{
    METRICS, asked, dispatch, idle, scrape,
    support::app::{App, OPERATOR, Setup, agent, people},
};

/// Makes every kind of thing that could be mistaken for a label.
fn much(app: &App, round: usize) {
    for client in 0..5 {
        let key = app.add_client(&format!("client-{round}-{client}"), Some(10));
        let file = people(3).replace("mail.example", &format!("secret{round}-{client}.example"));
        let (status, batch) = app.upload(&key, file);
        assert_eq!(status, 202, "{batch}");
        let id = batch["id"].as_str().expect("an id");
        assert_eq!(app.upload(&key, "email\nx\n").0, 422);
        for path in [format!("/v2/batches/{id}"), format!("/v2/batches/{id}/rows/1"), format!("/odd/{round}/{client}")]
        {
            app.get(&key, &path);
        }
        app.get(OPERATOR, &format!("/ops/v1/clients/client-{round}-{client}"));
        app.until("it is queued", || (app.batch_of(&key, id)["status"] == "queued").then_some(()));
        dispatch(app);
        app.until("it is done", || (app.batch_of(&key, id)["status"] == "completed").then_some(()));
    }
    for query in ["?a=b", "?x", "%20"] {
        agent().get(app.url(&format!("/v2/batches{query}{round}"))).call().expect("an answer");
    }
}

#[test]
fn clients_batches_and_paths_make_no_series() {
    let app = App::start(Setup { access: format!("session_ttl = \"1h\"\n{}", idle().access), ..idle() });
    much(&app, 1);
    let before = scrape(&app).series();
    // What the scrape itself brought is there from now on.
    let before: Vec<_> = before.union(&scrape(&app).series()).cloned().collect();
    for round in 2..5 {
        much(&app, round);
    }
    let after = scrape(&app);
    let new: Vec<_> = after.series().into_iter().filter(|series| !before.contains(series)).collect();
    assert_eq!(new, [], "there are more series than before");
    assert!(after.samples.len() < 1_000, "{}", after.samples.len());
    assert!(after.sum("dripfeed_rows_completed_total", &[]) >= 60.0, "and yet everything is counted");
    let (_, _, text) = asked(&app, Some(METRICS));
    for private in ["client-", "acme", "secret", "example", "Smith", "07700", "bat_", "odd", "@", &app.key, METRICS] {
        assert!(!text.contains(private), "{private} is told");
    }
    let routes: Vec<&str> = text.lines().filter(|line| line.contains("route=\"/v2/batches/ID")).collect();
    assert!(!routes.is_empty(), "routes are told by their pattern");
}
