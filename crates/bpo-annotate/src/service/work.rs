//! The threads that ask, and what they share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bpo_service::{Client, Exchange, Failure};
use serde_json::Value;

use super::{Answered, Budget, Dialogue, Patience, Service, end_of};
use crate::cache::{Cache, Key};
use crate::{AbstainQuota, Abstention, Error, Statistics};

/// What all threads read.
struct Work<'a, D> {
    url: String,
    client: &'a Client,
    patience: Patience,
    budget: Budget,
    requests: Vec<&'a [(Key, usize)]>,
    next: AtomicUsize,
    deadline: Instant,
    dialogue: &'a D,
}

/// What all threads write.
struct Ledger<'a> {
    cache: &'a mut Cache,
    quota: &'a mut AbstainQuota,
    statistics: &'a mut Statistics,
    has_answered: &'a mut bool,
    answers: Vec<(Key, Answered)>,
    error: Option<Error>,
}

/// The end of one request: a reply of status 200, or why there is none.
struct End {
    reply: Result<Value, Abstention>,
    /// The status of a reply that is not worth another try.
    refused: Option<(u16, String)>,
    tries: u32,
    /// Bytes sent and received, for servers that do not count tokens.
    bytes: usize,
}

/// Puts the `open` questions, each with its place, to the service.
pub(super) fn answers(
    service: &mut Service,
    open: &[(Key, usize)],
    together: usize,
    dialogue: &impl Dialogue,
) -> Result<Vec<(Key, Answered)>, Error> {
    let work = Work {
        url: dialogue.address(&service.url),
        client: &service.client,
        patience: service.patience,
        budget: service.budget,
        requests: open.chunks(together).collect(),
        next: AtomicUsize::new(0),
        deadline: end_of(service.patience.batch),
        dialogue,
    };
    let ledger = Mutex::new(Ledger {
        cache: &mut service.cache,
        quota: &mut service.quota,
        statistics: &mut service.statistics,
        has_answered: &mut service.has_answered,
        answers: Vec::with_capacity(open.len()),
        error: None,
    });
    std::thread::scope(|scope| {
        for _ in 0..service.concurrency.min(work.requests.len()) {
            scope.spawn(|| work.run(&ledger));
        }
    });
    let ledger = ledger.into_inner().unwrap_or_else(PoisonError::into_inner);
    ledger.error.map_or(Ok(ledger.answers), Err)
}

fn lock<'l, 'a>(ledger: &'l Mutex<Ledger<'a>>) -> MutexGuard<'l, Ledger<'a>> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D: Dialogue> Work<'_, D> {
    fn run(&self, ledger: &Mutex<Ledger<'_>>) {
        while let Some(questions) = self.requests.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if !lock(ledger).may_ask(questions.len(), self.budget) {
                return;
            }
            let places: Vec<usize> = questions.iter().map(|(_, place)| *place).collect();
            let end = self.request(&self.dialogue.body(&places), questions[0].0, ledger);
            lock(ledger).settle(self, questions, end);
        }
    }

    /// Asks until there is a reply, the tries are used up or the time is.
    fn request(&self, body: &Value, key: Key, ledger: &Mutex<Ledger<'_>>) -> End {
        let patience = (&self.patience, self.deadline);
        let stopped = || lock(ledger).error.is_some();
        let Exchange { reply, tries, bytes } =
            self.client.exchange(&self.url, body, patience, |tried| salt(key, tried), stopped);
        let refused = reply.as_ref().err().and_then(Failure::refused).map(|(status, told)| (status, told.to_owned()));
        let reply = match reply {
            Ok(reply) => self.client.json(&reply).map_err(Abstention::Malformed),
            Err(Failure::TimedOut) => Err(Abstention::TimedOut),
            Err(Failure::Unreachable(why)) => Err(Abstention::Unreachable(why)),
            Err(Failure::TooLong) => Err(Abstention::Malformed("longer than 1 MiB".to_owned())),
            Err(failure) => Err(Abstention::Status(failure.to_string())),
        };
        End { reply, refused, tries, bytes }
    }

    /// What a reply says, without the key in any of its reasons.
    fn read(&self, reply: &Value, count: usize) -> Vec<Answered> {
        let answers = self.dialogue.read(reply, count);
        if answers.len() != count {
            let wrong = Abstention::Malformed(format!("{} answers to {count} questions", answers.len()));
            return vec![Err(wrong); count];
        }
        let hide = |why: Abstention| why.map(|text| self.client.quoted(text));
        answers.into_iter().map(|answer| answer.map_err(hide)).collect()
    }
}

impl Ledger<'_> {
    /// Counts the questions of a request before it is sent, so that requests under way are counted as well.
    fn may_ask(&mut self, questions: usize, budget: Budget) -> bool {
        if self.error.is_some() {
            return false;
        }
        let spent = [
            ("questions", budget.questions, self.statistics.asked + questions as u64 - 1),
            ("tokens", budget.tokens, self.statistics.tokens),
        ];
        let over = spent.into_iter().find_map(|(what, limit, spent)| Some((what, limit?)).filter(|(_, l)| spent >= *l));
        if let Some((what, limit)) = over {
            self.error = Some(Error::Budget { what, limit });
            return false;
        }
        self.statistics.asked += questions as u64;
        true
    }

    fn settle<D: Dialogue>(&mut self, work: &Work<'_, D>, questions: &[(Key, usize)], end: End) {
        self.statistics.retries += u64::from(end.tries.saturating_sub(1));
        let answers = match &end.reply {
            Ok(reply) => {
                self.statistics.tokens += tokens(reply).unwrap_or(end.bytes as u64 / 4);
                work.read(reply, questions.len())
            }
            Err(why) => vec![Err(why.clone()); questions.len()],
        };
        // A wrong key, path or model is wrong for every question: nobody needs twenty of them to see that.
        if let Some((status @ (300..=399 | 401 | 403 | 404 | 405), told)) = &end.refused
            && !*self.has_answered
        {
            let endpoint = Error::Endpoint { url: work.url.clone(), status: Some(*status), reason: told.clone() };
            self.error.get_or_insert(endpoint);
        }
        for ((key, _), answer) in questions.iter().zip(answers) {
            self.record(*key, answer);
        }
    }

    fn record(&mut self, key: Key, answer: Answered) {
        self.quota.count(answer.is_err());
        match &answer {
            Ok(answer) => {
                *self.has_answered = true;
                if let Err(error) = self.cache.put(key, *answer) {
                    self.error.get_or_insert(error);
                }
            }
            Err(why) => {
                *self.statistics.abstained.entry(why.reason().to_owned()).or_default() += 1;
                if let Some((abstained, asked)) = self.quota.exceeded() {
                    let reason = why.to_string();
                    self.error.get_or_insert(Error::TooManyAbstentions { abstained, asked, reason });
                }
            }
        }
        self.answers.push((key, answer));
    }
}

/// Tokens as OpenAI-compatible servers count them.
fn tokens(reply: &Value) -> Option<u64> {
    reply.get("usage")?.get("total_tokens")?.as_u64()
}

/// Another number for every process, question and try.
fn salt(key: Key, tried: u32) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&key.as_bytes()[..8]);
    (u64::from_le_bytes(bytes) ^ u64::from(tried) ^ (u64::from(std::process::id()) << 32))
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
