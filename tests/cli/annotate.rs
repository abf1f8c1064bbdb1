use serde_json::{Value, json};

use super::bpo::{Run, arg, bpo, bpo_reading, file};

const LENGTH: &str = "{ kind = 'length', unit = 'chars' }";

/// Three prompts: K = 3, a tie, and one completion alone.
const ROWS: &str = r#"{"prompt":"p","completions":[" bb","ccc","a"]}
{"prompt":"q","responses":["xx","yy"]}
{"prompt":"r","completion":"alone"}
"#;

fn annotate(input: &str, more: &[&str]) -> Run {
    let (_dir, rows) = file("rows.jsonl", input);
    bpo(&[&["annotate", "--responses", arg(&rows)], more].concat())
}

/// A program that compares: `cases` of a shell's `case` over the question; `say` gives a verdict.
#[cfg(unix)]
fn judge(cases: &str) -> String {
    const SAY: &str = r#"say() { printf '{"verdict":"%s"}\n' "$1"; }"#;
    let script = format!("{SAY}\nwhile read -r asked; do case \"$asked\" in {cases} esac; done");
    let program = json!(["sh", "-c", script]);
    format!("{{ kind = \"command\", mode = \"compare\", program = {program} }}")
}

#[cfg(unix)]
const SILENT: &str = r#"printf '{"error":"no idea"}\n';;"#;

#[test]
fn the_best_and_the_worst_of_three_make_a_pair() {
    let run = annotate(ROWS, &["--annotator", LENGTH]);
    let expected =
        "{\"prompt\":\"p\",\"chosen\":\" bb\",\"rejected\":\"a\",\"score_chosen\":3.0,\"score_rejected\":1.0}\n";
    assert_eq!((run.code, run.stdout.as_str()), (0, expected), "{}", run.stderr);
    assert!(run.stderr.contains("1 pairs of 3 prompts; left out: 1 one_completion, 1 tie"), "{}", run.stderr);
}

#[test]
fn pairs_of_generated_completions_are_read_as_preferences() {
    let (_dir, prompts) = file("p.jsonl", "{\"prompt\":\"A small owl\"}\n{\"prompt\":\"A big dog\"}\n");
    let sampled = ["generate", "--model", "embedded", "--prompts", arg(&prompts), "--samples", "3", "--json"];
    let sampled = bpo(&[&sampled[..], &["--max-new-tokens", "12"]].concat());
    let texts = |key: &str, rows: &[Value]| rows.iter().map(|row| row[key].clone()).collect::<Vec<_>>();
    let all = texts("text", &sampled.rows());
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("pairs.jsonl");
    let run = annotate(&sampled.stdout, &["--annotator", LENGTH, "--pairs", "--output", arg(&out)]);
    assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{}", run.stderr);
    let pairs = bpo_reading(&sampled.stdout, &["annotate", "--annotator", LENGTH]);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), pairs.stdout);
    let rows = pairs.rows();
    assert_eq!(texts("prompt", &rows), ["A small owl", "A big dog"]);
    assert!(texts("chosen", &rows).iter().chain(&texts("rejected", &rows)).all(|text| all.contains(text)));
    let told = bpo(&["inspect", "--json", arg(&out)]).rows().remove(0);
    assert_eq!(told["reads_as"]["pairs"], "2 pairs");
}

#[test]
fn rows_of_one_prompt_belong_together_and_messages_stay_messages() {
    let prompt = json!([{"role": "user", "content": "Hi", "name": "Ann"}]);
    let row = |text: &str| format!("{}\n", json!({"prompt": prompt, "text": text, "id": 7}));
    let other = "{\"prompt\":\"Hi\",\"text\":\"longest\"}\n";
    let rows = annotate(&[&row("a"), other, &row("bb")].concat(), &["--annotator", LENGTH]).rows();
    let turn = |text: &str| json!([{"role": "assistant", "content": text}]);
    let expected = json!({
        "prompt": prompt, "chosen": turn("bb"), "rejected": turn("a"), "score_chosen": 2.0, "score_rejected": 1.0,
    });
    assert_eq!(rows, [expected]);
}

