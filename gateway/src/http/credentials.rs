//! What goes wrong with people and their credentials, as problems. They themselves are in [`crate::access`].

use super::problem::{Code, Problem};
use crate::access::{
    LogInError, PasswordError, SetUpError, SignInError, SshKeyError, TokenError, UserError, whole_seconds,
};

/// Seconds until a crowd of sign-ins has passed.
const CROWD_S: u32 = 1;

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        let detail = error.to_string();
        match error {
            TokenError::Label | TokenError::Tags(_) | TokenError::Life => {
                Self::new(Code::InvalidField, detail)
            }
            TokenError::More(_) | TokenError::Nobody => Self::new(Code::NotAllowed, detail),
            TokenError::Overtaken => Self::new(Code::SignInRefused, detail),
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
            SshKeyError::More | SshKeyError::Nobody => Self::new(Code::NotAllowed, detail),
            SshKeyError::TooMany => Self::new(Code::TooManySshKeys, detail),
            SshKeyError::Known { .. } => Self::new(Code::SshKeyExists, detail),
            SshKeyError::NoSuchKey(_) => Self::new(Code::SshKeyNotFound, detail),
            SshKeyError::Store(error) => error.into(),
        }
    }
}

impl From<PasswordError> for Problem {
    fn from(error: PasswordError) -> Self {
        let detail = error.to_string();
        match error {
            PasswordError::Length => Self::new(Code::InvalidField, detail),
            PasswordError::Busy => Self::new(Code::Busy, detail).retry_after_s(CROWD_S),
        }
    }
}

impl From<UserError> for Problem {
    fn from(error: UserError) -> Self {
        let detail = error.to_string();
        match error {
            UserError::NameTaken(_) => Self::new(Code::UserNameTaken, detail),
            UserError::NoSuchUser(_) => Self::new(Code::UserNotFound, detail),
            UserError::Stale => Self::new(Code::Stale, detail),
            UserError::TooMany => Self::new(Code::TooManyUsers, detail),
            UserError::Tags(_) => Self::new(Code::InvalidField, detail),
            UserError::Password(error) => error.into(),
            UserError::LastAdmin(_) => Self::new(Code::LastAdmin, detail),
            UserError::NotFirst => Self::new(Code::AlreadySetUp, detail),
            UserError::Store(error) => error.into(),
        }
    }
}

impl From<SignInError> for Problem {
    fn from(error: SignInError) -> Self {
        let detail = error.to_string();
        match error {
            SignInError::Wrong => Self::new(Code::SignInRefused, detail),
            SignInError::TooMany(wait) => {
                Self::new(Code::TooManyAttempts, detail).retry_after_s(whole_seconds(wait))
            }
            SignInError::Password(error) => error.into(),
            SignInError::Store(error) => error.into(),
        }
    }
}

impl From<LogInError> for Problem {
    fn from(error: LogInError) -> Self {
        match error {
            LogInError::SignIn(error) => error.into(),
            LogInError::Token(error) => error.into(),
        }
    }
}

impl From<SetUpError> for Problem {
    fn from(error: SetUpError) -> Self {
        let detail = error.to_string();
        match error {
            SetUpError::WrongCode => Self::new(Code::SetUpCodeWrong, detail),
            SetUpError::TooMany(wait) => {
                Self::new(Code::TooManyAttempts, detail).retry_after_s(whole_seconds(wait))
            }
            SetUpError::User(error) => error.into(),
        }
    }
}
