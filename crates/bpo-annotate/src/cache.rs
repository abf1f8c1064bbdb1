//! Answers on disk: no question is put twice, not even by another run.
//!
//! A folder has one file per annotator, named after what decides its answers (address, model, template, settings). A
//! line is the hash of a question and its answer, with a checksum: neither prompts nor responses are kept, and a
//! damaged line is no answer. Several runs may share a folder; each reads what the others have added.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Verdict};

/// Digits of the checksum of a line.
const SUM: usize = 16;

/// The BLAKE3 hash of a question, the order of showing included, together with who was asked.
pub(crate) type Key = blake3::Hash;

/// What a service may say. It is never an abstention: those are asked again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    First,
    Second,
    Tie,
    /// A finite number.
    Score(f64),
}

impl Answer {
    /// The verdict; a score is none.
    pub fn verdict(self) -> Option<Verdict> {
        match self {
            Self::First => Some(Verdict::First),
            Self::Second => Some(Verdict::Second),
            Self::Tie => Some(Verdict::Tie),
            Self::Score(_) => None,
        }
    }

    /// The score; a verdict is none.
    pub fn score(self) -> Option<f64> {
        match self {
            Self::Score(score) => Some(score),
            _ => None,
        }
    }
}

/// Hashes the parts of a question: no two lists of parts have the same bytes.
pub(crate) fn key(identity: &str, parts: &[&str]) -> Key {
    let mut hasher = blake3::Hasher::new();
    for part in [identity].iter().chain(parts) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize()
}

/// The answers of one annotator: those of its file, or of this process alone where there is none.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    answers: HashMap<Key, Answer>,
    log: Option<Log>,
}

#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: File,
    /// Bytes that have been read.
    read: u64,
}

impl Cache {
    /// Opens the file of `identity` in `folder`, both made where they are missing.
    pub fn open(folder: &Path, identity: &str) -> Result<Self, Error> {
        let path = folder.join(format!("{}.jsonl", &key(identity, &[]).to_hex()[..32]));
        let opened = std::fs::create_dir_all(folder)
            .and_then(|()| OpenOptions::new().create(true).append(true).read(true).open(&path));
        let file = opened.map_err(|source| Error::Cache { path: path.clone(), source })?;
        let mut cache = Self { answers: HashMap::new(), log: Some(Log { path, file, read: 0 }) };
        cache.refresh()?;
        Ok(cache)
    }

    /// Reads what was added since, by whomever.
    pub fn refresh(&mut self) -> Result<(), Error> {
        let Some(log) = &mut self.log else { return Ok(()) };
        let mut added = Vec::new();
        log.file
            .seek(SeekFrom::Start(log.read))
            .and_then(|_| log.file.read_to_end(&mut added))
            .map_err(|source| Error::Cache { path: log.path.clone(), source })?;
        // What has no end yet may be a line that another process is writing.
        let whole = added.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        log.read += whole as u64;
        self.answers.extend(added[..whole].split(|byte| *byte == b'\n').filter_map(parsed));
        Ok(())
    }

    /// The answer to a question that was put before.
    pub fn get(&self, key: &Key) -> Option<Answer> {
        self.answers.get(key).copied()
    }

    /// Keeps an answer. A line is handed to the system in one piece, behind a line end where a torn line may lie.
    pub fn put(&mut self, key: Key, answer: Answer) -> Result<(), Error> {
        self.answers.insert(key, answer);
        let Some(log) = &mut self.log else { return Ok(()) };
        let failed = |source| Error::Cache { path: log.path.clone(), source };
        let end = log.file.seek(SeekFrom::End(0)).map_err(failed)?;
        let torn = if end > log.read { "\n" } else { "" };
        let line = format!("{torn}{}\n", line(&key, answer));
        let failed = |source| Error::Cache { path: log.path.clone(), source };
        log.file.write_all(line.as_bytes()).map_err(failed)?;
        if torn.is_empty() {
            log.read = end + line.len() as u64;
        }
        Ok(())
    }

    /// Waits until the disk has what was kept.
    pub fn sync(&mut self) -> Result<(), Error> {
        match &mut self.log {
            Some(log) => log.file.sync_data().map_err(|source| Error::Cache { path: log.path.clone(), source }),
            None => Ok(()),
        }
    }
}

/// `KEY ANSWER SUM`, in hexadecimal, JSON and hexadecimal.
fn line(key: &Key, answer: Answer) -> String {
    let text = format!("{} {}", key.to_hex(), serde_json::to_string(&answer).unwrap_or_default());
    let sum = blake3::hash(text.as_bytes()).to_hex();
    format!("{text} {}", &sum[..SUM])
}

