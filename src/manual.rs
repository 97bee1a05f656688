//! The documentation, in the binary: at 3 a.m. there may be no network, and elsewhere there is only that of another version.

use std::fmt::Write as _;

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, html::push_html};

/// A page of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic {
    /// Its name, in an address and on the command line.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Markdown.
    pub text: &'static str,
}

macro_rules! topics {
    ($($name:literal: $about:literal,)*) => {
        &[$(Topic { name: $name, about: $about, text: include_str!(concat!("../docs/", $name, ".md")) }),*]
    };
}

/// Every page, in reading order. A test compares this list with the folder.
pub const TOPICS: &[Topic] = topics![
    "api": "with curl; every route; every command",
    "workflows": "what a row means: columns, steps, answers, templates; a vendor that behaves badly",
    "configuration": "every setting, with its default",
    "page": "the page in the browser",
    "operating": "what to do, by symptom; alerts",
    "telemetry": "every event of the log, every metric, traces",
    "guarantees": "what it promises, how, and within which limits",
    "security": "who may what, what is sealed, what was attacked",
    "benchmarks": "figures, and how to repeat them; beside other ways",
    "fleet": "when one appliance is not enough",
    "glossary": "the words",
];

/// The page of this name.
pub fn find(name: &str) -> Option<&'static Topic> {
    TOPICS.iter().find(|topic| topic.name == name)
}

/// The HTML of such a text, without a frame. Links to other pages lead to `/docs/NAME`.
pub fn html(text: &str) -> String {
    let parsed = Parser::new_ext(text, Options::ENABLE_TABLES).map(|event| match event {
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            Event::Start(Tag::Link { link_type, dest_url: address(dest_url), title, id })
        }
        other => other,
    });
    let mut html = String::new();
    push_html(&mut html, parsed);
    html
}

/// `security.md` is a page; what leads elsewhere in the repository stays a path of it.
fn address(link: CowStr<'_>) -> CowStr<'_> {
    match link.strip_suffix(".md").and_then(find) {
        Some(topic) => format!("/docs/{}", topic.name).into(),
        None => link,
    }
}

/// What there is, as Markdown.
pub fn contents() -> String {
    let mut text = "# Documentation\n\n".to_owned();
    for Topic { name, about, .. } in TOPICS {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "- [{name}]({name}.md): {about}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_page_of_the_folder_is_a_topic_and_leads_to_pages_that_are_there() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");
        let files = std::fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").file_name());
        let names = files.filter_map(|name| name.to_str()?.strip_suffix(".md").map(str::to_owned));
        let named: BTreeSet<_> = TOPICS.iter().map(|topic| topic.name.to_owned()).collect();
        assert_eq!(names.collect::<BTreeSet<_>>(), named);
        for topic in TOPICS {
            assert!(topic.text.starts_with("# "), "{} has no title", topic.name);
            for link in topic.text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
                let is_elsewhere = link.starts_with("http") || link.is_empty();
                let path = std::path::Path::new(folder).join(link);
                assert!(is_elsewhere || path.exists(), "{}: {link} leads nowhere", topic.name);
            }
        }
    }

    #[test]
    fn links_between_pages_are_addresses_and_tables_are_tables() {
        let html = html("# X\n\n[s](security.md) [r](../README.md)\n\n| a |\n|---|\n| b |\n");
        assert!(html.contains("href=\"/docs/security\"") && html.contains("../README.md"), "{html}");
        assert!(html.contains("<td>b</td>") && html.starts_with("<h1>X</h1>"), "{html}");
    }
}
