//! Every log line in the sources has a name, and the documentation lists the names.

use std::{collections::BTreeSet, fs, path::Path};

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
/// Those that are listed; what is below is found where it is switched on.
const LISTED: [&str; 3] = ["error", "warn", "info"];
const SECTION: &str = "## Events in the log";

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if !path.ends_with("tests") {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
            found.push((path.display().to_string(), code));
        }
    }
}

/// What stands between a macro's brackets, which begin the text.
fn arguments(text: &str) -> &str {
    let mut depth = 0;
    for (at, symbol) in text.char_indices() {
        match symbol {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    text
}

/// `noun.what_happened`.
fn is_name(name: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    name.split_once('.').is_some_and(|(noun, verb)| is_word(noun) && is_word(verb))
}

/// Each event of the sources that are listed, with its level; complains of lines that have no name.
fn events() -> BTreeSet<(String, &'static str)> {
    let mut found = Vec::new();
    sources(Path::new("src"), &mut found);
    let mut events = BTreeSet::new();
    for (path, code) in found {
        for level in LEVELS {
            for (at, word) in code.match_indices(&format!("{level}!(")) {
                let before = code[..at].chars().next_back();
                if before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
                    continue;
                }
                let said = arguments(&code[at + word.len() - 1..]);
                assert!(
                    code[..at].ends_with("tracing::"),
                    "{path}: write `tracing::{level}!(..)`, so that it is found: {said}"
                );
                let name = said.split_once("event = \"").and_then(|(_, rest)| rest.split('"').next());
                let name = name.unwrap_or_else(|| {
                    panic!(
                        "{path}: a log line has no name. Put `event = \"noun.what_happened\",` first in it (behind \
                         `target:`), ids as fields of their own, and its row into docs/telemetry.md, `{SECTION}`: {said}"
                    )
                });
                assert!(is_name(name), "{path}: `{name}` is not `noun.what_happened` in small letters");
                if LISTED.contains(&level) {
                    events.insert((name.to_owned(), level));
                }
            }
        }
    }
    assert!(events.len() > 60, "log lines are where they are looked for");
    events
}

/// The rows of the documentation's table: names in backquotes, and the level of all of them.
fn listed() -> BTreeSet<(String, &'static str)> {
    let page = fs::read_to_string("docs/telemetry.md").expect("the page");
    let (_, section) = page.split_once(SECTION).expect("its section on events");
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut listed = BTreeSet::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let level = LISTED.into_iter().find(|level| level.to_uppercase() == cells[2]);
        let level = level.unwrap_or_else(|| panic!("no level that is listed: {row}"));
        for name in cells[1].split('`').filter(|name| is_name(name)) {
            assert!(listed.insert((name.to_owned(), level)), "`{name}` is listed twice");
        }
    }
    listed
}

#[test]
fn every_log_line_has_a_name_and_the_documentation_lists_those_from_info_on() {
    let (events, listed) = (events(), listed());
    let told = |these: Vec<&(String, &str)>| -> String {
        these.iter().map(|(name, level)| format!("\n| `{name}` | {} | ... |", level.to_uppercase())).collect()
    };
    let missing = told(events.difference(&listed).collect());
    let gone = told(listed.difference(&events).collect());
    assert!(
        missing.is_empty() && gone.is_empty(),
        "the table under `{SECTION}` in docs/telemetry.md is not what the sources say.\nAdd, with what it means:{missing}\nTake \
         out, no line of this level has this name:{gone}"
    );
}
