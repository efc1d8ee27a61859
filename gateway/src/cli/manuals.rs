//! `tidegate completions` and `tidegate man`: what a shell and a reader want to know of the command line, made of the
//! command line itself, so that neither can be out of date.

use std::path::PathBuf;

use clap::{Args, Command, ValueEnum};
use clap_complete::aot::{self, generate};
use clap_mangen::Man;

use super::exit::{CliError, complain};
use super::output::print_own;

/// `tidegate completions`.
#[derive(Args, Debug)]
#[command(after_help = "\
bash:  tidegate completions bash > ~/.local/share/bash-completion/completions/tidegate
zsh:   tidegate completions zsh > ~/.zfunc/_tidegate     # with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc
fish:  tidegate completions fish > ~/.config/fish/completions/tidegate.fish")]
pub struct CompletionsArgs {
    /// Whose script to print
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl From<Shell> for aot::Shell {
    fn from(shell: Shell) -> Self {
        match shell {
            Shell::Bash => Self::Bash,
            Shell::Zsh => Self::Zsh,
            Shell::Fish => Self::Fish,
        }
    }
}

/// `tidegate man`.
#[derive(Args, Debug)]
#[command(
    after_help = "`tidegate man | man -l -` shows the page; `tidegate man --dir ~/.local/share/man/man1` \
    installs it with those of all subcommands."
)]
pub struct ManArgs {
    /// Write a page for every subcommand into this folder, instead of printing the first
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl CompletionsArgs {
    /// Prints the script for this command line.
    pub fn run(self, mut command: Command) -> Result<(), CliError> {
        let mut script = Vec::new();
        generate(aot::Shell::from(self.shell), &mut command, "tidegate", &mut script);
        print_own(&String::from_utf8_lossy(&script))
    }
}

impl ManArgs {
    /// Prints or writes the pages of this command line.
    pub fn run(self, command: Command) -> Result<(), CliError> {
        let Some(folder) = self.dir else {
            let mut page = Vec::new();
            Man::new(command)
                .render(&mut page)
                .map_err(|error| CliError::failed("can't make the page", error))?;
            return print_own(&String::from_utf8_lossy(&page));
        };
        let failed = |error| CliError::failed(format!("can't write to {}", folder.display()), error);
        std::fs::create_dir_all(&folder).map_err(failed)?;
        clap_mangen::generate_to(command, &folder).map_err(failed)?;
        complain(&format!("wrote the pages to {}", folder.display()));
        Ok(())
    }
}
