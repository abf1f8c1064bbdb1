//! The engine that trains policies, as a judge.
use std::path::Path;

use bpo_annotate::{Error, LocalModel, Question, Reply};
use bpo_data::{Group, Message, Prompt, Tokenizer, packed};
use bpo_model::{Decoder, Dtype};
use bpo_sampler::{Completion, FinishReason, GenerateConfig, Request, Sampling, StreamKey, generate};
use bpo_train::sequence_logps;
use burn::tensor::Device;

use crate::source::ModelSource;

/// Tokens scored at once.
const TOKENS: usize = 8192;
/// Replies written together.
const TOGETHER: usize = 16;

/// A causal language model that is asked.
pub struct Engine {
    name: String,
    decoder: Decoder,
    tokenizer: Tokenizer,
}

/// The ids of a question, or why it has none.
type Read = Result<Vec<u32>, String>;

impl Engine {
    /// Loads the model of a folder, or the one inside the program.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, Error> {
        let name = folder.display().to_string();
        let source: ModelSource = name.parse().unwrap_or(ModelSource::Embedded);
        let load = || {
            let config = source.load_config()?;
            let tokenizer = source.load_matching_tokenizer(None, &config)?;
            Ok((source.load_decoder(device, Dtype::Auto)?, tokenizer))
        };
        let (decoder, tokenizer) = load()
            .map_err(|failure: crate::failure::Failure| Error::Load { name: name.clone(), reason: failure.text() })?;
        Ok(Self { name, decoder, tokenizer })
    }

    /// A question as the user's turn of a conversation; of a model without a chat template as a text of its own. `room`
    /// tokens must fit behind it.
    fn read(&self, question: &Question, room: usize) -> Read {
        let Question { system, user } = question;
        let prompt = if self.tokenizer.has_chat_template() {
            let system = system.iter().map(|system| Message::new("system", system));
            Prompt::Messages(system.chain([Message::new("user", user)]).collect())
        } else {
            let system = system.as_ref().map_or(String::new(), |system| format!("{system}\n\n"));
            Prompt::Text(format!("{system}{}\n", user.trim_end()))
        };
        let ids = self.tokenizer.encode_prompt(&prompt).map_err(|error| error.to_string())?;
        let (tokens, context) = (ids.len() + room, self.decoder.config().max_position_embeddings);
        if tokens > context {
            return Err(format!("the question and its answer have {tokens} tokens, the model reads {context}"));
        }
        Ok(ids)
    }

    fn scored(&self, prompts: &[&[u32]], answers: &[Vec<u32>]) -> Result<Vec<Vec<f64>>, String> {
        let completions: Vec<&[u32]> = answers.iter().map(Vec::as_slice).collect();
        let groups: Vec<Group<'_>> =
            prompts.iter().map(|&prompt| Group { prompt, completions: completions.clone() }).collect();
        let tokens = |prompt: &&[u32]| prompt.len() + answers.iter().map(Vec::len).sum::<usize>();
        let longest = prompts.iter().map(tokens).max().unwrap_or(1);
        let pad = self.tokenizer.pad_id().unwrap_or(0);
        let layout = packed(&groups, pad, self.decoder.row_length(longest)).map_err(|error| error.to_string())?;
        let scored = sequence_logps(&self.decoder, &layout).map_err(|error| error.to_string())?;
        let sums = scored.sums.chunks_exact(answers.len());
        Ok(sums.map(|sums| sums.iter().map(|&sum| f64::from(sum)).collect()).collect())
    }
}

/// Puts answers to the questions that could be read in the places of those questions.
fn placed<T>(read: Vec<Read>, answers: Vec<T>) -> Vec<Result<T, String>> {
    let mut answers = answers.into_iter();
    let place = |read: Read| read.and_then(|_| answers.next().ok_or_else(|| "no answer".to_owned()));
    read.into_iter().map(place).collect()
}

impl LocalModel for Engine {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn answer_logps(
        &mut self,
        questions: &[Question],
        answers: &[String],
    ) -> Result<Vec<Result<Vec<f64>, String>>, String> {
        let ids = answers.iter().map(|answer| self.tokenizer.encode_completion(answer, false));
        let ids: Vec<Vec<u32>> = ids.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        let is_alike = |(at, one): (usize, &Vec<u32>)| one.is_empty() || ids[..at].contains(one);
        if let Some(at) = ids.iter().enumerate().position(is_alike) {
            return Err(format!("its tokenizer does not tell the answer `{}` from another", answers[at]));
        }
        let longest = ids.iter().map(Vec::len).max().unwrap_or(0);
        let read: Vec<Read> = questions.iter().map(|question| self.read(question, longest)).collect();
        let prompts: Vec<&[u32]> = read.iter().flatten().map(Vec::as_slice).collect();
        let mut logps = Vec::with_capacity(prompts.len());
        let mut rest = prompts.as_slice();
        while !rest.is_empty() {
            let mut tokens = 0;
            let fits = |prompt: &&&[u32]| {
                tokens += prompt.len();
                tokens <= TOKENS
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (now, later) = rest.split_at(count);
            logps.extend(self.scored(now, &ids)?);
            rest = later;
        }
        Ok(placed(read, logps))
    }

    fn replies(&mut self, questions: &[Question], max_new_tokens: usize) -> Result<Vec<Result<Reply, String>>, String> {
        let read: Vec<Read> = questions.iter().map(|question| self.read(question, max_new_tokens)).collect();
        let config = GenerateConfig {
            max_new_tokens,
            min_new_tokens: 0,
            batch_size: TOGETHER,
            sampling: Sampling::greedy(),
            eos_ids: self.tokenizer.eos_ids().to_vec(),
            sampled_vocab: Some(self.tokenizer.vocab_size()),
        };
        let key = |prompt: usize| StreamKey { seed: 0, step: 0, prompt: prompt as u64, slot: 0 };
        let requests: Vec<Request<'_>> = read
            .iter()
            .flatten()
            .enumerate()
            .map(|(at, ids)| Request { prompt: ids, samples: vec![key(at)] })
            .collect();
        let written = generate(&self.decoder, &requests, &config, |_| ()).map_err(|error| error.to_string())?;
        let reply = |completions: Vec<Completion>| -> Result<Reply, String> {
            let completion = completions.first().ok_or("no reply")?;
            let ended = completion.finish == FinishReason::Eos;
            let text = &completion.tokens[..completion.tokens.len() - usize::from(ended)];
            Ok(Reply { text: self.tokenizer.decode(text).map_err(|error| error.to_string())?, ended })
        };
        let replies = written.into_iter().map(reply).collect::<Result<Vec<_>, String>>()?;
        Ok(placed(read, replies))
    }
}
