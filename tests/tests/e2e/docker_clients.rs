//! The stock Docker client and an engine behind an edge: what people do at a prompt, by both ways that lead there.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use hyper::Method;
use shared::wire::admin::{ContainerList, LogLine};
use tempfile::TempDir;
use tests::bulk;
use tests::engine::Engine;
use tests::gateway::{Gateway, Listen};
use tests::process::{Ended, Log, Process, run, run_with};
use tests::site::{EDGE, Site};
use tests::tool;
use tests::wait::{SOON, until};

/// Sent to the engine as build context, as a copied file and as standard input: more than any window on the way.
const LENGTH: u64 = 6 * 1024 * 1024;

/// Made by the first step of each test, out of nothing but Debian's static busybox.
const IMAGE: &str = "busybox:local";

/// The container that lives through a test: it says what it hears.
const BOX: &str = "parrot";

/// A client of an engine that it reaches by the gateway alone.
struct Client {
    /// `DOCKER_HOST`.
    host: String,
    /// `DOCKER_CONFIG`, and room for files.
    folder: TempDir,
    site: Site,
    _listen: Option<Listen>,
    // Last, so that nothing uses the engine any more when it stops.
    _engine: Engine,
}

impl Client {
    /// Through `tidegate connect shop/docker --listen`.
    async fn by_connect() -> Self {
        let engine = Engine::start();
        let site = Site::start(&[("docker", &engine.host())]).await;
        let listen = site.listen("docker").await;
        let host = format!("tcp://{}", listen.address);
        Self::new(host, "{}", engine, site, Some(listen))
    }

    /// Through the gateway's HTTP proxy, with the API token in a header that Docker's configuration adds.
    async fn by_proxy() -> Self {
        let engine = Engine::start();
        let site = Site::start(&[("docker", &engine.host())]).await;
        let host = format!("tcp://{}{}", site.gateway.api(), Gateway::proxy_path(EDGE, "docker", ""));
        let token = site.http().authorization().expect("an admin has one");
        let config = serde_json::json!({ "HttpHeaders": { "Authorization": token } }).to_string();
        Self::new(host, &config, engine, site, None)
    }

    fn new(host: String, config: &str, engine: Engine, site: Site, listen: Option<Listen>) -> Self {
        let folder = TempDir::new().expect("the folder for temporary files is writable");
        std::fs::write(folder.path().join("config.json"), config).expect("the folder is ours");
        Self { host, folder, site, _listen: listen, _engine: engine }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = tool::command("docker", "docker.io");
        self.addressed(&mut command);
        command.args(args);
        command
    }

    fn addressed(&self, command: &mut Command) {
        // The engine's own builder: the other one speaks a protocol of its own, and newer clients need a plugin for it.
        command.env("DOCKER_BUILDKIT", "0").env("DOCKER_CONFIG", self.folder.path());
        command.env("DOCKER_HOST", &self.host);
    }

    async fn docker(&self, args: &[&str]) -> Ended {
        run(self.command(args)).await
    }

