//! People on the command line: users, logging in and out, and what a login is good for.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use tests::gateway::Gateway;
use tests::process::{Ended, Log, Process, run};
use tests::tool;
use tests::wait::{SOON, until};

const PASSWORD: &str = "correct horse battery";

/// A person's machine: a folder for configuration, and nothing of a gateway in the environment.
struct Person {
    home: TempDir,
}

impl Person {
    fn new() -> Self {
        let home = TempDir::new().expect("the folder for temporary files is writable");
        std::fs::write(home.path().join("password"), format!("{PASSWORD}\n")).expect("the folder is ours");
        Self { home }
    }

    fn password_file(&self) -> String {
        self.home.path().join("password").display().to_string()
    }

    fn logins(&self) -> PathBuf {
        self.home.path().join("tidegate/logins.json")
    }

    /// The first login that is kept.
    fn kept(&self) -> (String, Value) {
        let text = std::fs::read_to_string(self.logins()).expect("somebody logged in");
        let logins: Value = serde_json::from_str(&text).expect("JSON");
        let (url, login) = logins["gateways"].as_object().expect("by URL").iter().next().expect("one");
        (url.clone(), login.clone())
    }

    fn at_home(&self, mut command: Command) -> Command {
        for name in ["TIDEGATE_URL", "TIDEGATE_TOKEN", "TIDEGATE_TLS_FINGERPRINT"] {
            command.env_remove(name);
        }
        command.env("XDG_CONFIG_HOME", self.home.path());
        command
    }

    async fn tidegate(&self, gateway: &Gateway, line: &str) -> Ended {
        let arguments: Vec<_> = line.split_whitespace().collect();
        run(self.at_home(gateway.cli(&arguments))).await
    }

    async fn log_in(&self, gateway: &Gateway, name: &str) -> Ended {
        let line = format!(
            "login https://{} --user {name} --password-file {} --tls-fingerprint {}",
            gateway.api(),
            self.password_file(),
            gateway.pin()
        );
        self.tidegate(gateway, &line).await
    }
}

/// An admin's command.
async fn admin(gateway: &Gateway, line: &str) -> Ended {
    let arguments: Vec<_> = line.split_whitespace().collect();
    run(gateway.cli(&arguments)).await
}

#[tokio::test]
async fn a_login_is_kept_used_and_revoked() {
    let gateway = Gateway::start().await;
    let ada = Person::new();
    let line = format!("user add ada --role operator --tag north --password-file {}", ada.password_file());
    admin(&gateway, &line).await.ok();
    admin(&gateway, "edge create north-1 --tag north").await.ok();
    admin(&gateway, "edge create south-1 --tag south").await.ok();

    let stranger = ada.tidegate(&gateway, "edge list").await;
    assert!(stranger.code == 3 && stranger.stderr.contains("tidegate login"), "{stranger:?}");
    let logged_in = ada.log_in(&gateway, "ada").await.ok();
    assert!(logged_in.stderr.contains("as ada (operator), until"), "{logged_in:?}");
    let (url, login) = ada.kept();
    let token = login["token"].as_str().expect("a token");
    assert_eq!(url, format!("https://{}", gateway.api()));
    assert!(!logged_in.stdout.contains(token) && !logged_in.stderr.contains(token));
    assert_eq!(ada.logins().metadata().expect("there").permissions().mode() & 0o777, 0o600);

    let listed = ada.tidegate(&gateway, "edge list").await.ok().stdout;
    assert!(listed.contains("north-1") && !listed.contains("south-1"), "{listed}");
    let whoami = ada.tidegate(&gateway, "whoami").await.ok().stdout;
    assert!(whoami.contains("ada") && whoami.contains("tagged north"), "{whoami}");
    let refused = ada.tidegate(&gateway, "edge delete north-1 --yes").await;
    assert_eq!(refused.code, 4, "an operator deletes nothing: {refused:?}");

    ada.tidegate(&gateway, "logout").await.ok();
    let http = gateway.admin.http.anonymous().with_authorization(format!("Bearer {token}"));
    http.get("/api/v1/edges").await.expect("an answer").problem(401);
    assert_eq!(ada.tidegate(&gateway, "edge list").await.code, 3);
}