fn parsed(line: &[u8]) -> Option<(Key, Answer)> {
    let text = std::str::from_utf8(line).ok()?;
    let (text, sum) = text.rsplit_once(' ')?;
    if blake3::hash(text.as_bytes()).to_hex()[..SUM] != *sum {
        return None;
    }
    let (key, answer) = text.split_once(' ')?;
    let answer: Answer = serde_json::from_str(answer).ok()?;
    let is_sound = answer.score().is_none_or(f64::is_finite);
    Some((Key::from_hex(key).ok()?, answer)).filter(|_| is_sound)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_answer() -> impl Strategy<Value = Answer> {
        let score = any::<f64>().prop_filter("finite", |score| score.is_finite()).prop_map(Answer::Score);
        prop_oneof![Just(Answer::First), Just(Answer::Second), Just(Answer::Tie), score]
    }

    fn only_file(folder: &Path) -> PathBuf {
        std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()
    }

    proptest! {
        #[test]
        fn an_answer_comes_back_as_it_was_and_for_its_question_alone(answer in any_answer(), a in ".*", b in ".*") {
            let folder = tempfile::tempdir().unwrap();
            Cache::open(folder.path(), "judge").unwrap().put(key("judge", &[&a, &b]), answer).unwrap();
            let cache = Cache::open(folder.path(), "judge").unwrap();
            prop_assert_eq!(cache.get(&key("judge", &[&a, &b])), Some(answer));
            prop_assert_eq!(cache.get(&key("judge", &[&format!("{a}{b}")])), None);
            if a != b {
                prop_assert_eq!(cache.get(&key("judge", &[&b, &a])), None);
            }
            prop_assert_eq!(Cache::open(folder.path(), "another").unwrap().get(&key("judge", &[&a, &b])), None);
        }
    }

    #[test]
    fn a_damaged_line_is_no_answer_and_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let keys: Vec<Key> = (0..3).map(|at| key("j", &[&format!("{at}")])).collect();
        let mut cache = Cache::open(folder.path(), "j").unwrap();
        for key in &keys {
            cache.put(*key, Answer::First).unwrap();
        }
        let path = only_file(folder.path());
        let whole = std::fs::read(&path).unwrap();
        let length = whole.len() / 3;
        for at in 0..whole.len() {
            for bit in [0, 5] {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                std::fs::write(&path, &damaged).unwrap();
                let cache = Cache::open(folder.path(), "j").unwrap();
                for (index, key) in keys.iter().enumerate() {
                    let got = cache.get(key);
                    assert!(got.is_none() || got == Some(Answer::First), "byte {at} bit {bit}: {got:?}");
                    // A line end that is gone or new may take the neighbour with it.
                    let is_near = at / length == index || at % length == length - 1;
                    assert!(is_near || got.is_some(), "byte {at} bit {bit}: answer {index} is lost");
                }
            }
        }
    }

    #[test]
    fn a_torn_tail_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two, three] = ["1", "2", "3"].map(|text| key("j", &[text]));
        let mut cache = Cache::open(folder.path(), "j").unwrap();
        cache.put(one, Answer::First).unwrap();
        cache.put(two, Answer::First).unwrap();
        let path = only_file(folder.path());
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let mut cache = Cache::open(folder.path(), "j").unwrap();
            cache.put(three, Answer::Tie).unwrap();
            let cache = Cache::open(folder.path(), "j").unwrap();
            assert_eq!(cache.get(&three), Some(Answer::Tie), "cut at {length}");
            assert_eq!(cache.get(&one).is_some(), length >= whole.len() / 2 - 1, "cut at {length}");
            assert_eq!(cache.get(&two).is_some(), length == whole.len() - 1, "cut at {length}");
        }
    }

    #[test]
    fn two_processes_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mut ours = Cache::open(folder.path(), "j").unwrap();
        let mut theirs = Cache::open(folder.path(), "j").unwrap();
        let keys: Vec<Key> = (0..100).map(|at| key("j", &[&format!("{at}")])).collect();
        for (at, key) in keys.iter().enumerate() {
            let cache = if at % 2 == 0 { &mut ours } else { &mut theirs };
            cache.put(*key, Answer::Score(at as f64)).unwrap();
        }
        for mut cache in [ours, theirs, Cache::open(folder.path(), "j").unwrap()] {
            cache.refresh().unwrap();
            for (at, key) in keys.iter().enumerate() {
                assert_eq!(cache.get(key), Some(Answer::Score(at as f64)));
            }
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let refused = Cache::open(&file.join("cache"), "j").unwrap_err().to_string();
        assert!(refused.contains("file/cache"), "{refused}");
    }
}
