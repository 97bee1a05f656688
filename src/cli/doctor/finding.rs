//! What a check found, and how that is told.

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// It works, and somebody should look.
    Warn,
    /// It does not work, or will lose something.
    Fail,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub level: Level,
    /// What was looked at.
    pub what: &'static str,
    /// How that is.
    pub says: String,
    /// What to do; `null` where it is as it should be.
    pub advice: Option<String>,
}

impl Finding {
    pub fn new(level: Level, what: &'static str, says: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level, what, says: says.into(), advice: Some(advice.into()) }
    }

    pub fn ok(what: &'static str, says: impl Into<String>) -> Self {
        Self { level: Level::Ok, what, says: says.into(), advice: None }
    }

    pub fn warn(what: &'static str, says: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(Level::Warn, what, says, advice)
    }

    pub fn fail(what: &'static str, says: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::new(Level::Fail, what, says, advice)
    }
}

/// All findings.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// How many checks failed.
    pub failed: usize,
    /// How many warned.
    pub warned: usize,
    pub findings: Vec<Finding>,
}

impl Report {
    pub fn new(findings: Vec<Finding>) -> Self {
        let count = |level| findings.iter().filter(|finding| finding.level == level).count();
        Self { failed: count(Level::Fail), warned: count(Level::Warn), findings }
    }

    /// A line each: `ok|warn|fail  what  how it is; what to do`.
    pub fn print(&self) {
        let width = self.findings.iter().map(|finding| finding.what.len()).max().unwrap_or(0);
        for Finding { level, what, says, advice } in &self.findings {
            let level = match level {
                Level::Ok => "ok",
                Level::Warn => "warn",
                Level::Fail => "fail",
            };
            let advice = advice.as_ref().map_or_else(String::new, |advice| format!("; {advice}"));
            // One line each, whatever an error of somebody else's looks like.
            let said = format!("{says}{advice}").split_whitespace().collect::<Vec<_>>().join(" ");
            say!("{level:<4}  {what:<width$}  {said}");
        }
    }
}
