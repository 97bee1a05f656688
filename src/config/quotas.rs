//! `[quotas]`: what each client may have here at most.

use super::reader::Section;
use crate::model::quota::{Amounts, Quotas, UPLOADS_AT_ONCE};

const PENDING_ROWS: u32 = 5_000_000;
const STORED_BYTES: u64 = 10_000_000_000;
const BATCHES: u32 = 10_000;
const AT_ONCE: u32 = 2;
/// More than [`super::Uploads`] can have.
pub const MOST_UPLOADS_AT_ONCE: u32 = 1_000;

/// `pending_rows`: rows that are not finished. `stored_bytes`: of files and rows together. `batches`: finished ones too, until
/// they are deleted. `uploads_at_once`: that are under way.
pub(super) fn read(mut section: Section<'_>) -> Quotas {
    let quotas = Quotas {
        amounts: Amounts {
            pending_rows: section.integer("pending_rows", PENDING_ROWS, 0..=u32::MAX).into(),
            stored_bytes: section.size("stored_bytes", STORED_BYTES),
            batches: section.integer("batches", BATCHES, 0..=u32::MAX).into(),
        },
        uploads_at_once: section.integer(UPLOADS_AT_ONCE, AT_ONCE, 1..=MOST_UPLOADS_AT_ONCE),
    };
    section.finish();
    quotas
}
