//! The names that the original runbooks use.

use std::ffi::OsString;

/// Original name, and the words that we have for it.
const NAMES: [(&str, &[&str]); 3] = [
    ("client:batch-csv-invite-processing", &["batch", "run"]),
    ("client:csv-invite-processing", &["row", "run"]),
    ("client:process-stuck-csv-invite", &["stuck"]),
];

/// The arguments, with an original command name replaced by ours. Options before the command stay where they are.
pub fn with_original_names(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut replaced = false;
    arguments
        .flat_map(|argument| {
            let known = NAMES.iter().find(|(original, _)| !replaced && argument == *original);
            match known {
                None => vec![argument],
                Some((_, ours)) => {
                    replaced = true;
                    ours.iter().map(OsString::from).collect()
                }
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(line: &str) -> String {
        let words = with_original_names(line.split(' ').map(OsString::from));
        words.join(" ".as_ref()).into_string().expect("what went in was text")
    }

    #[test]
    fn original_names_are_ours() {
        let ours = translated("dripfeed --config a.toml client:batch-csv-invite-processing bat_1 --manual-run");
        assert_eq!(ours, "dripfeed --config a.toml batch run bat_1 --manual-run");
        assert_eq!(translated("dripfeed client:csv-invite-processing bat_1/2"), "dripfeed row run bat_1/2");
        assert_eq!(translated("dripfeed client:process-stuck-csv-invite --apply"), "dripfeed stuck --apply");
        assert_eq!(translated("dripfeed batch list"), "dripfeed batch list");
    }
}
