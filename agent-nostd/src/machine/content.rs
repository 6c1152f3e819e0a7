//! Frames of a transfer, which runs in the shell: only the machine knows the session that they belong to.
use super::Agent;
use wire::Session;
use wire::firmware::{Firmware, Offer, Statement};
use wire::frame::{decode_live, encode_live};
use wire::sign::Signature;
use wire::transfer::{Chunk, Need, Want};

impl<const SLOTS: usize> Agent<'_, SLOTS> {
    /// The question for a part of a content, to be published on `up/need` with QoS 0; `None` while the hub is not heard.
    pub fn need<'o>(&self, want: Want, out: &'o mut [u8]) -> Option<&'o [u8]> {
        let context = self.session_context()?;
        let need = Need { session: context.session, want };
        encode_live(out, self.config.pair_key, &context, &need).ok().map(|frame| &*frame)
    }

    /// The session in which the hub hears this device.
    pub fn session(&self) -> Option<Session> {
        self.session_context().map(|context| context.session)
    }

    /// What is told of the board's own firmware, to be published on `up/status` with QoS 0.
    pub fn firmware<'o>(&self, report: &Firmware<'_>, out: &'o mut [u8]) -> Option<&'o [u8]> {
        let context = self.session_context()?;
        encode_live(out, self.config.pair_key, &context, report).ok().map(|frame| &*frame)
    }

    /// An offer of firmware on `down/cmd`; `None` if it is none of this hub and session.
    pub fn offer<'p>(&self, payload: &'p [u8]) -> Option<Offer<'p>> {
        decode_live(payload, self.config.pair_key, &self.session_context()?).ok()
    }

    /// Whether the hub of this device signed it.
    pub fn is_signed(&self, statement: &Statement<'_>, signature: &Signature) -> bool {
        statement.is_signed(self.config.verifier, &self.config.hub_key, self.config.fleet, signature)
    }

    /// What came on `down/chunk`; `None` if it is not of this hub and session.
    pub fn chunk<'p>(&self, payload: &'p [u8]) -> Option<Chunk<'p>> {
        decode_live(payload, self.config.pair_key, &self.session_context()?).ok()
    }
}
