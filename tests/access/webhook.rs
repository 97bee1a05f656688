//! Announcements of finished batches, to a receiver that checks their signature.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{
    bearer, call, deeds, idle, printed, said,
    support::{
        app::{App, OPERATOR, Setup, people},
        server::{Received, Server, status},
    },
};

/// Checks a delivery as a receiver does, by the text of Standard Webhooks alone.
fn is_signed(received: &Received, secret: &str) -> bool {
    let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").expect("its prefix")).expect("base64");
    let header = |name: &str| received.headers[name].as_str();
    let signed = format!("{}.{}.{}", header("webhook-id"), header("webhook-timestamp"), received.body);
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length");
    mac.update(signed.as_bytes());
    let expected = format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()));
    header("webhook-signature").split(' ').any(|signature| signature == expected)
}

/// A receiver that refuses the first `failing` deliveries.
fn receiver(failing: usize) -> (Server, Arc<AtomicUsize>) {
    let left = Arc::new(AtomicUsize::new(failing));
    let counted = left.clone();
    let server = Server::start(move |_| {
        let refuse = counted.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        status(if refuse { 503 } else { 204 })
    });
    (server, left)
}

fn webhook(app: &App, client: &str, url: &str) -> String {
    let set = printed(app, &["client", "webhook", client, "--url", url, "--json"]);
    assert_eq!((&set["name"], &set["url"]), (&json!(client), &json!(url)));
    set["secret"].as_str().expect("a secret").to_owned()
}

fn deliveries(app: &App, client: &str) -> Vec<Value> {
    let (status, list) = app.get(OPERATOR, &format!("/ops/v1/clients/{client}/deliveries"));
    assert_eq!(status, 200, "{list}");
    list["deliveries"].as_array().expect("a list").clone()
}

#[test]
fn a_finished_batch_is_announced_signed_until_it_is_taken_and_to_its_client_alone() {
    let app = App::start(Setup::default());
    let globex = app.add_client("globex", None);
    let (ours, _) = receiver(2);
    let (theirs, _) = receiver(0);
    let secret = webhook(&app, "acme", &format!("{}/hook?token=hush-hush", ours.url()));
    let other_secret = webhook(&app, "globex", &theirs.url());
    let id = app.accepted(people(3));
    app.until_status(&id, "completed");
    let delivered = app.until("it is delivered", || {
        let delivery = deliveries(&app, "acme").pop()?;
        (delivery["status"] == "delivered").then_some(delivery)
    });
    let received = ours.received();
    assert_eq!(received.len(), 3, "two were refused: {received:?}");
    let ids: Vec<_> = received.iter().map(|it| it.headers["webhook-id"].as_str()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "each attempt has the same id: {ids:?}");
    assert!(received.iter().all(|it| is_signed(it, &secret) && !is_signed(it, &other_secret)));
    assert!(received.iter().all(|it| it.line == "POST /hook?token=hush-hush HTTP/1.1"), "{received:?}");
    let body: Value = serde_json::from_str(&received[2].body).expect("JSON");
    assert_eq!(
        (&body["type"], &body["data"]["id"], &body["data"]["counts"]["completed"]),
        (&json!("batch.completed"), &json!(id), &json!(3))
    );
    assert!(!received[2].body.contains("mail.example"), "nothing of a row is in it");
    assert_eq!(
        (&delivered["id"], &delivered["batch"], &delivered["attempts"], &delivered["http_status"]),
        (&json!(ids[0]), &json!(id), &json!(3), &json!(204))
    );
    assert!(theirs.received().is_empty() && deliveries(&app, "globex").is_empty());

    let (_, batch) = app.upload(&globex, people(2));
    let cancelled = batch["id"].as_str().expect("an id");
    app.post(&globex, &format!("/v2/batches/{cancelled}/pause"));
    app.post(&globex, &format!("/v2/batches/{cancelled}/cancel"));
    let received = app.until("theirs is told too", || theirs.received().pop());
    let body: Value = serde_json::from_str(&received.body).expect("JSON");
    assert_eq!((&body["type"], &body["data"]["id"]), (&json!("batch.cancelled"), &json!(cancelled)));
    assert_eq!(ours.received().len(), 3);
    let log = app.log();
    assert!(!log.contains("hush-hush") && !log.contains(&secret), "no secret is logged: {log}");
    let database = std::fs::read(app.data_dir().join("dripfeed.db")).expect("a database");
    let bare = BASE64_STANDARD.decode(&secret["whsec_".len()..]).expect("base64");
    assert!(!database.windows(bare.len()).any(|window| window == bare), "the secret is sealed");
}

