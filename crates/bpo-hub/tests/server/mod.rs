//! A hub on this machine: heads, redirects to a store on another port, ranges, and failures on purpose.
#![allow(dead_code, reason = "each of its users uses its part")]
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use sha2::{Digest, Sha256};

/// The commit that `main` is.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the hub has, and how it behaves.
#[derive(Clone, Default)]
pub struct Content {
    /// Contents by path. Those of `.safetensors` and `.gguf` are in the store, behind a redirect.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Token that is asked for, and the status where it is another or none.
    pub locked: Option<(String, u16)>,
    /// The store breaks each first connection after so many bytes.
    pub breaks_after: Option<usize>,
    /// The store breaks every connection at the end of as many bytes of a file, however often it is asked.
    pub ends_at: Option<usize>,
    /// The store sends this in place of a file's last byte.
    pub last_byte: Option<u8>,
    /// The store takes no notice of ranges.
    pub ignores_ranges: bool,
    /// What heads say the commit is.
    pub commit: Option<String>,
    /// What heads say the etag is.
    pub etag: Option<String>,
    /// Name that the model had before.
    pub renamed: Option<(String, String)>,
}

pub struct Hub {
    pub url: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    /// A model `own/model`.
    pub fn start(content: Content) -> Self {
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let content = Arc::new(content);
        let broken: Arc<Mutex<Vec<String>>> = Arc::default();
        let store = {
            let (content, log, broken) = (content.clone(), log.clone(), broken);
            listen(move |request, stream| store(&content, &log, &broken, request, stream))
        };
        let url = {
            let log = log.clone();
            listen(move |request, stream| hub(&content, &log, &store, request, stream))
        };
        Self { url, log }
    }

    /// `METHOD /path` of every request since the last time, with `auth` or a range behind it.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Request {
    method: String,
    path: String,
    token: Option<String>,
    offset: usize,
}

fn listen(serve: impl Fn(&Request, &mut TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || {
                if let Some(request) = request(&stream) {
                    serve(&request, &mut stream);
                }
            });
        }
    });
    url
}

fn request(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut token, mut offset) = (None, 0);
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => token = value.trim().strip_prefix("Bearer ").map(str::to_owned),
            "range" => offset = value.trim().strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()?,
            _ => {}
        }
    }
    Some(Request { method, path, token, offset })
}

fn note(log: &Mutex<Vec<String>>, request: &Request, host: &str) {
    let token = if request.token.is_some() { " auth" } else { "" };
    let range = if request.offset > 0 { format!(" from {}", request.offset) } else { String::new() };
    let line = format!("{} {host}{}{token}{range}", request.method, request.path);
    log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
}

fn answer(stream: &mut TcpStream, status: u16, headers: &[(&str, String)], body: &[u8]) {
    let mut head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\n");
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    // A client that has gone is no concern of a test's server.
    let _ = stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(body));
}

fn hub(content: &Content, log: &Mutex<Vec<String>>, store: &str, request: &Request, stream: &mut TcpStream) {
    note(log, request, "");
    let length = |bytes: usize| ("content-length", bytes.to_string());
    if let Some((token, status)) = &content.locked
        && request.token.as_ref() != Some(token)
    {
        return answer(stream, *status, &[length(0)], b"");
    }
    if let Some((old, new)) = &content.renamed
        && let Some(rest) = request.path.strip_prefix(&format!("/{old}/"))
    {
        return answer(stream, 307, &[length(0), ("location", format!("/{new}/{rest}"))], b"");
    }
    let rest = request.path.strip_prefix("/own/model/resolve/").and_then(|rest| rest.split_once('/'));
    let code = |code: &str| [length(0), ("x-error-code", code.to_owned())];
    let Some((revision, file)) = rest else { return answer(stream, 404, &code("RepoNotFound"), b"") };
    if !["main", "refs%2Fpr%2F1", COMMIT].contains(&revision) {
        return answer(stream, 404, &code("RevisionNotFound"), b"");
    }
    let Some(bytes) = content.files.get(file) else { return answer(stream, 404, &code("EntryNotFound"), b"") };
    let commit = ("x-repo-commit", content.commit.clone().unwrap_or_else(|| COMMIT.to_owned()));
    let is_large = file.ends_with(".safetensors") || file.ends_with(".gguf");
    let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    // Of small files the hub's tag is git's hash, of large ones the SHA-256.
    let tag = if is_large { &hash[..] } else { &hash[..40] };
    let etag = content.etag.clone().unwrap_or_else(|| format!("\"{tag}\""));
    if is_large {
        let size = ("x-linked-size", bytes.len().to_string());
        let place = ("location", format!("{store}/{file}"));
        return answer(stream, 302, &[length(0), commit, ("x-linked-etag", etag), size, place], b"");
    }
    let body: &[u8] = if request.method == "HEAD" { b"" } else { bytes };
    answer(stream, 200, &[length(bytes.len()), commit, ("etag", etag)], body);
}

fn store(
    content: &Content,
    log: &Mutex<Vec<String>>,
    broken: &Mutex<Vec<String>>,
    request: &Request,
    stream: &mut TcpStream,
) {
    note(log, request, "store");
    let Some(bytes) = content.files.get(&request.path[1..]) else { return answer(stream, 404, &[], b"") };
    let offset = if content.ignores_ranges { 0 } else { request.offset };
    let mut bytes = bytes.clone();
    if let (Some(other), Some(last)) = (content.last_byte, bytes.last_mut()) {
        *last = other;
    }
    let rest = &bytes[offset..];
    let status = if offset > 0 { 206 } else { 200 };
    let mut broken = broken.lock().unwrap_or_else(PoisonError::into_inner);
    let first = !broken.contains(&request.path);
    broken.push(request.path.clone());
    let cut = content.breaks_after.filter(|_| first).unwrap_or(rest.len()).min(rest.len());
    let cut = content.ends_at.map_or(cut, |end| cut.min(end.saturating_sub(offset)));
    answer(stream, status, &[("content-length", rest.len().to_string())], &rest[..cut]);
}
