//! What changes, between what was wrong before and what is wrong now. Pure: it is told the time, and asks nobody.

use std::{collections::BTreeMap, time::Duration};

use super::conditions::{Check, Found};
use crate::{
    model::Timestamp,
    store::alerts::{Alert, AlertState, Change},
};

/// Alerts of one kind about a batch each that are told one by one within [`WINDOW`]; the others are told as one.
pub(super) const MOST_SINGLE: usize = 10;
pub(super) const WINDOW: Duration = Duration::from_secs(60 * 60);

/// What changes of one kind. `standing` is what is not over of it, and `lately` how many of it were told one by one within
/// the last [`WINDOW`].
pub(super) fn plan(check: &Check, standing: &[&Alert], lately: usize, now: Timestamp) -> Vec<Change> {
    let mut found: BTreeMap<&str, &Found> = check.found.iter().map(|found| (found.subject.as_str(), found)).collect();
    let is_gathering = check.kind.is_of_batches();
    let mut changes = Vec::new();
    let mut due = Vec::new();
    let (mut gathered, mut first_gathered) = (0, now);
    for alert in standing.iter().filter(|alert| !(is_gathering && alert.subject.is_empty())) {
        let Some(found) = found.remove(alert.subject.as_str()) else {
            changes.push(if alert.state == AlertState::Firing {
                Change::Resolve(alert.alert)
            } else {
                Change::Forget(alert.alert)
            });
            continue;
        };
        if found.summary != alert.summary {
            changes.push(Change::Say(alert.alert, found.summary.clone()));
        }
        match alert.state {
            AlertState::Pending if now.since(alert.since) >= check.wait => due.push(Due::Pending(alert)),
            AlertState::Gathered => (gathered, first_gathered) = (gathered + 1, first_gathered.min(alert.since)),
            _ => {}
        }
    }
    for found in found.into_values() {
        let since = found.since.unwrap_or(now);
        let is_due = now.since(since) >= check.wait;
        if is_due {
            due.push(Due::New(found, since));
        } else {
            changes.push(begin(check, found, since, AlertState::Pending));
        }
    }
    let is_flood = is_gathering && lately + due.len() > MOST_SINGLE;
    for due in due {
        if is_flood {
            (gathered, first_gathered) = (gathered + 1, first_gathered.min(due.since()));
        }
        changes.push(match (due, is_flood) {
            (Due::Pending(alert), false) => Change::Fire(alert.alert),
            (Due::Pending(alert), true) => Change::Gather(alert.alert),
            (Due::New(found, since), false) => begin(check, found, since, AlertState::Firing),
            (Due::New(found, since), true) => begin(check, found, since, AlertState::Gathered),
        });
    }
    if is_gathering {
        let as_one = standing.iter().find(|alert| alert.subject.is_empty());
        changes.extend(of_many(check, as_one, gathered, first_gathered));
    }
    changes
}

/// Something that has lasted for long enough.
enum Due<'a> {
    Pending(&'a Alert),
    New(&'a Found, Timestamp),
}

impl Due<'_> {
    fn since(&self) -> Timestamp {
        match self {
            Self::Pending(alert) => alert.since,
            Self::New(_, since) => *since,
        }
    }
}

fn begin(check: &Check, found: &Found, since: Timestamp, state: AlertState) -> Change {
    Change::Begin { kind: check.kind, subject: found.subject.clone(), summary: found.summary.clone(), since, state }
}

