//! Questions to a service over HTTP: several under way at once, each with a deadline, none paid for twice.
//!
//! It never makes a verdict: what a reply means is read by whoever asks, and what is no reply is an abstention.

mod work;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bpo_service::{Client, Patience, Secret, ServiceUrl};
use serde_json::Value;

use crate::cache::{Answer, Cache, Key};
use crate::{AbstainQuota, Abstention, Error, Statistics};

/// The longest reply that is read, in bytes. A verdict has a few hundred.
const LONGEST_REPLY: u64 = 1 << 20;

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
            client: Client::new(key, concurrency, LONGEST_REPLY),
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
        let listed = self.client.models(&self.url, &self.patience);
        listed.map_err(|(status, reason)| Error::Endpoint { url: self.url.below("/models"), status, reason })
    }
}

/// The moment after which a batch has no more time.
fn end_of(batch: Duration) -> Instant {
    Instant::now() + batch
}
