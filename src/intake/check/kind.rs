//! The types of a column: which cells each accepts, and how to say what it expects.

use std::borrow::Cow;

use jiff::civil::{self, Date};
use regex::{Regex, RegexBuilder};

use super::{CompileError, postcode};
use crate::model::ColumnKind;

/// RFC 5321, 4.5.3.1.3, less the angle brackets.
const LONGEST_EMAIL: usize = 254;
/// RFC 5321, 4.5.3.1.1.
const LONGEST_EMAIL_NAME: usize = 64;
/// RFC 1035, 2.3.4.
const LONGEST_LABEL: usize = 63;
/// ITU-T E.164 allows 15; below 7 there is hardly a number that can be called from elsewhere.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;
/// A configured expression may take so much memory when compiled.
const REGEX_BYTES: usize = 1 << 20;
/// So many values of an enum are told.
const VALUES_TOLD: usize = 10;
/// What examples show, and formats are tried on: its day can be taken for neither a month nor a year.
pub(super) const A_DATE: Date = civil::date(2026, 3, 31);

/// A compiled [`ColumnKind`].
#[derive(Debug)]
pub(super) enum Kind {
    Text,
    Email,
    Phone,
    AnyPostcode,
    Postcode(Box<postcode::Shape>),
    Integer,
    Decimal,
    IsoDate,
    Date { format: String },
    Enum { values: Vec<String> },
    Regex(Regex),
}

impl Kind {
    pub(super) fn compile(kind: &ColumnKind) -> Result<Self, CompileError> {
        Ok(match kind {
            ColumnKind::Text => Self::Text,
            ColumnKind::Email => Self::Email,
            ColumnKind::Phone => Self::Phone,
            ColumnKind::Postcode { country: None } => Self::AnyPostcode,
            ColumnKind::Postcode { country: Some(country) } => Self::Postcode(postcode::Shape::of(country)?.into()),
            ColumnKind::Integer => Self::Integer,
            ColumnKind::Decimal => Self::Decimal,
            ColumnKind::Date { format: None } => Self::IsoDate,
            ColumnKind::Date { format: Some(format) } => Self::Date { format: date_format(format)? },
            ColumnKind::Enum { values } if values.is_empty() => return Err(CompileError::NoValues),
            ColumnKind::Enum { values } => Self::Enum { values: values.clone() },
            ColumnKind::Regex { pattern } => Self::Regex(anchored(pattern)?),
        })
    }

    /// Whether a cell that is not empty is of this type.
    pub(super) fn accepts(&self, cell: &str) -> bool {
        match self {
            Self::Text => true,
            Self::Email => is_email(cell),
            Self::Phone => is_phone(cell),
            Self::AnyPostcode => postcode::is_any_countrys(cell),
            Self::Postcode(shape) => shape.accepts(cell),
            Self::Integer => cell.parse::<i64>().is_ok(),
            Self::Decimal => is_decimal(cell),
            Self::IsoDate => is_iso_date(cell),
            Self::Date { format } => Date::strptime(format, cell).is_ok(),
            Self::Enum { values } => values.iter().any(|value| value == cell),
            Self::Regex(pattern) => pattern.is_match(cell),
        }
    }

    /// What it accepts, to stand behind "expected".
    pub(super) fn expected(&self) -> Cow<'static, str> {
        match self {
            Self::Text => "text".into(),
            Self::Email => "one e-mail address, such as ada@example.com".into(),
            Self::Phone => {
                "a telephone number of 7 to 15 digits, such as +44 20 7946 0958; spaces, dashes, dots and parentheses \
                 may part them"
                    .into()
            }
            Self::AnyPostcode => {
                "a postal code of letters and digits, at most 12 characters, such as SW1A 1AA or 10115".into()
            }
            Self::Postcode(shape) => format!("a postal code of {}, such as {}", shape.country, shape.example).into(),
            Self::Integer => "a whole number between -2^63 and 2^63-1, such as 42".into(),
            Self::Decimal => {
                "a number with a decimal point, such as -1250.75, without thousands separators or exponent".into()
            }
            Self::IsoDate => "a date as year-month-day, such as 2026-03-31".into(),
            Self::Date { format } => format!("a date in the form {format}, such as {}", A_DATE.strftime(format)).into(),
            Self::Enum { values } => {
                let more = if values.len() > VALUES_TOLD { ", …" } else { "" };
                format!("one of: {}{more}", values[..values.len().min(VALUES_TOLD)].join(", ")).into()
            }
            Self::Regex(_) => "a value of the form that the workflow's pattern for this column describes".into(),
        }
    }
}

