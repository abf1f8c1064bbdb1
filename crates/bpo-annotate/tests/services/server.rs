//! A server on this machine that does what a script says: what a judge may do wrong, on purpose.
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// How many came before it.
    pub number: usize,
    /// The request line and the headers.
    pub head: String,
    /// The body, null where it is no JSON.
    pub body: Value,
}

/// What the server does.
#[derive(Debug, Clone)]
pub enum Act {
    /// A status and JSON.
    Json(u16, Value),
    /// A status, a header line and a body.
    With(u16, String, Vec<u8>),
    /// These bytes, then the end.
    Raw(Vec<u8>),
    /// Nothing, for so long.
    Hang(Duration),
    /// The connection is reset.
    Reset,
    /// The head of a reply, then a byte at a time with so much time between.
    Drip(Duration),
}

/// Runs until the process ends.
pub struct Server {
    /// Where it listens, `http://127.0.0.1:PORT`.
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Starts one that does what `script` says for each request.
    pub fn start(script: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (log, script) = (Arc::clone(&asked), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, script) = (Arc::clone(&log), Arc::clone(&script));
                thread::spawn(move || serve(stream, &log, &*script));
            }
        });
        Self { url, asked }
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets them.
    pub fn forget(&self) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<Asked>>, script: &(dyn Fn(&Asked) -> Act + Send + Sync)) {
    while let Some((length, mut asked)) = next(&stream) {
        {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            asked.number = log.len();
            log.push(asked.clone());
        }
        let act = script(&asked);
        if matches!(act, Act::Reset) {
            // What is closed with something left to read is reset.
            return;
        }
        let _ = stream.read_exact(&mut vec![0; length]);
        if !done(&mut stream, act) {
            return;
        }
    }
}

/// The next request and its length, left in the socket.
fn next(stream: &TcpStream) -> Option<(usize, Asked)> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = stream.peek(&mut buffer).ok().filter(|count| *count > 0)?;
        let text = &buffer[..count];
        if let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&text[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            let whole = end + 4 + length.unwrap_or(0);
            if count >= whole {
                let body = serde_json::from_slice(&text[end + 4..whole]).unwrap_or(Value::Null);
                return Some((whole, Asked { number: 0, head, body }));
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Whether the connection goes on.
fn done(stream: &mut TcpStream, act: Act) -> bool {
    match act {
        Act::Json(status, body) => sent(stream, status, "content-type: application/json", body.to_string().as_bytes()),
        Act::With(status, header, body) => sent(stream, status, &header, &body),
        Act::Raw(bytes) => {
            let _ = stream.write_all(&bytes);
            false
        }
        Act::Hang(time) => {
            thread::sleep(time);
            false
        }
        Act::Drip(time) => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{");
            while stream.write_all(b" ").is_ok() {
                thread::sleep(time);
            }
            false
        }
        Act::Reset => false,
    }
}

fn sent(stream: &mut TcpStream, status: u16, header: &str, body: &[u8]) -> bool {
    let head = format!("HTTP/1.1 {status} Said\r\n{header}\r\ncontent-length: {}\r\n\r\n", body.len());
    // In one piece: two wait for each other's acknowledgement.
    stream.write_all(&[head.as_bytes(), body].concat()).is_ok()
}

/// A chat completion.
pub fn says(text: &str) -> Act {
    let choice = json!({"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"});
    let usage = json!({"prompt_tokens": 90, "completion_tokens": 1, "total_tokens": 91});
    Act::Json(200, json!({"object": "chat.completion", "choices": [choice], "usage": usage}))
}

/// The two responses that a comparison shows, in its order.
pub fn shown(asked: &Asked) -> [String; 2] {
    let text = asked.body["messages"]
        .as_array()
        .and_then(|all| all.last())
        .map_or("", |last| last["content"].as_str().unwrap_or_default());
    ["A", "B"].map(|label| {
        let begin = text.split_once(&format!("[Response {label}]\n")).map_or("", |(_, rest)| rest);
        begin.split_once(&format!("\n[The end of response {label}]")).map_or("", |(inside, _)| inside).to_owned()
    })
}

/// What an honest judge says who likes `good` in a response.
pub fn honest(asked: &Asked) -> Act {
    match shown(asked).map(|text| text.contains("good")) {
        [true, false] => says("A"),
        [false, true] => says("B"),
        _ => says("tie"),
    }
}
