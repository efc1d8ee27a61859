//! A real PostgreSQL server, worked with through the tunnel by its own client.

use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tests::process::{Log, Process, run};
use tests::site::Site;
use tests::tool;
use tests::wait::{SOON, until};

/// The server refuses to run as root, so there it runs as the user that the package made.
const USER: &str = "postgres";

/// Debian keeps the server's programs in a folder for each version.
fn server_program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions
        .map(|version| version.path().join("bin").join(name))
        .filter(|path| path.is_file())
        .max()
        .unwrap_or_else(|| panic!("this test needs {name}: apt-get install postgresql"))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `program`, as the server's user where we are root.
fn as_server_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = tool::command("setpriv", "util-linux");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]).arg(program);
    command
}

/// A server of its own, on a free loopback port.
pub struct Postgres {
    /// Where it listens.
    pub address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

impl Postgres {
    /// Starts it and waits until it accepts connections.
    pub async fn start() -> Self {
        let folder = TempDir::new().expect("the folder for temporary files is writable");
        let data = folder.path().join("data");
        std::fs::create_dir(&data).expect("the folder is ours");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("ours");
        if is_root() {
            let mut chown = tool::command("chown", "coreutils");
            run({
                chown.arg(USER).arg(&data);
                chown
            })
            .await
            .ok();
        }
        let mut initdb = as_server_user(&server_program("initdb"));
        initdb
            .args(["--auth=trust", "--username=shop", "--no-sync", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(&data);
        initdb.current_dir("/");
        run(initdb).await.ok();
        let address = StdTcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let address = address.expect("loopback has free ports");
        let mut server = as_server_user(&server_program("postgres"));
        server
            .arg("-D")
            .arg(&data)
            .args(["-h", "127.0.0.1", "-p", &address.port().to_string()])
            .current_dir("/");
        server.args(["-c", "unix_socket_directories=", "-c", "fsync=off"]);
        let process = Process::start("postgres", server, &Log::default());
        let postgres = Self { address, _process: process, _folder: folder };
        until(SOON, "the server accepts connections", async || {
            (run(postgres.psql(address, "SELECT 1")).await.code == 0).then_some(())
        })
        .await;
        postgres
    }

    /// `psql` with one statement, connected to `address`: the server's own, or one that leads there.
    pub fn psql(&self, address: SocketAddr, statement: &str) -> Command {
        let mut command = tool::command("psql", "postgresql-client");
        command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string(), "-U", "shop"]);
        command.args([
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            "-d",
            "postgres",
            "-v",
            "ON_ERROR_STOP=1",
        ]);
        command.args(["-c", statement]);
        command
    }
}

#[tokio::test]
async fn psql_works_through_the_tunnel() {
    let postgres = Postgres::start().await;
    let site = Site::with("db", postgres.address).await;
    let listen = site.listen("db").await;
    let through = async |statement: &str| run(postgres.psql(listen.address, statement)).await.ok().stdout;
    through("CREATE TABLE item AS SELECT n AS id, md5(n::text) AS word FROM generate_series(1, 50000) AS n")
        .await;
    let expected =
        run(postgres.psql(postgres.address, "SELECT md5(string_agg(word, '' ORDER BY id)) FROM item")).await;
    let sum = through("SELECT md5(string_agg(word, '' ORDER BY id)) FROM item").await;
    assert_eq!(sum, expected.ok().stdout);
    let dump = through("COPY item TO STDOUT").await;
    assert_eq!(dump.lines().count(), 50_000);
    assert!(
        dump.lines().last().is_some_and(|line| line.starts_with("50000\t")),
        "the end of the table came too"
    );

    let slow = run(postgres.psql(listen.address, "SET statement_timeout = 300; SELECT pg_sleep(60)")).await;
    assert!(slow.code != 0 && slow.stderr.contains("statement timeout"), "{slow:?}");
}
