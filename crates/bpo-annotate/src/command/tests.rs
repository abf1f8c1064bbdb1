use std::time::{Duration, Instant};

use super::*;
use crate::Scored;

/// A program made of a `sh` script.
fn sh(script: &str) -> Command {
    let mut command = Command::new(["/bin/sh", "-c", script]);
    command.timeout = Duration::from_secs(5);
    command
}

fn items(count: usize) -> Vec<Item> {
    let item = |at| Item::new("p", format!("{}\n\"{at}\"", "x".repeat(at)));
    (0..count).map(item).collect()
}

fn scores(command: Command, count: usize) -> Result<Vec<Result<f64, Abstention>>, Error> {
    CommandScorer::start(command)?.score_or_abstain(&items(count))
}

fn pair() -> Comparison {
    Comparison { prompt: "p".into(), first: "a".into(), second: "b".into() }
}

/// Repeats the id of the question; `$id` is the number.
const WITH_ID: &str = r#"while read -r line; do id=${line##*'"id":'}; id=${id%%[,\}]*}; "#;

#[test]
fn one_line_in_gives_one_line_out() {
    let counting = r#"n=0; while read -r line; do n=$((n+1)); echo "{\"score\": $n}"; done"#;
    assert_eq!(scores(sh(counting), 3).unwrap(), [Ok(1.0), Ok(2.0), Ok(3.0)]);
    let echoing = format!(r#"{WITH_ID} echo "{{\"id\": $id, \"score\": $id}}"; done"#);
    assert_eq!(scores(sh(&echoing), 3).unwrap(), [Ok(0.0), Ok(1.0), Ok(2.0)]);
}

#[test]
fn a_judge_gives_verdicts() {
    let script = r#"for v in first second tie '' ; do read -r line; echo "{\"verdict\": \"$v\"}"; done"#;
    let mut judge = CommandJudge::start(sh(script)).unwrap();
    let given = judge.compare(&vec![pair(); 4]).unwrap();
    use Verdict::{First, Second, Tie};
    let verdicts: Vec<_> = given.into_iter().map(|judgement| judgement.verdict).collect();
    assert_eq!(verdicts[..3], [First, Second, Tie]);
    assert!(matches!(&verdicts[3], Verdict::Abstain(Abstention::Malformed(_))));
}

#[test]
fn a_malformed_line_or_a_nan_abstains_for_that_item_alone() {
    let script = format!(
        r#"{WITH_ID} case $id in
            1) echo "oops";;
            2) echo "{{\"id\": 2, \"score\": NaN}}";;
            3) echo "{{\"id\": 3}}";;
            *) echo "{{\"id\": $id, \"score\": $id}}";;
        esac; done"#
    );
    let given = scores(sh(&script), 5).unwrap();
    assert_eq!(given[0], Ok(0.0));
    assert!(matches!(given[1], Err(Abstention::Malformed(_))));
    assert_eq!(given[2], Err(Abstention::NotANumber));
    assert!(matches!(given[3], Err(Abstention::Malformed(_))));
    assert_eq!(given[4], Ok(4.0));
}

