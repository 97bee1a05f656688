//! What is private is sealed: nothing of it in the data folder, the bucket, the log; and without the right key nothing
//! opens.

mod support;

use std::process::Output;

use dripfeed::simulator::SimulatorOptions;
use support::{
    app::{App, Setup, files},
    s3::S3Server,
};

/// A text that would stand out anywhere.
fn canary(what: &str) -> String {
    format!("CANARY{what}YRANAC")
}

fn assert_unseen(canaries: &[String], where_it_is: &str, bytes: &[u8]) {
    for canary in canaries {
        let found = bytes.windows(canary.len()).any(|window| window.eq_ignore_ascii_case(canary.as_bytes()));
        assert!(!found, "{canary} in {where_it_is}");
    }
}

#[test]
fn no_canary_is_found_on_disk_in_the_bucket_or_in_the_log() {
    let bucket = tempfile::tempdir().expect("a folder");
    let s3 = S3Server::start(bucket.path());
    let settings = s3.settings();
    let more = format!(
        "[objects]\nkind = \"minio\"\nendpoint = \"{}\"\nbucket = \"{}\"\naccess_key = \"{}\"\nsecret_key = \"{}\"\n\
         [log]\nfilter = \"trace\"",
        settings.endpoint, settings.bucket, settings.access_key, settings.secret_key
    );
    let flaky = SimulatorOptions { errors: 0.3, seed: 11, ..SimulatorOptions::default() };
    let mut app = App::start(Setup { more, simulator: flaky, ..Setup::default() });
    let names = ["EMAIL", "FIRST", "LAST", "CONTEXT", "FILENAME", "PLACE"].map(canary);
    let [email, first, last, context, file_name, place] = &names;
    let csv = (0..40).map(|row| {
        let domain = if row % 5 == 0 { "rejected.example" } else { "mail.example" };
        format!("{email}{row}@{domain},{first},{last},07700 900123,AB1 2CD,{place}{row}\n")
    });
    let csv = "email,first_name,last_name,phone,postcode,house_number\n".to_owned() + &csv.collect::<String>();
    let boundary = "b";
    let body = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"context\"\r\n\r\n{{\"note\":\"{context}\"}}\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{file_name}.csv\"\r\n\r\n{csv}\r\n\
         --{boundary}--\r\n"
    );
    let content_type = format!("multipart/form-data; boundary={boundary}");
    let path = "/v2/client/users/batch/invite";
    let (status, batch) = app.upload_as(&app.key, path, &[("Content-Type", &content_type)], body.as_bytes());
    assert_eq!(status, 202, "{batch}");
    let id = batch["id"].as_str().expect("an id").to_owned();
    app.until("some rows wait for another try", || {
        app.rows(&id).iter().any(|row| row["status"] == "pending" && row["error"].is_object()).then_some(())
    });
    app.simulator.set_faults(0.0, 0.0);
    app.until_status(&id, "completed");
    let rows = app.rows(&id);
    // What the downstream said is as private as what came from the client.
    let saved = |row: &serde_json::Value, step: usize, name: &str| {
        row["steps"][step]["saved"][name].as_str().map(str::to_owned)
    };
    let mut canaries = names.to_vec();
    canaries.extend(rows.iter().take(3).filter_map(|row| saved(row, 0, "link")));
    canaries.extend(rows.iter().filter_map(|row| row["check_id"].as_str().map(str::to_owned)).take(3));
    canaries.extend(["this address cannot be invited".to_owned(), app.key.clone(), settings.secret_key.clone()]);
    assert_eq!(canaries.len(), 15, "{canaries:?}");

    let log = app.log();
    assert!(log.len() > 1_000, "the log says something");
    assert_unseen(&canaries, "the log", log.as_bytes());
    let kept = |folder: &std::path::Path| {
        let kept = files(folder);
        assert!(!kept.is_empty());
        for file in kept {
            assert_unseen(&canaries, &file.display().to_string(), &std::fs::read(&file).expect("a file"));
        }
    };
    assert!(files(&app.data_dir()).iter().any(|file| file.to_string_lossy().ends_with("-wal")), "the WAL is looked at");
    kept(&app.data_dir());
    kept(bucket.path());
    app.terminate();
    kept(&app.data_dir());
}

fn serve_fails(app: &App) -> String {
    let Output { status, stderr, .. } = app.command(&["serve"]);
    assert_eq!(status.code(), Some(2));
    String::from_utf8(stderr).expect("text")
}

#[test]
fn without_the_right_key_a_server_refuses_to_start_and_says_what_to_do() {
    let mut app = App::start(Setup::default());
    app.accepted(support::app::people(1));
    app.terminate();
    let keys = app.folder.path().join("keys");
    let right = std::fs::read_to_string(&keys).expect("a key file");

    std::fs::remove_file(&keys).expect("removed");
    let missing = serve_fails(&app);
    assert!(missing.contains("there are no encryption keys") && missing.contains("put back the key file"), "{missing}");

    let other_bytes = "test:/w8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8PDw8=";
    support::app::write_private(&keys, other_bytes);
    let wrong = serve_fails(&app);
    assert!(wrong.contains("`test` is not the one that sealed this database"), "{wrong}");

    std::fs::write(&keys, other_bytes.replace("test", "new")).expect("written");
    let absent = serve_fails(&app);
    assert!(absent.contains("the key `test` sealed data") && absent.contains("add its line back"), "{absent}");

    std::fs::write(&keys, "test:AAEC").expect("written");
    let short = serve_fails(&app);
    assert!(short.contains("line 1") && !short.contains("AAEC"), "{short}");

    // A new key in front of the right one seals from now on, and the old one still opens.
    std::fs::write(&keys, format!("{}\n{right}", other_bytes.replace("test", "new"))).expect("written");
    app.serve();
    let (_, list) = app.get(&app.key, "/v2/batches");
    let id = list["batches"][0]["id"].as_str().expect("an id").to_owned();
    app.until_status(&id, "completed");
    let second = app.accepted(support::app::people(2));
    app.until_status(&second, "completed");
}
