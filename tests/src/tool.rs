//! Programs of this system that a test needs. A missing one fails the test with the name of its package.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

/// Where Debian puts programs, also those for root.
const FOLDERS: [&str; 6] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The program's path.
///
/// # Panics
/// If it is not installed.
pub fn path(program: &str, package: &str) -> PathBuf {
    FOLDERS
        .iter()
        .map(|folder| PathBuf::from(folder).join(program))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("this test needs {program}: apt-get install {package}"))
}

/// A command of that program.
///
/// # Panics
/// If it is not installed.
pub fn command(program: &str, package: &str) -> Command {
    Command::new(path(program, package))
}

/// A loopback address that nobody listens on, for programs that can't choose a port by themselves.
pub fn free_address() -> SocketAddr {
    let address = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    address.expect("loopback has free ports")
}
