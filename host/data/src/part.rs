//! One part of the data: what of it is trained on and in which order, and what it is judged on. How parts are mixed
//! is decided elsewhere; data that is no mixture is one part.

use crate::shuffle::Shuffle;
use crate::windows::Windows;
use crate::{DataError, Order};

/// One part of the data.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) train: Windows,
    pub(crate) validation: Option<Windows>,
    order: WindowOrder,
    /// Bytes of text behind a token of validation; `None` where the data does not say.
    pub(crate) bytes_per_token: Option<f64>,
}

#[derive(Debug)]
enum WindowOrder {
    Sequential,
    Shuffled(Shuffle),
}

impl Part {
    /// The part with that number in its mixture.
    pub(crate) fn new(
        number: usize,
        train: Windows,
        validation: Option<Windows>,
        order: Order,
        bytes_per_token: Option<f64>,
    ) -> Result<Part, DataError> {
        let order = match order {
            Order::Sequential => WindowOrder::Sequential,
            Order::Shuffled => {
                let windows = train.count();
                let place = || train.stream().place();
                WindowOrder::Shuffled(Shuffle::new(
                    number,
                    u32::try_from(windows)
                        .map_err(|_| DataError::TooManyToShuffle { place: place(), windows })?,
                ))
            }
        };
        Ok(Part { train, validation, order, bytes_per_token })
    }

    /// The training window at a place of the endless sequence of epochs.
    pub(crate) fn window(&self, seed: u64, place: u64) -> u64 {
        let (epoch, within) = (place / self.train.count(), place % self.train.count());
        match &self.order {
            WindowOrder::Sequential => within,
            WindowOrder::Shuffled(shuffle) => u64::from(shuffle.epoch(seed, epoch)[within as usize]),
        }
    }
}
