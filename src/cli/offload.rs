use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::tunnel::Offload;

/// Reads the value of `--offload`.
pub(super) fn parser() -> impl TypedValueParser<Value = Offload> {
    let words = PossibleValuesParser::new(Offload::ALL.map(Offload::word));
    words.map(|word| {
        let mut all = Offload::ALL.into_iter();
        all.find(|one| one.word() == word).unwrap_or_default()
    })
}
