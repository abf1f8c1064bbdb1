//! Which names a caller may give to files: none leaves its folder, none is hidden.

use std::path::{Component, Path, PathBuf};

use crate::Error;

/// A relative path of plain names, or a refusal.
pub(crate) fn relative(name: &str) -> Result<PathBuf, Error> {
    let plain = |part: Component<'_>| match part {
        Component::Normal(part) => !part.to_string_lossy().starts_with('.'),
        _ => false,
    };
    // `Path` skips over `a//b` and `a/.`, which must not be second names of `a/b` and `a`.
    let parts = name.split('/').count();
    let path = Path::new(name);
    let refuse = |reason| Err(refused(name, reason));
    if name.is_empty() || path.components().count() != parts || !path.components().all(plain) {
        return refuse("expected plain names, none of them hidden, below the folder");
    }
    if name.contains(['\\', '\0', ':']) || name.chars().any(char::is_control) {
        return refuse("it holds a character that is not portable");
    }
    Ok(path.to_owned())
}

/// A single plain name, or a refusal.
pub(crate) fn single(name: &str) -> Result<(), Error> {
    if name.contains('/') {
        return Err(refused(name, "expected a single name"));
    }
    relative(name).map(|_| ())
}

/// The refusal of a name.
pub(crate) fn refused(name: &str, reason: &'static str) -> Error {
    Error::Name { name: name.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_are_accepted() {
        assert!(relative("recipe.toml").is_ok());
        assert!(relative("plots/loss.svg").is_ok());
        assert!(single("adapter_model.safetensors").is_ok());
        assert!(single("plots/loss.svg").is_err());
    }

    #[test]
    fn a_name_that_leaves_its_folder_is_refused() {
        for name in [
            "",
            ".",
            "..",
            "../a",
            "a/../b",
            "/etc/passwd",
            "a//b",
            "a/",
            "a/.",
            ".hidden",
            "a/.hidden",
            "a\\b",
            "c:a",
            "a\0b",
            "a\nb",
        ] {
            assert!(relative(name).is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_name_stays_below_its_folder(name in "[a-z./\\\\]{0,12}") {
            if let Ok(path) = relative(&name) {
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
                prop_assert_eq!(path.to_str().unwrap(), name);
            }
        }
    }
}
