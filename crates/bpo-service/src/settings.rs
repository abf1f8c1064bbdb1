//! Settings that every service has, checked; what is wrong is said in words that name the key.

use std::time::Duration;

use crate::Secret;

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
