//! Where policies are: a file, a directory, or a bundle.

use std::path::{Path, PathBuf};

use crate::text::{FileId, SourceMap};

use super::bundle::{self, Bundle, Contents, OpenError, Pick, Trust};
use super::directory::{ReadError, read_groups, read_policies};

/// The place of policies, and who must have signed them if it is a bundle.
#[derive(Debug, Clone)]
pub struct Location {
    /// The file or directory.
    pub path: PathBuf,
    /// What is known of a bundle there.
    pub trust: Trust,
}

impl Location {
    /// Creates a location where a bundle is read only to show it, and without checking who signed it.
    #[must_use]
    pub fn to_show(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            trust: Trust::default(),
        }
    }

    /// Reads the policies.
    pub(super) fn read(&self, texts: &mut SourceMap) -> Result<Vec<FileId>, ReadError> {
        if self.trust.pick == Pick::Accepted(None) {
            return Err(OpenError::NoneAccepted.into());
        }
        if !bundle::is_bundle(&self.path) {
            if self.trust.is_required {
                return Err(OpenError::NoBundle(self.path.clone()).into());
            }
            return read_policies(texts, &self.path);
        }
        let contents = match self.trust.pick {
            Pick::Accepted(Some(digest)) => Contents::accepted(&self.path, &digest)?,
            Pick::Accepted(None) | Pick::Head => {
                let bundle = Bundle::open(&self.path, &self.trust)?;
                for warning in bundle.warnings {
                    texts.warn(warning);
                }
                bundle.contents
            }
        };
        let groups = contents.groups(self.trust.host.as_ref())?;
        texts.pack(contents.files(&groups)?);
        let folders = contents.folders(&groups);
        read_groups(texts, &self.path, &folders, &folders)
    }
}
