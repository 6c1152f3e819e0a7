//! Artifacts as files named by the hash of their content.
//!
//! A file appears under its name only when it is complete, checked and durable; an upload that is cut, wrong or too
//! large leaves nothing behind. Who may upload, how an artifact is called and who refers to it is not known here.
//! All functions block: call them where blocking is allowed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};
use wire::Digest;

use super::file;

/// Directory of the artifacts, inside the data directory.
pub const ARTIFACTS_DIRECTORY: &str = "artifacts";
/// Largest artifact.
pub const ARTIFACT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Uploads at one time.
pub const UPLOADS_MAX: usize = 16;
/// What an unfinished upload is called; a hash never starts like this.
const UNFINISHED_PREFIX: &str = ".upload-";

/// Why an artifact was not stored or read.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// Larger than allowed.
    #[error("the artifact is larger than {limit} bytes. Make it smaller or split it")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// The content is not what was declared.
    #[error("the content has SHA-256 {found}, not {declared}: it was changed on its way. Upload it again")]
    WrongDigest {
        /// What was announced.
        declared: Digest,
        /// What came.
        found: Digest,
    },
    /// The length is not what was declared.
    #[error("{found} bytes came where {declared} were declared: the upload was cut. Upload it again")]
    WrongLength {
        /// What was announced.
        declared: u64,
        /// What came.
        found: u64,
    },
    /// Too many uploads at once.
    #[error("{UPLOADS_MAX} uploads are running. Try again when one of them is done")]
    Busy,
    /// No space.
    #[error("the disk is full. Free some space and upload again")]
    DiskFull,
    /// There is none with this hash.
    #[error("there is no artifact {0}")]
    Unknown(Digest),
    /// A part that the artifact does not have.
    #[error("the artifact has {bytes} bytes: there is nothing at {start}")]
    Range {
        /// Where the part would start.
        start: u64,
        /// What there is.
        bytes: u64,
    },
    /// The file system failed.
    #[error("cannot use {path}: {error}. Check the data directory")]
    File {
        /// Where.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// What was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredArtifact {
    /// SHA-256 of the content.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
}

/// The directory of artifacts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Artifacts(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    uploads: AtomicUsize,
    uploads_made: AtomicU64,
}

/// An upload that is under way. Dropping it removes what came so far.
#[derive(Debug)]
pub struct Upload {
    shared: Arc<Shared>,
    path: PathBuf,
    file: File,
    hasher: Sha256,
    bytes: u64,
    limit: u64,
}

/// A part of an artifact, to be read in pieces.
#[derive(Debug)]
pub struct ArtifactReader {
    part: io::Take<File>,
    /// Length of the whole artifact.
    pub bytes: u64,
}

impl Artifacts {
    /// Opens the directory of artifacts and removes what unfinished uploads left.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn open(data: &Path) -> Result<Self, ArtifactError> {
        let directory = data.join(ARTIFACTS_DIRECTORY);
        let clean = || -> io::Result<()> {
            file::make_directory(&directory)?;
            for entry in std::fs::read_dir(&directory)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(UNFINISHED_PREFIX) {
                    std::fs::remove_file(entry.path())?;
                }
            }
            file::sync_directory(&directory)?;
            file::sync_directory(data)
        };
        clean().map_err(at(&directory))?;
        Ok(Self(Arc::new(Shared { directory, uploads: AtomicUsize::new(0), uploads_made: AtomicU64::new(0) })))
    }

    /// Begins an upload of at most `limit` bytes.
    ///
    /// # Errors
    /// When too many run, or no file can be made.
    pub fn upload(&self, limit: u64) -> Result<Upload, ArtifactError> {
        let shared = Arc::clone(&self.0);
        if shared.uploads.fetch_add(1, Ordering::Relaxed) >= UPLOADS_MAX {
            shared.uploads.fetch_sub(1, Ordering::Relaxed);
            return Err(ArtifactError::Busy);
        }
        let number = shared.uploads_made.fetch_add(1, Ordering::Relaxed);
        let path = shared.directory.join(format!("{UNFINISHED_PREFIX}{number}"));
        match file::create_private(&path) {
            Ok(file) => Ok(Upload { shared, path, file, hasher: Sha256::new(), bytes: 0, limit }),
            Err(error) => {
                shared.uploads.fetch_sub(1, Ordering::Relaxed);
                Err(at(&path)(error))
            }
        }
    }

    /// Length of an artifact; `None` when there is none with this hash.
    #[must_use]
    pub fn bytes(&self, digest: &Digest) -> Option<u64> {
        std::fs::metadata(self.path(digest)).ok().map(|metadata| metadata.len())
    }

    /// Opens a part: `length` bytes (`None`: all) from `start`, or as many as there are.
    ///
    /// # Errors
    /// When there is no such artifact, or nothing at `start`.
    pub fn read(&self, digest: &Digest, start: u64, length: Option<u64>) -> Result<ArtifactReader, ArtifactError> {
        let path = self.path(digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ArtifactError::Unknown(*digest)),
            Err(error) => return Err(at(&path)(error)),
        };
        let bytes = file.metadata().map_err(at(&path))?.len();
        if start > bytes || (start == bytes && bytes > 0) {
            return Err(ArtifactError::Range { start, bytes });
        }
        file.seek(SeekFrom::Start(start)).map_err(at(&path))?;
        Ok(ArtifactReader { part: file.take(length.unwrap_or(u64::MAX).min(bytes - start)), bytes })
    }

    /// Removes an artifact; `false` when there was none.
    ///
    /// # Errors
    /// When the file system failed.
    pub fn delete(&self, digest: &Digest) -> Result<bool, ArtifactError> {
        let path = self.path(digest);
        match std::fs::remove_file(&path).and_then(|()| file::sync_directory(&self.0.directory)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(at(&path)(error)),
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.0.directory.join(digest.text().as_str())
    }
}

