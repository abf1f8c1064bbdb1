//! A reward model behind HTTP: texts in, numbers out.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::cache::{Answer, Key, key};
use crate::chat::{Template, scored};
use crate::service::{Answered, Dialogue, Service};
use crate::{Abstention, Error, Item, Scorer, ServiceUrl, Statistics};

/// Part of the identity: another way to ask makes other answers.
const PROTOCOL: &str = "reward 1";
/// Names a template may use.
pub(crate) const NAMES: [&str; 2] = ["prompt", "response"];

/// What a reward server reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardFormat {
    /// Ours: `{"items":[{"prompt":"…","response":"…"}]}`, answered by `{"scores":[1.5]}`; `null` where there is none.
    #[default]
    Scores,
    /// `/predict` of Hugging Face's text-embeddings-inference for a model of one label: `{"inputs":[["PROMPT",
    /// "RESPONSE"]],"raw_scores":true}`, answered by `[[{"score":1.5,"label":"LABEL_0"}]]`.
    Tei,
    /// `/classify` of vLLM for a model of one label: `{"model":"…","input":["TEXT"]}`, answered by
    /// `{"data":[{"index":0,"probs":[0.8]}]}`. It needs a template.
    Vllm,
    /// `/get_reward` of OpenRLHF's `serve_rm`: `{"query":["TEXT"],"prompts":["PROMPT"]}`, answered by
    /// `{"rewards":[1.5]}`. Without a template a query is the prompt and the response behind it.
    Openrlhf,
}

/// Scores responses by a server.
#[derive(Debug)]
pub(crate) struct RewardEndpoint {
    pub format: RewardFormat,
    pub model: Option<String>,
    pub template: Option<Template>,
    /// Responses in one request.
    pub together: usize,
    pub extra_body: Map<String, Value>,
    pub service: Service,
}

/// The responses of one batch.
struct Asked<'a> {
    endpoint: &'a Description<'a>,
    items: &'a [Item],
    texts: Vec<Option<String>>,
}

/// What does not change while a batch is asked.
struct Description<'a> {
    format: RewardFormat,
    model: Option<&'a str>,
    extra_body: &'a Map<String, Value>,
}

impl RewardEndpoint {
    fn identity(&self) -> String {
        let template = self.template.as_ref().map(Template::source);
        json!([PROTOCOL, self.service.url, self.format, self.model, template, self.extra_body]).to_string()
    }

    /// Names the file of answers; see [`Service::keep_answers`].
    pub fn cache_identity(&self) -> String {
        self.identity()
    }
}

impl Scorer for RewardEndpoint {
    fn name(&self) -> String {
        format!("reward model at {}", self.service.url)
    }

    fn score(&mut self, items: &[Item]) -> Result<Vec<f64>, Error> {
        Ok(self.score_or_abstain(items)?.into_iter().map(|score| score.unwrap_or(f64::NAN)).collect())
    }

    fn score_or_abstain(&mut self, items: &[Item]) -> Result<Vec<Result<f64, Abstention>>, Error> {
        let text = |item: &Item| match &self.template {
            Some(template) => template.render(&[("prompt", &item.prompt), ("response", &item.response)]).map(Some),
            None => Ok(None),
        };
        let texts = items.iter().map(text).collect::<Result<Vec<Option<String>>, Error>>()?;
        let identity = self.identity();
        let keys: Vec<Key> = items.iter().map(|item| key(&identity, &[&item.prompt, &item.response])).collect();
        let endpoint = Description { format: self.format, model: self.model.as_deref(), extra_body: &self.extra_body };
        let answers = self.service.ask(&keys, self.together, &Asked { endpoint: &endpoint, items, texts })?;
        Ok(answers.into_iter().map(scored).collect())
    }

    fn statistics(&self) -> Statistics {
        self.service.statistics()
    }
}

impl Asked<'_> {
    fn text(&self, place: usize) -> String {
        match (&self.texts[place], &self.items[place]) {
            (Some(text), _) => text.clone(),
            (None, item) => format!("{}{}", item.prompt, item.response),
        }
    }
}

