//! Which addresses a service may have.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

/// Parameters of an address that are as good as a key, by what their names contain.
const KEYS: [&str; 8] = ["key", "token", "secret", "password", "passwd", "auth", "signature", "credential"];

/// The address of a service: `http` or `https`, and nothing secret in it, since it is written into run folders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceUrl(String);

impl ServiceUrl {
    /// Reads an address; a trailing `/` is taken off.
    ///
    /// # Errors
    /// In words that do not repeat the address: it may hold a password.
    pub fn new(text: &str) -> Result<Self, String> {
        let text = text.trim().trim_end_matches('/');
        let rest = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let rest = rest.ok_or("`url` is not an address: expected http:// or https:// and a host")?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let host = place.split('/').next().unwrap_or_default();
        if host.contains('@') {
            return Err("`url` holds a user name or a password: it is written into run folders. Keys come from the \
                        environment, see `api_key_env`"
                .to_owned());
        }
        if host.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#') {
            return Err("`url` is not an address: expected a host, and neither spaces nor `#`".to_owned());
        }
        if text.parse::<ureq::http::Uri>().is_err() {
            return Err("`url` is not an address that can be asked".to_owned());
        }
        let is_key = |pair: &str| {
            let name = pair.split('=').next().unwrap_or_default().to_lowercase();
            name == "sig" || KEYS.iter().any(|key| name.contains(key))
        };
        if query.split('&').any(is_key) {
            return Err("`url` has a parameter that looks like a key: it is written into run folders. Keys come from \
                        the environment, see `api_key_env`"
                .to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// The address below this one: `path` goes before the parameters.
    pub fn below(&self, path: &str) -> String {
        match self.0.split_once('?') {
            Some((place, query)) => format!("{}{path}?{query}", place.trim_end_matches('/')),
            None => format!("{}{path}", self.0),
        }
    }

    /// The address of the server itself: this one without a `/v1` at its end.
    #[must_use]
    pub fn root(&self) -> Self {
        let (place, query) =
            self.0.split_once('?').map_or((self.0.as_str(), None), |(place, query)| (place, Some(query)));
        let place = place.strip_suffix("/v1").unwrap_or(place);
        Self(query.map_or_else(|| place.to_owned(), |query| format!("{place}?{query}")))
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ServiceUrl {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from).map_err(|_| de::Error::custom("`url` is not a text"))?;
        Self::new(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_a_secret_is_refused_without_repeating_it() {
        for bad in [
            "http://ann:hunter2@host/v1",
            "https://hunter2@host",
            "http://host/v1?api_key=hunter2",
            "http://host?a=1&Token=hunter2",
            "http://host?sig=hunter2",
            "hunter2://host",
            "http://",
            "http:// hunter2",
            "http://host/a#hunter2",
            "http://[hunter2",
        ] {
            let reason = ServiceUrl::new(bad).unwrap_err();
            assert!(!reason.contains("hunter2") && reason.contains("`url`"), "{bad}: {reason}");
        }
    }

    #[test]
    fn the_root_is_the_address_without_its_version() {
        let root = |url: &str| ServiceUrl::new(url).unwrap().root().to_string();
        assert_eq!(root("http://h:1/v1/"), "http://h:1");
        assert_eq!(root("https://h/a/v1?x=2"), "https://h/a?x=2");
        assert_eq!(root("http://h/v10"), "http://h/v10");
    }

    #[test]
    fn paths_go_before_parameters() {
        let below = |url: &str| ServiceUrl::new(url).unwrap().below("/chat/completions");
        assert_eq!(below("http://h:1/v1/"), "http://h:1/v1/chat/completions");
        assert_eq!(below("https://h/x?api-version=2"), "https://h/x/chat/completions?api-version=2");
    }
}
