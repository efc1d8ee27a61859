//! The web page on port 9000: what people see in a browser.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`frame`] | what stands around every page: who looks, headers, navigation |
//! | [`refusal`] | problems as pages, for whoever asks for HTML |
//! | [`parts`], [`form`], [`flash`] | pieces that pages share: status, times, texts to copy; forms; a word after a redirect |
//! | [`assets`] | style sheet, script and logo, from the binary |
//! | [`live`] | the stream of what changed on a page |
//! | [`door`] | the first run, signing in and out |
//! | [`edges`] | the list of edges |
//!
//! Pages are rendered here, whole, and work without any script. The one script that there is makes them live.
//!
//! The rules: a page is a row of the table of operations like everything else, and asks the same functions as the admin
//! API; every page goes out through [`frame::Page::show`], which adds the headers; nothing of an agent's or of an
//! operator's gets into markup but as text; and a browser is never sent to another host.

mod assets;
mod door;
mod edges;
mod flash;
mod form;
mod frame;
mod live;
mod parts;
pub mod refusal;

#[cfg(test)]
mod tests;

use super::operation::{Needs, Operation, get, post};
use crate::domain::authority::Role;

/// The rows of the page.
#[rustfmt::skip]
pub fn operations() -> Vec<Operation> {
    use Needs::{Anybody, Edges, Nothing};
    use Role::Viewer;
    vec![
        get("page.asset", "/assets/{name}", Nothing, assets::serve, "Style sheet, script and logo of the page"),
        get("page.set-up", "/set-up", Nothing, door::ask_set_up, "Page: the first run"),
        post("page.set-up.send", "/set-up", Nothing, door::set_up, "Makes the first user, and signs them in"),
        get("page.sign-in", "/sign-in", Nothing, door::ask_sign_in, "Page: signing in"),
        post("page.sign-in.send", "/sign-in", Nothing, door::sign_in, "Signs a browser in"),
        get("page.sign-out", "/sign-out", Anybody, door::ask_sign_out, "Page: signing out"),
        post("page.sign-out.send", "/sign-out", Anybody, door::sign_out, "Signs a browser out"),
        get("page.edges.live", "/live/edges", Edges(Viewer), edges::follow, "Rows of the list, as they change"),
        get("page.edges", "/", Edges(Viewer), edges::list, "Page: the edges"),
    ]
}
