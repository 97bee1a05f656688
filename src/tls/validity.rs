//! From when until when a certificate is valid, read from its DER (RFC 5280, 4.1). The rest of it is rustls's business.

use std::time::Duration;

use jiff::civil::DateTime;

use crate::model::Timestamp;

/// DER's tags that lie on the way (X.690, 8).
const SEQUENCE: u8 = 0x30;
const EXPLICIT_VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// So long before its end a certificate should have been renewed: who renews by themselves does it earlier.
const RENEWED_BEFORE: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// A UTCTime's year has two digits: those from here on are of the last century (RFC 5280, 4.1.2.5.1).
const LAST_CENTURY: i16 = 50;

/// The time of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From here on.
    pub begins: Timestamp,
    /// Until here.
    pub ends: Timestamp,
}

impl Validity {
    /// Of a certificate as DER; `None` where it is none.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (_, certificate, _) = element(certificate)?;
        let (_, to_be_signed, _) = element(certificate)?;
        let (tag, _, behind_version) = element(to_be_signed)?;
        // The version stands there unless it is the first one.
        let serial_number = if tag == EXPLICIT_VERSION { behind_version } else { to_be_signed };
        let (_, _, algorithm) = element(serial_number)?;
        let (_, _, issuer) = element(algorithm)?;
        let (_, _, validity) = element(issuer)?;
        let (tag, times, _) = element(validity)?;
        let (first_tag, begins, rest) = element(times)?;
        let (second_tag, ends, _) = element(rest)?;
        (tag == SEQUENCE).then_some(Self { begins: time(first_tag, begins)?, ends: time(second_tag, ends)? })
    }

    /// Whether it is over, or will be before anybody has time for it.
    pub fn ends_soon(self, now: Timestamp) -> bool {
        self.ends < now.after(RENEWED_BEFORE)
    }

    /// What is wrong with it at this time.
    pub fn fault(self, now: Timestamp) -> Option<String> {
        if now < self.begins {
            return Some(format!("is not valid before {}", self.begins));
        }
        (now > self.ends).then(|| format!("expired at {}", self.ends))
    }
}

/// The tag of the element that these bytes begin with, what is in it, and what stands behind it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        // So many bytes are the length; none is a form that DER does not have, and more than four nobody needs.
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, behind) = rest.split_at_checked(length)?;
    Some((tag, content, behind))
}

/// `YYMMDDHHMMSSZ`, or with a year of four digits.
fn time(tag: u8, text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i16 = year.parse().ok()?;
            (if year >= LAST_CENTURY { 1900 + year } else { 2000 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let two = |at: usize| rest.get(at..at + 2)?.parse::<i8>().ok();
    let time = DateTime::new(year, two(0)?, two(2)?, two(4)?, two(6)?, two(8)?, 0).ok()?;
    let instant = jiff::tz::Offset::UTC.to_timestamp(time).ok()?;
    Some(Timestamp(instant.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_time_of_a_certificate_is_read_and_held_against_the_clock() {
        let mut params = CertificateParams::new(vec!["dripfeed.example".to_owned()]).expect("a name");
        // One before 2050, and one after: two forms of a time.
        (params.not_before, params.not_after) = (date_time_ymd(1999, 2, 3), date_time_ymd(2071, 4, 5));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        let validity = Validity::of(certificate.der()).expect("a certificate");
        assert_eq!(validity.begins.to_string(), "1999-02-03T00:00:00.000Z");
        assert_eq!(validity.ends.to_string(), "2071-04-05T00:00:00.000Z");
        let fault = |at: i64| validity.fault(Timestamp(at));
        assert_eq!(fault(validity.begins.0 - 1), Some("is not valid before 1999-02-03T00:00:00.000Z".to_owned()));
        assert_eq!((fault(validity.begins.0), fault(validity.ends.0)), (None, None));
        assert_eq!(fault(validity.ends.0 + 1), Some("expired at 2071-04-05T00:00:00.000Z".to_owned()));
        let fortnight_before = validity.ends.before(RENEWED_BEFORE);
        assert!(!validity.ends_soon(fortnight_before) && validity.ends_soon(Timestamp(fortnight_before.0 + 1)));
    }

    #[test]
    fn what_is_no_certificate_has_no_time() {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(Vec::new()).expect("no names");
        let whole = params.self_signed(&key).expect("signed").der().to_vec();
        let at = whole.windows(2).position(|bytes| bytes[0] == GENERALIZED_TIME || bytes[0] == UTC_TIME);
        for length in 0..at.expect("a time") {
            assert_eq!(Validity::of(&whole[..length]), None, "{length} bytes of it");
        }
        assert_eq!(Validity::of(&[0x30, 0x80, 0, 0]), None);
        assert_eq!(Validity::of(&[0xff; 64]), None);
    }
}
