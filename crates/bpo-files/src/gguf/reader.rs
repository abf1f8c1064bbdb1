//! Little-endian numbers and texts, never beyond the end of the file.

use std::io::Read;

/// Longest text that is read, in bytes; chat templates have some tens of thousands.
const MAX_TEXT: u64 = 16 << 20;

/// A header in the course of being read; what goes wrong is a reason in words.
pub(super) struct Reader<R> {
    input: R,
    /// Bytes read so far.
    pub at: u64,
    /// Length of the file.
    size: u64,
}

impl<R: Read> Reader<R> {
    pub fn new(input: R, size: u64) -> Self {
        Self { input, at: 0, size }
    }

    /// Bytes not yet read.
    pub fn rest(&self) -> u64 {
        self.size - self.at
    }

    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.fill(&mut bytes).map(|()| bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), String> {
        if bytes.len() as u64 > self.rest() {
            return Err(format!(
                "it ends at byte {}, in the middle of its header; is the download complete?",
                self.size
            ));
        }
        self.input.read_exact(bytes).map_err(|error| error.to_string())?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    pub fn u32(&mut self) -> Result<u32, String> {
        self.bytes().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, String> {
        self.bytes().map(u64::from_le_bytes)
    }

    /// A count of things that take at least `least` bytes each in what is left of the file.
    pub fn count(&mut self, what: &str, least: u64, most: u64) -> Result<usize, String> {
        let count = self.u64()?;
        let room = self.rest() / least;
        if count > most.min(room) {
            let why = if count > most { format!("at most {most} are read") } else { format!("it has room for {room}") };
            return Err(format!("it says it has {count} {what}; {why}"));
        }
        Ok(count as usize)
    }

    /// A text of at most `most` bytes.
    pub fn text(&mut self, most: u64) -> Result<String, String> {
        let length = self.u64()?;
        if length > most.min(self.rest()) {
            return Err(format!("a text at byte {} says it has {length} bytes", self.at));
        }
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| format!("the text before byte {} is not UTF-8", self.at))
    }

    /// A text of any length that is ever needed.
    pub fn long_text(&mut self) -> Result<String, String> {
        self.text(MAX_TEXT)
    }
}
