//! What a reply says: nothing in it is trusted to be what was asked for.

use serde_json::Value;

use super::{Drawing, Drawn, Finish, Format};

/// The completion of a reply.
pub(super) fn read(format: Format, reply: &Value, how: &Drawing) -> Result<Drawn, String> {
    let drawn = match format {
        Format::Sglang => sglang(reply)?,
        _ => completion(reply)?,
    };
    checked(drawn, how)
}

fn completion(reply: &Value) -> Result<Drawn, String> {
    let choices = reply.get("choices").and_then(Value::as_array).ok_or_else(|| shown("not a completion", reply))?;
    let [choice] = choices.as_slice() else { return Err(format!("{} choices instead of one", choices.len())) };
    let text = choice.get("text").and_then(Value::as_str).ok_or_else(|| shown("no text in", choice))?;
    let logprobs = choice.get("logprobs").filter(|logprobs| !logprobs.is_null());
    let content = logprobs.and_then(|it| it.get("content")).and_then(Value::as_array);
    // vLLM and its kin say the ids; llama.cpp has one beside every log-prob.
    let ids = match (choice.get("token_ids").and_then(Value::as_array), content) {
        (Some(ids), _) => all(ids, id),
        (None, Some(content)) => all(content, |token| id(token.get("id")?)),
        (None, None) => None,
    };
    let logps = match (logprobs.and_then(|it| it.get("token_logprobs")).and_then(Value::as_array), content) {
        (Some(logps), _) => all(logps, logp),
        (None, Some(content)) => all(content, |token| logp(token.get("logprob")?)),
        (None, None) => None,
    };
    let finish = finish(choice.get("finish_reason").and_then(Value::as_str))?;
    let prompt_tokens = reply.get("usage").and_then(|usage| usage.get("prompt_tokens")).and_then(Value::as_u64);
    Ok(Drawn { text: text.to_owned(), ids, logps, finish, prompt_tokens })
}

fn sglang(reply: &Value) -> Result<Drawn, String> {
    let text = reply.get("text").and_then(Value::as_str).ok_or_else(|| shown("not a completion", reply))?;
    let meta = reply.get("meta_info").ok_or_else(|| shown("no `meta_info` in", reply))?;
    let pairs = meta.get("output_token_logprobs").and_then(Value::as_array);
    let ids = match (reply.get("output_ids").and_then(Value::as_array), pairs) {
        (Some(ids), _) => all(ids, id),
        (None, Some(pairs)) => all(pairs, |pair| id(pair.get(1)?)),
        (None, None) => None,
    };
    let logps = pairs.and_then(|pairs| all(pairs, |pair| logp(pair.get(0)?)));
    let finish = finish(meta.get("finish_reason").and_then(|it| it.get("type")).and_then(Value::as_str))?;
    let prompt_tokens = meta.get("prompt_tokens").and_then(Value::as_u64);
    Ok(Drawn { text: text.to_owned(), ids, logps, finish, prompt_tokens })
}

/// All values, or nothing.
fn all<T>(values: &[Value], one: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    values.iter().map(one).collect()
}

fn id(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

/// A log-prob: finite, and not above 0 by more than rounding.
fn logp(value: &Value) -> Option<f32> {
    value.as_f64().filter(|logp| logp.is_finite() && *logp <= 1e-3).map(|logp| logp as f32)
}

fn finish(reason: Option<&str>) -> Result<Finish, String> {
    match reason {
        Some("stop") => Ok(Finish::Stop),
        Some("length") => Ok(Finish::Length),
        other => Err(format!("it ended by `{}`: neither stop nor length", other.unwrap_or("null"))),
    }
}

/// A completion as it may train: ids of the vocabulary, EOS at the end and nowhere else, no more tokens than asked for.
fn checked(mut drawn: Drawn, how: &Drawing) -> Result<Drawn, String> {
    let Some(ids) = &mut drawn.ids else { return Ok(drawn) };
    let is_eos = |id: &u32| how.eos_ids.contains(id);
    if let Some(id) = ids.iter().find(|id| **id as usize >= how.vocab) {
        return Err(format!("token id {id} is not in the vocabulary of {}: does it serve the same model?", how.vocab));
    }
    if ids.len() > how.max_new_tokens {
        return Err(format!("{} tokens, and at most {} were asked for", ids.len(), how.max_new_tokens));
    }
    if let Some(place) = ids.iter().position(is_eos).filter(|place| place + 1 < ids.len()) {
        return Err(format!("it goes on after EOS (token {} of {})", place + 1, ids.len()));
    }
    // Some leave the token out that they stopped at; its log-prob is then not known.
    let has_eos = ids.last().is_some_and(is_eos);
    match drawn.finish {
        Finish::Stop if !has_eos => ids.extend(how.eos_ids.first()),
        Finish::Length if has_eos => drawn.finish = Finish::Stop,
        _ => {}
    }
    if ids.is_empty() {
        return Err("no tokens".to_owned());
    }
    Ok(drawn)
}

fn shown(what: &str, value: &Value) -> String {
    format!("{what}: {value}")
}
