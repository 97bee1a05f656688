//! What `--help` shows below each command: how it is used. Commands with more to say have their text with them.

use clap::{Command, CommandFactory};

use super::Cli;

const OVERVIEW: &str = "\
Examples:
  dripfeed demo                        the whole thing on this machine, with nothing set up
  dripfeed init                        a configuration and a key to begin with
  dripfeed doctor                      what is wrong, and what to do about it

The names of the original runbooks work too:
  client:batch-csv-invite-processing ID --manual-run     is `batch run`
  client:csv-invite-processing ROW                       is `row run`
  client:process-stuck-csv-invite [--apply]              is `stuck`

Exit status: 0 done, 1 failed, 2 wrong usage or configuration. Everything that lists takes --json.";

/// The words of a command, and its examples.
const EXAMPLES: &[(&[&str], &str)] = &[
    (&[], OVERVIEW),
    (&["demo"], "Examples:\n  dripfeed demo\n  dripfeed demo --rows 100000 --exit"),
    (&["init"], "Examples:\n  dripfeed init\n  dripfeed init --folder /etc/dripfeed"),
    (
        &["serve"],
        "Examples:\n  dripfeed serve\n  dripfeed --config /etc/dripfeed/dripfeed.toml serve\n\nSIGTERM lets what is \
         under way finish; SIGHUP takes a changed \
         key file, and a changed certificate.",
    ),
    (
        &["dispatch"],
        "Examples:\n  dripfeed dispatch\n  dripfeed dispatch --url http://dripfeed:8080     what a CronJob runs",
    ),
    (&["dispatch", "pause"], "Examples:\n  dripfeed dispatch pause --reason \"vendor maintenance\""),
    (&["dispatch", "resume"], "Examples:\n  dripfeed dispatch resume"),
    (&["dependency"], "Examples:\n  dripfeed dependency list\n  dripfeed dependency rate addresses 10"),
    (&["dependency", "list"], "Examples:\n  dripfeed dependency list --json"),
    (
        &["dependency", "rate"],
        "Examples:\n  dripfeed dependency rate addresses 10\n  dripfeed dependency rate addresses default      as configured \
         again",
    ),
    (&["batch"], "Examples:\n  dripfeed batch list\n  dripfeed batch show bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X"),
    (&["batch", "list"], "Examples:\n  dripfeed batch list --limit 20\n  dripfeed batch list --json"),
    (&["batch", "show"], "Examples:\n  dripfeed batch show bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X --json"),
    (
        &["batch", "run"],
        "Examples:\n  dripfeed batch run bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X --manual-run\n\nSafe on a half-extracted batch, \
         and beside a server; on an extracted one it changes nothing.",
    ),
    (
        &["batch", "pause"],
        "Examples:\n  dripfeed batch pause bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X --reason \"vendor maintenance\"",
    ),
    (&["batch", "resume"], "Examples:\n  dripfeed batch resume bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X"),
    (&["batch", "upgrade"], "Examples:\n  dripfeed batch upgrade bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X"),
    (&["batch", "delete"], "Examples:\n  dripfeed batch delete bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X"),
    (&["batch", "cancel"], "Examples:\n  dripfeed batch cancel bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X"),
    (
        &["batch", "retry"],
        "Examples:\n  dripfeed batch retry bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X\n  dripfeed batch retry \
         bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X --code timeout",
    ),
    (&["row"], "Examples:\n  dripfeed row show bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X/17"),
    (
        &["row", "show"],
        "Examples:\n  dripfeed row show bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X/17 --json\n  dripfeed row show \
         bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X/17 --reveal     the values too: it is audited",
    ),
    (
        &["row", "run"],
        "Examples:\n  dripfeed row run bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X/17\n  dripfeed row run \
         bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X/17 --resend     also where its outcome is unknown",
    ),
    (
        &["stuck"],
        "Examples:\n  dripfeed stuck             what is stuck, and what would happen\n  dripfeed stuck --apply     it \
         happens",
    ),
    (&["alerts"], "Examples:\n  dripfeed alerts list\n  dripfeed alerts test"),
    (&["alerts", "list"], "Examples:\n  dripfeed alerts list\n  dripfeed alerts list --all --json"),
    (&["alerts", "test"], "Examples:\n  dripfeed alerts test\n  dripfeed alerts test slack"),
    (&["client"], "Examples:\n  dripfeed client add acme\n  dripfeed client list"),
    (&["client", "add"], "Examples:\n  dripfeed client add acme --rows-per-run 200\n  dripfeed client add acme --json"),
    (&["client", "list"], "Examples:\n  dripfeed client list --json"),
    (
        &["client", "limit"],
        "Examples:\n  dripfeed client limit acme --rows-per-run 50\n  dripfeed client limit acme --pending-rows 1000000 --stored-bytes \
         2GB\n  dripfeed client limit acme --pending-rows default      as configured for all again\n  dripfeed client limit acme \
         --workflows invite,letters",
    ),
    (
        &["client", "key"],
        "Examples:\n  dripfeed client key add acme reporting --scope read\n  dripfeed client key list acme",
    ),
    (
        &["client", "key", "add"],
        "Examples:\n  dripfeed client key add acme reporting --scope read --expires 30d\n  dripfeed client key add acme uploader \
         --scope upload,read --json",
    ),
    (&["client", "key", "list"], "Examples:\n  dripfeed client key list acme --json"),
    (&["client", "key", "remove"], "Examples:\n  dripfeed client key remove acme reporting"),
    (&["client", "pause"], "Examples:\n  dripfeed client pause acme --reason \"asked us to\""),
    (&["client", "resume"], "Examples:\n  dripfeed client resume acme"),
    (
        &["client", "rotate-key"],
        "Examples:\n  dripfeed client rotate-key acme           a change without a pause\n  dripfeed client rotate-key acme \
         --now     a key leaked",
    ),
    (&["client", "remove"], "Examples:\n  dripfeed client remove acme"),
    (
        &["client", "webhook"],
        "Examples:\n  dripfeed client webhook acme --url https://acme.example/hook\n  dripfeed client webhook acme --remove",
    ),
    (&["client", "deliveries"], "Examples:\n  dripfeed client deliveries acme --limit 20"),
    (&["operator"], "Examples:\n  dripfeed operator add ann\n  dripfeed operator list"),
    (
        &["operator", "add"],
        "Examples:\n  dripfeed operator add ann --role viewer\n  dripfeed operator add bob --role admin --json",
    ),
    (&["operator", "role"], "Examples:\n  dripfeed operator role ann operator"),
    (&["sessions"], "Examples:\n  dripfeed sessions list\n  dripfeed sessions end --of ann"),
    (&["sessions", "list"], "Examples:\n  dripfeed sessions list --json"),
    (
        &["sessions", "end"],
        "Examples:\n  dripfeed sessions end 17\n  dripfeed sessions end --of client:acme\n  dripfeed sessions end --all",
    ),
    (&["operator", "list"], "Examples:\n  dripfeed operator list --json"),
    (&["operator", "remove"], "Examples:\n  dripfeed operator remove ann"),
    (
        &["audit", "verify"],
        "Examples:\n  dripfeed audit verify\n  dripfeed audit verify --contains HASH     one that the log told\n\nThe \
         hashes have no key: who can write the database can make the whole chain anew. The log tells the hash of each \
         entry (`audit.noted`); one that was kept elsewhere shows whether the chain is still that one.",
    ),
    (&["keys"], "Examples:\n  dripfeed keys list\n  dripfeed keys rotate"),
    (&["keys", "list"], "Examples:\n  dripfeed keys list --json"),
    (&["simulator"], super::simulator::HELP),
    (&["config"], "Examples:\n  dripfeed config"),
];

