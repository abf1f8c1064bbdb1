//! From a conversation to ids, with control tokens from the template only.

use super::Tokenizer;
use crate::{Error, Message};

/// Roles that templates spell into control tokens (`<|user|>`); any other is untrusted text.
const ROLES: &[&str] = &[
    "system",
    "developer",
    "user",
    "assistant",
    "tool",
    "function",
    "ipython",
    "model",
    "context",
    "documents",
    "critique",
];

impl Tokenizer {
    /// Renders and encodes a conversation.
    ///
    /// A mark is put behind every character of the contents that may begin a special token. What
    /// the marked rendering still spells comes from the template; where that is all there is, the
    /// unmarked text is encoded in one piece, as `transformers` does.
    pub(super) fn encode_chat(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Vec<u32>, Error> {
        let rendered = self.render_chat(messages, add_generation_prompt)?;
        let mark = unused_char(messages, &rendered)?;
        let marked = self.marked(messages, mark);
        if marked == messages {
            return self.encode_with_specials(&rendered);
        }
        let marked = self.render_chat(&marked, add_generation_prompt)?;
        let is_same = marked.replace(mark, "") == rendered;
        let is_safe = if is_same {
            self.specials.count(&marked) == self.specials.count(&rendered)
        } else {
            // The template looks into contents (`'</think>' in content`): trust it unless they
            // spell a special token.
            !messages.iter().any(|message| self.spells_special(message))
        };
        if is_safe { self.encode_with_specials(&rendered) } else { self.encode_marked(&marked, mark) }
    }

    fn marked(&self, messages: &[Message], mark: char) -> Vec<Message> {
        let marked = |text: &str| {
            let mut out = String::with_capacity(text.len());
            for c in text.chars() {
                out.push(c);
                if self.specials.may_start_with(c) {
                    out.push(mark);
                }
            }
            out
        };
        let each = messages.iter().map(|Message { role, content }| {
            let is_known = ROLES.contains(&role.as_str());
            // A template may put a role into `<|…|>`: mark an unknown one whatever it starts with.
            let role = if is_known { role.clone() } else { format!("{mark}{}", marked(role)) };
            Message { role, content: marked(content) }
        });
        each.collect()
    }

    fn spells_special(&self, message: &Message) -> bool {
        let is_known = ROLES.contains(&message.role.as_str());
        !is_known || self.specials.find(&message.content).is_some()
    }

    /// Encodes a marked rendering piece by piece: special tokens that are spelled without a mark
    /// as such, everything between them as untrusted text.
    fn encode_marked(&self, marked: &str, mark: char) -> Result<Vec<u32>, Error> {
        let mut ids = Vec::new();
        let mut strip_start = false;
        for (text, token) in self.specials.split(marked) {
            let text = text.replace(mark, "");
            let mut text = text.as_str();
            if strip_start {
                text = text.trim_start();
            }
            if token.is_some_and(|token| token.lstrip) {
                text = text.trim_end();
            }
            ids.extend(self.encode(text)?);
            ids.extend(token.map(|token| token.id));
            strip_start = token.is_some_and(|token| token.rstrip);
        }
        Ok(ids)
    }
}

/// A private-use character that occurs neither in the messages nor in what was rendered of them.
fn unused_char(messages: &[Message], rendered: &str) -> Result<char, Error> {
    let texts = messages.iter().flat_map(|m| [m.role.as_str(), m.content.as_str()]);
    let used: std::collections::BTreeSet<char> =
        texts.chain([rendered]).flat_map(str::chars).filter(|c| ('\u{e000}'..='\u{f8ff}').contains(c)).collect();
    ('\u{e000}'..='\u{f8ff}')
        .find(|c| !used.contains(c))
        .ok_or_else(|| Error::Encode("the text uses every private-use character".to_owned()))
}
