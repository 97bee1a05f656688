//! Postal codes: what any country's look like, and the exact shape of those of some.
//!
//! The shapes are those of the Universal Postal Union's addressing sheets; a code of the right shape need not exist.

use regex::bytes::{Regex, RegexBuilder};

use super::CompileError;

/// No country's postal code is longer, counted with its spaces.
const LONGEST: usize = 12;

/// Country (ISO 3166 alpha-2), shape (case does not matter), example.
const SHAPES: [(&str, &str, &str); 20] = [
    ("AT", r"[1-9]\d{3}", "1010"),
    ("AU", r"\d{4}", "2000"),
    ("BE", r"[1-9]\d{3}", "1000"),
    ("BR", r"\d{5}-?\d{3}", "01310-100"),
    ("CA", r"[ABCEGHJ-NPRSTVXY]\d[ABCEGHJ-NPRSTV-Z][ -]?\d[ABCEGHJ-NPRSTV-Z]\d", "K1A 0B1"),
    ("CH", r"[1-9]\d{3}", "8001"),
    ("DE", r"\d{5}", "10115"),
    ("DK", r"\d{4}", "1050"),
    ("ES", r"(?:0[1-9]|[1-4]\d|5[0-2])\d{3}", "28013"),
    ("FR", r"\d{5}", "75001"),
    ("GB", r"(?:GIR ?0AA|[A-PR-UWYZ][A-HK-Y]?\d[\dA-HJKMNPR-Y]? ?\d[ABD-HJLNP-UW-Z]{2})", "SW1A 1AA"),
    ("IE", r"(?:[AC-FHKNPRTV-Y]\d{2}|D6W) ?[AC-FHKNPRTV-Y\d]{4}", "D02 AF30"),
    ("IN", r"[1-9]\d{2} ?\d{3}", "110 001"),
    ("IT", r"\d{5}", "00184"),
    ("JP", r"\d{3}-?\d{4}", "100-0001"),
    ("NL", r"[1-9]\d{3} ?[A-Z]{2}", "1012 AB"),
    ("PL", r"\d{2}-\d{3}", "00-001"),
    ("PT", r"[1-9]\d{3}-\d{3}", "1000-001"),
    ("SE", r"[1-9]\d{2} ?\d{2}", "111 22"),
    ("US", r"\d{5}(?:-\d{4})?", "20500-0003"),
];

/// The postal codes of one country.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) country: &'static str,
    pub(super) example: &'static str,
    pattern: Regex,
}

impl Shape {
    pub(super) fn of(country: &str) -> Result<Self, CompileError> {
        let (country, pattern, example) =
            SHAPES.into_iter().find(|(known, ..)| *known == country).ok_or_else(|| CompileError::Country {
                country: country.to_owned(),
                known: SHAPES.map(|(known, ..)| known).join(", "),
            })?;
        let pattern = RegexBuilder::new(&format!(r"\A(?:{pattern})\z"))
            .unicode(false)
            .case_insensitive(true)
            .build()
            .map_err(|error| CompileError::Pattern(error.to_string()))?;
        Ok(Self { country, example, pattern })
    }

    pub(super) fn accepts(&self, cell: &str) -> bool {
        self.pattern.is_match(cell.as_bytes())
    }
}

/// Letters and digits with a digit among them, in groups parted by one space or hyphen.
pub(super) fn is_any_countrys(cell: &str) -> bool {
    let groups_are_sound =
        cell.split([' ', '-']).all(|group| !group.is_empty() && group.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    (2..=LONGEST).contains(&cell.len()) && groups_are_sound && cell.bytes().any(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_has_its_countrys_shape_and_the_general_one() {
        for (country, _, example) in SHAPES {
            let shape = Shape::of(country).unwrap();
            assert!(shape.accepts(example) && shape.accepts(&example.to_lowercase()), "{country}");
            assert!(is_any_countrys(example), "{country}");
            assert!(!shape.accepts(&format!("{example}\n")), "{country}");
        }
    }

    #[test]
    fn british_ones_are_strict() {
        let british = Shape::of("GB").unwrap();
        for good in ["CT2 7PP", "ct27pp", "EC1A 1BB", "W1A 0AX", "M1 1AE", "B33 8TH", "GIR 0AA"] {
            assert!(british.accepts(good), "{good}");
        }
        for bad in ["CT2", "CT2  7PP", "CT2-7PP", "Q1 1AA", "M1 1AC", "SW1A 1A", "12345"] {
            assert!(!british.accepts(bad), "{bad}");
        }
    }

    #[test]
    fn unknown_countries_are_refused_with_the_known_ones() {
        let error = Shape::of("XX").unwrap_err().to_string();
        assert!(error.contains("`XX`") && error.contains("AT, AU, BE"), "{error}");
    }

    #[test]
    fn the_general_shape_refuses_what_is_no_code() {
        for bad in ["", "1", "LONDON", "12 ", "1--2", "12_34", "1234567890123", "١٢٣٤"] {
            assert!(!is_any_countrys(bad), "{bad}");
        }
    }
}
