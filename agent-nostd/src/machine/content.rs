//! Frames of a transfer, which runs in the shell: only the machine knows the session that they belong to.
use super::Agent;
use wire::frame::{decode_live, encode_live};
use wire::transfer::{Chunk, Need, Want};

impl<const SLOTS: usize> Agent<'_, SLOTS> {
    /// The question for a part of a content, to be published on `up/need` with QoS 0; `None` while the hub is not heard.
    pub fn need<'o>(&self, want: Want, out: &'o mut [u8]) -> Option<&'o [u8]> {
        let context = self.session_context()?;
        let need = Need { session: context.session, want };
        encode_live(out, self.config.pair_key, &context, &need).ok().map(|frame| &*frame)
    }

    /// What came on `down/chunk`; `None` if it is not of this hub and session.
    pub fn chunk<'p>(&self, payload: &'p [u8]) -> Option<Chunk<'p>> {
        decode_live(payload, self.config.pair_key, &self.session_context()?).ok()
    }
}
