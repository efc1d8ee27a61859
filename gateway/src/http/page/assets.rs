//! Style sheet, script and logo: part of the binary, each at a path that has its content's hash, so that browsers keep
//! them for good and a new gateway's page never meets an old one's style.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use sha2::{Digest as _, Sha256};

use crate::http::problem::{Result, not_found};

/// A file that pages refer to.
pub struct Asset {
    /// `page.0123456789abcdef.css`.
    name: String,
    content_type: &'static str,
    content: &'static str,
}

/// Bytes of the hash in a name. Nobody chooses our files to collide; 64 bits tell versions apart.
const HASH_BYTES: usize = 8;

/// How all pages look.
pub static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("page", "css", "text/css; charset=utf-8", include_str!("assets/page.css")));
/// What makes pages live.
pub static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("page", "js", "text/javascript; charset=utf-8", include_str!("assets/page.js"))
});
/// The tide gate, as the browser's tab shows it.
pub static LOGO: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("logo", "svg", "image/svg+xml", include_str!("assets/logo.svg")));

impl Asset {
    fn new(name: &str, extension: &str, content_type: &'static str, content: &'static str) -> Self {
        let digest = Sha256::digest(content);
        let hash = digest.iter().take(HASH_BYTES).fold(String::new(), |mut hash, byte| {
            // Writing to a String does not fail.
            let _ = write!(hash, "{byte:02x}");
            hash
        });
        Self { name: format!("{name}.{hash}.{extension}"), content_type, content }
    }

    /// Where it is.
    pub fn path(&self) -> String {
        format!("/assets/{}", self.name)
    }
}

/// `GET /assets/{name}`.
pub async fn serve(Path(name): Path<String>) -> Result<Response> {
    for asset in [&STYLE, &SCRIPT, &LOGO] {
        if asset.name == name {
            let headers = [
                (CONTENT_TYPE, asset.content_type),
                (CACHE_CONTROL, "public, max-age=31536000, immutable"),
                (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
            return Ok((headers, asset.content).into_response());
        }
    }
    Err(not_found().await)
}
