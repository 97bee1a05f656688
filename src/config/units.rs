//! Durations and sizes as people write them: `90s`, `2m`, `1GB`, `64MiB`.

use std::time::Duration;

const DURATIONS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
/// Decimal and binary units; the longer names come first, so that `MB` is not read as `B`.
const SIZES: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// Reads `500ms`, `10s`, `2m`, `24h`, `30d`: a whole number and a unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "is a duration like \"500ms\", \"10s\", \"2m\", \"24h\" or \"30d\"".to_owned();
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let millis = DURATIONS.iter().find(|(name, _)| *name == unit).map(|(_, millis)| millis).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(*millis).map(Duration::from_millis).ok_or_else(wrong)
}

/// A duration as [`parse_duration`] reads it, in the largest unit that fits.
pub fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fits = DURATIONS.iter().rev().find(|(_, unit)| millis > 0 && millis % unit == 0);
    fits.map_or_else(|| "0s".to_owned(), |(name, unit)| format!("{}{name}", millis / unit))
}

/// A size for a person, to a tenth of a unit: `1.5 GB`.
pub fn tell_size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    let unit = UNITS.into_iter().find(|(_, size)| bytes >= *size);
    unit.map_or_else(|| format!("{bytes} B"), |(name, size)| format!("{:.1} {name}", bytes as f64 / size as f64))
}

/// Reads `1GB`, `512MiB`, `64kB`: MB = 10^6, MiB = 2^20 bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || "is a size like \"1GB\", \"512MiB\" or \"64kB\", or a number of bytes".to_owned();
    let (unit, bytes) = SIZES.iter().find(|(name, _)| text.ends_with(name)).ok_or_else(wrong)?;
    let number: u64 = text.trim_end_matches(unit).trim_end().parse().map_err(|_| wrong())?;
    number.checked_mul(*bytes).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown() {
        for (text, millis) in [("500ms", 500), ("0s", 0), ("90s", 90_000), ("2m", 120_000), ("30d", 2_592_000_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for wrong in ["", "5", "s", "5 s", "-5s", "1.5h", "5y", "99999999999999999999s", "9999999999999999999d"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        for text in ["0s", "500ms", "90s", "2m", "1d"] {
            assert_eq!(show_duration(parse_duration(text).expect(text)), text);
        }
    }

    #[test]
    fn sizes_are_decimal_or_binary() {
        for (text, bytes) in [("1GB", 1_000_000_000), ("512MiB", 512 << 20), ("64kB", 64_000), ("7B", 7)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "GB", "1TB", "-1MB", "1.5GB", "99999999999999999999B", "MBMB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
