//! What an operator sees who logs in without a forward: the edges, and how to reach them.

use std::fmt::Write as _;

use shared::wire::admin::{Edge, EdgePage, EdgeStatus};

/// Edges that are listed; `tidegate edge list` shows more.
pub(super) const MOST: usize = 200;

/// The text, with the line ends that a terminal in raw mode needs if there is one.
pub(super) fn text(page: &EdgePage, terminal: bool) -> String {
    let mut text = String::new();
    let width = page.edges.iter().map(|edge| edge.name.as_str().len()).max().unwrap_or(0).max(4);
    // Writing to a String does not fail.
    let _ = writeln!(text, "{:width$}  {:12}  {:20}  SERVICES", "EDGE", "STATUS", "LAST SEEN");
    for edge in &page.edges {
        let (name, status) = (edge.name.as_str(), status(edge.status));
        let seen = edge.last_seen.as_deref().unwrap_or("never");
        let _ = writeln!(text, "{name:width$}  {status:12}  {seen:20}  {}", services(edge));
    }
    if page.edges.is_empty() {
        text.push_str("There is no edge yet: tidegate edge create NAME\n");
    }
    if page.next.is_some() {
        let _ = writeln!(text, "... and more: tidegate edge list");
    }
    text.push_str(
        "\nssh -J THIS-GATEWAY USER@EDGE                  log in on an edge that has a service `ssh`\n\
         ssh -N -L PORT:SERVICE.EDGE:1 THIS-GATEWAY     reach any service at 127.0.0.1:PORT\n",
    );
    if terminal { text.replace('\n', "\r\n") } else { text }
}

fn status(status: EdgeStatus) -> &'static str {
    match status {
        EdgeStatus::NeverJoined => "never joined",
        EdgeStatus::Offline => "offline",
        EdgeStatus::Online => "online",
        EdgeStatus::TunnelOpen => "tunnel open",
    }
}

/// Names only, each once: targets are the agent's words and may hold anything.
fn services(edge: &Edge) -> String {
    let mut names: Vec<_> = edge
        .instances
        .iter()
        .flat_map(|instance| &instance.services)
        .map(|service| service.name.as_str())
        .chain(edge.stock_client.iter().flat_map(|client| &client.services).map(|name| name.as_str()))
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() { "-".to_owned() } else { names.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_list_says_what_to_do_next() {
        let page = EdgePage::default();
        assert!(text(&page, false).contains("tidegate edge create NAME"));
        assert!(text(&page, true).lines().all(|line| !line.contains('\r')));
        assert_eq!(text(&page, true).matches("\r\n").count(), text(&page, false).matches('\n').count());
    }
}
