//! A TOML value as JSON, number for number.

use serde_json::{Number, Value};
use toml::de::{DeInteger, DeValue};

/// The same as JSON; a date is its text.
pub(super) fn of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(number) => integer(number),
        // What JSON has no number for (`inf`, `nan`) is null, as it is for others.
        DeValue::Float(number) => number.as_str().parse::<Number>().map_or(Value::Null, Value::Number),
        DeValue::Boolean(truth) => (*truth).into(),
        DeValue::Datetime(date) => date.to_string().into(),
        DeValue::Array(items) => items.iter().map(|item| of(item.get_ref())).collect(),
        DeValue::Table(table) => {
            table.iter().map(|(key, item)| (key.get_ref().to_string(), of(item.get_ref()))).collect()
        }
    }
}

fn integer(number: &DeInteger<'_>) -> Value {
    let text = number.as_str();
    if number.radix() == 10 {
        return text.trim_start_matches('+').parse::<Number>().map_or(Value::Null, Value::Number);
    }
    i64::from_str_radix(text, number.radix()).map_or(Value::Null, Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_the_same_in_json() {
        let text = "v = { a = 1.10, b = 0x1F, c = [true, \"x\"], d = 1_000, e = -7, f = inf, g = 1979-05-27 }";
        let table = toml::de::DeTable::parse(text).expect("TOML");
        let value = table.get_ref().get("v").expect("there").get_ref();
        let expected = r#"{"a":1.10,"b":31,"c":[true,"x"],"d":1000,"e":-7,"f":null,"g":"1979-05-27"}"#;
        assert_eq!(of(value).to_string(), expected);
    }
}
