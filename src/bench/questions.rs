//! Questions about a [`World`] as frames, and the verdicts that they must get.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use keyward_proto::frame::{HEADER_BYTES, LENGTH_BYTES, VERSION};
use keyward_proto::query::{Asker, Check, QueryRequest, Reason, Target, VERDICT};

use super::exchange::{Answer, Exchange, Reply, Requests};
use super::picks::{Picks, Random};
use super::world::World;

/// Of what the questions are made, in per cent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// The right code, something allowed.
    pub allowed: u8,
    /// The right code, something not allowed.
    pub refused: u8,
    /// A wrong code of a key that is there.
    pub wrong_code: u8,
    /// The id of no key.
    pub unknown: u8,
}

impl Mix {
    /// Everything allowed.
    pub const ALLOWED: Self = Self { allowed: 100, refused: 0, wrong_code: 0, unknown: 0 };

    /// Reads `90,5,5,0`.
    ///
    /// # Errors
    /// In words, when it is not four numbers that come to 100.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts: Result<Vec<u8>, _> = text.split(',').map(str::parse).collect();
        match parts.as_deref() {
            Ok(&[allowed, refused, wrong_code, unknown])
                if [allowed, refused, wrong_code, unknown].map(u32::from).iter().sum::<u32>() == 100 =>
            {
                Ok(Self { allowed, refused, wrong_code, unknown })
            }
            Ok(_) | Err(_) => Err("four numbers that come to 100: allowed, refused, wrong code, unknown id".to_owned()),
        }
    }

    /// `draw` is in `0..100`.
    const fn kind(self, draw: u8) -> Kind {
        if draw < self.allowed {
            Kind::Allowed
        } else if draw < self.allowed + self.refused {
            Kind::Refused
        } else if draw < self.allowed + self.refused + self.wrong_code {
            Kind::WrongCode
        } else {
            Kind::Unknown
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{},{}", self.allowed, self.refused, self.wrong_code, self.unknown)
    }
}

enum Kind {
    Allowed,
    Refused,
    WrongCode,
    Unknown,
}

/// Questions for a daemon's query socket.
pub struct Questions {
    socket: PathBuf,
    requests: Requests,
    /// The number of the reason that each must get.
    expected: Vec<u16>,
}

impl Questions {
    /// `count` questions about the world.
    #[must_use]
    pub fn new(socket: &Path, world: &World, mix: Mix, mut picks: Picks, count: u32) -> Self {
        let mut random = Random::new(world.sizes().keys);
        let mut made = Self { socket: socket.to_owned(), requests: Requests::default(), expected: Vec::new() };
        for number in 0..count {
            made.push(world, picks.pick(), mix, random.number(), number);
        }
        made
    }

    fn push(&mut self, world: &World, id: u64, mix: Mix, random: u64, number: u32) {
        let draw = u8::try_from(random % 100).expect("under 100");
        let pick = random / 100;
        let (presented, code, ask) = match mix.kind(draw) {
            Kind::Allowed => (id, world.code(id), world.allowed(id, pick)),
            Kind::Refused => (id, world.code(id), world.refused(id, pick)),
            Kind::WrongCode => (id, world.wrong_code(id), world.allowed(id, pick).with(Reason::BadCredential)),
            Kind::Unknown => {
                (id + world.sizes().keys, world.code(id), world.allowed(id, pick).with(Reason::BadCredential))
            }
        };
        let mut credential = format!("key {presented}:").into_bytes();
        credential.extend_from_slice(&code);
        let asker = Asker { credential: Some(&credential), ..Asker::default() };
        let target = Target::Endpoint { method: ask.method.as_bytes(), path: ask.path.as_bytes() };
        // The request's number is its id: a reply out of order can't be taken for another's.
        self.requests.push(|out| QueryRequest::Check(Check { asker, target }).put(out, number));
        self.expected.push(ask.expected.number());
    }
}

impl Exchange for Questions {
    fn open(&self) -> io::Result<File> {
        Ok(File::from(OwnedFd::from(UnixStream::connect(&self.socket)?)))
    }

    fn requests(&self) -> &Requests {
        &self.requests
    }

