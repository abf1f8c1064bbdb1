//! Completions from a server.

mod config;
mod form;
mod publish;
mod reply;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

pub use config::{Format, PromptForm, SamplerConfig};
pub use publish::Published;

use crate::{Client, Error, Patience};

/// One completion that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The prompt in ids.
    pub ids: &'a [u32],
    /// The same as text, special tokens included, without the BOS that a server puts in front itself.
    pub text: &'a str,
    /// What the server's random numbers come from, where it takes one: 31 bits.
    pub seed: u32,
    /// Tokens that the model's context has left behind it.
    pub room: usize,
}

/// How completions are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawing {
    /// Cut after this many tokens.
    pub max_new_tokens: usize,
    /// No EOS before this many.
    pub min_new_tokens: usize,
    /// 0 is greedy.
    pub temperature: f64,
    /// 0 keeps all.
    pub top_k: usize,
    /// 1 keeps all.
    pub top_p: f64,
    /// 0 keeps all.
    pub min_p: f64,
    /// Tokens that end a completion.
    pub eos_ids: Vec<u32>,
    /// Ids are below this.
    pub vocab: usize,
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// By EOS.
    Stop,
    /// It was cut.
    Length,
}

/// A completion as the server gave it.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// Without special tokens.
    pub text: String,
    /// Sampled ids, EOS included if it ended by it; where the server says them.
    pub ids: Option<Vec<u32>>,
    /// Log-probs as the server counts its tokens, which may leave EOS out; where it says them.
    pub logps: Option<Vec<f32>>,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens of the prompt as the server read it.
    pub prompt_tokens: Option<u64>,
}

/// A server that samples.
#[derive(Debug)]
pub struct Sampler {
    config: SamplerConfig,
    client: Client,
    patience: Patience,
    model: String,
    /// What the model is called with the adapter that was published.
    adapter: Option<String>,
    published: Option<Published>,
    companions: Vec<(String, PathBuf)>,
}

impl Sampler {
    fn new(config: SamplerConfig, client: Client, patience: Patience, model: String) -> Self {
        Self { config, client, patience, model, adapter: None, published: None, companions: Vec::new() }
    }

    /// Files that an adapter's folder gets beside the adapter, by name: `transformers serve` loads a folder as a model,
    /// and wants that model's configuration, weights and tokenizer there.
    #[must_use]
    pub fn with_companions(mut self, files: Vec<(String, PathBuf)>) -> Self {
        self.companions = files;
        self
    }

    /// Its settings.
    pub fn config(&self) -> &SamplerConfig {
        &self.config
    }

    /// The model, and where.
    pub fn name(&self) -> String {
        match (&self.adapter, self.model.as_str()) {
            (Some(adapter), _) => format!("{adapter} at {}", self.config.url),
            (None, "") => self.config.url.to_string(),
            (None, model) => format!("{model} at {}", self.config.url),
        }
    }

    /// Draws a completion of each, in their order, several under way at once; `done` is told how many there are.
    ///
    /// # Errors
    /// [`Error::Config`] for a setting that the server has no key for; [`Error::Refused`] and [`Error::Reply`] of the
    /// first completion that there is none of: those under way are then given up.
    pub fn draw(&self, asked: &[Asked<'_>], how: &Drawing, mut done: impl FnMut(usize)) -> Result<Vec<Drawn>, Error> {
        if let Some(key) = form::unsupported(self.config.format, how) {
            let format = self.config.format.name();
            return Err(Error::Config(format!("`{key}` cannot be asked for with `format = \"{format}\"`")));
        }
        let work = Work {
            sampler: self,
            url: form::address(&self.config.url, self.config.format),
            asked,
            how,
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            deadline: Instant::now() + self.patience.batch,
        };
        let mut drawn: Vec<Option<Drawn>> = vec![None; asked.len()];
        let (sender, receiver) = mpsc::channel();
        let ended = std::thread::scope(|scope| {
            for _ in 0..self.config.concurrency.min(asked.len()) {
                let sender = sender.clone();
                scope.spawn(|| work.run(sender));
            }
            drop(sender);
            let mut error = None;
            for (count, (place, one)) in receiver.into_iter().enumerate() {
                match one {
                    Ok(one) => drawn[place] = Some(one),
                    Err(first) => {
                        error.get_or_insert(first);
                    }
                }
                done(count + 1);
            }
            error.map_or(Ok(()), Err)
        });
        ended?;
        let missing = || Error::Reply { url: work.url.clone(), reason: "a completion is missing".into() };
        drawn.into_iter().collect::<Option<Vec<Drawn>>>().ok_or_else(missing)
    }
}

/// What the threads share.
struct Work<'a> {
    sampler: &'a Sampler,
    url: String,
    asked: &'a [Asked<'a>],
    how: &'a Drawing,
    next: AtomicUsize,
    stop: AtomicBool,
    deadline: Instant,
}

impl Work<'_> {
    fn run(&self, sender: mpsc::Sender<(usize, Result<Drawn, Error>)>) {
        loop {
            let place = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(asked) = self.asked.get(place).filter(|_| !self.stop.load(Ordering::Relaxed)) else { return };
            let one = self.one(asked);
            // Before anyone asks for the next one.
            if one.is_err() {
                self.stop.store(true, Ordering::Relaxed);
            }
            if sender.send((place, one)).is_err() {
                return;
            }
        }
    }

    fn one(&self, asked: &Asked<'_>) -> Result<Drawn, Error> {
        let Sampler { config, client, patience, model, adapter, .. } = self.sampler;
        let how = Drawing { max_new_tokens: self.how.max_new_tokens.min(asked.room), ..self.how.clone() };
        let body = form::body(config, model, adapter.as_deref(), asked, &how);
        let salt = |tried: u32| u64::from(asked.seed ^ tried.rotate_left(16)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let stopped = || self.stop.load(Ordering::Relaxed);
        let reply = client.exchange(&self.url, &body, (patience, self.deadline), salt, stopped).reply;
        let reply = reply.map_err(|failure| {
            let status = failure.refused().map(|(status, _)| status);
            Error::Refused { url: self.url.clone(), status: status.or(passing(&failure)), reason: failure.to_string() }
        })?;
        let wrong = |reason: String| Error::Reply { url: self.url.clone(), reason: client.quoted(&reason) };
        let reply = client.json(&reply).map_err(wrong)?;
        reply::read(config.format, &reply, &how).map_err(wrong)
    }
}

/// The status of a reply that was worth another try.
fn passing(failure: &crate::Failure) -> Option<u16> {
    match failure {
        crate::Failure::Status { status, .. } => Some(*status),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
