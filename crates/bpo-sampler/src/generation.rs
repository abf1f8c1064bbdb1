use std::collections::VecDeque;

use burn::tensor::Tensor;

use crate::{
    Admissible, CausalLm, Completion, Error, FinishReason, GenerateConfig, Request, TokenStream, waiting::Waiting,
};

/// Completions being sampled, a token of every row of the batch at a time: rows that finish leave, waiting prompts
/// enter, so that the batch stays full.
///
/// Each prompt is read once, for all its samples. Which rows are decoded together depends on the requests, the
/// configuration and the tokens sampled, on nothing else; what is drawn depends on the batch by rounding only.
#[derive(Debug)]
pub struct Generation<'a, M: CausalLm> {
    model: &'a M,
    requests: &'a [Request<'a>],
    config: &'a GenerateConfig,
    /// One per completion, request by request.
    rows: Vec<Row>,
    waiting: Waiting,
    read: VecDeque<Read<M::Cache>>,
    cache: M::Cache,
    /// Whose the rows of the cache are, as indices into `rows`.
    live: Vec<usize>,
    unfinished: usize,
    settled: usize,
    handed_out: usize,
}

/// Prompts that were read, for samples that do not have a row yet.
#[derive(Debug)]
struct Read<C> {
    cache: C,
    /// Rows of the cache, and whose they will be, as indices into [`Generation::rows`].
    samples: VecDeque<(usize, usize)>,
}

/// A completion on its way.
#[derive(Debug)]
struct Row {
    request: usize,
    /// Tokens it may have.
    budget: usize,
    stream: TokenStream,
    tokens: Vec<u32>,
    logps: Vec<f32>,
    finish: Option<FinishReason>,
}