#[tokio::test]
async fn a_wrong_password_and_a_wrong_gateway_are_refused() {
    let gateway = Gateway::start().await;
    let ada = Person::new();
    admin(&gateway, &format!("user add ada --role admin --password-file {}", ada.password_file())).await.ok();
    std::fs::write(ada.home.path().join("password"), "something else\n").expect("the folder is ours");
    let wrong = ada.log_in(&gateway, "ada").await;
    assert_eq!(wrong.code, 4, "{wrong:?}");
    assert!(!ada.logins().exists());

    std::fs::write(ada.home.path().join("password"), PASSWORD).expect("the folder is ours");
    ada.log_in(&gateway, "ada").await.ok();
    // Whoever stands at the address now has another key.
    let text = std::fs::read_to_string(ada.logins()).expect("kept");
    let other = "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    std::fs::write(ada.logins(), text.replace(&gateway.pin().to_string(), other))
        .expect("the folder is ours");
    for line in ["edge list".to_owned(), format!("login {} --user ada --password-file x", gateway.api())] {
        let ended = ada.tidegate(&gateway, &line).await;
        assert!(ended.code == 4 && ended.stderr.contains("listening in"), "{ended:?}");
    }

    let (_, login) = ada.kept();
    let end = login["expires_at"].as_str().expect("it ends");
    let over = text.replace(end, "2020-01-01T00:00:00Z");
    std::fs::write(ada.logins(), over).expect("the folder is ours");
    let ended = ada.tidegate(&gateway, "edge list").await;
    assert!(ended.code == 4 && ended.stderr.contains("has ended"), "{ended:?}");
}

#[tokio::test]
async fn a_new_gateway_is_trusted_by_its_fingerprint_and_a_password_is_not_shown() {
    let gateway = Gateway::start().await;
    let ada = Person::new();
    admin(&gateway, &format!("user add ada --role viewer --password-file {}", ada.password_file()))
        .await
        .ok();
    let unattended = ada.tidegate(&gateway, &format!("login {} --user ada", gateway.api())).await;
    assert!(unattended.code == 3 && unattended.stderr.contains("--tls-fingerprint"), "{unattended:?}");

    let (cli, shown) = (ada.at_home(gateway.cli(&[])), ada.home.path().join("typescript"));
    let mut script = tool::command("script", "bsdutils");
    let command = format!("'{}' login {}", cli.get_program().display(), gateway.api());
    script.args(["--quiet", "--flush", "--return", "--command", &command]).arg(&shown);
    for (name, value) in cli.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    let (mut process, mut keys) = Process::start_talking("tidegate login", script, &Log::default());
    let seen = || std::fs::read_to_string(&shown).unwrap_or_default();
    for (prompt, answer) in [("[y/N]", "y"), ("Name: ", "ada"), ("Password of ada: ", PASSWORD)] {
        until(SOON, prompt, async || seen().contains(prompt).then_some(())).await;
        writeln!(keys, "{answer}").expect("it reads");
    }
    assert!(process.exit(SOON).await.success(), "{}", seen());
    let seen = seen();
    assert!(seen.contains(&gateway.pin().to_string()) && seen.contains("logged in to"), "{seen}");
    assert!(!seen.contains(PASSWORD), "{seen}");
    assert_eq!(ada.kept().1["tls_fingerprint"], gateway.pin().to_string());
    ada.tidegate(&gateway, "edge list").await.ok();
}

#[tokio::test]
async fn a_user_is_changed_and_goes_with_all_that_is_theirs() {
    let gateway = Gateway::start().await;
    let bob = Person::new();
    admin(&gateway, &format!("user add bob --role viewer --password-file {}", bob.password_file()))
        .await
        .ok();
    bob.log_in(&gateway, "bob").await.ok();
    assert_eq!(bob.tidegate(&gateway, "edge create shop").await.code, 4);
    admin(&gateway, "user set-role bob admin").await.ok();
    let last = admin(&gateway, "user delete bob --yes").await;
    assert!(last.code == 1 && last.stderr.contains("last admin"), "{last:?}");
    admin(&gateway, &format!("user add carol --role admin --password-file {}", bob.password_file()))
        .await
        .ok();
    bob.log_in(&gateway, "bob").await.ok();
    bob.tidegate(&gateway, "edge create shop").await.ok();
    let token = bob.tidegate(&gateway, "token create nightly --role viewer --expires 1h -o json").await.ok();
    let token: Value = serde_json::from_str(&token.stdout).expect("JSON");
    assert_eq!((&token["role"], &token["user"]), (&"viewer".into(), &"bob".into()));

    admin(&gateway, "user set-tags bob --tag north").await.ok();
    let listed = admin(&gateway, "user list").await.ok().stdout;
    assert!(listed.contains("bob") && listed.contains("north"), "{listed}");
    let new = gateway.folder().join("new");
    std::fs::write(&new, "another horse battery\n").expect("the folder is ours");
    admin(&gateway, &format!("user passwd bob --password-file {}", new.display())).await.ok();
    assert_eq!(bob.log_in(&gateway, "bob").await.code, 4, "the old password is worth nothing");

    admin(&gateway, "user delete bob --yes").await.ok();
    let http = gateway.admin.http.anonymous();
    let http = http.with_authorization(format!("Bearer {}", token["token"].as_str().expect("shown once")));
    http.get("/api/v1/edges").await.expect("an answer").problem(401);
    assert!(!admin(&gateway, "user list").await.ok().stdout.contains("bob"));
}
