//! The macro by which a message is declared: once, with the versions of each field.

/// Declares structs of the protocol.
///
/// ```text
/// message! {
///     /// What it is.
///     pub struct LeaveGroupResponse, versions 0..=5, flexible 4 {
///         throttle_time_ms: i32 = 0, 1..=5;      // name: type = default, versions;
///         …
///     } tagged {
///         0 => leader: LeaderIdAndEpoch = …, 12..=18;   // tag => …
///     }
/// }
/// ```
///
/// Fields stand in the order of the wire; tagged ones (KIP-482) are written only when they
/// differ from their default. A field that a version lacks is left out when written and has its
/// default when read. Bounds of versions that lie outside the struct's own are never reached.
macro_rules! message {
    ($(
        $(#[$doc:meta])*
        pub struct $name:ident, versions $versions:expr, flexible $flexible:tt {
            $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr, $range:expr;)*
        } $(tagged {
            $($tag:literal => $tagged:ident: $tagged_type:ty = $tagged_default:expr, $tagged_range:expr;)*
        })?
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
            $($(pub $tagged: $tagged_type,)*)?
        }

        impl Default for $name {
            fn default() -> Self {
                $name {
                    $($field: $default,)*
                    $($($tagged: $tagged_default,)*)?
                }
            }
        }

        impl crate::wire::Field for $name {
            #[allow(unused_mut, unused_variables, reason = "some structs are empty in all versions")]
            fn decode(
                reader: &mut crate::wire::Reader,
                version: i16,
                flexible: bool,
            ) -> Result<Self, crate::wire::DecodeError> {
                let mut message = Self::default();
                $(if ($range).contains(&version) {
                    message.$field = crate::wire::Field::decode(reader, version, flexible)?;
                })*
                if flexible {
                    reader.tagged_fields(|tag, reader| {
                        $($(if tag == $tag && ($tagged_range).contains(&version) {
                            message.$tagged = crate::wire::Field::decode(reader, version, flexible)?;
                            return Ok(true);
                        })*)?
                        Ok(false)
                    })?;
                }
                Ok(message)
            }

            #[allow(unused_mut, unused_variables, reason = "some structs have no tagged field")]
            fn encode(
                &self,
                writer: &mut crate::wire::Writer,
                version: i16,
                flexible: bool,
            ) -> Result<(), crate::wire::EncodeError> {
                $(if ($range).contains(&version) {
                    crate::wire::Field::encode(&self.$field, writer, version, flexible)?;
                })*
                if flexible {
                    let mut count = 0;
                    let mut tagged = crate::wire::Writer::new();
                    $($(if ($tagged_range).contains(&version) && self.$tagged != $tagged_default {
                        let mut content = crate::wire::Writer::new();
                        crate::wire::Field::encode(&self.$tagged, &mut content, version, flexible)?;
                        tagged.unsigned_varint($tag);
                        tagged.unsigned_varint(content.len() as u32);
                        tagged.append(content);
                        count += 1;
                    })*)?
                    writer.unsigned_varint(count);
                    writer.append(tagged);
                }
                Ok(())
            }
        }

        impl crate::wire::Message for $name {
            const NAME: &'static str = stringify!($name);
            const VERSIONS: std::ops::RangeInclusive<i16> = $versions;
            const FLEXIBLE: i16 = $flexible;
        }
    )*};
}

pub(crate) use message;
