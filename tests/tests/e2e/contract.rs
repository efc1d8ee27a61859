//! The admin API against its own document: schemathesis makes requests from the document, good ones and bad ones, and
//! looks whether what comes back is what the document says.

use std::path::PathBuf;
use std::process::Command;

use hyper::Method;
use serde_json::{Value, json};
use shared::wire::admin::TokenCreated;
use tests::gateway::Gateway;
use tests::process::run;

/// Requests of each operation at random, beside those that cover each bound of its schema: some fourteen hundred in all,
/// half a minute on a busy machine. Hundreds for each, as by hand before a release, find more.
const EXAMPLES: &str = "5";

/// What is not asked, and why. Nothing else is left out.
const LEFT_OUT: [(&str, &str); 4] = [
    // Whatever a service answers is its own, so there is nothing to compare it with; and a stream is 101 and then bytes,
    // which no HTTP client of a test framework speaks. The tests of proxy and streams do. (One expression for both: of
    // several options the last one counts.)
    ("--exclude-path-regex", "/services/[^/]+/(proxy|stream)"),
    // Never ends. The tests of events read it.
    ("--exclude-operation-id", "event.follow"),
    // Takes gzip, which it can't make. The tests of snapshots can.
    ("--exclude-operation-id", "agent.snapshot"),
    // Waits for an agent, for two intervals and more, and another request may have made the interval a day.
    ("--exclude-operation-id", "snapshot.take"),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_asked_the_api_answers_as_its_document_says() {
    let gateway = Gateway::start().await;
    let admin = &gateway.admin;
    for name in ["stays", "is-changed", "is-deleted"] {
        admin.create(name).await;
    }
    let agent = admin.create("checks-in").await;
    let made = async |label: &str| -> TokenCreated {
        let new = json!({ "label": label });
        let answer = admin.http.send_json(Method::POST, "/api/v1/tokens", &new).await.expect("an answer");
        answer.expect(201).json()
    };
    let (revoked, ended) = (made("to be revoked").await, made("to be ended").await);
    let document: Value = admin.get("/api/v1/openapi.json").await.expect(200).json();
    let operations = document["paths"].as_object().expect("paths").len();
    assert!(operations > 20, "{operations} paths are told");

    // Its command line is no place for a token.
    let folder = tempfile::tempdir().expect("a folder");
    let configuration = folder.path().join("schemathesis.toml");
    let token = admin.http.authorization().expect("an admin has a token");
    let authorization = format!("Edge {}.{}", agent.edge_id, agent.key);
    let text = format!(
        r#"
        headers = {{ authorization = "{token}" }}

        # What is made up would never be there, and what is renamed or deleted would not stay.
        [parameters]
        "path.edge" = "stays"

        [[operations]]
        include-operation-id = "edge.change"
        parameters = {{ "path.edge" = "is-changed" }}

        [[operations]]
        include-operation-id = "edge.delete"
        parameters = {{ "path.edge" = "is-deleted" }}

        # It would find the id of its own token in the list.
        [[operations]]
        include-operation-id = "token.revoke"
        parameters = {{ "path.token" = "{revoked}" }}

        # It ends the token that it is asked with.
        [[operations]]
        include-operation-id = "session.end"
        headers = {{ authorization = "Bearer {ended}" }}

        [[operations]]
        include-operation-id = "agent.check-in"
        headers = {{ authorization = "{authorization}", x-instance = "{revoked}" }}
        "#,
        revoked = revoked.listed.id,
        ended = ended.token,
    );
    std::fs::write(&configuration, text).expect("a file");

    let mut command = Command::new(schemathesis());
    command.current_dir(&folder).arg("--config-file").arg(&configuration).arg("run");
    command.arg(format!("http://{}/api/v1/openapi.json", gateway.api()));
    command.args(["--checks", CHECKS, "--phases", "coverage,fuzzing", "--max-examples", EXAMPLES]);
    command.args(["--generation-with-security-parameters", "false", "--generation-database", "none"]);
    // With one worker: with several, its own parser fails at times under Python 3.11.
    command.args(["--request-timeout", "20", "--no-color"]);
    for (option, value) in LEFT_OUT {
        command.args([option, value]);
    }
    let ended = run(command).await;
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    assert!(!ended.stdout.contains("Authentication failed"), "it was let in everywhere:\n{}", ended.stdout);
}

/// What is looked at in every answer: that it is no failure of ours, and that its status, type, headers and body are as
/// the document has them. Whether bad data is refused is left to the document's readers: some of it can't be told by a
/// schema.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance";

/// Where `ci/install-test-tools` puts it.
fn schemathesis() -> PathBuf {
    let test = std::env::current_exe().expect("a running executable has a path");
    let target = test.ancestors().nth(3).expect("cargo puts tests into TARGET/PROFILE/deps");
    let path = target.join("tools/schemathesis/bin/schemathesis");
    assert!(path.is_file(), "{} is missing: run ci/install-test-tools", path.display());
    path
}
