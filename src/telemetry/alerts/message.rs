//! What a hook is sent: one message, in the form that it takes.

use serde::Serialize;

use crate::{
    config::HookFormat,
    model::Timestamp,
    store::alerts::{Alert, AlertState},
};

/// A message for programs. The same `id` and `state` is the same message, sent again.
#[derive(Serialize)]
struct Generic<'a> {
    /// The same when it fires and when it is resolved.
    id: &'a str,
    /// Which appliance says so: `alerts.name`.
    appliance: &'a str,
    /// The kind, like `gate_closed`; `test` for a message that was only sent to try the hook.
    alert: &'a str,
    /// `firing` or `resolved`.
    state: &'a str,
    /// The batch or the dependency that it is about; `null` where it is about neither, or about many.
    subject: Option<&'a str>,
    /// What is wrong, or that it is over.
    summary: &'a str,
    /// What it means, and who can help.
    hint: &'a str,
    /// The commands to run next, in this order; none where it is over.
    what_to_do: Vec<String>,
    since: Timestamp,
    resolved_at: Option<Timestamp>,
}

/// What Slack's incoming webhooks take, and Mattermost's, Rocket.Chat's, Google Chat's, and Discord's behind `/slack`
/// (<https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>).
#[derive(Serialize)]
struct Slack {
    text: String,
}

/// A message that says of an alert that it fires, or that it is over.
pub fn message(format: HookFormat, appliance: &str, alert: &Alert, as_what: AlertState) -> String {
    let is_over = as_what == AlertState::Resolved;
    let over = alert.kind.over(&alert.subject);
    written(
        format,
        Generic {
            id: &alert.id,
            appliance,
            alert: alert.kind.as_str(),
            state: as_what.as_str(),
            subject: Some(alert.subject.as_str()).filter(|subject| !subject.is_empty()),
            summary: if is_over { &over } else { &alert.summary },
            hint: if is_over { "" } else { alert.kind.hint() },
            what_to_do: if is_over { Vec::new() } else { alert.kind.what_to_do(&alert.subject) },
            since: alert.since,
            resolved_at: alert.resolved_at.filter(|_| is_over),
        },
    )
}

/// A message that says nothing but that messages arrive.
pub fn test_message(format: HookFormat, appliance: &str, now: Timestamp) -> String {
    written(
        format,
        Generic {
            id: &format!("alt_{}", ulid::Ulid::generate()),
            appliance,
            alert: "test",
            state: AlertState::Firing.as_str(),
            subject: None,
            summary: "nothing is wrong: somebody tries whether alerts arrive here",
            hint: "",
            what_to_do: Vec::new(),
            since: now,
            resolved_at: None,
        },
    )
}

fn written(format: HookFormat, generic: Generic<'_>) -> String {
    let json = match format {
        HookFormat::Json => serde_json::to_string(&generic),
        HookFormat::Slack => serde_json::to_string(&Slack { text: text(&generic) }),
    };
    json.unwrap_or_default()
}

/// For a person, in Slack's mrkdwn: first what matters, so that it can be read in a notification.
fn text(generic: &Generic<'_>) -> String {
    let sign = match generic.state {
        "resolved" => ":white_check_mark:",
        _ if generic.alert == "test" => ":information_source:",
        _ => ":rotating_light:",
    };
    let mut text = format!("{sign} *{}*: {}", escaped(generic.appliance), escaped(generic.summary));
    if generic.alert != "test" {
        text.push_str(&format!(
            "\n_{}, {} since {}_",
            generic.alert,
            generic.state,
            generic.resolved_at.unwrap_or(generic.since)
        ));
    }
    if !generic.hint.is_empty() {
        text.push_str(&format!("\n{}", escaped(generic.hint)));
    }
    for command in &generic.what_to_do {
        text.push_str(&format!("\n`{}`", escaped(command)));
    }
    text
}

/// The three characters that mean something to Slack (<https://docs.slack.dev/messaging/formatting-message-text>).
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AlertKind;

    fn alert() -> Alert {
        Alert {
            alert: 1,
            id: "alt_1".into(),
            kind: AlertKind::GateClosed,
            subject: "addresses".into(),
            state: AlertState::Firing,
            summary: "the gate of addresses is closed: <5 & so on>".into(),
            since: Timestamp(1_786_000_000_000),
            resolved_at: None,
        }
    }

    #[test]
    fn a_program_is_told_in_fields_and_a_person_in_text() {
        let json = message(HookFormat::Json, "eu-1", &alert(), AlertState::Firing);
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json["alert"], "gate_closed");
        assert_eq!((&json["state"], &json["subject"]), (&"firing".into(), &"addresses".into()));
        assert_eq!(json["what_to_do"][0], "dripfeed doctor");
        assert_eq!(
            (&json["since"], &json["resolved_at"]),
            (&"2026-08-06T07:06:40.000Z".into(), &serde_json::Value::Null)
        );

        let slack = message(HookFormat::Slack, "eu-1", &alert(), AlertState::Firing);
        let slack: serde_json::Value = serde_json::from_str(&slack).expect("JSON");
        assert_eq!(slack.as_object().expect("an object").len(), 1);
        let text = slack["text"].as_str().expect("text");
        assert!(
            text.starts_with(":rotating_light: *eu-1*: the gate of addresses is closed: &lt;5 &amp; so on&gt;\n"),
            "{text}"
        );
        assert!(text.ends_with("\n`dripfeed doctor`"), "{text}");
    }

    #[test]
    fn what_is_over_asks_for_nothing() {
        let over = Alert { resolved_at: Some(Timestamp(1_786_000_060_000)), ..alert() };
        let json = message(HookFormat::Json, "eu-1", &over, AlertState::Resolved);
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!((&json["id"], &json["state"]), (&"alt_1".into(), &"resolved".into()));
        assert_eq!(json["summary"], "the gate of addresses is open again");
        assert_eq!(
            (&json["what_to_do"], &json["resolved_at"]),
            (&serde_json::json!([]), &"2026-08-06T07:07:40.000Z".into())
        );
        // Its beginning is told as it was, also when it is told late.
        let late = message(HookFormat::Json, "eu-1", &over, AlertState::Firing);
        assert!(late.contains("\"state\":\"firing\"") && late.contains("\"resolved_at\":null"), "{late}");
    }
}
