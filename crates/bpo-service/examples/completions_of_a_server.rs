//! Completions with log-probs from a server that speaks OpenAI's protocol, as vLLM does.
//!
//!     cargo run --release -p bpo-service --example completions_of_a_server -- http://127.0.0.1:8000/v1 MODEL
//!
//! Without an address it asks a server of its own, on a thread, which answers every prompt with two tokens.
#![allow(clippy::print_stdout, reason = "an example tells what it does")]
#![allow(clippy::disallowed_methods, reason = "a program of its own, without flags")]

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use bpo_service::{Asked, Drawing, SamplerConfig, ServiceUrl};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let (address, model) = match (words.next(), words.next()) {
        (Some(address), Some(model)) => (address, model),
        _ => (serve()?, "tiny".into()),
    };
    let settings = json!({"url": ServiceUrl::new(&address)?, "format": "vllm", "model": model});
    let config: SamplerConfig = serde_json::from_value(settings)?;
    let sampler = config.build(|name| std::env::var(name).ok())?;
    let how = Drawing {
        max_new_tokens: 8,
        min_new_tokens: 0,
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        eos_ids: vec![2],
        vocab: 32_000,
    };
    // One seed for each completion: the same question has the same answer, where the server keeps its word.
    let asked = [7, 8].map(|seed| Asked { ids: &[1, 5, 6], text: "Once upon", seed, room: 100 });
    for drawn in sampler.draw(&asked, &how, |_| ())? {
        println!("{drawn:?}");
        assert!(!drawn.text.is_empty());
    }
    Ok(())
}

/// Answers on a free port for as long as the program runs; its address.
fn serve() -> std::io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}/v1", listener.local_addr()?);
    std::thread::spawn(move || {
        listener.incoming().flatten().for_each(|stream| drop(std::thread::spawn(|| answer(stream))))
    });
    Ok(address)
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut text = Vec::new();
    loop {
        let mut part = [0; 4096];
        let length = stream.read(&mut part)?;
        text.extend_from_slice(&part[..length]);
        let body = text.windows(4).position(|end| end == b"\r\n\r\n").map(|end| &text[end + 4..]);
        if length == 0 || body.is_some_and(|body| serde_json::from_slice::<Value>(body).is_ok()) {
            break;
        }
    }
    let choice = json!({"text": " a time", "token_ids": [9, 2], "logprobs": {"token_logprobs": [-0.5, -1.0]}, "finish_reason": "stop"});
    let body = json!({"choices": [choice]}).to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}