#[test]
fn an_announcement_survives_a_crash_between_the_end_and_its_delivery() {
    let mut app = App::start(Setup::default());
    let (receiver, refusals) = receiver(usize::MAX);
    let secret = webhook(&app, "acme", &receiver.url());
    let id = app.accepted(people(2));
    app.until_status(&id, "completed");
    app.until("the first attempt is refused", || (!receiver.received().is_empty()).then_some(()));
    app.kill();
    refusals.store(0, Ordering::SeqCst);
    app.serve();
    let delivered = app.until("it is delivered after all", || {
        let delivery = deliveries(&app, "acme").pop()?;
        (delivery["status"] == "delivered").then_some(delivery)
    });
    let received = receiver.received();
    assert!(received.len() >= 2 && received.iter().all(|it| is_signed(it, &secret)));
    assert!(received.iter().all(|it| it.headers["webhook-id"] == delivered["id"].as_str().expect("an id")));
    assert_eq!(deliveries(&app, "acme").len(), 1, "it is announced once");
}

#[test]
fn a_webhook_is_set_over_the_api_changed_and_removed() {
    let app = App::start(idle());
    app.add_client("globex", None);
    let path = "/ops/v1/clients/acme/webhook";
    let operator = bearer(OPERATOR);
    let put = |url: &str| {
        let headers = [("authorization", &operator[..]), super::JSON];
        call(&app, "PUT", path, &headers, &json!({ "url": url }).to_string())
    };
    for wrong in ["ftp://h/", "http://hooks.example/", "https://u:p@h/", "h"] {
        assert_eq!(put(wrong).status, 400, "{wrong}");
    }
    assert_eq!(app.get(OPERATOR, path).0, 404);
    let (first, second) = (put("https://hooks.example/a?token=hush"), put("https://hooks.example/b?token=hush"));
    assert!(first.body["secret"] != second.body["secret"] && first.status == 200, "{first:?}");
    let (_, shown) = app.get(OPERATOR, path);
    assert_eq!(shown["url"], "https://hooks.example/…");
    assert_eq!(app.get(OPERATOR, "/ops/v1/clients/globex/webhook").0, 404);
    assert_eq!(app.get(&app.key, path).0, 403);

    let (gone, _) = receiver(usize::MAX);
    webhook(&app, "acme", &gone.url());
    let id = app.accepted(people(1));
    app.post(&app.key, &format!("/v2/batches/{id}/cancel"));
    app.until("it was tried", || (!gone.received().is_empty()).then_some(()));
    assert!(app.command(&["client", "webhook", "acme", "--remove"]).status.success());
    let given_up = app.until("what is left is given up", || {
        let delivery = deliveries(&app, "acme").pop()?;
        (delivery["status"] == "failed").then_some(delivery)
    });
    assert!(given_up["error"].as_str().expect("a reason").contains("no webhook"), "{given_up}");
    let listed = printed(&app, &["client", "deliveries", "acme", "--json"]);
    assert_eq!(listed["deliveries"], json!([given_up]));
    let again = app.command(&["client", "webhook", "acme", "--remove"]);
    assert!(again.status.code() == Some(1) && said(&again).contains("no webhook"), "{}", said(&again));
    assert_eq!(app.command(&["client", "webhook", "acme", "--url", "ftp://h/"]).status.code(), Some(2));
    assert_eq!(app.command(&["client", "webhook", "acme"]).status.code(), Some(2));
    let actions: Vec<_> = deeds(&app, OPERATOR).into_iter().map(|(_, action, _)| action).collect();
    assert_eq!(actions.iter().filter(|action| *action == "client.webhook").count(), 3);
    assert_eq!(actions[0], "client.webhook-remove");
}
