//! Ids and positions that cross crates, as newtypes: no two of them can be mixed up.

use std::fmt;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// A record's place in a partition, from 0.
    Offset(i64);
    /// How many leaders a partition has had; −1 is none known.
    LeaderEpoch(i32);
    /// An idempotent or transactional producer; −1 is none.
    ProducerId(i64);
    /// Which instance of a producer; −1 is none.
    ProducerEpoch(i16);
    /// Milliseconds since 1970 (UTC); −1 is none.
    TimestampMs(i64);
}
