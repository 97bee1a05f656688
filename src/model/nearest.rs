//! The name that somebody probably meant.

/// The one of these names that is nearest to what was written, where one is near enough to be worth asking about.
pub fn nearest<'n>(written: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let written = written.to_lowercase();
    let distances = names.into_iter().map(|name| (strsim::damerau_levenshtein(&written, &name.to_lowercase()), name));
    let (distance, name) = distances.min()?;
    (distance <= name.chars().count() / 2).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_understood_and_another_word_is_none() {
        let names = ["invite", "crm", "newsletter"];
        for (written, meant) in [("invte", "invite"), ("INVITE", "invite"), ("newsleter", "newsletter"), ("cmr", "crm")]
        {
            assert_eq!(nearest(written, names), Some(meant), "{written}");
        }
        for written in ["", "payments", "xyz"] {
            assert_eq!(nearest(written, names), None, "{written}");
        }
    }
}
