//! What somebody else wrote moves nobody's terminal, and who reads no further ends nothing but the reading.

use std::{
    io::{BufRead, BufReader, Read},
    process::Stdio,
};

use serde_json::{Value, json};

use crate::{
    raw::idle,
    support::{
        app::{App, OPERATOR, people},
        server::{Reply, Server},
    },
};

/// Clears the screen, turns what follows around, and says something else.
const NASTY: &str = "\u{1b}[2J\u{1b}]0;mine\u{7}\u{202e}gnp.exe\u{9b}31m\rall is well";

fn is_harmless(text: &str) {
    let nasty =
        |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    assert!(!text.contains(nasty), "{text:?}");
}

#[test]
fn no_command_prints_what_a_terminal_obeys() {
    let app = App::start(idle());
    let reason = json!({ "reason": NASTY });
    let (status, told) = app.post_json(OPERATOR, "/ops/v1/dispatch/pause", &reason);
    assert_eq!(status, 200, "{told}");
    let id = app.accepted(people(1));
    let batch = format!("/v2/batches/{id}/pause");
    assert_eq!(app.post_json(OPERATOR, &batch, &reason).0, 200);
    app.until_status(&id, "queued");
    let mut seen = String::new();
    for arguments in [
        &["audit"][..],
        &["audit", "--json"],
        &["batch", "list"],
        &["batch", "show", &id],
        &["batch", "show", &id, "--json"],
        &["batch", "show", "bat_\u{1b}[2J\u{202e}"],
        &["client", "pause", "\u{1b}[2Jnobody"],
        &["row", "show", &format!("{id}/1")],
        &["doctor"],
        &["--config", "\u{1b}[2J\u{202e}.toml", "config"],
    ] {
        let output = app.command(arguments);
        let [printed, complained] =
            [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        is_harmless(&printed);
        // What clap quotes of a command line comes from whoever typed it.
        if output.status.code() == Some(1) {
            is_harmless(&complained);
        }
        if let Ok(document) = serde_json::from_slice::<Value>(&output.stdout) {
            seen.push_str(&document.to_string());
        }
        seen.push_str(&printed);
    }
    assert!(seen.contains("\\u{1b}[2J") && seen.contains("\\u{202e}gnp"), "it is shown as what it is: {seen}");
}

#[test]
fn a_server_that_is_none_of_ours_writes_nothing_into_a_terminal() {
    let app = App::prepared(idle());
    for (status, kind) in [(200, "application/json"), (503, "application/problem+json"), (500, "text/plain")] {
        let body = json!({ "outcome": NASTY, "detail": NASTY }).to_string().replace("\\u001b", "\u{1b}");
        let stranger = Server::start(move |_| Reply::Answer(status, vec![("Content-Type", kind.into())], body.clone()));
        for command in ["dispatch", "healthcheck"] {
            let output = app.command(&[command, "--url", &stranger.url()]);
            is_harmless(&String::from_utf8_lossy(&output.stdout));
            is_harmless(&String::from_utf8_lossy(&output.stderr));
        }
        assert!(stranger.calls() >= 2);
    }
}

#[test]
fn a_closed_pipe_is_no_panic_and_a_full_disk_is_no_success() {
    let app = App::start(idle());
    for number in 0..40 {
        app.add_client(&format!("client-{number:02}"), None);
    }
    for arguments in [&["client", "list"][..], &["client", "list", "--json"], &["config"], &["completions", "bash"]] {
        let mut child = app.spawn(arguments);
        let mut first = String::new();
        BufReader::with_capacity(16, child.stdout.take().expect("piped")).read_line(&mut first).expect("a line");
        let output = child.wait_with_output().expect("ended");
        assert!(!first.is_empty());
        assert_eq!(
            (output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
    // Nobody listens from the start.
    let mut child = app.spawn(&["client", "list"]);
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().expect("ended").code(), Some(0));
    let mut child = app.spawn(&["client", "pause", "nobody"]);
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().expect("ended").code(), Some(1), "what failed has failed, heard or not");

    let full = std::fs::File::options().write(true).open("/dev/full").expect("a full device");
    let mut child = app.spawn_into(&["client", "add", "late", "--json"], Stdio::from(full));
    let mut complaint = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut complaint).expect("a text");
    assert_eq!(child.wait().expect("ended").code(), Some(1), "{complaint}");
    assert!(complaint.contains("could not be written"), "{complaint}");
}
