//! Ways to start an agent for a new edge, ready to copy.
//!
//! The rule: the join token and the edge ID are secrets, so no command passes them as an argument, which every user of
//! the machine could read: they go through the environment or a file of mode 0600. What they expose is an example that
//! works on most machines; the operator edits it.

use shared::id::EdgeId;
use shared::wire::admin::Commands;

/// The agents that this gateway was tested with are those of its own version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
const TOKEN: &str = "TIDEGATE_AGENT_JOIN_TOKEN";
const EDGE_ID: &str = "TIDEGATE_AGENT_EDGE_ID";
const EXPOSE: &str = "TIDEGATE_AGENT_EXPOSE";
const DOCKER: &str = "docker=unix:///var/run/docker.sock";
const SSH: &str = "ssh=127.0.0.1:22";

/// All ways to start an agent with this token and this edge ID.
pub fn commands(join_token: &str, edge_id: &EdgeId) -> Commands {
    let edge_id = edge_id.to_string();
    Commands {
        container: container(join_token, &edge_id),
        binary: binary(join_token, &edge_id),
        compose: compose(join_token, &edge_id),
        systemd: systemd(join_token, &edge_id),
    }
}

/// The assignments before a command. `docker run -e NAME` passes a variable on without its value on the command line.
fn environment(join_token: &str, edge_id: &str) -> String {
    format!("{TOKEN}={} {EDGE_ID}={}", quote(join_token), quote(edge_id))
}

fn container(join_token: &str, edge_id: &str) -> String {
    let environment = environment(join_token, edge_id);
    format!(
        "{environment} \\
docker run -d --name tidegate-agent --restart unless-stopped \\
  -e {TOKEN} -e {EDGE_ID} -e {EXPOSE}={DOCKER} \\
  -v tidegate-agent:/var/lib/tidegate-agent \\
  -v /var/run/docker.sock:/var/run/docker.sock --group-add \"$(stat -c %g /var/run/docker.sock)\" \\
  tidegate-agent:{VERSION}"
    )
}

fn binary(join_token: &str, edge_id: &str) -> String {
    let environment = environment(join_token, edge_id);
    format!("{environment} \\\ntidegate-agent --data-dir \"$HOME/.tidegate-agent\" --expose {SSH}")
}

/// JSON strings are YAML strings.
fn compose(join_token: &str, edge_id: &str) -> String {
    format!(
        "# Start with: DOCKER_GROUP=$(stat -c %g /var/run/docker.sock) docker compose up -d
services:
  tidegate-agent:
    image: tidegate-agent:{VERSION}
    restart: unless-stopped
    environment:
      {TOKEN}: {join_token:?}
      {EDGE_ID}: {edge_id:?}
      {EXPOSE}: {DOCKER:?}
    group_add:
      - \"${{DOCKER_GROUP:-0}}\"
    volumes:
      - tidegate-agent:/var/lib/tidegate-agent
      - /var/run/docker.sock:/var/run/docker.sock
volumes:
  tidegate-agent:
"
    )
}

fn systemd(join_token: &str, edge_id: &str) -> String {
    format!(
        "sudo install -d -m 0700 /etc/tidegate-agent
sudo install -m 0600 /dev/stdin /etc/tidegate-agent/environment <<'END'
{TOKEN}={join_token}
{EDGE_ID}={edge_id}
{EXPOSE}={SSH}
END
sudo install -m 0644 /dev/stdin /etc/systemd/system/tidegate-agent.service <<'END'
[Unit]
Description=Tidegate agent
Wants=network-online.target
After=network-online.target

[Service]
EnvironmentFile=/etc/tidegate-agent/environment
ExecStart=/usr/local/bin/tidegate-agent --data-dir /var/lib/tidegate-agent
DynamicUser=yes
StateDirectory=tidegate-agent
StateDirectoryMode=0700
Restart=always
RestartSec=5
ProtectHome=yes
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
END
sudo systemctl daemon-reload
sudo systemctl enable --now tidegate-agent"
    )
}

/// Quotes a text as one word of a POSIX shell (XCU 2.2.2): nothing is special inside single quotes but their end.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const TOKEN_TEXT: &str = "tidegate1.eyJhcGkiOiJodHRwczovL2dhdGUifQ.AAAAAAAA";

    /// Runs `script` in a shell without anything else, and gives what it wrote.
    fn shell(script: &str) -> String {
        let output = Command::new("/bin/sh").arg("-c").arg(script).env_clear().output();
        let output = output.expect("every system that we build on has a shell");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    #[test]
    fn quoted_text_reaches_the_command_unchanged() {
        for text in ["plain", "it's", "$HOME `id` \\ \"x\"", "a\nb", "'", "*;&|<>"] {
            assert_eq!(shell(&format!("printf %s {}", quote(text))), text);
        }
    }

    #[test]
    fn commands_for_a_shell_hand_over_token_and_edge_id_through_the_environment_only() {
        let edge_id = EdgeId::from_bytes([7; 16]);
        let commands = commands(TOKEN_TEXT, &edge_id);
        let functions = format!(
            "report() {{ printf '%s|%s|%s' \"${TOKEN}\" \"${EDGE_ID}\" \"$*\"; }}
             stat() {{ printf 999; }}
             docker() {{ report \"$@\"; }}
             HOME=/home/operator\n"
        );
        let binary = commands.binary.replace("tidegate-agent --", "report --");
        for command in [binary, commands.container] {
            let seen = shell(&format!("{functions}{command}"));
            let [token, id, arguments] = seen.split('|').collect::<Vec<_>>()[..] else { panic!("{seen}") };
            assert_eq!((token, id), (TOKEN_TEXT, edge_id.to_string().as_str()));
            assert!(!arguments.contains(token) && !arguments.contains(id), "{arguments}");
            assert!(
                arguments.contains("=unix:///var/run/docker.sock") || arguments.contains("--expose ssh=")
            );
        }
    }

    #[test]
    fn systemd_commands_are_shell_and_carry_the_secrets_in_a_private_file() {
        let commands = commands(TOKEN_TEXT, &EdgeId::from_bytes([7; 16]));
        let functions =
            "sudo() { case \"$*\" in *environment) while read -r l; do echo \"$l\"; done;; esac; }\n";
        let seen = shell(&format!("{functions}{}", commands.systemd));
        assert!(seen.contains(&format!("{TOKEN}={TOKEN_TEXT}\n{EDGE_ID}=07070707-")), "{seen}");
        assert!(commands.systemd.contains("install -m 0600 /dev/stdin /etc/tidegate-agent/environment"));
    }

    #[test]
    fn compose_file_names_token_and_edge_id() {
        let commands = commands(TOKEN_TEXT, &EdgeId::from_bytes([7; 16]));
        assert!(
            commands.compose.contains(&format!("      {TOKEN}: \"{TOKEN_TEXT}\"\n")),
            "{}",
            commands.compose
        );
        assert!(commands.compose.contains("\"${DOCKER_GROUP:-0}\""));
    }
}
