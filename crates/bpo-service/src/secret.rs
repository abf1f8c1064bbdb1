//! A key that can be used and not told.

use std::fmt;

use serde::{Serialize, Serializer};

/// What stands where a secret was.
const HIDDEN: &str = "****";

/// A key for a service. `Debug`, `Display` and `Serialize` give `****`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A key of visible ASCII characters, as a header can carry it; white space around it is taken off.
    /// `None` for anything else, the empty text included.
    pub fn new(key: &str) -> Option<Self> {
        let key = key.trim();
        (!key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(key.to_owned()))
    }

    /// The key itself, for the header it goes into.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// `text` without the key: as it is, as JSON escapes it (JSON within JSON too) and as a URL does. Servers repeat
    /// what they are sent.
    pub(crate) fn redact(&self, text: &str) -> String {
        let escape = |form: &String| Some(form.replace('\\', "\\\\").replace('"', "\\\""));
        let percent: String = self.0.bytes().map(percent_encoded).collect();
        let forms =
            std::iter::successors(Some(self.0.clone()), escape).take(5).chain([percent.to_lowercase(), percent]);
        forms.fold(text.to_owned(), |text, form| text.replace(&form, HIDDEN))
    }
}

fn percent_encoded(byte: u8) -> String {
    match byte {
        byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_secret_is_told_in_no_form() {
        let secret = Secret::new(" sk-\"a\\b/c%\n").unwrap();
        assert_eq!(secret.expose(), "sk-\"a\\b/c%");
        assert_eq!(format!("{secret:?} {secret} {}", serde_json::to_string(&secret).unwrap()), "**** **** \"****\"");
        let told = format!("key sk-\"a\\b/c% bad; {}; ?k=sk-%22a%5Cb%2Fc%25", serde_json::json!("sk-\"a\\b/c%"));
        assert_eq!(secret.redact(&told), "key **** bad; \"****\"; ?k=****");
    }

    #[test]
    fn what_no_header_can_carry_is_no_key() {
        for bad in ["", "  ", "a b", "a\nb", "schlüssel"] {
            assert!(Secret::new(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_keeps_the_key(before in ".*", key in "[!-~]{5,40}", after in ".*") {
            let secret = Secret::new(&key).unwrap();
            prop_assume!(!"****".contains(&key) && !key.contains("****"));
            let told = format!("{before}{key}{after}");
            prop_assert!(!secret.redact(&told).contains(&key));
        }
    }
}