/// The whole command line, with examples for each of its commands.
pub fn command() -> Command {
    EXAMPLES.iter().fold(Cli::command(), |command, (words, text)| with(command, words, text))
}

fn with(command: Command, words: &[&str], text: &'static str) -> Command {
    match words.split_first() {
        None => command.after_help(text),
        // A command that is not there would be made by asking for it.
        Some((first, _)) if command.find_subcommand(first).is_none() => command,
        Some((first, rest)) => command.mut_subcommand(*first, |below| with(below, rest, text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_examples(command: &Command, path: &str) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let has_example = help.contains("dripfeed ");
        assert!(has_example, "`{path} --help` shows no example");
        assert!(command.get_about().is_some() || path == "dripfeed", "`{path}` does not say what it does");
        for below in command.get_subcommands() {
            assert_examples(below, &format!("{path} {}", below.get_name()));
        }
    }

    #[test]
    fn every_command_says_what_it_does_and_shows_an_example() {
        assert_examples(&command(), "dripfeed");
    }

    #[test]
    fn every_example_is_of_a_command_that_is_there() {
        let dripfeed = command();
        for (words, text) in EXAMPLES {
            let found = words.iter().try_fold(&dripfeed, |command, word| command.find_subcommand(word));
            assert!(found.is_some(), "{words:?}");
            for line in text.lines().filter(|line| line.starts_with("  dripfeed ") && !words.is_empty()) {
                assert!(line.contains(&words.join(" ")), "{words:?}: {line}");
            }
        }
    }
}