/// The one alert that stands for those that are gathered.
fn of_many(check: &Check, as_one: Option<&&Alert>, gathered: usize, since: Timestamp) -> Option<Change> {
    let summary = check.kind.many(gathered);
    match as_one {
        Some(alert) if gathered == 0 => Some(Change::Resolve(alert.alert)),
        Some(alert) => (alert.summary != summary).then_some(Change::Say(alert.alert, summary)),
        None if gathered == 0 => None,
        None => {
            Some(Change::Begin { kind: check.kind, subject: String::new(), summary, since, state: AlertState::Firing })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AlertKind;

    const NOW: Timestamp = Timestamp(1_786_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn found(subject: &str) -> Found {
        Found { subject: subject.to_owned(), since: None, summary: format!("{subject} is wrong") }
    }

    fn check(kind: AlertKind, wait: Duration, subjects: &[&str]) -> Check {
        Check { kind, wait, found: subjects.iter().map(|subject| found(subject)).collect() }
    }

    fn alert(number: i64, kind: AlertKind, subject: &str, state: AlertState, age: Duration) -> Alert {
        Alert {
            alert: number,
            id: format!("alt_{number}"),
            kind,
            subject: subject.to_owned(),
            state,
            summary: format!("{subject} is wrong"),
            since: NOW.before(age),
            resolved_at: None,
        }
    }

    fn begun(change: &Change) -> Option<(&str, AlertState)> {
        match change {
            Change::Begin { subject, state, .. } => Some((subject, *state)),
            _ => None,
        }
    }

    #[test]
    fn what_lasts_is_told_once_and_what_passes_is_not_told() {
        let kind = AlertKind::GateClosed;
        let seen = plan(&check(kind, MINUTE, &["addresses"]), &[], 0, NOW);
        assert_eq!(begun(&seen[0]), Some(("addresses", AlertState::Pending)));
        let young = alert(1, kind, "addresses", AlertState::Pending, MINUTE / 2);
        assert_eq!(plan(&check(kind, MINUTE, &["addresses"]), &[&young], 0, NOW), []);
        assert_eq!(plan(&check(kind, MINUTE, &[]), &[&young], 0, NOW), [Change::Forget(1)]);
        let old = alert(1, kind, "addresses", AlertState::Pending, MINUTE);
        assert_eq!(plan(&check(kind, MINUTE, &["addresses"]), &[&old], 0, NOW), [Change::Fire(1)]);
        let firing = alert(1, kind, "addresses", AlertState::Firing, MINUTE);
        assert_eq!(plan(&check(kind, MINUTE, &["addresses"]), &[&firing], 0, NOW), []);
        assert_eq!(plan(&check(kind, MINUTE, &[]), &[&firing], 0, NOW), [Change::Resolve(1)]);
        let other = plan(&check(kind, Duration::ZERO, &["addresses", "invites"]), &[&firing], 0, NOW);
        assert_eq!(other.iter().map(begun).collect::<Vec<_>>(), [Some(("invites", AlertState::Firing))]);
    }

    #[test]
    fn a_flood_is_one_alert_until_the_last_of_it_is_over() {
        let kind = AlertKind::ExtractionFailed;
        let names: Vec<String> = (0..1_000).map(|number| format!("bat_{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let changes = plan(&check(kind, Duration::ZERO, &names), &[], 0, NOW);
        let fired: Vec<_> =
            changes.iter().filter_map(begun).filter(|(_, state)| *state == AlertState::Firing).collect();
        assert_eq!((changes.len(), fired), (1_001, vec![("", AlertState::Firing)]));
        let few = plan(&check(kind, Duration::ZERO, &names[..3]), &[], 7, NOW);
        assert_eq!((few.len(), begun(&few[0])), (3, Some(("bat_0", AlertState::Firing))));
        let more = plan(&check(kind, Duration::ZERO, &names[..3]), &[], 8, NOW);
        assert_eq!((more.len(), begun(&more[0])), (4, Some(("bat_0", AlertState::Gathered))));

        let as_one = Alert { summary: kind.many(2), ..alert(1, kind, "", AlertState::Firing, MINUTE) };
        let [first, second] =
            [2, 3].map(|number| alert(number, kind, names[number as usize], AlertState::Gathered, MINUTE));
        let standing = [&as_one, &first, &second];
        assert_eq!(plan(&check(kind, Duration::ZERO, &names[2..4]), &standing, 0, NOW), []);
        assert_eq!(
            plan(&check(kind, Duration::ZERO, &names[2..3]), &standing, 0, NOW),
            [Change::Forget(3), Change::Say(1, kind.many(1))]
        );
        let over = plan(&check(kind, Duration::ZERO, &[]), &standing, 0, NOW);
        assert_eq!(over, [Change::Forget(2), Change::Forget(3), Change::Resolve(1)]);
        // An hour later one more is told by itself, although the flood is not over.
        let later = plan(&check(kind, Duration::ZERO, &names[2..5]), &standing, 0, NOW);
        assert_eq!(later.iter().filter_map(begun).collect::<Vec<_>>(), [("bat_4", AlertState::Firing)]);
    }
}
