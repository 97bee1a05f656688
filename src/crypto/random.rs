//! The one source of keys, nonces and salts: the kernel's generator, asked each time.

use rand::{TryRng, rngs::SysRng};

/// Bytes that nobody else has.
///
/// # Panics
/// When the kernel has no randomness to give, which getrandom(2) rules out once a machine has booted. To go on with
/// predictable bytes would be worse than to stop.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

/// As [`random`], into a place that the caller zeroes later.
pub(super) fn fill(bytes: &mut [u8]) {
    SysRng.try_fill_bytes(bytes).expect("the kernel's random generator answers");
}
