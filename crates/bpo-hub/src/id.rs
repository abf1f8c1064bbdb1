use std::{fmt, str::FromStr};

/// A model on the hub, or one file of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id {
    /// `owner/name`.
    pub repository: String,
    /// A branch, a tag or a commit; `main` where nothing is said.
    pub revision: Option<String>,
    /// A file of the repository, below its folders; the whole model where nothing is said.
    pub file: Option<String>,
}

/// The longest name of an owner, of a model or of a revision.
const LONGEST: usize = 96;

impl FromStr for Id {
    type Err = String;

    /// `owner/name`, `owner/name@revision`, `owner/name/…/file.gguf`.
    fn from_str(text: &str) -> Result<Self, String> {
        let refused =
            || format!("\"{text}\" is no model of the hub: owner/name, owner/name@revision or owner/name/file.gguf");
        let (path, revision) = text.split_once('@').map_or((text, None), |(path, revision)| (path, Some(revision)));
        let parts: Vec<&str> = path.split('/').collect();
        let (repository, file) = parts.split_at(parts.len().min(2));
        // A file that is not here is no model of that name.
        let is_file_name = repository.last().is_none_or(|name| name.to_ascii_lowercase().ends_with(".gguf"));
        let is_whole = repository.len() == 2 && !is_file_name && parts.iter().all(|part| is_name(part));
        let is_file = file.last().is_none_or(|last| last.to_ascii_lowercase().ends_with(".gguf"));
        let is_revision = revision.is_none_or(|revision| revision.split('/').all(is_name));
        if !(is_whole && is_file && is_revision) {
            return Err(refused());
        }
        Ok(Self {
            repository: repository.join("/"),
            revision: revision.map(str::to_owned),
            file: (!file.is_empty()).then(|| file.join("/")),
        })
    }
}

/// What names are made of: nothing that leads to another folder or needs to be escaped in an address.
fn is_name(part: &str) -> bool {
    let is_letter = |letter: u8| letter.is_ascii_alphanumeric() || b"._-".contains(&letter);
    !part.is_empty() && part.len() <= LONGEST && !part.starts_with(['.', '-']) && part.bytes().all(is_letter)
}

impl Id {
    /// The revision, `main` by default.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// Whether the revision is a commit, which never changes.
    pub(crate) fn is_pinned(&self) -> bool {
        is_commit(self.revision())
    }

    /// The folder of the repository in the cache.
    pub(crate) fn folder(&self) -> String {
        format!("models--{}", self.repository.replace('/', "--"))
    }
}

/// Whether a text is the full hash of a commit.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for Id {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.repository)?;
        self.file.iter().try_for_each(|file| write!(out, "/{file}"))?;
        self.revision.iter().try_for_each(|revision| write!(out, "@{revision}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_revisions_and_files_are_told_apart_and_written_alike() {
        for text in ["a/b", "Qwen/Qwen2.5-0.5B", "a/b@refs/pr/3", "a/b@v1.0", "a/b/c.gguf", "a/b/q/c.GGUF@main"] {
            assert_eq!(text.parse::<Id>().unwrap().to_string(), text);
        }
        let id: Id = "a/b/q/c.gguf@v1".parse().unwrap();
        assert_eq!((id.file.as_deref(), id.revision(), id.folder().as_str()), (Some("q/c.gguf"), "v1", "models--a--b"));
        assert_eq!("a/b".parse::<Id>().unwrap().revision(), "main");
    }

    #[test]
    fn paths_are_no_names() {
        let long = format!("a/{}", "b".repeat(97));
        for text in [
            "",
            "a",
            "./a/b",
            "../b",
            "/a/b",
            "~/b",
            "a/b/",
            "a//b",
            "a/..",
            "a/b/c",
            "a/b@",
            "a/b@../x",
            "a b/c",
            "a/b?c",
            "a/b#c",
            "a\\b/c",
            "C:/b",
            "a/b@@x",
            "a/b/../c.gguf",
            "a/b.gguf",
            &long,
        ] {
            assert!(text.parse::<Id>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_commit_is_forty_digits() {
        assert!(is_commit(&"0a".repeat(20)));
        assert!(!is_commit(&"0A".repeat(20)) && !is_commit("main") && !is_commit(&"0".repeat(39)));
    }
}