/// An address as people have them: a dot-atom (RFC 5322, 3.2.3), `@`, and a host name of at least two labels, both
/// perhaps with letters beyond ASCII (RFC 6531). Neither a quoted name, nor a display name, nor an IP address.
fn is_email(cell: &str) -> bool {
    let Some((name, host)) = cell.rsplit_once('@') else { return false };
    let is_ascii_or_letter = |letter: char| letter.is_ascii() || letter.is_alphanumeric();
    cell.len() <= LONGEST_EMAIL
        && name.len() <= LONGEST_EMAIL_NAME
        && name.as_bytes().split(|&byte| byte == b'.').all(is_atom)
        && is_host(host.as_bytes())
        && (cell.is_ascii() || cell.chars().all(is_ascii_or_letter))
}

fn is_atom(atom: &[u8]) -> bool {
    let is_atext =
        |byte: &u8| byte.is_ascii_alphanumeric() || !byte.is_ascii() || b"!#$%&'*+-/=?^_`{|}~".contains(byte);
    !atom.is_empty() && atom.iter().all(is_atext)
}

/// RFC 1123, 2.1; the last label is not a number, or it would be an address.
fn is_host(host: &[u8]) -> bool {
    let is_label = |label: &[u8]| {
        let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || !byte.is_ascii() || *byte == b'-';
        (1..=LONGEST_LABEL).contains(&label.len())
            && !label.starts_with(b"-")
            && !label.ends_with(b"-")
            && label.iter().all(is_allowed)
    };
    let mut labels = host.rsplit(|&byte| byte == b'.');
    let last_is_a_name = labels.next().is_some_and(|last| is_label(last) && !last.iter().all(u8::is_ascii_digit));
    let mut others = labels.peekable();
    last_is_a_name && others.peek().is_some() && others.all(is_label)
}

/// A `+` at most in front, and between the digits what people part them with.
fn is_phone(cell: &str) -> bool {
    let mut digits = 0;
    for byte in cell.bytes() {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'+' if digits == 0 => {}
            b' ' | b'-' | b'.' | b'(' | b')' => {}
            _ => return false,
        }
    }
    PHONE_DIGITS.contains(&digits) && cell.bytes().filter(|&byte| byte == b'+').count() <= 1
}

/// A sign or none, digits, and perhaps a point and more digits.
fn is_decimal(cell: &str) -> bool {
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = cell.strip_prefix(['+', '-']).unwrap_or(cell);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    are_digits(whole) && are_digits(fraction)
}

/// ISO 8601's extended form of a calendar date, and nothing else that jiff would take for one.
fn is_iso_date(cell: &str) -> bool {
    let is_extended =
        |byte: (usize, u8)| if matches!(byte.0, 4 | 7) { byte.1 == b'-' } else { byte.1.is_ascii_digit() };
    cell.len() == 10 && cell.bytes().enumerate().all(is_extended) && cell.parse::<Date>().is_ok()
}

/// A format is good when a date written in it is read back as the same date.
fn date_format(format: &str) -> Result<String, CompileError> {
    let fault = |error: jiff::Error| CompileError::DateFormat(error.to_string());
    let written = jiff::fmt::strtime::format(format, A_DATE).map_err(fault)?;
    match Date::strptime(format, &written).map_err(fault)? {
        A_DATE => Ok(format.to_owned()),
        _ => Err(CompileError::DateFormat("it leaves out a part of the date".to_owned())),
    }
}