    /// The header and the reason behind it are enough.
    fn reply(&self, input: &[u8], number: usize) -> Reply {
        const REASON_BYTES: usize = 2;
        let Some(head) = input.first_chunk::<{ LENGTH_BYTES + HEADER_BYTES + REASON_BYTES }>() else {
            return Reply::Incomplete;
        };
        let [l0, l1, l2, l3, v0, v1, k0, k1, i0, i1, i2, i3, r0, r1] = *head;
        let bytes = LENGTH_BYTES + u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let is_ours = u16::from_be_bytes([v0, v1]) == VERSION
            && u16::from_be_bytes([k0, k1]) == VERDICT
            && u32::from_be_bytes([i0, i1, i2, i3]) as usize == number;
        if !is_ours {
            return Reply::Broken;
        }
        if input.len() < bytes {
            return Reply::Incomplete;
        }
        let reason = u16::from_be_bytes([r0, r1]);
        let answer = if reason != self.expected[number] {
            Answer::Unexpected
        } else if reason == Reason::Ok.number() {
            Answer::Allowed
        } else if reason == Reason::BadCredential.number() {
            Answer::BadCredential
        } else {
            Answer::Refused
        };
        Reply::Whole { bytes, answer }
    }
}

#[cfg(test)]
mod tests {
    use keyward_proto::query::VerdictRef;

    use super::super::world::Sizes;
    use super::*;

    #[test]
    fn a_mix_is_four_numbers_that_come_to_100() {
        assert_eq!(Mix::parse("90,5,5,0"), Ok(Mix { allowed: 90, refused: 5, wrong_code: 5, unknown: 0 }));
        for text in ["", "100", "90,5,5", "90,5,5,1", "50,50,0,0,0", "-1,101,0,0", "a,b,c,d", "200,200,200,12"] {
            assert!(Mix::parse(text).is_err(), "{text}");
        }
    }

    fn questions(mix: &str) -> Questions {
        let world = World::new([3; 16], Sizes::of_keys(50)).unwrap();
        Questions::new(Path::new("/nowhere"), &world, Mix::parse(mix).unwrap(), Picks::uniform(50, 1), 1_000)
    }

    fn verdict(reason: Reason, request_id: u32) -> Vec<u8> {
        let mut out = Vec::new();
        VerdictRef { reason: reason.number(), status: 200, retry_after: 0, identity: None, route: None }
            .put(&mut out, request_id);
        out
    }

    #[test]
    fn the_mix_decides_which_answers_are_expected() {
        for (mix, reasons) in [
            ("100,0,0,0", &[Reason::Ok][..]),
            ("0,100,0,0", &[Reason::TagDenied, Reason::TagNotGranted]),
            ("0,0,100,0", &[Reason::BadCredential]),
            ("0,0,0,100", &[Reason::BadCredential]),
        ] {
            let numbers: Vec<u16> = reasons.iter().map(|reason| reason.number()).collect();
            assert!(questions(mix).expected.iter().all(|reason| numbers.contains(reason)), "{mix}");
        }
        let allowed = questions("90,5,5,0").expected.iter().filter(|reason| **reason == 0).count();
        assert!((850..950).contains(&allowed), "{allowed}");
    }

    #[test]
    fn a_reply_is_judged_by_its_id_its_reason_and_its_length() {
        let questions = questions("100,0,0,0");
        let whole = verdict(Reason::Ok, 7);
        let bytes = whole.len();
        assert_eq!(questions.reply(&whole, 7), Reply::Whole { bytes, answer: Answer::Allowed });
        assert_eq!(
            questions.reply(&[&whole[..], b"more"].concat(), 7),
            Reply::Whole { bytes, answer: Answer::Allowed }
        );
        for cut in 0..bytes {
            assert_eq!(questions.reply(&whole[..cut], 7), Reply::Incomplete, "{cut}");
        }
        assert_eq!(questions.reply(&whole, 8), Reply::Broken, "another request's");
        let other = verdict(Reason::BadCredential, 7);
        assert_eq!(questions.reply(&other, 7), Reply::Whole { bytes, answer: Answer::Unexpected });
    }
}