impl Dialogue for Asked<'_> {
    fn address(&self, url: &ServiceUrl) -> String {
        url.as_str().to_owned()
    }

    fn body(&self, places: &[usize]) -> Value {
        let items = || places.iter().map(|&place| &self.items[place]);
        let texts = || places.iter().map(|&place| self.text(place)).collect::<Vec<_>>();
        let mut body = match self.endpoint.format {
            RewardFormat::Scores => {
                let item = |item: &Item| json!({"prompt": item.prompt, "response": item.response});
                json!({"items": items().map(item).collect::<Vec<_>>()})
            }
            RewardFormat::Tei => {
                let input = |&place: &usize| match &self.texts[place] {
                    Some(text) => json!([text]),
                    None => json!([self.items[place].prompt, self.items[place].response]),
                };
                json!({"inputs": places.iter().map(input).collect::<Vec<_>>(), "raw_scores": true})
            }
            RewardFormat::Vllm => json!({"input": texts()}),
            RewardFormat::Openrlhf => {
                json!({"query": texts(), "prompts": items().map(|item| &item.prompt).collect::<Vec<_>>()})
            }
        };
        if let Value::Object(body) = &mut body {
            body.extend(self.endpoint.model.map(|model| ("model".to_owned(), json!(model))));
            body.extend(self.endpoint.extra_body.clone());
        }
        body
    }

    fn read(&self, reply: &Value, count: usize) -> Vec<Answered> {
        let listed = match self.endpoint.format {
            RewardFormat::Scores => reply.get("scores").and_then(Value::as_array).map(|scores| each(scores, Some)),
            RewardFormat::Openrlhf => reply.get("rewards").and_then(Value::as_array).map(|scores| each(scores, Some)),
            RewardFormat::Tei => {
                let only = |labels: &'_ Value| only(labels).and_then(|label| label.get("score").cloned());
                reply.as_array().map(|rows| rows.iter().map(|row| number(only(row).as_ref())).collect())
            }
            RewardFormat::Vllm => reply.get("data").and_then(Value::as_array).map(|rows| in_order(rows)),
        };
        listed.unwrap_or_else(|| {
            let why =
                format!("no scores in the form `{}`: {reply}", json!(self.endpoint.format).as_str().unwrap_or("?"));
            vec![Err(Abstention::Malformed(why)); count]
        })
    }
}

fn each<'a>(values: &'a [Value], read: impl Fn(&'a Value) -> Option<&'a Value>) -> Vec<Answered> {
    values.iter().map(|value| number(read(value))).collect()
}

/// Rows say which question they answer; one that does not, or answers another, spoils all.
fn in_order(rows: &[Value]) -> Vec<Answered> {
    let mut answers: Vec<Option<Answered>> = vec![None; rows.len()];
    for (place, row) in rows.iter().enumerate() {
        let index = row.get("index").map_or(Some(place as u64), Value::as_u64);
        let free = index.and_then(|index| answers.get_mut(usize::try_from(index).ok()?)).filter(|at| at.is_none());
        match free {
            Some(at) => *at = Some(number(row.get("probs").and_then(only))),
            None => {
                return vec![Err(Abstention::Malformed(format!("the rows' indices are no order: {row}"))); rows.len()];
            }
        }
    }
    let missing = || Err(Abstention::Malformed("an index is missing".to_owned()));
    answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect()
}

/// The only element of a list: a model with more labels has no reward.
fn only(list: &Value) -> Option<&Value> {
    match list.as_array().map(Vec::as_slice) {
        Some([one]) => Some(one),
        _ => None,
    }
}

fn number(value: Option<&Value>) -> Answered {
    match value {
        Some(Value::Null) => Err(Abstention::NotANumber),
        Some(Value::Number(number)) => {
            number.as_f64().filter(|n| n.is_finite()).map(Answer::Score).ok_or(Abstention::NotANumber)
        }
        Some(other) => Err(Abstention::Malformed(format!("a score is {other}"))),
        None => Err(Abstention::Malformed("not one score for a response".to_owned())),
    }
}
