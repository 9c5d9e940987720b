//! Who may still send how much: the two-way credit of a connection (virtio 1.2, 5.10.6.3).
//!
//! All counters run modulo 2^32, as in the packets. What the guest claims is hostile: a claim that
//! cannot be true is a [`CreditViolation`].

/// The bytes that a connection holds for its Unix socket while that takes no more. The guest sends half
/// of it before it hears of more room, so that it and the device wake each other seldom.
pub(super) const BUF_ALLOC: u32 = 1 << 20;

/// Both sides' accounts.
#[derive(Debug, Clone, Default)]
pub(super) struct Credit {
    /// The size of the guest's buffer, as it last said.
    peer_buf_alloc: u32,
    /// What the guest has taken out of its buffer, as it last said.
    peer_fwd_cnt: u32,
    /// What we have sent.
    tx_cnt: u32,
    /// What the guest has sent.
    rx_cnt: u32,
    /// What we have passed on of that.
    fwd_cnt: u32,
    /// The `fwd_cnt` that the guest has been told.
    told_fwd_cnt: u32,
}

/// The guest claimed or did what its credit does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CreditViolation;

impl Credit {
    /// Takes the credit fields of a packet from the guest.
    pub(super) fn hear(&mut self, buf_alloc: u32, fwd_cnt: u32) -> Result<(), CreditViolation> {
        let in_flight = self.tx_cnt.wrapping_sub(self.peer_fwd_cnt);
        if fwd_cnt.wrapping_sub(self.peer_fwd_cnt) > in_flight {
            return Err(CreditViolation);
        }
        self.peer_buf_alloc = buf_alloc;
        self.peer_fwd_cnt = fwd_cnt;
        Ok(())
    }

    /// How many bytes we may send.
    pub(super) fn available(&self) -> u32 {
        // The guest may make its buffer smaller than what is in flight.
        self.peer_buf_alloc.saturating_sub(self.tx_cnt.wrapping_sub(self.peer_fwd_cnt))
    }

    /// We have sent `bytes`, no more than were available.
    pub(super) fn send(&mut self, bytes: u32) {
        debug_assert!(bytes <= self.available());
        self.tx_cnt = self.tx_cnt.wrapping_add(bytes);
    }

    /// The guest has sent `bytes`.
    pub(super) fn receive(&mut self, bytes: u32) -> Result<(), CreditViolation> {
        if bytes > self.guest_available() {
            return Err(CreditViolation);
        }
        self.rx_cnt = self.rx_cnt.wrapping_add(bytes);
        Ok(())
    }

    /// We have passed on `bytes` of what was received.
    pub(super) fn forward(&mut self, bytes: u32) {
        self.fwd_cnt = self.fwd_cnt.wrapping_add(bytes);
    }

    /// The credit fields of a packet that goes to the guest now.
    pub(super) fn tell(&mut self) -> (u32, u32) {
        self.told_fwd_cnt = self.fwd_cnt;
        (BUF_ALLOC, self.fwd_cnt)
    }

    /// Whether the guest knows of so little room that it should hear of more. Linux never has more on its
    /// way than its own buffer holds.
    pub(super) fn update_due(&self) -> bool {
        let most = BUF_ALLOC.min(self.peer_buf_alloc);
        self.fwd_cnt != self.told_fwd_cnt && BUF_ALLOC - self.guest_available() > most / 2
    }

