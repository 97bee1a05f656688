//! The text format 0.0.4 and Prometheus's conventions for names, read as strictly as they are written
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>, <https://prometheus.io/docs/practices/naming/>).

use std::collections::{BTreeMap, BTreeSet};

/// The labels that there are. Each is bounded by the configuration or by a list in the sources.
const LABELS: [&str; 12] = [
    "code",
    "dependency",
    "kind",
    "le",
    "outcome",
    "reason",
    "route",
    "stage",
    "status",
    "step",
    "version",
    "workflow",
];
/// Words that a name has in a unit's place although the base unit is another, or that repeat the type.
const WORDS: [&str; 12] = [
    "milliseconds",
    "ms",
    "minutes",
    "hours",
    "days",
    "kilobytes",
    "megabytes",
    "mb",
    "percent",
    "counter",
    "gauge",
    "histogram",
];

/// A series: name and labels.
pub type Series = (String, BTreeMap<String, String>);

/// Everything that one scrape told.
#[derive(Debug, Default)]
pub struct Scrape {
    /// By name.
    pub kinds: BTreeMap<String, String>,
    pub samples: BTreeMap<Series, f64>,
}

impl Scrape {
    /// What the text tells, and what is wrong with it.
    pub fn read(text: &str) -> (Self, Vec<String>) {
        let (mut scrape, mut faults) = (Self::default(), Vec::new());
        let (mut helped, mut current): (Option<String>, Option<String>) = (None, None);
        if !text.ends_with('\n') {
            faults.push("the last line does not end".to_owned());
        }
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                match rest.split_once(' ') {
                    Some((name, help)) if !help.trim().is_empty() => helped = Some(name.to_owned()),
                    _ => faults.push(format!("no help: {line}")),
                }
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or((rest, ""));
                if helped.as_deref() != Some(name) {
                    faults.push(format!("{name} has no help in front of its type"));
                }
                if scrape.kinds.insert(name.to_owned(), kind.to_owned()).is_some() {
                    faults.push(format!("{name} is there twice"));
                }
                faults.extend(against_conventions(name, kind));
                current = Some(name.to_owned());
            } else {
                match sample(line) {
                    Ok((series, value)) => {
                        faults.extend(scrape.misplaced(&series, value, current.as_deref()));
                        if scrape.samples.insert(series, value).is_some() {
                            faults.push(format!("a series is there twice: {line}"));
                        }
                    }
                    Err(fault) => faults.push(format!("{fault}: {line}")),
                }
            }
        }
        faults.extend(scrape.wrong_histograms());
        // In OpenMetrics a counter's family is called without the `_total`.
        let families = scrape.kinds.keys().filter_map(|name| name.strip_suffix("_total"));
        faults.extend(
            families
                .filter(|family| scrape.kinds.contains_key(*family))
                .map(|family| format!("{family} and {family}_total are one family in OpenMetrics")),
        );
        (scrape, faults)
    }

    fn misplaced(&self, (name, labels): &Series, value: f64, family: Option<&str>) -> Vec<String> {
        let Some(family) = family else { return vec![format!("{name} has no type")] };
        let kind = self.kinds[family].as_str();
        let parts: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        let mut faults = Vec::new();
        if !parts.iter().any(|part| *name == format!("{family}{part}")) {
            faults.push(format!("{name} stands among those of {family}"));
        }
        for (label, value) in labels {
            if !LABELS.contains(&label.as_str()) {
                faults.push(format!("{name} has the label {label}, which is none of ours"));
            }
            if value.is_empty() {
                faults.push(format!("{name} has an empty {label}"));
            }
        }
        if labels.contains_key("le") != name.ends_with("_bucket") {
            faults.push(format!("{name} is a bucket or has `le`, and not both"));
        }
        if value.is_nan() || (kind != "gauge" && value < 0.0) {
            faults.push(format!("{name} is {value}"));
        }
        faults
    }

    /// Buckets grow, and the last one holds everything.
    fn wrong_histograms(&self) -> Vec<String> {
        let mut buckets: BTreeMap<Series, Vec<(f64, f64)>> = BTreeMap::new();
        for ((name, labels), count) in &self.samples {
            if let Some(family) = name.strip_suffix("_bucket") {
                let mut labels = labels.clone();
                let bound = labels.remove("le").and_then(|le| number(&le).ok()).unwrap_or(f64::NAN);
                buckets.entry((family.to_owned(), labels)).or_default().push((bound, *count));
            }
        }
        let mut faults = Vec::new();
        for ((family, labels), mut buckets) in buckets {
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            let counted = self.samples.get(&(format!("{family}_count"), labels.clone()));
            let is_growing = buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1);
            let has_all =
                buckets.last().is_some_and(|(bound, count)| *bound == f64::INFINITY && Some(count) == counted);
            if !is_growing || !has_all || !self.samples.contains_key(&(format!("{family}_sum"), labels.clone())) {
                faults.push(format!("{family} {labels:?} is no histogram: {buckets:?}, {counted:?}"));
            }
        }
        faults
    }

    /// The value of the one series that has this name and these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
        let found = self.samples.get(&(name.to_owned(), labels));
        *found.unwrap_or_else(|| panic!("no {name} {:?}", self.series_of(name)))
    }

    /// The sum over all series of a name that have these labels among theirs.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |found: &BTreeMap<String, String>| {
            labels.iter().all(|(label, value)| found.get(*label).is_some_and(|found| found == value))
        };
        let fitting = self.samples.iter().filter(|((found, labels), _)| found == name && fits(labels));
        let values: Vec<f64> = fitting.map(|(_, value)| *value).collect();
        assert!(!values.is_empty(), "no {name} with {labels:?}: {:?}", self.series_of(name));
        values.iter().sum()
    }

    pub fn series(&self) -> BTreeSet<Series> {
        self.samples.keys().cloned().collect()
    }

    fn series_of(&self, name: &str) -> Vec<&BTreeMap<String, String>> {
        self.samples.keys().filter(|(found, _)| found == name).map(|(_, labels)| labels).collect()
    }
}

