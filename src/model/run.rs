//! Who asks for dispatch runs.

/// Where a dispatch run came from.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, strum::IntoStaticStr, strum::VariantArray, strum::EnumString,
)]
#[strum(serialize_all = "snake_case", const_into_str)]
#[serde(rename_all = "snake_case")]
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
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// As the schema and the API spell it.
    pub fn as_str(self) -> &'static str {
        self.into_str()
    }
}