    /// How many bytes the guest may send by what it has been told. Never more than there is room,
    /// since `fwd_cnt` is never behind what was told.
    fn guest_available(&self) -> u32 {
        BUF_ALLOC - self.rx_cnt.wrapping_sub(self.told_fwd_cnt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that has sent and received almost 4 GiB, so that counters wrap.
    fn aged() -> Credit {
        let old = u32::MAX - 10;
        Credit {
            peer_buf_alloc: 1000,
            peer_fwd_cnt: old,
            tx_cnt: old,
            rx_cnt: old,
            fwd_cnt: old,
            told_fwd_cnt: old,
        }
    }

    #[test]
    fn a_new_connection_may_not_send() {
        assert_eq!(Credit::default().available(), 0);
    }

    #[test]
    fn what_is_in_flight_is_subtracted() {
        for mut credit in [Credit { peer_buf_alloc: 1000, ..Credit::default() }, aged()] {
            let start = credit.peer_fwd_cnt;
            credit.send(400);
            assert_eq!(credit.available(), 600);
            credit.hear(1000, start.wrapping_add(100)).unwrap();
            assert_eq!(credit.available(), 700);
            credit.hear(2000, start.wrapping_add(400)).unwrap();
            assert_eq!(credit.available(), 2000);
        }
    }

    #[test]
    fn a_buffer_made_smaller_than_what_is_in_flight_stops_us() {
        let mut credit = aged();
        credit.send(1000);
        credit.hear(10, credit.peer_fwd_cnt).unwrap();
        assert_eq!(credit.available(), 0);
    }

    #[test]
    fn the_guest_cannot_have_taken_more_than_it_got_nor_take_it_back() {
        for claim in [401u32, 1 << 20, 1 << 31, u32::MAX] {
            let mut credit = aged();
            credit.send(400);
            let start = credit.peer_fwd_cnt;
            assert_eq!(credit.hear(1000, start.wrapping_add(claim)), Err(CreditViolation));
        }
    }

    #[test]
    fn the_guest_may_send_what_it_was_told_and_no_more() {
        for mut credit in [Credit::default(), aged()] {
            assert_eq!(credit.receive(BUF_ALLOC), Ok(()));
            assert_eq!(credit.receive(1), Err(CreditViolation));
            credit.forward(10);
            // It cannot know yet.
            assert_eq!(credit.receive(1), Err(CreditViolation));
            credit.tell();
            assert_eq!(credit.receive(11), Err(CreditViolation));
            assert_eq!(credit.receive(10), Ok(()));
        }
    }

    #[test]
    fn an_update_is_due_when_the_guest_thinks_that_room_is_low() {
        // A guest has no more on its way than what it would take itself.
        for (theirs, most) in [(u32::MAX, BUF_ALLOC), (BUF_ALLOC, BUF_ALLOC), (1000, 1000), (0, 0)]
        {
            let mut credit = aged();
            credit.hear(theirs, credit.peer_fwd_cnt).unwrap();
            credit.receive(most / 2).unwrap();
            credit.forward(most / 2);
            assert!(!credit.update_due());
            credit.receive(1).unwrap();
            credit.forward(1);
            assert!(credit.update_due());
            credit.tell();
            assert!(!credit.update_due());
            // Nothing new to say.
            credit.receive(BUF_ALLOC).unwrap();
            assert!(!credit.update_due());
        }
    }

    /// Whatever an obedient guest does, it is never accused, and never has more room than there is.
    #[test]
    fn an_obedient_guest_never_violates() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |below: u32| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            u32::try_from(state % u64::from(below)).unwrap()
        };
        let mut credit = aged();
        let (mut held, mut told_room, mut guest_held) = (0u32, BUF_ALLOC, 0u32);
        for _ in 0..100_000 {
            match random(5) {
                0 => {
                    let bytes = random(told_room + 1);
                    credit.receive(bytes).unwrap();
                    held += bytes;
                    told_room -= bytes;
                }
                1 => {
                    let bytes = random(held + 1);
                    credit.forward(bytes);
                    held -= bytes;
                }
                2 => {
                    credit.tell();
                    told_room = BUF_ALLOC - held;
                }
                3 => {
                    let bytes = random(credit.available() + 1);
                    credit.send(bytes);
                    guest_held += bytes;
                }
                _ => {
                    let taken = random(guest_held + 1);
                    guest_held -= taken;
                    credit.hear(4096, credit.peer_fwd_cnt.wrapping_add(taken)).unwrap();
                }
            }
            assert!(held + told_room <= BUF_ALLOC);
            assert_eq!(credit.guest_available(), told_room);
            assert_eq!(credit.available(), credit.peer_buf_alloc - guest_held);
        }
    }
}
