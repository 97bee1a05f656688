//! What a workflow asks of its files, compiled.

use std::collections::HashMap;

use super::check::{self, Check, CompileError};
use crate::model::{
    Workflow,
    workflow::{ExtraColumns, OnInvalidRow},
};

/// A workflow's checks and limits, made once and used for every upload.
#[derive(Debug)]
pub struct Rules {
    pub(super) checks: Vec<Check>,
    /// Every name and alias, folded, with the place of its check.
    names: HashMap<String, usize>,
    pub(super) extra_columns: ExtraColumns,
    pub(super) on_invalid_row: OnInvalidRow,
    pub(super) max_rows: u64,
    pub(super) max_bytes: u64,
}

impl Rules {
    /// Compiles the columns of a workflow; fails at the first that [`check::compile`] refuses.
    pub fn compile(workflow: &Workflow) -> Result<Self, CompileError> {
        let checks = workflow.columns.iter().map(check::compile).collect::<Result<_, _>>()?;
        let names = workflow.columns.iter().enumerate().flat_map(|(index, column)| {
            let names = std::iter::once(&column.name).chain(&column.aliases);
            names.map(move |name| (fold(name), index))
        });
        Ok(Self {
            checks,
            names: names.collect(),
            extra_columns: workflow.extra_columns,
            on_invalid_row: workflow.on_invalid_row,
            max_rows: workflow.max_rows.into(),
            max_bytes: workflow.max_bytes,
        })
    }

    /// The place of the check that a header's name means.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.names.get(&fold(name)).copied()
    }
}

/// Header names are the same when they differ in case and outer white space only.
pub(super) fn fold(name: &str) -> String {
    name.trim().to_lowercase()
}
