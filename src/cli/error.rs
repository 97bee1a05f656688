//! What a command ends with when it does not succeed.

use std::fmt;

use crate::{
    appliance::OpenError, backup::BackupError, config::ConfigError, keys::KeysError, store::StoreError, tls::TlsError,
    work::workflows::WorkflowsError,
};

/// The error of a command. Its exit status is a contract: 1 failed, 2 wrong usage or configuration.
#[derive(Debug)]
pub enum CliError {
    /// It was tried and did not work out.
    Failed(String),
    /// It could not even be tried: usage or configuration.
    Unusable(String),
}

impl CliError {
    /// 1 or 2.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Unusable(_) => 2,
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(message) | Self::Unusable(message) => f.write_str(message),
        }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::Unusable(error.to_string())
    }
}

impl From<KeysError> for CliError {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Store(error) => error.into(),
            error => Self::Unusable(error.to_string()),
        }
    }
}

impl From<TlsError> for CliError {
    fn from(error: TlsError) -> Self {
        Self::Unusable(error.to_string())
    }
}

impl From<OpenError> for CliError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Store(error) => error.into(),
            OpenError::Keys(error) => error.into(),
            OpenError::Downstream(error) => Self::Unusable(error.to_string()),
            OpenError::Workflows(WorkflowsError::Store(error)) => error.into(),
            error @ (OpenError::Columns(_) | OpenError::Traces(_) | OpenError::Workflows(_)) => {
                Self::Unusable(error.to_string())
            }
            error @ (OpenError::Objects(_) | OpenError::Metrics(_) | OpenError::Folder(_)) => {
                Self::Failed(error.to_string())
            }
        }
    }
}

impl From<BackupError> for CliError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Keys(error) => error.into(),
            error @ (BackupError::NoBucket | BackupError::NoShelf | BackupError::Bucket(_)) => {
                Self::Unusable(error.to_string())
            }
            error => Self::Failed(error.to_string()),
        }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
