//! Writes the agent's manual pages and shell completions into a folder: for packages. The program itself does without
//! them, since it goes to machines where every byte is carried over a slow link.

use std::path::PathBuf;

use clap_complete::aot::{Shell, generate_to};

fn main() -> Result<(), std::io::Error> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| std::io::Error::other("give the folder to write to"))?;
    std::fs::create_dir_all(&folder)?;
    let mut command = edge_agent::config::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "tidegate-agent", &folder)?;
    }
    clap_mangen::generate_to(command, &folder)
}
