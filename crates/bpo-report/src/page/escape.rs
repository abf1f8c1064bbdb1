//! Text that came from models, data and people, on its way into a page.

/// `text` as HTML can hold it, between tags and in quoted attributes. Control characters that are no white space become
/// U+FFFD; those that turn the direction of the text are shown by their number, as they could make it read otherwise.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push_str(&format!("[U+{:04X}]", c as u32)),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_becomes_markup(text: String) {
            let out = escaped(&text);
            prop_assert!(!out.contains(['<', '>', '"', '\'']));
            prop_assert!(!out.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
            let rest = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"].iter().fold(out, |out, entity| out.replace(entity, ""));
            prop_assert!(!rest.contains('&'));
        }
    }
}
