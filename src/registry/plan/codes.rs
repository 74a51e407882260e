//! Codes that are made.

use zeroize::Zeroizing;

use super::{Planner, Stop, unavailable};
use crate::model::secret::NEW_CODE_CHARS;
use crate::model::{Code, CodeHash, CredentialEdit, Id, Mode};

impl Planner<'_, '_> {
    /// Makes a code for a new credential that was given none.
    pub(super) fn make_code(
        &mut self,
        id: Id,
        edit: &CredentialEdit,
        may_make: bool,
    ) -> Result<Option<CodeHash>, Stop> {
        if edit.code.is_some() || edit.hash.is_some() || !may_make {
            return Ok(None);
        }
        self.new_code(edit.mode, id).map(Some)
    }

    /// Makes a code, to be shown once, and its hash.
    pub(super) fn new_code(&mut self, mode: Mode, id: Id) -> Result<CodeHash, Stop> {
        let mut random = Zeroizing::new([0; NEW_CODE_CHARS]);
        getrandom::fill(random.as_mut_slice())
            .map_err(|error| unavailable(format!("the system gave no random bytes: {error}")))?;
        let code = Code::from_random(&random);
        let hash = self.compiler.directory().pepper().hash(mode, id.get(), code.presented());
        self.outcome.new_code = Some(code);
        Ok(hash)
    }
}
