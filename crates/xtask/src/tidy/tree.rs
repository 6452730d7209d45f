//! The files that the rules look at: every text file of the checkout that is not built or collected.

use std::path::Path;

use anyhow::Context;

use super::Finding;
use super::source::Source;

/// Larger files are data, and not read.
const FILE_BYTES_MAX: u64 = 2 << 20;
/// Hidden folders that belong to the tree all the same.
const HIDDEN_FOLDERS: [&str; 3] = [".cargo", ".ci", ".github"];
/// In a linked worktree this is a file, which names that machine's folders.
const GIT: &str = ".git";
/// What `.gitignore` leaves out, and what tools leave behind.
const FOREIGN_FOLDERS: [&str; 5] = ["target", "data", "demo-data", "node_modules", "__pycache__"];

/// The texts of the tree.
#[derive(Debug)]
pub(super) struct Tree {
    files: Vec<File>,
}

/// One text file.
#[derive(Debug)]
pub(super) struct File {
    /// From the workspace's root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
    /// For Rust files: the text with comments and literals told apart.
    pub(super) source: Option<Source>,
}

impl Tree {
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        read_folder(root, "", &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| File::new((*path).to_owned(), (*text).to_owned())).collect() }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &File> {
        self.files.iter()
    }

    pub(super) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The Rust files with their sources.
    pub(super) fn rust(&self) -> impl Iterator<Item = (&File, &Source)> {
        self.files.iter().filter_map(|file| Some((file, file.source.as_ref()?)))
    }

    /// The manifests of the crates, with the crate's name, which is its folder's.
    pub(super) fn manifests(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().filter_map(|file| {
            let name = file.path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")?;
            (!name.contains('/')).then_some((name, file))
        })
    }
}

impl File {
    fn new(path: String, text: String) -> Self {
        let source = path.ends_with(".rs").then(|| Source::new(&text));
        Self { path, text, source }
    }

    /// The crate the file belongs to.
    pub(super) fn crate_name(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split('/').next()
    }

    /// Whether the file is part of what a crate builds, and not of its tests, examples and benches.
    pub(super) fn is_product(&self) -> bool {
        self.path.split('/').nth(2) == Some("src")
    }

    /// Whether the file lies in a folder of tests.
    pub(super) fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests")
    }

    pub(super) fn finding(&self, line: usize, text: impl Into<String>) -> Finding {
        Finding { file: self.path.clone(), line, text: text.into() }
    }

    /// The line of a byte of the text, from 1.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// The first line that starts with `start`, from 1; 1 when there is none.
    pub(super) fn line_starting(&self, start: &str) -> usize {
        self.text.lines().position(|line| line.trim_start().starts_with(start)).map_or(1, |index| index + 1)
    }
}

fn read_folder(folder: &Path, path: &str, files: &mut Vec<File>) -> anyhow::Result<()> {
    let unreadable = || format!("{} cannot be read", folder.display());
    for entry in std::fs::read_dir(folder).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
        let kind = entry.file_type().with_context(unreadable)?;
        if kind.is_dir() {
            let hidden = name.starts_with('.') && !HIDDEN_FOLDERS.contains(&name.as_str());
            if !hidden && !FOREIGN_FOLDERS.contains(&name.as_str()) {
                read_folder(&entry.path(), &path, files)?;
            }
            continue;
        }
        let size = entry.metadata().with_context(unreadable)?.len();
        if !kind.is_file() || size > FILE_BYTES_MAX || path == GIT {
            continue;
        }
        let bytes =
            std::fs::read(entry.path()).with_context(|| format!("{} cannot be read", entry.path().display()))?;
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(File::new(path, text));
        }
    }
    Ok(())
}
