//! Which of two forms of an answer a caller prefers, by its `Accept` (RFC 9110, 12.5.1).

use warp::http::{HeaderMap, header};

/// Whether errors are wanted as CSV, and not as a problem in JSON. At the same weight only somebody who names CSV gets
/// it: `*/*` is what everybody sends who does not care.
pub(super) fn prefers_csv(headers: &HeaderMap) -> bool {
    let ranges = || {
        let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).filter_map(Range::parse)
    };
    let weight = |kind: &str, subtype: &str| {
        let fitting = ranges().filter_map(|range| Some((range.fits(kind, subtype)?, range.weight)));
        fitting.max_by(|a, b| a.0.cmp(&b.0)).map_or(0.0, |(_, weight)| weight)
    };
    let csv = weight("text", "csv");
    let json = weight("application", "problem+json").max(weight("application", "json"));
    let is_named = ranges().any(|range| range.fits("text", "csv") == Some(2));
    csv > json || (csv > 0.0 && csv == json && is_named)
}

/// One range of media types, like `text/*;q=0.5`.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    weight: f32,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let mut weights =
            parts.filter_map(|part| part.split_once('=')).filter(|(name, _)| name.eq_ignore_ascii_case("q"));
        let weight = weights.next().map_or(Some(1.0), |(_, weight)| weight.parse().ok())?;
        Some(Self { kind, subtype, weight })
    }

    /// How closely it names this type; `None` where it does not mean it.
    fn fits(&self, kind: &str, subtype: &str) -> Option<u8> {
        match (self.kind, self.subtype) {
            ("*", "*") => Some(0),
            (own, "*") if own.eq_ignore_ascii_case(kind) => Some(1),
            (own, exact) if own.eq_ignore_ascii_case(kind) && exact.eq_ignore_ascii_case(subtype) => Some(2),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_for_those_who_ask_for_it() {
        for (accept, expected) in [
            ("text/csv", true),
            ("Text/CSV; charset=utf-8", true),
            ("text/*", true),
            ("text/csv, application/json", true),
            ("text/csv, */*;q=0.5", true),
            ("text/csv;q=0.5, application/problem+json;q=0.4", true),
            ("*/*", false),
            ("application/json", false),
            ("text/html, */*;q=0.8", false),
            ("text/csv;q=0.5, application/json", false),
            ("text/csv;q=0, */*", false),
            ("text/csv;q=nonsense", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().expect("a header"))]);
            assert_eq!(prefers_csv(&headers), expected, "{accept}");
        }
        assert!(!prefers_csv(&HeaderMap::new()));
    }
}
