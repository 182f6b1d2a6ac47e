//! Outputs as a dotenv file, for platforms that carry variables from job to job that way.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::PathBuf,
};

use protected_model::environment::Environment;

/// Names the file that outputs are appended to: in GitLab the job's `artifacts:reports:dotenv`.
pub const DOTENV_VARIABLE: &str = "PROTECTED_REGISTRY_DOTENV";

/// The dotenv file, when the job wants one.
pub(crate) struct Dotenv(Option<PathBuf>);

impl Dotenv {
    pub(crate) fn new(environment: &Environment) -> Self {
        Self(environment.get(DOTENV_VARIABLE).map(PathBuf::from))
    }

    /// Appends `NAME=value`, with `name` in upper snake case.
    ///
    /// A line break in `value` would set another variable, such as `PATH` or `NODE_OPTIONS` of the next job.
    ///
    /// # Errors
    /// When `name` or `value` cannot stand in such a file, or it cannot be written.
    pub(crate) fn write(&self, name: &str, value: &str) -> io::Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        let name: String =
            name.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_uppercase() }).collect();
        if !is_name(&name) || value.chars().any(char::is_control) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a name of letters, digits and `_`, and a value of one line, can stand in a dotenv file",
            ));
        }
        append(path, &format!("{name}={value}\n"))
    }
}

/// Returns whether `name` is a letter or `_`, then letters, digits, `_` and `-`.
pub(crate) fn is_name(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(first) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// Appends `text` to the file at `path` in one write.
pub(crate) fn append(path: impl AsRef<std::path::Path>, text: &str) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appends_in_upper_snake_case() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("out.env");
        let text = path.to_str().expect("path");
        let dotenv = Dotenv::new(&[(DOTENV_VARIABLE, text)].into_iter().collect());
        dotenv.write("published-packages", r#"[{"name":"@acme/core"}]"#).expect("write");
        dotenv.write("integrity", "sha512-AA==").expect("write");
        let expected = "PUBLISHED_PACKAGES=[{\"name\":\"@acme/core\"}]\nINTEGRITY=sha512-AA==\n";
        assert_eq!(std::fs::read_to_string(&path).expect("read"), expected);
        for (name, value) in [
            ("a", "x\nPATH=/evil"),
            ("a", "x\rPATH=/evil"),
            ("a", "x\0"),
            ("a=b", "x"),
            ("a\nPATH", "x"),
            ("", "x"),
            ("1a", "x"),
        ] {
            assert!(dotenv.write(name, value).is_err(), "{name} {value}");
        }
        assert_eq!(std::fs::read_to_string(&path).expect("read"), expected);
    }

    #[test]
    fn without_a_file_there_is_nothing_to_write() {
        Dotenv::new(&Environment::default()).write("a", "b").expect("nothing");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error() {
        let dotenv = Dotenv::new(&[(DOTENV_VARIABLE, "/does/not/exist/out.env")].into_iter().collect());
        assert!(dotenv.write("a", "b").is_err());
    }
}
