//! `dripfeed completions`: what a shell needs to complete our commands.

use clap::Args;
use clap_complete::Shell;

use super::{error::CliError, examples, output};

const EXAMPLES: &str = "\
Examples:
  dripfeed completions bash > /etc/bash_completion.d/dripfeed
  dripfeed completions zsh > \"${fpath[1]}/_dripfeed\"
  dripfeed completions fish > ~/.config/fish/completions/dripfeed.fish";

/// Print the completions of a shell
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<(), CliError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut examples::command(), "dripfeed", &mut script);
        output::text(&String::from_utf8_lossy(&script));
        Ok(())
    }
}
