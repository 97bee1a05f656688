//! What an operator is told without asking.

/// What can be wrong. Each is told once, when it begins and when it is over, with what to run next.
///
/// | kind | about | begins | is over |
/// |---|---|---|---|
/// | `extraction_failed` | a batch | it could not be extracted | a day later, or once the batch is deleted |
/// | `batch_paused` | a batch | it paused itself, because too many of its rows failed | it is resumed, cancelled or deleted |
/// | `dependency_missing` | a batch | its workflow calls a dependency that is not configured | it is, or the batch is upgraded, cancelled or deleted |
/// | `rows_undecryptable` | a batch | rows of it failed as `undecryptable` | they are retried, or the batch is deleted |
/// | `rows_stuck` | all | claims expired, and nobody frees them | none is left |
/// | `gate_closed` | a dependency | its gate is closed for long | a request to it succeeds |
/// | `runs_missing` | all | three expected dispatch calls are missing | one comes |
/// | `disk_low` | all | little is left of the disk | a tenth more than that is free again |
/// | `wal_large` | all | the WAL is large, and stays so | it is cut |
/// | `backup_overdue` | all | a scheduled backup is late | one is whole |
/// | `certificate_ends` | all | our own certificate is valid for two more weeks, or no more | another one is taken |
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    strum::IntoStaticStr,
    strum::VariantArray,
    strum::EnumString,
)]
#[strum(serialize_all = "snake_case", const_into_str)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// A batch could not be extracted.
    ExtractionFailed,
    /// A batch paused itself.
    BatchPaused,
    /// A batch calls somebody whom the configuration does not know.
    DependencyMissing,
    /// Rows of a batch can be opened with no key.
    RowsUndecryptable,
    /// Claims have expired.
    RowsStuck,
    /// A dependency's gate is closed for long.
    GateClosed,
    /// Dispatch calls are missing.
    RunsMissing,
    /// The disk is nearly full.
    DiskLow,
    /// The WAL does not shrink.
    WalLarge,
    /// A backup is late.
    BackupOverdue,
    /// Our own certificate ends soon.
    CertificateEnds,
}

