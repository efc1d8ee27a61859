//! Numbers by a label whose values are few and known when the program is built.

use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// A label of a metric, with one of its values.
pub trait Label: Copy + Debug + Send + Sync + 'static {
    /// Name of the label.
    const NAME: &'static str;
    /// Every value.
    const ALL: &'static [Self];
    /// The value as it is shown.
    fn text(self) -> &'static str;
    /// Its place in [`Self::ALL`].
    fn index(self) -> usize;
}

/// Makes an enum a [`Label`].
macro_rules! label {
    ($(#[$meta:meta])* $name:ident is $label:literal { $($(#[$note:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$note])* $variant,)*
        }

        impl $crate::telemetry::counts::Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}
pub(crate) use label;

/// How often each of the label's values came up. Clones count together.
#[derive(Clone)]
pub struct Counts<L> {
    counters: Arc<[AtomicU64]>,
    label: PhantomData<L>,
}

impl<L: Label> Default for Counts<L> {
    fn default() -> Self {
        Self { counters: L::ALL.iter().map(|_| AtomicU64::new(0)).collect(), label: PhantomData }
    }
}

impl<L: Label> Counts<L> {
    /// Once more.
    pub fn add(&self, label: L) {
        self.counters[label.index()].fetch_add(1, Relaxed);
    }

    /// How often it came up.
    pub fn of(&self, label: L) -> u64 {
        self.counters[label.index()].load(Relaxed)
    }

    /// How often any of them came up.
    pub fn total(&self) -> u64 {
        self.counters.iter().map(|counter| counter.load(Relaxed)).sum()
    }
}

impl<L: Label> Debug for Counts<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(L::ALL.iter().map(|label| (label.text(), self.of(*label)))).finish()
    }
}

impl<L: Label> EncodeMetric for Counts<L> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for label in L::ALL {
            let labels = [(L::NAME, label.text())];
            let mut one = encoder.encode_family(&labels)?;
            one.encode_counter::<NoLabelSet, _, f64>(&self.of(*label), None)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// A number for each of the label's values that goes up and down. Clones are one.
#[derive(Clone, Debug)]
pub struct Levels<L> {
    levels: Arc<[AtomicU64]>,
    label: PhantomData<L>,
}

impl<L: Label> Default for Levels<L> {
    fn default() -> Self {
        Self { levels: L::ALL.iter().map(|_| AtomicU64::new(0)).collect(), label: PhantomData }
    }
}

impl<L: Label> Levels<L> {
    /// It is so many now.
    pub fn set(&self, label: L, level: usize) {
        self.levels[label.index()].store(level as u64, Relaxed);
    }
}

impl<L: Label> EncodeMetric for Levels<L> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for label in L::ALL {
            let labels = [(L::NAME, label.text())];
            encoder.encode_family(&labels)?.encode_gauge(&self.levels[label.index()].load(Relaxed))?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}