#[test]
fn a_dead_program_is_an_error_with_its_status_and_its_last_words() {
    let script = r#"read -r line; echo '{"score": 1}'; read -r line; echo 'no more' >&2; exit 7"#;
    match scores(sh(script), 3).unwrap_err() {
        Error::CommandDied { status, stderr, .. } => {
            assert!(status.contains('7'), "{status}");
            assert!(stderr.contains("no more"), "{stderr}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_last_words_are_cut_to_four_kibibytes() {
    let script = "i=0; while [ $i -lt 2000 ]; do echo noise$i >&2; i=$((i+1)); done; exit 1";
    match scores(sh(script), 1).unwrap_err() {
        Error::CommandDied { stderr, .. } => {
            assert_eq!(stderr.len(), 4096);
            assert!(stderr.ends_with("noise1999\n"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_program_that_does_not_exist_is_found_out_at_the_start() {
    let refused = CommandScorer::start(Command::new(["/nonexistent/judge", "-v"]));
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("/nonexistent/judge -v"), "{message}");
    assert!(CommandScorer::start(Command::new(Vec::<String>::new())).is_err());
}

#[test]
fn a_late_answer_is_never_taken_for_another_question() {
    // The first answer comes after its time, without an id.
    let mut slow = sh(r#"n=0; while read -r line; do
        case $line in *x*) ;; *) sleep 3;; esac; n=$((n+1)); echo "{\"score\": $n}"; done"#);
    slow.timeout = Duration::from_millis(1500);
    let given = scores(slow, 3).unwrap();
    // The program was started afresh: it counts from one again.
    assert_eq!(given, [Err(Abstention::TimedOut), Ok(1.0), Ok(2.0)]);

    // With ids, the late answer is recognised and the program goes on.
    let mut slow = sh(&format!(r#"{WITH_ID} [ $id = 1 ] && sleep 1.8; echo "{{\"id\": $id, \"score\": $id}}"; done"#));
    slow.timeout = Duration::from_millis(1500);
    let given = scores(slow, 4).unwrap();
    let timed_out = Err(Abstention::TimedOut);
    assert_eq!(given, [Ok(0.0), timed_out, Ok(2.0), Ok(3.0)]);
}

#[test]
fn once_ids_are_repeated_an_answer_without_one_abstains() {
    let script =
        format!(r#"{WITH_ID} [ $id = 1 ] && echo '{{"score": 9}}' || echo "{{\"id\": $id, \"score\": $id}}"; done"#);
    let given = scores(sh(&script), 3).unwrap();
    assert!(matches!(given[1], Err(Abstention::Malformed(_))));
    assert_eq!(given[2], Ok(2.0));
}

#[test]
fn an_answer_to_a_question_nobody_asked_is_an_error() {
    let script = r#"while read -r line; do echo '{"id": 99, "score": 1}'; done"#;
    let refused = scores(sh(script), 2);
    assert!(matches!(refused, Err(Error::CommandOutOfStep { asked: 0, .. })));

    let twice = r#"while read -r line; do printf '{"score": 1}\n{"score": 1}\n'; done"#;
    let mut scorer = CommandScorer::start(sh(twice)).unwrap();
    scorer.score(&items(1)).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(matches!(scorer.score(&items(1)), Err(Error::CommandOutOfStep { asked: 1, .. })));
}

#[test]
fn a_greeting_is_not_an_answer() {
    let script = r#"echo '{"status": "ready"}'; while read -r line; do echo '{"score": 1}'; done"#;
    assert!(scores(sh(script), 3).is_err());
}

#[test]
fn a_program_that_never_answers_is_given_up() {
    let mut silent = sh("while read -r line; do :; done");
    silent.timeout = Duration::from_millis(50);
    match scores(silent, 9).unwrap_err() {
        Error::CommandUnusable { unanswered, reason, .. } => {
            assert_eq!((unanswered, reason.as_str()), (3, "no reply in time"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_program_that_never_listens_does_not_hang_its_caller() {
    let mut deaf = Command::new(["sleep", "30"]);
    deaf.timeout = Duration::from_millis(50);
    let started = Instant::now();
    let huge = Item::new("p", "x".repeat(4 << 20));
    let given = CommandScorer::start(deaf).unwrap().score_or_abstain(&[huge]);
    assert_eq!(given.unwrap(), [Err(Abstention::TimedOut)]);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn the_program_is_killed_on_drop() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = sh(r#"echo $$ > pid; read -r line; echo '{"score": 1}'; exec sleep 30"#);
    command.folder = Some(folder.path().to_owned());
    let mut scorer = CommandScorer::start(command).unwrap();
    scorer.score(&items(1)).unwrap();
    let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();
    let alive = || std::path::Path::new("/proc").join(pid.trim()).exists();
    if cfg!(target_os = "linux") {
        assert!(alive());
    }
    drop(scorer);
    assert!(!alive());
}

#[test]
fn a_scoring_program_compares_through_its_scores() {
    let script = r#"while read -r line; do echo "{\"score\": ${#line}}"; done"#;
    let mut annotator = Scored(CommandScorer::start(sh(script)).unwrap());
    let longer = Comparison { first: "a longer text".into(), ..pair() };
    let given = annotator.compare(&[longer.clone(), longer.swap()]).unwrap();
    assert_eq!(given[0].verdict, Verdict::First);
    assert_eq!(given[1].verdict, Verdict::Second);
}
