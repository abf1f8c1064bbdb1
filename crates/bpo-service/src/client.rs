//! One request, one reply: bounded in time and in length, and never redirected.

use std::io;
use std::time::Duration;

use ureq::http::HeaderMap;

use crate::Secret;

/// The longest head of a reply, in bytes.
const LONGEST_HEAD: usize = 64 << 10;

/// Asks one host over connections that are kept.
#[derive(Debug)]
pub struct Client {
    agent: ureq::Agent,
    key: Option<Secret>,
    longest_reply: u64,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// How long the server asks to wait.
    pub retry_after: Option<Duration>,
    /// All of it.
    pub body: Vec<u8>,
}

/// Why nothing came back.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// The time was up, whether nothing came or too little at a time.
    TimedOut,
    /// The connection could not be made, or broke; in words.
    Broken(String),
    /// The reply was longer than any answer.
    TooLong,
}

impl Client {
    /// With as many kept connections as questions may be under way; `longest_reply` is in bytes. Proxies are those of
    /// the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`).
    pub fn new(key: Option<Secret>, connections: usize, longest_reply: u64) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // A redirect would take the key elsewhere.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_response_header_size(LONGEST_HEAD)
            .max_idle_connections(connections)
            .max_idle_connections_per_host(connections)
            .user_agent(concat!("bpo/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.new_agent(), key, longest_reply }
    }

    /// Posts JSON and reads the whole reply, all of it within `timeout`.
    ///
    /// # Errors
    /// [`Fault`]; a status is none.
    pub fn post(&self, url: &str, body: &[u8], timeout: Duration) -> Result<Reply, Fault> {
        let request = self.agent.post(url).header("content-type", "application/json");
        let request = match &self.key {
            Some(key) => request.header("authorization", format!("Bearer {}", key.expose())),
            None => request,
        };
        let request = request.config().timeout_global(Some(timeout)).build();
        self.read(request.send(body).map_err(|error| self.fault(error))?)
    }

    /// Gets `url` within `timeout`.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub fn get(&self, url: &str, timeout: Duration) -> Result<Reply, Fault> {
        let request = self.agent.get(url);
        let request = match &self.key {
            Some(key) => request.header("authorization", format!("Bearer {}", key.expose())),
            None => request,
        };
        let request = request.config().timeout_global(Some(timeout)).build();
        self.read(request.call().map_err(|error| self.fault(error))?)
    }

    /// `text` of a server without the key, no longer than fits on a screen.
    pub fn quoted(&self, text: &str) -> String {
        const LONGEST: usize = 200;
        let text = self.key.as_ref().map_or_else(|| text.to_owned(), |key| key.redact(text));
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }

    fn read(&self, mut response: ureq::http::Response<ureq::Body>) -> Result<Reply, Fault> {
        let (status, retry_after) = (response.status().as_u16(), retry_after(response.headers()));
        let body = response.body_mut().with_config().limit(self.longest_reply).read_to_vec();
        Ok(Reply { status, retry_after, body: body.map_err(|error| self.fault(error))? })
    }

    fn fault(&self, error: ureq::Error) -> Fault {
        match error {
            ureq::Error::Timeout(_) => Fault::TimedOut,
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => Fault::TimedOut,
            ureq::Error::BodyExceedsLimit(_) => Fault::TooLong,
            other => Fault::Broken(self.quoted(&other.to_string())),
        }
    }
}

/// Seconds, or a date, which counts from the reply's own `Date`: no clock but the server's is read.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let wanted = text("retry-after")?;
    if let Ok(seconds) = wanted.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let (then, now) = (httpdate::parse_http_date(wanted).ok()?, httpdate::parse_http_date(text("date")?).ok()?);
    Some(then.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_number_of_seconds_or_a_date() {
        let wait = |pairs: &[(&'static str, &str)]| {
            let headers = pairs.iter().map(|(name, value)| {
                (ureq::http::HeaderName::from_static(name), ureq::http::HeaderValue::from_str(value).unwrap())
            });
            retry_after(&headers.collect())
        };
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(wait(&[("retry-after", " 7 ")]), seconds(7));
        assert_eq!(wait(&[("retry-after", "Sun, 06 Nov 1994 08:50:00 GMT"), date]), seconds(23));
        assert_eq!(wait(&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT"), date]), seconds(0));
        for bad in ["-1", "soon", "1.5", "Sun, 06 Nov 1994 08:50:00 GMT"] {
            assert_eq!(wait(&[("retry-after", bad)]), None, "{bad}");
        }
        assert_eq!(wait(&[]), None);
    }

    #[test]
    fn what_a_server_says_is_quoted_short_and_without_the_key() {
        let client = Client::new(Secret::new("sk-canary"), 1, 1 << 20);
        let told = client.quoted(&format!("bad key\n  sk-canary {}", "x".repeat(1000)));
        assert!(told.starts_with("bad key **** x") && told.chars().count() == 201, "{told}");
        assert!(!format!("{client:?}").contains("canary"));
    }
}
