//! The invariants of the architecture that a test can hold: who imports whom, where SQL, the clock and the environment
//! are, and how long a file may be.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The rooms, and what each may import of ours. What is not listed may import anything below it in `lib.rs`'s map.
const ROOMS: [(&str, &[&str]); 15] = [
    ("model", &[]),
    ("clock", &["model"]),
    ("template", &["model"]),
    ("crypto", &["model"]),
    ("objects", &["model"]),
    ("intake", &["model"]),
    ("simulator", &[]),
    ("downstream", &["model", "clock", "heartbeat", "template"]),
    ("store", &["model", "clock", "crash_point", "downstream", "heartbeat", "panics", "private"]),
    ("config", &["model", "intake", "private", "template", "objects", "store"]),
    ("oidc", &["access", "config", "model", "tls"]),
    ("tls", &["config", "model", "private"]),
    ("extract", &["appliance", "crash_point", "crypto", "intake", "model", "objects", "room", "store", "work"]),
    (
        "operations",
        &[
            "access",
            "announce",
            "appliance",
            "config",
            "crypto",
            "dispatch",
            "downstream",
            "model",
            "results",
            "store",
            "work",
        ],
    ),
    (
        "http",
        &[
            "access",
            "announce",
            "appliance",
            "config",
            "crash_point",
            "crypto",
            "dispatch",
            "downstream",
            "heartbeat",
            "intake",
            "manual",
            "model",
            "objects",
            "oidc",
            "operations",
            "panics",
            "results",
            "store",
            "telemetry",
            "tls",
            "upload",
            "work",
        ],
    ),
];

const LONGEST_FILE: usize = 600;

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                if !path.ends_with("tests") {
                    walk(&path, found);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push((path.clone(), fs::read_to_string(&path).expect("a source")));
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("src"), &mut found);
    assert!(found.len() > 60, "the sources are where they are looked for");
    found
}

/// The room of a file: its folder below `src`, or its own name.
fn room(path: &Path) -> String {
    let below = path.strip_prefix("src").expect("below src");
    let first = below.iter().next().expect("a name").to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The code of a file, without its comments and without its tests.
fn code(text: &str) -> String {
    let without_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = without_tests.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The rooms that a file names after `crate::`, in one path or in a group of them.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if !rest.starts_with('{') {
            found.insert(name_at(rest));
            continue;
        }
        let mut depth = 0;
        for (place, symbol) in rest.char_indices() {
            match symbol {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            if depth == 1 && matches!(symbol, '{' | ',') {
                found.insert(name_at(rest[place + 1..].trim_start()));
            }
        }
    }
    found.remove("");
    found
}

fn name_at(text: &str) -> String {
    text.chars().take_while(|symbol| symbol.is_ascii_alphanumeric() || *symbol == '_').collect()
}

#[test]
fn rooms_import_only_what_they_may() {
    let allowed: BTreeMap<&str, &[&str]> = ROOMS.into();
    let mut seen = BTreeSet::new();
    for (path, text) in sources() {
        let room = room(&path);
        let Some(allowed) = allowed.get(room.as_str()) else { continue };
        seen.insert(room.clone());
        let foreign: Vec<_> = imports(&code(&text))
            .into_iter()
            .filter(|import| *import != room && !allowed.contains(&import.as_str()))
            .collect();
        assert!(foreign.is_empty(), "{} imports {foreign:?}", path.display());
    }
    assert_eq!(seen.len(), ROOMS.len(), "every room is there: {seen:?}");
    let grouped = imports("use crate::{\n    a::{b, c},\n    d,\n};\ncrate::e::f()");
    assert_eq!(grouped.into_iter().collect::<Vec<_>>(), ["a", "d", "e"], "imports are found in groups, too");
}

#[test]
fn what_has_one_place_is_nowhere_else() {
    let rules: [(&str, &[&str], &[&str]); 6] = [
        ("SQL", &["src/store"], &["SELECT ", "INSERT INTO", "UPDATE ", "DELETE FROM", "rusqlite"]),
        ("the wall clock", &["src/clock.rs"], &["SystemTime", "Timestamp::now", "Zoned::now"]),
        ("the environment", &["src/config", "src/main.rs"], &["std::env::", "env::var"]),
        (
            "HTTP calls",
            &["src/announce", "src/downstream", "src/oidc", "src/cli", "src/telemetry"],
            &["ureq", "hyper::client"],
        ),
        ("what commands print", &["src/cli/output.rs"], &["println!(", "print!("]),
        ("unwrap", &[], &[".unwrap()", "todo!(", "unimplemented!("]),
    ];
    for (path, text) in sources() {
        let code = code(&text);
        for (what, places, words) in rules {
            if places.iter().any(|place| path.starts_with(place)) {
                continue;
            }
            for word in words {
                assert!(!code.contains(word), "{what} in {}: `{word}`", path.display());
            }
        }
    }
}

/// What people do is written once, in `operations`: a door parses, calls and shows.
#[test]
fn no_door_opens_a_write_transaction() {
    for (path, text) in sources() {
        let is_door = path.starts_with("src/http") || path.starts_with("src/cli");
        let code = code(&text).split_whitespace().collect::<String>();
        let writes = ["store.write(", "store().write(", ".write(move|tx"].iter().any(|word| code.contains(word));
        assert!(!(is_door && writes), "{} opens a write transaction", path.display());
    }
}

#[test]
fn every_file_can_be_held_in_mind_and_says_what_it_is() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LONGEST_FILE, "{} has {lines} lines", path.display());
        assert!(text.starts_with("//!"), "{} does not say what it is", path.display());
    }
}