fn against_conventions(name: &str, kind: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            faults.push(format!("{name}, a {kind}: {what}"));
        }
    };
    expect(["counter", "gauge", "histogram"].contains(&kind), "no type that we use");
    expect(name.starts_with("dripfeed_") || name.starts_with("process_"), "has no prefix of ours");
    let is_snake = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    expect(name.chars().all(is_snake) && !name.contains("__"), "is not snake_case");
    expect((kind == "counter") == name.ends_with("_total"), "counters, and they alone, end in _total");
    expect(kind != "histogram" || name.ends_with("_seconds") || name.ends_with("_operations"), "has no unit");
    for suffix in ["_count", "_sum", "_bucket"] {
        expect(!name.ends_with(suffix), "ends as a part of a histogram does");
    }
    for word in name.split('_') {
        expect(!WORDS.contains(&word), "has no base unit, or repeats its type");
    }
    for (word, behind) in [("duration", "seconds"), ("size", "bytes"), ("age", "seconds"), ("timestamp", "seconds")] {
        let words: Vec<&str> = name.split('_').collect();
        let place = words.iter().position(|found| *found == word);
        expect(place.is_none_or(|place| words[place + 1..].contains(&behind)), "does not say its unit");
    }
    faults
}

fn sample(line: &str) -> Result<(Series, f64), String> {
    let name_ends = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(name_ends);
    let mut labels = BTreeMap::new();
    if let Some(mut inner) = rest.strip_prefix('{') {
        loop {
            let (label, behind) = inner.split_once("=\"").ok_or("a label without a value")?;
            let (value, behind) = unquoted(behind)?;
            if labels.insert(label.to_owned(), value).is_some() {
                return Err(format!("the label {label} is there twice"));
            }
            match (behind.strip_prefix(','), behind.strip_prefix('}')) {
                (Some(behind), _) => inner = behind,
                (None, Some(behind)) => {
                    rest = behind;
                    break;
                }
                (None, None) => return Err("labels that do not end".to_owned()),
            }
        }
    }
    // No sample has a time of its own: it is that of the scrape.
    let value = rest.strip_prefix(' ').ok_or("no space in front of the value")?;
    Ok(((name.to_owned(), labels), number(value)?))
}

/// The value up to its closing quote, and what is behind that.
fn unquoted(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut symbols = text.char_indices();
    while let Some((at, symbol)) = symbols.next() {
        match symbol {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match symbols.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('\\' | '"'))) => value.push(escaped),
                _ => return Err("an escape that is none".to_owned()),
            },
            symbol => value.push(symbol),
        }
    }
    Err("a value that does not end".to_owned())
}

fn number(text: &str) -> Result<f64, String> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        text => text.parse().map_err(|_| format!("`{text}` is no number")),
    }
}

/// Faults that a strict reader finds; else it would prove nothing that it finds none.
#[test]
fn a_wrong_text_is_found_out() {
    let good = "# HELP dripfeed_x_total X.\n# TYPE dripfeed_x_total counter\ndripfeed_x_total{code=\"a\\\"\"} 1\n";
    let (scrape, faults) = Scrape::read(good);
    assert_eq!((faults, scrape.value("dripfeed_x_total", &[("code", "a\"")])), (Vec::new(), 1.0));
    let histogram = "# HELP dripfeed_d_seconds D.\n# TYPE dripfeed_d_seconds histogram\n\
                     dripfeed_d_seconds_bucket{le=\"1\"} 1\ndripfeed_d_seconds_bucket{le=\"+Inf\"} 2\n\
                     dripfeed_d_seconds_sum 3\ndripfeed_d_seconds_count 2\n";
    assert_eq!(Scrape::read(histogram).1, Vec::<String>::new());
    for (text, old, new) in [
        (good, "# HELP dripfeed_x_total X.\n", ""),
        (good, "# TYPE dripfeed_x_total counter\n", ""),
        (good, " X.", " "),
        (good, "counter", "gauge"),
        (good, "dripfeed_x_total", "dripfeed_x"),
        (good, "dripfeed_x_total", "dripfeed_x_ms_total"),
        (good, "dripfeed_x_total", "x_total"),
        (good, "code=", "client="),
        (good, "a\\\"", ""),
        (good, "} 1\n", "} 1\ndripfeed_x_total{code=\"a\\\"\"} 1\n"),
        (good, "} 1\n", "} one\n"),
        (good, "} 1\n", "} -1\n"),
        (good, "} 1\n", "} 1"),
        (good, "} 1\n", "} 1\ndripfeed_y_total 1\n"),
        (good, "} 1\n", "} 1\n# HELP dripfeed_x X.\n# TYPE dripfeed_x gauge\ndripfeed_x 1\n"),
        (histogram, "+Inf\"} 2", "+Inf\"} 0"),
        (histogram, "+Inf", "5"),
        (histogram, "_count 2", "_count 3"),
        (histogram, "dripfeed_d_seconds_sum 3\n", ""),
    ] {
        assert!(text.contains(old), "{old}");
        let planted = text.replace(old, new);
        assert!(!Scrape::read(&planted).1.is_empty(), "nothing is found in:\n{planted}");
    }
}
