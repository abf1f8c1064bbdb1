//! The toy in a process of its own, which can be killed: this very test binary, asked for [`toy_in_a_child`] alone.
use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bpo_store::{
    Io,
    faults::{AbortAt, Moment},
};
use serde::{Deserialize, Serialize};

use crate::{scratch::starting, toy::Toy};

const ORDER: &str = "BPO_STORE_TOY";
/// How a child ends that was refused.
pub const REFUSED: i32 = 4;

/// What a child is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    pub folder: PathBuf,
    pub seed: u64,
    pub steps: u64,
    pub pause_micros: u64,
    /// A file that gets one line for each step whose questions are asked.
    pub asked: PathBuf,
    /// The operation at which it ends without a word, and whether after it.
    pub abort: Option<(u64, bool)>,
}

impl Order {
    pub fn new(folder: &Path, toy: &Toy) -> Self {
        let (folder, asked) = (folder.to_owned(), folder.with_extension("asked"));
        Self {
            folder,
            seed: toy.seed,
            steps: toy.steps,
            pause_micros: toy.pause.as_micros() as u64,
            asked,
            abort: None,
        }
    }

    /// Starts a child.
    pub fn spawn(&self) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child::toy_in_a_child", "--nocapture", "--test-threads=1"]);
        command.env(ORDER, serde_json::to_string(self).unwrap());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let _starting = starting();
        command.spawn().unwrap()
    }

    /// The steps whose questions were asked so far.
    pub fn asked(&self) -> Vec<u64> {
        let text = std::fs::read_to_string(&self.asked).unwrap_or_default();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }
}

/// No test, unless a test of this binary has started it.
#[test]
fn toy_in_a_child() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let order: Order = serde_json::from_str(&order).unwrap();
    let io = match order.abort {
        None => Io::real(),
        Some((nth, after)) => {
            let moment = if after { Moment::After } else { Moment::Before };
            Io::past(Arc::new(AbortAt::new(nth, moment)))
        }
    };
    let toy = Toy { pause: Duration::from_micros(order.pause_micros), ..Toy::new(order.seed, order.steps) };
    let mut asked = OpenOptions::new().create(true).append(true).open(&order.asked).unwrap();
    let ended = toy.run(io, &order.folder, |step| writeln!(asked, "{step}").unwrap());
    if let Err(error) = ended {
        eprintln!("error: {error}");
        std::process::exit(REFUSED);
    }
}
