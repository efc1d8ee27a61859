//! A private Docker engine with nothing in it (`ci/docker-engine`): no bridge, no registry, no container of anybody else.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Ended, run};
use crate::tool;

/// A private engine; stopped with everything in it when dropped.
#[derive(Debug)]
pub struct Engine {
    folder: PathBuf,
}

/// A script of `ci/`, which runs in the repository's own folder.
pub fn script(name: &str) -> Command {
    let repository =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is a folder of the workspace");
    let mut command = Command::new(repository.join("ci").join(name));
    command.current_dir(repository);
    command
}

impl Engine {
    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// If it can't be started: it needs root and Debian's docker.io.
    pub fn start() -> Self {
        tool::path("dockerd", "docker.io");
        // Short, because a socket's path has at most 107 characters; not a TempDir, because the script removes it.
        let folder = TempDir::with_prefix("tg-").expect("the folder for temporary files is writable").keep();
        let engine = Self { folder };
        let mut start = script("docker-engine");
        start.arg("start").arg(&engine.folder);
        // The engine goes on after the script's end and must not hold the pipes that `run` reads to their end.
        let log = std::fs::File::create(engine.folder.join("start.log")).expect("the folder is ours");
        let status =
            start.stdout(log.try_clone().expect("a file")).stderr(log).status().expect("the script is there");
        let said = std::fs::read_to_string(engine.folder.join("start.log")).unwrap_or_default();
        assert!(status.success(), "the engine did not start: {said}");
        engine
    }

    /// Its own folder, which has its socket `docker.sock`; free for a test's own files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where it listens, as Docker's clients and agents write it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.folder.join("docker.sock").display())
    }

    /// Runs `docker` against it directly.
    pub async fn docker(&self, args: &[&str]) -> Ended {
        let mut command = tool::command("docker", "docker.io");
        command.env("DOCKER_HOST", self.host()).args(args);
        run(command).await
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let stopped = script("docker-engine").arg("stop").arg(&self.folder).output();
        let stopped = stopped.expect("the script is there");
        if !stopped.status.success() {
            println!("the engine could not be stopped: {}", String::from_utf8_lossy(&stopped.stderr));
        }
    }
}