/// The pattern must stand by itself before it is wrapped, lest `a)|(?:b` slip through the anchors.
fn anchored(pattern: &str) -> Result<Regex, CompileError> {
    let build = |pattern: &str| {
        RegexBuilder::new(pattern)
            .size_limit(REGEX_BYTES)
            .build()
            .map_err(|error| CompileError::Pattern(error.to_string()))
    };
    build(pattern)?;
    build(&format!(r"\A(?:{pattern})\z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(kind: ColumnKind, good: &[&str], bad: &[&str]) {
        let compiled = Kind::compile(&kind).unwrap();
        for cell in good {
            assert!(compiled.accepts(cell), "{kind:?} should accept {cell:?}");
        }
        for cell in bad {
            assert!(!compiled.accepts(cell), "{kind:?} should not accept {cell:?}");
        }
    }

    #[test]
    fn each_kind_accepts_what_people_expect() {
        accepts(
            ColumnKind::Email,
            &["ada@example.com", "a.b+c@sub.example.co.uk", "o'hara@x.io", "zoë@example.com", "a@xn--bcher-kva.de"],
            &[
                "ada",
                "ada@",
                "@example.com",
                "ada@localhost",
                "ada@[127.0.0.1]",
                "ada@127.0.0.1",
                "a b@example.com",
                "Ada <ada@example.com>",
                "\"ada\"@example.com",
                "a..b@example.com",
                ".a@example.com",
                "a@b@example.com",
                "a\u{a0}@example.com",
                "a@ex_ample.com",
                "a\tb@example.com",
                "@",
                "a@.com",
                "a@example..com",
                "a@-example.com",
                "a@example.com.",
                " ada@example.com",
                "a@example.com,b@example.com",
            ],
        );
        accepts(
            ColumnKind::Phone,
            &["+44 20 7946 0958", "01835-703597", "(020) 7946.0958", "+44 (0)20 7946 0958", "1234567"],
            &["123456", "+1234567890123456", "020 7946 0958 x5", "44+2079460958", "++442079460958", "٠١٢٣٤٥٦٧"],
        );
        accepts(ColumnKind::Postcode { country: None }, &["CT2 7PP", "10115", "1012-AB"], &["London!", "-1"]);
        accepts(
            ColumnKind::Integer,
            &["0", "-42", "+7", "007", "9223372036854775807"],
            &["1.0", "1 000", "9223372036854775808", "-"],
        );
        accepts(
            ColumnKind::Decimal,
            &["0", "-12.50", "+3", "1250.75"],
            &["1,5", "1.", ".5", "1e3", "1.2.3", "NaN", "-"],
        );
        accepts(
            ColumnKind::Date { format: None },
            &["2026-03-31", "2024-02-29"],
            &["2026-02-29", "20260331", "31/03/2026", "2026-3-31", "2026-03-31T00:00", "-026-03-31"],
        );
        accepts(
            ColumnKind::Date { format: Some("%d/%m/%Y".into()) },
            &["31/03/2026", "1/2/2026"],
            &["03/31/2026", "2026-03-31", "31/02/2026", "31/03/2026 "],
        );
        accepts(ColumnKind::Enum { values: vec!["a".into(), "b".into()] }, &["a", "b"], &["A", "ab", "a "]);
        accepts(ColumnKind::Regex { pattern: "a|b+".into() }, &["a", "bbb"], &["ab", "xa", "a\n"]);
    }

    #[test]
    fn long_addresses_are_refused() {
        let local = "a".repeat(64);
        let domain = format!("{}.com", ["b".repeat(60).as_str(); 3].join("."));
        assert_eq!(local.len() + 1 + domain.len(), 251);
        assert!(is_email(&format!("{local}@{domain}")));
        assert!(!is_email(&format!("{local}@bbbb{domain}")));
    }

    #[test]
    fn bad_configuration_is_told() {
        let error = |kind| Kind::compile(&kind).unwrap_err();
        for pattern in ["(", "a)|(?:b", "(?:a{1000}){1000}"] {
            assert!(
                matches!(error(ColumnKind::Regex { pattern: pattern.into() }), CompileError::Pattern(_)),
                "{pattern}"
            );
        }
        for format in ["", "%d/%m", "%Q!", "%H:%M"] {
            let kind = ColumnKind::Date { format: Some(format.into()) };
            assert!(matches!(error(kind), CompileError::DateFormat(_)), "{format}");
        }
        assert!(matches!(error(ColumnKind::Postcode { country: Some("XX".into()) }), CompileError::Country { .. }));
        assert_eq!(error(ColumnKind::Enum { values: vec![] }), CompileError::NoValues);
    }
}
