//! What several tests need.

#[allow(dead_code, reason = "each test uses the part that it needs")]
pub mod s3;
