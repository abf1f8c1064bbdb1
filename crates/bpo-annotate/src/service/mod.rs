//! Questions to a service over HTTP: several under way at once, each with a deadline, none paid for twice.
//!
//! It never makes a verdict: what a reply means is read by whoever asks, and what is no reply is an abstention.

mod client;
mod patience;
mod url;
mod work;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::Value;

pub use patience::{MOST_TRIES, Patience};
pub use url::ServiceUrl;

use crate::cache::{Answer, Cache, Key};
use crate::{AbstainQuota, Abstention, Error, Secret, Statistics};
use client::Client;

/// How much a service may be asked, since it was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// Questions; without a limit where `None`.
    pub questions: Option<u64>,
    /// Tokens, as [`Statistics::tokens`] counts them.
    pub tokens: Option<u64>,
}

/// An answer, or why there is none.
pub(crate) type Answered = Result<Answer, Abstention>;

/// One service and the state of the conversation with it.
#[derive(Debug)]
pub(crate) struct Service {
    pub url: ServiceUrl,
    client: Client,
    pub patience: Patience,
    pub budget: Budget,
    /// Requests under way at once, at least one.
    concurrency: usize,
    cache: Cache,
    quota: AbstainQuota,
    /// Whether a request was ever answered in the agreed form.
    has_answered: bool,
    statistics: Statistics,
}

/// How questions become requests, and replies answers.
pub(crate) trait Dialogue: Sync {
    /// Where a request goes.
    fn address(&self, url: &ServiceUrl) -> String;

    /// The body of a request about the questions at `places`, one or more.
    fn body(&self, places: &[usize]) -> Value;

    /// One answer for each of `count` questions out of a reply.
    fn read(&self, reply: &Value, count: usize) -> Vec<Answered>;
}

impl Service {
    pub fn new(url: ServiceUrl, key: Option<Secret>, concurrency: usize) -> Self {
        let concurrency = concurrency.max(1);
        Self {
            url,
            client: Client::new(key, concurrency),
            patience: Patience::default(),
            budget: Budget::default(),
            concurrency,
            cache: Cache::default(),
            quota: AbstainQuota::default(),
            has_answered: false,
            statistics: Statistics::default(),
        }
    }

    /// Keeps answers in a file from now on.
    pub fn keep_answers(&mut self, cache: Cache) {
        self.cache = cache;
    }

    pub fn statistics(&self) -> Statistics {
        self.statistics.clone()
    }

    /// Answers the questions with these keys, up to `together` in one request. A question that was answered before,
    /// or that occurs twice, is put once.
    ///
    /// # Errors
    /// When no further question can be answered; what was answered until then is in the cache.
    pub fn ask(&mut self, keys: &[Key], together: usize, dialogue: &impl Dialogue) -> Result<Vec<Answered>, Error> {
        self.cache.refresh()?;
        let mut known: HashMap<Key, Answered> = HashMap::new();
        let mut open: Vec<(Key, usize)> = Vec::new();
        for (place, key) in keys.iter().enumerate() {
            match self.cache.get(key) {
                _ if known.contains_key(key) => {}
                Some(answer) => {
                    self.statistics.cached += 1;
                    known.insert(*key, Ok(answer));
                }
                None => {
                    known.insert(*key, Err(Abstention::TimedOut));
                    open.push((*key, place));
                }
            }
        }
        let answered = work::answers(self, &open, together.max(1), dialogue);
        self.cache.sync()?;
        for (key, answer) in answered? {
            known.insert(key, answer);
        }
        Ok(keys.iter().map(|key| known.get(key).cloned().unwrap_or(Err(Abstention::TimedOut))).collect())
    }

    /// The models that an OpenAI-compatible server has.
    ///
    /// # Errors
    /// [`Error::Endpoint`] when it does not say.
    pub fn models(&self) -> Result<Vec<String>, Error> {
        let url = self.url.below("/models");
        let refuse = |status: Option<u16>, reason: String| Error::Endpoint { url: url.clone(), status, reason };
        let mut tried = 0;
        let reply = loop {
            let wait = match self.client.get(&url, self.patience.one_try) {
                Ok(reply) if Patience::is_passing(reply.status) && tried + 1 < self.patience.tries => reply.retry_after,
                Ok(reply) => break reply,
                Err(_) if tried + 1 < self.patience.tries => None,
                Err(client::Fault::Broken(why)) => return Err(refuse(None, why)),
                Err(client::Fault::TimedOut) => return Err(refuse(None, "no reply in time".into())),
                Err(client::Fault::TooLong) => return Err(refuse(None, "the reply is too long".into())),
            };
            let wait = self.patience.wait(tried, wait, u64::from(std::process::id()));
            std::thread::sleep(wait.min(self.patience.question));
            tried += 1;
        };
        let text = String::from_utf8_lossy(&reply.body);
        if reply.status != 200 {
            return Err(refuse(Some(reply.status), self.client.quoted(&text)));
        }
        let listed = serde_json::from_str::<Value>(&text).ok().and_then(|body| {
            let models = body.get("data")?.as_array()?.iter();
            models.map(|model| Some(model.get("id")?.as_str()?.to_owned())).collect::<Option<Vec<String>>>()
        });
        listed.ok_or_else(|| {
            refuse(
                Some(200),
                format!("not the list of models of an OpenAI-compatible server: {}", self.client.quoted(&text)),
            )
        })
    }
}

/// The moment after which a batch has no more time.
fn end_of(batch: Duration) -> Instant {
    Instant::now() + batch
}
