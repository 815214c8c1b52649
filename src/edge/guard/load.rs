//! What a client costs without bringing anything (RFC 9113 §10.5).

use h2::Reason;

/// Frames that only cost, which a connection has to spare.
const SPARE: u32 = 2000;
/// How many more each second brings, up to that.
const PER_SECOND: u64 = 20;
/// How many more a request brings.
pub(super) const PER_REQUEST: u32 = 4;
/// Octets to the client that bring one more: windows are opened for what it gets, round trips are
/// measured. An answer to a ping or to settings brings less than those cost.
const PER_OCTETS: usize = 16;

/// How much a client asks without bringing anything (§10.5): pings, settings, windows, resets,
/// frames without a meaning.
#[derive(Debug)]
pub(super) struct Load {
    spare: u32,
    at_ms: u64,
    octets: usize,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            spare: SPARE,
            at_ms: 0,
            octets: 0,
        }
    }
}

impl Load {
    /// Takes note of frames that only cost.
    ///
    /// # Errors
    /// There is nothing to spare for them.
    pub(super) fn bear(&mut self, frames: u32) -> Result<(), Reason> {
        let left = self.spare.checked_sub(frames);
        self.spare = left.ok_or(Reason::ENHANCE_YOUR_CALM)?;
        Ok(())
    }

    /// As many may come again.
    pub(super) fn relieve(&mut self, frames: u32) {
        self.spare = SPARE.min(self.spare.saturating_add(frames));
    }

    /// Time has passed, up to this.
    pub(super) fn pass(&mut self, now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.at_ms);
        let more = passed_ms.saturating_mul(PER_SECOND) / 1000;
        if more > 0 {
            self.relieve(u32::try_from(more).unwrap_or(SPARE));
            self.at_ms = now_ms;
        }
    }

    /// So many octets went to the client.
    pub(super) fn wrote(&mut self, octets: usize) {
        self.octets += octets;
        self.relieve(u32::try_from(self.octets / PER_OCTETS).unwrap_or(SPARE));
        self.octets %= PER_OCTETS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_requests_and_answers_relieve() {
        let mut load = Load::default();
        load.pass(1000);
        assert!(load.bear(SPARE).is_ok() && load.bear(1).is_err());
        load.pass(1049);
        assert!(load.bear(1).is_err());
        load.pass(1050);
        assert!(load.bear(1).is_ok() && load.bear(1).is_err());
        load.wrote(15);
        assert!(load.bear(1).is_err());
        load.wrote(1);
        assert!(load.bear(1).is_ok());
        load.relieve(PER_REQUEST);
        assert!(load.bear(PER_REQUEST).is_ok());
        load.pass(u64::MAX);
        assert_eq!(load.spare, SPARE);
    }
}