impl Upload {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// When the limit is passed or the disk fails; drop the upload then.
    pub fn write(&mut self, part: &[u8]) -> Result<(), ArtifactError> {
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        let bytes = self.bytes.saturating_add(length);
        if bytes > self.limit {
            return Err(ArtifactError::TooLarge { limit: self.limit });
        }
        self.file.write_all(part).map_err(at(&self.path))?;
        self.hasher.update(part);
        self.bytes = bytes;
        Ok(())
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Checks what came against what was declared, makes it durable and gives it its name.
    ///
    /// # Errors
    /// When it is not what was declared or the disk fails; nothing is left then.
    pub fn finish(
        self,
        declared_digest: Option<Digest>,
        declared_bytes: Option<u64>,
    ) -> Result<StoredArtifact, ArtifactError> {
        if let Some(declared) = declared_bytes.filter(|declared| *declared != self.bytes) {
            return Err(ArtifactError::WrongLength { declared, found: self.bytes });
        }
        let found = Digest(self.hasher.clone().finalize().into());
        if let Some(declared) = declared_digest.filter(|declared| *declared != found) {
            return Err(ArtifactError::WrongDigest { declared, found });
        }
        let named = self.shared.directory.join(found.text().as_str());
        let keep = || -> io::Result<()> {
            self.file.sync_all()?;
            std::fs::rename(&self.path, &named)?;
            file::sync_directory(&self.shared.directory)
        };
        keep().map_err(at(&named))?;
        Ok(StoredArtifact { digest: found, bytes: self.bytes })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.shared.uploads.fetch_sub(1, Ordering::Relaxed);
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "an unfinished upload stays until the next start");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

impl ArtifactReader {
    /// Bytes of the part that are not read yet.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.part.limit()
    }
}

impl Read for ArtifactReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.part.read(buffer)
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> ArtifactError {
    let path = path.to_owned();
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ArtifactError::DiskFull,
        _ => ArtifactError::File { path: path.clone(), error },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn names(data: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(data.join(ARTIFACTS_DIRECTORY)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn text(mut reader: ArtifactReader) -> String {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn an_uploaded_artifact_is_found_by_its_hash_and_read_in_parts() {
        let data = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(data.path()).unwrap();
        let mut upload = artifacts.upload(10).unwrap();
        upload.write(b"01234").unwrap();
        upload.write(b"56789").unwrap();
        let digest = Digest::of(b"0123456789");
        assert_eq!(artifacts.bytes(&digest), None, "visible before it is complete");
        let stored = upload.finish(Some(digest), Some(10)).unwrap();
        assert_eq!(stored, StoredArtifact { digest, bytes: 10 });
        assert_eq!(names(data.path()), [digest.text().as_str()]);
        assert_eq!(text(artifacts.read(&digest, 0, None).unwrap()), "0123456789");
        assert_eq!(text(artifacts.read(&digest, 3, Some(4)).unwrap()), "3456");
        assert_eq!(text(artifacts.read(&digest, 8, Some(400)).unwrap()), "89");
        assert!(matches!(artifacts.read(&digest, 10, None), Err(ArtifactError::Range { start: 10, bytes: 10 })));
        assert!(artifacts.delete(&digest).unwrap());
        assert!(!artifacts.delete(&digest).unwrap());
        assert!(matches!(artifacts.read(&digest, 0, None), Err(ArtifactError::Unknown(_))));
    }

    #[test]
    fn a_cut_wrong_or_too_large_upload_leaves_nothing() {
        let data = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(data.path()).unwrap();
        let begin = || {
            let mut upload = artifacts.upload(8).unwrap();
            upload.write(b"1234").unwrap();
            upload
        };
        drop(begin());
        assert!(matches!(begin().write(b"56789"), Err(ArtifactError::TooLarge { limit: 8 })));
        assert!(matches!(begin().finish(None, Some(8)), Err(ArtifactError::WrongLength { declared: 8, found: 4 })));
        let wrong = begin().finish(Some(Digest([0; 32])), None);
        assert!(matches!(wrong, Err(ArtifactError::WrongDigest { .. })));
        assert_eq!(names(data.path()), [""; 0]);
        let mut exact = begin();
        exact.write(b"5678").unwrap();
        assert_eq!(exact.finish(None, None).unwrap().bytes, 8);
    }

    #[test]
    fn what_a_crash_left_of_an_upload_is_removed_at_the_next_start() {
        let data = tempfile::tempdir().unwrap();
        let mut upload = Artifacts::open(data.path()).unwrap().upload(8).unwrap();
        upload.write(b"1234").unwrap();
        std::mem::forget(upload);
        assert_eq!(names(data.path()).len(), 1);
        Artifacts::open(data.path()).unwrap();
        assert_eq!(names(data.path()), [""; 0]);
    }

    #[test]
    fn the_number_of_uploads_is_limited_and_freed() {
        let data = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(data.path()).unwrap();
        let mut running: Vec<Upload> = (0..UPLOADS_MAX).map(|_| artifacts.upload(1).unwrap()).collect();
        assert!(matches!(artifacts.upload(1), Err(ArtifactError::Busy)));
        running.pop();
        assert!(artifacts.upload(1).is_ok());
    }
}