impl<'a, M: CausalLm> Generation<'a, M> {
    /// Checks the requests; nothing is computed yet.
    ///
    /// # Errors
    /// [`Error`] for an empty, over-long or out-of-vocabulary prompt, or a bad parameter.
    pub fn new(model: &'a M, requests: &'a [Request<'a>], config: &'a GenerateConfig) -> Result<Self, Error> {
        config.validate()?;
        check(model, requests)?;
        let mut rows = Vec::new();
        for (request, asked) in requests.iter().enumerate() {
            let budget = config.max_new_tokens.min(model.context() - asked.prompt.len());
            let finish = (budget == 0).then_some(FinishReason::Length);
            let row = |stream| Row { request, budget, stream, tokens: Vec::new(), logps: Vec::new(), finish };
            rows.extend(asked.samples.iter().map(|key| row(key.stream())));
        }
        Ok(Self {
            model,
            requests,
            config,
            unfinished: rows.iter().filter(|row| row.finish.is_none()).count(),
            rows,
            waiting: Waiting::new(requests, config),
            read: VecDeque::new(),
            cache: M::Cache::default(),
            live: Vec::new(),
            settled: 0,
            handed_out: 0,
        })
    }

    /// Samples a token of every row, after filling the rows that are free; `false` when there was nothing to do.
    ///
    /// # Errors
    /// [`Error::NonFiniteLogits`], [`Error::Unreadable`].
    pub fn advance(&mut self) -> Result<bool, Error> {
        if self.unfinished == 0 {
            return Ok(false);
        }
        self.fill()?;
        if !self.live.is_empty() {
            let tokens: Vec<u32> = self.live.iter().filter_map(|&row| self.rows[row].tokens.last().copied()).collect();
            let mut logits = HostLogits::of(self.model.step(&mut self.cache, &tokens))?;
            for row in 0..self.live.len() {
                self.draw(self.live[row], logits.row(row))?;
            }
            self.leave();
        }
        Ok(true)
    }

    /// Completions that go on.
    pub fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// Tokens that are sampled or never will be: rises to completions × `max_new_tokens`.
    pub fn settled(&self) -> usize {
        self.settled
    }

    /// The next completion in order, by request and key, once it has finished.
    pub fn next_finished(&mut self) -> Option<Completion> {
        let row = self.rows.get_mut(self.handed_out)?;
        let finish = row.finish?;
        self.handed_out += 1;
        Some(Completion { tokens: std::mem::take(&mut row.tokens), logps: std::mem::take(&mut row.logps), finish })
    }

    /// Gives free rows to samples whose prompt is read, and reads prompts when that is due.
    fn fill(&mut self) -> Result<(), Error> {
        self.enter();
        if self.waiting.is_due(self.free()) {
            while self.free() > 0 && self.read_prompts()? {
                self.enter();
            }
        }
        Ok(())
    }

    fn free(&self) -> usize {
        self.config.batch_size - self.live.len()
    }

    fn enter(&mut self) {
        while let Some(read) = self.read.front_mut()
            && self.live.len() < self.config.batch_size
        {
            let free = self.config.batch_size - self.live.len();
            let (from, rows): (Vec<usize>, Vec<usize>) = read.samples.drain(..free.min(read.samples.len())).unzip();
            // The last token is never read.
            let room = rows.iter().map(|&row| self.rows[row].budget - 1).max().unwrap_or(0);
            self.model.append(&mut self.cache, &read.cache, &from, room);
            self.live.extend(rows);
            if read.samples.is_empty() {
                self.read.pop_front();
            }
        }
    }

    /// Reads the next prompts and draws the first tokens of all their samples; `false` when none waits.
    fn read_prompts(&mut self) -> Result<bool, Error> {
        let pass = self.waiting.next_pass(self.free());
        if pass.is_empty() {
            return Ok(false);
        }
        let prompts: Vec<&[u32]> = pass.iter().map(|&request| self.requests[request].prompt).collect();
        let (cache, logits) = self.model.prefill(&prompts);
        let mut logits = HostLogits::of(logits)?;
        let mut samples = VecDeque::new();
        for (from, &request) in pass.iter().enumerate() {
            let first = self.rows.partition_point(|row| row.request < request);
            for row in first..first + self.requests[request].samples.len() {
                self.draw(row, &mut logits.row(from).to_vec())?;
                if self.rows[row].finish.is_none() {
                    samples.push_back((from, row));
                }
            }
        }
        if !samples.is_empty() {
            self.read.push_back(Read { cache, samples });
        }
        Ok(true)
    }

    /// Draws a completion's next token.
    fn draw(&mut self, row: usize, logits: &mut [f32]) -> Result<(), Error> {
        let (row, config) = (&mut self.rows[row], self.config);
        let position = row.tokens.len();
        let barred = if position < config.min_new_tokens { config.eos_ids.as_slice() } else { &[] };
        let below = config.sampled_vocab.unwrap_or(logits.len()).min(logits.len());
        let draw = config.sampling.draw(logits, Admissible { below, barred }, &mut row.stream);
        let draw = draw.ok_or(Error::NonFiniteLogits { prompt: row.request, position })?;
        row.tokens.push(draw.token);
        row.logps.push(draw.logp);
        self.settled += 1;
        row.finish = if config.eos_ids.contains(&draw.token) {
            Some(FinishReason::Eos)
        } else {
            (row.tokens.len() == row.budget).then_some(FinishReason::Length)
        };
        if row.finish.is_some() {
            self.unfinished -= 1;
            self.settled += config.max_new_tokens - row.tokens.len();
        }
        Ok(())
    }

    /// Frees the rows of finished completions; the last rows take their places.
    fn leave(&mut self) {
        for row in (0..self.live.len()).rev() {
            if self.rows[self.live[row]].finish.is_some() {
                self.live.swap_remove(row);
                self.model.swap_remove(&mut self.cache, row);
            }
        }
    }
}

fn check<M: CausalLm>(model: &M, requests: &[Request<'_>]) -> Result<(), Error> {
    let (vocab, context) = (model.vocab_size(), model.context());
    for (prompt, request) in requests.iter().enumerate() {
        let length = request.prompt.len();
        if length == 0 {
            return Err(Error::EmptyPrompt { prompt });
        }
        if length >= context {
            return Err(Error::PromptTooLong { prompt, length, context });
        }
        if let Some(&token) = request.prompt.iter().find(|&&token| token as usize >= vocab) {
            return Err(Error::TokenOutOfVocabulary { prompt, token, vocab });
        }
    }
    Ok(())
}

/// Logits on the host: one transfer per pass for the whole batch.
struct HostLogits {
    values: Vec<f32>,
    vocab: usize,
}

impl HostLogits {
    fn of(logits: Tensor<2>) -> Result<Self, Error> {
        let vocab = logits.dims()[1];
        let values = logits.try_into_vec_as().map_err(|error| Error::Unreadable(error.to_string()))?;
        Ok(Self { values, vocab })
    }

    fn row(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.vocab..][..self.vocab]
    }
}