    /// A follower such as `logs -f`, and what it says.
    fn follow(&self, args: &[&str]) -> (Process, Log) {
        let log = Log::default();
        (Process::start("docker", self.command(args), &log), log)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `build` with a context of some megabytes. The payload comes back by `cp` later.
    async fn builds_an_image(&self) {
        let context = self.path("context");
        std::fs::create_dir(&context).expect("the folder is ours");
        std::fs::copy(tool::path("busybox", "busybox-static"), context.join("busybox"))
            .expect("the folder is ours");
        std::fs::write(context.join("payload"), bulk::bytes(1, LENGTH)).expect("the folder is ours");
        let steps = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"/bin\"]\n\
                     COPY payload /payload\nCMD [\"cat\"]\n";
        std::fs::write(context.join("Dockerfile"), steps).expect("the folder is ours");
        let place = context.to_str().expect("a plain path");
        let built = self.docker(&["build", "--network", "none", "--tag", IMAGE, place]).await.ok();
        assert!(built.stdout.contains("Step 4/5"), "{built:?}");
    }

    /// `run --rm`, seen by `events`.
    async fn runs_a_container_and_sees_its_events(&self) {
        let (_events, log) =
            self.follow(&["events", "--filter", &format!("image={IMAGE}"), "--format", "{{.Action}}"]);
        // The stream begins when the engine gets the request; an event shows that it has.
        let hears = async || {
            self.docker(&["run", "--rm", "--network", "none", IMAGE, "true"]).await.ok();
            log.contains("destroy").then_some(())
        };
        until(SOON, "events arrive", hears).await;
        let start = log.len();
        let ended = self.docker(&[
            "run",
            "--rm",
            "--network",
            "none",
            IMAGE,
            "sh",
            "-c",
            "echo out; echo err >&2; exit 3",
        ]);
        let ended = ended.await;
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str(), ended.code), ("out\n", "err\n", 3));
        for action in ["create", "attach", "start", "die", "destroy"] {
            log.wait_for_after(start, action, SOON).await;
        }
    }

    /// A container that says what it hears, listed by `ps`, fed by `attach` and followed by `logs -f`, line by line.
    async fn follows_a_container_as_it_writes(&self) {
        self.docker(&["run", "--detach", "--interactive", "--network", "none", "--name", BOX, IMAGE])
            .await
            .ok();
        let listed = self.docker(&["ps", "--format", "{{.Names}} {{.Image}}"]).await.ok();
        assert_eq!(listed.stdout, format!("{BOX} {IMAGE}\n"));

        let (_logs, logged) = self.follow(&["logs", "--follow", BOX]);
        let heard = Log::default();
        let (_attached, mut input) =
            Process::start_talking("docker attach", self.command(&["attach", BOX]), &heard);
        for line in ["first", "second", "third"] {
            writeln!(input, "{line}").expect("docker reads it");
            heard.wait_for(line, SOON).await;
            logged.wait_for(line, SOON).await;
        }
        assert_eq!((heard.len(), logged.len()), (3, 3), "{}\n{}", heard.text(), logged.text());
    }

    /// The gateway's own way: the list, the log, stop and start.
    async fn is_managed_by_the_admin_api(&self) {
        let path = |rest: &str| format!("/api/v1/edges/{EDGE}/containers{rest}");
        let call =
            async |method, rest: &str| self.site.http().call(method, &path(rest)).await.expect("an answer");
        let state = async || {
            let list: ContainerList = call(Method::GET, "").await.expect(200).json();
            list.containers.into_iter().find(|container| container.name == BOX).expect("it is listed").state
        };
        assert_eq!(state().await, "running");
        let log = call(Method::GET, &format!("/{BOX}/logs?tail=2")).await.expect(200).text();
        let told: Vec<LogLine> = log
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .filter_map(|data| serde_json::from_str(data).ok())
            .collect();
        let texts: Vec<_> = told.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["second", "third"], "{log}");
        assert!(log.contains("event: end"), "{log}");
        // `cat` as the first process takes no SIGTERM: the engine waits its ten seconds.
        call(Method::POST, &format!("/{BOX}/stop")).await.expect(204);
        assert_eq!(state().await, "exited");
        call(Method::POST, &format!("/{BOX}/start")).await.expect(204);
        call(Method::POST, &format!("/{BOX}/start")).await.expect(204);
        assert_eq!(state().await, "running");
        assert_eq!(call(Method::POST, "/no-such-thing/start").await.problem(404).code, "container-not-found");
    }

    /// `exec` without a terminal: the end of its standard input arrives, what follows it comes back.
    async fn pipes_through_exec(&self) {
        let payload = File::open(self.path("context/payload")).expect("it was written");
        let compare = self.command(&["exec", "--interactive", BOX, "cmp", "-", "/payload"]);
        run_with(payload, compare).await.ok();
        let sent = self.path("lines");
        std::fs::write(&sent, "b\nc\na\n").expect("the folder is ours");
        let sort = self.command(&["exec", "--interactive", BOX, "sh", "-c", "sort; exit 4"]);
        let sorted = run_with(File::open(sent).expect("it was written"), sort).await;
        assert_eq!((sorted.stdout.as_str(), sorted.code), ("a\nb\nc\n", 4), "{sorted:?}");
    }

    /// `exec` with a terminal, which `script` provides: keystrokes, echo, window size and exit code.
    async fn types_into_a_terminal(&self) {
        let docker = tool::path("docker", "docker.io");
        let line = format!("stty rows 41 cols 97; {} exec -it {BOX} sh", docker.display());
        let mut command = tool::command("script", "bsdutils");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        self.addressed(&mut command);
        let log = Log::default();
        let (mut terminal, mut keys) = Process::start_talking("docker exec -it", command, &log);
        writeln!(keys, "tty; until stty size | grep '41 97'; do sleep 0.1; done").expect("it reads");
        log.wait_for("/dev/pts/", SOON).await;
        until(SOON, "the window has its size", async || {
            log.text().lines().any(|line| line.trim() == "41 97").then_some(())
        })
        .await;
        writeln!(keys, "exit 6").expect("it reads");
        assert_eq!(terminal.exit(SOON).await.code(), Some(6));
    }

    /// `cp` there and back.
    async fn copies_both_ways(&self) {
        let there = self.path("there");
        std::fs::write(&there, bulk::bytes(2, LENGTH)).expect("the folder is ours");
        let there = there.to_str().expect("a plain path");
        self.docker(&["cp", there, &format!("{BOX}:/there")]).await.ok();
        for (name, seed) in [("there", 2), ("payload", 1)] {
            let back = self.path("back");
            let back = back.to_str().expect("a plain path");
            self.docker(&["cp", &format!("{BOX}:/{name}"), back]).await.ok();
            let same = std::fs::read(back).expect("docker made it") == bulk::bytes(seed, LENGTH);
            assert!(same, "{name} came back changed");
        }
    }

    async fn does_everything(&self) {
        self.builds_an_image().await;
        self.runs_a_container_and_sees_its_events().await;
        self.follows_a_container_as_it_writes().await;
        self.is_managed_by_the_admin_api().await;
        self.pipes_through_exec().await;
        self.types_into_a_terminal().await;
        self.copies_both_ways().await;
        self.docker(&["rm", "--force", BOX]).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_client_does_its_daily_work_through_connect() {
    Client::by_connect().await.does_everything().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_client_does_its_daily_work_through_the_http_proxy() {
    Client::by_proxy().await.does_everything().await;
}
