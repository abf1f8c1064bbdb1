//! A language model as judge, behind any server that speaks OpenAI's chat completions.

pub(crate) mod grammar;
mod prompt;

use serde_json::{Map, Value, json};

use crate::cache::{Answer, Key, key};
use crate::service::{Answered, Dialogue, Service};
use crate::{Abstention, Annotator, Comparison, Error, Item, Judgement, Scorer, ServiceUrl, Statistics, Verdict};
pub(crate) use prompt::Template;

/// Part of the identity: another way to read replies makes other answers.
const GRAMMAR: &str = "grammar 1";
/// The built-in templates, by what they ask.
pub(crate) const COMPARE: &str = include_str!("compare.jinja");
/// See [`COMPARE`].
pub(crate) const RATE: &str = include_str!("rate.jinja");
/// Names a template of a comparison may use.
pub(crate) const COMPARE_NAMES: [&str; 3] = ["prompt", "first", "second"];
/// Names a template of a rating may use.
pub(crate) const RATE_NAMES: [&str; 4] = ["prompt", "response", "lowest", "highest"];

/// How a model is asked.
#[derive(Debug)]
pub(crate) struct Chat {
    pub model: String,
    pub system: Option<String>,
    pub template: Template,
    pub temperature: f64,
    /// Not said where 0.
    pub max_new_tokens: u32,
    /// Put over the request's own keys.
    pub extra_body: Map<String, Value>,
}

impl Chat {
    /// All that decides an answer, as text.
    pub fn identity(&self, url: &ServiceUrl, scale: Option<[f64; 2]>) -> String {
        json!([
            GRAMMAR,
            url,
            self.model,
            self.system,
            self.template.source(),
            self.temperature,
            self.max_new_tokens,
            self.extra_body,
            scale
        ])
        .to_string()
    }

    fn body(&self, question: &str) -> Value {
        let mut messages = Vec::new();
        messages.extend(self.system.as_ref().map(|system| json!({"role": "system", "content": system})));
        messages.push(json!({"role": "user", "content": question}));
        let mut body = Map::new();
        body.insert("model".into(), json!(self.model));
        body.insert("messages".into(), Value::Array(messages));
        body.insert("temperature".into(), json!(self.temperature));
        if self.max_new_tokens > 0 {
            body.insert("max_tokens".into(), json!(self.max_new_tokens));
        }
        body.extend(self.extra_body.clone());
        Value::Object(body)
    }
}

/// The questions of one batch.
struct Asked<'a, R> {
    chat: &'a Chat,
    questions: Vec<String>,
    read: R,
}

impl<R: Fn(&str) -> Answered + Sync> Dialogue for Asked<'_, R> {
    fn address(&self, url: &ServiceUrl) -> String {
        url.below("/chat/completions")
    }

    fn body(&self, places: &[usize]) -> Value {
        let question = places.first().and_then(|&place| self.questions.get(place));
        self.chat.body(question.map_or("", String::as_str))
    }

    fn read(&self, reply: &Value, _: usize) -> Vec<Answered> {
        vec![content(reply).and_then(&self.read)]
    }
}

/// The text of a reply's only choice, if it was finished.
fn content(reply: &Value) -> Result<&str, Abstention> {
    let malformed = |why: String| Abstention::Malformed(why);
    let told = || malformed(format!("not a chat completion: {reply}"));
    let choices = reply.get("choices").and_then(Value::as_array).ok_or_else(told)?;
    let [choice] = choices.as_slice() else { return Err(malformed(format!("{} choices", choices.len()))) };
    let message = choice.get("message").ok_or_else(told)?;
    let text = message.get("content").and_then(Value::as_str);
    match choice.get("finish_reason").and_then(Value::as_str) {
        Some("length") => {
            let text = text.unwrap_or_default();
            Err(malformed(format!("cut before its end, see `max_new_tokens`: {text}")))
        }
        Some("content_filter") => Err(Abstention::Failed("the server's content filter".to_owned())),
        _ => text.ok_or_else(|| match message.get("refusal").and_then(Value::as_str) {
            Some(refusal) => Abstention::Failed(format!("the model refuses: {refusal}")),
            None => told(),
        }),
    }
}

/// Compares two responses.
#[derive(Debug)]
pub(crate) struct ChatJudge {
    chat: Chat,
    identity: String,
    service: Service,
}

/// Rates one response at a time.
#[derive(Debug)]
pub(crate) struct ChatRater {
    chat: Chat,
    identity: String,
    service: Service,
    scale: [f64; 2],
}

impl ChatJudge {
    pub fn new(chat: Chat, service: Service) -> Self {
        Self { identity: chat.identity(&service.url, None), chat, service }
    }
}

impl ChatRater {
    pub fn new(chat: Chat, service: Service, scale: [f64; 2]) -> Self {
        Self { identity: chat.identity(&service.url, Some(scale)), chat, service, scale }
    }
}

impl Annotator for ChatJudge {
    fn name(&self) -> String {
        format!("{} at {}", self.chat.model, self.service.url)
    }

    fn compare(&mut self, batch: &[Comparison]) -> Result<Vec<Judgement>, Error> {
        let question = |pair: &Comparison| {
            self.chat.template.render(&[("prompt", &pair.prompt), ("first", &pair.first), ("second", &pair.second)])
        };
        let questions = batch.iter().map(question).collect::<Result<Vec<String>, Error>>()?;
        let keys: Vec<Key> =
            batch.iter().map(|pair| key(&self.identity, &[&pair.prompt, &pair.first, &pair.second])).collect();
        let asked = Asked { chat: &self.chat, questions, read: grammar::verdict };
        let answers = self.service.ask(&keys, 1, &asked)?;
        let verdict = |answer: Answer| answer.verdict().ok_or(Abstention::Malformed("not a verdict".to_owned()));
        let judgement = |answered: Answered| Judgement::of(answered.and_then(verdict).unwrap_or_else(Verdict::Abstain));
        Ok(answers.into_iter().map(judgement).collect())
    }

    fn statistics(&self) -> Statistics {
        self.service.statistics()
    }
}

impl Scorer for ChatRater {
    fn name(&self) -> String {
        format!("{} at {}", self.chat.model, self.service.url)
    }

    fn score(&mut self, items: &[Item]) -> Result<Vec<f64>, Error> {
        Ok(self.score_or_abstain(items)?.into_iter().map(|score| score.unwrap_or(f64::NAN)).collect())
    }

    fn score_or_abstain(&mut self, items: &[Item]) -> Result<Vec<Result<f64, Abstention>>, Error> {
        let [lowest, highest] = self.scale.map(|end| end.to_string());
        let question = |item: &Item| {
            let (prompt, response) = (item.prompt.as_str(), item.response.as_str());
            let values = [("prompt", prompt), ("response", response), ("lowest", &lowest), ("highest", &highest)];
            self.chat.template.render(&values)
        };
        let questions = items.iter().map(question).collect::<Result<Vec<String>, Error>>()?;
        let keys: Vec<Key> = items.iter().map(|item| key(&self.identity, &[&item.prompt, &item.response])).collect();
        let scale = self.scale;
        let asked = Asked { chat: &self.chat, questions, read: |reply: &str| grammar::rating(reply, scale) };
        let answers = self.service.ask(&keys, 1, &asked)?;
        Ok(answers.into_iter().map(scored).collect())
    }

    fn statistics(&self) -> Statistics {
        self.service.statistics()
    }
}

/// The score of an answer.
pub(crate) fn scored(answered: Answered) -> Result<f64, Abstention> {
    answered.and_then(|answer| answer.score().ok_or(Abstention::NotANumber))
}
