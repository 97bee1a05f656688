//! Who asks for dispatch runs.

use std::str::FromStr;

/// Where a dispatch run came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedBy {
    /// A call over HTTP: a CronJob, `dripfeed dispatch`, an operator.
    Call,
    /// The built-in clock, as configured.
    Clock,
    /// The built-in clock in place of calls that do not come.
    TakeOver,
}

impl AskedBy {
    /// Every one of them.
    pub const ALL: [Self; 3] = [Self::Call, Self::Clock, Self::TakeOver];

    /// As the schema and the API spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Clock => "clock",
            Self::TakeOver => "take_over",
        }
    }
}

impl FromStr for AskedBy {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|asked_by| asked_by.as_str() == text).ok_or(())
    }
}

impl serde::Serialize for AskedBy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
