//! What can go wrong with objects, sorted by what to do about it.

use std::io;

/// Why an object could not be kept, read or removed. Says where and why, and holds neither content nor credentials.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// There is no object with this name.
    #[error("there is no such object in {store}")]
    NotFound { store: String },
    /// The store does not answer, or asks for patience: the same call may well succeed later.
    #[error("{store} is not available: {cause}")]
    Unavailable { store: String, cause: String },
    /// No room is left: the same call may succeed when some was made.
    #[error("{store} is full")]
    Full { store: String },
    /// The store will not do it until a person has changed something; `hint` says what.
    #[error("{store} refuses: {cause}; {hint}")]
    Refused { store: String, cause: String, hint: &'static str },
    /// A name that no object can have.
    #[error("this cannot be the name of an object")]
    BadName,
    /// Any other failure of the file system.
    #[error("input or output failed in {store}: {source}")]
    Io { store: String, source: io::Error },
}

impl ObjectError {
    /// Whether the same call may succeed later without anybody doing anything about this object or the settings.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Full { .. })
    }

    /// Sorts an error of the file system.
    pub(super) fn from_file_system(store: impl ToString, source: io::Error) -> Self {
        let store = store.to_string();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { store },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { store },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::Refused {
                store,
                cause: source.to_string(),
                hint: "give the user that dripfeed runs as the right to read and write there",
            },
            _ => Self::Io { store, source },
        }
    }
}

/// For readers and writers, whose errors have to be [`io::Error`]s: the object error travels inside.
impl From<ObjectError> for io::Error {
    fn from(error: ObjectError) -> Self {
        let kind = match &error {
            ObjectError::NotFound { .. } => io::ErrorKind::NotFound,
            ObjectError::Unavailable { .. } => io::ErrorKind::NotConnected,
            ObjectError::Full { .. } => io::ErrorKind::StorageFull,
            ObjectError::Refused { .. } => io::ErrorKind::PermissionDenied,
            ObjectError::BadName => io::ErrorKind::InvalidInput,
            ObjectError::Io { source, .. } => source.kind(),
        };
        Self::new(kind, error)
    }
}

/// Takes the object error out of the error of a reader or writer.
impl From<io::Error> for ObjectError {
    fn from(error: io::Error) -> Self {
        error.downcast().unwrap_or_else(|error| Self::from_file_system("the object store", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_way_through_an_io_error() {
        let error = ObjectError::Unavailable { store: "bucket b".into(), cause: "connection refused".into() };
        let back = ObjectError::from(io::Error::from(error));
        assert!(back.is_transient());
        assert_eq!(back.to_string(), "bucket b is not available: connection refused");
    }

    #[test]
    fn errors_of_the_file_system_are_sorted_by_what_to_do() {
        let sorted = |kind: io::ErrorKind| ObjectError::from(io::Error::from(kind));
        assert!(matches!(sorted(io::ErrorKind::StorageFull), ObjectError::Full { .. }));
        assert!(matches!(sorted(io::ErrorKind::NotFound), ObjectError::NotFound { .. }));
        assert!(matches!(sorted(io::ErrorKind::PermissionDenied), ObjectError::Refused { .. }));
        assert!(!sorted(io::ErrorKind::Other).is_transient());
    }
}