impl AlertKind {
    /// Every kind.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// As the schema, the API and the messages spell it.
    pub fn as_str(self) -> &'static str {
        self.into_str()
    }

    /// Whether it is about a batch each, of which there can be any number: many at once are told as one.
    pub fn is_of_batches(self) -> bool {
        matches!(self, Self::ExtractionFailed | Self::BatchPaused | Self::DependencyMissing | Self::RowsUndecryptable)
    }

    /// That many batches are in this trouble, which are not told one by one.
    pub fn many(self, batches: usize) -> String {
        match self {
            Self::ExtractionFailed => format!("{batches} batches could not be extracted"),
            Self::BatchPaused => format!("{batches} batches paused themselves, because too many of their rows failed"),
            Self::DependencyMissing => format!("{batches} batches call dependencies that are not configured"),
            Self::RowsUndecryptable => format!("{batches} batches have rows that no key opens"),
            _ => format!("{batches} of {}", self.as_str()),
        }
    }

    /// That it is over, for a person. `subject` is the batch or the dependency that it was about, or empty.
    pub fn over(self, subject: &str) -> String {
        match (self, subject) {
            (Self::ExtractionFailed, "") => "the batches that could not be extracted are deleted, or a day old".into(),
            (Self::ExtractionFailed, batch) => {
                format!("{batch} could not be extracted: it is deleted, or that is a day ago")
            }
            (Self::BatchPaused, "") => "no batch is paused any more that paused itself".into(),
            (Self::BatchPaused, batch) => format!("{batch} is not paused any more"),
            (Self::DependencyMissing, "") => "what every unfinished batch calls is configured".into(),
            (Self::DependencyMissing, batch) => format!("what {batch} calls is configured, or it is over"),
            (Self::RowsUndecryptable, "") => "no batch stands with rows any more that no key opens".into(),
            (Self::RowsUndecryptable, batch) => format!("{batch} has no rows any more that no key opens"),
            (Self::RowsStuck, _) => "nothing is stuck any more".into(),
            (Self::GateClosed, dependency) => format!("the gate of {dependency} is open again"),
            (Self::RunsMissing, _) => "dispatch calls come again".into(),
            (Self::DiskLow, _) => "there is room on the disk again".into(),
            (Self::WalLarge, _) => "the WAL has shrunk".into(),
            (Self::BackupOverdue, _) => "there is a new backup".into(),
            (Self::CertificateEnds, _) => "another certificate is in use".into(),
        }
    }

    /// What it means, and who can help, in a sentence.
    pub fn hint(self) -> &'static str {
        match self {
            Self::ExtractionFailed => {
                "Its stored file cannot become rows. Nothing of it was sent; its client has to upload the file again."
            }
            Self::BatchPaused => {
                "Nothing more of it is sent. Mend the cause (often a token, or a dependency), then resume it; rows that \
                 failed stay so until they are retried."
            }
            Self::DependencyMissing => {
                "Nothing of it is sent. Configure the dependency and restart the server, or move the batch to the present version \
                 of its workflow, or cancel it."
            }
            Self::RowsUndecryptable => {
                "A key is missing from the ring, or the database is damaged. Put the key back, then retry these rows."
            }
            Self::RowsStuck => {
                "Whoever worked on them is gone. Freeing them is safe: no request is repeated that may not be."
            }
            Self::GateClosed => {
                "It fails or turns requests away, so its rows wait; one request at a time finds out when it is back. Ask \
                 whoever runs it."
            }
            Self::RunsMissing => {
                "Without them nobody is granted rows. See that the CronJob runs, and what its last job says."
            }
            Self::DiskLow => "Uploads are refused when it is full. Make room, or give the volume more.",
            Self::WalLarge => {
                "A reader holds it: a backup that is being taken, or a process that hangs. It is cut when that ends."
            }
            Self::BackupOverdue => {
                "What the last backup does not hold would be lost with the disk. The log says what failed."
            }
            Self::CertificateEnds => {
                "Callers refuse one that has expired. Put a new one in its place, and send the server SIGHUP."
            }
        }
    }

    /// The commands to run next, in this order.
    pub fn what_to_do(self, subject: &str) -> Vec<String> {
        let commands: &[&str] = match (self, subject) {
            (Self::ExtractionFailed | Self::BatchPaused | Self::DependencyMissing, "") => &["dripfeed batch list"],
            (Self::ExtractionFailed, _) => &["dripfeed batch show {}"],
            (Self::BatchPaused, _) => {
                &["dripfeed batch show {}", "dripfeed batch resume {}", "dripfeed batch retry {}"]
            }
            (Self::DependencyMissing, _) => &["dripfeed doctor", "dripfeed batch upgrade {}"],
            (Self::RowsUndecryptable, "") => &["dripfeed keys list", "dripfeed doctor --full"],
            (Self::RowsUndecryptable, _) => {
                &["dripfeed keys list", "dripfeed doctor --full", "dripfeed batch retry {} --code undecryptable"]
            }
            (Self::RowsStuck, _) => &["dripfeed stuck", "dripfeed stuck --apply"],
            (Self::GateClosed | Self::WalLarge, _) => &["dripfeed doctor"],
            (Self::RunsMissing, _) => &["dripfeed dispatch", "dripfeed doctor"],
            (Self::DiskLow, _) => &["dripfeed doctor", "dripfeed purge --older-than 30d"],
            (Self::BackupOverdue, _) => &["dripfeed doctor", "dripfeed backup TO"],
            (Self::CertificateEnds, _) => &["dripfeed doctor"],
        };
        commands.iter().map(|command| command.replace("{}", subject)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_says_what_to_run_about_what() {
        for &kind in AlertKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            for subject in ["", "bat_01J9ZK3V8Q2M4N6P8R0S2T4V6X"] {
                let commands = kind.what_to_do(subject);
                assert!(!commands.is_empty(), "{kind:?}");
                for command in commands {
                    assert!(command.starts_with("dripfeed ") && !command.contains("{}"), "{command}");
                    assert!(!command.ends_with(' '), "{command}");
                }
                assert!(!kind.over(subject).is_empty() && kind.hint().ends_with('.'), "{kind:?}");
            }
        }
    }
}
