//! Random numbers that depend on a key and on nothing else: same key, same numbers, on every machine,
//! with every compiler, in whatever order the host asks.
//!
//! The generator is Philox 4×32 with ten rounds (Salmon, Moraes, Dror and Shaw, SC 2011); normals are
//! Box and Muller's, with logarithm and sine of the crate `libm`, since those of the standard library
//! differ between platforms.

use serde::{Deserialize, Serialize};

/// Names a stream of random numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[repr(C)]
pub struct Key(pub u64);

impl Key {
    /// The stream of that seed, before anything else is mixed in.
    pub fn of_seed(seed: u64) -> Key {
        Key(mix(seed ^ 0x7361_7077_6f6f_6421))
    }

    /// Whether it is the one that names no stream.
    pub(crate) fn is_none(&self) -> bool {
        *self == Key::default()
    }

    /// The sub-stream of that name.
    #[must_use]
    pub fn named(self, name: &str) -> Key {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Key(mix(self.0 ^ mix(hash)))
    }

    /// The sub-stream of that number.
    #[must_use]
    pub fn numbered(self, number: u64) -> Key {
        Key(mix(self.0.rotate_left(17) ^ mix(number)))
    }
}

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Random {
    key: [u32; 2],
    block: u64,
    ready: [u32; 4],
    used: usize,
    spare_normal: Option<f64>,
}

impl Random {
    /// The stream of that key, from its start.
    pub fn new(key: Key) -> Random {
        let key = [key.0 as u32, (key.0 >> 32) as u32];
        Random { key, block: 0, ready: [0; 4], used: 4, spare_normal: None }
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        if self.used == self.ready.len() {
            self.ready = philox([self.block as u32, (self.block >> 32) as u32, 0, 0], self.key);
            self.block += 1;
            self.used = 0;
        }
        self.used += 1;
        self.ready[self.used - 1]
    }

    /// Uniform in [0, 1), with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        let high = u64::from(self.bits());
        let low = u64::from(self.bits());
        ((high << 32 | low) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform among `0..count`.
    ///
    /// # Panics
    /// When `count` is 0.
    pub fn below(&mut self, count: u64) -> u64 {
        assert!(count > 0, "nothing to choose from");
        // Lemire's multiplication; the bias of at most count / 2^64 is far below what a run could see.
        let draw = u64::from(self.bits()) << 32 | u64::from(self.bits());
        ((u128::from(draw) * u128::from(count)) >> 64) as u64
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare_normal.take() {
            return spare;
        }
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform()));
        let (sine, cosine) = libm::sincos(2.0 * std::f64::consts::PI * self.uniform());
        self.spare_normal = Some(radius * sine);
        radius * cosine
    }

    /// Goes on as if so many standard normals had been drawn, in no time: what several threads need to fill one tensor.
    pub fn skip_normals(&mut self, count: u64) {
        let mut left = count;
        // A pair of them takes a whole block of bits, where it begins with one.
        while left > 0 && (self.spare_normal.is_some() || self.used < self.ready.len()) {
            self.normal();
            left -= 1;
        }
        self.block += left / 2;
        if left % 2 == 1 {
            self.normal();
        }
    }

    /// Fills a tensor with draws from N(0, `std`²).
    pub fn fill_normal(&mut self, values: &mut [f32], std: f64) {
        for value in values {
            *value = (self.normal() * std) as f32;
        }
    }
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let first = u64::from(counter[0]) * 0xd251_1f53;
        let second = u64::from(counter[2]) * 0xcd9e_8d57;
        counter = [
            (second >> 32) as u32 ^ counter[1] ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ counter[3] ^ key[1],
            first as u32,
        ];
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    counter
}

/// SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that the authors publish with Random123.
    #[test]
    fn skipped_normals_are_those_that_would_have_been_drawn() {
        for drawn_before in [0, 1, 2, 5] {
            for bits_before in 0..5 {
                for count in [0, 1, 2, 3, 8, 1001] {
                    let mut one_by_one = Random::new(Key::of_seed(3));
                    for _ in 0..bits_before {
                        one_by_one.bits();
                    }
                    for _ in 0..drawn_before {
                        one_by_one.normal();
                    }
                    let mut at_once = one_by_one.clone();
                    for _ in 0..count {
                        one_by_one.normal();
                    }
                    at_once.skip_normals(count);
                    assert_eq!(at_once.normal(), one_by_one.normal(), "{drawn_before} {bits_before} {count}");
                    assert_eq!(at_once.bits(), one_by_one.bits(), "{drawn_before} {bits_before} {count}");
                }
            }
        }
    }

    #[test]
    fn philox_gives_the_published_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let key = [0xa409_3822, 0x299f_31d0];
        assert_eq!(philox(counter, key), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn normals_have_the_right_moments() {
        let mut random = Random::new(Key::of_seed(1).named("moments"));
        let n = 1_000_000;
        let draws: Vec<f64> = (0..n).map(|_| random.normal()).collect();
        let mean = draws.iter().sum::<f64>() / f64::from(n);
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
        let fourth = draws.iter().map(|x| x.powi(4)).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 4e-3, "mean {mean}");
        assert!((variance - 1.0).abs() < 1e-2, "variance {variance}");
        assert!((fourth - 3.0).abs() < 6e-2, "fourth moment {fourth}");
    }

    #[test]
    fn streams_differ_by_name_and_number_and_repeat_by_key() {
        let first = |key: Key| Random::new(key).bits();
        let base = Key::of_seed(7);
        assert_eq!(first(base.named("a")), first(base.named("a")));
        assert_ne!(first(base.named("a")), first(base.named("b")));
        assert_ne!(first(base.numbered(0)), first(base.numbered(1)));
        assert_ne!(first(base), first(Key::of_seed(8)));
    }
}
