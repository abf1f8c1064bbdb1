//! RELIABILITY, faults 17 and 18: each script fifty times.
use std::{
    thread,
    time::{Duration, Instant},
};

use bpo_annotate::{Abstention, Error, Verdict};
use serde_json::{Value, json};

use crate::{
    built, pairs, quick, right,
    server::{Act, Asked, Server, honest, says},
    verdicts,
};

/// How often each script is played, and the questions each time: fewer than the quota needs to conclude anything.
const TIMES: usize = 50;
const QUESTIONS: usize = 6;

/// What all questions of a script come to.
enum Outcome {
    Right,
    /// All ties.
    Tie,
    /// All abstain for the reason of this name.
    Abstain(&'static str),
}

/// A fault, what it must come to, and how often each question is put.
type Row = (&'static str, fn(&Asked) -> Act, Value, Outcome, usize);

fn status(status: u16) -> Act {
    Act::Json(status, json!({"error": {"message": "not now"}}))
}

/// Fails `times` first, then is honest: tries of one question are told apart by its text.
fn after(asked: &Asked, times: usize, fault: Act) -> Act {
    use std::{collections::HashMap, sync::Mutex};
    static SEEN: Mutex<Option<HashMap<String, usize>>> = Mutex::new(None);
    let mut seen = SEEN.lock().unwrap();
    let host = asked.head.lines().find(|line| line.to_lowercase().starts_with("host:")).unwrap_or_default();
    let count = seen.get_or_insert_default().entry(format!("{host}{}", asked.body)).or_default();
    *count += 1;
    if *count <= times { fault } else { honest(asked) }
}

fn choices(count: usize) -> Act {
    let choice = json!({"message": {"content": "A"}, "finish_reason": "stop"});
    Act::Json(200, json!({"choices": vec![choice; count]}))
}

fn rows() -> Vec<Row> {
    use Outcome::{Abstain, Right, Tie};
    let none = || json!({});
    let one_try = || json!({"tries": 1});
    vec![
        ("an honest judge", honest, none(), Right, 1),
        ("408 twice", |asked| after(asked, 2, status(408)), none(), Right, 3),
        (
            "429 with Retry-After",
            |asked| after(asked, 1, Act::With(429, "retry-after: 0".into(), b"slow".into())),
            none(),
            Right,
            2,
        ),
        ("503 three times", |asked| after(asked, 3, status(503)), none(), Right, 4),
        ("500 for ever", |_| status(500), none(), Abstain("http_status"), 4),
        (
            "a Retry-After beyond the deadline",
            |_| Act::With(429, "retry-after: 3600".into(), Vec::new()),
            none(),
            Abstain("http_status"),
            1,
        ),
        ("400", |_| status(400), none(), Abstain("http_status"), 1),
        ("422", |_| status(422), none(), Abstain("http_status"), 1),
        (
            "a hang",
            |_| Act::Hang(Duration::from_millis(600)),
            json!({"timeout_s": 0.1, "tries": 2}),
            Abstain("timed_out"),
            2,
        ),
        ("a reset once", |asked| after(asked, 1, Act::Reset), none(), Right, 2),
        ("a reset for ever", |_| Act::Reset, none(), Abstain("unreachable"), 4),
        (
            "a slow drip",
            |_| Act::Drip(Duration::from_millis(20)),
            json!({"timeout_s": 0.1, "tries": 1}),
            Abstain("timed_out"),
            1,
        ),
        (
            "a reply cut short",
            |_| Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"choices\"".into()),
            one_try(),
            Abstain("unreachable"),
            1,
        ),
        ("no HTTP at all", |_| Act::Raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".into()), one_try(), Abstain("unreachable"), 1),
        (
            "garbage",
            |_| Act::With(200, "x: y".into(), b"\xff\xfe<html>[[A]]</html>".into()),
            none(),
            Abstain("malformed"),
            1,
        ),
        ("JSON that is no completion", |_| Act::Json(200, json!({"verdict": "A"})), none(), Abstain("malformed"), 1),
        ("no choice", |_| choices(0), none(), Abstain("malformed"), 1),
        ("two choices", |_| choices(2), none(), Abstain("malformed"), 1),
        ("both named", |_| says("A or B"), none(), Abstain("malformed"), 1),
        ("both marked", |_| says("[[A]] [[B]]"), none(), Abstain("malformed"), 1),
        ("neither named", |_| says("I cannot judge that."), none(), Abstain("malformed"), 1),
        ("a tie", |_| says("tie"), none(), Tie, 1),
        ("the first one, always", |_| says("A"), json!({"both_orders": true}), Tie, 2),
        ("the second one, always", |_| says("B"), json!({"both_orders": true}), Tie, 2),
        (
            "cut at its length",
            |_| Act::Json(200, json!({"choices": [{"message": {"content": "A"}, "finish_reason": "length"}]})),
            none(),
            Abstain("malformed"),
            1,
        ),
        (
            "a reply of 8 MiB",
            |_| Act::With(200, "x: y".into(), vec![b'A'; 8 << 20]),
            json!({"timeout_s": 5.0}),
            Abstain("malformed"),
            1,
        ),
    ]
}

#[test]
fn no_fault_of_a_service_is_ever_a_label() {
    let begun = Instant::now();
    for (name, script, more, outcome, puts) in rows() {
        let times = if name.contains("MiB") { TIMES / 10 } else { TIMES };
        let server = Server::start(script);
        let play = |time: usize| {
            let asked = pairs(1000 * time, QUESTIONS);
            let started = Instant::now();
            let mut judge = built(&quick(&server.url, &more));
            let given = verdicts(judge.compare(&asked).unwrap_or_else(|error| panic!("{name}: {error}")));
            assert!(started.elapsed() < Duration::from_secs(6), "{name}: {:?}", started.elapsed());
            assert_eq!(given.len(), QUESTIONS, "{name}");
            for (pair, verdict) in asked.iter().zip(&given) {
                match (&outcome, verdict) {
                    (Outcome::Right, verdict) => assert_eq!(*verdict, right(pair), "{name}"),
                    (Outcome::Tie, verdict) => assert_eq!(*verdict, Verdict::Tie, "{name}"),
                    (Outcome::Abstain(reason), Verdict::Abstain(why)) => {
                        assert_eq!(why.reason(), *reason, "{name}: {why}")
                    }
                    (Outcome::Abstain(_), verdict) => panic!("{name} became {verdict:?}"),
                }
            }
        };
        thread::scope(|scope| {
            for lane in 0..10 {
                let play = &play;
                scope.spawn(move || (lane..times).step_by(10).for_each(play));
            }
        });
        let (asked, most) = (server.asked().len(), puts * QUESTIONS * times);
        match outcome {
            // A busy server may not have read what its client has given up.
            Outcome::Abstain("timed_out") => assert!(asked <= most && asked > most / 2, "{name}: {asked} tries"),
            _ => assert_eq!(asked, most, "{name}: tries"),
        }
    }
    eprintln!("{} scripts in {:?}", rows().len(), begun.elapsed());
}

#[test]
fn a_server_that_is_not_there_is_unreachable() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let given = verdicts(built(&quick(&format!("http://{closed}"), &json!({}))).compare(&pairs(0, 3)).unwrap());
    assert!(given.iter().all(|verdict| matches!(verdict, Verdict::Abstain(Abstention::Unreachable(_)))), "{given:?}");
}

#[test]
fn a_wrong_key_path_or_model_ends_at_the_first_reply_and_shows_the_status() {
    for status in [301, 401, 403, 404, 405] {
        let server = Server::start(move |_| Act::Json(status, json!({"detail": "nothing here"})));
        let error = built(&quick(&server.url, &json!({"concurrency": 1}))).compare(&pairs(0, 50)).unwrap_err();
        let told = error.to_string();
        assert!(told.contains(&format!("HTTP {status}")) && told.contains("nothing here"), "{told}");
        assert!(matches!(error, Error::Endpoint { .. }));
        assert_eq!(server.asked().len(), 1);
    }
}

#[test]
fn after_an_answer_such_a_reply_is_an_abstention() {
    let server = Server::start(|asked| if asked.number == 0 { honest(asked) } else { Act::Json(404, json!({})) });
    let given = verdicts(built(&quick(&server.url, &json!({"concurrency": 1}))).compare(&pairs(0, 3)).unwrap());
    assert!(given[0].is_preference());
    assert!(given[1..].iter().all(|verdict| matches!(verdict, Verdict::Abstain(Abstention::Status(_)))), "{given:?}");
}

#[test]
fn a_tenth_of_abstentions_is_endured_and_more_is_not() {
    let script =
        |every: usize| move |asked: &Asked| if asked.number % every == every - 1 { says("hm") } else { honest(asked) };
    let judge = |server: &Server| built(&quick(&server.url, &json!({"concurrency": 1})));
    let server = Server::start(script(11));
    assert_eq!(judge(&server).compare(&pairs(0, 400)).unwrap().len(), 400);
    let server = Server::start(script(8));
    let error = judge(&server).compare(&pairs(0, 400)).unwrap_err();
    assert!(matches!(error, Error::TooManyAbstentions { abstained: 3, asked: 24, .. }), "{error}");
    assert_eq!(server.asked().len(), 24);
}

#[test]
fn a_batch_has_an_end_whatever_its_questions_do() {
    let server = Server::start(|_| Act::Hang(Duration::from_millis(300)));
    let patience = json!({"batch_timeout_s": 0.4, "timeout_s": 0.2, "concurrency": 2});
    let started = Instant::now();
    let given = verdicts(built(&quick(&server.url, &patience)).compare(&pairs(0, 15)).unwrap());
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(given.iter().all(|verdict| *verdict == Verdict::Abstain(Abstention::TimedOut)), "{given:?}");
}

#[test]
fn questions_under_way_together_are_not_mixed_up() {
    let slow = |asked: &Asked| {
        thread::sleep(Duration::from_millis((asked.number % 7) as u64 * 3));
        honest(asked)
    };
    let server = Server::start(slow);
    let asked = pairs(0, 200);
    for order in ["random", "given"] {
        let mut judge = built(&quick(&server.url, &json!({"order": order, "concurrency": 16, "timeout_s": 2.0})));
        let given = verdicts(judge.compare(&asked).unwrap());
        assert!(asked.iter().zip(&given).all(|(pair, verdict)| right(pair) == *verdict));
    }
}
