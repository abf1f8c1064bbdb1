//! RELIABILITY, fault 24: a key is in the header of a request and nowhere else.
use bpo_annotate::{AnnotatorConfig, Verdict};
use serde_json::{Value, json};

use crate::{
    CANARY, built, pairs, quick,
    server::{Act, Asked, Server, honest},
    verdicts, with_cache,
};

fn with_key(server: &Server, more: Value) -> Value {
    let mut settings = quick(&server.url, &more);
    settings["api_key_env"] = json!("JUDGE_KEY");
    settings
}

/// Everything that a server can echo, in a body.
fn echo(status: u16) -> impl Fn(&Asked) -> Act + Send + Sync {
    move |asked| {
        let key = asked.head.lines().find_map(|line| line.split_once("Bearer ")).map_or("", |(_, key)| key.trim());
        let told = format!("Incorrect API key provided: {key}. {} {}", json!(key), json!(json!(key).to_string()));
        match status {
            200 => crate::server::says(&told),
            status => Act::With(status, format!("x-key: {key}"), told.into_bytes()),
        }
    }
}

#[test]
fn the_key_is_sent_and_only_in_its_header() {
    let server = Server::start(honest);
    built(&with_key(&server, json!({}))).compare(&pairs(0, 2)).unwrap();
    for asked in server.asked() {
        assert!(asked.head.to_lowercase().contains("authorization: bearer sk-canary"), "{}", asked.head);
        assert!(!asked.body.to_string().contains("canary"));
        assert!(!asked.head.lines().next().unwrap().contains("canary"));
    }
    let server = Server::start(honest);
    built(&quick(&server.url, &json!({}))).compare(&pairs(0, 1)).unwrap();
    assert!(!server.asked()[0].head.to_lowercase().contains("authorization"));
}

#[test]
fn nothing_that_can_be_kept_or_shown_holds_the_key() {
    let folder = tempfile::tempdir().unwrap();
    for status in [200, 400, 401, 404, 429, 500] {
        let server = Server::start(echo(status));
        let mut settings = with_key(&server, json!({"concurrency": 1}));
        settings["cache"] = json!(folder.path());
        let config: AnnotatorConfig = serde_json::from_value(settings.clone()).unwrap();
        let mut judge = with_cache(&settings, None).unwrap();
        let mut told = format!("{config:?} {} {}", serde_json::to_string(&config).unwrap(), judge.name());
        match judge.compare(&pairs(0, 3)) {
            Ok(given) => {
                for verdict in verdicts(given) {
                    let Verdict::Abstain(why) = &verdict else { panic!("{status}: {verdict:?}") };
                    told += &format!("{why} {why:?} {}", serde_json::to_string(&verdict).unwrap());
                    assert!(told.contains("****"), "{status}: {told}");
                }
            }
            Err(error) => told += &format!("{error} {error:?}"),
        }
        told += &format!("{:?}", judge.statistics().lines());
        for file in std::fs::read_dir(folder.path()).unwrap() {
            told += &std::fs::read_to_string(file.unwrap().path()).unwrap();
        }
        assert!(!told.contains("canary"), "{status}: {told}");
        assert!(server.asked()[0].head.contains(CANARY), "the server had it to tell");
    }
}

#[test]
fn a_redirect_does_not_take_the_key_elsewhere() {
    let thief = Server::start(honest);
    let to = thief.url.clone();
    let server = Server::start(move |_| Act::With(307, format!("location: {to}/v1/chat/completions"), Vec::new()));
    let error = built(&with_key(&server, json!({}))).compare(&pairs(0, 1)).unwrap_err().to_string();
    assert!(error.contains("HTTP 307") && error.contains("redirects are not followed"), "{error}");
    assert!(thief.asked().is_empty());
}

#[test]
fn a_key_that_is_missing_or_in_the_wrong_place_is_refused_without_being_told() {
    let refused = |more: Value| {
        let read = serde_json::from_value::<AnnotatorConfig>(quick("http://127.0.0.1:9", &more));
        match read {
            Ok(config) => config.build(&mut crate::Given { cache: None }).err().unwrap().to_string(),
            Err(error) => error.to_string(),
        }
    };
    assert!(refused(json!({"api_key_env": "NO_SUCH_KEY"})).contains("NO_SUCH_KEY is not set"));
    for (more, word) in [
        (json!({"api_key_env": "sk-canary"}), "name of an environment variable"),
        (json!({"api_key": "sk-canary"}), "unknown field `api_key`"),
        (json!({"url": "http://user:canary@host/v1"}), "user name or a password"),
        (json!({"url": "http://host/v1?key=canary"}), "looks like a key"),
    ] {
        let told = refused(more);
        assert!(told.contains(word) && !told.contains("canary"), "{told}");
    }
}
