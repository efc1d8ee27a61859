//! What goes wrong with operators' credentials, as problems. The credentials themselves are in [`crate::access`].

use super::problem::{Code, Problem};
use crate::access::{SshKeyError, TokenError};

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        let detail = error.to_string();
        match error {
            TokenError::Label => Self::new(Code::InvalidField, detail),
            TokenError::TooMany => Self::new(Code::TooManyTokens, detail),
            TokenError::NoSuchToken(_) => Self::new(Code::TokenNotFound, detail),
            TokenError::Last => Self::new(Code::LastToken, detail),
            TokenError::Store(error) => error.into(),
        }
    }
}

impl From<SshKeyError> for Problem {
    fn from(error: SshKeyError) -> Self {
        let detail = error.to_string();
        match error {
            SshKeyError::Label | SshKeyError::Key(_) => Self::new(Code::InvalidField, detail),
            SshKeyError::TooMany => Self::new(Code::TooManySshKeys, detail),
            SshKeyError::Known { .. } => Self::new(Code::SshKeyExists, detail),
            SshKeyError::NoSuchKey(_) => Self::new(Code::SshKeyNotFound, detail),
            SshKeyError::Store(error) => error.into(),
        }
    }
}
