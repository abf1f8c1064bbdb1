//! Prompts and the messages they are made of.

use serde::{Deserialize, Serialize};

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`, …
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn of `role` saying `content`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }

    /// Whether the assistant speaks.
    pub(crate) fn is_assistant(&self) -> bool {
        self.role == "assistant"
    }
}

/// What the policy is asked to continue.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Prompt {
    /// Plain text, continued as it stands.
    Text(String),
    /// A conversation, rendered with the tokenizer's chat template.
    Messages(Vec<Message>),
}

impl Prompt {
    /// The prompt as plain text, for annotators and for people.
    ///
    /// Text is returned as it is. A conversation of one message is that message's content; a
    /// longer one is a `role: content` line per message.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Messages(messages) => match messages.as_slice() {
                [only] => only.content.clone(),
                several => transcript(several),
            },
        }
    }

    /// Bytes of what is said.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Messages(messages) => messages.iter().map(|message| message.content.len()).sum(),
        }
    }
}

fn transcript(messages: &[Message]) -> String {
    let lines: Vec<String> = messages.iter().map(|m| format!("{}: {}", m.role, m.content)).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_returned_untrimmed() {
        assert_eq!(Prompt::Text(" a \n".into()).text(), " a \n");
    }

    #[test]
    fn one_message_is_its_content_and_several_are_lines() {
        let one = Prompt::Messages(vec![Message::new("user", "hi")]);
        assert_eq!(one.text(), "hi");
        let two = Prompt::Messages(vec![Message::new("system", "be brief"), Message::new("user", "hi")]);
        assert_eq!(two.text(), "system: be brief\nuser: hi");
        assert_eq!(Prompt::Messages(Vec::new()).text(), "");
    }

    #[test]
    fn prompts_are_untagged_in_json() {
        let text: Prompt = serde_json::from_str(r#""hi""#).unwrap();
        assert_eq!(text, Prompt::Text("hi".into()));
        let chat: Prompt = serde_json::from_str(r#"[{"role":"user","content":"hi"}]"#).unwrap();
        assert_eq!(chat, Prompt::Messages(vec![Message::new("user", "hi")]));
        assert_eq!(serde_json::to_string(&text).unwrap(), r#""hi""#);
    }
}
