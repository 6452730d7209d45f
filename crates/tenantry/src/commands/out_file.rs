//! A file that a command writes its result to: there whole, or as it was before.
//!
//! Never leaves half a result under the name that was asked for: an error, Ctrl-C or a full disk would make it look whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A result on its way to its file.
pub(crate) struct OutFile {
    out: BufWriter<File>,
    /// Where it is written, and the name it gets in the end; `None` for what is no file, such as a pipe, which is written to as
    /// it comes.
    names: Option<(PathBuf, PathBuf)>,
}

impl OutFile {
    /// Begins a result that is to lie at `path`. Until [`OutFile::finish`] it lies beside it, under a name that begins with a
    /// dot and ends in `.tmp`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let there = fs::metadata(path).ok();
        if there.as_ref().is_some_and(|there| !there.is_file()) {
            let out = BufWriter::new(File::options().write(true).open(path)?);
            return Ok(Self { out, names: None });
        }
        // Through a link, its target is replaced and not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?;
        let temporary = format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id());
        let temporary = path.with_file_name(temporary);
        let file = File::create(&temporary)?;
        let this = Self { out: BufWriter::new(file), names: Some((temporary, path)) };
        if let Some(there) = there {
            this.out.get_ref().set_permissions(there.permissions())?;
        }
        Ok(this)
    }

    /// All of it is written: gives it its name.
    ///
    /// # Errors
    /// When the last of it cannot be written, or the name not be given.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.out.flush()?;
        match self.names.take() {
            None => Ok(()),
            Some((temporary, path)) => fs::rename(&temporary, path).inspect_err(|_| drop(fs::remove_file(&temporary))),
        }
    }
}

impl Write for OutFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for OutFile {
    fn drop(&mut self) {
        if let Some((temporary, _)) = self.names.take() {
            // Best effort: its name says that it is nothing.
            let _ = fs::remove_file(temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_there_stays_until_all_is_written_and_for_good_when_it_never_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.csv");
        fs::write(&path, "before").unwrap();
        let mut out = OutFile::create(&path).unwrap();
        out.write_all(b"half").unwrap();
        out.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        drop(out);
        assert_eq!(
            (fs::read_to_string(&path).unwrap(), names(folder.path())),
            ("before".to_owned(), vec!["result.csv".to_owned()])
        );
        let mut out = OutFile::create(&path).unwrap();
        out.write_all(b"whole").unwrap();
        out.finish().unwrap();
        assert_eq!(
            (fs::read_to_string(&path).unwrap(), names(folder.path())),
            ("whole".to_owned(), vec!["result.csv".to_owned()])
        );
    }

    #[test]
    fn a_folder_that_is_not_there_and_one_in_place_of_a_file_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        assert!(OutFile::create(&folder.path().join("none/result.csv")).is_err());
        assert!(OutFile::create(folder.path()).is_err());
        assert_eq!(names(folder.path()), Vec::<String>::new());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_one_and_permissions_stay_as_they_were() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("result.csv"), folder.path().join("latest.csv"));
        fs::write(&path, "before").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut out = OutFile::create(&link).unwrap();
        out.write_all(b"whole").unwrap();
        out.finish().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        // What is no file is written to as it comes.
        let mut out = OutFile::create(Path::new("/dev/null")).unwrap();
        out.write_all(b"whole").unwrap();
        out.finish().unwrap();
    }
}