#[cfg(unix)]
#[test]
fn a_program_that_compares_gives_pairs_without_scores() {
    // It likes `ccc` best and `a` least.
    let likes = r#"*'"second":"ccc"'*) say second;; *'"first":"ccc"'*|*'"second":"a"'*) say first;; *) say tie;;"#;
    let likes = judge(likes);
    let run = annotate(ROWS, &["--annotator", &likes]);
    assert_eq!(run.rows(), [json!({"prompt": "p", "chosen": "ccc", "rejected": "a"})]);
    annotate(ROWS, &["--annotator", &likes, "--scores"]).refused(2, &["--scores", "only compares"]);
}

#[cfg(unix)]
#[test]
fn both_orders_expose_a_judge_that_prefers_what_it_sees_first() {
    let first = judge("*) say first;;");
    assert_eq!(annotate(ROWS, &["--annotator", &first]).rows().len(), 2);
    let run = annotate(ROWS, &["--annotator", &first, "--both-orders"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, ""), "{}", run.stderr);
    assert!(run.stderr.contains("left out: 1 one_completion, 2 tie"), "{}", run.stderr);
    assert!(
        run.stderr.contains("4 of 4 verdicts changed with the order, 4 for what was shown first"),
        "{}",
        run.stderr
    );
    annotate(ROWS, &["--annotator", LENGTH, "--both-orders"]).refused(2, &["both_orders"]);
}

#[cfg(unix)]
#[test]
fn abstentions_are_counted_and_nothing_else_is_an_annotators_failure() {
    let some = judge(&format!("*xx*) {SILENT} *) say first;;"));
    let run = annotate(ROWS, &["--annotator", &some]);
    assert_eq!(run.rows().len(), 1);
    assert!(run.stderr.contains("left out: 1 failed, 1 one_completion"), "{}", run.stderr);
    let none = judge(&format!("*) {SILENT}"));
    annotate(ROWS, &["--annotator", &none]).refused(5, &["no verdict at all", "no idea"]);
    annotate(ROWS, &["--annotator", &judge("*) exit 3;;")]).refused(5, &["died"]);
}

#[test]
fn every_completion_is_scored_under_the_key_asked_for() {
    let rows = annotate(ROWS, &["--annotator", LENGTH, "--scores"]).rows();
    assert_eq!(rows.len(), 6);
    assert_eq!(rows[0], json!({"prompt": "p", "completion": " bb", "score": 3.0}));
    let rows = annotate(ROWS, &["--annotator", LENGTH, "--scores", "--score-key", "outcome"]).rows();
    assert_eq!(rows[5], json!({"prompt": "r", "completion": "alone", "outcome": 5.0}));
    for bad in [["--scores", "--score-key", "prompt"], ["--pairs", "--score-key", "s"], ["--pairs", "--scores", "-q"]] {
        annotate(ROWS, &[&["--annotator", LENGTH], &bad[..]].concat()).refused(2, &["--score"]);
    }
}

#[test]
fn an_unknown_annotator_exits_2_and_leaves_the_output_alone() {
    let (_dir, out) = file("pairs.jsonl", "precious");
    annotate(ROWS, &["--annotator", "lexcon", "--output", arg(&out)]).refused(2, &["unknown annotator `lexcon`"]);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "precious");
}

#[test]
fn a_malformed_row_exits_3_with_its_line() {
    let refused = |rows: &str, words: &[&str]| annotate(rows, &["--annotator", "lexicon"]).refused(3, words);
    refused("{\"prompt\":\"p\",\"text\":\"a\"}\n{\"prompt\":\"p\"}\n", &["rows.jsonl:2", "unknown schema"]);
    refused("{\"prompt\":\"p\",\"completions\":[\"a\",3]}\n", &["rows.jsonl:1", "`completions`"]);
    refused("{\"prompt\":\"p\",\"text\":\"a\"}\n", &["no prompt has two completions"]);
}
