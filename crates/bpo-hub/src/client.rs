//! Requests to the hub.

use std::time::Duration;

use ureq::http::{HeaderMap, Response, Uri, header};
use ureq::{Agent, Body};

use crate::id::is_commit;
use crate::{Error, Hub, Id};

/// How long a connection, or the beginning of a reply, may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a request is sent on within the hub, as for a model that was renamed.
const MOVES: usize = 4;

/// Speaks for one model.
pub(crate) struct Client<'a> {
    hub: &'a Hub,
    id: &'a Id,
    /// Does not follow redirects, whose replies have headers of their own.
    still: Agent,
    /// Follows them; the token stays behind.
    moving: Agent,
}

/// What the hub says of a file.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub commit: String,
    /// Names the contents.
    pub etag: String,
    /// Bytes.
    pub size: u64,
    /// Where the hub has it, after moves within the hub.
    url: String,
}

/// Why there is no head.
pub(crate) enum Absent {
    /// The model is there, and has no such file.
    File,
    /// The hub cannot be reached; why.
    Hub(String),
    /// The hub was reached, and a download broke for good.
    Broken(Error),
    Other(Error),
}

impl<'a> Client<'a> {
    pub fn new(hub: &'a Hub, id: &'a Id) -> Self {
        let agent = |redirects: u32| {
            let config = Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(redirects)
                .max_redirects_will_error(false)
                .timeout_connect(Some(PATIENCE))
                .timeout_recv_response(Some(PATIENCE))
                .user_agent(concat!("bpo/", env!("CARGO_PKG_VERSION")));
            config.build().new_agent()
        };
        Self { hub, id, still: agent(0), moving: agent(8) }
    }

    /// What `revision` has under the name `file`.
    pub fn head(&self, revision: &str, file: &str) -> Result<Head, Absent> {
        // A slash in the name of a branch is not one of the address.
        let revision = revision.replace('/', "%2F");
        let mut url = format!("{}/{}/resolve/{revision}/{file}", self.hub.endpoint, self.id.repository);
        for _ in 0..MOVES {
            let request = self.still.head(&url).header(header::ACCEPT_ENCODING, "identity");
            let request = match &self.hub.token {
                Some(token) => request.header(header::AUTHORIZATION, token.header()),
                None => request,
            };
            let reply = request.call().map_err(|error| Absent::Hub(error.to_string()))?;
            match text(reply.headers(), "location") {
                // Moved within the hub: the name of today.
                Some(place)
                    if reply.status().is_redirection() && place.starts_with('/') && !place.starts_with("//") =>
                {
                    url = format!("{}{place}", origin(&self.hub.endpoint));
                }
                _ => return self.headers(&reply, file, url),
            }
        }
        Err(Absent::Other(self.reply(file, "it is sent on and on".into())))
    }

    fn headers(&self, reply: &Response<Body>, file: &str, url: String) -> Result<Head, Absent> {
        let headers = reply.headers();
        let refused = |reason: &str| Absent::Other(self.reply(file, reason.into()));
        match reply.status().as_u16() {
            200 | 301 | 302 | 303 | 307 | 308 => {}
            status => return Err(self.refusal(status, text(headers, "x-error-code"), file)),
        }
        let commit = text(headers, "x-repo-commit").filter(|commit| is_commit(commit));
        let commit = commit.ok_or_else(|| refused("it is no file of a hub: there is no x-repo-commit"))?;
        let etag = text(headers, "x-linked-etag").or_else(|| text(headers, "etag"));
        let etag = etag.and_then(name_of).ok_or_else(|| refused("its etag is missing or no name"))?;
        let size = text(headers, "x-linked-size").or_else(|| text(headers, "content-length"));
        let size = size.and_then(|size| size.parse().ok()).ok_or_else(|| refused("its length is missing"))?;
        Ok(Head { commit: commit.to_owned(), etag, size, url })
    }

    fn refusal(&self, status: u16, code: Option<&str>, file: &str) -> Absent {
        let (id, endpoint) = (self.id.repository.clone(), self.hub.endpoint.clone());
        Absent::Other(match (status, code) {
            (404, Some("EntryNotFound")) => return Absent::File,
            (401, _) | (_, Some("RepoNotFound")) => {
                let token = if self.hub.token.is_none() { "set HF_TOKEN" } else { "check HF_TOKEN" };
                Error::Unknown { id, endpoint, status, token }
            }
            (403, _) | (_, Some("GatedRepo")) => Error::Forbidden { id, endpoint },
            (404, _) => Error::NotFound { id: self.id.to_string(), endpoint },
            (500.., _) => return Absent::Hub(format!("it answers {status}")),
            (status, _) => self.reply(file, format!("it answers {status}")),
        })
    }

    /// The bytes of a file from `offset` on.
    pub fn get(&self, head: &Head, offset: u64) -> Result<Response<Body>, Absent> {
        let request = self.moving.get(&head.url).header(header::ACCEPT_ENCODING, "identity");
        let request = match &self.hub.token {
            Some(token) => request.header(header::AUTHORIZATION, token.header()),
            None => request,
        };
        let request = if offset > 0 { request.header(header::RANGE, format!("bytes={offset}-")) } else { request };
        request.call().map_err(|error| Absent::Hub(error.to_string()))
    }

    /// The error of a download that broke for good.
    pub fn broken(&self, file: &str, have: u64, size: u64, reason: String) -> Error {
        Error::Broken { id: self.id.to_string(), file: file.to_owned(), have, size, reason }
    }

    /// The error of contents that are others than the hub's.
    pub fn altered(&self, file: &str) -> Error {
        let (id, endpoint) = (self.id.to_string(), self.hub.endpoint.clone());
        Error::Altered { id, endpoint, file: file.to_owned() }
    }

    /// An error about a reply.
    pub fn reply(&self, file: &str, reason: String) -> Error {
        let (id, endpoint) = (self.id.to_string(), self.hub.endpoint.clone());
        Error::Reply { id, endpoint, file: file.to_owned(), reason }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Scheme and host of an address.
fn origin(url: &str) -> String {
    let uri: Option<Uri> = url.parse().ok();
    let parts = uri.as_ref().and_then(|uri| Some((uri.scheme_str()?, uri.authority()?)));
    parts.map_or_else(|| url.to_owned(), |(scheme, host)| format!("{scheme}://{host}"))
}

/// An entity tag as a file's name, if it can be one.
fn name_of(etag: &str) -> Option<String> {
    let name = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    ((1..=128).contains(&name.len()) && name.bytes().all(is_name)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_that_leads_elsewhere_is_no_name() {
        assert_eq!(name_of("\"0af3\"").as_deref(), Some("0af3"));
        assert_eq!(name_of("W/\"a-b\"").as_deref(), Some("a-b"));
        for etag in ["", "\"\"", "\"../x\"", "a/b", "..", "a b"] {
            assert_eq!(name_of(etag), None, "{etag}");
        }
        assert_eq!(name_of(&"x".repeat(129)), None);
    }

    #[test]
    fn an_origin_has_no_path() {
        assert_eq!(origin("http://127.0.0.1:80/x/y"), "http://127.0.0.1:80");
        assert_eq!(origin("https://hub.example"), "https://hub.example");
    }
}
