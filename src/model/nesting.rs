//! How deep JSON from outside may be that is kept.

use serde_json::Value;

/// The levels of objects and lists that are kept. JSON knows no limit and its reader does: 128 levels, of which
/// whatever we keep the value in takes some when it is read again.
pub const DEEPEST_JSON: usize = 64;

/// Whether a value has more than [`DEEPEST_JSON`] levels.
pub fn is_too_deep(value: &Value) -> bool {
    !fits(value, DEEPEST_JSON)
}

fn fits(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(|item| fits(item, levels - 1)),
        Value::Object(members) => levels > 0 && members.values().all(|member| fits(member, levels - 1)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_objects_are_levels_and_what_they_hold_is_none() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = |levels: usize| {
                let text = format!("{}1{}", open.repeat(levels), close.repeat(levels));
                serde_json::from_str(&text).expect("JSON")
            };
            assert!(!is_too_deep(&nested(0)) && !is_too_deep(&nested(DEEPEST_JSON)));
            assert!(is_too_deep(&nested(DEEPEST_JSON + 1)));
        }
    }
}
