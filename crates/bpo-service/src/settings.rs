//! Settings that every service has, checked; what is wrong is said in words that name the key.

use std::time::Duration;

use crate::{MOST_TRIES, Patience, Secret, ServiceUrl};

/// At least a millisecond and at most a day, so that no clock overflows.
///
/// # Errors
/// In words.
pub fn seconds(key: &str, seconds: f64) -> Result<Duration, String> {
    match (0.001..=86_400.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err(format!("`{key}` is {seconds}: expected seconds between 0.001 and 86400")),
    }
}

/// Whether a text is the name of a variable and not, by mistake, the key itself.
///
/// # Errors
/// In words that do not repeat it.
pub fn check_variable(name: &str) -> Result<(), String> {
    let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    match !name.is_empty() && name.bytes().all(is_name) && !name.as_bytes()[0].is_ascii_digit() {
        true => Ok(()),
        false => {
            Err("`api_key_env` is the name of an environment variable, in capitals as in OPENAI_API_KEY, not a key"
                .to_owned())
        }
    }
}

/// The key that the variable `name` holds, as `environment` reads it.
///
/// # Errors
/// In words.
pub fn key(name: &str, environment: impl FnOnce(&str) -> Option<String>) -> Result<Secret, String> {
    check_variable(name)?;
    let held = environment(name).ok_or_else(|| format!("`api_key_env`: the variable {name} is not set"))?;
    Secret::new(&held).ok_or_else(|| format!("`api_key_env`: the variable {name} holds no key"))
}

/// The keys that say how long to wait for a service, as they are written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Waits {
    /// Seconds for one try.
    pub timeout_s: f64,
    /// Seconds for one question, all tries and waits.
    pub question_timeout_s: f64,
    /// Seconds for all questions that are asked together.
    pub batch_timeout_s: f64,
    /// Tries of one question, 1 to [`MOST_TRIES`].
    pub tries: u32,
    /// Seconds before the second try.
    pub backoff_s: f64,
}

impl TryFrom<Waits> for Patience {
    type Error = String;

    fn try_from(waits: Waits) -> Result<Self, String> {
        if !(1..=MOST_TRIES).contains(&waits.tries) {
            return Err(format!("`tries` is {}: expected 1 to {MOST_TRIES}", waits.tries));
        }
        Ok(Self {
            one_try: seconds("timeout_s", waits.timeout_s)?,
            question: seconds("question_timeout_s", waits.question_timeout_s)?,
            batch: seconds("batch_timeout_s", waits.batch_timeout_s)?,
            tries: waits.tries,
            backoff: seconds("backoff_s", waits.backoff_s)?,
        })
    }
}

/// The only one of the models that the server at `url` lists, for settings that name none.
///
/// # Errors
/// In words, with the first of the names, when there is not exactly one.
pub fn only_model(url: &ServiceUrl, models: &[String]) -> Result<String, String> {
    match models {
        [one] => Ok(one.clone()),
        models => {
            let some: Vec<&str> = models.iter().take(8).map(String::as_str).collect();
            let (count, some) = (models.len(), some.join(", "));
            Err(format!("{url} has {count} models, so `model` must name one: {some}"))
        }
    }
}
