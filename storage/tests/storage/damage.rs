//! Damage below the durable end: kept, told, not served, and never cut.
