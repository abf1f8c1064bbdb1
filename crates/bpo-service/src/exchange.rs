//! One question put to a service until it is answered, the tries are used up or the time is.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Client, Fault, Patience, Reply, ServiceUrl};

/// Waits are slept in slices of this, so that an error of one thread ends the others.
const SLICE: Duration = Duration::from_millis(50);

/// The end of a question.
#[derive(Debug)]
pub struct Exchange {
    /// A reply of status 200, or why there is none.
    pub reply: Result<Reply, Failure>,
    /// Tries made.
    pub tries: u32,
    /// Bytes sent and received, for servers that do not count tokens.
    pub bytes: usize,
}

/// Why there is no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nothing came in time.
    TimedOut,
    /// No connection, in words and with the tries.
    Unreachable(String),
    /// A status that is not 200.
    Status {
        /// The status.
        status: u16,
        /// What the server said, without the key.
        told: String,
        /// Tries made.
        tries: u32,
    },
    /// A reply that is too long to be one.
    TooLong,
}

impl Failure {
    /// The status of a reply that was not worth another try, and what came with it.
    pub fn refused(&self) -> Option<(u16, &str)> {
        match self {
            Self::Status { status, told, .. } if !Patience::is_passing(*status) => Some((*status, told)),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => out.write_str("no reply in time"),
            Self::Unreachable(why) => out.write_str(why),
            Self::Status { status, told, .. } if self.refused().is_some() => write!(out, "HTTP {status}: {told}"),
            Self::Status { status, told, tries } => write!(out, "HTTP {status}: {told} ({tries} tries)"),
            Self::TooLong => out.write_str("the reply is too long"),
        }
    }
}

impl Client {
    /// Posts `body` to `url` until there is a reply. `salt` spreads the waits of those who failed together; `stopped`
    /// ends the waiting.
    pub fn exchange(
        &self,
        url: &str,
        body: &Value,
        (patience, deadline): (&Patience, Instant),
        salt: impl Fn(u32) -> u64,
        stopped: impl Fn() -> bool,
    ) -> Exchange {
        let body = body.to_string().into_bytes();
        let deadline = deadline.min(Instant::now() + patience.question);
        let mut end = Exchange { reply: Err(Failure::TimedOut), tries: 0, bytes: body.len() };
        while end.tries < patience.tries {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return end;
            }
            let tried = end.tries;
            end.tries += 1;
            let asked_for = match self.post(url, &body, patience.one_try.min(left)) {
                Ok(reply) if reply.status == 200 => {
                    end.bytes += reply.body.len();
                    end.reply = Ok(reply);
                    return end;
                }
                Ok(reply) => {
                    let told = self.told(&reply);
                    let failure = Failure::Status { status: reply.status, told, tries: end.tries };
                    let is_final = failure.refused().is_some();
                    end.reply = Err(failure);
                    if is_final {
                        return end;
                    }
                    reply.retry_after
                }
                Err(Fault::TooLong) => {
                    end.reply = Err(Failure::TooLong);
                    return end;
                }
                Err(Fault::TimedOut) => {
                    end.reply = Err(Failure::TimedOut);
                    None
                }
                Err(Fault::Broken(why)) => {
                    end.reply = Err(Failure::Unreachable(format!("{why} ({} tries)", end.tries)));
                    None
                }
            };
            let wait = patience.wait(tried, asked_for, salt(tried));
            let has_time = deadline.saturating_duration_since(Instant::now()) > wait;
            if end.tries == patience.tries || !has_time || !slept(wait, &stopped) {
                return end;
            }
        }
        end
    }

    /// The models that an OpenAI-compatible server has; adapters on one of them are none.
    ///
    /// # Errors
    /// The status, where there was one, and in words why there is no list.
    pub fn models(&self, url: &ServiceUrl, patience: &Patience) -> Result<Vec<String>, (Option<u16>, String)> {
        let url = url.below("/models");
        let mut tried = 0;
        let reply = loop {
            let wait = match self.get(&url, patience.one_try) {
                Ok(reply) if Patience::is_passing(reply.status) && tried + 1 < patience.tries => reply.retry_after,
                Ok(reply) => break reply,
                Err(_) if tried + 1 < patience.tries => None,
                Err(Fault::Broken(why)) => return Err((None, why)),
                Err(Fault::TimedOut) => return Err((None, "no reply in time".into())),
                Err(Fault::TooLong) => return Err((None, "the reply is too long".into())),
            };
            let wait = patience.wait(tried, wait, u64::from(std::process::id()));
            std::thread::sleep(wait.min(patience.question));
            tried += 1;
        };
        let text = String::from_utf8_lossy(&reply.body);
        if reply.status != 200 {
            return Err((Some(reply.status), self.quoted(&text)));
        }
        let listed = serde_json::from_str::<Value>(&text).ok().and_then(|body| {
            let is_adapter = |model: &&Value| model.get("parent").is_some_and(|parent| !parent.is_null());
            let models = body.get("data")?.as_array()?.iter().filter(|model| !is_adapter(model));
            models.map(|model| Some(model.get("id")?.as_str()?.to_owned())).collect::<Option<Vec<String>>>()
        });
        let told = || format!("not the list of models of an OpenAI-compatible server: {}", self.quoted(&text));
        listed.ok_or_else(|| (Some(200), told()))
    }

    /// A reply's body as JSON.
    ///
    /// # Errors
    /// In words, with the beginning of the reply.
    pub fn json(&self, reply: &Reply) -> Result<Value, String> {
        // Python's json module writes NaN and Infinity, which are not JSON: a null is no number either.
        let text = String::from_utf8_lossy(&reply.body);
        let parsed = serde_json::from_str(&text).or_else(|error| {
            let without = ["-Infinity", "Infinity", "NaN"].iter().fold(text.to_string(), |t, n| t.replace(n, "null"));
            serde_json::from_str(&without).map_err(|_| error)
        });
        parsed.map_err(|_| format!("not JSON (HTTP 200): {}", self.told(reply)))
    }

    /// What a reply says, without the key and no longer than fits on a screen.
    pub fn told(&self, reply: &Reply) -> String {
        match self.quoted(&String::from_utf8_lossy(&reply.body)) {
            text if text.is_empty() => "(nothing)".to_owned(),
            text => text,
        }
    }
}

/// Sleeps; `false` when it was stopped meanwhile.
fn slept(wait: Duration, stopped: &impl Fn() -> bool) -> bool {
    let end = Instant::now() + wait;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(SLICE));
        if stopped() {
            return false;
        }
    }
}
