//! What spreadsheets take for a number, a date or a time although it came as a text, and give back as another text.

use std::sync::LazyLock;

use regex::Regex;

/// From so many digits on a number is shown, and saved, as a power of ten.
const DIGITS_KEPT: usize = 11;
/// Nothing longer than this is a date.
const LONGEST_DATE: usize = 40;

/// Dates, times and fractions (`1-2`, `3/4`, `2024-01-02 10:00`), powers of ten (`12E5`), hours (`7 pm`), dates with the
/// names of months, as genes have them (`MARCH1`, `1 Sept`), and what is true or false.
static PATTERN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let month = "(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?\
                 |oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)";
    let between = r"[-/., ]{0,2}";
    let kinds = [
        r"\d[\d.,:/\- ]*[:/\-][\d.,:/\- ]*\d?(?: ?[ap]m?)?".to_owned(),
        r"\d{4}-\d\d-\d\dT[\d:.]+Z?".to_owned(),
        r"\d{1,2}(?: ?[ap]m| [ap])".to_owned(),
        r"(?:\d+[.,]?\d*|[.,]\d+)e[+-]?\d+".to_owned(),
        format!(r"\d{{1,4}}{between}{month}(?:{between}\d{{1,4}})?"),
        format!(r"{month}{between}\d{{1,4}}(?:{between}\d{{1,4}})?"),
        "true|false".to_owned(),
    ];
    Regex::new(&format!("^(?i:{})$", kinds.join("|"))).ok()
});

/// Whether a spreadsheet somewhere gives this cell back as another one. Of numbers only a plain whole one is left as it
/// is everywhere: `12.50` becomes `12.5`, or December.
pub(super) fn is_changed(cell: &str) -> bool {
    let cell = cell.trim();
    let Some(first) = cell.bytes().next().map(|byte| byte.to_ascii_lowercase()) else { return false };
    // The first letters of what is looked for; most cells end here.
    if !matches!(first, b'0'..=b'9' | b'.' | b',' | b'j' | b'f' | b'm' | b'a' | b's' | b'o' | b'n' | b'd' | b't') {
        return false;
    }
    if cell.bytes().all(|byte| byte.is_ascii_digit()) {
        return cell.len() > DIGITS_KEPT || cell.len() > 1 && first == b'0';
    }
    if cell.bytes().any(|byte| byte.is_ascii_digit())
        && cell.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b','))
    {
        return true;
    }
    cell.len() <= LONGEST_DATE && PATTERN.as_ref().is_some_and(|pattern| pattern.is_match(cell))
}
